"""Densities of columns of one kind, a cell at a time.

Cells are (n, c), as the networks see them; a decoder gives ``n_outputs`` numbers for
each, (..., n, c, n_outputs). Cells that are missing hold any value of the support:
``seen`` (n, c) says which are there, and whoever sums leaves the others out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skgen.likelihoods.gaussian import Gaussian
from skgen.tensors import LOG_2PI, wide_dtype

# Rates of counts stay within what float32 has; and so do dispersions, beyond which a
# count is Poisson to the last digit but one, and lgamma loses them.
LOG_RATE = 30.0
LOG_DISPERSION_MIN, LOG_DISPERSION_MAX = -7.0, 9.0


class Kind(nn.Module, ABC):
    """Base of the densities of c columns of one kind."""

    #: Decoder outputs, and encoder inputs, for each column.
    n_outputs: int = 1
    n_inputs: int = 1
    #: A value of the support, for cells that are missing.
    filler: float = 0.0
    #: Whether ``log_prob`` is a log-mass.
    is_mass: bool = False

    def scaling(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (c,) to standardise cells by, given weights (n, c)."""
        zero = torch.zeros_like(x[0])
        return zero, zero + 1

    @abstractmethod
    def start(self, x: Tensor, seen: Tensor) -> Tensor:
        """Adapt to training cells; outputs (c, n_outputs) of a constant decoder."""

    def see(self, x: Tensor, seen: Tensor) -> None:
        """Take notice of further cells, before training goes on."""

    @abstractmethod
    def inputs(self, x: Tensor) -> Tensor:
        """Cells as an encoder should have them, (n, c, n_inputs)."""

    @abstractmethod
    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log p of each cell, (..., n, c), in nats."""

    @abstractmethod
    def expected(self, outputs: Tensor) -> Tensor:
        """Return what is averaged over codes, (..., n, c, m): means, probabilities."""

    def value(self, expected: Tensor) -> Tensor:
        """(n, c) cells of such averages (n, c, m): the mean, or the likeliest level."""
        return expected.squeeze(-1)

    @abstractmethod
    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw cells (..., n, c)."""


