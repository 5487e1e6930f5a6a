"""Rows in batches: stepwise EM, and one adapter for all that iterates."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from torch.utils.data import DataLoader, TensorDataset

from skgen import VAE, ConditionalVAE, GaussianDensity, GaussianMixtureEM, MixtureEM
from skgen._em.covariance import COVARIANCES
from skgen._em.stepwise import step_size
from skgen.streams import fit_batches
from tests.estimators import ONE_OF_EACH, class_name

RNG = np.random.RandomState(0)
MEANS = np.array([[-4.0, 0, 1], [4, 1, 0], [0, 5, -3]])


def drawn(n: int, seed: int) -> Any:
    """Draw rows of three components."""
    rng = np.random.RandomState(seed)
    k = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    return MEANS[k] + rng.randn(n, 3) @ np.array([[1, 0.5, 0], [0, 0.7, 0], [0, 0, 1]])


def with_some_missing(X: NDArray[Any], seed: int = 0) -> NDArray[Any]:
    return np.where(np.random.RandomState(seed).rand(*X.shape) < 0.2, np.nan, X)


X = drawn(400, 0)
types = pytest.mark.parametrize("covariance_type", COVARIANCES)
PARAMETERS = ("weights_", "means_", "covariances_")


def assert_parameters(model: Any, other: Any, **tolerance: Any) -> None:
    for name in PARAMETERS:
        expected = getattr(other, name)
        np.testing.assert_allclose(getattr(model, name), expected, **tolerance)


def settled(covariance_type: str, rows: Any, **params: Any) -> GaussianMixtureEM:
    """Fit to a fixed point of EM, where parameters are their own expected moments."""
    model = GaussianMixtureEM(
        3,
        covariance_type=covariance_type,  # type: ignore[arg-type]
        tol=0,
        max_iter=100,
        random_state=0,
        reg_covar=0,
        **params,
    )
    with pytest.warns(match="did not converge"):
        return model.fit(rows)


def one_step(model: GaussianMixtureEM, rows: Any, weight: Any) -> Any:
    """Take one iteration of EM from where a model is."""
    ours = clone(model).set_params(
        max_iter=1,
        weights_init=model.weights_ / model.weights_.sum(),
        means_init=model.means_,
        precisions_init=model.precisions_,
    )
    with pytest.warns(match="did not converge"):
        return ours.fit(rows, sample_weight=weight)


@types
def test_a_batch_replaces_a_part_of_the_sums(covariance_type: str) -> None:
    """The step is EM's on old and new rows, weighted as they count."""
    model = settled(covariance_type, X)
    batch = drawn(100, 1) + 0.3
    rate = step_size(4, model.decay)
    weight = np.repeat([(1 - rate) / 400, rate / 100], [400, 100])
    expected = one_step(model, np.concatenate([X, batch]), weight)
    assert_parameters(model.partial_fit(batch), expected, rtol=1e-6, atol=1e-9)
    assert model.n_iter_ == len(model.lower_bounds_) == 101
    assert model.lower_bound_ == model.lower_bounds_[-1]


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_missing_cells_count_as_they_are_expected(
    covariance_type: str,
) -> None:
    rows, batch = with_some_missing(X), with_some_missing(drawn(100, 1) + 0.3, 1)
    model = settled(covariance_type, rows)
    rate = step_size(4, model.decay)
    weight = np.repeat([(1 - rate) / 400, rate / 100], [400, 100])
    expected = one_step(model, np.concatenate([rows, batch]), weight)
    assert_parameters(model.partial_fit(batch), expected, rtol=1e-5, atol=1e-6)


@types
def test_a_fixed_point_stays_where_it_is(covariance_type: str) -> None:
    rows = with_some_missing(X)
    model = settled(covariance_type, rows)
    before = copy.deepcopy(model)
    model.partial_fit(rows)
    assert_parameters(model, before, rtol=1e-4, atol=1e-5)


@types
def test_reg_covar_is_added_once(covariance_type: str) -> None:
    model = GaussianMixtureEM(
        1,
        covariance_type=covariance_type,  # type: ignore[arg-type]
        reg_covar=0.1,
    )
    for _ in range(50):
        model.partial_fit(X)
    once = clone(model).fit(X)
    assert_parameters(model, once, rtol=1e-9)


@types
def test_a_stream_comes_near_a_fit_of_all_rows(covariance_type: str) -> None:
    params: dict[str, Any] = {"covariance_type": covariance_type, "random_state": 0}
    whole = GaussianMixtureEM(3, **params).fit(drawn(8000, 0))
    model = GaussianMixtureEM(3, n_init=3, **params)
    for seed in range(80):
        model.partial_fit(drawn(100, seed))
    test = drawn(4000, 99)
    assert model.score(test) > whole.score(test) - 0.03
    assert not model.converged_


def test_a_stream_with_holes_comes_near_a_fit_of_whole_rows() -> None:
    whole = GaussianMixtureEM(3, random_state=0).fit(drawn(8000, 0))
    model = GaussianMixtureEM(3, n_init=3, random_state=0)
    for seed in range(80):
        model.partial_fit(with_some_missing(drawn(100, seed), seed))
    test = drawn(4000, 99)
    assert model.score(test) > whole.score(test) - 0.06


