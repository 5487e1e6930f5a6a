"""SQUAREM: the end of EM, in fewer passes, and no step down."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from skgen import GaussianMixtureEM
from skgen._em import acceleration

# Few iterations, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
# Clusters that overlap, so that EM takes many steps.
X = np.concatenate([RNG.normal(m, 1, (150, 3)) for m in (-1, 0.5, 2)])
KINDS = ("full", "tied", "diag", "spherical", "factor")


def fitted(X: NDArray[Any] = X, **settings: Any) -> GaussianMixtureEM:
    settings = {"max_iter": 3000, "tol": 1e-10, "reg_covar": 0, **settings}
    return GaussianMixtureEM(3, random_state=0, **settings).fit(X)


@pytest.mark.parametrize("kind", KINDS[:4])
def test_it_ends_where_em_ends_in_fewer_passes(kind: Any) -> None:
    plain = fitted(covariance_type=kind)
    fast = fitted(covariance_type=kind, acceleration="squarem")
    assert fast.converged_
    assert_allclose(fast.lower_bound_, plain.lower_bound_, atol=1e-6)
    assert_allclose(fast.means_, plain.means_, atol=1e-2)
    assert 3 * fast.n_iter_ < plain.n_iter_ / 2


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_no_cycle_lowers_the_likelihood(kind: Any, holes: bool) -> None:
    rows = np.where(RNG.random(X.shape) < 0.1, np.nan, X) if holes else X
    model = fitted(rows, covariance_type=kind, acceleration="squarem", max_iter=20)
    assert (np.diff(model.lower_bounds_) >= -1e-12).all()


def test_units_of_columns_change_nothing() -> None:
    units = np.array([1e-6, 1.0, 1e6])

    def means(unit: NDArray[Any]) -> NDArray[Any]:
        start = {
            "means_init": X[[0, 150, 300]] * unit,
            "precisions_init": np.tile(unit**-2, (3, 1)),
            "weights_init": np.full(3, 1 / 3),
        }
        settings = {"covariance_type": "diag", "max_iter": 8, **start}
        model = fitted(X * unit, acceleration="squarem", **settings)
        return np.asarray(model.means_ / unit)

    assert_allclose(means(units), means(np.ones(3)), rtol=1e-6)


def test_a_step_too_far_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fitted(max_iter=10)

    def far(kind: Any, *theta: Any) -> Any:
        return theta[0]._replace(means=theta[0].means + 100)

    monkeypatch.setattr(acceleration, "extrapolated", far)
    fast = fitted(acceleration="squarem", max_iter=5)
    assert_allclose(fast.means_, plain.means_, rtol=1e-12)


def test_what_is_no_mixture_is_not_taken() -> None:
    model = fitted(max_iter=1)
    theta = model._model(torch.float64).theta
    light = theta._replace(weights=-theta.weights)
    with pytest.raises(ValueError, match="not positive"):
        acceleration.extrapolated(model._kind, theta, theta, light)
