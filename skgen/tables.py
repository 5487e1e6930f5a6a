"""Between arrays and DataFrames: names and dtypes of columns."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import sklearn
from numpy.typing import NDArray

LIBRARIES = ("pandas", "polars")
#: Names of dtypes whose values are among levels that the dtype lists.
LISTED = ("category", "ordered category", "Enum")


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
            name: _rounded(np.asarray(x), dtype)
            for (name, dtype), x in zip(dtypes.items(), columns, strict=True)
        }
        frame = importlib.import_module(library).DataFrame(data)
        if library != self.library:
            return frame
        # Numbers that are not finite have no integer to be.
        kept = {name: d for name, d in dtypes.items() if _fits(data[name], d)}
        return _cast(frame, kept, levels or {})


def output_library(estimator: Any) -> str:
    """Return what ``set_output``, or else the configuration, asks for."""
    config = getattr(estimator, "_sklearn_output_config", {})
    library: str = config.get("transform", sklearn.get_config()["transform_output"])
    return library


def dressed(
    estimator: Any, rows: NDArray[Any], columns: Columns | None, like: Any = None
) -> Any:
    """Return rows (n, d) in the container that ``set_output`` asks for.

    A pandas DataFrame has the index of what it was made from, ``like``.
    """
    library = output_library(estimator)
    if library == "default":
        return rows
    columns = columns or Columns.numbered(rows.shape[1])
    return indexed(columns.table(rows.T, library), like)


def indexed(frame: Any, like: Any) -> Any:
    """Give a DataFrame the index of another, where both have one."""
    if hasattr(frame, "iloc") and hasattr(like, "iloc"):
        frame.index = like.index
    return frame


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
    return str(dtype).partition("(")[0]  # polars writes the levels of an Enum there


def kind_of(dtype: str) -> str:
    """Return "i", "u", "b" or "f" for the name of a dtype of numbers, else ""."""
    name = dtype.lower()
    kinds = {"int": "i", "uint": "u", "bool": "b", "float": "f"}
    return next((kind for start, kind in kinds.items() if name.startswith(start)), "")


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
    return x.round().clip(limits.min, limits.max).astype(limits.dtype)


def _fits(x: NDArray[Any], dtype: str) -> bool:
    return kind_of(dtype) not in ("i", "u", "b") or x.dtype.kind != "f"


def _cast(frame: Any, dtypes: dict[Any, str], levels: Mapping[Any, Any]) -> Any:
    """Give columns the dtypes of these names, in the library of the DataFrame."""
    module = importlib.import_module(_library_of(frame) or "")

    def dtype_of(name: Any, dtype: str) -> Any:
        if dtype == "Enum":
            return module.Enum(levels[name])
        if dtype in LISTED and name in levels:
            return module.CategoricalDtype(levels[name], dtype.startswith("ordered"))
        return dtype if hasattr(frame, "astype") else getattr(module, dtype)

    found = {name: dtype_of(name, dtype) for name, dtype in dtypes.items()}
    return frame.astype(found) if hasattr(frame, "astype") else frame.cast(found)
