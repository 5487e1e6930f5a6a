"""Conditions on the rows that are to be drawn: values, intervals, levels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Combinations of levels that are weighed against each other, at most.
MOST_CASES = 10_000


class Conditions(NamedTuple):
    """Conditions on rows of d columns."""

    rows: NDArray[np.float64]  # (r, d): cells that are fixed, NaN for others
    intervals: dict[int, tuple[float, float]]  # by column
    is_table: bool = False  # whether rows are to be completed in their order

    @property
    def are_values(self) -> bool:
        """Return whether each row of conditions is one of values alone."""
        return not self.intervals and (self.is_table or len(self.rows) == 1)


def read_conditions(
    given: Any, names: Sequence[Any] | None, d: int, owner: str
) -> Conditions:
    """Read ``given`` of an estimator of d columns.

    Parameters
    ----------
    given : mapping, array-like, Series or DataFrame
        By column, by name or number: a number, an interval (low, high) with None for
        no end, or a list or set of levels. Or rows, NaN where nothing is known: one, or
        several that are each completed; columns that a table lacks are not known.
    names : sequence or None
        Names of the columns, where there are any.
    d : int
        Number of columns.
    owner : str
        Name of the estimator, for errors.
    """
    if isinstance(given, Mapping) or hasattr(given, "to_dict"):
        return _of_columns(given, names, d, owner)
    rows = np.asarray(given, dtype=np.float64)
    if rows.ndim not in (1, 2) or rows.shape[-1] != d:
        raise ValueError(
            f"'given' of {owner} must be a dict of columns, or rows of {d} columns, "
            f"NaN where nothing is known. Got an array of shape {rows.shape}."
        )
    return Conditions(np.atleast_2d(rows), {}, is_table=rows.ndim == 2)


def column_numbers(
    columns: Iterable[Any], names: Sequence[Any] | None, d: int, owner: str
) -> list[int]:
    """Return the positions of columns that are given by name or position."""
    if isinstance(columns, str):
        columns = [columns]
    return [column_number(column, names, d, owner) for column in columns]


def column_number(column: Any, names: Sequence[Any] | None, d: int, owner: str) -> int:
    """Return the position of a column that is given by name or position."""
    known = [] if names is None else list(names)
    if column in known:
        return known.index(column)
    is_position = isinstance(column, Integral) and -d <= int(column) < d
    if is_position and all(isinstance(name, str) for name in known):
        return int(column) % d
    among = f": {known}" if known else f", which are numbered from 0 to {d - 1}"
    raise ValueError(
        f"'given' of {owner} has the column {column!r}, which is not among those that "
        f"were fitted{among}."
    )


def _of_columns(
    given: Any, names: Sequence[Any] | None, d: int, owner: str
) -> Conditions:
    """Read a dict, a Series or a DataFrame by its columns."""
    if hasattr(given, "columns"):  # a table
        rows = np.full((len(given), d), np.nan)
        for column in given.columns:
            cells = np.asarray(given[column], dtype=np.float64)
            rows[:, column_number(column, names, d, owner)] = cells
        return Conditions(rows, {}, is_table=True)
    items = given.items() if isinstance(given, Mapping) else given.to_dict().items()
    fixed, intervals = dict[int, list[float]](), dict[int, tuple[float, float]]()
    for column, what in items:
        j = column_number(column, names, d, owner)
        if isinstance(what, tuple):
            intervals[j] = _interval(what, column, owner)
        elif isinstance(what, (list, set, frozenset, np.ndarray)):
            fixed[j] = sorted({_value(each, column, owner) for each in what})
        elif not _is_unknown(what):
            fixed[j] = [_value(what, column, owner)]
    return Conditions(_cases(fixed, d, owner), intervals)


def _cases(
    fixed: Mapping[int, Sequence[float]], d: int, owner: str
) -> NDArray[np.float64]:
    """Write all combinations of levels as rows (C, d)."""
    n_cases = math.prod(map(len, fixed.values()))
    if not 0 < n_cases <= MOST_CASES:
        raise ValueError(
            f"'given' of {owner} has {n_cases} combinations of levels; there must be "
            f"between 1 and {MOST_CASES}. Use intervals, or fewer levels."
        )
    rows = np.full((n_cases, d), np.nan)
    rows[:, list(fixed)] = list(product(*fixed.values()))
    return rows


def _is_unknown(value: Any) -> bool:
    return value is None or (isinstance(value, Real) and math.isnan(value))


def _value(value: Any, column: Any, owner: str) -> float:
    if not isinstance(value, Real) or not math.isfinite(value):
        words = " skgen.MixedDensity takes words." if isinstance(value, str) else ""
        raise ValueError(
            f"'given' of {owner} has {value!r} for the column {column!r}. It must be a "
            f"finite number, an interval (low, high), or a list of numbers.{words}"
        )
    return float(value)


def _interval(ends: tuple[Any, ...], column: Any, owner: str) -> tuple[float, float]:
    infinite = (-math.inf, math.inf)
    if len(ends) == 2:
        low, high = (e if v is None else v for v, e in zip(ends, infinite))
        if isinstance(low, Real) and isinstance(high, Real) and low < high:
            return float(low), float(high)
    raise ValueError(
        f"'given' of {owner} has the interval {ends!r} for the column {column!r}. It "
        "must be (low, high) with low < high, or None for no end."
    )
