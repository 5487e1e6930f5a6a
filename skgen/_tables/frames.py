"""Between arrays and DataFrames: names and dtypes of columns."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import sklearn
from numpy.typing import NDArray

from skgen._utils.advice import check_is_dense
from skgen._utils.tensors import on_host

#: Libraries of tables. No other name is ever imported, whatever a file says.
LIBRARIES = ("pandas", "polars")
_LIBRARIES = " or ".join(LIBRARIES)
#: Names of dtypes whose values are among levels that the dtype lists.
LISTED = ("category", "ordered category", "Enum")

_BITS, _UNIT = "(8|16|32|64)", "(s|ms|us|ns)"
_ZONE = r"\w[\w+-]*(/\w[\w+-]*)*(:\d\d)?"
# Names of dtypes are parsed again where they are used, in quadratic time.
MAX_DTYPE_LENGTH = 100
#: Names of dtypes that a file may state, by library: regular expressions.
DTYPES = {
    "pandas": (
        rf"(u?int|U?Int|float|Float){_BITS}|bool|boolean|object",
        r"(ordered )?category|str|string(\[(python|pyarrow)\])?",
        rf"\w+(\[\w+(, tz={_ZONE})?\])?\[pyarrow\]",
        rf"datetime64\[{_UNIT}(, {_ZONE})?\]|timedelta64\[{_UNIT}\]",
        r"(Sparse|interval|period)\[[\w ,.:-]+\]",
    ),
    "polars": (
        rf"(U?Int|Float)({_BITS}|128)|Boolean|String|Utf8|Categorical|Enum|Object",
        r"(Date|Time|Datetime|Duration|Decimal)(\([\w ,='/+:-]*\))?",
    ),
}


#: Dtypes of polars whose names are written with their options.
WITH_OPTIONS = ("Datetime(", "Duration(", "Decimal(")
#: How names of dtypes of dates, times, durations and periods begin.
TIMES = ("date", "timestamp", "timedelta", "duration", "period", "time")


class Columns(NamedTuple):
    """Names and dtypes of the columns of a table, and the library that says so."""

    library: str
    names: list[Any]
    dtypes: list[str]

    @classmethod
    def of(cls, X: Any) -> Columns | None:
        """Return those of a DataFrame, and None for anything else."""
        library = _library_of(X)
        if library is None:
            return None
        names = list(X.columns)
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(
                f"Two columns have the name {twice!r}. Rename one of them."
            )
        return cls(library, names, [_name_of(X[name].dtype) for name in names])

    @classmethod
    def checked(cls, library: Any, names: Any, dtypes: Any) -> Columns:
        """Return the columns that a file states; a ValueError for what cannot be.

        Parameters
        ----------
        library : str
            One of `LIBRARIES`.
        names : list of str, numbers, None, or tuples of these
            Names of the columns, all different.
        dtypes : list of str
            Names of dtypes, each among `DTYPES`.
        """
        if library not in LIBRARIES:
            raise ValueError(f"columns are of {library!r}, not of {_LIBRARIES}")
        if not isinstance(names, list) or not all(map(_is_name, names)):
            raise ValueError("names of columns are text, numbers or tuples of these")
        if len(set(names)) < len(names):
            raise ValueError("two columns have the same name")
        if not isinstance(dtypes, list) or len(dtypes) != len(names):
            raise ValueError(f"there are {len(names)} columns, but not as many dtypes")
        for dtype in dtypes:
            if not _is_dtype(dtype, library):
                raise ValueError(f"{dtype!r} is not the name of a dtype of {library}")
        return cls(library, names, dtypes)

    @classmethod
    def numbered(cls, n_columns: int) -> Columns:
        """Return scikit-learn's names x0, x1, ..., and no dtypes."""
        names: list[Any] = [f"x{i}" for i in range(n_columns)]
        return cls("", names, [""] * n_columns)

    def table(
        self,
        columns: Iterable[NDArray[Any]],
        library: str,
        levels: Mapping[Any, Sequence[Any]] | None = None,
    ) -> Any:
        """Make a DataFrame of "pandas" or "polars".

        Parameters
        ----------
        columns : iterable of n_columns arrays of shape (n_samples,)
            Their values. Numbers are rounded for a dtype of integers.
        library : {"pandas", "polars"}
            That of the table. If it is another than the columns had, dtypes are the
            nearest that it has.
        levels : mapping of names to sequences, default=None
            Of columns whose dtype lists its levels.
        """
        dtypes = dict(zip(self.names, self.dtypes))
        data = {
            name: _rounded(_as_numbers(np.asarray(x)), dtype)
            for (name, dtype), x in zip(dtypes.items(), columns, strict=True)
        }
        if library != self.library:
            timed = {name: as_time(x, dtypes[name]) for name, x in data.items()}
            return _frame(timed, library)
        frame = _frame(data, library)
        # Numbers that are not finite have no integer to be.
        kept = {name: d for name, d in dtypes.items() if _fits(data[name], d)}
        return _cast(frame, kept, levels or {})


