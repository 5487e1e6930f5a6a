"""Inside scikit-learn: pipelines, searches, routed weights, callbacks."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import Binarizer, StandardScaler

from tests.estimators import (
    ESTIMATORS,
    ONE_OF_EACH,
    class_name,
    dense,
    features,
    is_bernoulli,
    is_dynamic,
    is_image,
    is_sparse,
    name_of,
    rows_for,
)

# Few iterations, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

one_of_each = pytest.mark.parametrize("estimator", ONE_OF_EACH, ids=class_name)
# Pipelines bring rows of their own: no images, nor rows between 0 and 1.
TABULAR = [e for e in ESTIMATORS if not (is_image(e) or is_dynamic(e))]
every_estimator = pytest.mark.parametrize("estimator", TABULAR, ids=name_of)


# On a CPU, K-means is scikit-learn's own, which takes no callbacks.
def is_iterated(estimator: Any) -> bool:
    # GaussianDensity iterates over rows with missing cells alone.
    named = class_name(estimator) in ("KMeansAutoencoder", "GaussianDensity")
    return hasattr(estimator, "max_iter") and not named


ITERATED = [estimator for estimator in ONE_OF_EACH if is_iterated(estimator)]
iterated = pytest.mark.parametrize("estimator", ITERATED, ids=class_name)


def labels(n: int = 60) -> NDArray[Any]:
    return (features(n)[:, 0] > 0).astype(int)


def pipeline_of(estimator: Any) -> Any:
    binary = is_bernoulli(estimator)
    first = ThereAndBackBinarizer() if binary else StandardScaler()
    steps = [("scale", first), ("model", clone(estimator))]
    return Pipeline([*steps, ("classify", LogisticRegression())])


class ThereAndBackBinarizer(Binarizer):
    """Binary features for a Bernoulli decoder; the way back keeps them as they are."""

    def inverse_transform(self, X: NDArray[Any]) -> NDArray[Any]:
        return X


# Pipelines.


@every_estimator
def test_a_pipeline_fits_predicts_clones_and_travels(estimator: Any) -> None:
    X, y = features(), labels()
    pipe = pipeline_of(estimator).fit(X, y)
    codes = pipe[:-1].transform(X)
    assert_array_equal(pipe.predict(X), pipe[-1].predict(codes))
    for other in (pickle.loads(pickle.dumps(pipe)), clone(pipe).fit(X, y)):
        assert_array_equal(other.predict_proba(X), pipe.predict_proba(X))


@every_estimator
def test_a_pipeline_of_two_goes_there_and_back(estimator: Any) -> None:
    X = features()
    pipe = pipeline_of(estimator)[:-1].fit(X)
    model, scaled = pipe["model"], pipe["scale"].transform(X)
    back = pipe["scale"].inverse_transform(model.reconstruct(scaled))
    assert_allclose(pipe.inverse_transform(pipe.transform(X)), back, rtol=1e-9)
    assert pipe.score(X) == model.score(scaled)
    assert_array_equal(pipe.score_samples(X), model.score_samples(scaled))


@pytest.mark.parametrize(
    "estimator", [e for e in TABULAR if not is_sparse(e)], ids=name_of
)
def test_a_pipeline_names_its_columns(estimator: Any) -> None:
    X = pd.DataFrame(features(), columns=list("abcde"), index=range(100, 160))
    pipe = pipeline_of(estimator).set_output(transform="pandas").fit(X, labels())
    codes = pipe[:-1].transform(X)
    k = codes.shape[1]
    prefix = class_name(estimator).lower()
    assert list(codes.columns) == [f"{prefix}{i}" for i in range(k)]
    assert list(codes.index) == list(X.index)
    assert_array_equal(pipe["model"].feature_names_in_, list("abcde"))
    assert_array_equal(pipe[-1].feature_names_in_, codes.columns)


@one_of_each
def test_a_model_may_take_some_columns_of_a_frame(estimator: Any) -> None:
    X = pd.DataFrame(features(), columns=list("abcde"))
    some = ColumnTransformer(
        [("code", clone(estimator), list("abc"))], remainder="passthrough"
    )
    out = some.set_output(transform="pandas").fit_transform(X)
    assert list(out.columns[-2:]) == ["remainder__d", "remainder__e"]
    assert_array_equal(
        out.filter(like="code__"),
        clone(estimator).fit(X[list("abc")]).transform(X[list("abc")]),
    )


def test_models_stand_side_by_side() -> None:
    union = FeatureUnion([(class_name(e), clone(e)) for e in ONE_OF_EACH])
    codes = union.fit_transform(features())
    apart = [dense(clone(e).fit_transform(features())) for e in ONE_OF_EACH]
    assert_array_equal(codes, np.hstack(apart))
    assert len(union.get_feature_names_out()) == codes.shape[1]


# Searches.

GRIDS: dict[str, dict[str, Any]] = {
    "GaussianDensity": {"reg_covar": [1e-6, 1e-3]},
    "GaussianMixtureEM": {"n_components": [1, 3]},
    "MixtureEM": {"n_components": [1, 3]},
    "StudentMixtureEM": {"n_components": [1, 3]},
    "KMeansAutoencoder": {"n_clusters": [1, 3]},
    "VAE": {"n_components": [1, 2]},
    "BetaVAE": {"beta": [1.0, 4.0]},
    "IWAE": {"n_draws": [1, 5]},
    "InfoVAE": {"alpha": [0.0, 1.0]},
    "DiscreteVAE": {"n_categories": [2, 3]},
    "TCVAE": {"beta": [1.0, 6.0]},
    "Autoencoder": {"noise": [0.0, 0.5]},
    "FlowDensity": {"n_bins": [3, 4]},
    "VQVAE": {"codebook_size": [4, 8]},
    "VQVAE2": {"n_levels": [1, 2]},
}
FOLDS = KFold(3, shuffle=True, random_state=0)


def search_of(estimator: Any, **options: Any) -> Any:
    return GridSearchCV(
        clone(estimator), GRIDS[class_name(estimator)], cv=FOLDS, **options
    )


@one_of_each
def test_a_search_ranks_by_held_out_score(estimator: Any) -> None:
    X = rows_for(estimator)
    search = search_of(estimator).fit(X)
    for params, mean in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"]
    ):
        by_hand = [
            clone(estimator).set_params(**params).fit(X[train]).score(X[test])
            for train, test in FOLDS.split(X)
        ]
        assert mean == pytest.approx(np.mean(by_hand), rel=1e-12)
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    refitted = clone(estimator).set_params(**search.best_params_).fit(X)
    assert search.score(X) == refitted.score(X)
    assert_array_equal(dense(search.transform(X)), dense(refitted.transform(X)))


@one_of_each
def test_a_search_reaches_into_a_pipeline(estimator: Any) -> None:
    grid = {f"model__{k}": v for k, v in GRIDS[class_name(estimator)].items()}
    search = GridSearchCV(pipeline_of(estimator), grid, cv=FOLDS, error_score="raise")
    search.fit(features(), labels())
    assert search.best_params_.keys() == grid.keys()
    assert search.best_score_ > 0.5


@one_of_each
def test_a_bad_candidate_says_so(estimator: Any) -> None:
    search = search_of(estimator, error_score="raise")
    search.param_grid = {"device": ["cpu", "gpu"]}
    with pytest.raises(ValueError, match="'gpu'"):
        search.fit(rows_for(estimator))


# Weights, routed.


def routed(estimator: Any) -> Any:
    pipe = pipeline_of(estimator)
    for step, wants in {"scale": False, "model": True, "classify": False}.items():
        if hasattr(pipe[step], "set_fit_request"):
            pipe[step].set_fit_request(sample_weight=wants)
    return pipe


@one_of_each
def test_weights_are_routed_to_the_model_that_asks(estimator: Any) -> None:
    X, y, weight = features(), labels(), np.linspace(0.01, 4, 60)
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = routed(estimator).fit(X, y, sample_weight=weight)
    scaled = pipe["scale"].transform(X)
    scores = [
        clone(estimator).fit(scaled, sample_weight=w).score(scaled)
        for w in (weight, None)
    ]
    assert pipe["model"].score(scaled) == scores[0]
    assert scores[0] != scores[1]


@one_of_each
def test_weights_that_nobody_asked_for_are_refused(estimator: Any) -> None:
    with (
        sklearn.config_context(enable_metadata_routing=True),
        pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weig"),
    ):
        pipeline_of(estimator).fit(features(), labels(), sample_weight=np.ones(60))


@one_of_each
def test_a_search_hands_weights_to_each_fold(estimator: Any) -> None:
    X, weight = rows_for(estimator), np.linspace(0.01, 4, 60)
    train, test = next(FOLDS.split(X))
    with sklearn.config_context(enable_metadata_routing=True):
        search = search_of(estimator)
        search.estimator.set_fit_request(sample_weight=True)
        search.estimator.set_score_request(sample_weight=True)
        search.fit(X, sample_weight=weight)
    model = clone(estimator).set_params(**search.cv_results_["params"][0])
    model.fit(X[train], sample_weight=weight[train])
    expected = model.score(X[test], sample_weight=weight[test])
    assert search.cv_results_["split0_test_score"][0] == expected


# Callbacks.


class Recorder:
    """A callback that writes down what it sees, and may stop a fit."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.events: list[Any] = []

    def setup(self, estimator: Any, context: Any) -> None:
        self.events.append("setup")

    def teardown(self, estimator: Any, context: Any) -> None:
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        self.events.append(("begin", *self._place(context)))

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        self.events.append(("end", *self._place(context)))
        return context.parent is not None and context.task_id + 1 == self.stop_after

    @staticmethod
    def _place(context: Any) -> Any:
        return context.task_name, context.task_id

    @property
    def n_tasks(self) -> Any:
        return sum(e[:1] == ("end",) and e[1] != "fit" for e in self.events)


