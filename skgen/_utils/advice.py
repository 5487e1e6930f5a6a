"""Errors for rows that are no table of numbers, which say what to do with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scipy.sparse import issparse
from torch.utils.data import DataLoader, Dataset

MIXED = (
    "skgen.MixedDensity takes columns of several kinds, text among them, and missing "
    "cells."
)
MISSING = (
    "does not take missing cells. skgen.MixedDensity does, and so do GaussianDensity, "
    "GaussianMixtureEM and KMeansAutoencoder; or fill them first, as sklearn.impute "
    "does."
)
IMAGES = (
    "Make each image a row, X.reshape(len(X), -1); networks then take "
    "image_shape=(height, width[, channels])."
)
# What NumPy and scikit-learn say of cells that are no numbers.
NO_NUMBERS = (
    "could not convert",
    "Unable to convert",
    "must be a string or a real number",
    "must be a string, a bytes-like object or a real number",
    "dtype='numeric' is not compatible",
    "Cannot cast",
    "could not be promoted",
    "Cannot convert",
)


def check_is_table(X: Any, estimator: Any) -> None:
    """Raise a ValueError if rows come in parts, as from a DataLoader or an iterator."""
    if not isinstance(X, (Iterator, DataLoader, Dataset)):
        return
    name, kind = type(estimator).__name__, type(X).__name__
    way = (
        "call partial_fit with the rows of each batch"
        if hasattr(estimator, "partial_fit")
        else "put its rows into one array, as numpy.concatenate does"
    )
    raise ValueError(
        f"{name} takes all rows at once, in an array or a DataFrame. Got {kind}; {way}."
    )


def check_is_dense(X: Any, owner: str, remedy: str | None) -> None:
    """Raise a TypeError for a sparse matrix, where there is something else to do."""
    if remedy is not None and issparse(X):
        raise TypeError(
            f"Sparse data was passed for X, but {owner} requires dense data. {remedy}"
        )


@contextmanager
def explained(owner: str) -> Iterator[None]:
    """Add what to do to the errors of scikit-learn for rows of another kind."""
    try:
        yield
    except (TypeError, ValueError) as error:
        words = str(error)
        if words.startswith("Found array with dim"):
            raise ValueError(f"{words.rstrip('.')}. {IMAGES}") from error
        if any(part in words for part in NO_NUMBERS):
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(
                f"{owner} takes columns of numbers: {words.rstrip('.')}. {MIXED}"
            ) from error
        raise