def _frame(data: Mapping[Any, NDArray[Any]], library: str) -> Any:
    """Make a DataFrame; polars finds what objects are where they are in a list."""
    if library == "polars":
        lists = {n: x.tolist() if x.dtype == object else x for n, x in data.items()}
        return table_library(library).DataFrame(lists)
    return table_library(library).DataFrame(data)


def output_library(estimator: Any) -> str:
    """Return what ``set_output``, or else the configuration, asks for."""
    config = getattr(estimator, "_sklearn_output_config", {})
    library: str = config.get("transform", sklearn.get_config()["transform_output"])
    if library != "default":
        _check_library(library)
    return library


def listed_levels(X: Any) -> dict[Any, list[Any]]:
    """Return the levels of the columns of a DataFrame whose dtypes list them."""
    if _library_of(X) is None:
        return {}
    dtypes = {name: X[name].dtype for name in X.columns}
    return {n: list(d.categories) for n, d in dtypes.items() if _name_of(d) in LISTED}


def as_container(
    estimator: Any,
    rows: NDArray[Any],
    columns: Columns | None,
    like: Any = None,
    levels: Mapping[Any, Sequence[Any]] | None = None,
) -> Any:
    """Return rows (n, d) in the container that ``set_output`` asks for.

    A pandas DataFrame has the index of what it was made from, ``like``.
    """
    library = output_library(estimator)
    if library == "default":
        return rows
    columns = columns or Columns.numbered(rows.shape[1])
    return indexed(columns.table(rows.T, library, levels), like)


def indexed(frame: Any, like: Any) -> Any:
    """Give a DataFrame the index of another, where both have one."""
    if hasattr(frame, "iloc") and hasattr(like, "iloc"):
        frame.index = like.index
    return frame


def numbered_frame(rows: NDArray[Any], names: list[Any]) -> Any:
    """Return rows as a DataFrame of the library that is imported, or None.

    Columns of objects that are all numbers become numbers.
    """
    library = next((each for each in LIBRARIES if each in sys.modules), None)
    if library is None:
        return None
    return _frame({n: _as_numbers(x) for n, x in zip(names, rows.T)}, library)


def _as_numbers(x: NDArray[Any]) -> NDArray[Any]:
    """Return a column of objects as numbers, where all are."""
    is_numeric = x.dtype == object and all(isinstance(v, float | int) for v in x)
    return x.astype(np.float64) if is_numeric else x


def library_of(X: Any) -> str | None:
    """Name of the library whose DataFrame or Series it is, or None."""
    for library in LIBRARIES:
        module = sys.modules.get(library)
        if module is not None and isinstance(X, (module.DataFrame, module.Series)):
            return library
    return None