def shapeless(estimator: Any, n: int = 120) -> NDArray[Any]:
    """Rows without structure: nothing converges in one iteration."""
    X = np.random.RandomState(0).randn(n, 5)
    return (X > 0).astype(float) if is_bernoulli(estimator) else X


def n_iterations(model: Any) -> int:
    return model.n_iter_ if is_iterated(model) else 0


def recorded(estimator: Any, stop_after: int | None = None) -> tuple[Any, ...]:
    recorder = Recorder(stop_after)
    model = clone(estimator).set_callbacks(recorder)
    return model.fit(shapeless(estimator)), recorder


@one_of_each
def test_a_callback_sees_a_fit_from_setup_to_teardown(estimator: Any) -> None:
    model, recorder = recorded(estimator)
    tasks = recorder.events[2:-2]
    assert recorder.events[:2] == ["setup", ("begin", "fit", 0)]
    assert recorder.events[-2:] == [("end", "fit", 0), "teardown"]
    assert tasks == [
        (when, model._task_name, i)
        for i in range(recorder.n_tasks)
        for when in ("begin", "end")
    ]
    assert recorder.n_tasks == n_iterations(model)


@iterated
def test_a_callback_stops_a_fit(estimator: Any) -> None:
    X = shapeless(estimator)
    if hasattr(estimator, "linear_path"):  # a start to which both fits may go back
        estimator = clone(estimator).set_params(linear_path=False)
    whole, _ = recorded(estimator)
    model, recorder = recorded(estimator, stop_after=1)
    assert recorder.events[-1] == "teardown"
    assert model.n_iter_ == recorder.n_tasks == 1 < whole.n_iter_
    assert np.isfinite(model.score(X))
    assert model.score(X) != whole.score(X)


