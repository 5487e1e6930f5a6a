"""Fits of rows that come in batches, by ``partial_fit`` of one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

Model = TypeVar("Model")


def fit_batches(estimator: Model, batches: Iterable[Any], *, epochs: int = 1) -> Model:
    """Fit an estimator to batches of rows, by ``partial_fit`` of one after the other.

    No more than a batch is held at a time, so rows may be many, or come from a file or
    a network.

    Parameters
    ----------
    estimator : estimator
        One that has ``partial_fit``. One that was fitted before goes on from there.
    batches : iterable
        Rows X of shape (n_samples, n_features), as an array, DataFrame or tensor; or
        tuples or lists ``(X,)``, ``(X, y)`` or ``(X, y, sample_weight)`` of these, as
        a :class:`torch.utils.data.DataLoader` gives them. Batches without rows are left
        out.
    epochs : int, default=1
        Passes over the batches. For more than one, ``batches`` must be iterable more
        than once, as a list or a DataLoader is, and a generator is not.

    Returns
    -------
    estimator : estimator
        The same object. If a batch fails, or on Ctrl-C, it has what it learned of the
        batches before.

    Raises
    ------
    TypeError
        If the estimator has no ``partial_fit``.
    ValueError
        If there is no batch, one has more than three parts, or ``epochs`` is not a
        whole number from 1, or above 1 where batches come only once.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import GaussianDensity
    >>> from skgen.streams import fit_batches
    >>> X = np.random.RandomState(0).randn(1000, 2)
    >>> batches = (X[i : i + 100] for i in range(0, 1000, 100))
    >>> model = fit_batches(GaussianDensity(), batches)
    >>> bool(np.allclose(model.mean_, X.mean(0)))
    True
    """
    owner = type(estimator).__name__
    learn = getattr(estimator, "partial_fit", None)
    if learn is None:
        raise TypeError(
            f"{owner} has no partial_fit, which takes one batch after the other. Give "
            "all rows to fit: an array, a numpy.memmap, or a Dask collection."
        )
    _check_epochs(epochs, batches)
    n_batches = 0
    for _ in range(epochs):
        for batch in batches:
            X, *rest = _parts_of(batch)
            if len(X):
                learn(X, *rest)
                n_batches += 1
    if not n_batches:
        raise ValueError(
            f"There was no batch of rows for {owner}. An iterator that has been used "
            "gives nothing: make it anew."
        )
    return estimator


def _check_epochs(epochs: Any, batches: Any) -> None:
    """Raise a ValueError unless batches can be had so many times."""
    if not isinstance(epochs, int) or isinstance(epochs, bool) or epochs < 1:
        raise ValueError(
            f"The 'epochs' parameter must be an int from 1 on. Got {epochs!r} instead."
        )
    if epochs > 1 and isinstance(batches, Iterator):
        raise ValueError(
            f"epochs={epochs} needs batches that can be had more than once, but "
            f"{type(batches).__name__} gives them once. Give a list, a DataLoader, or "
            "an object whose __iter__ begins anew."
        )


def _parts_of(batch: Any) -> list[Any]:
    """Return X, and y and weights where they are given."""
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    if not 1 <= len(parts) <= 3:
        raise ValueError(
            f"A batch has {len(parts)} parts: give X, (X, y) or (X, y, sample_weight). "
            "A list of rows has to be an array."
        )
    return parts
