"""Encoders of levels and imputers: rows come back through them, densities do not."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from skgen.bijections.generic import Array, inverse, log_det


class MissingLevel(float):
    """A missing cell that is a level of its column, and no cell that is lost."""


MISSING_LEVEL = MissingLevel("nan")
# The level that encoders of scikit-learn make of infrequent ones.
INFREQUENT = "infrequent_sklearn"


@log_det.register(OneHotEncoder)
@log_det.register(OrdinalEncoder)
def _no_density(step: Any, X: Any) -> float:
    name = type(step).__name__
    raise ValueError(
        f"{name} makes numbers of levels, and a density of the numbers is none of the "
        "levels: there is no score in the units of X. skgen.MixedDensity takes columns "
        "of levels and numbers as they are, and has one; samples and codes work here."
    )


@inverse.register(OneHotEncoder)
def _most_probable_levels(step: OneHotEncoder, Z: Any) -> Array:
    _check_levels_come_back(step)
    return _with_missing_levels(step, step.inverse_transform(Z))


@inverse.register(OrdinalEncoder)
def _nearest_levels(step: OrdinalEncoder, Z: Any) -> Array:
    """Return the levels nearest to numbers, which need not be whole."""
    _check_levels_come_back(step)
    columns = zip(np.asarray(Z, dtype=np.float64).T, _codes(step), strict=True)
    # (n, 1) - (codes,): the nearest of few codes.
    places = [(np.abs(z[:, None] - codes).argmin(1), codes) for z, codes in columns]
    nearest = np.column_stack([codes[place] for place, codes in places])
    return _with_missing_levels(step, step.inverse_transform(nearest))


def _codes(step: OrdinalEncoder) -> list[Array]:
    """Return the numbers that an encoder makes of the levels of each column."""
    found = []
    for levels, infrequent in zip(step.categories_, _infrequent(step), strict=True):
        there = sum(not is_missing(level) for level in levels)
        n_codes = there - len(infrequent) + (len(infrequent) > 0)
        codes = np.arange(n_codes, dtype=np.float64)
        has_code = there < len(levels) and not is_missing(step.encoded_missing_value)
        found.append(np.append(codes, step.encoded_missing_value if has_code else []))
    return found


def _infrequent(step: Any) -> list[Any]:
    """Return the levels of each column that an encoder makes one of."""
    found = getattr(step, "infrequent_categories_", None) or [None] * len(
        step.categories_
    )
    return [[] if levels is None else levels for levels in found]


def _check_levels_come_back(step: Any) -> None:
    """Raise a ValueError if numbers are levels, and several became a word."""
    for levels, infrequent in zip(step.categories_, _infrequent(step), strict=True):
        if len(infrequent) and levels.dtype.kind not in "OUST":
            raise ValueError(
                f"{type(step).__name__} makes one level of {len(infrequent)} "
                "infrequent ones, such as "
                f"{infrequent[0]!s}, and rows do not come back through it as numbers. "
                "Leave max_categories and min_frequency out."
            )


def _with_missing_levels(step: Any, X: Array) -> Array:
    """Tell missing cells that are levels from those that are lost."""
    if not any(is_missing(levels[-1]) for levels in step.categories_):
        return X
    missing = [[is_missing(cell) and cell is not None for cell in row] for row in X]
    return np.where(missing, np.array(MISSING_LEVEL, dtype=object), X.astype(object))


def is_missing(level: Any) -> bool:
    """Return whether a level is None or not a number."""
    return level is None or (isinstance(level, float) and level != level)


def without_marks(rows: Array) -> Array:
    """Return rows with plain NaN for missing levels; in numbers, where all are."""
    if rows.dtype != object:
        return rows
    marked = [[isinstance(cell, MissingLevel) for cell in row] for row in rows]
    if not np.any(marked):
        return rows
    plain = np.where(marked, np.array(np.nan, dtype=object), rows)
    is_numeric = all(isinstance(cell, float | int) for cell in plain.ravel())
    return plain.astype(np.float64) if is_numeric else plain


@log_det.register(SimpleImputer)
def _of_complete_rows(step: SimpleImputer, X: Any) -> float:
    _check_keeps_columns(step)
    if np.asarray(step.transform(X) != np.asarray(X)).any():
        raise ValueError(
            "SimpleImputer fills missing cells of these rows, and the density of a "
            "filled row is not that of what was observed. skgen.MixedDensity, and "
            "GaussianDensity, GaussianMixtureEM and KMeansAutoencoder by themselves, "
            "take missing cells and integrate them out."
        )
    return 0.0


@inverse.register(SimpleImputer)
def _as_filled(step: SimpleImputer, Z: Any) -> Any:
    _check_keeps_columns(step)
    return Z


def _check_keeps_columns(step: Any) -> None:
    """Raise a ValueError if an imputer drops columns, or adds some."""
    n_out = len(step.get_feature_names_out())
    if step.add_indicator or n_out != step.n_features_in_:
        raise ValueError(
            f"SimpleImputer makes {n_out} columns of {step.n_features_in_}, so that "
            "it has no inverse. Use add_indicator=False and keep_empty_features=True."
        )
