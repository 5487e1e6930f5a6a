"""GaussianDensity on columns of any scale, and on more features than rows."""

import pickle
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

import skgen
from skgen import GaussianDensity, GaussianMixtureEM
from skgen.model_selection import BatchedGridSearchCV

SEEDS = range(4)
every_seed = pytest.mark.parametrize("seed", SEEDS)
each_kind = pytest.mark.parametrize("kind", ["full", "diag", "spherical"])


def correlated(n: int, d: int, seed: int) -> NDArray[Any]:
    rng = np.random.RandomState(seed)
    return rng.randn(n, d) @ (np.eye(d) + 0.2 * rng.randn(d, d)) + rng.randn(d)


def scales(d: int, seed: int, powers: Any = 9) -> NDArray[Any]:
    return 10 ** np.random.RandomState(100 + seed).uniform(-powers, powers, d)


def fit(
    X: NDArray[Any], *, parts: bool = False, weight: Any = None, **params: Any
) -> Any:
    model = GaussianDensity(**{"reg_covar": 0, **params})
    if not parts:
        return model.fit(X, sample_weight=weight)
    for rows in np.array_split(np.arange(len(X)), 3):
        model.partial_fit(
            X[rows], sample_weight=None if weight is None else weight[rows]
        )
    return model


def exact_scores(
    X: NDArray[Any], new: NDArray[Any], q: int, reg_covar: float = 0.0
) -> NDArray[Any]:
    """Log-densities of probabilistic PCA, to 60 digits."""
    with mpmath.workdps(60):
        rows = mpmath.matrix(X.tolist())
        n, d = X.shape
        mean = [sum(rows[:, j]) / n for j in range(d)]
        centred = mpmath.matrix(n, d)
        for i in range(n):
            for j in range(d):
                centred[i, j] = rows[i, j] - mean[j]
        values, vectors = mpmath.eigsy(centred.T * centred / n)
        values = [values[i] + reg_covar for i in range(d)]  # increasing
        if q < d:
            noise = sum(values[: d - q]) / (d - q)
            values = [noise] * (d - q) + values[d - q :]
        log_det = sum(map(mpmath.log, values))
        scores = []
        for row in new.tolist():
            shift = mpmath.matrix([x - m for x, m in zip(row, mean)])
            along = vectors.T * shift
            squared = sum(along[i] ** 2 / values[i] for i in range(d))
            scores.append(-(d * mpmath.log(2 * mpmath.pi) + log_det + squared) / 2)
        return np.array(scores, float)


# Laws of scale.


@every_seed
@pytest.mark.parametrize("parts", [False, True], ids=["fit", "partial_fit"])
@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_rescaled_columns_shift_the_score_by_their_logs(
    covariance_type: str, parts: bool, seed: int
) -> None:
    X, a = correlated(60, 5, seed), scales(5, seed)
    weight = None if seed % 2 else np.random.RandomState(seed).rand(60)
    params: dict[str, Any] = {
        "parts": parts,
        "weight": weight,
        "covariance_type": covariance_type,
    }
    plain = fit(X, **params).score_samples(X)
    scaled = fit(X * a, **params).score_samples(X * a)
    assert_allclose(scaled, plain - np.log(a).sum(), rtol=1e-8)


@every_seed
@pytest.mark.parametrize("q", [None, 2])
@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_permuted_columns_change_no_score(
    covariance_type: str, q: int | None, seed: int
) -> None:
    X = correlated(40, 5, seed) * scales(5, seed)
    order = np.random.RandomState(seed).permutation(5)
    params: dict[str, Any] = {"covariance_type": covariance_type, "n_components": q}
    expected = fit(X, **params).score_samples(X)
    permuted = np.ascontiguousarray(X[:, order])
    assert_allclose(fit(permuted, **params).score_samples(permuted), expected, 1e-10)


@every_seed
def test_codes_are_white_and_decoded_whatever_the_scales(seed: int) -> None:
    X = correlated(60, 5, seed) * scales(5, seed)
    model = fit(X)
    code = model.transform(X)
    assert_allclose(np.cov(code.T, bias=True), np.eye(5), atol=1e-10)
    spread = X.std(0)
    assert_allclose(model.inverse_transform(code) / spread, X / spread, atol=1e-9)
    sample = model.sample(4000, random_state=0)
    assert_allclose(sample.std(0) / spread, 1, atol=0.06)
    correlation = np.corrcoef(sample.T), np.corrcoef(X.T)
    assert_allclose(*correlation, atol=0.08)


