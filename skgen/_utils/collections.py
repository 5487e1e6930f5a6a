"""Collections of Dask: rows in partitions, read once for a fit, or evaluated lazily.

A fit copies the rows of a collection into a file, a partition at a time, and maps it
into memory: each estimator then passes over it as it does over a `numpy.memmap`. Dask
is imported only where a user has given something of it.
"""

from __future__ import annotations

import errno
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import wraps
from importlib import import_module
from types import FunctionType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from skgen._utils.pages import give_pages_back

Model = TypeVar("Model")

#: Methods of rows or codes that are evaluated lazily, and how columns are named.
LAZY = {
    "transform": "code",
    "predict_proba": "code",
    "predict": "",
    "score_samples": "",
    "mahalanobis": "",
    "inverse_transform": "rows",
    "reconstruct": "rows",
    "impute": "rows",
}


def dask(name: str) -> Any:
    """Import a module of Dask; an ImportError names the extra that installs it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{name} is needed here: pip install 'scikit-generative[dask]'."
        ) from error


def is_collection(X: Any) -> bool:
    """Return whether X is an array, a DataFrame or anything else of Dask."""
    return hasattr(type(X), "__dask_graph__")


def is_frame(X: Any) -> bool:
    """Return whether a collection is a DataFrame, or a part of it a pandas one."""
    return hasattr(type(X), "columns") and hasattr(type(X), "iloc")


def computed(values: Any) -> Any:
    """Return values (n,), or what else is small, in memory."""
    return values.compute() if is_collection(values) else values


def active_client() -> Any:
    """Return the client of the cluster that Dask would use, or None."""
    if "distributed" not in sys.modules:
        return None
    try:
        return dask("distributed").get_client()
    except ValueError:
        return None


def fit_on_cluster(estimator: Model, *data: Any) -> Model:
    """Fit on the workers of the active client, by what is above all models."""
    found: Model = import_module("skgen.distributed.dask").fit(estimator, *data)
    return found


def template(X: Any) -> Any:
    """Return a DataFrame without rows that has the columns of a collection's."""
    return X._meta if is_collection(X) and is_frame(X) else X


# Rows of a fit.


def checked(X: Any, owner: str) -> Any:
    """Return a collection of rows (n, d) whose partitions have all columns."""
    if is_frame(X):
        _check_columns(X, owner)
        return X
    if not hasattr(type(X), "rechunk") or X.ndim != 2:
        raise TypeError(
            f"{owner} takes a dask array or DataFrame of shape (n_samples, n_features)."
            f" Got {type(X).__name__} instead."
        )
    return X if X.numblocks[1] == 1 else X.rechunk({1: -1})


def _check_columns(X: Any, owner: str) -> None:
    """Raise a TypeError that names a column which has no numbers."""
    is_numeric = import_module("pandas").api.types.is_numeric_dtype
    for name, dtype in X.dtypes.items():
        if not is_numeric(dtype):
            raise TypeError(
                f"Column {name!r} of X has the dtype {dtype}, and {owner} takes a Dask "
                "DataFrame of numbers. Encode it, or leave it out; or give "
                "X.compute() to skgen.MixedDensity, if that fits into memory."
            )


def partitions(X: Any) -> Iterator[Any]:
    """Yield the partitions of rows, each as a collection."""
    for i in range(X.npartitions):
        yield X.partitions[i]


def float_dtype(X: Any) -> Any:
    """Return the dtype in which estimators see rows: float32 if all are."""
    dtypes = list(X.dtypes) if is_frame(X) else [X.dtype]
    return np.float32 if all(each == np.float32 for each in dtypes) else np.float64


def stored(X: Any, owner: str, folder: Any = None, compute: Any = computed) -> Any:
    """Copy the rows of a collection into a file that nothing but the result holds.

    Parameters
    ----------
    X : dask array or DataFrame of shape (n, d)
        Rows.
    owner : str
        Name of the estimator, for errors.
    folder : path-like, default=None
        Where the file is; by default where temporary files are.
    compute : callable
        Takes a partition, and returns it in memory.

    Returns
    -------
    rows : memmap or DataFrame of shape (n, d)
        float32 or float64. A DataFrame has the names of the columns, and the memory of
        the file. The file goes when this does.
    """
    X, dtype = checked(X, owner), float_dtype(X)
    n, d = 0, len(X.columns) if is_frame(X) else X.shape[1]
    with tempfile.TemporaryFile(dir=folder) as file:
        for part in partitions(X):
            rows = numbers(compute(part), dtype)
            if len(rows):
                _write(file, memoryview(rows.data).cast("B"), owner)
            n += len(rows)
            del part, rows
            give_buffers_back()
        file.flush()
        if not n or not d:
            raise ValueError(
                f"Found array with {n} sample(s) and {d} feature(s) while a minimum of "
                f"1 of each is required by {owner}."
            )
        found = np.memmap(file, dtype, "r", shape=(n, d))
    give_pages_back(found)
    if not is_frame(X):
        return found
    return import_module("pandas").DataFrame(found, columns=X.columns, copy=False)


