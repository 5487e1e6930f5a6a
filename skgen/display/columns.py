"""Columns of tables as pictures draw them: numbers, dates and levels."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from decimal import Decimal
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skgen._tables.values import is_missing
from skgen.display.drawing import (
    MOST_GROUPS,
    SCALE_DRAWS,
    check_columns,
    feature_names_of,
    last_step,
)

Array = NDArray[Any]

# Seconds of the units that durations are drawn in, the longest first.
UNITS = {"days": 86400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0}
# Levels of a column that a picture shows, the most common ones.
MOST_LEVELS = 12


class Feature(NamedTuple):
    """A column of one or several tables, as places along an axis.

    Numbers are their own places, dates are matplotlib's days since 1970, and levels
    are at their positions among ``levels``. Missing cells are NaN.
    """

    name: str
    kind: str  # "number", "date" or "level"
    levels: list[str]
    tables: list[Array]  # (n,) of each table

    def seen(self, table: int) -> Array:
        """Return the places in a table that are finite."""
        x = self.tables[table]
        return x[np.isfinite(x)]

    @property
    def everything(self) -> Array:
        """Finite places in all tables."""
        return np.concatenate([self.seen(i) for i in range(len(self.tables))])

    def common_levels(self, most: int = MOST_LEVELS) -> list[int]:
        """Return the most common levels of all tables, in their order."""
        counts = np.zeros(len(self.levels))
        for i in range(len(self.tables)):
            x = self.seen(i).astype(int)
            counts += np.bincount(x, minlength=len(counts)) / max(len(x), 1)
        order = np.argsort(-counts, kind="stable")[:most]
        return sorted(order[counts[order] > 0].tolist())


def features_of(
    tables: Sequence[Any],
    names: Sequence[str] | None = None,
    levels: Sequence[Sequence[Any] | None] | None = None,
    chosen: Iterable[int] | None = None,
) -> list[Feature]:
    """Read columns of tables by the dtype of what is in them.

    Parameters
    ----------
    tables : sequence of DataFrames or arrays of shape (n, d)
        Tables with the same columns.
    names : sequence of str, default=None
        Names of the columns; ``None`` is those of the first table.
    levels : sequence of sequences or None, default=None
        Levels of each column in their order; None where the values say.
    chosen : iterable of int, default=None
        Columns that are read; ``None`` is all.
    """
    d = tables[0].shape[1]
    names = names or names_of(tables[0])
    return [
        _feature(
            names[j],
            [_column(table, j) for table in tables],
            levels[j] if levels else None,
        )
        for j in (range(d) if chosen is None else chosen)
    ]


def labels_of(y: Any) -> Feature:
    """Read labels (n,): levels of a few whole numbers, too, else as a column."""
    shape = np.shape(y)
    if len(shape) != 1 and shape[1:] != (1,):
        raise ValueError(f"y must hold one label for each row. Got the shape {shape}.")
    if len(shape) == 2:
        column = _column(y if hasattr(y, "columns") else np.asarray(y), 0)
    else:
        column = _read(y if hasattr(y, "to_numpy") else np.asarray(y))
    seen = column.seen
    if column.kind == "number":
        groups = np.unique(seen)
        if (groups == np.round(groups)).all() and len(groups) <= MOST_GROUPS:
            column = column._replace(kind="")
    return _feature("label", [column], None)


def names_of(table: Any) -> list[str]:
    """Return the names of a table's columns, or x0, x1, ... of an array's."""
    if hasattr(table, "columns"):
        return [str(name) for name in table.columns]
    return feature_names_of(None, table.shape[1])


def levels_of(estimator: Any, names: Sequence[str]) -> list[Any] | None:
    """Return the levels of each column that a `MixedDensity` has; None of others."""
    model = last_step(estimator)
    kinds = list(getattr(model, "kinds_", {}))
    same = model is estimator or [str(name) for name in kinds] == list(names)
    if len(kinds) != len(names) or not same:
        return None
    return [model.levels_.get(name) for name in kinds]


def as_table(X: Any) -> Any:
    """Return rows as an array; as they are where a DataFrame has columns of objects."""
    array = np.asarray(X)
    return X if array.dtype == object and hasattr(X, "columns") else array


class Lines(NamedTuple):
    """Decoded rows as a heat map draws them: a line for each number or level."""

    rows: Array  # (n, l)
    parameters: dict[str, Any]  # names of the lines, mean and deviation of each (l,)


def heat_map_lines(estimator: Any, rows: Any, X: Any = None) -> Lines:
    """Return decoded rows (n, d) as numbers, and the scale of rows X (m, d).

    Without X it is that of the training rows, where the estimator knows it, or else of
    draws. A column of levels is a line of zeros and ones for each level that is
    decoded, or one line where there are two.
    """
    names = feature_names_of(estimator, rows.shape[1])
    known = getattr(estimator, "_column_moments", None) if X is None else None
    if X is None:
        draws = known is None
        X = estimator.sample(SCALE_DRAWS, random_state=0) if draws else rows
    tables = [rows, as_table(X)]
    check_columns(estimator, names, *tables)
    features = features_of(tables, names, levels_of(estimator, names))
    lines = [line for feature in features for line in _indicators(feature)]
    moments = _moments([line.seen(1) for line in lines]) if known is None else known
    return Lines(
        np.column_stack([line.tables[0] for line in lines]),
        {
            "feature_names": [line.name for line in lines],
            "feature_mean": moments[0],
            "feature_std": _proper_std(*moments),
        },
    )


def _indicators(feature: Feature) -> list[Feature]:
    """Return a column of numbers as it is, and levels as columns of 0 and 1."""
    if feature.kind != "level":
        return [feature]
    decoded = feature._replace(tables=feature.tables[:1])
    shown = [1] if len(feature.levels) == 2 else decoded.common_levels()
    return [
        Feature(
            f"{feature.name} = {feature.levels[k]}",
            "number",
            [],
            [np.where(np.isnan(x), np.nan, x == k) for x in feature.tables],
        )
        for k in shown
    ]


def _moments(columns: Sequence[Array]) -> tuple[Array, Array]:
    """Return mean and variance (d,) of columns (n,); 0 of empty ones."""
    mean = np.array([x.mean() if len(x) else 0.0 for x in columns])
    return mean, np.array([x.var() if len(x) else 0.0 for x in columns])


def _proper_std(mean: Array, variance: Array) -> Array:
    """Return standard deviations (d,); 1 of columns that vary by rounding alone."""
    std = np.sqrt(variance)
    return np.where(std > 1e-12 * np.abs(mean), std, 1.0)


# Reading one column.


class Column(NamedTuple):
    """Hold the values (n,) of a column, and of what kind they are."""

    kind: str  # "number", "date", "duration", or "" of anything else
    values: Array  # floats, NaN where missing: numbers, days or seconds; or objects
    levels: Sequence[Any] | None = None  # that the dtype lists

    @property
    def seen(self) -> Array:
        """Values that are not missing."""
        return self.values[~is_missing(self.values)]


def _feature(
    name: str, columns: Sequence[Column], levels: Sequence[Any] | None
) -> Feature:
    """Make a feature of a column of several tables."""
    kinds = {column.kind for column in columns if len(column.seen)}
    listed = levels or next((c.levels for c in columns if c.levels is not None), None)
    if listed is None and len(kinds) <= 1 and "" not in kinds:
        kind = kinds.pop() if kinds else "number"
        tables = [np.asarray(c.values, dtype=np.float64) for c in columns]
        if kind == "duration":
            unit = _unit(tables)
            kind, name = "number", f"{name} ({unit})"
            tables = [x / UNITS[unit] for x in tables]
        return Feature(name, kind, [], tables)
    found = dict.fromkeys(listed or [])
    found.update(dict.fromkeys(_sorted({v for c in columns for v in c.seen.tolist()})))
    places = {level: float(i) for i, level in enumerate(found)}
    tables = [_converted(column.values, places.__getitem__) for column in columns]
    return Feature(name, "level", [_label(level) for level in found], tables)


def _column(table: Any, j: int) -> Column:
    """Read a column of a table."""
    if hasattr(table, "iloc"):
        return _read(table.iloc[:, j])
    if hasattr(table, "columns"):
        return _read(table[table.columns[j]])
    return _read(np.asarray(table)[:, j])


def _read(column: Any) -> Column:
    """Read a column by its dtype, and by its values where that is of objects."""
    values = np.asarray(column)
    if str(column.dtype).partition("(")[0] in ("category", "Enum"):
        return Column("", values.astype(object), list(column.dtype.categories))
    if values.dtype.kind in "fiu":
        return Column("number", values.astype(np.float64))
    if values.dtype.kind == "M":
        return Column("date", _elapsed(values) / UNITS["days"])
    if values.dtype.kind == "m":
        return Column("duration", _elapsed(values))
    objects = values.astype(object)
    seen = objects[~is_missing(objects)]
    for is_one, kind, convert in CONVERSIONS:
        if len(seen) and all(map(is_one, seen)):
            return Column(kind, _converted(objects, convert))
    return Column("", objects)


def _converted(values: Array, convert: Any) -> Array:
    """Return floats of values (n,), NaN where missing."""
    missing = is_missing(values)
    places = np.full(len(values), np.nan)
    places[~missing] = [convert(value) for value in values[~missing].tolist()]
    return places


def _elapsed(times: Array) -> Array:
    """Return the seconds of durations, or those since 1970 of dates; NaN of NaT."""
    ticks = times.astype(f"{times.dtype.kind}8[us]").astype(np.float64) / 1e6
    return np.where(np.isnat(times), np.nan, ticks)


def _sorted(levels: set[Any]) -> list[Any]:
    """Sort levels, by their names where they have no order."""
    try:
        return sorted(levels)
    except TypeError:
        return sorted(levels, key=str)


def _label(level: Any) -> str:
    if not isinstance(level, float):
        return str(level)
    return str(int(level)) if level.is_integer() else f"{level:g}"


def _unit(tables: Sequence[Array]) -> str:
    """Return the longest unit in which durations in seconds are above 2."""
    largest = np.nanmax(np.abs(np.concatenate([*tables, np.zeros(1)])))
    return next((unit for unit, size in UNITS.items() if largest > 2 * size), "seconds")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | Decimal) and not isinstance(value, bool | np.bool_)


def _is_date(value: Any) -> bool:
    return isinstance(value, datetime.date) or hasattr(value, "start_time")


def _is_duration(value: Any) -> bool:
    return isinstance(value, datetime.timedelta)


def _day(value: Any) -> float:
    """Return matplotlib's number of a date, a time stamp, or a period's start."""
    from matplotlib.dates import date2num

    return float(date2num(getattr(value, "start_time", value)))


# What columns of objects are read as, where all values are of a kind.
CONVERSIONS = (
    (_is_number, "number", float),
    (_is_date, "date", _day),
    (_is_duration, "duration", datetime.timedelta.total_seconds),
)
