"""Conditions on rows of a table, as conditions on its columns as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skgen._tables.columns import ColumnCode, like
from skgen._tables.conditions import column_number
from skgen._tables.frames import as_table
from skgen._tables.values import Cells, as_objects, cells_of, is_missing


def encoded_given(given: Any, codes: Sequence[ColumnCode], owner: str) -> Any:
    """Return ``given`` of a table as ``read_conditions`` takes it, of numbers.

    Parameters
    ----------
    given : mapping, Series, DataFrame or array-like
        By column: a value, an interval (low, high) with None for no end, or a list or
        set of values. Or rows with missing cells, of which a table may lack columns.
    codes : sequence of ColumnCode
        The columns that were fitted, as numbers.
    owner : str
        Name of the estimator, for errors.

    Returns
    -------
    conditions : dict or ndarray of shape (d,) or (n_rows, d)
        By position: numbers, intervals, lists of numbers. Or rows of numbers.
    """
    if isinstance(given, Mapping):
        return dict(_conditions(given, codes, owner))
    if hasattr(given, "to_dict") and not hasattr(given, "columns"):  # a Series
        return dict(_conditions(given.to_dict(), codes, owner))
    table = as_table(given, owner)
    if hasattr(table, "columns"):
        return _rows(table, codes, owner)
    rows = table if isinstance(table, np.ndarray) else np.array(table, dtype=object)
    if rows.ndim not in (1, 2) or rows.shape[-1] != len(codes):
        raise ValueError(
            f"'given' of {owner} must be a dict of columns, a DataFrame, or rows of "
            f"{len(codes)} columns, NaN or None where nothing is known. Got an array "
            f"of shape {rows.shape}."
        )
    numbers = _rows(np.atleast_2d(rows), codes, owner)
    return numbers if rows.ndim == 2 else numbers[0]


def _names(codes: Sequence[ColumnCode]) -> list[Any]:
    return [code.name for code in codes]


def _rows(table: Any, codes: Sequence[ColumnCode], owner: str) -> NDArray[np.float64]:
    """Return rows (n, d) of numbers, NaN in columns that the table lacks."""
    rows = np.full((len(table), len(codes)), np.nan)
    for cells in cells_of(table):
        j = column_number(cells.name, _names(codes), len(codes), owner)
        rows[:, j] = codes[j].encode(cells, f"'given' of {owner}")
    return rows


def _conditions(
    given: Mapping[Any, Any], codes: Sequence[ColumnCode], owner: str
) -> Iterator[tuple[int, Any]]:
    """Yield what is known of a column, and its position."""
    for column, what in given.items():
        j = column_number(column, _names(codes), len(codes), owner)
        try:
            if isinstance(what, tuple):
                yield j, _interval(what, codes[j], owner)
            elif isinstance(what, list | set | frozenset | np.ndarray):
                yield j, [_number(each, codes[j], owner) for each in what]
            elif not is_missing(as_objects([what])).any():
                yield j, _number(what, codes[j], owner)
        except ValueError as error:
            raise ValueError(
                f"'given' of {owner} has {what!r} for the column {column!r}: {error}"
            ) from error


def _cells(value: Any, code: ColumnCode) -> Cells:
    """Return a value as a cell of its column; levels of time in its ticks."""
    cells, scale = like(code.scale, value), code.scale
    if cells.missing.any():
        raise ValueError(
            "a missing value stands for nothing that is known. Leave it out."
        )
    if code.levels is None or not scale.is_time or not cells.is_time:
        return cells
    ticks = [int(x) * scale.per_unit // cells.per_unit for x in cells.values]
    return cells._replace(values=np.array(ticks))


def _number(value: Any, code: ColumnCode, owner: str) -> float:
    """Return the number of a value of a column."""
    return float(code.encode(_cells(value, code), owner)[0])


def _interval(ends: tuple[Any, ...], code: ColumnCode, owner: str) -> Any:
    """Return an interval of numbers, or the levels between its ends."""
    if len(ends) != 2 or ends == (None, None):
        raise ValueError(
            "an interval is (low, high), with None for one end that is none."
        )
    if code.levels is not None:
        return _levels_between(ends, code, owner)
    low, high = (
        end
        if end is None
        else float(code.seen(code.scale.numbers(_cells(end, code)))[0])
        for end in ends
    )
    if low is not None and high is not None and not low < high:
        raise ValueError("an interval is (low, high) with low < high.")
    return low, high


def _levels_between(ends: tuple[Any, ...], code: ColumnCode, owner: str) -> list[float]:
    """Return the places of the levels from one end to the other."""
    levels: list[Any] = code.levels or []
    if all(isinstance(x, int | float) and type(x) is not bool for x in levels):
        order = levels  # numbers, or ticks of time
        low, high = (e if e is None else _cells(e, code).values[0] for e in ends)
    elif code.kind == "ordinal":
        order = list(range(len(levels)))
        low, high = (e if e is None else _number(e, code, owner) for e in ends)
    else:
        raise ValueError(
            "its levels have no order. Give a list of levels in place of an interval."
        )
    found = [
        float(place)
        for place, level in enumerate(order)
        if (low is None or level >= low) and (high is None or level <= high)
    ]
    if not found:
        raise ValueError(f"none of its levels lies there: {code.levels}.")
    return found
