"""Between arrays and DataFrames: names and dtypes of columns."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Columns(NamedTuple):
    """Names and dtypes of the columns of a table."""

    names: list[Any]
    dtypes: list[np.dtype[Any]]

    @classmethod
    def of(cls, X: Any) -> Columns | None:
        """Return those of a DataFrame, and None for anything else."""
        if not hasattr(X, "columns"):
            return None
        names = list(X.columns)
        return cls(names, [np.asarray(X[name][:1]).dtype for name in names])

    @classmethod
    def numbered(cls, rows: NDArray[Any]) -> Columns:
        """Return scikit-learn's names x0, x1, ... for rows (n, d)."""
        d = rows.shape[1]
        return cls([f"x{i}" for i in range(d)], [rows.dtype] * d)

    def table(self, rows: NDArray[Any], library: str) -> Any:
        """Make a DataFrame of "pandas" or "polars" from rows (n, d)."""
        columns = zip(self.names, rows.T, self.dtypes, strict=True)
        frame = importlib.import_module(library).DataFrame
        return frame({name: _as_dtype(x, dtype) for name, x, dtype in columns})


def _as_dtype(x: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Cast a column of floats; round it for a dtype of integers or booleans."""
    if dtype.kind == "f":
        return x.astype(dtype)
    if dtype.kind not in "biu" or not np.isfinite(x).all():
        return x
    if dtype.kind != "b":
        limits = np.iinfo(dtype)
        return x.round().clip(limits.min, limits.max).astype(dtype)
    return x.round().astype(dtype)
