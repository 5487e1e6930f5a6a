"""Closed forms of GaussianDensity: one Gaussian, and probabilistic PCA."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from skgen import GaussianDensity

COVARIANCE_TYPES = ("full", "diag", "spherical")


def correlated(n: int = 200, d: int = 5, seed: int = 0) -> NDArray[Any]:
    rng = np.random.RandomState(seed)
    return rng.randn(n, d) @ rng.randn(d, d) + 3 * rng.randn(d)


def weighted(n: int = 200, seed: int = 1) -> NDArray[Any]:
    return np.random.RandomState(seed).randint(0, 4, n).astype(float)


def maximum_likelihood(X: NDArray[Any], covariance_type: str) -> Any:
    covariance = np.cov(X.T, bias=True)
    if covariance_type == "diag":
        return np.diag(np.diag(covariance))
    if covariance_type == "spherical":
        return np.eye(X.shape[1]) * np.trace(covariance) / X.shape[1]
    return covariance


def grid(low: int, high: int, n: int, d: int) -> tuple[Any, ...]:
    """Points (n ** d, d) of a grid, and the volume of its cells."""
    axes = np.linspace(low, high, n)
    points = np.stack(np.meshgrid(*[axes] * d), axis=-1).reshape(-1, d)
    return points, (axes[1] - axes[0]) ** d


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_log_density_is_that_of_the_maximum_likelihood_gaussian(
    covariance_type: Any,
) -> None:
    X, new = correlated(), correlated(seed=5)
    model = GaussianDensity(covariance_type=covariance_type, reg_covar=0).fit(X)
    expected = multivariate_normal(X.mean(0), maximum_likelihood(X, covariance_type))
    assert_allclose(model.score_samples(new), expected.logpdf(new), atol=1e-10)


def test_reg_covar_is_added_to_the_variances() -> None:
    X = correlated()
    with pytest.warns(UserWarning, match=r"reg_covar=0\.5 of GaussianDensity"):
        model = GaussianDensity(reg_covar=0.5).fit(X)
    covariance = np.cov(X.T, bias=True) + 0.5 * np.eye(5)
    assert_allclose(model.covariance_, covariance, atol=1e-12)
    expected = multivariate_normal(X.mean(0), covariance).logpdf(X)
    assert_allclose(model.score_samples(X), expected, atol=1e-10)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_whitening_is_white_and_exact_both_ways(covariance_type: Any) -> None:
    X = correlated()
    model = GaussianDensity(covariance_type=covariance_type, reg_covar=0).fit(X)
    Z = model.transform(X)
    assert_allclose(Z.mean(0), 0, atol=1e-12)
    assert_allclose(model.inverse_transform(Z), X, atol=1e-11)
    assert_allclose(model.transform(model.inverse_transform(Z)), Z, atol=1e-11)
    if covariance_type == "full":
        assert_allclose(np.cov(Z.T, bias=True), np.eye(5), atol=1e-11)


def pca_of_maximum_likelihood(X: NDArray[Any], q: int) -> Any:
    """scikit-learn's PCA divides by n - 1; shrink the rows so that it divides by n."""
    n, mean = len(X), X.mean(0)
    return PCA(q).fit(mean + (X - mean) * np.sqrt((n - 1) / n))


@pytest.mark.parametrize("q", [1, 3])
def test_fewer_components_are_probabilistic_pca(q: int) -> None:
    X = correlated()
    model = GaussianDensity(q, reg_covar=0).fit(X)
    pca = pca_of_maximum_likelihood(X, q)
    assert_allclose(model.covariance_, pca.get_covariance(), atol=1e-10)
    assert_allclose(model.noise_variance_, pca.noise_variance_, atol=1e-12)
    assert_allclose(model.score(X), pca.score(X), atol=1e-10)


def test_its_code_is_the_posterior_mean() -> None:
    X = correlated()
    model = GaussianDensity(2, reg_covar=0).fit(X)
    noise = model.noise_variance_
    W = model.components_.T * np.sqrt(model.explained_variance_ - noise)
    M = W.T @ W + noise * np.eye(2)
    expected = (X - model.mean_) @ np.linalg.solve(M, W.T).T
    assert_allclose(model.transform(X), expected, atol=1e-11)
    decoded = expected @ W.T + model.mean_
    assert_allclose(model.inverse_transform(expected), decoded, atol=1e-11)


