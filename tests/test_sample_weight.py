"""Weights of rows: of any scale and ratio, in fits and in scores."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

import skgen
import skgen.models.base
from skgen.model_selection import BatchedGridSearchCV
from tests.estimators import (
    CLOSED_FORM,
    ESTIMATORS,
    ONE_OF_EACH,
    class_name,
    dense,
    fitted,
    name_of,
    rows_for,
)

# Few iterations, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

one_of_each = pytest.mark.parametrize("estimator", ONE_OF_EACH, ids=class_name)
closed_form = pytest.mark.parametrize(
    "estimator", [e for e in ESTIMATORS if class_name(e) in CLOSED_FORM], ids=name_of
)


def importance_weights(n: int, seed: int = 0) -> NDArray[Any]:
    """Weights whose ratios reach e^-120."""
    weight = np.exp(-np.random.RandomState(seed).uniform(0, 5, n))
    weight[::3] *= np.exp(-120)
    return weight


# Scores.


@one_of_each
def test_score_is_the_weighted_mean_of_score_samples(estimator: Any) -> None:
    X, model = rows_for(estimator), fitted(estimator)
    weight = importance_weights(len(X))
    scores = model.score_samples(X).astype(np.float64)
    expected = np.average(scores, weights=weight)
    assert_allclose(model.score(X, sample_weight=weight), expected, rtol=1e-12)
    for scale in (2.0**-400, 1e308):
        found = model.score(X, sample_weight=scale * weight)
        assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"sample_weight\.shape"):
        model.score(X, sample_weight=weight[1:])


def test_pipelines_and_tables_take_weights_in_their_score() -> None:
    X = np.random.RandomState(0).randn(40, 2)
    X[0] = 1e4  # beyond the range that is clipped: a score of -inf
    weight = np.r_[0, importance_weights(39)]
    last = skgen.GaussianDensity()
    pipeline = skgen.make_generative_pipeline(StandardScaler(), last).fit(X)
    networks = skgen.VAE(1, hidden_layer_sizes=(4,), max_iter=2, random_state=0)
    table = skgen.MixedDensity(networks).fit(X)
    for model in (pipeline, table):
        expected = np.average(model.score_samples(X), weights=weight)
        assert_allclose(model.score(X, None, weight), expected, rtol=1e-12)


def test_a_row_of_weight_zero_does_not_count_whatever_its_score() -> None:
    values = np.array([-np.inf, -1.0, -3.0])
    weight = np.array([0.0, 1.0, 3.0])
    assert skgen.models.base.weighted_mean(values, weight) == -2.5


@closed_form
def test_information_criteria_count_a_weight_as_copies(estimator: Any) -> None:
    X, model = rows_for(estimator), fitted(estimator)
    weight = np.random.RandomState(0).randint(0, 4, len(X))
    copies = np.repeat(X, weight, axis=0)
    for criterion in (model.aic, model.bic):
        expected = criterion(copies)
        assert_allclose(criterion(X, sample_weight=weight), expected, rtol=1e-10)


@closed_form
def test_aic_and_bic_are_penalised_log_likelihoods(estimator: Any) -> None:
    X, model = rows_for(estimator), fitted(estimator)
    twice = 2 * model.score_samples(X).astype(np.float64).sum()
    penalty = (model.aic(X) + twice) / 2
    assert_allclose(model.bic(X), penalty * np.log(len(X)) - twice)
    assert penalty == pytest.approx(model._n_parameters(), rel=1e-6)


@pytest.mark.parametrize(
    ("params", "count"),
    [
        ({}, 5 + 15),
        ({"n_components": 4}, 5 + 15),  # one eigenvalue is left out, and is its mean
        ({"n_components": 2}, 5 + 3 + 4 + 3),
        ({"covariance_type": "diag"}, 10),
        ({"covariance_type": "diag", "n_components": 2}, 5 + 3),
        ({"covariance_type": "spherical"}, 6),
    ],
    ids=str,
)
def test_free_parameters_of_a_gaussian(params: dict[str, Any], count: int) -> None:
    X = np.random.RandomState(0).randn(50, 5)
    assert skgen.GaussianDensity(**params).fit(X)._n_parameters() == count


# Fits.

INCREMENTAL = [e for e in ONE_OF_EACH if hasattr(e, "partial_fit")]
# Beyond the range of the dtype, or of a sum in it.
SCALES = {np.float64: (5e307, 1e-305), np.float32: (1e-60, 1e39)}

incremental = pytest.mark.parametrize("estimator", INCREMENTAL, ids=class_name)
every_dtype = pytest.mark.parametrize("dtype", SCALES, ids=["float64", "float32"])


def fitted_in_parts(estimator: Any, X: NDArray[Any], weight: list[Any]) -> Any:
    """Fit in three parts, of weights each or None."""
    model = clone(estimator)
    for rows, part in zip(np.array_split(X, 3), weight):
        model.partial_fit(rows, sample_weight=part)
    return model


@one_of_each
@every_dtype
def test_weights_of_any_scale_give_the_same_fit(
    estimator: Any, dtype: type[Any]
) -> None:
    X = rows_for(estimator, dtype=dtype)
    weight = np.random.RandomState(0).uniform(0.5, 1.5, len(X))
    expected = clone(estimator).fit(X, sample_weight=weight).score(X)
    for scale in SCALES[dtype]:
        found = clone(estimator).fit(X, sample_weight=scale * weight).score(X)
        assert found == pytest.approx(expected, rel=1e-5)


@incremental
@every_dtype
def test_weights_of_any_scale_give_the_same_partial_fits(
    estimator: Any, dtype: type[Any]
) -> None:
    X = rows_for(estimator, dtype=dtype)
    weight = np.array_split(np.random.RandomState(0).uniform(0.5, 1.5, len(X)), 3)
    expected = fitted_in_parts(estimator, X, weight).score(X)
    for scale in SCALES[dtype]:
        found = fitted_in_parts(estimator, X, [scale * part for part in weight])
        assert found.score(X) == pytest.approx(expected, rel=1e-4)


@incremental
@pytest.mark.parametrize(
    "scales", [(1, 1e39, 1e-60), (1e-300, 1, 1e300), (1e300, 1e-300, 0)]
)
def test_partial_fits_of_weights_far_apart_stay_finite(
    estimator: Any, scales: tuple[Any, ...]
) -> None:
    X = rows_for(estimator, dtype=np.float32)
    parts = np.array_split(np.ones(len(X)), 3)
    weight = [part * scale if scale else None for part, scale in zip(parts, scales)]
    model = fitted_in_parts(estimator, X, weight)
    assert np.isfinite(model.score_samples(X)).all()
    assert np.isfinite(dense(model.transform(X))).all()
    assert np.isfinite(getattr(model, "loss_curve_", 0.0)).all()


@incremental
def test_rows_without_weights_count_one_beside_rows_with(estimator: Any) -> None:
    X = rows_for(estimator)
    ones = np.array_split(np.full(len(X), 1.0), 3)
    first = 8 * ones[0]
    expected = fitted_in_parts(estimator, X, [first, ones[1], ones[2]])
    found = fitted_in_parts(estimator, X, [first, None, None])
    assert found.score(X) == pytest.approx(expected.score(X), rel=1e-9)


@pytest.mark.filterwarnings("ignore:reg_covar")
@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
@pytest.mark.parametrize("n", [40, 3])
def test_moments_of_partial_fits_keep_the_scale_of_all_calls(
    covariance_type: str, n: int
) -> None:
    rng = np.random.RandomState(0)
    X = rng.randn(n, 4)
    weight = rng.rand(n) * 10.0 ** np.linspace(-60, 60, n)
    params: dict[str, Any] = {"covariance_type": covariance_type, "reg_covar": 1e-3}
    whole = skgen.GaussianDensity(**params).fit(X, sample_weight=weight)
    order = rng.permutation(n)
    parts = skgen.GaussianDensity(**params).partial_fit(
        X[order[:2]], sample_weight=weight[order[:2]]
    )
    for i in order[2:]:
        parts.partial_fit(X[[i]], sample_weight=weight[[i]])
    assert_allclose(parts.score_samples(X), whole.score_samples(X), rtol=1e-9)
    for model in (whole, parts):
        assert_allclose(model.n_samples_seen_, weight.sum(), rtol=1e-12)


@every_dtype
@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
def test_ratios_below_the_range_of_float32_are_kept(
    covariance_type: Any, dtype: type[Any]
) -> None:
    """Half of the rows have weights of e^-120, and are far from the others."""
    X = np.random.RandomState(0).randn(40, 2)
    X[20:] *= 1e20
    X, weight = X.astype(dtype), np.r_[np.ones(20), np.full(20, np.exp(-120.0))]
    model = skgen.GaussianDensity(covariance_type=covariance_type, reg_covar=0)
    model.fit(X, sample_weight=weight)
    wide = X.astype(float)
    mean = np.average(wide, axis=0, weights=weight)
    assert_allclose(model.mean_, mean, rtol=1e-12)
    variance = np.average((wide - mean) ** 2, axis=0, weights=weight)
    if covariance_type == "spherical":
        variance[:] = variance.mean()
    assert_allclose(model.get_covariance().diagonal(), variance, rtol=1e-10)


def test_totals_beyond_float64_are_the_largest_float() -> None:
    X = np.random.RandomState(0).randn(30, 2)
    model = skgen.GaussianDensity().fit(X, sample_weight=np.full(30, 1.7e308))
    plain = skgen.GaussianDensity().fit(X)
    assert model.n_samples_seen_ == np.finfo(float).max
    assert_allclose(model.covariance_, plain.covariance_, rtol=1e-12)
    model.partial_fit(X + 3)  # which counts for nothing
    assert_allclose(model.mean_, plain.mean_, rtol=1e-12)


def test_saved_partial_fits_go_on_on_the_same_scale(tmp_path: Path) -> None:
    X = np.random.RandomState(0).randn(60, 2)
    for estimator in INCREMENTAL:
        model = clone(estimator).partial_fit(X[:30], sample_weight=np.full(30, 1e100))
        skgen.save(model, tmp_path / "model")
        loaded = skgen.load(tmp_path / "model")
        for each in (model, loaded):
            each.partial_fit(X[30:], sample_weight=np.full(30, 3e100))
        assert_allclose(loaded.score_samples(X), model.score_samples(X), rtol=1e-6)


def test_held_out_rows_of_small_weight_still_judge() -> None:
    X = np.random.RandomState(0).randn(60, 2)
    weight = np.r_[1e60, np.ones(59)]
    for seed in range(3):
        model = skgen.VAE(
            1,
            hidden_layer_sizes=(4,),
            max_iter=3,
            early_stopping=True,
            random_state=seed,
        ).fit(X.astype(np.float32), sample_weight=weight)
        assert np.isfinite(model.validation_curve_).all()
        assert np.isfinite(model.loss_curve_).all()
        assert np.isfinite(model.score(X))


def far_clusters(dtype: type[Any]) -> tuple[Any, ...]:
    """Two clusters of 30 rows; those of the second have weights of e^-120."""
    rng = np.random.RandomState(0)
    X = np.concatenate([rng.randn(30, 2), rng.randn(30, 2) + np.array([30, 5])]).astype(
        dtype
    )
    weight = rng.uniform(0.5, 1.5, 60)
    weight[30:] *= np.exp(-120)
    means = np.stack(
        [
            np.average(X[part].astype(float), axis=0, weights=weight[part])
            for part in (slice(30), slice(30, 60))
        ]
    )
    return X, weight, means, weight[30:].sum() / weight.sum()


@every_dtype
def test_a_cluster_of_small_weight_keeps_its_centre(dtype: type[Any]) -> None:
    X, weight, means, share = far_clusters(dtype)
    starts = np.array([[0.0, 0.0], [30.0, 5.0]])
    model = skgen.KMeansAutoencoder(2, init=starts, n_init=1)
    for scale in (1, 1e308):
        model.fit(X, sample_weight=scale * weight)
        assert_allclose(model.cluster_centers_, means, rtol=1e-6)
        assert_allclose(model.weights_[1], share, rtol=1e-6)
        assert np.isfinite(model.inertia_)


@every_dtype
@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_a_component_of_small_weight_keeps_its_mean(
    covariance_type: Any, dtype: type[Any]
) -> None:
    X, weight, means, share = far_clusters(dtype)
    model = skgen.GaussianMixtureEM(
        2, covariance_type=covariance_type, means_init=[[0, 0], [30, 5]], random_state=0
    )
    model.set_params(weights_init=[0.5, 0.5], max_iter=3)
    precisions: dict[str, Any] = {"full": np.stack([np.eye(2)] * 2), "tied": np.eye(2)}
    shapes: dict[str, Any] = {"diag": np.ones((2, 2)), "spherical": np.ones(2)}
    model.set_params(precisions_init={**precisions, **shapes}[covariance_type])
    for scale in (1, 1e308):
        model.fit(X, sample_weight=scale * weight)
        assert_allclose(model.means_, means, rtol=1e-6)
        assert_allclose(float(model.weights_[1]), share, rtol=1e-6)


def test_a_batched_search_keeps_ratios_and_totals() -> None:
    X, weight, *_ = far_clusters(np.float32)
    small: dict[str, Any] = {
        "hidden_layer_sizes": (4,),
        "max_iter": 3,
        "random_state": 0,
    }
    small["n_importance_samples"] = 4
    grid = {"beta": [1.0, 2.0]}
    results = []
    for scale in (1, 1e308):
        search = BatchedGridSearchCV(skgen.BetaVAE(1, **small), grid, cv=2)
        search.fit(X, sample_weight=scale * weight)
        results.append(search.cv_results_["mean_test_score"])
    assert np.isfinite(results).all()
    assert_allclose(*cast(tuple[Any, Any], results), rtol=1e-4)


def test_tables_and_pipelines_keep_ratios_and_totals() -> None:
    X, weight, means, _ = far_clusters(np.float32)
    last = skgen.GaussianDensity()
    pipeline = skgen.make_generative_pipeline(StandardScaler(), last)
    small: dict[str, Any] = {
        "hidden_layer_sizes": (4,),
        "max_iter": 3,
        "random_state": 0,
    }
    table = skgen.MixedDensity(skgen.VAE(1, **small))
    found = []
    for scale in (1, 1e308):
        w = scale * weight
        pipeline.fit(X, gaussiandensity__sample_weight=w)
        centre = pipeline.inverse_transform(np.zeros((1, 2)))
        assert_allclose(centre, means[:1], rtol=1e-4)
        found.append((pipeline.score(X), table.fit(X, sample_weight=w).score(X)))
    assert np.isfinite(found).all()
    assert_allclose(*cast(tuple[Any, Any], found), rtol=1e-4)
