"""Fits of Dask collections of any size, and draws as such collections."""

from __future__ import annotations

from typing import Any, TypeVar

from skgen._utils.collections import drawn, is_collection
from skgen._utils.tensors import fresh_random_state

Model = TypeVar("Model")

# Rows that a partition of draws has.
DRAWN_AT_A_TIME = 2**16


def fit(
    estimator: Model,
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
) -> Model:
    """Fit an estimator to a Dask array or DataFrame, of any size.

    Partitions are computed one after the other and written into a temporary file, which
    the estimator then reads as it reads a memory map: neither the rows nor the
    partitions have to fit into memory together.

    Parameters
    ----------
    estimator : estimator
        One of skgen's models of rows.
    X : dask array or DataFrame of shape (n_samples, n_features)
        Rows, in columns of numbers. Missing cells are NaN.
    y : dask array or Series of shape (n_samples,), default=None
        Labels, where the model is conditioned on them.
    sample_weight : dask array or Series of shape (n_samples,), default=None
        Weight of each row.

    Returns
    -------
    estimator : estimator
        The same object, fitted.

    Raises
    ------
    TypeError
        If X is no collection of rows of numbers.
    ImportError
        Without Dask: ``pip install "scikit-generative[dask]"``.

    Notes
    -----
    Files are where temporary files are (``TMPDIR``), and take 4 or 8 bytes a cell.

    Examples
    --------
    >>> import dask.array as da
    >>> from skgen import GaussianDensity
    >>> from skgen.distributed import fit
    >>> X = da.random.RandomState(0).normal(size=(1000, 3), chunks=(250, 3))
    >>> model = fit(GaussianDensity(), X)
    >>> scores = model.score_samples(X)
    >>> scores.shape, scores.numblocks
    ((1000,), (4,))
    >>> round(float(model.score(X)), 1)
    -4.3
    """
    if not is_collection(X):
        raise TypeError(
            f"skgen.distributed.fit takes a dask array or DataFrame. Got "
            f"{type(X).__name__}: call {type(estimator).__name__}.fit, or make it one, "
            "as dask.array.from_array does."
        )
    found: Model = estimator.fit(X, y, sample_weight=sample_weight)  # type: ignore[attr-defined]
    return found


def sample(
    estimator: Any,
    n_samples: int,
    random_state: Any = None,
    *,
    chunk_size: int = DRAWN_AT_A_TIME,
    **options: Any,
) -> Any:
    """Draw rows from a fitted density as a lazy Dask collection, as many as wanted.

    Parameters
    ----------
    estimator : estimator
        A fitted model.
    n_samples : int
        Number of rows.
    random_state : int, RandomState, Generator or None, default=None
        Source of the draws. A seed gives the same rows for the same ``chunk_size``,
        whatever order partitions are computed in.
    chunk_size : int, default=65536
        Rows of a partition.
    **options
        Further arguments of the estimator's ``sample``.

    Returns
    -------
    X : dask array or DataFrame of shape (n_samples, n_features)
        Rows; a DataFrame where the estimator's ``sample`` gives one.

    Raises
    ------
    ValueError
        If ``n_samples`` or ``chunk_size`` is not a whole number from 1 on.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import GaussianDensity
    >>> from skgen.distributed import sample
    >>> model = GaussianDensity().fit(np.random.RandomState(0).randn(100, 2))
    >>> X = sample(model, 1_000_000, random_state=0)
    >>> X.shape, X.numblocks
    ((1000000, 2), (16, 1))
    """
    sizes = {"n_samples": n_samples, "chunk_size": chunk_size}
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(
                f"The {name!r} parameter must be an int from 1 on. Got {value!r}."
            )
    n_chunks = -(-n_samples // chunk_size)
    seeds = fresh_random_state(random_state).randint(2**31 - 1, size=n_chunks)
    return drawn(estimator, n_samples, chunk_size, seeds, options)