def numbers(part: Any, dtype: Any) -> NDArray[Any]:
    """Return a partition as numbers in a dtype, NaN where cells are missing."""
    if is_frame(part):
        part = part.to_numpy(dtype=dtype, na_value=np.nan)
    return np.ascontiguousarray(part, dtype=dtype)


def _write(file: Any, data: memoryview, owner: str) -> None:
    """Write to a file; an OSError says what to do where the disk is full."""
    try:
        file.write(data)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            error.errno,
            f"The rows for {owner} do not fit on the disk where temporary files are, "
            f"{tempfile.gettempdir()}. Set the environment variable TMPDIR to a folder "
            "that has room.",
        ) from error


def give_buffers_back() -> None:
    """Let the system have what Arrow keeps of the buffers of a partition read."""
    if "pyarrow" in sys.modules:
        sys.modules["pyarrow"].default_memory_pool().release_unused()


# Evaluation.


class OverCollections:
    """Mixin whose methods of rows give a lazy collection of a collection of rows."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in LAZY:
            method = vars(cls).get(name)
            if isinstance(method, FunctionType):
                setattr(cls, name, _over_collections(method))


def _over_collections(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method take collections, too."""

    @wraps(method)
    def wrapped(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        if is_collection(X):
            return lazily(self, method.__name__, X, *args, **kwargs)
        return method(self, X, *args, **kwargs)

    return wrapped


def lazily(estimator: Any, method: str, X: Any, *args: Any, **options: Any) -> Any:
    """Return what a method makes of a collection: an array of arrays, else a DataFrame.

    What comes out of a partition is known from a row that the model draws.
    """
    owner = type(estimator).__name__
    if any(each is not None for each in args):
        raise TypeError(
            f"{owner}.{method} of a Dask collection takes no further arrays. Use "
            "X.map_partitions or X.map_blocks, with a part of these for each part of X."
        )
    X = checked(X, owner)
    example = evaluated(_a_row(estimator, method, X), estimator, method, options)[:0]
    given: dict[str, Any] = {
        "estimator": dask("dask").delayed(estimator, traverse=False),
        "method": method,
        "options": options,
        "empty": example,
        "meta": example,
    }
    if is_frame(X):
        return X.map_partitions(evaluated, **given)
    if example.ndim == 1:
        return X.map_blocks(evaluated, **given, dtype=example.dtype, drop_axis=1)
    chunks = X.chunks[0], example.shape[1:]
    return X.map_blocks(evaluated, **given, dtype=example.dtype, chunks=chunks)


def _a_row(estimator: Any, method: str, X: Any) -> Any:
    """Return a row, or a code, that a method takes, like a partition of X."""
    if method == "inverse_transform":
        row = np.zeros((1, len(estimator.get_feature_names_out())), float_dtype(X))
    else:
        row = np.asarray(estimator.sample(1), float_dtype(X))
    if not is_frame(X):
        return row
    return import_module("pandas").DataFrame(row, columns=X.columns)


def evaluated(
    part: Any, estimator: Any, method: str, options: Any, empty: Any = None
) -> Any:
    """Return what a method makes of a partition, in the container that this has."""
    if empty is not None and not len(part):
        return empty
    found = getattr(estimator, method)(part, **options)
    if not is_frame(part) or hasattr(found, "iloc"):
        return found
    pandas = import_module("pandas")
    if found.ndim == 1:
        return pandas.Series(found, index=part.index, name=method)
    names = getattr(estimator, "feature_names_in_", None)
    if LAZY[method] == "code":
        names = estimator.get_feature_names_out()
    return pandas.DataFrame(found, index=part.index, columns=names)


def drawn(estimator: Any, n: int, size: int, seeds: Any, options: Any) -> Any:
    """Return n rows that are drawn when they are computed, ``size`` at a time."""
    example = estimator.sample(1, 0, **options)[:0]
    model = dask("dask").delayed(estimator, traverse=False)
    sizes = [min(size, n - start) for start in range(0, n, size)]
    parts = [model.sample(m, int(s), **options) for m, s in zip(sizes, seeds)]
    if is_frame(example):
        return dask("dask.dataframe").from_delayed(parts, meta=example)
    array = dask("dask.array")
    blocks = [
        array.from_delayed(part, (m, *example.shape[1:]), meta=example)
        for part, m in zip(parts, sizes)
    ]
    return array.concatenate(blocks)
