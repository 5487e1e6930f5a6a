"""Laws of StudentMixtureEM: closed forms, EM that climbs, and what outliers do."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import stats
from scipy.integrate import quad
from scipy.special import gammaln, logsumexp
from sklearn.base import clone

from skgen import GaussianMixtureEM, StudentMixtureEM
from skgen._em.student import gamma_points, log_rise
from skgen.model_selection import BatchedGridSearchCV
from tests.estimators import features

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TYPES = ("full", "tied", "diag", "spherical")
every_type = pytest.mark.parametrize("covariance_type", TYPES)


def holes(X: NDArray[Any], part: float = 0.2) -> NDArray[Any]:
    return np.where(np.random.RandomState(5).rand(*X.shape) < part, np.nan, X)


def heavy(n: int = 200, d: int = 3, seed: int = 0) -> Any:
    """Two clusters with three degrees of freedom."""
    rng = np.random.RandomState(seed)
    noise = rng.standard_t(3, size=(n, 1)) * np.ones(d) + rng.standard_t(3, size=(n, d))
    return noise + 9 * (rng.rand(n, 1) < 0.4)


def matrices(model: Any) -> Any:
    """Scale matrices (K, d, d)."""
    K, d = model.means_.shape
    found = model.covariances_
    if model.covariance_type == "tied":
        found = np.broadcast_to(found, (K, d, d))
    elif model.covariance_type != "full":
        found = found.reshape(K, -1)[:, :, None] * np.ones((K, d, 1)) * np.eye(d)
    return found


# The density.


@every_type
def test_the_density_is_scipys(covariance_type: Any) -> None:
    X = heavy()
    model = StudentMixtureEM(2, covariance_type=covariance_type, random_state=0).fit(X)
    parts = zip(model.means_, matrices(model), model.degrees_of_freedom_)
    each = [stats.multivariate_t(m, S, f).logpdf(X) for m, S, f in parts]
    expected = logsumexp(np.log(model.weights_)[:, None] + each, axis=0)
    assert_allclose(model.score_samples(X), expected, atol=1e-9)


@every_type
@pytest.mark.parametrize("has_holes", [False, True])
def test_many_degrees_of_freedom_are_a_gaussian_mixture(
    covariance_type: Any, has_holes: bool
) -> None:
    X = holes(features()) if has_holes else features()
    params: dict[str, Any] = {"covariance_type": covariance_type, "random_state": 0}
    normal = GaussianMixtureEM(2, **params).fit(X)
    student = StudentMixtureEM(2, degrees_of_freedom=1e10, **params).fit(X)
    assert_allclose(student.score_samples(X), normal.score_samples(X), atol=1e-6)
    assert_allclose(student.means_, normal.means_, rtol=1e-6, atol=1e-6)
    assert_allclose(student.impute(X), normal.impute(X), rtol=1e-6, atol=1e-6)


def test_gamma_functions_keep_their_digits() -> None:
    for a in (0.5, 3.0, 49.0, 51.0, 1e4):
        for b in (0.5, 2.5, 40.0):
            expected = gammaln(a + b) - gammaln(a) - b * np.log(a)
            found = log_rise(torch.tensor(a).double(), torch.tensor(b).double())
            assert abs(float(found) - expected) < 1e-10 * max(1, a)
    far = log_rise(torch.tensor(1e12).double(), torch.tensor(100.0).double())
    assert abs(float(far) - 100 * 99 / 2 / 1e12) < 1e-12


def test_a_density_of_one_column_integrates_to_one() -> None:
    X = heavy(d=1)
    model = StudentMixtureEM(2, random_state=0).fit(X)
    total, _ = quad(
        lambda t: np.cosh(t) * np.exp(model.score([[np.sinh(t)]])),
        -30,
        30,
        limit=400,
    )
    assert abs(total - 1) < 1e-6


# Fits.


@every_type
@pytest.mark.parametrize("has_holes", [False, True])
@pytest.mark.parametrize("dof", ["learn", 2.5])
def test_no_iteration_lowers_the_likelihood(
    covariance_type: Any, has_holes: bool, dof: Any
) -> None:
    X = holes(heavy()) if has_holes else heavy()
    weight = np.random.RandomState(1).rand(len(X))
    model = StudentMixtureEM(
        3,
        covariance_type=covariance_type,
        degrees_of_freedom=dof,
        reg_covar=0,
        tol=0,
        max_iter=30,
        random_state=0,
    ).fit(X, sample_weight=weight)
    bounds = np.array(model.lower_bounds_)
    assert (np.diff(bounds) > -1e-9).all()
    assert bounds[-1] > bounds[0]
    assert_allclose(model.score(X, sample_weight=weight), bounds[-1], atol=0.02)


@every_type
def test_a_fit_is_at_a_maximum(covariance_type: Any) -> None:
    X = heavy(100)
    model = StudentMixtureEM(
        2,
        covariance_type=covariance_type,
        reg_covar=0,
        tol=1e-10,
        max_iter=300,
        random_state=0,
    ).fit(X)
    best = model.score(X)
    for name, factor in (
        ("means_", 1.01),
        ("degrees_of_freedom_", 1.05),
        ("degrees_of_freedom_", 0.95),
    ):
        near = clone(model)
        vars(near).update({**vars(model), name: getattr(model, name) * factor})
        assert near.score(X) < best
    for factor in (0.98, 1.02):
        near = clone(model)
        changed = {
            "covariances_": model.covariances_ * factor,
            "precisions_cholesky_": model.precisions_cholesky_ / factor**0.5,
        }
        vars(near).update({**vars(model), **changed})
        assert near.score(X) < best


def test_one_column_is_fitted_as_scipy_fits_it() -> None:
    x = np.random.RandomState(0).standard_t(4, size=400)
    model = StudentMixtureEM(1, reg_covar=0, tol=1e-12, max_iter=2000).fit(x[:, None])
    theirs = stats.t.logpdf(x, *stats.t.fit(x)).mean()
    assert model.score(x[:, None]) >= theirs - 1e-6


def test_a_weight_is_a_number_of_copies() -> None:
    X = heavy(60)
    weight = np.random.RandomState(0).randint(3, size=60)
    start = {"means_init": X[:2], "weights_init": [0.5, 0.5]}
    start["precisions_init"] = np.stack([np.eye(3)] * 2)
    model = StudentMixtureEM(2, max_iter=10, **start)
    first = clone(model).fit(X, sample_weight=weight)
    twice = clone(model).fit(np.repeat(X, weight, axis=0))
    assert_allclose(first.score_samples(X), twice.score_samples(X), atol=1e-9)
    assert_allclose(first.degrees_of_freedom_, twice.degrees_of_freedom_, rtol=1e-8)


def test_outliers_do_not_move_a_component() -> None:
    rng = np.random.RandomState(0)
    clean = rng.randn(300, 2) @ [[2.0, 0.5], [0.0, 1.0]] + [5.0, -3.0]
    X = np.concatenate([clean, rng.uniform(-300, 300, size=(20, 2))])
    student = StudentMixtureEM(1).fit(X)
    normal = GaussianMixtureEM(1).fit(X)
    assert np.abs(student.means_[0] - clean.mean(0)).max() < 0.15
    assert student.score(clean) > normal.score(clean) + 2
    assert student.degrees_of_freedom_[0] < 2


def test_normal_rows_have_light_tails() -> None:
    X = np.random.RandomState(0).randn(1000, 2)
    model = StudentMixtureEM(1, tol=1e-5, max_iter=300).fit(X)
    assert model.degrees_of_freedom_[0] > 20
    assert abs(model.score(X) - GaussianMixtureEM(1).fit(X).score(X)) < 0.01


def test_a_fit_to_samples_recovers_the_model() -> None:
    model = StudentMixtureEM(2, degrees_of_freedom=4.0, random_state=0).fit(heavy())
    drawn = model.sample(4000, random_state=0)
    again = StudentMixtureEM(2, random_state=0).fit(drawn)
    assert abs(again.score(drawn) - model.score(drawn)) < 0.02
    assert np.abs(again.degrees_of_freedom_ - 4).max() < 1.2


def test_starts_and_searches_are_those_of_each_alone() -> None:
    X = heavy(90)
    model = StudentMixtureEM(3, n_init=3, random_state=0, max_iter=20)
    grid = {"degrees_of_freedom": [2.0, 30.0]}
    search = BatchedGridSearchCV(model, grid, cv=2).fit(X)
    best = clone(model).set_params(**search.best_params_).fit(X)
    assert_array_equal(search.best_estimator_.score_samples(X), best.score_samples(X))


def test_a_warm_start_goes_on() -> None:
    X = heavy()
    params: dict[str, Any] = {"n_components": 2, "random_state": 0, "tol": 0}
    once = StudentMixtureEM(**params, max_iter=10).fit(X)
    parts = StudentMixtureEM(**params, max_iter=5, warm_start=True).fit(X).fit(X)
    assert_allclose(parts.score_samples(X), once.score_samples(X), rtol=1e-9)
    assert_allclose(parts.degrees_of_freedom_, once.degrees_of_freedom_, rtol=1e-6)


def test_degrees_of_freedom_count_where_they_are_learned() -> None:
    X = heavy()
    counts = [
        StudentMixtureEM(2, degrees_of_freedom=f).fit(X)._n_parameters()
        for f in ("learn", 3)
    ]
    assert counts[0] - counts[1] == 2


# Conditions.


def test_draws_given_a_value_are_those_of_the_conditional() -> None:
    """t given a cell is t with a degree more, and a scale that the cell decides."""
    model = StudentMixtureEM(1, degrees_of_freedom=4.0).fit(heavy(d=2))
    m, S = model.means_[0], model.covariances_[0]
    x0 = m[0] + 3 * S[0, 0] ** 0.5
    drawn = model.sample(20_000, 0, given={0: x0})[:, 1]
    slope = S[0, 1] / S[0, 0]
    rest = (S[1, 1] - slope * S[0, 1]) * (4 + 9) / 5
    law = stats.t(5, m[1] + slope * (x0 - m[0]), rest**0.5)
    assert stats.kstest(drawn, law.cdf).pvalue > 0.01


@pytest.mark.parametrize("dof", [1.5, 30.0])
def test_draws_in_an_interval_are_those_of_the_truncated_density(dof: float) -> None:
    model = StudentMixtureEM(1, degrees_of_freedom=dof).fit(heavy(d=2))
    law = stats.t(dof, model.means_[0, 0], model.covariances_[0, 0, 0] ** 0.5)
    low, high = law.ppf([0.9, 0.999])
    drawn = model.sample(5000, 0, given={0: (low, high)})[:, 0]
    assert ((low <= drawn) & (drawn <= high)).all()
    shares = (law.cdf(drawn) - 0.9) / 0.099
    assert stats.kstest(shares, "uniform").pvalue > 0.01


def test_points_of_a_gamma_density_have_its_moments() -> None:
    a = np.array([0.5, 2.0, 40.0])
    points, log_shares = gamma_points(a)
    shares = np.exp(log_shares)
    assert_allclose((shares * points).sum(1), a, rtol=1e-10)
    assert_allclose((shares * points**2).sum(1), a * (a + 1), rtol=1e-10)
