"""Weights of rows: of any scale and ratio, in fits and in scores."""

import numpy as np
import pytest
from estimators import (
    CLOSED_FORM,
    ESTIMATORS,
    ONE_OF_EACH,
    class_name,
    fitted,
    name_of,
    rows_for,
)
from numpy.testing import assert_allclose
from sklearn.preprocessing import StandardScaler

import skgen

# Few iterations, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

one_of_each = pytest.mark.parametrize("estimator", ONE_OF_EACH, ids=class_name)
closed_form = pytest.mark.parametrize(
    "estimator", [e for e in ESTIMATORS if class_name(e) in CLOSED_FORM], ids=name_of
)


def importance_weights(n, seed=0):
    """Weights whose ratios reach e^-120."""
    weight = np.exp(-np.random.RandomState(seed).uniform(0, 5, n))
    weight[::3] *= np.exp(-120)
    return weight


# Scores.


@one_of_each
def test_score_is_the_weighted_mean_of_score_samples(estimator):
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


def test_pipelines_and_tables_take_weights_in_their_score():
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


def test_a_row_of_weight_zero_does_not_count_whatever_its_score():
    values = np.array([-np.inf, -1.0, -3.0])
    weight = np.array([0.0, 1.0, 3.0])
    assert skgen.base.weighted_mean(values, weight) == -2.5


@closed_form
def test_information_criteria_count_a_weight_as_copies(estimator):
    X, model = rows_for(estimator), fitted(estimator)
    weight = np.random.RandomState(0).randint(0, 4, len(X))
    copies = np.repeat(X, weight, axis=0)
    for criterion in (model.aic, model.bic):
        expected = criterion(copies)
        assert_allclose(criterion(X, sample_weight=weight), expected, rtol=1e-10)


@closed_form
def test_aic_and_bic_are_penalised_log_likelihoods(estimator):
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
def test_free_parameters_of_a_gaussian(params, count):
    X = np.random.RandomState(0).randn(50, 5)
    assert skgen.GaussianDensity(**params).fit(X)._n_parameters() == count
