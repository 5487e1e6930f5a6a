"""Missing cells of the closed-form models, held against SciPy and closed forms."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, multivariate_t
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skgen import GaussianDensity, GaussianMixtureEM, KMeansAutoencoder, MixtureEM
from skgen._em import conditionals
from skgen._em.conditionals import ByCovariance, ByPrecision, blocks
from skgen._em.covariance import COVARIANCES
from skgen._em.incomplete import start_from_cells
from skgen._em.incomplete import with_holes as with_holes_of
from skgen._utils.chunks import CentredRows
from skgen.model_selection import BatchedGridSearchCV
from tests.estimators import (
    CLOSED_FORM,
    ESTIMATORS,
    class_name,
    features,
    fitted,
    name_of,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NAN = np.nan
TYPES = list(COVARIANCES)
EXACT = [e for e in ESTIMATORS if class_name(e) in CLOSED_FORM]
each_model = pytest.mark.parametrize("estimator", EXACT, ids=name_of)
each_type = pytest.mark.parametrize("covariance_type", TYPES)


def with_holes(X: NDArray[Any], part: float = 0.3, seed: int = 0) -> NDArray[Any]:
    return np.where(np.random.RandomState(seed).rand(*X.shape) < part, NAN, X)


def brief(estimator: Any) -> Any:
    """Return an unfitted model that stops before EM converges."""
    has_em = class_name(estimator) != "KMeansAutoencoder"
    return clone(estimator).set_params(**{"max_iter": 8} if has_em else {})


def queries(seed: int = 1) -> NDArray[Any]:
    """Rows of many patterns: whole ones, and one of which nothing is there."""
    rows = with_holes(features(40, seed=seed))
    rows[0], rows[1] = NAN, features(2)[0]
    return rows


def mixture_of(model: Any) -> tuple[Any, ...]:
    """Weights, means and covariance matrices of a fitted model."""
    if isinstance(model, GaussianDensity):
        return np.ones(1), model.mean_[None], model.get_covariance()[None]
    if isinstance(model, KMeansAutoencoder):
        K, d = model.cluster_centers_.shape
        covariances = np.broadcast_to(model.variance_ * np.eye(d), (K, d, d))
        return model.weights_, model.cluster_centers_, covariances
    K, d = model.means_.shape
    if isinstance(model, MixtureEM):
        (part,) = model._parts
        variances = part["variance"] * part["scale"] ** 2
        return model.weights_, model.means_, variances[:, None] * np.eye(d)
    matrices = {
        "full": lambda c: c,
        "tied": lambda c: np.broadcast_to(c, (K, d, d)),
        "diag": lambda c: np.stack([np.diag(v) for v in c]),
        "spherical": lambda c: c[:, None, None] * np.eye(d),
        "factor": lambda c: (
            np.stack([w @ w.T for w in c[..., :-1]]) + c[:, None, :, -1] * np.eye(d)
        ),
    }[model.covariance_type](model.covariances_)
    return model.weights_, model.means_, matrices


def marginal(model: Any, row: NDArray[Any]) -> list[Any]:
    """Log p(x_O, k), E[x | x_O, k] and Cov[x_M | x_O, k] of each k, by SciPy."""
    there, found = ~np.isnan(row), []
    normal = np.full(len(mixture_of(model)[0]), np.inf)
    dofs = getattr(model, "degrees_of_freedom_", normal)
    for w, m, S, dof in zip(*mixture_of(model), dofs):
        own, cross = S[np.ix_(there, there)], S[np.ix_(~there, there)]
        mean, spread = row.copy(), S[np.ix_(~there, ~there)]
        slope = np.linalg.solve(own, cross.T).T
        mean[~there] = m[~there] + slope @ (row - m)[there]
        spread = spread - slope @ cross.T
        log_density = 0.0
        if there.any() and np.isinf(dof):
            log_density = multivariate_normal(m[there], own).logpdf(row[there])
        elif there.any():
            log_density = multivariate_t(m[there], own, dof).logpdf(row[there])
            lacks = (row - m)[there]
            square, n = lacks @ np.linalg.solve(own, lacks), there.sum()
            spread *= (dof + square) / (dof + n - 2)
        found.append((np.log(w) + log_density, mean, spread))
    return [np.array(part) for part in zip(*found)]


# Marginals, conditionals, imputations.


@each_model
def test_scores_are_log_marginals_of_what_is_there(estimator: Any) -> None:
    model, rows = fitted(estimator), queries()
    expected = [logsumexp(marginal(model, row)[0]) for row in rows]
    assert_allclose(model.score_samples(rows), expected, atol=1e-8)
    assert abs(model.score_samples(rows)[0]) < 1e-12


@each_model
def test_cells_are_imputed_by_their_conditional_mean(estimator: Any) -> None:
    model, rows = fitted(estimator), queries()
    expected = []
    for row in rows:
        log_masses, means, _ = marginal(model, row)
        expected.append(np.exp(log_masses - logsumexp(log_masses)) @ means)
    filled = model.impute(rows)
    assert_allclose(filled, expected, rtol=1e-8, atol=1e-8)
    there = ~np.isnan(rows)
    assert_array_equal(filled[there], rows[there])


@each_model
def test_draws_have_the_conditional_mean_and_covariance(estimator: Any) -> None:
    model, row = fitted(estimator), features(1, seed=2)[0]
    row[[1, 3]] = NAN
    drawn = model.impute(np.tile(row, (20_000, 1)), noise=True, random_state=0)
    log_masses, means, spreads = marginal(model, row)
    p = np.exp(log_masses - logsumexp(log_masses))
    mean = p @ means[:, [1, 3]]
    centred = means[:, [1, 3]] - mean
    covariance = np.einsum("k,kij", p, spreads + centred[:, :, None] * centred[:, None])
    white = np.linalg.solve(np.linalg.cholesky(covariance), (drawn[:, [1, 3]] - mean).T)
    assert_allclose(white.mean(1), 0, atol=0.04)
    assert_allclose(white @ white.T / 20_000, np.eye(2), atol=0.06)
    assert_array_equal(drawn[:, [0, 2, 4]], np.tile(row[[0, 2, 4]], (20_000, 1)))


@each_type
def test_responsibilities_are_those_of_what_is_there(covariance_type: str) -> None:
    estimator = next(
        e
        for e in EXACT
        if e.get_params().get("covariance_type") == covariance_type
        and e.get_params().get("n_components") == 3
    )
    model, rows = fitted(estimator), queries()
    expected = [np.exp(m - logsumexp(m)) for m in (marginal(model, r)[0] for r in rows)]
    resp = model.transform(rows)
    assert_allclose(resp, expected, atol=1e-8)
    assert_allclose(resp[0], model.weights_, atol=1e-12)
    assert_array_equal(model.predict(rows), resp.argmax(1))
    assert_array_equal(model.predict_proba(rows), resp)


@pytest.mark.parametrize("n_components", [None, 2])
def test_codes_of_a_gaussian_are_posterior_means(n_components: int | None) -> None:
    model = GaussianDensity(n_components).fit(features())
    rows = queries()
    assert_allclose(model.transform(rows), model.transform(model.impute(rows)))
    assert_allclose(model.transform(rows)[0], 0, atol=1e-12)


def test_the_nearest_centre_is_that_over_the_cells_that_are_there() -> None:
    model, rows = KMeansAutoencoder(3, random_state=0).fit(features()), queries()
    squares = (rows[:, None] - model.cluster_centers_) ** 2
    labels = np.nansum(squares, axis=2).argmin(1)
    labels[0] = model.weights_.argmax()
    assert_array_equal(model.predict(rows), labels)


@each_model
def test_a_row_depends_on_no_other(estimator: Any) -> None:
    model, rows = fitted(estimator), queries()
    whole = features(20, seed=3)
    together = np.concatenate([whole, rows])
    for name in ("score_samples", "transform", "impute"):
        function = getattr(model, name)
        dense = [
            getattr(found, "toarray", lambda x=found: x)()
            for found in (function(together), function(whole), function(rows))
        ]
        assert_allclose(dense[0][:20], dense[1], rtol=1e-12, atol=1e-12)
        assert_allclose(dense[0][20:], dense[2], rtol=1e-12, atol=1e-12)


# Fits.


@each_type
@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("n_components", [1, 3])
def test_no_step_lowers_the_likelihood(
    covariance_type: Any, is_weighted: bool, n_components: int
) -> None:
    rows = with_holes(features(150))
    rows[5] = NAN
    weight = np.random.RandomState(1).rand(150) if is_weighted else None
    model = GaussianMixtureEM(
        n_components,
        covariance_type=covariance_type,
        reg_covar=0,
        tol=0,
        max_iter=40,
        random_state=0,
    ).fit(rows, sample_weight=weight)
    bounds = np.array(model.lower_bounds_)
    assert (np.diff(bounds) > -1e-9).all()
    assert_allclose(model.score(rows, sample_weight=weight), bounds[-1], atol=0.05)


def test_a_fit_is_the_closed_form_of_nested_holes() -> None:
    """Anderson (1957): where x has holes in its second column only."""
    rng = np.random.RandomState(0)
    x = rng.randn(80) * 3 + 10
    y = 0.5 * x + rng.randn(80)
    y[50:] = NAN
    slope, offset = np.polyfit(x[:50], y[:50], 1)
    rest = np.var(y[:50] - slope * x[:50] - offset)
    mean = [x.mean(), slope * x.mean() + offset]
    cross = slope * x.var()
    covariance = [[x.var(), cross], [cross, slope * cross + rest]]
    rows = np.column_stack([x, y])
    for model in (
        GaussianDensity(reg_covar=0, tol=1e-14).fit(rows),
        GaussianMixtureEM(1, reg_covar=0, tol=1e-14, max_iter=1000).fit(rows),
    ):
        _, means, covariances = mixture_of(model)
        assert_allclose(means[0], mean, rtol=1e-6)
        assert_allclose(covariances[0], covariance, rtol=1e-5)


def test_independent_features_are_fitted_in_closed_form() -> None:
    rows = with_holes(features(100))
    mean, variance = np.nanmean(rows, 0), np.nanvar(rows, 0)
    count = (~np.isnan(rows)).sum(0)
    pooled = (count * variance).sum() / count.sum()
    for model, expected in (
        (GaussianDensity(covariance_type="diag", reg_covar=0), variance),
        (GaussianDensity(covariance_type="spherical", reg_covar=0), pooled),
        (GaussianMixtureEM(1, covariance_type="diag", reg_covar=0), variance),
        (GaussianMixtureEM(1, covariance_type="spherical", reg_covar=0), pooled),
    ):
        _, means, covariances = mixture_of(model.fit(rows))
        assert_allclose(means[0], mean)
        assert_allclose(np.diag(covariances[0]), np.broadcast_to(expected, 5))


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_probabilistic_pca_with_holes_is_at_a_maximum(covariance_type: Any) -> None:
    """No small change of the parameters that it has raises the likelihood."""
    rows = with_holes(features(100))
    model = GaussianDensity(
        2, covariance_type=covariance_type, reg_covar=0, tol=1e-13, max_iter=5000
    ).fit(rows)
    best = model.score(rows)
    rng = np.random.RandomState(0)
    for name in ("mean_", "explained_variance_", "noise_variance_"):
        for sign in (-1, 1):
            value = np.asarray(getattr(model, name))
            step = 1e-3 * np.abs(value) * np.abs(rng.randn(*value.shape))
            near = clone(model)
            vars(near).update({**vars(model), name: value + sign * step})
            assert near.score(rows) < best + 1e-9


def test_k_means_with_holes_lowers_what_it_measures() -> None:
    rows = with_holes(features(120))
    rows[3] = NAN
    model = KMeansAutoencoder(4, random_state=0, reg_covar=0).fit(rows)
    distances = np.nansum((rows - model.cluster_centers_[model.labels_]) ** 2, axis=1)
    assert_allclose(model.inertia_, distances.sum())
    assert_allclose(model.variance_, distances.sum() / (~np.isnan(rows)).sum())
    assert_array_equal(model.predict(rows), model.labels_)
    for k, centre in enumerate(model.cluster_centers_):
        own = rows[(model.labels_ == k) & ~np.isnan(rows).all(1)]
        assert_allclose(np.nanmean(own, axis=0), centre)
    assert_allclose(model.weights_.sum(), 1)


@each_type
@pytest.mark.parametrize(
    "init_params", ["kmeans", "k-means++", "random", "random_from_data"]
)
def test_every_start_takes_holes(covariance_type: Any, init_params: Any) -> None:
    rows = with_holes(features(90), 0.2)
    model = GaussianMixtureEM(
        3,
        covariance_type=covariance_type,
        init_params=init_params,
        n_init=2,
        random_state=0,
        max_iter=200,
    ).fit(rows)
    assert np.isfinite(model.score(rows))
    assert model.score(rows) > GaussianDensity(covariance_type="spherical").fit(
        rows
    ).score(rows)


@each_model
def test_weight_two_is_a_row_given_twice(estimator: Any) -> None:
    rows = with_holes(features(60))
    weight = np.random.RandomState(0).randint(3, size=60)
    params: dict[str, Any] = {}
    if class_name(estimator) == "KMeansAutoencoder":
        params = {"init": np.nan_to_num(rows[:3], nan=0.5)}
    if class_name(estimator) == "MixtureEM":
        params = {"n_components": 1}  # no start to move
    if class_name(estimator) in ("GaussianMixtureEM", "StudentMixtureEM"):
        K, d = estimator.n_components, 5
        kind = estimator._kind
        params = {
            "means_init": features(60)[:K],
            "weights_init": np.full(K, 1 / K),
            "precisions_init": kind.identity(torch.ones(K, d)).numpy() / 30,
        }
    model = brief(estimator).set_params(**params)
    first = clone(model).fit(rows, sample_weight=weight)
    twice = clone(model).fit(np.repeat(rows, weight, axis=0))
    assert_allclose(first.score_samples(rows), twice.score_samples(rows), atol=1e-6)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag"])
@pytest.mark.parametrize("n_components", [None, 2])
def test_columns_may_have_any_scale_and_order(
    covariance_type: Any, n_components: Any
) -> None:
    """Without ``n_components``, one Gaussian in closed form."""
    if n_components is None and covariance_type == "tied":
        pytest.skip("one Gaussian is never tied")
    rows, scale = with_holes(features(60)), np.array([1e-9, 1.0, 1e9, 1e3, 1e-4])
    order = [3, 0, 4, 2, 1]

    def scores(rows: Any, means: Any) -> Any:
        model: Any = GaussianDensity(
            covariance_type=covariance_type, reg_covar=0, max_iter=20
        )
        if n_components is not None:
            model = GaussianMixtureEM(
                n_components,
                covariance_type=covariance_type,
                means_init=means,
                init_params="random",
                random_state=0,
                reg_covar=0,
                max_iter=20,
            )
        return model.fit(rows).score_samples(rows)

    means = features(60)[:2]
    expected = scores(rows, means)
    scaled = scores(rows * scale, means * scale) + ~np.isnan(rows) @ np.log(scale)
    assert_allclose(scaled, expected, rtol=1e-7, atol=1e-7)
    moved = scores(rows[:, order], means[:, order])
    assert_allclose(moved, expected, rtol=1e-7, atol=1e-7)


@each_model
def test_float32_rows_are_fitted_in_float64(estimator: Any) -> None:
    rows = with_holes(features(60))
    wide, narrow = (brief(estimator).fit(rows.astype(t)) for t in ("f8", "f4"))
    found = narrow.score_samples(rows.astype("f4"))
    assert found.dtype == np.float64
    assert_allclose(found, wide.score_samples(rows), rtol=1e-4, atol=1e-4)
    assert narrow.impute(rows.astype("f4")).dtype == np.float32


# Digits.


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_nearly_dependent_columns_lose_no_digits(covariance_type: Any) -> None:
    """x_2 is x_1 and a little noise: precisions alone would lose eight digits."""
    rng = np.random.RandomState(0)
    x = rng.randn(200)
    rows = np.column_stack([x, x + 1e-7 * rng.randn(200), rng.randn(200)])
    model = GaussianMixtureEM(1, covariance_type=covariance_type, reg_covar=0).fit(rows)
    _, (mean,), (S,) = mixture_of(model)
    holes = rows.copy()
    holes[:, 1] = NAN
    own = multivariate_normal(mean[[0, 2]], S[np.ix_([0, 2], [0, 2])])
    assert_allclose(model.score_samples(holes), own.logpdf(rows[:, [0, 2]]), atol=1e-9)
    assert_allclose(model.impute(holes)[:, 1], rows[:, 1], atol=1e-6)
    mixed = with_holes(rows, 0.2)
    steps = clone(model).set_params(max_iter=30, tol=0).fit(mixed).lower_bounds_
    assert (np.diff(steps) > -1e-6).all()


def test_both_forms_of_a_conditional_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.RandomState(0)
    roots = rng.randn(3, 12, 12)
    covariances = torch.as_tensor(roots @ roots.transpose(0, 2, 1) + np.eye(12))
    means, kind = torch.as_tensor(rng.randn(3, 12)), COVARIANCES["full"]
    x = torch.as_tensor(with_holes(rng.randn(50, 12), 0.5))
    forms = (
        ByPrecision(kind, means, kind.roots(covariances)),
        ByCovariance(covariances, means),
    )
    for swept, large in ((8, 32), (0, 3)):  # by sweeps, by LAPACK; pattern by pattern
        monkeypatch.setattr(conditionals, "SWEPT", swept)
        monkeypatch.setattr(conditionals, "LARGE", large)
        for block in blocks(x, lambda m: 12):
            one, other = (form(block) for form in forms)
            for a, b in zip(one, other):
                assert_allclose(a, b, atol=1e-9)


def test_rows_far_from_zero_lose_no_digits() -> None:
    rows = with_holes(features(80))
    far = rows + 2.0**30
    for model in (
        GaussianDensity(reg_covar=0, max_iter=9),
        GaussianMixtureEM(1, reg_covar=0),
    ):
        near, moved = clone(model).fit(far - 2.0**30), clone(model).fit(far)
        assert_allclose(
            moved.score_samples(far), near.score_samples(far - 2.0**30), atol=1e-6
        )


def test_a_start_from_pairs_is_positive_definite() -> None:
    """Few rows have both cells: the covariances of pairs alone make no density."""
    rows: Any = torch.as_tensor(with_holes(features(14), 0.45, seed=4))
    rows = with_holes_of(CentredRows.of(rows, None), "a test")
    start = start_from_cells(
        COVARIANCES["full"], rows, torch.ones(14, 1, dtype=torch.float64), 0.0
    )
    assert_allclose(start.means[0], np.nanmean(rows.x, axis=0))
    variances = start.covariances[0].diagonal()
    assert (variances > 0.9 * torch.as_tensor(np.nanvar(rows.x, axis=0))).all()
    assert start.roots.isfinite().all()


# What a user meets.


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_a_column_without_cells_is_named(name: str) -> None:
    model = clone(next(e for e in EXACT if class_name(e) == name))
    rows = features(40)
    rows[:, 3] = NAN
    with pytest.raises(ValueError, match="Column 3 of X has missing cells only"):
        model.fit(rows)


def test_holes_in_rows_of_weight_zero_alone_are_no_holes() -> None:
    rows, weight = features(50), np.ones(50)
    weight[7] = 0
    holes = rows.copy()
    holes[7, 2] = NAN
    for model in (
        GaussianDensity(),
        GaussianMixtureEM(2, random_state=0),
        KMeansAutoencoder(3, random_state=0),
    ):
        whole = clone(model).fit(rows, sample_weight=weight)
        found = clone(model).fit(holes, sample_weight=weight)
        assert_allclose(found.score_samples(rows), whole.score_samples(rows), rtol=1e-9)


def test_parts_have_no_holes() -> None:
    rows = with_holes(features(50))
    for model in (GaussianDensity(max_iter=9), KMeansAutoencoder(3)):
        with pytest.raises(ValueError, match="partial_fit takes rows without missing"):
            model.partial_fit(rows)
        model.fit(rows).partial_fit(features(50))  # goes on from the moments


def test_tables_keep_names_and_dtypes() -> None:
    table = pd.DataFrame(with_holes(features(50)), columns=list("abcde"))
    model = GaussianMixtureEM(2, random_state=0).fit(table)
    filled = model.set_output(transform="pandas").impute(table[:7])
    assert list(filled.columns) == list("abcde")
    assert not filled.isna().any(axis=None)
    plain = model.set_output(transform="default").impute(table[:7])
    assert_array_equal(filled, plain)


def test_a_search_takes_rows_with_holes() -> None:
    rows, grid = with_holes(features(60)), {"n_components": [1, 2, 3]}
    model = GaussianMixtureEM(random_state=0, max_iter=5)
    ours = BatchedGridSearchCV(model, grid, cv=2).fit(rows)
    theirs = GridSearchCV(model, grid, cv=2).fit(rows)
    name = "mean_test_score"
    assert_allclose(ours.cv_results_[name], theirs.cv_results_[name])


def test_a_warm_start_goes_on_with_holes() -> None:
    rows = with_holes(features(60))
    params: dict[str, Any] = {"n_components": 2, "random_state": 0, "tol": 0}
    once = GaussianMixtureEM(**params, max_iter=10).fit(rows)
    parts = GaussianMixtureEM(**params, max_iter=5, warm_start=True).fit(rows).fit(rows)
    assert_allclose(parts.score_samples(rows), once.score_samples(rows), rtol=1e-10)
