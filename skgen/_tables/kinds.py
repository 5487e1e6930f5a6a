"""The kind of a column, guessed: the likelihoods of kinds that it could be.

Kinds are compared under one base measure: masses of whole numbers, or densities. A
likelihood pays log(n) / 2 for each parameter (Schwarz's criterion), and among these are
ends of an interval that are read off the column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import gammaln, log_expit, log_ndtr, xlogy

from skgen.likelihoods.kinds import negative_binomial_log_prob
from skgen.likelihoods.specs import MAX_COUNT, Spec, is_whole_kind, limits

Array = NDArray[np.float64]

# Logarithm of the largest over the least value of a positive column: beyond, float32
# has no room for both.
MAX_LOG_SPAN = 80.0
# Least standard deviation of logarithms, and of counts as a part of their mean: of
# less, float32 has few digits, and a normal density fits as well.
LEAST_LOG_SPREAD, LEAST_COUNT_SPREAD = 0.02, 1e-3
# Times that a value must be seen to be a level, or the end of a range, of numbers.
FIRM = 3
# Cells for each different value, in the mean, from which on floats that are whole, or
# few, are taken for a scale and not for rounded numbers.
CELLS_PER_LEVEL = 10
# Part of the cells of a scale that rare values may have.
MOST_RARE = 0.05
# Levels that numbers may be, at most.
MOST_LEVELS = 128
# A value is an atom when it is seen so many times, so large a part of all cells, and so
# much more often than the values beside it.
ATOM_CELLS, ATOM_SHARE, ATOM_RATIO, NEIGHBOURS, MOST_ATOMS = 6, 0.01, 5, 5, 16
# Largest number whose square is finite, with room for sums.
LARGEST = 1e150
# Nats by which an interval must better a density without ends, since later rows may be
# outside; and the natural intervals that are tried.
MARGIN = 3.0
NATURAL = (
    (0.0, 1.0),
    (0.0, 100.0),
    (-1.0, 0.0),
    (-1.0, 1.0),
    (-100.0, 0.0),
    (0.0, math.inf),
    (-math.inf, 0.0),
)
# Where scales of whole numbers end that begin with 0 or 1: marks, days, months, hours.
NATURAL_TOPS = (4.0, 5.0, 6.0, 7.0, 10.0, 12.0, 23.0, 24.0, 31.0, 59.0, 100.0)
# Variance of whole numbers from which on a density at them is their mass.
SMOOTH = 25.0
# Different values that a fit of a density is computed from, at most.
MOST_VALUES = 1000


class Guess(NamedTuple):
    """Kind that a column of numbers is taken for."""

    kind: str
    spec: Spec = ""  # what ``Mixed`` calls it; none where there are levels
    levels: tuple[float, ...] = ()


class Fit(NamedTuple):
    """A guess, and its log-likelihood less what its parameters cost."""

    score: float
    guess: Guess


class Values(NamedTuple):
    """Different values (K,), ascending, and how often each is seen."""

    x: Array
    counts: Array

    @classmethod
    def of(cls, x: Array) -> Values:
        """Count the values of a column."""
        values, counts = np.unique(x, return_counts=True)
        return cls(values, counts.astype(np.float64))

    @property
    def n(self) -> float:
        """Number of cells."""
        return float(self.counts.sum())

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest value."""
        return float(self.x[0]), float(self.x[-1])

    @property
    def mean(self) -> float:
        """Mean of the cells."""
        return float(np.average(self.x, weights=self.counts))

    @property
    def variance(self) -> float:
        """Variance of the cells."""
        return float(np.average((self.x - self.mean) ** 2, weights=self.counts))

    def take(self, index: Any) -> Values:
        """Select some of the values."""
        return Values(self.x[index], self.counts[index])

    def total(self, log_prob: Array) -> float:
        """Log-likelihood of the log-density at each value."""
        return float(self.counts @ log_prob)

    def cost(self, n_parameters: float) -> float:
        """Nats that parameters cost."""
        return 0.5 * n_parameters * math.log(self.n)

    def thinned(self) -> Values:
        """Return quantiles of many values, that stand for all."""
        if len(self.x) <= MOST_VALUES:
            return self
        places = (np.arange(MOST_VALUES) + 0.5) / MOST_VALUES * self.n
        index = np.searchsorted(self.counts.cumsum(), places)
        return Values(self.x[index], np.full(MOST_VALUES, self.n / MOST_VALUES))


