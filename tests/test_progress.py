"""What a long fit shows: lines under ``verbose``, and bars of scikit-learn's."""

import re
from typing import Any, cast

import pytest
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.cluster import KMeans
from sklearn.model_selection import GridSearchCV

from skgen import KMeansAutoencoder
from tests.estimators import ONE_OF_EACH, class_name, features, rows_for

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # A grid goes to the values that blur.
    pytest.mark.filterwarnings("ignore:reg_covar"),
]

one_of_each = pytest.mark.parametrize("estimator", ONE_OF_EACH, ids=class_name)
NETWORKS = [e for e in ONE_OF_EACH if hasattr(e, "hidden_layer_sizes")]
NUMBER = r"(-?\d+\.\d+)"


def value_of(name: str, line: str) -> float:
    return float(cast(Any, re.search(rf"[ ,]{name} {NUMBER}", line))[1])


@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("estimator", NETWORKS, ids=class_name)
def test_a_line_an_epoch_has_the_curves(
    estimator: Any, early_stopping: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    model = clone(estimator).set_params(verbose=1, early_stopping=early_stopping)
    model.fit(rows_for(estimator))
    name = class_name(estimator)
    lines = capsys.readouterr().out.splitlines()
    own = [line for line in lines if line.startswith(f"{name}, epoch")]
    assert len(own) == model.n_iter_
    for i, line in enumerate(own):
        assert line.startswith(f"{name}, epoch {i + 1} of {model.max_iter}: loss ")
        assert re.search(r" nats per row \(\d+\.\d\ds\)$", line)
        for term, curve in model.loss_terms_.items():
            assert_allclose(value_of(term, line), curve[i], atol=6e-5)
        if early_stopping:
            held_out = value_of("held-out", line)
            assert_allclose(held_out, model.validation_curve_[i], atol=6e-5)
    of_prior = [line for line in lines if line.startswith(f"{name}, prior")]
    curve = getattr(model, "prior_curve_", [])
    assert_allclose([value_of("loss", line) for line in of_prior], curve, atol=6e-5)
    assert len(lines) == len(own) + len(of_prior)


def test_lloyd_in_torch_says_what_scikit_learn_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    X = features()
    params: dict[str, Any] = {"n_clusters": 4, "init": X[:4], "tol": 0.0, "verbose": 1}

    def said(model: Any) -> Any:
        model.fit(X)
        lines = capsys.readouterr().out
        return [
            (int(i), float(inertia))
            for i, inertia in re.findall(
                rf"Iteration (\d+), inertia {NUMBER}", str(lines)
            )
        ]

    theirs = said(KMeans(**params))
    monkeypatch.setattr(
        KMeansAutoencoder, "_find_on_cpu", KMeansAutoencoder._find_on_device
    )
    ours = said(KMeansAutoencoder(**params))
    assert len(ours) == len(theirs) > 2
    assert_allclose(ours, theirs)


@one_of_each
def test_a_progress_bar_shows_a_search(
    estimator: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "reg_covar" if hasattr(estimator, "reg_covar") else "batch_size"
    values = [1e-3, 1e-2] if name == "reg_covar" else [16, 32]
    search = GridSearchCV(estimator, {name: values}, cv=2)
    search.set_callbacks(ProgressBar(None)).fit(rows_for(estimator))
    shown = capsys.readouterr().out
    assert "GridSearchCV - fit" in shown
    assert shown.count(f"{class_name(estimator)} - fit") == 5  # four, and the refit
    assert "100%" in shown
