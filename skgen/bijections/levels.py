"""Encoders of levels and imputers: rows come back through them, densities do not."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from skgen.bijections.generic import Array, inverse, log_det


@log_det.register(OneHotEncoder)
@log_det.register(OrdinalEncoder)
def _no_density(step: Any, X: Any) -> float:
    name = type(step).__name__
    raise ValueError(
        f"{name} makes numbers of levels, and a density of the numbers is none of the "
        "levels: there is no score in the units of X. skgen.MixedDensity takes columns "
        "of levels and numbers as they are, and has one; samples and codes work here."
    )


@inverse.register(OrdinalEncoder)
def _nearest_levels(step: OrdinalEncoder, Z: Any) -> Array:
    """Return the levels nearest to numbers, which need not be whole."""
    Z = np.asarray(Z, dtype=np.float64)
    last = np.array([len(levels) - 1 for levels in step.categories_])
    levels: Array = step.inverse_transform(np.clip(np.rint(Z), 0, last))
    return levels


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