def guessed(x: Array, *, is_whole: bool) -> Guess:
    """Guess the kind of numbers.

    Parameters
    ----------
    x : ndarray of shape (n,)
        The cells that are there.
    is_whole : bool
        Whether they are integers by their dtype.
    """
    values = Values.of(x)
    low, high = values.ends
    if low == high or max(-low, high) > LARGEST:  # which are refused later
        return Guess("real", "real")
    if len(values.x) == 2 and _is_binary(values):
        return Guess("binary", levels=tuple(values.x.tolist()))
    if is_whole or _are_few_and_whole(values):
        fits = [*_whole_fits(values), *_inflated_fits(values, _whole_fits)]
    else:
        fits = [*_inflated_fits(values, _density_fits)] or [*_density_fits(values)]
        fits = [*_few_levels(values)] or fits
    return max(fits, key=lambda fit: fit.score).guess


def natural_interval(x: Array) -> tuple[float, float]:
    """Return the narrowest natural interval of a column, or else its own."""
    low, high = float(x.min()), float(x.max())
    for first, last in NATURAL:
        if _fits_in(low, high, first, last) and math.isfinite(last - first):
            return first, last
    return low, high


def _fits_in(low: float, high: float, first: float, last: float) -> bool:
    """Say whether a range is within an interval, and takes much of its width."""
    width = last - first
    is_wide = math.isinf(width) or high - low > 0.25 * width
    return first <= low and high <= last and is_wide


def _is_binary(values: Values) -> bool:
    """Two numbers are no accident if both are repeated, or are 0 and 1."""
    return values.counts.min() >= FIRM or values.ends == (0.0, 1.0)


def _are_few_and_whole(values: Values) -> bool:
    is_whole = (values.x == np.floor(values.x)).all()
    return bool(is_whole and values.n >= CELLS_PER_LEVEL * len(values.x))


# Whole numbers: masses.


def _whole_fits(values: Values) -> Iterator[Fit]:
    """Fit the kinds of whole numbers, those without ends first."""
    low, high = values.ends
    is_wide = math.sqrt(values.variance) >= LEAST_COUNT_SPREAD * abs(values.mean)
    may_be_counts = low >= 0 and high <= MAX_COUNT and is_wide
    if may_be_counts:
        n_parameters, log_prob = _count_log_prob(values)
        score = values.total(log_prob) - values.cost(n_parameters)
        yield Fit(score, Guess("count", "count"))
    score = _normal_mass(values) - values.cost(2) - MARGIN * may_be_counts
    yield Fit(score, Guess("real", "real"))
    if low >= 0 or high <= 0:
        ends = (0.0, math.inf) if low >= 0 else (-math.inf, 0.0)
        score = _truncated(values, *ends, margin=0.5) - values.cost(2)
        yield Fit(score - MARGIN, Guess("bounded", ("whole", *ends)))
    if low > 0 and values.variance > SMOOTH:
        yield from _log_normal(values)
    firm = _firm_ends(values)
    if firm is not None:
        score = _truncated(values, *firm, margin=0.5) - values.cost(4)
        yield Fit(score - MARGIN, Guess("bounded", ("whole", *firm)))
    for fit in _ordinal_fit(values, is_firm=firm is not None):
        yield fit._replace(score=fit.score - MARGIN)


def _firm_ends(values: Values) -> tuple[float, float] | None:
    """Return the range of whole numbers whose ends are seen time and again."""
    (low, high), counts = values.ends, values.counts
    is_natural = low in (0.0, 1.0)
    is_low = counts[0] >= FIRM or is_natural
    is_high = counts[-1] >= FIRM or (is_natural and high in NATURAL_TOPS)
    return (low, high) if is_low and is_high else None


def _ordinal_fit(values: Values, *, is_firm: bool) -> Iterator[Fit]:
    """Fit ordered levels: of a lattice of firm ends all, of others those repeated."""
    low, high = values.ends
    step = float(np.gcd.reduce(np.diff(values.x).astype(np.int64)))
    n_lattice, n_seen = (high - low) / step + 1, len(values.x)
    is_dense = n_lattice <= 2 * n_seen
    if is_dense and is_firm and n_lattice <= MOST_LEVELS:
        levels = low + step * np.arange(int(n_lattice), dtype=np.float64)
    elif not is_dense and n_seen <= MOST_LEVELS and _are_repeated(values):
        levels = values.x
    else:
        return
    yield _levels_fit(values, "ordinal", levels)


