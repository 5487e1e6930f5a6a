"""Names of the kinds of columns in ``Mixed``, and the values they take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skgen._utils.parameters import integer, real
from skgen.likelihoods.atoms import Inflated
from skgen.likelihoods.intervals import Bounded, Ordinal, Whole
from skgen.likelihoods.kinds import Count, Kind, Levels, Positive, Real

#: A name, a number of levels, or a tuple of a name and its options.
Spec = str | int | tuple[Any, ...]

NAMED: dict[str, type[Real | Positive | Count]] = {
    "real": Real,
    "positive": Positive,
    "count": Count,
}
MAX_LEVELS, MAX_COUNT = 2**16, 1e12


def build(spec: Spec, n_columns: int) -> Kind:
    """Make the density of columns of a kind."""
    match spec:
        case int():
            return Levels(n_columns, spec)
        case "ordinal", n_levels:
            return Ordinal(n_columns, n_levels)
        case "bounded", low, high:
            return Bounded(n_columns, low, high)
        case "whole", low, high:
            return Whole(n_columns, low, high)
        case "inflated", base, atoms:
            shared = ~outside(np.array(atoms), base)
            return Inflated(n_columns, build(base, n_columns), atoms, shared.tolist())
    return NAMED[str(spec)](n_columns)


def checked(spec: Any) -> Spec:
    """Return a kind in plain values; a ValueError for what is none."""
    found = _read(list(spec) if isinstance(spec, tuple | list) else [spec])
    if found is None:
        names = ", ".join(repr(name) for name in NAMED)
        raise ValueError(
            f"The 'kinds' parameter of Mixed must be a sequence of {names}, numbers of "
            f"levels, ints in the range [1, {MAX_LEVELS}], ('ordinal', n_levels), "
            "('bounded', low, high), ('whole', low, high) with low < high, and "
            f"('inflated', kind, values). Got {spec!r} in it."
        )
    return found


def _read(parts: list[Any]) -> Spec | None:
    match parts:
        case [str(name)] if name in NAMED:
            return name
        case [n_levels] if _is_level_count(n_levels):
            return int(n_levels)
        case ["ordinal", n_levels] if _is_level_count(n_levels):
            return "ordinal", int(n_levels)
        case ["bounded", low, high] if _is_interval(low, high):
            return "bounded", float(low), float(high)
        case ["whole", low, high] if _is_interval(low, high) and _are_whole(low, high):
            return "whole", float(low), float(high)
        case ["inflated", base, list() | tuple() as atoms] if _are_atoms(atoms):
            kind = _read(list(base) if isinstance(base, tuple | list) else [base])
            can_be = kind in NAMED or (isinstance(kind, tuple) and kind[0] in INTERVALS)
            return ("inflated", kind, tuple(map(float, atoms))) if can_be else None
    return None


# Kinds of numbers within an interval.
INTERVALS = ("bounded", "whole")


def _is_level_count(value: Any) -> bool:
    return integer(1, MAX_LEVELS).accepts(value)


def _is_interval(low: Any, high: Any) -> bool:
    number = real(-math.inf, math.inf, closed="both")
    are_numbers = number.accepts(low) and number.accepts(high)
    return are_numbers and low < high and (math.isfinite(low) or math.isfinite(high))


def _are_whole(*ends: float) -> bool:
    return all(math.isinf(end) or float(end).is_integer() for end in ends)


def _are_atoms(atoms: Any) -> bool:
    rule = real(-math.inf, math.inf, closed="neither")
    different = len(set(atoms)) == len(atoms) > 0
    return different and all(rule.accepts(each) for each in atoms)


def outside(x: NDArray[Any], spec: Spec) -> NDArray[np.bool_]:
    """Which cells (n,) are there, and outside the support."""
    match spec:
        case "real":
            wrong = np.zeros(len(x), dtype=bool)
        case "positive":
            wrong = x <= 0
        case "count":
            wrong = _no_whole(x, 0, MAX_COUNT)
        case int():
            wrong = _no_whole(x, 0, spec - 1)
        case "ordinal", n_levels:
            wrong = _no_whole(x, 0, n_levels - 1)
        case "bounded", low, high:
            wrong = (x < low) | (x > high)
        case "whole", low, high:
            wrong = _no_whole(x, low, high)
        case "inflated", base, atoms:
            wrong = outside(x, base) & ~np.isin(x, atoms)
    found: NDArray[np.bool_] = wrong & ~np.isnan(x)
    return found


def _no_whole(x: NDArray[Any], low: float, high: float) -> NDArray[np.bool_]:
    return np.asarray((x < low) | (x > high) | (x != np.floor(x)))


def check_cells(X: NDArray[Any], kinds: Sequence[Spec], owner: str) -> None:
    """Raise a ValueError for cells outside the support of their column."""
    if X.shape[1] != len(kinds):
        raise ValueError(
            f"X has {X.shape[1]} features, but {owner} has a likelihood of "
            f"{len(kinds)} kinds of columns: give one kind for each."
        )
    for column, (x, kind) in enumerate(zip(X.T, kinds)):
        wrong = outside(x, kind)
        if wrong.any():
            raise ValueError(
                f"Column {column} of X is of the kind {kind!r} for {owner}, which "
                f"has {support(kind)}, but it has the value "
                f"{x[np.argmax(wrong)]!s}. Give the column another kind, or NaN "
                "for a value that is missing."
            )


def support(spec: Spec) -> str:
    """Say which values a column of a kind has."""
    match spec:
        case "real":
            return "all numbers"
        case "positive":
            return "values above 0"
        case "count":
            return "whole numbers from 0 to 1e12"
        case int():
            return f"the levels 0 to {spec - 1}"
        case "ordinal", n_levels:
            return f"the levels 0 to {n_levels - 1}"
        case "bounded", low, high:
            return f"values from {low:.10g} to {high:.10g}"
        case "whole", low, high:
            return f"whole numbers from {low:.10g} to {high:.10g}"
        case "inflated", base, atoms:
            shown = ", ".join(f"{atom:.10g}" for atom in atoms[:5])
            return f"the values {shown}, and {support(base)}"
    raise ValueError(f"{spec!r} is no kind of column")


def is_whole_kind(spec: Spec) -> bool:
    """Return whether cells of a kind of numbers are whole, each with a mass."""
    name, *more = spec if isinstance(spec, tuple) else (spec,)
    return is_whole_kind(more[0]) if name == "inflated" else name in ("count", "whole")


def limits(spec: Spec) -> tuple[float, float]:
    """Return the least and the largest value of a column of a kind of numbers."""
    match spec:
        case "positive" | "count":
            return 0.0, math.inf
        case "bounded" | "whole", low, high:
            return low, high
        case "inflated", base, atoms:
            low, high = limits(base)
            return min(low, *atoms), max(high, *atoms)
    return -math.inf, math.inf
