"""Rows drawn and scored given some of their cells, against closed forms."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import kstest, norm, truncnorm

from skgen import GaussianDensity, GaussianMixtureEM, KMeansAutoencoder
from skgen._em.truncation import log_normal_mass, truncated_normal
from skgen.exceptions import DegenerateWeightsWarning
from tests.estimators import class_name, features, fitted
from tests.test_incomplete_rows import EXACT, each_model, marginal, mixture_of

NAN = np.nan
N = 4000


def moments(model: Any, row: NDArray[Any]) -> tuple[Any, ...]:
    """Conditional mean and covariance of a row with holes."""
    log_masses, means, spreads = marginal(model, row)
    p, missing = np.exp(log_masses - logsumexp(log_masses)), np.isnan(row)
    mean = p @ means[:, missing]
    centred = means[:, missing] - mean
    outer = centred[:, :, None] * centred[:, None]
    return mean, np.einsum("k,kij", p, spreads + outer)


def assert_moments(
    drawn: NDArray[Any], mean: NDArray[Any], covariance: NDArray[Any]
) -> None:
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, (drawn - mean).T)
    assert_allclose(white.mean(1), 0, atol=5 / len(drawn) ** 0.5)
    assert_allclose(np.cov(white), np.eye(len(mean)), atol=0.15)


# Values.


@each_model
def test_samples_given_values_have_the_conditional_moments(estimator: Any) -> None:
    model, row = fitted(estimator), features(60)[7]
    given: dict[Any, Any] = {1: row[1], 3: row[3]}
    drawn = model.sample(N, 0, given=given)
    assert_array_equal(drawn[:, [1, 3]], np.tile(row[[1, 3]], (N, 1)))
    row[[0, 2, 4]] = NAN
    assert_moments(drawn[:, [0, 2, 4]], *moments(model, row))
    assert_array_equal(model.sample(N, 0, given=row), drawn)
    assert_array_equal(model.sample(9, 0, given=row), model.sample(9, 0, given=given))


@each_model
def test_scores_given_columns_are_differences_of_log_marginals(estimator: Any) -> None:
    model, rows = fitted(estimator), features(20, seed=3)
    rest = rows.copy()
    rest[:, [0, 3, 4]] = NAN
    expected = model.score_samples(rows) - model.score_samples(rest)
    found = model.score_samples(rows, given=[1, 2])
    assert_allclose(found, expected)
    assert_allclose(model.score_samples(rows, given=[]), model.score_samples(rows))
    assert_allclose(model.score_samples(rows, given=range(5)), 0, atol=1e-9)


def test_a_conditional_score_is_the_conditional_density() -> None:
    X = features(200)
    model = GaussianDensity(reg_covar=0).fit(X)
    m, S = model.mean_, model.get_covariance()
    slope = S[0, 1:] @ np.linalg.inv(S[1:, 1:])
    spread = np.sqrt(S[0, 0] - slope @ S[1:, 0])
    expected = norm(m[0] + (X - m)[:, 1:] @ slope, spread).logpdf(X[:, 0])
    assert_allclose(model.score_samples(X, given=[1, 2, 3, 4]), expected, atol=1e-8)


def test_rows_of_a_table_are_each_completed() -> None:
    table = pd.DataFrame(features(60), columns=list("abcde"))
    model = GaussianMixtureEM(2, random_state=0).fit(table)
    known = table.loc[:2, ["d", "a"]]
    drawn = model.sample(5, 0, given=known)
    assert drawn.shape == (15, 5)
    assert_array_equal(drawn[:, [3, 0]], np.repeat(known.to_numpy(), 5, axis=0))
    named, numbered = ({key: 1.0} for key in ("c", 2))
    same = [model.sample(3, 0, given=each) for each in (named, numbered)]
    assert_array_equal(*same)
    assert_allclose(
        model.score_samples(table, given=["a"]), model.score_samples(table, given=[0])
    )
    framed = model.set_output(transform="pandas").sample(2, 0, given={"b": 3.0})
    assert list(framed.columns) == list("abcde")
    assert (framed["b"] == 3).all()


# Codes.


@each_model
def test_rows_come_with_the_codes_they_were_drawn_from(estimator: Any) -> None:
    model = fitted(estimator)
    rows, code = model.sample(500, 0, noise=False, return_code=True)
    assert type(code) is type(model.transform(rows))
    assert code.shape == (500, model._n_features_out)
    assert_allclose(model.inverse_transform(code), rows, rtol=1e-6, atol=1e-6)
    noisy, code = model.sample(N, 1, return_code=True)
    if class_name(estimator) == "GaussianDensity" and code.any():
        latent = np.cov(code.T).reshape(code.shape[1], -1)
        assert_allclose(latent, np.eye(len(latent)), atol=0.12)
    residual = noisy - model.inverse_transform(code)
    weights, _, covariances = mixture_of(model)
    total = np.einsum("k,kij", weights, covariances)
    if class_name(estimator) != "GaussianDensity":
        scale = np.sqrt(np.diag(total))
        assert_allclose(
            np.cov((residual / scale).T), total / np.outer(scale, scale), atol=0.15
        )


@pytest.mark.parametrize("n_components", [None, 2])
def test_codes_of_a_gaussian_given_cells_are_of_the_posterior(
    n_components: int | None,
) -> None:
    model = GaussianDensity(n_components).fit(features())
    row = features(60)[7]
    row[[1, 2]] = NAN
    drawn, code = model.sample(N, 0, given=row, return_code=True)
    expected = model.transform(row[None])[0]
    assert_allclose(code.mean(0), expected, atol=0.1)
    if n_components is None:
        assert_allclose(model.transform(drawn), code, atol=1e-6)


def test_sparse_codes_are_sparse() -> None:
    model = KMeansAutoencoder(3, encode="onehot", random_state=0).fit(features())
    _, code = model.sample(9, 0, return_code=True)
    assert scipy.sparse.issparse(code)


# Intervals and levels.


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_one_interval_is_a_truncated_density(covariance_type: Any) -> None:
    model = GaussianMixtureEM(1, covariance_type=covariance_type).fit(features(200))
    _, (mean,), (S,) = mixture_of(model)
    low, high, sd = mean[1] + 1, mean[1] + 30, S[1, 1] ** 0.5
    drawn = model.sample(N, 0, given={1: (low, high)})
    own = truncnorm((low - mean[1]) / sd, (high - mean[1]) / sd, mean[1], sd)
    assert kstest(drawn[:, 1], own.cdf).pvalue > 1e-3
    slope = S[0, 1] / S[1, 1]
    rest = drawn[:, 0] - mean[0] - slope * (drawn[:, 1] - mean[1])
    spread = np.sqrt(S[0, 0] - slope * S[0, 1])
    assert kstest(rest, norm(0, spread).cdf).pvalue > 1e-3


def test_independent_columns_are_truncated_exactly() -> None:
    model = GaussianMixtureEM(3, covariance_type="diag", random_state=0).fit(features())
    given: dict[Any, Any] = {0: (None, 1.0), 1: (0.0, 40.0), 4: (-5.0, None)}
    drawn = model.sample(N, 0, given=given)
    whole = model.sample(400_000, random_state=1)
    kept = whole[
        (whole[:, 0] < 1) & (np.abs(whole[:, 1] - 20) < 20) & (whole[:, 4] > -5)
    ]
    assert ((drawn[:, 0] <= 1) & (drawn[:, 4] >= -5)).all()
    scale = kept.std(0)
    assert_allclose(drawn.mean(0) / scale, kept.mean(0) / scale, atol=0.08)
    assert_allclose(drawn.std(0) / scale, 1, atol=0.08)


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_dependent_columns_are_resampled(covariance_type: Any) -> None:
    model = GaussianMixtureEM(2, covariance_type=covariance_type, random_state=0).fit(
        features()
    )
    given: dict[Any, Any] = {0: (-2.0, 3.0), 1: (0.0, 40.0), 3: (-4.0, 1.0)}
    drawn = model.sample(N, 0, given=given)
    whole = model.sample(400_000, random_state=1)
    kept = whole[
        (np.abs(whole[:, 0] - 0.5) < 2.5)
        & (np.abs(whole[:, 1] - 20) < 20)
        & (np.abs(whole[:, 3] + 1.5) < 2.5)
    ]
    assert len(kept) > 1000
    for j, (low, high) in given.items():
        assert ((drawn[:, j] >= low) & (drawn[:, j] <= high)).all()
    scale = kept.std(0)
    assert_allclose(drawn.mean(0) / scale, kept.mean(0) / scale, atol=0.15)
    assert_allclose(drawn.std(0) / scale, 1, atol=0.15)


def test_levels_come_in_proportion_to_their_density() -> None:
    model = GaussianMixtureEM(2, random_state=0).fit(features())
    levels = [0.0, 1.0, 2.5]
    drawn = model.sample(N, 0, given={0: levels, 2: 0.1})
    rows = np.full((3, 5), NAN)
    rows[:, 0], rows[:, 2] = levels, 0.1
    p = np.exp(model.score_samples(rows))
    shares = [(drawn[:, 0] == level).mean() for level in levels]
    assert_allclose(shares, p / p.sum(), atol=0.03)
    both = model.sample(50, 0, given={0: {1.0, 2.0}, 1: (0, 5)})
    assert set(both[:, 0]) <= {1.0, 2.0}
    assert ((both[:, 1] >= 0) & (both[:, 1] <= 5)).all()


def test_few_effective_draws_are_said() -> None:
    rng = np.random.RandomState(0)
    x = rng.randn(500)
    X = np.column_stack([x, x + 1e-3 * rng.randn(500), x + 1e-3 * rng.randn(500)])
    model = GaussianDensity(reg_covar=0).fit(X)
    with pytest.warns(DegenerateWeightsWarning, match="draws only"):
        model.sample(50, 0, given={0: (-3, 3), 1: (3.1, 3.2), 2: (3.15, 3.2)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.sample(50, 0, given={0: (-3, 3), 1: (-3, 1)})


def test_truncated_normals_keep_their_digits_far_out() -> None:
    rng = np.random.RandomState(0)
    a, b = np.array([30.0, -31, -1, 5, -np.inf]), np.array([31.0, -30, 2, np.inf, -20])
    expected = [truncnorm(*ends).mean() for ends in zip(a, b)]
    drawn = np.stack([truncated_normal(a, b, rng) for _ in range(3000)])
    assert ((drawn >= a) & (drawn <= b)).all()
    assert_allclose(drawn.mean(0), expected, atol=0.05)
    assert_allclose(log_normal_mass(a, b)[0], norm.logsf(30), rtol=1e-9)
    assert_allclose(
        log_normal_mass(*np.array([[-1.0], [2.0]])), np.log(norm.cdf(2) - norm.cdf(-1))
    )


# What is wrong is said.

BAD: dict[str, Any] = {
    "no column": ({9: 1.0}, "has the column 9"),
    "no name": ({"x": 1.0}, "has the column 'x'"),
    "text": ({0: "big"}, "'big' for the column 0"),
    "infinite": ({0: np.inf}, "inf for the column 0"),
    "empty interval": ({0: (2, 1)}, r"the interval \(2, 1\)"),
    "three ends": ({0: (1, 2, 3)}, r"the interval \(1, 2, 3\)"),
    "no levels": ({0: []}, "0 combinations of levels"),
    "too many": ({key: list(range(10)) for key in range(5)}, "100000 combinations"),
    "shape": ([1.0, 2.0], "rows of 5 columns"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_conditions_are_named(case: str) -> None:
    given, message = BAD[case]
    model = GaussianDensity().fit(features())
    with pytest.raises(ValueError, match=f"'given' of GaussianDensity.*{message}"):
        model.sample(3, given=given)


def test_draws_given_cells_repeat_under_a_seed() -> None:
    model = fitted(EXACT[0])
    first, same = (model.sample(5, 3, given={0: (0, 1), 1: (0, 9)}) for _ in "12")
    assert_array_equal(first, same)
