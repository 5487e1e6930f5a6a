"""Columns of several tables on one scale: numbers as they are, levels as codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skgen._tables.frames import Columns, as_table
from skgen._tables.values import Cells, cells_of

Array = NDArray[np.float64]

# Whole numbers are levels where they have so few different values, each of them seen
# so many times in the mean.
MOST_NUMBERS, CELLS_PER_NUMBER = 20, 5


class AlignedColumn(NamedTuple):
    """A column of several tables: numbers, days, seconds, or places of levels."""

    name: Any
    is_level: bool
    tables: list[Array]  # (n,) of each table, NaN where missing


def aligned_columns(tables: Mapping[str, Any], owner: str) -> list[AlignedColumn]:
    """Read tables of the same columns, in the order of the first.

    Parameters
    ----------
    tables : mapping of str to DataFrames or arrays of shape (n, d)
        Tables by what errors call them. Columns of DataFrames are found by their names,
        those of arrays by their places.
    owner : str
        What compares them, for errors.
    """
    read = [[*cells_of(X)] for X in _in_one_order(tables, owner)]
    return [_aligned(list(tables), cells) for cells in zip(*read)]


def checked_table(X: Any, name: str, owner: str, min_rows: int) -> Any:
    """Return a DataFrame or an array of some rows and columns; else a ValueError."""
    X = as_table(X, owner)
    if len(X.shape) != 2 or not X.shape[1] or len(X) < min_rows:
        raise ValueError(
            f"The '{name}' parameter of {owner} must be a table of {min_rows} rows or "
            f"more, and of a column or more. Got the shape {tuple(X.shape)}."
        )
    return X


def _in_one_order(tables: Mapping[str, Any], owner: str) -> list[Any]:
    """Return tables with their columns in the order of the first."""
    (name, first), *_ = tables.items()
    columns = Columns.of(first)
    ordered = []
    for other, X in tables.items():
        if X.shape[1] != first.shape[1]:
            raise ValueError(
                f"{owner} compares tables of the same columns, but {name} has "
                f"{first.shape[1]} and {other} has {X.shape[1]}"
                f"{_differences(columns, Columns.of(X), name, other)}."
            )
        theirs = Columns.of(X)
        if columns is None or theirs is None:
            ordered.append(X)
            continue
        if set(theirs.names) != set(columns.names):
            raise ValueError(
                f"{owner} compares tables of the same columns"
                f"{_differences(columns, theirs, name, other)}."
            )
        ordered.append(X[columns.names])
    return ordered


def _differences(
    columns: Columns | None, others: Columns | None, name: str, other: str
) -> str:
    """Say which columns one of two tables lacks, where both have names."""
    if columns is None or others is None:
        return ""
    lacking = [each for each in columns.names if each not in others.names]
    more = [each for each in others.names if each not in columns.names]
    words = [f"{other} lacks {lacking[:5]}"] * bool(lacking)
    words += [f"{name} lacks {more[:5]}"] * bool(more)
    return ": " + ", and ".join(words)


def _aligned(owners: Sequence[str], cells: Sequence[Cells]) -> AlignedColumn:
    """Read a column of all tables by the kind that it has in the first."""
    kinds = [_kind(each) for each in cells]
    kind = next(filter(None, kinds), "numbers")
    if kind == "levels":
        return AlignedColumn(cells[0].name, True, _codes(cells))
    for owner, other in zip(owners, kinds):
        if other not in (kind, ""):
            raise ValueError(
                f"Column {cells[0].name!r} has {kind} in {owners[0]}, but {other} in "
                f"{owner}. Give it the same dtype in both."
            )
    numbers = [_numbers(each, owner) for each, owner in zip(cells, owners)]
    if kind == "numbers" and _are_levels(numbers[0]):
        return AlignedColumn(cells[0].name, True, _places(numbers))
    return AlignedColumn(cells[0].name, False, numbers)


def _kind(cells: Cells) -> str:
    """Return what the values of a column are; nothing where there is none."""
    if cells.missing.all():
        return ""
    if cells.is_time:
        return "durations" if cells.is_duration else "dates"
    return "levels" if cells.form == "object" else "numbers"


def _numbers(cells: Cells, owner: str) -> Array:
    """Numbers (n,), days of dates, seconds of durations; NaN where missing."""
    x = np.full(len(cells.values), np.nan)
    x[~cells.missing] = cells.seen.astype(np.float64) / max(1, cells.per_unit)
    if np.isinf(x).any():
        raise ValueError(
            f"Column {cells.name!r} of {owner} contains infinity. Give NaN for a value "
            "that is missing."
        )
    return x


def _are_levels(x: Array) -> bool:
    """Return whether numbers (n,) are a few whole ones, each of them repeated."""
    seen = x[~np.isnan(x)]
    values = np.unique(seen)
    is_whole = bool((values == np.round(values)).all())
    enough = len(seen) >= CELLS_PER_NUMBER * len(values)
    return is_whole and enough and len(values) <= MOST_NUMBERS


def _places(tables: Sequence[Array]) -> list[Array]:
    """Places of numbers among all that are seen, NaN where missing."""
    values = np.unique(np.concatenate([x[~np.isnan(x)] for x in tables]))
    return [np.where(np.isnan(x), np.nan, np.searchsorted(values, x)) for x in tables]


def _codes(tables: Sequence[Cells]) -> list[Array]:
    """Places of levels among all that are seen, sorted; NaN where missing."""
    levels = _sorted({value for cells in tables for value in cells.seen.tolist()})
    places = {level: float(i) for i, level in enumerate(levels)}
    codes = []
    for cells in tables:
        code = np.full(len(cells.values), np.nan)
        code[~cells.missing] = [places[value] for value in cells.seen.tolist()]
        codes.append(code)
    return codes


def _sorted(levels: set[Any]) -> list[Any]:
    """Sort levels, by their types and names where they have no order."""
    try:
        return sorted(levels)
    except TypeError:
        return sorted(levels, key=lambda level: (type(level).__name__, str(level)))