@pytest.mark.parametrize("n", [20, 2000, 30000])
def test_dependent_columns_of_any_scale_are_refused(n: int) -> None:
    for seed in range(6):
        X = np.random.RandomState(seed).randn(n, 4)
        X[:, 3] = [X[:, 0] - X[:, 1], 3.7 * X[:, 2], X[:, :3].sum(1)][seed % 3]
        weight = None if seed % 2 else np.random.RandomState(seed).rand(n)
        with pytest.raises(ValueError, match="ill-defined"):
            fit(X * scales(4, seed), weight=weight)
        assert np.isfinite(GaussianDensity().fit(X, sample_weight=weight).score(X))


@every_seed
def test_a_mixture_of_one_component_is_the_same_density(seed: int) -> None:
    X = correlated(60, 4, seed) * scales(4, seed)
    mixture = GaussianMixtureEM(1, reg_covar=0, random_state=0).fit(X)
    assert_allclose(fit(X).score_samples(X), mixture.score_samples(X), rtol=1e-8)


@every_seed
@pytest.mark.parametrize(("n", "q"), [(12, 5), (12, 2), (12, 4), (4, 2)])
def test_scores_are_those_of_sixty_digits(n: int, q: int, seed: int) -> None:
    X = correlated(n, 5, seed) * scales(5, seed)
    new = np.concatenate([X[:2], X[1:3] + 0.5 * X.std(0)])
    assert_allclose(
        fit(X, n_components=q).score_samples(new), exact_scores(X, new, q), rtol=1e-10
    )


@every_seed
def test_reg_covar_beside_columns_of_any_scale_is_exact(seed: int) -> None:
    X = correlated(12, 5, seed) * scales(5, seed)
    for q in (2, 5):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it blurs
            model = fit(X, n_components=q, reg_covar=1e-6)
        expected = exact_scores(X, X[:3], q, 1e-6)
        assert_allclose(model.score_samples(X[:3]), expected, rtol=1e-10)


@pytest.mark.parametrize("power", [25, -27, 0])
@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
@pytest.mark.parametrize("parts", [False, True], ids=["fit", "partial_fit"])
def test_float32_rows_of_any_magnitude_have_float64_statistics(
    power: int, covariance_type: str, parts: bool
) -> None:
    X = (correlated(50, 3, 0) * 10.0**power).astype(np.float32)
    params: dict[str, Any] = {"covariance_type": covariance_type, "parts": parts}
    single, double = fit(X, **params), fit(X.astype(float), **params)
    scores = single.score_samples(X)
    assert scores.dtype == single.mean_.dtype == single.covariance_.dtype == np.float64
    assert_array_equal(scores, double.score_samples(X.astype(float)))
    assert single.transform(X).dtype == single.sample(2).dtype == np.float32
    assert np.isfinite(single.sample(9, random_state=0)).all()
    assert_allclose(
        single.reconstruct(X), X, rtol=1e-3, atol=1e-4 * X.astype(float).std()
    )


def test_columns_whose_squares_underflow_warn() -> None:
    X = correlated(30, 3, 0) * [1, 1e-160, 1]
    with pytest.warns(UserWarning, match=r"Column 1 of X .*counts as constant"):
        GaussianDensity().fit(X)
    with pytest.warns(UserWarning, match=r"Column 1 of X .*counts as constant"):
        GaussianDensity().partial_fit(X)


def test_reg_covar_that_blurs_a_column_warns_and_a_constant_does_not() -> None:
    X = correlated(30, 3, 0)
    X[:, 1] = 7.3
    model = GaussianDensity(reg_covar=1e-6).fit(X)  # warnings are errors
    with pytest.warns(UserWarning, match=r"column 2, .* Set reg_covar=1e-10"):
        model.fit(X * 1e-4)


# reg_covar="auto".


