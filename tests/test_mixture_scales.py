"""Densities of mixtures and K-means, whatever the scale of rows, clusters and weights.

The laws: a score is the closed form of the fitted parameters; rescaling and permuting
columns changes scores by the log-determinant alone; the dtype of the rows and the scale
of the weights change nothing but rounding.
"""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.special import logsumexp

from skgen import GaussianMixtureEM, KMeansAutoencoder

TYPES: Any = ("full", "tied", "diag", "spherical")
every_type = pytest.mark.parametrize("covariance_type", TYPES)
# What the scales below are made for is a warning to some, and no matter here.
pytestmark = pytest.mark.filterwarnings("ignore:reg_covar", "ignore:.*converge")
RNG = np.random.RandomState(0)


def matrices(model: Any) -> tuple[Any, ...]:
    """Means (K, d) and covariances (K, d, d) of a fitted model, in long double."""
    if isinstance(model, KMeansAutoencoder):
        means, covariances = model.cluster_centers_, np.array(model.variance_)
    else:
        means, covariances = model.means_, model.covariances_
    (K, d), unit = means.shape, np.eye(means.shape[1])
    if covariances.ndim < 3 and covariances.shape != (d, d):
        covariances = covariances.reshape(
            len(covariances) if covariances.ndim else 1, -1
        )
        covariances = covariances[:, :, None] * unit
    if getattr(model, "covariance_type", "") == "diag":
        covariances = model.covariances_[:, :, None] * unit
    return means.astype(np.longdouble), np.broadcast_to(covariances, (K, d, d))


def closed_form(model: Any, X: NDArray[Any]) -> Any:
    """Log-density of each row, from differences to each mean in long double."""
    means, covariances = matrices(model)
    log_masses = []
    for w, m, S in zip(np.asarray(model.weights_, float), means, covariances):
        scale = np.sqrt(np.diag(S).astype(float))
        root = np.linalg.cholesky(S.astype(float) / scale / scale[:, None])
        difference = ((X.astype(np.longdouble) - m) / scale).astype(float)
        white = np.linalg.solve(root, difference.T)
        log_det = np.log(scale).sum() + np.log(np.diag(root)).sum()
        with np.errstate(divide="ignore"):
            peak = np.log(w) - log_det - len(m) / 2 * np.log(2 * np.pi)
        log_masses.append(peak - (white**2).sum(0) / 2)
    return logsumexp(log_masses, axis=0)


def sentinel(value: Any) -> Any:
    return np.r_[RNG.randn(60, 2), np.full((3, 2), value)]


def two(distance: float, width: float, centre: Any = 0.0) -> Any:
    k = np.arange(100) % 2
    return centre + distance * k[:, None] + width * RNG.randn(100, 2)


ROWS: dict[str, Any] = {
    "a missing value as -9999": np.c_[
        np.r_[RNG.normal(1e7, 1e6, 90), np.full(10, -9999.0)], RNG.normal(40, 10, 100)
    ],
    "milliseconds of two days": two(1e11, 1e3, 1.6e12),
    "a hair's breadth": two(1e-8, 1e-9, 1.0),
    "a hair's breadth beside zero": np.r_[two(1e-8, 1e-9), [[100.0, 100.0]]],
    "sentinels of 1e9": sentinel(999999999.0),
    "sentinels of 1e15": sentinel(1e15),
    "sentinels of 1e100": sentinel(1e100),
    "far from zero": two(30.0, 1.0, 1e9),
    "large": two(1e140, 1e138),
    "small": two(1e-120, 1e-122),
    "ordinary": two(5.0, 1.0),
}
MODELS: dict[str, Any] = {
    **{c: GaussianMixtureEM(2, covariance_type=c, random_state=0) for c in TYPES},
    "k-means": KMeansAutoencoder(2, random_state=0),
}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


@every_model
@pytest.mark.parametrize("X", ROWS.values(), ids=ROWS)
def test_a_score_is_the_closed_form_of_the_parameters(
    model: Any, X: NDArray[Any]
) -> None:
    model.set_params(reg_covar=1e-12 * X.var(0).min() if X.var(0).max() < 1e9 else 1e-6)
    scores = model.fit(X).score_samples(X)
    assert_allclose(scores, closed_form(model, X), rtol=1e-9, atol=1e-6)


# Column scales and order. A start by K-means depends on the units; these do not.

SCALES = 10.0 ** np.array([-9, 9, 0, 4.5])


def rows_of_three(n: int = 90, d: int = 4) -> Any:
    k = np.arange(n) % 3
    means = 4 * RNG.randn(3, d)
    return means[k] + RNG.randn(n, d) @ (np.eye(d) + 0.5 * RNG.randn(d, d))


UNIT = rows_of_three()


def from_rows(covariance_type: Any, X: Any, scale: Any) -> Any:
    """Fit from three rows as means and, without iterations that stop early."""
    d = X.shape[1]
    precisions: Any = np.eye(d) / np.outer(scale, scale) / 4
    precisions = {
        "full": np.broadcast_to(precisions, (3, d, d)),
        "tied": precisions,
        "diag": np.broadcast_to(np.diag(precisions), (3, d)),
        "spherical": np.full(3, precisions[0, 0]),
    }
    return GaussianMixtureEM(
        3,
        covariance_type=covariance_type,
        weights_init=np.full(3, 1 / 3),
        means_init=X[:3],
        precisions_init=precisions[covariance_type],
        reg_covar=0,
        tol=0,
        max_iter=10,
    ).fit(X)


