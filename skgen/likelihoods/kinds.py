"""Densities of columns of one kind, a cell at a time.

Cells are (n, c), as the networks see them; a decoder gives ``n_outputs`` numbers for
each, (..., n, c, n_outputs). Cells that are missing hold any value of the support:
``seen`` (n, c) says which are there, and whoever sums leaves the others out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from skgen._utils.tensors import LOG_2PI, draw_levels, wide_dtype
from skgen.likelihoods.gaussian import Gaussian

# Logarithms of rates of counts, and of r in their variance mean + mean^2 / r: at the
# upper end of r counts are Poisson to the last digit.
LOG_RATE = 30.0
LOG_DISPERSION_MIN, LOG_POISSON = -7.0, 80.0
# Part of the mean that the variance of counts exceeds it by, at least, at the start.
LEAST_EXCESS = 1e-3
# Levels from which on networks look up weights, and rows are not made one-hot.
MANY_LEVELS = 257
# From here on four terms of the series are exact in float64.
STIRLING_FROM = 16.0


class Kind(nn.Module, ABC):
    """Base of the densities of c columns of one kind."""

    #: Decoder outputs, and encoder inputs, for each column.
    n_outputs: int = 1
    n_inputs: int = 1
    #: A value of the support, for cells that are missing.
    filler: float = 0.0
    #: Whether ``log_prob`` is a log-mass.
    is_mass: bool = False
    #: Whether inputs are one-hot, and so many that networks should look up weights.
    is_looked_up: bool = False

    def scaling(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (c,) to standardise cells by, given weights (n, c)."""
        zero = torch.zeros_like(x[0])
        return zero, zero + 1

    def set_scale(self, shift: Tensor, scale: Tensor) -> None:
        """Take notice of shift and scale (c,) that cells are standardised by."""

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
        self.normal = Gaussian().as_part()
        # Of a size that is known before rows are.
        self.normal.log_sigma = nn.Parameter(torch.zeros(n_columns))
        self.normal.is_constant = torch.zeros(n_columns, dtype=torch.bool)
        self.normal.constants = torch.zeros(n_columns)

    def scaling(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the cells."""
        return moments(x, weight)

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
        self.spread = or_one(seen_mean(log_x**2, seen).sqrt())
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

    The variance is ``mean + mean^2 / r``, with a dispersion 1 / r learned for each
    column; Poisson counts are the limit of no dispersion.
    """

    is_mass = True
    offset: Tensor  # (c,), log of the mean at an output of 0
    gain: Tensor  # (c,), what an output of 1 adds to it
    spread: Tensor  # (c,), of log(1 + x)
    centre: Tensor  # (c,)

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.log_dispersion = nn.Parameter(torch.zeros(n_columns))  # log r
        self.register_buffer("centre", torch.zeros(n_columns))
        self.register_buffer("spread", torch.ones(n_columns))
        self.register_buffer("offset", torch.zeros(n_columns, dtype=torch.float64))
        self.register_buffer("gain", torch.ones(n_columns))

    def start(self, x: Tensor, seen: Tensor) -> Tensor:
        """Start from the moments of the cells."""
        dtype, x = x.dtype, x.to(wide_dtype(x.device))
        centre, spread = centre_and_spread(x.log1p(), seen)
        self.centre, self.spread = centre.to(dtype), spread.to(dtype)
        self.gain = self.spread
        mean = seen_mean(x, seen)
        excess = seen_mean((x - mean) ** 2, seen) - mean
        dispersion = excess.clamp(min=LEAST_EXCESS * (mean + LEAST_EXCESS)) / mean**2
        log_dispersion = -dispersion.log().clamp(max=-LOG_DISPERSION_MIN)
        self.log_dispersion.data = log_dispersion.to(dtype)
        half_a_count = 0.5 / seen.sum(0).clamp(min=1)
        self.offset = (mean + half_a_count).log()
        return torch.zeros_like(self.gain)[:, None]

    def inputs(self, x: Tensor) -> Tensor:
        """Return log(1 + x), standardised."""
        return ((x.log1p() - self.centre) / self.spread)[..., None]

    def _parts(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (..., n, c) and r (c,), wide: large counts need the digits."""
        wide = wide_dtype(outputs.device)
        log_mean = self.offset + self.gain.to(wide) * outputs.squeeze(-1).to(wide)
        log_r = self.log_dispersion.clamp(LOG_DISPERSION_MIN, LOG_POISSON).to(wide)
        return log_mean.clamp(-LOG_RATE, LOG_RATE).exp(), log_r.exp()

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log of (x + r - 1 over x) p^r (1 - p)^x, p = r / (r + mean)."""
        mean, r = self._parts(outputs)
        log_prob = negative_binomial_log_prob(x.to(mean.dtype), mean, r)
        return log_prob.to(outputs.dtype)

    def expected(self, outputs: Tensor) -> Tensor:
        """Return the mean."""
        return self._parts(outputs)[0].to(outputs.dtype)[..., None]

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw from a Poisson density whose rate is drawn from a gamma density."""
        mean, r = self._parts(outputs)
        shape = r.expand_as(mean).contiguous()
        rate = torch._standard_gamma(shape, generator=generator) * (mean / r)
        return torch.poisson(rate, generator=generator).to(outputs.dtype)


def negative_binomial_log_prob(x: Tensor, mean: Tensor, r: Tensor) -> Tensor:
    """Log-mass of counts x with a mean, and the variance mean + mean^2 / r.

    Stirling's formula, whose error is added, takes the place of log-gamma functions:
    they would cancel to nothing where x or r is large. The logarithms that are left
    are of ratios, so that r without end gives the Poisson mass.
    """
    excess = x - mean
    return (
        (x + r) * _log_ratio(x + r, mean + r, excess)
        - x * _log_ratio(x + 1, mean, excess + 1)
        + 1
        - 0.5 * (LOG_2PI + (x + 1).log() + torch.log1p(x / r))
        + stirling_error(x + r)
        - stirling_error(r)
        - stirling_error(x + 1)
    )


def _log_ratio(a: Tensor, b: Tensor, difference: Tensor) -> Tensor:
    """log(a / b), by the difference a - b where a is near b."""
    change = difference / b
    is_near = change.abs() < 0.5
    near = torch.where(is_near, change, 0.0).log1p()
    return torch.where(is_near, near, a.log() - b.log())


def stirling_error(n: Tensor) -> Tensor:
    """log Gamma(n) - ((n - 1/2) log n - n + log(2 pi) / 2), of n > 0."""
    small, large = n.clamp(max=STIRLING_FROM), n.clamp(min=STIRLING_FROM)
    exact = small.lgamma() - (small - 0.5) * small.log() + small - 0.5 * LOG_2PI
    inverse = 1 / large
    square = inverse**2
    series = 1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680))
    return torch.where(n < STIRLING_FROM, exact, inverse * series)


class Levels(Kind):
    """Cells that are one of K levels, 0 to K - 1: the decoder gives K logits."""

    is_mass = True

    def __init__(self, n_columns: int, n_levels: int) -> None:
        super().__init__()
        self.n_outputs = self.n_inputs = n_levels
        self.is_looked_up = n_levels >= MANY_LEVELS

    def start(self, x: Tensor, seen: Tensor) -> Tensor:
        """Return log-frequencies, with one more cell that has part of every level."""
        return level_shares(x, seen, self.n_outputs).log().to(x.dtype)

    def inputs(self, x: Tensor) -> Tensor:
        """One-hot cells."""
        levels = torch.arange(self.n_inputs, device=x.device)
        return (x.long()[..., None] == levels).to(x.dtype)

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
        """Draw levels."""
        return draw_levels(outputs, generator).to(outputs.dtype)


def moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean and variance (c,) of cells (n, c)."""
    total = weight.sum(0).clamp(min=torch.finfo(weight.dtype).tiny)
    mean = (weight * x).sum(0) / total
    return mean, (weight * (x - mean) ** 2).sum(0) / total


def level_shares(x: Tensor, seen: Tensor, n_levels: int) -> Tensor:
    """Shares (c, K) of the levels, with one more cell that has part of every level."""
    n_columns = x.shape[1]
    places = x.long() + n_levels * torch.arange(n_columns, device=x.device)
    counts = places[seen].bincount(minlength=n_columns * n_levels)
    counts = counts.view(n_columns, n_levels).to(wide_dtype(x.device))
    return (counts + 1 / n_levels) / (seen.sum(0)[:, None] + 1)


def centre_and_spread(x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (c,) of the cells that are there; 1 for none."""
    centre = seen_mean(x, seen)
    return centre, or_one(seen_mean((x - centre) ** 2, seen).sqrt())


def or_one(spread: Tensor) -> Tensor:
    """Return a spread, and 1 where there is none."""
    return torch.where(spread > 0, spread, 1.0)


def seen_mean(x: Tensor, seen: Tensor) -> Tensor:
    """Mean (c,) of the cells that are there; 0 where none is."""
    total = torch.where(seen, x, 0.0).sum(0)
    return total / seen.sum(0).clamp(min=1)
