"""Cells of a table as plain values: numbers, ticks of dates and times, objects.

A column is read once from pandas, polars or an array. Integers stay integers; dates,
times and periods become the integers that their dtype counts in, *ticks*.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skgen._tables.frames import LISTED, Columns, is_ticks, kind_of, saturated

# What the values of a column are: float64; int64 or uint64; ticks of a dtype; ticks of
# Python's dates (days), datetimes and timedeltas (microseconds); Decimals; others.
FORMS = ("float", "int", "ticks", "date", "datetime", "timedelta", "decimal", "object")
#: Forms whose ticks are made from objects, by the NumPy dtype that counts them.
OBJECT_TICKS = {
    "date": "datetime64[D]",
    "datetime": "datetime64[us]",
    "timedelta": "timedelta64[us]",
}
_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY = {"D": 1, "h": 24, "m": 1440, **{u: 86400 * k for u, k in _SECOND.items()}}


class Cells(NamedTuple):
    """Cells of one column."""

    name: Any
    dtype: str  # its name; none for objects in an array
    form: str  # of FORMS
    values: NDArray[Any]  # (n,)
    missing: NDArray[np.bool_]  # (n,)

    @property
    def seen(self) -> NDArray[Any]:
        """Values that are there."""
        return self.values[~self.missing]

    @property
    def is_time(self) -> bool:
        """Return whether the values are dates, times or periods."""
        return self.form == "ticks" or self.form in OBJECT_TICKS

    @property
    def per_unit(self) -> int:
        """Ticks in what scores count in: a day, of dates, or a second, of durations."""
        if not self.is_time:
            return 1
        dtype = OBJECT_TICKS.get(self.form, self.dtype)
        found = re.search(r"\b(D|h|m|s|ms|us|ns)\b", dtype)
        if dtype == "Time" or found is None:
            return 10**9 if dtype == "Time" else 1
        is_date = dtype.lower().startswith(("date", "timestamp"))
        return (_DAY if is_date else _SECOND).get(found[1], 1)

    @property
    def is_duration(self) -> bool:
        """Return whether zero means something: of dates it does not."""
        dtype = OBJECT_TICKS.get(self.form, self.dtype).lower()
        return dtype.startswith(("timedelta", "duration", "time"))

    @classmethod
    def of_array(cls, name: Any, values: NDArray[Any]) -> Cells:
        """Read a column of an array."""
        dtype = str(values.dtype)
        match values.dtype.kind:
            case "f":
                wide = values.astype(np.float64)
                return cls(name, dtype, "float", wide, np.isnan(wide))
            case "i" | "u":
                wide = values.astype("int64" if values.dtype.kind == "i" else "uint64")
                return cls(name, dtype, "int", wide, np.zeros(len(wide), dtype=bool))
            case "m" | "M":
                return cls(
                    name, dtype, "ticks", values.astype(np.int64), np.isnat(values)
                )
        dtype = "" if values.dtype == object else dtype
        return cls.of_objects(name, dtype, values.tolist())

    @classmethod
    def of_objects(cls, name: Any, dtype: str, values: list[Any]) -> Cells:
        """Read a column of Python's objects, as numbers where all are numbers."""
        objects = as_objects([_python(value) for value in values])
        missing = is_missing(objects)
        form = "object" if dtype in LISTED else _form_of(objects[~missing])
        found: NDArray[Any] = objects
        if form == "float":
            found = np.full(len(objects), np.nan)
            found[~missing] = objects[~missing].astype(np.float64)
        elif form != "object" and form != "decimal":
            ticks = objects[~missing]
            if form in OBJECT_TICKS:
                ticks = ticks.astype(OBJECT_TICKS[form]).astype(np.int64)
            found = np.zeros(len(objects), dtype=_integers(ticks))
            found[~missing] = ticks
        return cls(name, dtype, form, found, missing)

    @classmethod
    def of_pandas(cls, name: Any, dtype: str, x: Any) -> Cells:
        """Read a Series of pandas."""
        missing = x.isna().to_numpy(dtype=bool)
        if kind_of(dtype) == "f":
            values = x.to_numpy(dtype=np.float64, na_value=np.nan)
            return cls(name, dtype, "float", values, missing)
        if kind_of(dtype) in ("i", "u"):
            wide = "int64" if kind_of(dtype) == "i" else "uint64"
            filled = x.fillna(0) if missing.any() else x
            return cls(name, dtype, "int", filled.to_numpy(dtype=wide), missing)
        if not is_ticks(dtype):
            return cls.of_objects(name, dtype, x.to_list())
        if dtype.endswith("[pyarrow]"):
            whole = "int32[pyarrow]" if "date32" in dtype else "int64[pyarrow]"
            ticks = x.astype(whole).fillna(0).to_numpy(dtype=np.int64)
        else:
            ticks = np.array(x.array.asi8)
        return cls(name, dtype, "ticks", np.where(missing, 0, ticks), missing)

    @classmethod
    def of_polars(cls, name: Any, dtype: str, x: Any) -> Cells:
        """Read a Series of polars."""
        missing = x.is_null().to_numpy()
        if kind_of(dtype) == "f":
            values = x.to_numpy().astype(np.float64)
            return cls(name, dtype, "float", values, np.isnan(values))
        if kind_of(dtype) in ("i", "u") and not dtype.endswith("128"):
            wide = np.int64 if kind_of(dtype) == "i" else np.uint64
            return cls(name, dtype, "int", _whole(x, wide), missing)
        if is_ticks(dtype):
            ticks = _whole(x.to_physical(), np.int64)
            return cls(name, dtype, "ticks", ticks, missing)
        return cls.of_objects(name, dtype, x.to_list())