def as_frame(X: Any) -> Any:
    """Return a table or batch of PyArrow as a DataFrame, and anything else as it is.

    Of pandas where that is installed, with the dtypes of PyArrow; else of polars.
    """
    arrow = sys.modules.get("pyarrow")
    if arrow is None or not isinstance(X, (arrow.Table, arrow.RecordBatch)):
        return X
    if importlib.util.find_spec("pandas") is None:
        return table_library("polars").from_arrow(X)
    kept = ("dictionary", "decimal")  # whose dtypes of pandas have names of their own

    def dtype_of(kind: Any) -> Any:
        is_kept = str(kind).startswith(kept)
        return None if is_kept else table_library("pandas").ArrowDtype(kind)

    return X.to_pandas(types_mapper=dtype_of)


def as_table(X: Any, owner: str) -> Any:
    """Return rows as a DataFrame or an array: of objects, where they are in lists."""
    check_is_dense(X, owner, "Give X.toarray(), or a DataFrame of its columns.")
    X = as_frame(on_host(X, allows_missing=True))
    # A list may hold numbers beside words.
    return X if hasattr(X, "dtype") or library_of(X) else np.asarray(X, dtype=object)


def stacked_rows(parts: Sequence[Any]) -> Any:
    """Put rows or labels one below the other, in the container of the first.

    Parameters
    ----------
    parts : sequence of arrays, DataFrames or Series
        Rows of the same columns; values in an array join those of a Series.
    """
    first, library = parts[0], library_of(parts[0])
    if library is None:
        return np.concatenate([np.asarray(part) for part in parts])
    module = table_library(library)
    if isinstance(first, module.DataFrame):
        alike = [part if library_of(part) else _named(part, first) for part in parts]
    elif library == "pandas":
        alike = [module.Series(np.asarray(x), name=first.name) for x in parts]
        alike = [first, *(x.astype(first.dtype) for x in alike[1:])]
    else:
        alike = [module.Series(first.name, x, dtype=first.dtype) for x in parts]
    if library == "pandas":
        return module.concat(alike, ignore_index=True)
    return module.concat(alike)


def _named(rows: Any, like: Any) -> Any:
    """Return rows in an array as a DataFrame like another."""
    columns = Columns.of(like)
    assert columns is not None
    return columns.table(np.asarray(rows).T, columns.library)


def table_library(name: str) -> Any:
    """Import pandas or polars; a ValueError for any other name."""
    _check_library(name)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"A table of {name} needs it: pip install {name}.") from error


def _check_library(name: Any) -> None:
    if name not in LIBRARIES:
        raise ValueError(
            f"A table must be of {_LIBRARIES}. Got {name!r} instead: use "
            "set_output(transform=...) with one of these, or 'default'."
        )


def _is_name(name: Any) -> bool:
    """Return whether a file may state such a name of a column."""
    if isinstance(name, tuple):
        return all(map(_is_name, name))
    return name is None or isinstance(name, str | int | float | np.generic)


def _is_dtype(name: Any, library: str) -> bool:
    is_short = isinstance(name, str) and len(name) <= MAX_DTYPE_LENGTH
    return is_short and any(
        re.fullmatch(pattern, name, re.ASCII) for pattern in DTYPES[library]
    )


def _library_of(X: Any) -> str | None:
    """Library whose DataFrame it is; one that was not imported has made none."""
    for library in LIBRARIES:
        module = sys.modules.get(library)
        if module is not None and isinstance(X, module.DataFrame):
            return library
    return None


def _name_of(dtype: Any) -> str:
    if getattr(dtype, "ordered", None) is True:
        return "ordered category"
    name = str(dtype)
    if name.startswith(WITH_OPTIONS):
        return name
    return name.partition("(")[0]  # polars writes the levels of an Enum there


def kind_of(dtype: str) -> str:
    """Return "i", "u", "b" or "f" for the name of a dtype of numbers, else ""."""
    kinds = {"int": "i", "uint": "u", "bool": "b", "float": "f", "double": "f"}
    found = re.match(r"(int|uint|bool|float|double)(?!erval)", dtype.lower())
    return kinds[found[1]] if found else ""