@each_kind
def test_auto_changes_no_density_of_columns_that_vary(kind: Any) -> None:
    X = correlated(60, 4, 0) * [1e-6, 1, 1e3, 1e9]
    auto = GaussianDensity(covariance_type=kind).fit(X)
    exact = GaussianDensity(covariance_type=kind, reg_covar=0).fit(X)
    assert_array_equal(auto.score_samples(X), exact.score_samples(X))


@each_kind
def test_auto_is_the_same_in_other_units(kind: Any) -> None:
    X = correlated(40, 4, 1)
    X[:, 3] = X[:, 0]  # one direction without variance
    own, scaled = (
        GaussianDensity(covariance_type=kind).fit(c * X).score(c * X) for c in (1, 1e6)
    )
    assert_allclose(own - scaled, 4 * np.log(1e6))


def test_auto_gives_columns_that_depend_on_others_a_thousandth_of_their_spread() -> (
    None
):
    X = correlated(50, 2, 2)
    X = np.c_[X, X[:, 0] + X[:, 1]]
    X = (X - X.mean(0)) / X.std(0)
    model = GaussianDensity().fit(X)
    assert_allclose(model.explained_variance_[-1], 1e-6)
    assert_allclose(model.get_covariance().diagonal(), 1, atol=1e-5)


@pytest.mark.parametrize("q", [None, 1, 3])
@each_kind
def test_auto_makes_a_constant_column_as_wide_as_one_row_in_all(
    kind: Any, q: Any
) -> None:
    X = correlated(100, 4, 3)
    X /= X.std(0)
    X[:, 2] = 5.0
    model = GaussianDensity(q, covariance_type=kind).fit(X)
    other = X[:1] + np.eye(4)[2]
    # A deviation of one standard deviation is a matter of n / 2 nats, not of millions.
    assert model.score(X[:1]) - model.score(other) < 51
    if q is None and kind != "spherical":
        assert_allclose(model.get_covariance()[2, 2], 0.01)


def test_auto_of_batches_is_that_of_all_rows() -> None:
    X = correlated(60, 4, 4)
    X[:, 1] = 2.0
    parts = GaussianDensity().partial_fit(X[:20]).partial_fit(X[20:])
    whole = GaussianDensity().fit(X)
    assert_allclose(parts.get_covariance(), whole.get_covariance(), atol=1e-12)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical", "factor"])
@pytest.mark.parametrize("holes", [False, True])
def test_auto_holds_components_on_values_that_repeat(kind: Any, holes: bool) -> None:
    rng = np.random.RandomState(5)
    X = np.c_[rng.randn(300), rng.poisson(1.0, 300), 1e3 * rng.randn(300)]
    if holes:
        X[rng.rand(*X.shape) < 0.1] = np.nan
    model = GaussianMixtureEM(
        4, covariance_type=kind, reg_covar="auto", random_state=0, max_iter=500
    ).fit(X[:200])
    # Counts are rounded: no component is narrower than that.
    variances = model._kind.variances(torch.as_tensor(model.covariances_))
    assert variances[:, min(1, variances.shape[1] - 1)].min() >= 1 / 12
    assert model.score(X[200:]) > model.score(X[:200]) - 1