def cells_of(X: Any) -> Iterator[Cells]:
    """Yield the cells of each column of a DataFrame or an array."""
    columns = Columns.of(X)
    if columns is None:
        for j, values in enumerate(np.asarray(X).T):
            yield Cells.of_array(j, values)
        return
    read = Cells.of_pandas if columns.library == "pandas" else Cells.of_polars
    for name, dtype in zip(columns.names, columns.dtypes):
        yield read(name, dtype, X[name])


def as_objects(values: list[Any]) -> NDArray[Any]:
    """Return an array (n,) of objects."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def is_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which values (n,), floats or objects, are None, NaN, NaT or pandas.NA."""
    if values.dtype.kind == "f":
        found: NDArray[np.bool_] = np.isnan(values)
        return found
    return np.array([_is_none(value) for value in values], dtype=bool)


def _is_none(value: Any) -> bool:
    if isinstance(value, float):
        return value != value
    if isinstance(value, Decimal):
        return value.is_nan()
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _python(value: Any) -> Any:
    """Return a scalar of NumPy as one of Python: ``np.bool_`` is a boolean."""
    if isinstance(value, np.datetime64):
        return value if np.isnat(value) else value.astype("datetime64[us]").item()
    if isinstance(value, np.timedelta64):
        return value if np.isnat(value) else value.astype("timedelta64[us]").item()
    return value.item() if isinstance(value, np.generic) else value


def _form_of(seen: NDArray[Any]) -> str:
    """Find the form of objects, none of them missing."""
    kinds = {_kind_of_object(value) for value in seen}
    if kinds == {"int", "float"}:
        return "float"
    return kinds.pop() if len(kinds) == 1 else "object"


def _kind_of_object(value: Any) -> str:
    match value:
        case bool():
            return "object"
        case Integral():
            return "int" if -(2**63) <= int(value) < 2**64 else "float"
        case Real():
            return "float"
        case Decimal() if value.is_finite():
            return "decimal"
        case datetime() if value.tzinfo is None:
            return "datetime"
        case date() if not isinstance(value, datetime):
            return "date"
        case timedelta():
            return "timedelta"
    return "object"


def _integers(ticks: NDArray[Any]) -> type[np.int64] | type[np.uint64]:
    """Return the dtype that integers fit in."""
    return np.uint64 if len(ticks) and max(ticks) >= 2**63 else np.int64


def _whole(x: Any, dtype: Any) -> NDArray[Any]:
    """Integers of a polars Series, 0 where missing."""
    return np.asarray(x.fill_null(0).to_numpy()).astype(dtype)


def difference(ticks: NDArray[Any], origin: int) -> NDArray[np.float64]:
    """Return ticks (n,) less an origin, exact up to 2^53: integers may wrap around."""
    start = np.array(origin % 2**64, dtype=np.uint64)
    above = ticks.astype(np.uint64) - start  # modulo 2^64
    is_above = ticks >= origin
    return np.where(is_above, above.astype(float), -((~above + 1).astype(float)))


def ticks_at(
    number: NDArray[np.float64], origin: int, step: int, low: int, high: int
) -> NDArray[Any]:
    """Return ticks for numbers (n,) of steps from an origin, within [low, high]."""
    k = saturated(number, -((origin - low) // step), (high - origin) // step)
    start = np.array(origin % 2**64, dtype=np.uint64)
    found = k.astype(np.uint64) * np.uint64(step) + start
    return found if high >= 2**63 else found.astype(np.int64)
