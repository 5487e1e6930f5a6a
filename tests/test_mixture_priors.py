"""Laws of priors of mixtures: what EM climbs, and closed forms."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from sklearn.base import clone

from skgen import GaussianMixtureEM
from tests.estimators import features

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TYPES = ("full", "tied", "diag", "spherical", "factor")
every_type = pytest.mark.parametrize("covariance_type", TYPES)


def holes(X: NDArray[Any], part: float = 0.2) -> NDArray[Any]:
    return np.where(np.random.RandomState(5).rand(*X.shape) < part, np.nan, X)


@every_type
@pytest.mark.parametrize("has_holes", [False, True])
@pytest.mark.parametrize(("prior", "weight_prior"), [("auto", 0.0), (3.0, 2.0)])
def test_no_iteration_lowers_what_is_penalised(
    covariance_type: Any, has_holes: bool, prior: Any, weight_prior: float
) -> None:
    X = holes(features(90)) if has_holes else features(90)
    weight = np.random.RandomState(1).rand(len(X))
    model = GaussianMixtureEM(
        4,
        covariance_type=covariance_type,
        covariance_prior=prior,
        weight_prior=weight_prior,
        reg_covar=0,
        tol=0,
        max_iter=25,
        random_state=0,
    ).fit(X, sample_weight=weight)
    assert (np.diff(model.lower_bounds_) > -1e-9).all()


def test_a_full_covariance_is_the_mean_with_the_prior() -> None:
    X = features(40)
    S = np.cov(X.T, bias=True)
    n, d = X.shape
    auto = GaussianMixtureEM(1, covariance_prior="auto", reg_covar=0).fit(X)
    assert_allclose(auto.covariances_[0], (n * S + S) / (n + 2 * d + 3), rtol=1e-9)
    given = GaussianMixtureEM(1, covariance_prior=7.0, reg_covar=0).fit(X)
    assert_allclose(given.covariances_[0], S, rtol=1e-9)  # rows like those there are


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_covariances_go_to_the_prior(covariance_type: Any) -> None:
    X = features(60)
    one = GaussianMixtureEM(1, covariance_type=covariance_type, reg_covar=0).fit(X)
    model = GaussianMixtureEM(
        3,
        covariance_type=covariance_type,
        covariance_prior=1e9,
        reg_covar=0,
        random_state=0,
    ).fit(X)
    whole = one.covariances_ if covariance_type == "tied" else one.covariances_[0]
    expected = np.broadcast_to(whole / 3 ** (2 / 5), model.covariances_.shape)
    assert_allclose(model.covariances_, expected, rtol=1e-6)


@every_type
def test_no_prior_is_a_prior_of_no_rows(covariance_type: Any) -> None:
    X = features(60)
    model = GaussianMixtureEM(2, covariance_type=covariance_type, random_state=0)
    plain = clone(model).fit(X)
    none = clone(model).set_params(covariance_prior=0.0).fit(X)
    assert_allclose(none.score_samples(X), plain.score_samples(X), rtol=1e-9)


def test_weights_have_rows_of_the_prior() -> None:
    X = np.concatenate([np.random.RandomState(0).randn(90, 2) + 50, np.zeros((10, 2))])
    X[90:] += np.random.RandomState(1).randn(10, 2)
    model = GaussianMixtureEM(2, weight_prior=20.0, random_state=0).fit(X)
    assert_allclose(np.sort(model.weights_), [30 / 140, 110 / 140], rtol=1e-6)


def test_few_rows_make_a_component_with_a_prior() -> None:
    """A cluster of two rows has no covariance of its own."""
    rng = np.random.RandomState(0)
    X = np.concatenate([rng.randn(60, 3), rng.randn(2, 3) + 40])
    plain = GaussianMixtureEM(2, reg_covar=0, random_state=0)
    with pytest.raises(ValueError, match="ill-defined"):
        plain.fit(X)
    prior = clone(plain).set_params(covariance_prior="auto").fit(X)
    assert np.isfinite(prior.score_samples(X)).all()
    assert prior.score(rng.randn(100, 3)) > -6


def test_restarts_and_warm_starts_keep_the_prior() -> None:
    X = features(80)
    params: dict[str, Any] = {"covariance_prior": "auto", "random_state": 0, "tol": 0}
    once = GaussianMixtureEM(3, **params, max_iter=10, n_init=2).fit(X)
    assert once.n_iter_ == 10
    first = GaussianMixtureEM(3, **params, max_iter=5, warm_start=True).fit(X)
    whole = GaussianMixtureEM(3, **params, max_iter=10).fit(X)
    assert_allclose(first.fit(X).score_samples(X), whole.score_samples(X), rtol=1e-8)
