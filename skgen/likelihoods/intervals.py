"""Logistic densities on an interval, and the masses of its parts.

The mass of an interval (a, b) under the logistic function F is
``F(b) - F(a) = F(b) F(-a) (1 - exp(a - b))``, in which nothing cancels.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skgen._utils.tensors import wide_dtype
from skgen.likelihoods.kinds import (
    Kind,
    centre_and_spread,
    level_shares,
    moments,
    seen_mean,
)

# Stands for an end without limit, in standard deviations.
FAR = 1e6
# Log-scale of a logistic density in standard deviations: of a constant, and flat.
LOG_SIGMA_MIN, LOG_SIGMA_MAX = -7.0, 7.0
# A logistic density over whole numbers is no narrower than exp(-3) of a step, which
# leaves 1e-4 of it outside of one.
LOG_STEPS_MIN = -3.0
# Standard deviation of the standard logistic density.
LOGISTIC_STD = math.pi / math.sqrt(3)
# Starts that are tried: means, in standard deviations, and factors of the scale.
START_MEANS, START_FACTORS = (
    (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0),
    (0.5, 1.0, 2.0, 8.0),
)
# Least distance of two thresholds at the start.
LEAST_GAP = 1e-4
# Cells that a start is tried on.
START_CELLS = 512
# Points of Gauss and Legendre, and weights that add up to one, for means.
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(32)
POINTS = tuple(zip((_POINTS + 1) / 2, _WEIGHTS / 2))


def log_interval(a: Tensor, b: Tensor) -> Tensor:
    """log(F(b) - F(a)), a < b, F the logistic function."""
    return F.logsigmoid(b) + F.logsigmoid(-a) + (-torch.expm1(a - b)).log()


def truncated_quantile(p: Tensor | float, a: Tensor, b: Tensor) -> Tensor:
    """Return where a standard logistic density on (a, b) has the part p below it."""
    p = torch.as_tensor(p, dtype=a.dtype, device=a.device)
    log_p, log_rest = p.log(), torch.log1p(-p)
    below = torch.logaddexp(log_rest + F.logsigmoid(a), log_p + F.logsigmoid(b))
    above = torch.logaddexp(log_rest + F.logsigmoid(-a), log_p + F.logsigmoid(-b))
    return torch.minimum(torch.maximum(below - above, a), b)


class Bounded(Kind):
    """Cells within [low, high]: a logistic density, truncated to the interval.

    The decoder gives the mean, and a scale is learned for each column. Scales far above
    the width of the interval make the density flat.

    Parameters
    ----------
    n_columns : int
        Number of columns.
    low, high : float
        The interval; an end may be infinite.
    """

    lower: Tensor  # (c,), the ends as the networks see them
    upper: Tensor  # (c,)

    def __init__(self, n_columns: int, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.log_sigma = nn.Parameter(torch.zeros(n_columns))
        for name, end in (("lower", low), ("upper", high)):
            ends = torch.full((n_columns,), end, dtype=torch.float64)
            self.register_buffer(name, ends.clamp(-FAR, FAR))

    def scaling(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the cells."""
        return moments(x, weight)

    def set_scale(self, shift: Tensor, scale: Tensor) -> None:
        """See the ends as the cells are standardised."""
        self._set_ends(shift, scale)

    def _set_ends(self, centre: Tensor, spread: Tensor, margin: float = 0.0) -> None:
        """See the ends from a centre, in units of a spread (c,)."""
        self.lower = ((self.low - margin - centre) / spread).clamp(min=-FAR)
        self.upper = ((self.high + margin - centre) / spread).clamp(max=FAR)

    def start(self, x: Tensor, seen: Tensor) -> Tensor:
        """Start from the best of a few means and scales."""
        step = 1 + len(x) // START_CELLS
        x, seen = x[::step], seen[::step]
        centre, spread = centre_and_spread(self.standard(x), seen)
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for mean, factor in itertools.product(START_MEANS, START_FACTORS):
            outputs = centre + mean * spread
            self.log_sigma.data = (factor * spread / LOGISTIC_STD).log()
            log_prob = self.log_prob(outputs.expand_as(x)[..., None], x)
            found.append((seen_mean(log_prob, seen), outputs, self.log_sigma.data))
        fits, means, log_sigmas = (torch.stack(each) for each in zip(*found))
        best = fits.argmax(0, keepdim=True)
        self.log_sigma.data = log_sigmas.gather(0, best)[0]
        return means.gather(0, best)[0][:, None]

    def standard(self, x: Tensor) -> Tensor:
        """Cells with about a mean of zero and unit variance: here they have them."""
        return x

    def inputs(self, x: Tensor) -> Tensor:
        """Return the cells, standardised."""
        return self.standard(x)[..., None]

    def _scale(self, dtype: torch.dtype) -> Tensor:
        """Scale (c,) of the density."""
        return self.log_sigma.clamp(LOG_SIGMA_MIN, LOG_SIGMA_MAX).to(dtype).exp()

    def _parts(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean (..., n, c), scale (c,), and the ends in units of the scale; wide."""
        wide = wide_dtype(outputs.device)
        mean, scale = outputs.squeeze(-1).to(wide), self._scale(wide)
        lower, upper = self.lower.to(wide), self.upper.to(wide)
        return mean, scale, (lower - mean) / scale, (upper - mean) / scale

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log of F'(v) / (s (F(b) - F(a))), v the distance from the mean."""
        mean, scale, a, b = self._parts(outputs)
        v = (x.to(mean.dtype) - mean) / scale
        log_prob = F.logsigmoid(v) + F.logsigmoid(-v) - scale.log() - log_interval(a, b)
        return log_prob.to(outputs.dtype)

    def _quantile(self, p: Tensor | float, outputs: Tensor) -> Tensor:
        """Return cells (..., n, c) with the part p of the density below them."""
        mean, scale, a, b = self._parts(outputs)
        return mean + scale * truncated_quantile(p, a, b)

    def expected(self, outputs: Tensor) -> Tensor:
        """Return the mean, the integral of the quantiles."""
        total = sum(weight * self._quantile(p, outputs) for p, weight in POINTS)
        mean: Tensor = torch.as_tensor(total).to(outputs.dtype)
        return mean[..., None]

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the quantile of a uniform number."""
        uniform = torch.empty_like(
            outputs.squeeze(-1), dtype=wide_dtype(outputs.device)
        )
        drawn = self._quantile(uniform.uniform_(generator=generator), outputs)
        return drawn.to(outputs.dtype)


class Whole(Bounded):
    """Whole numbers from low to high: the masses of a truncated logistic density.

    A number has what the density has on the interval of width one around it.
    """

    is_mass = True
    centre: Tensor  # (c,), of the cells
    spread: Tensor  # (c,)

    def __init__(self, n_columns: int, low: float, high: float) -> None:
        super().__init__(n_columns, low, high)
        self.filler = low if math.isfinite(low) else min(high, 0.0)
        self.register_buffer("centre", torch.zeros(n_columns, dtype=torch.float64))
        self.register_buffer("spread", torch.ones(n_columns, dtype=torch.float64))

    def scaling(self, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return none: a mass has no units."""
        return Kind.scaling(self, x, weight)

    def set_scale(self, shift: Tensor, scale: Tensor) -> None:
        """Leave the ends to the start: the cells are as they were."""

    def start(self, x: Tensor, seen: Tensor) -> Tensor:
        """Start from the best of a few means and scales."""
        wide = x.to(self.centre.dtype)
        self.centre, self.spread = centre_and_spread(wide, seen)
        self._set_ends(self.centre, self.spread, margin=0.5)
        return super().start(x, seen)

    def standard(self, x: Tensor) -> Tensor:
        """Cells with a mean of zero and unit variance."""
        return ((x.to(self.centre.dtype) - self.centre) / self.spread).to(x.dtype)

    def _scale(self, dtype: torch.dtype) -> Tensor:
        """Scale (c,) of the density, not too narrow for a step."""
        least = LOG_STEPS_MIN - self.spread.log()
        return self.log_sigma.to(dtype).maximum(least).clamp(max=LOG_SIGMA_MAX).exp()

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log of the mass of the interval around a number, of that of the whole."""
        mean, scale, a, b = self._parts(outputs)
        u = (x.to(mean.dtype) - self.centre) / self.spread
        half = 0.5 / self.spread
        inside = log_interval((u - half - mean) / scale, (u + half - mean) / scale)
        return (inside - log_interval(a, b)).to(outputs.dtype)

    def _quantile(self, p: Tensor | float, outputs: Tensor) -> Tensor:
        x = self.centre + self.spread * super()._quantile(p, outputs)
        return x.round().clamp(self.low, self.high)


class Ordinal(Kind):
    """Cells that are one of K ordered levels, 0 to K - 1: a cumulative logit.

    A level has the mass of a logistic density between two thresholds. These are learned
    for each column, and so is the scale; the decoder gives the mean.
    """

    is_mass = True
    centre: Tensor  # (c,), of the levels
    spread: Tensor  # (c,)

    def __init__(self, n_columns: int, n_levels: int) -> None:
        super().__init__()
        # The first threshold, and the logarithms of the gaps between them.
        self.first = nn.Parameter(torch.zeros(n_columns, min(1, n_levels - 1)))
        self.log_gaps = nn.Parameter(torch.zeros(n_columns, max(0, n_levels - 2)))
        self.log_sigma = nn.Parameter(torch.zeros(n_columns))
        self.n_levels = n_levels
        self.register_buffer("centre", torch.zeros(n_columns))
        self.register_buffer("spread", torch.ones(n_columns))

    def start(self, x: Tensor, seen: Tensor) -> Tensor:
        """Start from the frequencies of the levels."""
        self.centre, self.spread = centre_and_spread(x, seen)
        thresholds = level_shares(x, seen, self.n_levels).cumsum(1)[:, :-1].logit()
        thresholds = thresholds.to(x.dtype)
        self.first.data = thresholds[:, :1]
        self.log_gaps.data = thresholds.diff(dim=1).clamp(min=LEAST_GAP).log()
        return torch.zeros_like(self.centre)[:, None]

    def inputs(self, x: Tensor) -> Tensor:
        """Return the levels, standardised."""
        return ((x - self.centre) / self.spread)[..., None]

    def thresholds(self) -> Tensor:
        """Return the thresholds (c, K - 1) between the levels, ascending."""
        return torch.cat([self.first, self.log_gaps.exp()], dim=1).cumsum(1)

    def _scale(self, dtype: torch.dtype) -> Tensor:
        return self.log_sigma.clamp(LOG_SIGMA_MIN, LOG_SIGMA_MAX).to(dtype).exp()

    def _cuts(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means (..., n, c), scale (c,), and thresholds (c, K - 1), wide."""
        wide = wide_dtype(outputs.device)
        mean = outputs.squeeze(-1).to(wide)
        return mean, self._scale(wide), self.thresholds().to(wide)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log of the mass between the thresholds on the two sides of a level."""
        mean, scale, cuts = self._cuts(outputs)
        ends = cuts.new_full((len(cuts), 1), FAR)
        cuts = torch.cat([-ends, cuts, ends], dim=1)  # (c, K + 1)
        level, column = x.long(), torch.arange(len(cuts), device=x.device)
        a, b = cuts[column, level], cuts[column, level + 1]  # (n, c)
        log_prob = log_interval((a - mean) / scale, (b - mean) / scale)
        return log_prob.to(outputs.dtype)

    def expected(self, outputs: Tensor) -> Tensor:
        """Return the mean of the level: the sum of P(level > k) over k."""
        mean, scale, cuts = self._cuts(outputs)
        total = torch.zeros_like(mean)
        for cut in cuts.unbind(1):  # one at a time: all would need the memory
            total = total + ((mean - cut) / scale).sigmoid()
        return total.to(outputs.dtype)[..., None]

    def value(self, expected: Tensor) -> Tensor:
        """Return the level that is nearest to the mean."""
        return expected.squeeze(-1).round().clamp(0, self.n_levels - 1)

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw from the logistic density, and count the thresholds below."""
        mean, scale, cuts = self._cuts(outputs)
        noise = torch.empty_like(mean).uniform_(generator=generator).logit()
        drawn = (mean + scale * noise).flatten(0, -2).T.contiguous()  # (c, N)
        level = torch.searchsorted(cuts.contiguous(), drawn)
        return level.T.reshape(mean.shape).to(outputs.dtype)