class Real(Kind):
    """Normal cells, with a sigma learned for each column."""

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.normal = Gaussian()
        # Of a size that is known before rows are.
        self.normal.log_sigma = nn.Parameter(torch.zeros(n_columns))
        self.normal.is_constant = torch.zeros(n_columns, dtype=torch.bool)
        self.normal.constants = torch.zeros(n_columns)

    def scaling(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the cells."""
        total = weight.sum(0).clamp(min=torch.finfo(weight.dtype).tiny)
        mean = (weight * x).sum(0) / total
        return mean, (weight * (x - mean) ** 2).sum(0) / total

    def start(self, x: Tensor, seen: Tensor) -> Tensor:
        """Start at the mean, and sigma at the spread."""
        x = torch.where(seen, x, seen_mean(x, seen))
        self.normal.set_rows(x)
        return self.normal.initial_outputs(x)[:, None]

    def see(self, x: Tensor, seen: Tensor) -> None:
        """Free the constants that further cells contradict."""
        self.normal.free_constants(torch.where(seen, x, self.normal.constants))

    def inputs(self, x: Tensor) -> Tensor:
        """Return the cells themselves."""
        return x[..., None]

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log N(x; mean, sigma^2)."""
        mean, log_sigma = self.normal.parts(outputs.squeeze(-1))
        squared = ((x - mean) * (-log_sigma).exp()) ** 2
        return -0.5 * (squared + LOG_2PI) - log_sigma

    def expected(self, outputs: Tensor) -> Tensor:
        """Return the mean."""
        return self.normal.mean(outputs.squeeze(-1))[..., None]

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Add normal noise."""
        return self.normal.draw(outputs.squeeze(-1), generator)


class Positive(Real):
    """Log-normal cells: ``u = log(x) / spread`` is normal."""

    filler = 1.0
    spread: Tensor  # (c,), of log x

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns)
        self.register_buffer("spread", torch.ones(n_columns))

    def scaling(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """No mean, and the geometric mean as the standard deviation."""
        mean, _ = super().scaling(x.log(), weight)
        return torch.zeros_like(mean), (2 * mean).exp()

    def start(self, x: Tensor, seen: Tensor) -> Tensor:
        """Start from the moments of the logarithm."""
        log_x = torch.where(seen, x.log(), 0.0)
        spread = seen_mean(log_x**2, seen).sqrt()
        self.spread = torch.where(spread > 0, spread, 1.0)
        return super().start(self._normal(x), seen)

    def see(self, x: Tensor, seen: Tensor) -> None:
        """Free the constants that further cells contradict."""
        super().see(self._normal(x), seen)

    def _normal(self, x: Tensor) -> Tensor:
        return x.log() / self.spread

    def inputs(self, x: Tensor) -> Tensor:
        """Return the normal cells."""
        return self._normal(x)[..., None]

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log N(u; mean, sigma^2) + log du/dx."""
        log_x = x.log()
        log_det = -(log_x + self.spread.log())
        return super().log_prob(outputs, log_x / self.spread) + log_det

    def expected(self, outputs: Tensor) -> Tensor:
        """Return the mean of a log-normal, exp(m + s^2 / 2)."""
        mean, log_sigma = self.normal.parts(outputs.squeeze(-1))
        variance = (self.spread * log_sigma.exp()) ** 2
        return (self.spread * mean + 0.5 * variance).exp()[..., None]

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the logarithm."""
        return (self.spread * super().draw(outputs, generator)).exp()


class Count(Kind):
    """Negative binomial cells: the decoder gives the log of the mean.

    The variance is ``mean + mean^2 / r``, with a dispersion r learned for each column;
    Poisson counts have r without end.
    """

    is_mass = True
    spread: Tensor  # (c,), of log(1 + x)
    centre: Tensor  # (c,)

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.log_dispersion = nn.Parameter(torch.zeros(n_columns))
        self.register_buffer("centre", torch.zeros(n_columns))
        self.register_buffer("spread", torch.ones(n_columns))

    def start(self, x: Tensor, seen: Tensor) -> Tensor:
        """Start from the moments of the cells."""
        log_x = x.log1p()
        self.centre = seen_mean(log_x, seen)
        spread = seen_mean((log_x - self.centre) ** 2, seen).sqrt()
        self.spread = torch.where(spread > 0, spread, 1.0)
        mean = seen_mean(x, seen)
        excess = seen_mean((x - mean) ** 2, seen) - mean
        log_dispersion = (mean**2 / excess.clamp(min=1e-3 * (mean + 1e-3))).log()
        self.log_dispersion.data = log_dispersion.clamp(-3.0, 6.0)
        half_a_count = 0.5 / seen.sum(0).clamp(min=1)
        return (mean + half_a_count).log()[:, None]

    def inputs(self, x: Tensor) -> Tensor:
        """Return log(1 + x), standardised."""
        return ((x.log1p() - self.centre) / self.spread)[..., None]

    def _parts(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Log of the mean, (..., n, c), and of the dispersion, (c,)."""
        log_r = self.log_dispersion.clamp(LOG_DISPERSION_MIN, LOG_DISPERSION_MAX)
        return outputs.squeeze(-1).clamp(-LOG_RATE, LOG_RATE), log_r

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log of (x + r - 1 over x) p^r (1 - p)^x, p = r / (r + mean)."""
        log_mean, log_r = self._parts(outputs)
        # Of large counts, differences of lgamma leave nothing in float32.
        wide = wide_dtype(x.device)
        x, r, odds = x.to(wide), log_r.exp().to(wide), (log_mean - log_r).to(wide)
        choices = (x + r).lgamma() - r.lgamma() - (x + 1).lgamma()
        log_prob = choices - r * F.softplus(odds) - x * F.softplus(-odds)
        return log_prob.to(outputs.dtype)

    def expected(self, outputs: Tensor) -> Tensor:
        """Return the mean."""
        return self._parts(outputs)[0].exp()[..., None]

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw from a Poisson density whose rate is drawn from a gamma density."""
        log_mean, log_r = self._parts(outputs)
        r = log_r.exp().expand_as(log_mean).contiguous()
        rate = torch._standard_gamma(r, generator=generator) * (log_mean - log_r).exp()
        return torch.poisson(rate, generator=generator)


class Levels(Kind):
    """Cells that are one of K levels, 0 to K - 1: the decoder gives K logits."""

    is_mass = True

    def __init__(self, n_columns: int, n_levels: int) -> None:
        super().__init__()
        self.n_outputs = self.n_inputs = n_levels

    def start(self, x: Tensor, seen: Tensor) -> Tensor:
        """Return log-frequencies, with one more cell that has part of every level."""
        K = self.n_outputs
        counts = (self.inputs(x) * seen[..., None]).sum(0)
        return ((counts + 1 / K) / (seen.sum(0)[:, None] + 1)).log()

    def inputs(self, x: Tensor) -> Tensor:
        """One-hot cells."""
        return F.one_hot(x.long(), self.n_inputs).to(x.dtype)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log-probability of the level."""
        level = x.long()[..., None].expand(*outputs.shape[:-1], 1)
        return outputs.log_softmax(-1).gather(-1, level).squeeze(-1)

    def expected(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of the levels."""
        return outputs.softmax(-1)

    def value(self, expected: Tensor) -> Tensor:
        """Return the most probable level."""
        return expected.argmax(-1).to(expected.dtype)

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw levels: the largest of the logits with Gumbel noise."""
        uniform = torch.empty_like(outputs).uniform_(generator=generator)
        tiny = torch.finfo(outputs.dtype).tiny
        gumbel = -(-uniform.clamp(min=tiny).log()).clamp(min=tiny).log()
        return (outputs + gumbel).argmax(-1).to(outputs.dtype)


def seen_mean(x: Tensor, seen: Tensor) -> Tensor:
    """Mean (c,) of the cells that are there; 0 where none is."""
    total = torch.where(seen, x, 0.0).sum(0)
    return total / seen.sum(0).clamp(min=1)
