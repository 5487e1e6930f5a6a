"""Outliers by a density: thresholds, p-values, and outliers among the training rows."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity
from sklearn.utils.estimator_checks import check_estimator

from skgen import VAE, GaussianDensity, GaussianMixtureEM, MixedDensity
from skgen.outliers import DensityOutlierDetector

RNG = np.random.RandomState(0)
INLIERS = RNG.normal(size=(400, 3))
# Few and far: a mixture gives them components of high density.
FAR = RNG.choice([-1, 1], size=(8, 3)) * RNG.uniform(6, 12, size=(8, 3))
CONTAMINATED = np.vstack([INLIERS, FAR])
IS_OUTLIER = np.arange(len(CONTAMINATED)) >= len(INLIERS)


def detector(model: Any = None, **params: Any) -> Any:
    model = GaussianDensity() if model is None else model
    return DensityOutlierDetector(model, random_state=0, **params)


@pytest.mark.filterwarnings("ignore:DensityOutlierDetector. level=0.05 takes 19 rows")
def test_scikit_learns_checks() -> None:
    # A seed picks the rows that calibrate among as many as there are.
    failed = {"check_sample_weight_equivalence_on_dense_data": "see above"}
    check_estimator(detector(), on_skip=None, expected_failed_checks=failed)


def test_scores_are_those_of_the_density_and_the_threshold_is_zero() -> None:
    model = detector().fit(INLIERS)
    scores = model.estimator_.score_samples(INLIERS)
    assert_array_equal(model.score_samples(INLIERS), scores)
    assert_array_equal(model.decision_function(INLIERS), scores - model.offset_)
    assert_array_equal(model.predict(INLIERS), np.where(scores < model.offset_, -1, 1))


@pytest.mark.parametrize("contamination", [0.05, 0.3])
def test_as_many_rows_are_outliers_as_are_said_to_be(contamination: float) -> None:
    labels = detector(contamination=contamination).fit_predict(INLIERS)
    assert np.mean(labels == -1) == pytest.approx(contamination, abs=1 / 400)


def test_p_values_of_inliers_are_valid() -> None:
    # Of a density that is wrong, too: uniform on the grid of n + 1 values.
    levels = np.array([0.02, 0.05, 0.1, 0.25, 0.5])
    hits, n_fits = np.zeros(len(levels)), 40
    for seed in range(n_fits):
        rng = np.random.RandomState(seed)
        rows = rng.exponential(size=(700, 2))
        model = DensityOutlierDetector(
            GaussianDensity(), calibration_size=199, random_state=seed
        )
        model.set_params(calibration_size=199 / 500).fit(rows[:500])
        p = model.p_values(rows[500:])
        hits += (p[:, None] <= levels).mean(0)
    spread = np.sqrt(levels * (1 - levels) / n_fits * (1 / 200 + 1 / 200))
    assert (np.abs(hits / n_fits - levels) < 4 * spread).all()


def test_the_automatic_threshold_is_that_of_the_p_values() -> None:
    model = detector(level=0.1).fit(INLIERS)
    rows = 3 * RNG.normal(size=(500, 3))
    assert_array_equal(model.predict(rows) == -1, model.p_values(rows) <= 0.1)


def test_few_rows_that_calibrate_leave_the_lowest_as_the_threshold() -> None:
    said = r"level=0\.01 takes 99 rows that calibrate, and there are 6\. .* level=0\.14"
    with pytest.warns(UserWarning, match=said):
        model = detector(level=0.01).fit(INLIERS[:30])
    assert model.offset_ == model.calibration_scores_.min()


@pytest.mark.parametrize("n_components", [1, 6])
def test_outliers_among_the_training_rows_are_left_out(n_components: int) -> None:
    mixture = GaussianMixtureEM(n_components, reg_covar=1e-9, random_state=0)
    taken_in = clone(mixture).fit(CONTAMINATED).score_samples(CONTAMINATED)
    model = detector(mixture, contamination=IS_OUTLIER.mean()).fit(CONTAMINATED)
    assert not model.support_[IS_OUTLIER].any()
    scores = model.score_samples(CONTAMINATED)
    assert scores[IS_OUTLIER].max() < scores[~IS_OUTLIER].min()
    if n_components > 1:  # or else the outliers are the most likely rows of all
        assert taken_in[IS_OUTLIER].max() > taken_in[~IS_OUTLIER].max()


def test_nothing_is_left_out_unless_asked_for() -> None:
    model = detector().fit(INLIERS)
    assert model.support_.sum() == 320
    assert detector(trim=0.25).fit(INLIERS).support_.sum() == 240


def test_rows_of_weight_zero_are_not_learned() -> None:
    weight = np.where(IS_OUTLIER, 0.0, 1.0)
    model = detector().fit(CONTAMINATED, sample_weight=weight)
    assert model.estimator_.mean_.max() < 0.5


@pytest.mark.parametrize(
    "density", [GaussianMixture(2, random_state=0), KernelDensity()]
)
def test_any_density_will_do(density: Any) -> None:
    model = detector(density, contamination=0.03).fit(CONTAMINATED)
    assert (model.predict(FAR) == -1).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_table_with_holes_is_scored() -> None:
    frame = pd.DataFrame(INLIERS[:150], columns=list("abc"))
    frame["word"] = np.where(INLIERS[:150, 0] > 0, "high", "low")
    frame.loc[::9, "b"] = np.nan
    density = MixedDensity(VAE(1, max_iter=20, random_state=0))
    model = detector(density, level=0.04).fit(frame)
    odd = frame.iloc[:1].assign(a=-9.0)
    assert model.predict(odd) == [-1]
    assert_array_equal(model.feature_names_in_, frame.columns)


def test_the_same_seed_gives_the_same_detector() -> None:
    one, other = (detector(contamination=0.1).fit(INLIERS) for _ in range(2))
    assert_array_equal(one.p_values(FAR), other.p_values(FAR))
    kept = pickle.loads(pickle.dumps(one))
    assert_allclose(kept.decision_function(FAR), one.decision_function(FAR))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"contamination": 0.0}, "'contamination' parameter"),
        ({"contamination": 0.6}, "'contamination' parameter"),
        ({"level": 1.0}, "'level' parameter"),
        ({"trim": 0.7}, "'trim' parameter"),
        ({"calibration_size": 0.0}, "'calibration_size' parameter"),
        ({"n_folds": 1}, "'n_folds' parameter"),
    ],
)
def test_parameters_out_of_range_are_named(
    params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        detector(**params).fit(INLIERS)


def test_what_is_no_density_is_refused() -> None:
    with pytest.raises(TypeError, match="must be an instance of a density"):
        DensityOutlierDetector(GaussianMixture).fit(INLIERS)
