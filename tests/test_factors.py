"""Laws of ``covariance_type="factor"``: mixtures of factor analysers."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.decomposition import FactorAnalysis

from skgen import GaussianMixtureEM
from skgen._em.factors import FactorAnalysed, factor_analysed
from tests.estimators import features

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def holes(X: NDArray[Any], part: float = 0.2) -> NDArray[Any]:
    return np.where(np.random.RandomState(5).rand(*X.shape) < part, np.nan, X)


def low_rank(n: int = 300, d: int = 8, q: int = 2, seed: int = 0) -> Any:
    rng = np.random.RandomState(seed)
    loadings, noise = rng.randn(q, d), 0.3 + rng.rand(d)
    return 3 + rng.randn(n, q) @ loadings + noise * rng.randn(n, d)


def matrices(model: Any) -> Any:
    W, psi = model.covariances_[..., :-1], model.covariances_[..., -1]
    return W @ W.transpose(0, 2, 1) + psi[:, None] * np.eye(psi.shape[1])


def some_roots(K: int = 3, d: int = 6, q: int = 2) -> tuple[FactorAnalysed, Any, Any]:
    """Return a covariance type, covariances, and matrices."""
    rng = torch.Generator().manual_seed(0)
    packed = torch.randn(K, d, q + 1, generator=rng, dtype=torch.float64)
    packed[..., -1] = packed[..., -1].square() + 0.1
    W = packed[..., :-1]
    return factor_analysed(q), packed, W @ W.mT + packed[..., -1].diag_embed()


# The covariance type.


def test_roots_whiten_as_matrices_do() -> None:
    kind, packed, S = some_roots()
    roots = kind.roots(packed)
    x = torch.randn(6, 20, dtype=torch.float64, generator=torch.Generator())
    y = kind.scale(x.expand(3, 6, 20), roots)
    expected = (x * torch.linalg.solve(S, x.expand(3, 6, 20))).sum(1)
    assert_allclose(y.square().sum(1), expected, rtol=1e-10)
    assert_allclose(-2 * kind.log_det(roots, 6), torch.logdet(S), rtol=1e-10)
    assert_allclose(kind.variances(packed), S.diagonal(dim1=1, dim2=2))
    assert_allclose(kind.covariances(roots), packed, rtol=1e-10)


def test_precisions_are_inverses_and_come_back() -> None:
    kind, packed, S = some_roots()
    roots = kind.roots(packed)
    found = kind.precisions(roots)
    U = found[..., :-1]
    inverse = found[..., -1].diag_embed() - U @ U.mT
    assert_allclose(inverse, torch.linalg.inv(S), atol=1e-10)
    kind.check_precisions(found, "factor")
    back = kind.covariances(kind.roots_of_precisions(found))
    W = back[..., :-1]
    assert_allclose(W @ W.mT + back[..., -1].diag_embed(), S, rtol=1e-8, atol=1e-10)
    with pytest.raises(ValueError, match="positive-definite"):
        kind.check_precisions(found * 10, "factor")


def test_coloured_noise_has_the_covariance() -> None:
    kind, packed, S = some_roots()
    roots, eye = kind.roots(packed), torch.eye(6, dtype=torch.float64)
    for k in range(3):
        root = kind.colour(eye, torch.full((6,), k), roots)
        assert_allclose(root.T @ root, S[k], rtol=1e-8, atol=1e-10)


# The density.


def test_the_density_is_that_of_its_matrices() -> None:
    X = low_rank()
    model = GaussianMixtureEM(
        2, covariance_type="factor", n_factors=2, random_state=0
    ).fit(X)
    parts = zip(model.weights_, model.means_, matrices(model))
    each = [np.log(w) + multivariate_normal(m, S).logpdf(X) for w, m, S in parts]
    assert_allclose(model.score_samples(X), np.logaddexp.reduce(each), atol=1e-9)


@pytest.mark.parametrize("has_holes", [False, True])
@pytest.mark.parametrize("n_components", [1, 3])
@pytest.mark.parametrize("n_factors", [1, 3])
def test_no_iteration_lowers_the_likelihood(
    has_holes: bool, n_components: int, n_factors: int
) -> None:
    X = np.concatenate([low_rank(90), low_rank(60, seed=1) + 4])
    X = holes(X) if has_holes else X
    weight = np.random.RandomState(1).rand(len(X))
    model = GaussianMixtureEM(
        n_components,
        covariance_type="factor",
        n_factors=n_factors,
        reg_covar=0,
        tol=0,
        max_iter=25,
        random_state=0,
    ).fit(X, sample_weight=weight)
    bounds = np.array(model.lower_bounds_)
    assert (np.diff(bounds) > -1e-9).all()
    assert_allclose(model.score(X, sample_weight=weight), bounds[-1], atol=0.05)


@pytest.mark.parametrize("n_factors", [1, 2])
def test_one_component_is_factor_analysis(n_factors: int) -> None:
    X = low_rank()
    theirs = FactorAnalysis(n_factors, tol=1e-10, max_iter=5000).fit(X)
    model = GaussianMixtureEM(
        1,
        covariance_type="factor",
        n_factors=n_factors,
        reg_covar=0,
        tol=1e-11,
        max_iter=3000,
    ).fit(X)
    assert abs(model.score(X) - theirs.score(X)) < 1e-5
    assert_allclose(matrices(model)[0], theirs.get_covariance(), atol=1e-2)
    assert_allclose(model.means_[0], X.mean(0), rtol=1e-9)


def test_as_many_factors_as_columns_are_a_full_covariance() -> None:
    X = features(200)[:, :3]
    full = GaussianMixtureEM(1, reg_covar=0).fit(X)
    model = GaussianMixtureEM(
        1, covariance_type="factor", n_factors=2, reg_covar=0, tol=1e-10, max_iter=3000
    ).fit(X)
    assert abs(model.score(X) - full.score(X)) < 1e-3


def test_holes_and_complete_rows_climb_to_one_maximum() -> None:
    """EM over missing cells, on rows without any, ends where the other ends."""
    X = low_rank(150)
    model = GaussianMixtureEM(
        1, covariance_type="factor", n_factors=2, tol=1e-11, max_iter=3000
    )
    whole = clone(model).fit(X)
    padded = np.concatenate([X, np.full((1, X.shape[1]), np.nan)])
    found = clone(model).fit(padded)
    assert_allclose(found.score(X), whole.score(X), atol=1e-5)


def test_a_weight_is_a_number_of_copies() -> None:
    X = low_rank(80)
    weight = np.random.RandomState(0).randint(3, size=80)
    model = GaussianMixtureEM(
        1, covariance_type="factor", n_factors=2, max_iter=10, tol=0
    )
    first = clone(model).fit(X, sample_weight=weight)
    twice = clone(model).fit(np.repeat(X, weight, axis=0))
    assert_allclose(first.score_samples(X), twice.score_samples(X), atol=1e-8)


@pytest.mark.parametrize(
    "init_params", ["kmeans", "k-means++", "random", "random_from_data"]
)
@pytest.mark.parametrize("has_holes", [False, True])
def test_every_start_finds_factors(init_params: Any, has_holes: bool) -> None:
    X = np.concatenate([low_rank(100), low_rank(100, seed=1) - 8])
    model = GaussianMixtureEM(
        2,
        covariance_type="factor",
        n_factors=2,
        init_params=init_params,
        random_state=0,
        n_init=2,
    ).fit(holes(X) if has_holes else X)
    diag = GaussianMixtureEM(2, covariance_type="diag", random_state=0).fit(X)
    assert model.score(X) > diag.score(X) + 0.5


def test_many_columns_need_no_matrix_of_pairs() -> None:
    rng = np.random.RandomState(0)
    X = rng.randn(40, 2) @ rng.randn(2, 3000) + rng.randn(40, 3000)
    X[::3, ::7] = np.nan
    model = GaussianMixtureEM(
        1, covariance_type="factor", n_factors=2, max_iter=3, random_state=0
    ).fit(X)
    assert model.covariances_.shape == (1, 3000, 3)
    assert np.isfinite(model.score_samples(X)).all()
    assert model.sample(3, 0).shape == (3, 3000)
    assert np.isfinite(model.impute(X)).all()


def test_parameters_are_counted_without_rotations() -> None:
    model = GaussianMixtureEM(2, covariance_type="factor", n_factors=3).fit(low_rank())
    assert model._n_parameters() == 2 * (8 * 3 - 3 + 8) + 2 * 8 + 1


def test_columns_of_any_scale_are_fitted_alike() -> None:
    X, scale = low_rank(), np.array([1e-6, 1.0, 1e6, 3.0, 1e3, 1e-3, 10.0, 1.0])
    model = GaussianMixtureEM(
        1, covariance_type="factor", n_factors=2, reg_covar=0, max_iter=20, tol=0
    )
    plain = clone(model).fit(X).score_samples(X)
    scaled = clone(model).fit(X * scale).score_samples(X * scale)
    assert_allclose(scaled + np.log(scale).sum(), plain, atol=1e-6)


def test_too_many_factors_are_named() -> None:
    model = GaussianMixtureEM(covariance_type="factor", n_factors=9)
    with pytest.raises(ValueError, match=r"n_factors=9 .*n_features=8"):
        model.fit(low_rank())


def test_a_precision_may_be_given() -> None:
    X = low_rank()
    model = GaussianMixtureEM(2, covariance_type="factor", n_factors=2, random_state=0)
    model.fit(X)
    again = clone(model).set_params(
        weights_init=model.weights_,
        means_init=model.means_,
        precisions_init=model.precisions_,
        max_iter=0,
    )
    assert_allclose(again.fit(X).score_samples(X), model.score_samples(X), atol=1e-7)