def test_its_samples_have_its_moments() -> None:
    model = GaussianDensity(2).fit(correlated())
    X = model.sample(100_000, random_state=0)
    scale = np.trace(model.covariance_) / 5
    assert_allclose(X.mean(0), model.mean_, atol=0.03 * np.sqrt(scale))
    assert_allclose(np.cov(X.T), model.covariance_, atol=0.03 * scale)


def test_samples_without_noise_lie_in_the_principal_plane() -> None:
    model = GaussianDensity(2).fit(correlated())
    X = model.sample(1000, noise=False, random_state=0) - model.mean_
    on_plane = X @ model.components_.T @ model.components_
    assert_allclose(X, on_plane, atol=1e-12)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("d", [1, 2])
def test_the_density_integrates_to_one(covariance_type: Any, d: int) -> None:
    X = np.random.RandomState(0).randn(100, d) @ np.tril(np.ones((d, d)))
    model = GaussianDensity(covariance_type=covariance_type).fit(X)
    points, cell = grid(-12, 12, 400, d)
    assert_allclose(np.exp(model.score_samples(points)).sum() * cell, 1, atol=1e-9)


def rank_deficient(kind: str) -> NDArray[Any]:
    X = correlated(40, 4)
    if kind == "constant column":
        X[:, 2] = 7
    if kind == "repeated column":
        X[:, 3] = X[:, 1]
    return X[:3] if kind == "fewer rows than features" else X


DEFICIENT = ["constant column", "repeated column", "fewer rows than features"]


@pytest.mark.parametrize("kind", DEFICIENT)
def test_data_without_full_rank_need_reg_covar(kind: str) -> None:
    X = rank_deficient(kind)
    model = GaussianDensity().fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    assert np.isfinite(model.transform(X)).all()
    assert_allclose(model.reconstruct(X), X, atol=1e-8)
    with pytest.raises(ValueError, match=r"reg_covar=0\. Increase reg_covar"):
        GaussianDensity(reg_covar=0).fit(X)


def test_a_constant_column_needs_reg_covar_when_diagonal_too() -> None:
    X = rank_deficient("constant column")
    with pytest.raises(ValueError, match="Increase reg_covar"):
        GaussianDensity(covariance_type="diag", reg_covar=0).fit(X)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_partial_fits_are_one_fit(covariance_type: Any) -> None:
    X, weight = correlated(), weighted()
    whole = GaussianDensity(covariance_type=covariance_type)
    whole.fit(X, sample_weight=weight)
    parts = GaussianDensity(covariance_type=covariance_type)
    for rows in (slice(70), slice(70, 75), slice(75, None)):
        parts.partial_fit(X[rows], sample_weight=weight[rows])
    assert_allclose(parts.mean_, whole.mean_, atol=1e-12)
    assert_allclose(parts.covariance_, whole.covariance_, atol=1e-11)
    assert parts.n_samples_seen_ == whole.n_samples_seen_


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_weight_is_a_number_of_copies(covariance_type: Any) -> None:
    X, weight = correlated(), weighted()
    model = GaussianDensity(covariance_type=covariance_type)
    copies = model.fit(np.repeat(X, weight.astype(int), axis=0)).score_samples(X)
    weights = model.fit(X, sample_weight=weight).score_samples(X)
    assert_allclose(weights, copies, atol=1e-10)


def test_float32_far_from_zero_loses_nothing_but_its_digits() -> None:
    X = np.random.RandomState(0).randn(5000, 3).astype(np.float32) + np.float32(1e4)
    single = GaussianDensity().fit(X)
    double = GaussianDensity().fit(X.astype(np.float64))
    assert single.mean_.dtype == single.covariance_.dtype == np.float64
    assert_allclose(single.covariance_, double.covariance_, atol=1e-6)
    # A mean near 1e4 is known to 5e-4 in float32.
    assert_allclose(single.score(X), double.score(X), atol=1e-5)