def _are_repeated(values: Values) -> bool:
    """Say whether nearly all cells are at values that are seen time and again."""
    is_firm = values.counts >= FIRM
    is_most = values.counts[is_firm].sum() >= (1 - MOST_RARE) * values.n
    return bool(is_most and (is_firm.sum() > 1 or is_firm.all()))


def _levels_fit(values: Values, kind: str, levels: Array) -> Fit:
    score = values.total(np.log(values.counts / values.n))
    cost = values.cost(len(levels) - 1)
    return Fit(score - cost, Guess(kind, levels=tuple(levels.tolist())))


def _normal_mass(values: Values) -> float:
    """Log-likelihood of whole numbers under a normal density, rounded."""
    scale = math.sqrt(values.variance + 1e-12)
    a, b = ((values.x + end - values.mean) / scale for end in (-0.5, 0.5))
    is_above = a > 0  # the tail on the other side has the digits
    a, b = np.where(is_above, -b, a), np.where(is_above, -a, b)
    upper, lower = log_ndtr(b), log_ndtr(a)
    mass = upper + np.log(-np.expm1(np.minimum(lower - upper, -1e-300)))
    return values.total(np.maximum(mass, -700.0))


def _count_log_prob(values: Values) -> tuple[int, Array]:
    """Return the number of parameters and the log-mass of the best counts."""
    x, mean, excess = values.x, values.mean, values.variance - values.mean
    poisson = np.asarray(xlogy(x, mean) - mean - gammaln(x + 1))
    if values.ends[0] < 0 or excess <= 0:
        return 1, poisson

    def log_prob(x: Array, log_r: float) -> Array:
        numbers = (torch.from_numpy(x), torch.tensor(mean), torch.tensor(log_r).exp())
        found: Array = negative_binomial_log_prob(
            *(n.double() for n in numbers)
        ).numpy()
        return found

    few, log_r = values.thinned(), math.log(mean**2 / excess)
    best = minimize_scalar(
        lambda log_r: -few.total(log_prob(few.x, log_r)),
        (log_r - 1, log_r),
        tol=1e-3,
    )
    found = log_prob(x, float(best.x))
    return (2, found) if values.total(found) > values.total(poisson) else (1, poisson)


# Numbers of any kind: densities.


def _density_fits(values: Values) -> Iterator[Fit]:
    """Fit the kinds of real numbers, those without ends first."""
    low, high = values.ends
    free = [*_free_fits(values)]
    yield from free
    best = max(fit.score for fit in free)
    found: dict[tuple[float, float], float] = {}

    def score(first: float, last: float) -> float:
        ends = first, last
        if ends not in found:
            found[ends] = _truncated(values, first, last) - values.cost(2)
        return found[ends]

    for first, last in NATURAL:
        if _fits_in(low, high, first, last):
            # Each end has to earn its keep: later rows may be beyond it.
            wider = {(-math.inf, math.inf), (first, math.inf), (-math.inf, last)}
            rivals = [score(*ends) for ends in wider - {(first, last)}]
            if score(first, last) > max(best, *rivals) + MARGIN:
                yield Fit(
                    score(first, last), Guess("bounded", ("bounded", first, last))
                )


def _free_fits(values: Values) -> Iterator[Fit]:
    """Fit the densities that have no ends, but for one that is zero."""
    yield Fit(_normal(values) - values.cost(2), Guess("real", "real"))
    if values.ends[0] > 0:
        yield from _log_normal(values)


def _few_levels(values: Values) -> Iterator[Fit]:
    """Take few values, nearly all cells at repeated ones, for levels."""
    n_levels = len(values.x)
    if values.n >= CELLS_PER_LEVEL * n_levels and _are_repeated(values):
        log_step = math.log(np.diff(values.x).min())
        fit = _levels_fit(values, "ordinal", values.x)
        rivals = [fit.score + values.n * log_step for fit in _free_fits(values)]
        if n_levels <= MOST_LEVELS and fit.score > max(rivals):
            yield fit


def _normal(values: Values) -> float:
    variance = max(values.variance, 1e-300)
    return -0.5 * values.n * (math.log(2 * math.pi * variance) + 1)


