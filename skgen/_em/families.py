"""Densities of columns as exponential families: what EM sums, and what it solves.

The log-density of a cell x of component k is ``t(x) . slope_k + offset_k + h(x)``. So
log-densities of all rows under all components are one product of matrices, and so are
the sums that an M-step needs. M-steps are closed, or of one dimension.

Columns of a kind are one family: cells are (n, c), parameters (K, c, ...). Cells that
are missing have statistics and measures of zero.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from skgen._em.truncation import log_normal_mass, truncated_normal
from skgen._utils.reduce import gathered
from skgen._utils.scales import column_scale
from skgen._utils.tensors import LOG_2PI, draw_levels, to_array
from skgen.likelihoods.kinds import (
    LOG_DISPERSION_MIN,
    LOG_POISSON,
    negative_binomial_log_prob,
)
from skgen.likelihoods.specs import Spec, outside

#: A kind of columns: as ``Mixed`` names it, or "poisson" or "bernoulli".
Part = dict[str, Tensor]
Array = NDArray[np.float64]

# Whole numbers in an interval that are levels, at most.
MOST_LEVELS = 256
# Square of the mean in standard deviations from which on squares are not expanded: the
# product would lose more digits than ten.
EXPANDED = 1e5
# Steps of EM for the interval's missing part, at the start and later.
FIRST_STEPS, LATER_STEPS = 50, 8
# Points of a search for the dispersion of counts, and how often it is refined.
SEARCHED, FIRST_ROUNDS, LATER_ROUNDS = 17, 8, 4
# Least mean of counts, in cells of one, over all rows.
LEAST_COUNTS = 1e-3


class Prior(NamedTuple):
    """Cells that are added to those of each component and column."""

    levels: float  # that are spread as all cells, of levels and counts
    variance: float  # about the mean of the component
    shrinkage: float  # of their variance, in that of all cells
    floor: float | None  # least variance in units of the rows; None by the column


class Sums(NamedTuple):
    """Cells of each component and column that are there, and sums over them."""

    n: Tensor  # (K, c)
    first: Tensor  # (K, c, m)


class Family(ABC):
    """Base of the densities of c columns of one kind."""

    #: Numbers m that are summed of each cell.
    n_statistics: int = 1
    #: A value of the support, for cells that are missing.
    filler: float = 0.0
    is_mass = False
    #: Whether h(x) is not one, and whether all rows are counted before a fit.
    has_measure = True
    counts_all = False
    #: Names of what is known of columns, (c, ...), and of components.
    constant_names: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def __init__(self, n_columns: int) -> None:
        self.n_columns = n_columns
        self.constants: Part = {}
        self.overall: Sums | None = None  # of all rows as one component, in a fit

    def see(self, x: Tensor) -> None:  # noqa: B027
        """Find scales of columns from cells (n, c), of many rows from a sample."""

    def count(self, x: Tensor, weight: Tensor) -> None:  # noqa: B027
        """Take notice of all cells (n, c) of rows with weights (n,)."""

    @abstractmethod
    def statistics(self, x: Tensor) -> Tensor:
        """Return t(x) of cells that are there, (n, c, m)."""

    def inputs(self, x: Tensor) -> Tensor:
        """Return cells as numbers of like spread, (n, c, m)."""
        return self.statistics(x)

    @abstractmethod
    def slopes(self, part: Part) -> Tensor:
        """Return what t(x) is multiplied by, (K, c, m)."""

    @abstractmethod
    def offsets(self, part: Part) -> Tensor:
        """Return what is added to it, (K, c)."""

    def measure(self, part: Part, x: Tensor) -> Tensor:
        """Return log h(x), which all components share, (n, c)."""
        return torch.zeros_like(x)

    def direct_columns(self, part: Part) -> list[int]:
        """Return columns whose products lose digits: they have no slope."""
        return []

    def direct(self, part: Part, x: Tensor, column: int) -> Tensor:
        """Return log-densities (n, K) of the cells of such a column."""
        raise NotImplementedError

    def cells(self, part: Part, x: Tensor) -> Tensor:
        """Return log-densities (K, n, c) of cells that are there."""
        products = torch.einsum("ncm,kcm->knc", self.statistics(x), self.slopes(part))
        return products + self.offsets(part)[:, None] + self.measure(part, x)

    @abstractmethod
    def maximise(self, sums: Sums, part: Part | None, prior: Prior) -> Part:
        """Return the parameters that a step makes of sums, and of those before."""

    @abstractmethod
    def expected(self, part: Part) -> Tensor:
        """Return what is averaged over components, (K, c * e)."""

    def value(self, expected: Tensor) -> Tensor:
        """(n, c * e) averages -> (n, c) cells."""
        return expected

    @abstractmethod
    def draw(self, part: Part, k: Tensor, generator: torch.Generator) -> Tensor:
        """Draw cells (n, c) of components k (n,)."""

    @abstractmethod
    def log_interval(self, part: Part, j: int, low: float, high: float) -> Array:
        """Return log-masses (K,) of an interval of column j."""

    @abstractmethod
    def draw_within(
        self,
        part: Part,
        j: int,
        k: NDArray[np.intp],
        ends: tuple[float, float],
        rng: np.random.RandomState,
    ) -> Array:
        """Draw cells (n,) of column j in an interval, of components k (n,)."""

    def n_parameters(self, K: int) -> int:
        """Return the number of free parameters."""
        return K * self.n_columns

    @abstractmethod
    def shapes(self, K: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of parameters and constants, by name."""