def test_auto_takes_each_of_a_stack_by_itself() -> None:
    X = correlated(60, 3, 6)
    params: dict[str, Any] = {"random_state": 0, "max_iter": 20, "tol": 0}
    grid = {"reg_covar": ["auto", 1e-3, 1e-2]}
    model = GaussianMixtureEM(2, n_init=2, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours = BatchedGridSearchCV(model, grid, cv=2).fit(X)
        theirs = GridSearchCV(model, grid, cv=2).fit(X)
    name = "mean_test_score"
    assert_allclose(ours.cv_results_[name], theirs.cv_results_[name])


def test_partial_fit_goes_on_with_what_auto_added() -> None:
    X = correlated(200, 3, 7)
    X[:, 0] = np.round(X[:, 0])
    model = GaussianMixtureEM(2, reg_covar="auto", random_state=0).partial_fit(X[:100])
    added = model._added
    model.partial_fit(X[100:])
    assert_array_equal(model._added, added)
    assert (model.covariances_[:, 0, 0] >= added[0]).all()


def test_components_without_width_on_values_that_repeat_are_told_of() -> None:
    X = np.c_[correlated(100, 1, 8), np.repeat([0.0, 1.0], 50)]
    model = GaussianMixtureEM(2, means_init=[[0, 0], [0, 1]])
    with pytest.warns(UserWarning, match=r"column 1 of X, .* reg_covar='auto'"):
        model.fit(X)
    model.set_params(reg_covar="auto").fit(X)  # warnings are errors


# More features than rows.


def dense_density(X: NDArray[Any], reg_covar: float) -> Any:
    covariance = np.cov(X.T, bias=True) + reg_covar * np.eye(X.shape[1])
    return multivariate_normal(X.mean(0), covariance)


@pytest.mark.filterwarnings("ignore:reg_covar")
@every_seed
@pytest.mark.parametrize("n", [2, 5, 8])
def test_a_wide_density_is_that_of_the_matrix(n: int, seed: int) -> None:
    X, new = correlated(n, 8, seed), correlated(20, 8, seed + 9)
    expected = dense_density(X, 0.01).logpdf(new)
    whole = GaussianDensity(reg_covar=0.01).fit(X)
    assert_allclose(whole.score_samples(new), expected, rtol=1e-9)
    assert_allclose(whole.covariance_, dense_density(X, 0.01).cov, atol=1e-12)
    code = whole.transform(new)
    assert code.shape == (20, 8)
    assert_allclose(whole.inverse_transform(code), new, atol=1e-10)
    # White: x = m + T z, and T T^T is the covariance.
    T = whole.inverse_transform(np.eye(8)) - whole.mean_
    assert_allclose(T.T @ T, whole.covariance_, atol=1e-12)
    parts = GaussianDensity(reg_covar=0.01).partial_fit(X[:2])
    for i in range(2, n):
        parts.partial_fit(X[i : i + 1])
    assert_allclose(parts.score_samples(new), expected, rtol=1e-9)
    assert len(parts._moments[2]) == n - 1


@pytest.mark.parametrize("seed", [0, 1])
def test_partial_fits_go_from_few_rows_to_many(seed: int) -> None:
    X, weight = correlated(30, 6, seed), np.random.RandomState(seed).rand(30)
    weight[4] = 0
    parts = GaussianDensity(2)
    cuts = [2, 3, 5, 9, 20]
    for rows in np.split(np.arange(30), cuts):
        parts.partial_fit(X[rows], sample_weight=weight[rows])
    whole = GaussianDensity(2).fit(X, sample_weight=weight)
    assert parts._moments[2].shape == (6, 6)
    assert_allclose(parts.score_samples(X), whole.score_samples(X), rtol=1e-10)
    assert_allclose(parts.n_samples_seen_, weight.sum())


@pytest.mark.parametrize("q", [10, None])
def test_wide_fits_keep_factors_and_no_matrix(q: int | None, tmp_path: Path) -> None:
    X = np.random.RandomState(0).randn(50, 4000)
    tracemalloc.start()
    model = GaussianDensity(q).fit(X)
    model.score(X)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * X.nbytes  # a matrix has 80 times as much
    assert model.sample(5, random_state=0).shape == (5, 4000)
    assert len(pickle.dumps(model)) < 3 * X.nbytes
    skgen.save(model, tmp_path / "model")
    loaded = skgen.load(tmp_path / "model")
    assert_array_equal(loaded.score_samples(X), model.score_samples(X))
    loaded.partial_fit(X[:9])
    assert loaded.n_samples_seen_ == 59


def test_wide_probabilistic_pca_is_scikit_learns() -> None:
    X = correlated(20, 30, 0)
    shrunk = X.mean(0) + (X - X.mean(0)) * np.sqrt(19 / 20)
    pca = PCA(3, svd_solver="full").fit(shrunk)
    model = fit(X, n_components=3)
    assert_allclose(model.noise_variance_ * 27, pca.noise_variance_ * 17)
    assert_allclose(model.explained_variance_, pca.explained_variance_)
    assert_allclose(np.abs(model.components_), np.abs(pca.components_), atol=1e-9)
    assert_allclose(
        model.get_covariance() @ model.get_precision(), np.eye(30), atol=1e-9
    )


def test_fewer_rows_than_components_are_filled_up() -> None:
    X = correlated(4, 9, 0)
    model = GaussianDensity(6, reg_covar=1e-6).fit(X)
    assert_allclose(model.components_ @ model.components_.T, np.eye(6), atol=1e-12)
    assert_allclose(model.explained_variance_[3:], 1e-6)
    assert_allclose(model.reconstruct(X), X, atol=1e-5)
    with pytest.raises(ValueError, match="ill-defined"):
        GaussianDensity(6, reg_covar=0).fit(X)


# As PCA has them.

WINE = load_wine().data


@pytest.mark.parametrize("n_components", [0.5, 0.9, 0.99, 0.9999, "mle", 3, None])
@pytest.mark.parametrize("standardised", [False, True])
def test_components_are_chosen_as_pca_chooses_them(
    n_components: float | None, standardised: bool
) -> None:
    X = WINE / WINE.std(0) if standardised else WINE
    pca = PCA(n_components, svd_solver="full").fit(X)
    model = GaussianDensity(n_components).fit(X)
    assert model.n_components_ == pca.n_components_ == model.transform(X).shape[1]
    ratio = model.explained_variance_ratio_
    assert_allclose(ratio, pca.explained_variance_ratio_, rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_mle_finds_the_dimension(seed: int) -> None:
    rng = np.random.RandomState(seed)
    X = rng.randn(300, 4) @ rng.randn(4, 12) + 0.1 * rng.randn(300, 12)
    model = GaussianDensity("mle")
    assert model.fit(X).n_components_ == PCA("mle").fit(X).n_components_ == 4
    assert model.fit(X, sample_weight=np.full(300, 1e-3)).n_components_ == 4
    parts = GaussianDensity("mle").partial_fit(X[:100]).partial_fit(X[100:])
    assert parts.n_components_ == 4


def test_a_share_of_the_variance_of_independent_features() -> None:
    X = np.random.RandomState(0).randn(500, 3) * [1, 10, 3]
    model = GaussianDensity(0.95, covariance_type="diag").fit(X)
    assert model.n_components_ == 2
    assert_array_equal(model.components_, [[0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize("params", [{}, {"n_components": 3}])
def test_covariance_and_precision_are_those_of_pca(params: dict[str, Any]) -> None:
    shrunk = WINE.mean(0) + (WINE - WINE.mean(0)) * np.sqrt(177 / 178)
    pca = PCA(svd_solver="full", **params).fit(shrunk)
    model = GaussianDensity(reg_covar=0, **params).fit(WINE)
    assert_allclose(model.get_covariance(), pca.get_covariance(), rtol=1e-8)
    assert_allclose(model.get_precision(), pca.get_precision(), rtol=1e-6)
    diagonal = GaussianDensity(reg_covar=0, covariance_type="diag").fit(WINE)
    assert_allclose(diagonal.get_covariance(), np.diag(WINE.var(0)))
    assert_allclose(diagonal.get_precision(), np.diag(1 / WINE.var(0)))


@pytest.mark.parametrize(
    ("params", "X"),
    [
        ({"covariance_type": "diag"}, WINE),
        ({}, WINE[:9]),
    ],
    ids=["diag", "few rows"],
)
def test_mle_says_what_it_needs(params: dict[str, Any], X: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="n_components='mle' of GaussianDensity needs"):
        GaussianDensity("mle", **params).fit(X)


@pytest.mark.parametrize("value", [0.0, 1.0, 1.5, -0.1, "minka", np.nan])
def test_n_components_out_of_range(value: Any) -> None:
    with pytest.raises(ValueError, match="'n_components' parameter of GaussianDensity"):
        GaussianDensity(value).fit(WINE)


def test_partial_fit_after_a_changed_covariance_type_is_refused() -> None:
    model = GaussianDensity().fit(WINE)
    before = model.score_samples(WINE)
    model.set_params(covariance_type="diag")
    with pytest.raises(ValueError, match="covariance_type='diag' differs from"):
        model.partial_fit(WINE)
    assert_array_equal(model.score_samples(WINE), before)
