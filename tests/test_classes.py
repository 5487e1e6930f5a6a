"""Densities of classes: Bayes' rule, rejection, and rows of rare classes."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import polars
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import check_estimator

from skgen import (
    VAE,
    GaussianDensity,
    GaussianMixtureEM,
    GenerativeClassifier,
    GenerativeOverSampler,
    KMeansAutoencoder,
    MixedDensity,
)

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[Y]
RARE = np.r_[0:50, 50:70, 100:105]  # 50, 20 and 5 of the classes


@pytest.mark.filterwarnings("ignore:Column .* counts as constant:UserWarning")
def test_scikit_learns_checks() -> None:
    check_estimator(GenerativeClassifier(), on_skip=None)


def test_gaussians_are_quadratic_discriminant_analysis() -> None:
    model = GenerativeClassifier(GaussianDensity(reg_covar=0)).fit(X, Y)
    # Its covariances have n - 1 below, ours n.
    joint = np.stack(
        [
            multivariate_normal(X[k == Y].mean(0), np.cov(X[k == Y].T, ddof=0)).logpdf(
                X
            )
            for k in range(3)
        ],
        axis=1,
    )
    proba = np.exp(joint - joint.max(1, keepdims=True))
    assert_allclose(
        model.predict_proba(X), proba / proba.sum(1, keepdims=True), atol=1e-9
    )
    qda = QuadraticDiscriminantAnalysis().fit(X, Y)
    assert (model.predict(X) == qda.predict(X)).mean() > 0.99


def test_the_density_of_rows_is_that_of_their_mixture() -> None:
    model = GenerativeClassifier().fit(X, NAMES)
    parts = [np.log(1 / 3) + density.score_samples(X) for density in model.estimators_]
    assert_allclose(model.score_samples(X), np.logaddexp.reduce(parts))
    log_proba = np.log(model.predict_proba(X))
    assert_allclose(model.predict_log_proba(X), log_proba, atol=1e-12)


@pytest.mark.parametrize(
    "density",
    [
        GaussianDensity(2),
        GaussianMixtureEM(2, reg_covar=1e-3, random_state=0),
        KMeansAutoencoder(3, random_state=0),
        VAE(2, max_iter=40, random_state=0),
        MixedDensity(VAE(2, max_iter=30, random_state=0)),
    ],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_any_density_classifies(density: Any) -> None:
    model = GenerativeClassifier(density).fit(X, NAMES)
    assert model.score(X, NAMES) > 0.9
    assert set(model.classes_) == set(NAMES)


def test_classes_have_their_part_of_the_rows_as_prior() -> None:
    model = GenerativeClassifier().fit(X[RARE], Y[RARE])
    assert_allclose(np.exp(model.class_log_prior_), [50 / 75, 20 / 75, 5 / 75])
    model.set_params(class_weight="balanced").fit(X[RARE], Y[RARE])
    assert_allclose(np.exp(model.class_log_prior_), [1 / 3] * 3)
    model.set_params(class_weight={0: 1, 1: 1, 2: 10}).fit(X[RARE], Y[RARE])
    assert_allclose(np.exp(model.class_log_prior_), [50 / 120, 20 / 120, 50 / 120])
    weight = np.where(Y[RARE] == 2, 4.0, 1.0)
    model.set_params(class_weight=None).fit(X[RARE], Y[RARE], sample_weight=weight)
    assert_allclose(np.exp(model.class_log_prior_), [50 / 90, 20 / 90, 20 / 90])


def test_a_weight_of_two_is_a_row_twice() -> None:
    weight = np.where(np.arange(len(X)) % 3 == 0, 2.0, 1.0)
    twice = np.r_[np.arange(len(X)), np.arange(0, len(X), 3)]
    one = GenerativeClassifier().fit(X, Y, sample_weight=weight)
    other = GenerativeClassifier().fit(X[twice], Y[twice])
    assert_allclose(one.predict_proba(X), other.predict_proba(X), atol=1e-9)


def test_rows_of_no_class_are_rejected() -> None:
    model = GenerativeClassifier(reject=0.05, random_state=0).fit(X, Y)
    assert_array_equal(model.predict(X[:3] + 20), [-1, -1, -1])
    assert (model.predict(X) == -1).mean() < 0.25
    named = clone(model).set_params(outlier_label="unknown").fit(X, NAMES)
    assert_array_equal(named.predict(X[:1] + 20), ["unknown"])
    assert (named.predict(X[:50]) == "setosa").mean() > 0.8


def test_rejection_is_as_frequent_as_is_allowed() -> None:
    rng = np.random.RandomState(0)
    rejected, n_fits = [], 30
    for seed in range(n_fits):
        y = rng.randint(2, size=800)
        rows = rng.exponential(size=(800, 2)) + 3 * y[:, None]
        model = GenerativeClassifier(
            reject=0.1, calibration_size=0.5, random_state=seed
        ).fit(rows[:400], y[:400])
        rejected.append((model.predict(rows[400:]) == -1).mean())
    assert np.mean(rejected) == pytest.approx(0.1, abs=0.02)


def test_rows_are_drawn_with_their_classes() -> None:
    model = GenerativeClassifier().fit(X[RARE], NAMES[RARE])
    rows, labels = model.sample(3000, random_state=0)
    assert rows.shape == (3000, 4)
    parts = Counter(labels.tolist())
    assert parts["setosa"] / 3000 == pytest.approx(50 / 75, abs=0.03)
    at = rows[labels == "setosa"].mean(0)
    assert_allclose(at, X[:50].mean(0), atol=0.1)
    again, same = model.sample(3000, random_state=0)
    assert_array_equal(rows, again)
    assert_array_equal(labels, same)


def test_it_is_cross_validated() -> None:
    assert cross_val_score(GenerativeClassifier(), X, NAMES).mean() > 0.95


def test_a_class_that_cannot_be_fitted_is_named() -> None:
    y = np.where(np.arange(len(X)) == 0, "single", "other")
    with pytest.raises(ValueError, match="class 'single', which has 1 rows"):
        GenerativeClassifier().fit(X, y)
    with pytest.raises(ValueError, match="two classes or more"):
        GenerativeClassifier().fit(X, np.zeros(len(X)))
    with pytest.raises(TypeError, match="must be an instance of a density"):
        GenerativeClassifier("gaussian").fit(X, Y)


# More rows of rare classes.


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("auto", [50, 50, 50]),
        ("not majority", [50, 50, 50]),
        ("all", [50, 50, 50]),
        ("minority", [50, 20, 50]),
        ("not minority", [50, 50, 5]),
        ({2: 12}, [50, 20, 12]),
        (lambda y: {1: 21}, [50, 21, 5]),
    ],
)
def test_classes_get_the_rows_that_are_asked_for(
    strategy: Any, expected: list[Any]
) -> None:
    sampler = GenerativeOverSampler(sampling_strategy=strategy, random_state=0)
    rows, labels = sampler.fit_resample(X[RARE], Y[RARE])
    assert_array_equal(np.bincount(labels), expected)
    assert_array_equal(rows[:75], X[RARE])
    assert_array_equal(labels[:75], Y[RARE])
    assert sum(sampler.sampling_strategy_.values()) == len(rows) - 75


def test_a_ratio_is_that_of_two_classes() -> None:
    index = RARE[:70]
    sampler = GenerativeOverSampler(sampling_strategy=0.8, random_state=0)
    _, labels = sampler.fit_resample(X[index], NAMES[index])
    assert Counter(labels.tolist()) == {"setosa": 50, "versicolor": 40}
    with pytest.raises(ValueError, match="a ratio, for two classes"):
        sampler.fit_resample(X, Y)


def test_new_rows_are_of_their_class() -> None:
    sampler = GenerativeOverSampler(random_state=0)
    rows, labels = sampler.fit_resample(X[RARE], Y[RARE])
    assert_allclose(rows[75:][labels[75:] == 1].mean(0), X[50:70].mean(0), atol=0.3)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("library", [pd, polars])
@pytest.mark.parametrize("table", [False, True])
def test_a_table_stays_a_table(library: Any, table: bool) -> None:
    columns = {f"c{i}": X[RARE][:, i] for i in range(4)}
    model = None
    if table:
        columns["word"] = NAMES[RARE]
        model = MixedDensity(VAE(1, max_iter=2, random_state=0))
    frame = library.DataFrame(columns)
    y = library.Series(name="y", **{"data" if library is pd else "values": Y[RARE]})
    sampler = GenerativeOverSampler(
        model, sampling_strategy={1: 25} if table else "auto", random_state=0
    )
    rows, labels = sampler.fit_resample(frame, y)
    assert list(rows.columns) == list(frame.columns)
    assert list(rows.dtypes) == list(frame.dtypes)
    assert labels.name == "y"
    assert labels.dtype == y.dtype
    assert len(rows) == len(labels) == (80 if table else 150)


def test_what_cannot_be_asked_for_is_named() -> None:
    with pytest.raises(ValueError, match="only adds rows"):
        GenerativeOverSampler(sampling_strategy={0: 3}).fit_resample(X, Y)
    with pytest.raises(ValueError, match="of which y has no row"):
        GenerativeOverSampler(sampling_strategy={7: 300}).fit_resample(X, Y)
    with pytest.raises(ValueError, match="'sampling_strategy' parameter"):
        GenerativeOverSampler(sampling_strategy="some").fit_resample(X, Y)