def family_of(spec: Spec, n_columns: int) -> Family:
    """Make the densities of columns of a kind."""
    match spec:
        case "real" | "positive":
            return Normal(n_columns, is_log=spec == "positive")
        case "count" | "poisson":
            return Counts(n_columns, is_poisson=spec == "poisson")
        case "bernoulli":
            return Levels(n_columns, 2, is_number=True)
        case int():
            return Levels(n_columns, spec)
        case "ordinal", n_levels:
            return Levels(n_columns, n_levels)
        case "whole", low, high if high - low < MOST_LEVELS:
            return Levels(n_columns, int(high - low) + 1, int(low), is_number=True)
        case "bounded" | "whole", low, high:
            return Bounded(n_columns, low, high, is_whole=spec[0] == "whole")
        case "inflated", base, atoms:
            shared = ~outside(np.array(atoms), base)
            return Inflated(family_of(base, n_columns), atoms, shared.tolist())
    raise ValueError(f"{spec!r} is no kind of column")


# Numbers.


class Normal(Family):
    """Normal cells, or log-normal ones."""

    n_statistics = 2
    constant_names = ("shift", "scale", "floor")
    names = ("mean", "variance")

    def __init__(self, n_columns: int, *, is_log: bool = False) -> None:
        super().__init__(n_columns)
        self.is_log, self.filler = is_log, float(is_log)

    def see(self, x: Tensor) -> None:
        """Find medians, spreads, and least variances."""
        found = [column_scale(values) for values in to_array(self._plain(x)).T]
        shift, scale, floor = (x.new_tensor(each) for each in zip(*found))
        self.constants = {"shift": shift, "scale": scale, "floor": floor}

    def _plain(self, x: Tensor) -> Tensor:
        return x.log() if self.is_log else x

    def standard(self, x: Tensor) -> Tensor:
        """Cells about zero, in units of the spread."""
        return (self._plain(x) - self.constants["shift"]) / self.constants["scale"]

    def _cells(self, z: Tensor) -> Tensor:
        x = z * self.constants["scale"] + self.constants["shift"]
        return x.exp() if self.is_log else x

    def statistics(self, x: Tensor) -> Tensor:
        """Return z and its square."""
        z = self.standard(x)
        return torch.stack([z, z * z], dim=-1)

    def inputs(self, x: Tensor) -> Tensor:
        """Return z."""
        return self.standard(x)[..., None]

    def _is_expanded(self, part: Part) -> Tensor:
        """Return which columns (c,) lose no digits in products."""
        return (part["mean"] ** 2 / part["variance"]).amax(0) < EXPANDED

    def slopes(self, part: Part) -> Tensor:
        """Return mean / variance and -1 / (2 variance)."""
        inverse = self._is_expanded(part) / part["variance"]
        return torch.stack([part["mean"] * inverse, -0.5 * inverse], dim=-1)

    def offsets(self, part: Part) -> Tensor:
        """Return the log-density at zero."""
        mean, variance = part["mean"], part["variance"]
        peak = -0.5 * (variance.log() + LOG_2PI) - self._log_mass(part)
        squared = torch.where(self._is_expanded(part), mean**2 / variance, 0.0)
        found: Tensor = peak - 0.5 * squared
        return found

    def _log_mass(self, part: Part) -> Any:
        """Return the log of the part of the normal density that is kept."""
        return 0.0

    def direct_columns(self, part: Part) -> list[int]:
        """Return those with a component that is narrow for its distance."""
        found: list[int] = (~self._is_expanded(part)).nonzero()[:, 0].tolist()
        return found

    def direct(self, part: Part, x: Tensor, column: int) -> Tensor:
        """Return the quadratic part of the log-densities (n, K)."""
        z = self.standard(x)[:, column, None]
        mean, variance = part["mean"][:, column], part["variance"][:, column]
        return ((z - mean) * variance.rsqrt()).square_().mul_(-0.5)

    def cells(self, part: Part, x: Tensor) -> Tensor:
        """Return log-densities (K, n, c) of cells that are there."""
        found = super().cells(part, x)
        for j in self.direct_columns(part):
            found[:, :, j] += self.direct(part, x, j).T
        return found

    def measure(self, part: Part, x: Tensor) -> Tensor:
        """Return the log-determinant of standardising."""
        log_det: Tensor = -self.constants["scale"].log()
        return log_det - x.log() if self.is_log else log_det.expand_as(x)

    def moments(self, sums: Sums, prior: Prior) -> tuple[Tensor, Tensor]:
        """Return mean and variance (K, c) of each component."""
        assert self.overall is not None
        count, (first, second) = sums.n, sums.first.unbind(-1)
        of_all = self.overall.first / self.overall.n[..., None].clamp(min=TINY)
        middle, square = of_all.unbind(-1)
        safe = count.clamp(min=TINY)
        mean = torch.where(count > TINY, first / safe, middle)
        spread = (square - middle**2).clamp(min=0)
        inside = (second - count * mean**2).clamp(min=0)
        more = prior.variance + TINY
        variance = (inside + more * prior.shrinkage * spread) / (count + more)
        return mean, variance

    def floor(self, prior: Prior) -> Tensor:
        """Return the least variance (c,)."""
        if prior.floor is None:
            return self.constants["floor"]
        rounding = 4 * torch.finfo(torch.float64).eps
        return (prior.floor / self.constants["scale"] ** 2).clamp(min=rounding**2)

    def maximise(self, sums: Sums, part: Part | None, prior: Prior) -> Part:
        """Return mean and variance."""
        mean, variance = self.moments(sums, prior)
        rounding = 4 * torch.finfo(mean.dtype).eps * mean**2
        floor = torch.maximum(self.floor(prior), rounding)
        return {"mean": mean, "variance": torch.maximum(variance, floor)}

    def expected(self, part: Part) -> Tensor:
        """Return the mean; of a log-normal, exp(m + s^2 / 2)."""
        if not self.is_log:
            return self._cells(part["mean"])
        half = 0.5 * part["variance"] * self.constants["scale"]
        return self._cells(part["mean"] + half)

    def draw(self, part: Part, k: Tensor, generator: torch.Generator) -> Tensor:
        """Draw from the normal density."""
        mean, variance = part["mean"][k], part["variance"][k]
        white = torch.empty_like(mean).normal_(generator=generator)
        return self._cells(mean + variance.sqrt() * white)

    def _ends(self, j: int, low: float, high: float) -> tuple[float, float]:
        """Return an interval of cells in units of the spread."""
        shift, scale = (float(self.constants[n][j]) for n in ("shift", "scale"))
        ends = np.array([low, high])
        if self.is_log:
            with np.errstate(divide="ignore"):
                ends = np.log(ends.clip(min=0))
        first, last = (ends - shift) / scale
        return float(first), float(last)

    def _inside(self, part: Part, j: int, low: float, high: float) -> Any:
        """Return an interval in standard deviations of each component, and these."""
        mean, scale = (to_array(part[n][:, j]) for n in self.names)
        scale = np.sqrt(scale)
        first, last = self._ends(j, low, high)
        return (first - mean) / scale, (last - mean) / scale, mean, scale

    def log_interval(self, part: Part, j: int, low: float, high: float) -> Array:
        """Return the log-mass of a normal interval."""
        return log_normal_mass(*self._inside(part, j, low, high)[:2])

    def draw_within(
        self,
        part: Part,
        j: int,
        k: NDArray[np.intp],
        ends: tuple[float, float],
        rng: np.random.RandomState,
    ) -> Array:
        """Draw from the normal density on the interval."""
        a, b, mean, scale = (each[k] for each in self._inside(part, j, *ends))
        shift, width = (float(self.constants[n][j]) for n in ("shift", "scale"))
        x = (mean + scale * truncated_normal(a, b, rng)) * width + shift
        found: Array = (np.exp(x) if self.is_log else x).clip(*ends)
        return found

    def n_parameters(self, K: int) -> int:
        """Return two for each density."""
        return 2 * K * self.n_columns

    def shapes(self, K: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of parameters and constants, by name."""
        c = (self.n_columns,)
        return dict.fromkeys(self.names, (K, *c)) | dict.fromkeys(
            self.constant_names, c
        )


TINY = 1e-12


class Bounded(Normal):
    """Normal cells, truncated to an interval; whole numbers are those of width one."""

    def __init__(
        self, n_columns: int, low: float, high: float, *, is_whole: bool = False
    ) -> None:
        super().__init__(n_columns)
        self.limits, self.is_whole, self.is_mass = (low, high), is_whole, is_whole
        self.filler = low if math.isfinite(low) else min(high, 0.0)

    def see(self, x: Tensor) -> None:
        """Find medians, spreads, and least variances."""
        super().see(x)
        if self.is_whole:  # a density is their mass where it is no narrower than a step
            floor = torch.maximum(
                self.constants["floor"], self.constants["scale"] ** -2
            )
            self.constants["floor"] = floor

    @property
    def _limits(self) -> tuple[Tensor, Tensor]:
        """Return the ends in units of the spread, (c,)."""
        shift, scale = self.constants["shift"], self.constants["scale"]
        margin = 0.5 if self.is_whole else 0.0
        low, high = self.limits
        return (low - margin - shift) / scale, (high + margin - shift) / scale

    def floor(self, prior: Prior) -> Tensor:
        """Return the least variance (c,)."""
        floor = super().floor(prior)
        return torch.maximum(floor, self.constants["floor"]) if self.is_whole else floor

    def _edges(self, part: Part) -> tuple[Tensor, Tensor]:
        """Return the ends in standard deviations, (K, c)."""
        scale = part["variance"].sqrt()
        low, high = self._limits
        return (low - part["mean"]) / scale, (high - part["mean"]) / scale

    def _log_mass(self, part: Part) -> Tensor:
        return log_mass(*self._edges(part))

    def maximise(self, sums: Sums, part: Part | None, prior: Prior) -> Part:
        """Return the normal density whose part in the interval is that of the cells.

        It is EM: of the cells that the interval hides, moments are known.
        """
        mean, variance = self.moments(sums, prior)
        floor = self.floor(prior)
        steps = LATER_STEPS
        if part is None:
            steps = FIRST_STEPS
            part = {"mean": mean, "variance": torch.maximum(variance, floor)}
        square = variance + mean**2
        for _ in range(steps):
            part = self._with_hidden(part, mean, square, floor)
        return part

    def _with_hidden(
        self, part: Part, mean: Tensor, square: Tensor, floor: Tensor
    ) -> Part:
        """Take a step of EM towards the mean and the mean square in the interval."""
        now, inside, squared = self._truncated(part)
        mass = self._log_mass(part).exp()
        found = now + mass * (mean - inside)
        second = now**2 + part["variance"] + mass * (square - squared)
        return {"mean": found, "variance": torch.maximum(second - found**2, floor)}

    def _truncated(self, part: Part) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean, and mean and mean square in the interval."""
        a, b = self._edges(part)
        mean, variance, scale = part["mean"], part["variance"], part["variance"].sqrt()
        log_z = log_mass(a, b)
        at_a, at_b = ((-0.5 * (e * e + LOG_2PI) - log_z).exp() for e in (a, b))
        first = at_a - at_b
        second = 1 + (a * at_a).nan_to_num_(0.0) - (b * at_b).nan_to_num_(0.0)
        inside = mean + scale * first
        return mean, inside, mean**2 + 2 * mean * scale * first + variance * second

    def expected(self, part: Part) -> Tensor:
        """Return the mean in the interval."""
        inside = self._truncated(part)[1]
        low, high = self._limits
        return self._cells(torch.minimum(torch.maximum(inside, low), high))

    def draw(self, part: Part, k: Tensor, generator: torch.Generator) -> Tensor:
        """Draw by the distribution function."""
        a, b = (edge[k] for edge in self._edges(part))
        left, right, sign = _on_the_left(a, b)
        u = torch.empty_like(a).uniform_(generator=generator)
        below, above = (torch.special.ndtr(e) for e in (left, right))
        noise = sign * torch.special.ndtri(below + u * (above - below))
        noise = torch.minimum(torch.maximum(noise, a), b)
        x = self._cells(part["mean"][k] + part["variance"][k].sqrt() * noise)
        return (x.round() if self.is_whole else x).clamp(*self.limits)

    def _inside(self, part: Part, j: int, low: float, high: float) -> Any:
        low, high = max(low, self.limits[0]), min(high, self.limits[1])
        if self.is_whole:
            low, high = np.ceil(low) - 0.5, np.floor(high) + 0.5
        return super()._inside(part, j, low, high)

    def log_interval(self, part: Part, j: int, low: float, high: float) -> Array:
        """Return the log-mass of what an interval and the limits share."""
        kept = to_array(self._log_mass(part)[:, j])
        if max(low, self.limits[0]) > min(high, self.limits[1]):
            return np.full_like(kept, -np.inf)
        found: Array = super().log_interval(part, j, low, high) - kept
        return found

    def draw_within(
        self,
        part: Part,
        j: int,
        k: NDArray[np.intp],
        ends: tuple[float, float],
        rng: np.random.RandomState,
    ) -> Array:
        """Draw from the normal density on the interval."""
        low, high = max(ends[0], self.limits[0]), min(ends[1], self.limits[1])
        if not self.is_whole:
            return super().draw_within(part, j, k, (low, high), rng)
        wide = float(np.ceil(low)) - 0.5, float(np.floor(high)) + 0.5
        found = super().draw_within(part, j, k, wide, rng)
        return found.round().clip(np.ceil(low), np.floor(high))


def log_mass(a: Tensor, b: Tensor) -> Tensor:
    """Log of the mass of a standard normal density between a and b."""
    left, right, _ = _on_the_left(a, b)
    above, below = torch.special.log_ndtr(right), torch.special.log_ndtr(left)
    found: Tensor = above + (-torch.expm1(below - above)).log()
    return found


def _on_the_left(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mirror intervals to where the distribution function keeps its digits."""
    mirrored = a + b > 0
    sign = torch.where(mirrored, -1.0, 1.0).to(a)
    return torch.where(mirrored, -b, a), torch.where(mirrored, -a, b), sign


# Masses.


class Counts(Family):
    """Negative binomial counts: a mean for each component, a dispersion for a column.

    Log-masses are those of the mean of all cells, and a ratio that is linear in the
    count. So large counts keep their digits.
    """

    is_mass = True
    counts_all = True
    constant_names = ("centre",)
    names = ("mean", "log_r")

    def __init__(self, n_columns: int, *, is_poisson: bool = False) -> None:
        super().__init__(n_columns)
        self.is_poisson = is_poisson
        self.histograms: list[tuple[Tensor, Tensor]] = []

    def count(self, x: Tensor, weight: Tensor) -> None:
        """Count how often each value is seen, and find the means."""
        self.histograms, means = [], []
        for values in x.T:
            there = ~values.isnan()
            own = counted(values[there], weight[there])
            value, times = counted(*map(gathered, own))
            self.histograms.append((value, times))
            total = times.sum().clamp(min=1)
            means.append((times @ value).clamp(min=LEAST_COUNTS) / total)
        self.constants = {"centre": torch.stack(means)}

    def statistics(self, x: Tensor) -> Tensor:
        """Return the counts."""
        return x[..., None]

    def recount(self, values: Tensor, times: dict[int, Tensor]) -> None:
        """Count some of the values (A,) anew, (c,) each."""
        for i, of_columns in times.items():
            for (value, known), each in zip(self.histograms, of_columns):
                known[value == values[i].to(value)] = each

    def inputs(self, x: Tensor) -> Tensor:
        """Return logarithms."""
        return (x.log1p() - self.constants["centre"].log1p())[..., None]

    def _ratios(self, mean: Tensor, log_r: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a count and what a cell add to the log-mass, but for h(x)."""
        r = log_r.exp()
        change = torch.log1p(mean / r)
        return mean.log() - change, -r * change

    def slopes(self, part: Part) -> Tensor:
        """Return the log-ratio of odds to those of all cells."""
        own, _ = self._ratios(part["mean"], part["log_r"])
        of_all, _ = self._ratios(self.constants["centre"], part["log_r"])
        return (own - of_all)[..., None]

    def offsets(self, part: Part) -> Tensor:
        """Return the log-ratio of masses of no count."""
        _, own = self._ratios(part["mean"], part["log_r"])
        _, of_all = self._ratios(self.constants["centre"], part["log_r"])
        return own - of_all

    def measure(self, part: Part, x: Tensor) -> Tensor:
        """Return log-masses under the mean of all cells."""
        centre, r = self.constants["centre"], part["log_r"].exp()
        return negative_binomial_log_prob(x, centre, r)

    def maximise(self, sums: Sums, part: Part | None, prior: Prior) -> Part:
        """Return the means, and the dispersions at which these are likeliest."""
        centre, more = self.constants["centre"], prior.levels + TINY
        mean = (sums.first[..., 0] + more * centre) / (sums.n + more)
        mean = torch.maximum(mean, 1e-9 * centre)
        log_r = torch.full_like(centre, LOG_POISSON)
        if not self.is_poisson:
            log_r = self._dispersions(sums, mean, part)
        return {"mean": mean, "log_r": log_r}

    def _dispersions(self, sums: Sums, mean: Tensor, part: Part | None) -> Tensor:
        found = []
        for j in range(self.n_columns):
            args = sums.n[:, j], sums.first[:, j, 0], mean[:, j], j
            low, high, rounds = LOG_DISPERSION_MIN, LOG_POISSON / 2, FIRST_ROUNDS
            before = None if part is None else part["log_r"][j]
            if before is not None:
                now, rounds = float(before), LATER_ROUNDS
                low, high = max(low, now - 1), min(LOG_POISSON, now + 1)
            found.append(self._search(low, high, rounds, before, args))
        return torch.stack(found)

    def _search(
        self, low: float, high: float, rounds: int, before: Tensor | None, args: Any
    ) -> Tensor:
        """Refine an interval about the best dispersion; keep one that is better."""
        best = self.constants["centre"].new_tensor(LOG_POISSON)
        known = best if before is None else before
        for _ in range(rounds):
            tried = torch.linspace(low, high, SEARCHED, dtype=best.dtype)
            tried = tried.to(best.device)
            gap = (high - low) / (SEARCHED - 1)
            best = tried[self._total(tried, *args).argmax()]
            low = max(LOG_DISPERSION_MIN, float(best) - gap)
            high = min(LOG_POISSON, float(best) + gap)
        both = torch.stack([known, best])
        return both[self._total(both, *args).argmax()]

    def _total(
        self, log_r: Tensor, count: Tensor, first: Tensor, mean: Tensor, j: int
    ) -> Tensor:
        """Return the expected log-likelihood of column j under some dispersions."""
        value, times = self.histograms[j]
        centre, log_r = self.constants["centre"][j], log_r[:, None]
        total = negative_binomial_log_prob(value, centre, log_r.exp()) @ times
        slope, offset = self._ratios(mean, log_r)
        slope_0, offset_0 = self._ratios(centre, log_r)
        return total + (slope - slope_0) @ first + (offset - offset_0) @ count

    def expected(self, part: Part) -> Tensor:
        """Return the means."""
        return part["mean"]

    def draw(self, part: Part, k: Tensor, generator: torch.Generator) -> Tensor:
        """Draw from a Poisson density whose rate is drawn from a gamma density."""
        mean, r = part["mean"][k], part["log_r"].exp()
        shape = r.expand_as(mean).contiguous()
        rate = torch._standard_gamma(shape, generator=generator) * (mean / r)
        return torch.poisson(rate, generator=generator)

    def _density(self, part: Part, j: int) -> Any:
        mean, r = to_array(part["mean"][:, j]), math.exp(float(part["log_r"][j]))
        # Beyond, the distribution function of the negative binomial has no digits.
        return stats.poisson(mean) if r > 1e10 else stats.nbinom(r, r / (r + mean))

    def log_interval(self, part: Part, j: int, low: float, high: float) -> Array:
        """Return the log-mass of the whole numbers in an interval."""
        density = self._density(part, j)
        with np.errstate(divide="ignore"):
            mass = np.log(density.cdf(high) - density.cdf(math.ceil(low) - 1))
        found: Array = mass
        return found

    def draw_within(
        self,
        part: Part,
        j: int,
        k: NDArray[np.intp],
        ends: tuple[float, float],
        rng: np.random.RandomState,
    ) -> Array:
        """Draw by the distribution function."""
        density = self._density(part, j)
        low = 0.0 if math.isinf(ends[0]) else math.ceil(ends[0])
        first, last = density.cdf(low - 1)[k], density.cdf(ends[1])[k]
        one = {n: part[n][..., j : j + 1] for n in self.names}
        one["mean"] = one["mean"][torch.as_tensor(k)]
        found = self._density(one, 0).ppf(
            first + rng.uniform(size=len(k)) * (last - first)
        )
        drawn: Array = np.clip(found, low, np.floor(ends[1]))
        return drawn

    def n_parameters(self, K: int) -> int:
        """Return a mean for each density, and a dispersion for each column."""
        return (K + (not self.is_poisson)) * self.n_columns

    def shapes(self, K: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of parameters and constants, by name."""
        c = (self.n_columns,)
        return {"mean": (K, *c), "log_r": c, "centre": c}


def counted(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values that there are (A,), and the weight of each."""
    value, index = values.unique(return_inverse=True)
    return value, torch.zeros_like(value).index_add_(0, index, weight)


class Discrete(Family):
    """Base of the kinds whose cells are one of some values."""

    @abstractmethod
    def _masses(self, part: Part, j: int, low: float, high: float) -> Array:
        """Return masses (K, L) of the values, of which those in an interval count."""

    def log_interval(self, part: Part, j: int, low: float, high: float) -> Array:
        """Return the log-mass of the values in an interval."""
        with np.errstate(divide="ignore"):
            found: Array = np.log(self._masses(part, j, low, high).sum(1))
        return found

    def _drawn_values(
        self,
        part: Part,
        j: int,
        k: NDArray[np.intp],
        ends: tuple[float, float],
        rng: np.random.RandomState,
    ) -> Array:
        """Draw which of the values in an interval, (n,), given components k (n,)."""
        cdf = self._masses(part, j, *ends).cumsum(1)[k]
        at = rng.uniform(size=(len(k), 1)) * cdf[:, -1:]
        which: Array = (cdf <= at).sum(1)
        return which


class Levels(Discrete):
    """Cells that are one of L levels, each with a probability.

    Parameters
    ----------
    n_columns : int
        Number of columns.
    n_levels : int
        Number of levels.
    first : int, default=0
        The first level, after which the others follow.
    is_number : bool, default=False
        Whether levels are numbers, which have a mean.
    """

    is_mass = True
    has_measure = False
    names = ("log_p",)

    def __init__(
        self, n_columns: int, n_levels: int, first: int = 0, *, is_number: bool = False
    ) -> None:
        super().__init__(n_columns)
        self.n_levels, self.first, self.is_number = n_levels, first, is_number
        self.filler = float(first)
        self.n_statistics = 1 if n_levels == 2 else n_levels

    def statistics(self, x: Tensor) -> Tensor:
        """Return which level it is; of two, whether it is the second."""
        x = x - self.first
        if self.n_levels == 2:
            return x[..., None]
        levels = torch.arange(self.n_levels, device=x.device)
        return (x[..., None] == levels).to(x.dtype)

    def slopes(self, part: Part) -> Tensor:
        """Return log-probabilities; of two levels, the log-odds."""
        log_p = part["log_p"]
        return log_p[..., 1:] - log_p[..., :1] if self.n_levels == 2 else log_p

    def offsets(self, part: Part) -> Tensor:
        """Return nothing; of two levels, the log-probability of the first."""
        first = part["log_p"][..., 0]
        return first if self.n_levels == 2 else torch.zeros_like(first)

    def _counts(self, sums: Sums) -> Tensor:
        """Return cells (K, c, L) of each level."""
        if self.n_levels != 2:
            return sums.first
        second = sums.first[..., 0]
        return torch.stack([sums.n - second, second], dim=-1).clamp(min=0)

    def maximise(self, sums: Sums, part: Part | None, prior: Prior) -> Part:
        """Return the shares of the levels, with the prior's cells."""
        assert self.overall is not None
        share, more = shares(self._counts(self.overall)), prior.levels + TINY
        counts = self._counts(sums) + more * share
        p = counts / (sums.n + more)[..., None]
        tiny = torch.finfo(p.dtype).tiny
        return {"log_p": p.clamp(min=tiny).log()}

    @property
    def _numbers(self) -> Tensor:
        return self.first + torch.arange(self.n_levels, dtype=torch.float64)

    def expected(self, part: Part) -> Tensor:
        """Return the mean, or probabilities."""
        p = part["log_p"].exp()
        return p @ self._numbers.to(p) if self.is_number else p.flatten(1)

    def value(self, expected: Tensor) -> Tensor:
        """Return the mean, or the most probable level."""
        if self.is_number:
            return expected
        p: Tensor = expected.unflatten(1, (self.n_columns, self.n_levels))
        return p.argmax(-1).to(expected.dtype)

    def draw(self, part: Part, k: Tensor, generator: torch.Generator) -> Tensor:
        """Draw levels."""
        log_p = part["log_p"]
        return self.first + draw_levels(log_p[k], generator).to(log_p.dtype)

    def _masses(self, part: Part, j: int, low: float, high: float) -> Array:
        """Return masses (K, L) of levels in an interval."""
        numbers = to_array(self._numbers)
        p: Array = to_array(part["log_p"][:, j].exp())
        return p * ((numbers >= low) & (numbers <= high))

    def draw_within(
        self,
        part: Part,
        j: int,
        k: NDArray[np.intp],
        ends: tuple[float, float],
        rng: np.random.RandomState,
    ) -> Array:
        """Draw one of the levels in an interval."""
        which = self._drawn_values(part, j, k, ends, rng)
        found: Array = self.first + which.astype(float)
        return found

    def n_parameters(self, K: int) -> int:
        """Return a probability for all levels but one."""
        return K * self.n_columns * (self.n_levels - 1)

    def shapes(self, K: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of parameters and constants, by name."""
        return {"log_p": (K, self.n_columns, self.n_levels)}


def shares(counts: Tensor) -> Tensor:
    """Return shares of the last dimension, with one more cell that has part of each."""
    L = counts.shape[-1]
    return (counts + 1 / L) / (counts.sum(-1, keepdim=True) + 1)


class Inflated(Discrete):
    """Cells that are one of some values, each with a mass, or have another density.

    Where that density has a mass of its own at a value, a cell there is of either.
    """

    def __init__(self, base: Family, atoms: Any, shared: list[bool]) -> None:
        super().__init__(base.n_columns)
        self.base, self.atoms = base, torch.tensor(atoms, dtype=torch.float64)
        self.shared = [i for i, each in enumerate(shared) if each and base.is_mass]
        self.n_statistics = len(self.atoms) + base.n_statistics
        self.filler, self.is_mass = base.filler, base.is_mass
        self.has_measure, self.counts_all = base.has_measure, base.counts_all
        self.names = ("log_share", *base.names)
        self.taken: dict[int, Tensor] = {}  # cells (c,) at atoms that are the base's
        self.constant_names = base.constant_names

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return cells (n, c) with the filler at atoms, and the atom of each."""
        at = x[..., None] == self.atoms.to(x)
        return torch.where(at.any(-1), self.base.filler, x), at

    def _rest(self, x: Tensor) -> Tensor:
        """Return cells with NaN at atoms."""
        return torch.where(self._split(x)[1].any(-1), torch.nan, x)

    def see(self, x: Tensor) -> None:
        """Find scales of the rest."""
        self.base.see(self._rest(x))
        self.constants = self.base.constants

    def count(self, x: Tensor, weight: Tensor) -> None:
        """Count what may be of the base."""
        at = self._split(x)[1]
        own = [i for i in range(len(self.atoms)) if i not in self.shared]
        self.base.count(torch.where(at[..., own].any(-1), torch.nan, x), weight)
        self.constants = self.base.constants

    def statistics(self, x: Tensor) -> Tensor:
        """Return which atom a cell is, and the statistics of the rest."""
        rest, at = self._split(x)
        others = self.base.statistics(rest) * ~at.any(-1)[..., None]
        return torch.cat([at.to(x.dtype), others], dim=-1)

    def inputs(self, x: Tensor) -> Tensor:
        """Return which atom a cell is, and the rest as the base has it."""
        rest, at = self._split(x)
        others = self.base.inputs(rest) * ~at.any(-1)[..., None]
        return torch.cat([at.to(x.dtype), others], dim=-1)

    def _at_atoms(self, part: Part) -> tuple[Tensor, Tensor]:
        """Return log-masses (K, c, A) of atoms, and what the base has of them."""
        log_share = part["log_share"]
        own, rest = log_share[..., :-1], log_share[..., -1:]
        base = torch.full_like(own, -torch.inf)
        if self.shared:
            cells = self.atoms[self.shared].to(own)[:, None].expand(-1, self.n_columns)
            base[..., self.shared] = rest + self.base.cells(part, cells).mT
        return torch.logaddexp(own, base), base

    def slopes(self, part: Part) -> Tensor:
        """Return log-masses of the atoms in place of the base's."""
        atoms = self._at_atoms(part)[0] - self.offsets(part)[..., None]
        return torch.cat([atoms, self.base.slopes(part)], dim=-1)

    def offsets(self, part: Part) -> Tensor:
        """Return those of the base, and its share."""
        return part["log_share"][..., -1] + self.base.offsets(part)

    def measure(self, part: Part, x: Tensor) -> Tensor:
        """Return that of the base, of cells at no atom."""
        rest, at = self._split(x)
        return torch.where(at.any(-1), 0.0, self.base.measure(part, rest))

    def direct_columns(self, part: Part) -> list[int]:
        """Return those of the base."""
        return self.base.direct_columns(part)

    def direct(self, part: Part, x: Tensor, column: int) -> Tensor:
        """Return those of the base, and zero at atoms."""
        rest, at = self._split(x)
        found = self.base.direct(part, rest, column)
        return torch.where(at[:, column].any(-1)[:, None], 0.0, found)

    def maximise(self, sums: Sums, part: Part | None, prior: Prior) -> Part:
        """Return shares of atoms, and the base's parameters from what is its own."""
        assert self.overall is not None
        whole, self.base.overall = self._divided(self.overall, None)
        own, base = self._divided(sums, part)
        if isinstance(self.base, Counts):
            self.base.recount(self.atoms, self.taken)
        share = shares(torch.cat([whole, self.base.overall.n[..., None]], -1))
        more = prior.levels + TINY
        counts = torch.cat([own, base.n[..., None]], dim=-1) + more * share
        log_share = (counts / counts.sum(-1, keepdim=True)).log()
        return {"log_share": log_share, **self.base.maximise(base, part, prior)}

    def _divided(self, sums: Sums, part: Part | None) -> tuple[Tensor, Sums]:
        """Divide the cells at atoms between these, (K, c, A), and the base."""
        at, others = sums.first.split([len(self.atoms), self.base.n_statistics], -1)
        rest = (sums.n - at.sum(-1)).clamp(min=0)
        if not self.shared:
            return at, Sums(rest, others)
        if part is None:
            taken = 0.5 * at[..., self.shared]
        else:
            log_mass, base = self._at_atoms(part)
            taken = (at * (base - log_mass).exp())[..., self.shared]
        own = at.clone()
        own[..., self.shared] -= taken
        for i, j in enumerate(self.shared):
            self.taken[j] = taken[..., i].sum(0)
        cells = self.atoms[self.shared].to(at)[:, None].expand(-1, self.n_columns)
        more = torch.einsum("kca,acm->kcm", taken, self.base.statistics(cells))
        return own, Sums(rest + taken.sum(-1), others + more)

    def expected(self, part: Part) -> Tensor:
        """Return the mean."""
        share = part["log_share"].exp()
        atoms = share[..., :-1] @ self.atoms.to(share)
        return atoms + share[..., -1] * self.base.value(self.base.expected(part))

    def draw(self, part: Part, k: Tensor, generator: torch.Generator) -> Tensor:
        """Draw an atom or the rest, and then the cell."""
        which = draw_levels(part["log_share"][k], generator)
        drawn = self.base.draw(part, k, generator)
        atoms = self.atoms.to(drawn)
        inside = which.clamp(max=len(atoms) - 1)
        return torch.where(which < len(atoms), atoms[inside], drawn)

    def _masses(self, part: Part, j: int, low: float, high: float) -> Array:
        """Return masses (K, A + 1) of atoms in an interval, and of the rest."""
        share: Array = to_array(part["log_share"][:, j].exp())
        atoms = to_array(self.atoms)
        inside = (atoms >= low) & (atoms <= high)
        rest = np.exp(self.base.log_interval(part, j, low, high))
        return np.column_stack([share[:, :-1] * inside, share[:, -1] * rest])

    def draw_within(
        self,
        part: Part,
        j: int,
        k: NDArray[np.intp],
        ends: tuple[float, float],
        rng: np.random.RandomState,
    ) -> Array:
        """Draw an atom in the interval, or the rest there."""
        which = self._drawn_values(part, j, k, ends, rng)
        found: Array = to_array(self.atoms)[np.minimum(which, len(self.atoms) - 1)]
        rest = which >= len(self.atoms)
        if rest.any():
            found[rest] = self.base.draw_within(part, j, k[rest], ends, rng)
        return found

    def n_parameters(self, K: int) -> int:
        """Return masses of atoms, and the base's."""
        own = K * self.n_columns * len(self.atoms)
        return own + self.base.n_parameters(K)

    def shapes(self, K: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of parameters and constants, by name."""
        own = (K, self.n_columns, len(self.atoms) + 1)
        return {"log_share": own, **self.base.shapes(K)}