@every_type
@pytest.mark.parametrize("seed", range(3))
def test_units_of_columns_shift_scores_by_the_log_determinant(
    covariance_type: str, seed: int
) -> None:
    scale = np.random.RandomState(seed).permutation(SCALES)
    if covariance_type == "spherical":
        scale = np.full(4, SCALES[seed])
    plain = from_rows(covariance_type, UNIT, np.ones(4)).score_samples(UNIT)
    X = UNIT * scale
    scores = from_rows(covariance_type, X, scale).score_samples(X)
    assert_allclose(scores, plain - np.log(scale).sum(), rtol=1e-8)


@every_type
@pytest.mark.parametrize("init_params", ["random", "random_from_data", "kmeans"])
def test_the_order_of_columns_changes_no_score(
    covariance_type: str, init_params: str
) -> None:
    X = UNIT * [1, 1e-3, 10, 1]
    params: dict[str, Any] = {
        "covariance_type": covariance_type,
        "init_params": init_params,
    }
    model = GaussianMixtureEM(3, random_state=0, **params)
    order = [2, 0, 3, 1]
    first = model.fit(X).score_samples(X)
    second = model.fit(X[:, order]).score_samples(X[:, order])
    assert_allclose(second, first, rtol=1e-8)


# float32 rows.


@every_model
@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e-3, 1e19, 1e30])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_float32_rows_score_as_their_float64_copies(
    model: Any, scale: float, offset: float
) -> None:
    narrow = ((two(5.0, 1.0) + offset) * scale).astype(np.float32)
    wide = narrow.astype(float)
    model.set_params(reg_covar=0)
    expected = model.fit(wide).score_samples(wide)
    weights = model.weights_
    scores = model.fit(narrow).score_samples(wide)
    assert_allclose(scores, expected, rtol=1e-5)
    assert_allclose(model.weights_, weights, rtol=1e-5)
    assert_allclose(scores, closed_form(model, wide), rtol=1e-9, atol=1e-6)


# Weights.


@every_model
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("scale", [1e-200, 1e-60, 1e39, 1e300])
def test_only_the_ratios_of_weights_matter(
    model: Any, dtype: type[Any], scale: float
) -> None:
    X, weight = UNIT.astype(dtype), np.exp(-120 * RNG.rand(90))
    model.set_params(reg_covar=1e-3)
    expected = model.fit(X, sample_weight=weight).score_samples(X)
    scores = model.fit(X, sample_weight=weight * scale).score_samples(X)
    assert_allclose(scores, expected, rtol=1e-9)


@every_type
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rows_of_little_weight_keep_their_component(
    covariance_type: Any, dtype: type[Any]
) -> None:
    X = np.r_[RNG.randn(50, 2), 100 + RNG.randn(50, 2)].astype(dtype)
    init: dict[str, Any] = {
        "means_init": [[0, 0], [100, 100]],
        "weights_init": [0.5, 0.5],
    }
    model = GaussianMixtureEM(2, covariance_type=covariance_type, **init)
    model.fit(X, sample_weight=np.repeat([1.0, np.exp(-120)], 50))
    assert_allclose(np.log(model.weights_[1]), -120, atol=1e-6)
    assert_allclose(model.means_[1], X[50:].mean(0), rtol=1e-4)


# K-means.


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("X", ROWS.values(), ids=ROWS)
def test_labels_are_the_nearest_centres(
    X: NDArray[Any], weighted: bool, dtype: type[Any]
) -> None:
    with np.errstate(over="ignore", under="ignore"):
        X = X.astype(dtype)
    if not np.isfinite(X).all() or not X.std(0).all():
        pytest.skip("not in float32")
    weight = RNG.rand(len(X)) if weighted else None
    model = KMeansAutoencoder(2, random_state=0, reg_covar=1e-300)
    model.fit(X, sample_weight=weight)
    difference = X[:, None].astype(np.longdouble) - model.cluster_centers_
    squares = (difference**2).sum(2)
    least = squares.min(1)
    assert_array_equal(model.labels_, model.predict(X))
    chosen = squares[np.arange(len(X)), model.labels_]
    assert_allclose(chosen.astype(float), least.astype(float), rtol=1e-12)
    inertia = least.sum() if weight is None else (weight * least).sum()
    assert_allclose(model.inertia_, float(inertia), rtol=1e-6)


def test_clusters_beside_a_sentinel_are_found() -> None:
    k = np.arange(90) % 3
    X = np.r_[10.0 * k[:, None] + RNG.randn(90, 2), [[1e15, 1e15]]]
    model = KMeansAutoencoder(4, n_init=5, random_state=0).fit(X)
    expected = [*(X[:90][k == j].mean(0) for j in range(3)), X[90]]
    found = model.cluster_centers_[model.cluster_centers_[:, 0].argsort()]
    assert_allclose(found, expected, rtol=1e-9)
    assert_allclose(model.score_samples(X), closed_form(model, X), atol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_long_float32_column_has_the_tolerance_of_a_float64_one(
    weighted: bool,
) -> None:
    n, rng = 50_000, np.random.RandomState(0)
    X = np.c_[4.0 * rng.randint(4, size=n) + rng.randn(n), rng.randn(n)] + 1e5
    X = X.astype(np.float32)
    weight = np.r_[np.ones(n - 1), 1.0000001] if weighted else None
    narrow, wide = (
        KMeansAutoencoder(4, init=X[:4].astype(float)).fit(rows, sample_weight=weight)
        for rows in (X, X.astype(float))
    )
    assert narrow.n_iter_ == wide.n_iter_ > 5
    assert_allclose(narrow.inertia_, wide.inertia_, rtol=1e-6)