def _rounded(x: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Cast a column of numbers; round it for a dtype of integers or booleans."""
    kind = kind_of(dtype)
    if x.dtype.kind != "f" or not kind:
        return x
    name = dtype.lower().partition("[")[0]  # without the "[pyarrow]" of pandas
    if kind == "f":
        return x.astype(name, copy=False)
    if not np.isfinite(x).all():
        return x
    if kind == "b":
        return x.round().astype(bool)
    limits = np.iinfo(name)
    return saturated(x, int(limits.min), int(limits.max)).astype(limits.dtype)


def saturated(x: NDArray[Any], low: int, high: int) -> NDArray[Any]:
    """Round numbers (n,) to integers in [low, high], int64 or uint64."""
    dtype = np.uint64 if low >= 0 and high >= 2**63 else np.int64
    limits = np.iinfo(dtype)
    low, high = max(low, int(limits.min)), min(high, int(limits.max))
    x = np.rint(np.asarray(x, dtype=np.float64))
    found = np.where(x >= high, np.array(high, dtype), np.array(low, dtype))
    inside = (x > low) & (x < high)
    found[inside] = x[inside].astype(dtype)
    return found


def is_ticks(dtype: str) -> bool:
    """Return whether the dtype of a name counts time in integers."""
    name = dtype.lower()
    is_clock = name.startswith(("time32", "time64"))
    return name.startswith(TIMES) and not is_clock


def _fits(x: NDArray[Any], dtype: str) -> bool:
    return kind_of(dtype) not in ("i", "u", "b") or x.dtype.kind != "f"


def as_time(x: NDArray[Any], dtype: str) -> NDArray[Any]:
    """See ticks of a dtype as NumPy's dates or durations, which every library knows."""
    unit = re.search(r"\b(D|s|ms|us|ns)\b", dtype)
    if not is_ticks(dtype) or x.dtype != np.int64:
        return x
    if dtype.startswith(("Date", "date")) and unit is None:
        return x.view("datetime64[D]").astype("datetime64[ms]")
    is_date = dtype.lower().startswith(("date", "timestamp"))
    if unit is None:
        return x
    return x.view(f"{'datetime64' if is_date else 'timedelta64'}[{unit[1]}]")


def _cast(frame: Any, dtypes: dict[Any, str], levels: Mapping[Any, Any]) -> Any:
    """Give columns the dtypes of these names, in the library of the DataFrame."""
    if not hasattr(frame, "astype"):
        polars = table_library("polars")
        return frame.cast(
            {
                name: _of_polars(polars, d, levels.get(name))
                for name, d in dtypes.items()
            }
        )
    pandas, simple = table_library("pandas"), {}
    for name, dtype in dtypes.items():
        if dtype.startswith("period["):
            frequency = dtype[len("period[") : -1]
            periods = pandas.PeriodIndex.from_ordinals(frame[name], freq=frequency)
            frame[name] = periods.array
        elif dtype.startswith("date32["):
            frame[name] = frame[name].astype("int32[pyarrow]").astype(dtype)
        elif dtype in LISTED and name in levels:
            is_ordered = dtype.startswith("ordered")
            simple[name] = pandas.CategoricalDtype(levels[name], is_ordered)
        elif not dtype.startswith("interval["):  # which pandas makes of intervals
            simple[name] = dtype
    return frame.astype(simple)


def _of_polars(polars: Any, dtype: str, levels: Any) -> Any:
    """Return the dtype of polars with a name."""
    if dtype == "Enum":
        return polars.Enum(levels)
    options = dict(re.findall(r"(\w+)='?([\w/+:-]+)", dtype))
    match dtype.partition("(")[0], options:
        case "Datetime", {"time_unit": unit, "time_zone": zone}:
            return polars.Datetime(unit, None if zone == "None" else zone)
        case "Duration", {"time_unit": unit}:
            return polars.Duration(unit)
        case "Decimal", {"precision": precision, "scale": scale}:
            return polars.Decimal(int(precision), int(scale))
        case name, _:
            return getattr(polars, name)