def test_a_later_batch_may_lack_a_column() -> None:
    model = GaussianMixtureEM(3, random_state=0).fit(X)
    means = model.means_.copy()
    model.partial_fit(np.where([False, False, True], np.nan, drawn(50, 3)))
    assert np.isfinite(model.covariances_).all()
    assert not np.array_equal(model.means_, means)


def test_a_stream_forgets() -> None:
    model = GaussianMixtureEM(1, decay=0.6)
    slow = GaussianMixtureEM(1, decay=1.0)
    for seed in range(60):
        batch = drawn(100, seed) + (10 if seed >= 30 else 0)
        for each in (model, slow):
            each.partial_fit(batch)
    assert 4 < slow.means_.mean() < 6.5
    assert model.means_.mean() > 9


def test_a_batch_counts_by_its_weight_beside_the_rows_before() -> None:
    small, large = X[:8], np.repeat(X[:8], 50, axis=0)
    base = GaussianMixtureEM(3, random_state=0).fit(X)
    moved = []
    for batch in (small, large):
        model = clone(base).fit(X)
        before = model.means_.copy()
        model.partial_fit(batch)
        moved.append(np.abs(model.means_ - before).max())
    assert moved[0] < moved[1] / 4
    one, other = (clone(base).fit(X) for _ in range(2))
    one.partial_fit(small, sample_weight=np.full(8, 50.0))
    other.partial_fit(large)
    assert_parameters(one, other, rtol=1e-9)


def test_the_scale_of_all_weights_does_not_matter() -> None:
    models = [GaussianMixtureEM(2, random_state=0) for _ in range(2)]
    for factor, model in zip((1.0, 1e200), models):
        for seed in range(4):
            weight = factor * (1 + np.random.RandomState(seed).rand(60))
            model.partial_fit(drawn(60, seed), sample_weight=weight)
    assert_parameters(*models, rtol=1e-7)


def test_float32_rows_and_one_row_at_a_time() -> None:
    model = GaussianMixtureEM(3, random_state=0).partial_fit(X.astype(np.float32))
    for row in drawn(200, 5).astype(np.float32):
        model.partial_fit(row[None])
    assert model.score(drawn(500, 9)) > -6


def test_the_first_batch_has_a_row_for_each_component() -> None:
    with pytest.raises(ValueError, match="n_samples >= n_components"):
        GaussianMixtureEM(9).partial_fit(X[:4])


@pytest.mark.parametrize(
    "params",
    [{"covariance_type": "factor"}, {"covariance_prior": "auto"}, {"weight_prior": 1}],
)
def test_factors_and_priors_have_no_steps(params: dict[str, Any]) -> None:
    model = GaussianMixtureEM(2, **params)
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError, match="no attribute 'partial_fit'") as raised:
        model.partial_fit(X)
    assert "partial_fit has no steps" in str(raised.value.__cause__)


# The adapter.


STREAMED = [each for each in ONE_OF_EACH if hasattr(each, "partial_fit")]


@pytest.mark.parametrize("estimator", STREAMED, ids=class_name)
def test_batches_are_partial_fits(estimator: Any) -> None:
    batches = [drawn(40, seed) for seed in range(3)]
    expected = clone(estimator)
    for batch in batches:
        expected.partial_fit(batch)
    found = fit_batches(clone(estimator), iter(batches))
    scores = (each.score_samples(X[:20]) for each in (found, expected))
    np.testing.assert_array_equal(*scores)


def test_a_data_loader_gives_batches() -> None:
    labels = np.arange(len(X)) % 2
    data = TensorDataset(torch.tensor(X), torch.tensor(labels))
    settings: dict[str, Any] = {"hidden_layer_sizes": (4,), "random_state": 0}
    model = fit_batches(
        ConditionalVAE(1, **settings), DataLoader(data, batch_size=100), epochs=2
    )
    assert model.n_iter_ == 8
    alone = TensorDataset(torch.tensor(X))
    found = fit_batches(GaussianDensity(), DataLoader(alone, batch_size=64))
    np.testing.assert_allclose(found.mean_, X.mean(0))


def test_weights_come_as_a_third_part() -> None:
    weight = 1 + RNG.rand(len(X))
    parts = [(X[i::2], None, weight[i::2]) for i in range(2)]
    found = fit_batches(GaussianDensity(), [*parts, (X[:0],)])
    whole = GaussianDensity().fit(X, sample_weight=weight)
    np.testing.assert_allclose(found.covariance_, whole.covariance_)


def test_what_came_before_a_failure_is_kept() -> None:
    def batches() -> Iterator[Any]:
        yield X
        yield X[:, :2]

    model = GaussianDensity()
    with pytest.raises(ValueError, match="features"):
        fit_batches(model, batches())
    np.testing.assert_allclose(model.mean_, X.mean(0))


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match="MixtureEM has no partial_fit"):
        fit_batches(MixtureEM(), [X])
    with pytest.raises(ValueError, match="no batch of rows for VAE"):
        fit_batches(VAE(), iter([]))
    with pytest.raises(ValueError, match="epochs=2 needs batches"):
        fit_batches(GaussianDensity(), iter([X]), epochs=2)
    for epochs in (0, 1.5, True):
        with pytest.raises(ValueError, match="'epochs' parameter"):
            fit_batches(GaussianDensity(), [X], epochs=epochs)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has 4 parts"):
        fit_batches(GaussianDensity(), [(X, X, X, X)])
