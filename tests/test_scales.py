"""Warnings about the scale of columns: what reg_covar blurs, and what underflows."""

import warnings
from typing import Any

import numpy as np
import pytest

from skgen import GaussianMixtureEM, KMeansAutoencoder

X = np.random.RandomState(0).randn(50, 3)
MODELS = [
    *(GaussianMixtureEM(2, covariance_type=c) for c in ("full", "tied", "diag")),
    GaussianMixtureEM(2, covariance_type="spherical"),
    KMeansAutoencoder(2),
]
every_model = pytest.mark.parametrize("model", MODELS, ids=repr)


@every_model
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_reg_covar_that_blurs_a_column_warns(model: Any, dtype: type[Any]) -> None:
    model.set_params(random_state=0, reg_covar=1e-6)
    rows = (X * [1, 2e-3, 1]).astype(dtype)
    with pytest.warns(UserWarning, match=r"column 1.*Set reg_covar=1e-07 or less"):
        model.fit(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.set_params(reg_covar=1e-7).fit(rows)


@every_model
def test_only_rows_that_count_have_a_variance(model: Any) -> None:
    model.set_params(random_state=0, reg_covar=1e-6)
    rows = np.r_[1e-4 * X, [[1.0, 1, 1]]]
    with pytest.warns(UserWarning, match="reg_covar"):
        model.fit(rows, sample_weight=np.r_[np.ones(50), 0.0])


@pytest.mark.filterwarnings("ignore:Components of")  # they have no width there
@every_model
@pytest.mark.parametrize("value", [0.0, 0.1, 1e9 / 3])
def test_a_constant_column_has_no_variance_to_blur(model: Any, value: float) -> None:
    model.set_params(random_state=0, reg_covar=1e-6)
    model.fit(np.c_[X, np.full(50, value)])


@pytest.mark.filterwarnings("ignore:Components of")
@every_model
def test_a_column_whose_squares_underflow_warns(model: Any) -> None:
    model.set_params(random_state=0, reg_covar=1e-6)
    with pytest.warns(UserWarning, match="Column 3 .* underflows"):
        model.fit(np.c_[X, 1e-160 * X[:, 0]])
    model.fit(np.c_[X, np.full(50, 1e-160)])