@pytest.mark.parametrize(
    "estimator", [e for e in ITERATED if hasattr(e, "n_init")], ids=class_name
)
def test_a_callback_sees_every_start(estimator: Any) -> None:
    model, recorder = recorded(clone(estimator).set_params(n_init=3, max_iter=2))
    assert recorder.n_tasks > 2 >= model.n_iter_


@one_of_each
def test_a_callback_changes_nothing(estimator: Any) -> None:
    model, _ = recorded(estimator)
    X = shapeless(estimator)
    assert_array_equal(model.score_samples(X), clone(estimator).fit(X).score_samples(X))


@one_of_each
def test_a_failed_fit_tears_its_callbacks_down(estimator: Any) -> None:
    recorder = Recorder()
    model = clone(estimator).set_params(device="gpu").set_callbacks(recorder)
    with pytest.raises(ValueError, match="gpu"):
        model.fit(shapeless(estimator))
    assert recorder.events in ([], ["setup", "teardown"])


def _score(model: Any, X: NDArray[Any], y: NDArray[Any]) -> Any:
    return model.score(X)


@one_of_each
def test_a_scoring_monitor_scores_each_iteration(estimator: Any) -> None:
    X, monitor = shapeless(estimator), ScoringMonitor(scoring={"score": _score})
    model = clone(estimator).set_callbacks(monitor)
    model.fit(X, np.zeros(len(X)))  # it asks for a y
    logs = pd.DataFrame(monitor.get_logs().data)
    iterations = logs[logs["task_name"] == model._task_name]
    assert len(iterations) == n_iterations(model)
    assert np.isfinite(logs["score"]).all()
    assert logs["score"][logs["task_name"] == "fit"].item() == model.score(X)
    if len(iterations) > 1:
        assert iterations["score"].nunique() > 1


# Progress bars.


@one_of_each
def test_a_progress_bar_shows_a_fit(
    estimator: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    clone(estimator).set_callbacks(ProgressBar()).fit(rows_for(estimator))
    shown = capsys.readouterr().out
    assert f"{class_name(estimator)} - fit" in shown
    assert "100%" in shown


@one_of_each
def test_a_progress_bar_shows_a_model_in_a_pipeline(
    estimator: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = pipeline_of(estimator).set_callbacks(ProgressBar())
    pipe.fit(features(), labels())
    shown = capsys.readouterr().out
    assert "Pipeline - fit" in shown
    assert f"{class_name(estimator)} - fit" in shown
    assert "100%" in shown


def test_workers_change_nothing_and_show_their_progress(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The last class is the one with most inside it.
    estimator = ONE_OF_EACH[-1]
    X = rows_for(estimator)
    here = search_of(estimator).fit(X)
    there = search_of(estimator, n_jobs=2).set_callbacks(ProgressBar(None)).fit(X)
    assert_allclose(
        there.cv_results_["mean_test_score"],
        here.cv_results_["mean_test_score"],
        rtol=1e-6,
    )
    shown = capsys.readouterr().out
    assert "GridSearchCV - fit" in shown
    assert f"{class_name(estimator)} - fit" in shown
    assert "100%" in shown