def _log_normal(values: Values) -> Iterator[Fit]:
    """Fit a log-normal density to numbers above 0."""
    low, high = values.ends
    logarithms = Values(np.log(values.x), values.counts)
    is_wide = logarithms.variance >= LEAST_LOG_SPREAD**2
    if is_wide and math.log(high / low) < MAX_LOG_SPAN:
        score = _normal(logarithms) - values.total(logarithms.x) - values.cost(2)
        yield Fit(score, Guess("positive", "positive"))


def _truncated(values: Values, low: float, high: float, margin: float = 0.0) -> float:
    """Log-likelihood under the best logistic density on an interval.

    With a margin, of whole numbers: of the intervals of this size on both sides.
    """
    few = values.thinned()
    centre, spread = few.mean, math.sqrt(few.variance)
    if not 0 < spread < math.inf:  # squares leave the range of floats
        return -math.inf
    x, ends = (few.x - centre) / spread, (np.array([low, high]) - centre) / spread
    half = margin / spread
    ends = (ends + np.array([-half, half])).clip(-1e6, 1e6)

    def loss(parameters: Array) -> float:
        mean, scale = parameters[0], math.exp(min(max(parameters[1], -7.0), 7.0))
        whole = _log_interval(*((ends - mean) / scale))
        v = (x - mean) / scale
        if margin:
            inside = _log_interval(v - half / scale, v + half / scale)
        else:
            inside = log_expit(v) + log_expit(-v) - math.log(scale * spread)
        return -few.total(inside - whole)

    starts = [np.array([m, s]) for m in (-2.0, 0.0, 2.0) for s in (-0.6, 2.0)]
    start = min(starts, key=loss)
    found = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 60})
    return -float(found.fun)


def _log_interval(a: Any, b: Any) -> Any:
    """log(F(b) - F(a)), F the logistic function."""
    return log_expit(b) + log_expit(-a) + np.log(-np.expm1(a - b))


# Atoms.


def _inflated_fits(
    values: Values, fits: Callable[[Values], Iterator[Fit]]
) -> Iterator[Fit]:
    """Fit the kinds of numbers to what is left beside atoms, where there are any."""
    is_atom = atoms_of(values)
    rest = values.take(~is_atom)
    if not is_atom.any() or rest.n < 2 or len(rest.x) < 3:
        return
    counts = np.array([*values.counts[is_atom], rest.n])
    shares = float(counts @ np.log(counts / values.n))
    atoms = tuple(values.x[is_atom].tolist())
    for fit in fits(rest):
        base = _base(fit.guess, rest, atoms)
        if base is not None:
            score = fit.score + shares - values.cost(len(atoms))
            yield Fit(score, Guess("inflated", ("inflated", base, atoms)))


def _base(guess: Guess, rest: Values, atoms: tuple[float, ...]) -> Spec | None:
    """Return the density of the rest, within atoms that are its ends.

    Zero is one, and others are where no atom is inside: then values repeat since they
    are cut off there, and not since the column is rounded.
    """
    if guess.levels:
        return None
    (low, high), (least, most) = limits(guess.spec), rest.ends
    is_cut = not any(least < atom < most for atom in atoms)
    ends = [atom for atom in atoms if is_cut or atom == 0]
    first = max([low, *(atom for atom in ends if atom < least)])
    last = min([high, *(atom for atom in ends if atom > most)])
    if (first, last) == (low, high):
        return guess.spec
    return ("whole" if is_whole_kind(guess.spec) else "bounded", first, last)


def atoms_of(values: Values) -> NDArray[np.bool_]:
    """Return which values (K,) are seen far more often than those beside them."""
    counts, n_values = values.counts, len(values.x)
    is_atom = counts >= max(ATOM_CELLS, ATOM_SHARE * values.n)
    for i in np.flatnonzero(is_atom):
        start = max(0, min(int(i) - NEIGHBOURS, n_values - 2 * NEIGHBOURS - 1))
        beside = np.delete(counts[start : start + 2 * NEIGHBOURS + 1], i - start)
        is_atom[i] = counts[i] >= ATOM_RATIO * np.median(beside)
    if is_atom.sum() > MOST_ATOMS:
        is_atom &= counts >= np.sort(counts[is_atom])[-MOST_ATOMS]
    return np.asarray(is_atom)
