"""Ctrl-C: what a fit keeps, and when it goes on to whoever asked for the fit."""

import pickle
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skgen._em.lloyd
import skgen._em.restarts
import skgen._search.stacking
from skgen import VAE, VQVAE, GaussianMixtureEM, KMeansAutoencoder
from skgen._search.stacking import Stacked
from skgen._training.loop import Loop
from skgen.model_selection import BatchedGridSearchCV
from skgen.models.prior_learning import prior_loss
from tests.estimators import ONE_OF_EACH, class_name, features

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    pytest.mark.filterwarnings(
        "ignore:.*maximum iterations:sklearn.exceptions.ConvergenceWarning",
        "ignore:Best performing:sklearn.exceptions.ConvergenceWarning",
    ),
]

X = features()
NETWORKS = [e for e in ONE_OF_EACH if hasattr(e, "hidden_layer_sizes")]
networks = pytest.mark.parametrize("estimator", NETWORKS, ids=class_name)
SMALL: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 4, "random_state": 0}

interrupted = pytest.warns(ConvergenceWarning, match="interrupted")


@pytest.fixture(autouse=True)
def _listens() -> Iterator[Any]:
    """Listen to Ctrl-C also in the background, where shells let processes ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Stop:
    """A callback that ends a fit after some iterations."""

    def __init__(self, n_iter: int) -> None:
        self.n_iter = n_iter

    def setup(self, estimator: Any, context: Any) -> None:
        pass

    def teardown(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        pass

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        return context.parent is not None and context.task_id + 1 == self.n_iter


class Interrupt(Stop):
    """A callback that presses Ctrl-C when an iteration begins."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        if context.parent is not None and context.task_id == self.n_iter:
            signal.raise_signal(signal.SIGINT)

    def on_fit_task_end(self, estimator: Any, context: Any) -> Any:
        pass


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Press Ctrl-C in the first step after some epochs, of networks or of the prior."""

    def press(n_epochs: Any, of_prior: Any = False) -> None:
        follow = Loop._follow  # what a step ends with

        def _follow(self: Any) -> None:
            follow(self)
            trainer = self.trainings[0].trainer
            is_prior = trainer.objective is prior_loss
            if trainer.n_epochs == n_epochs and of_prior == is_prior:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(Loop, "_follow", _follow)

    return press


def assert_same(model: Any, other: Any) -> None:
    assert_array_equal(model.score_samples(X), other.score_samples(X))
    assert_array_equal(model.sample(9, random_state=0), other.sample(9, random_state=0))


@pytest.mark.parametrize("estimator", [*NETWORKS, GaussianMixtureEM(3)], ids=class_name)
def test_an_interrupted_fit_is_one_that_was_stopped_there(estimator: Any) -> None:
    estimator = clone(estimator).set_params(tol=0.0, random_state=0)
    stopped = clone(estimator).set_callbacks(Stop(2)).fit(X)
    model = clone(estimator).set_callbacks(Interrupt(2))
    with interrupted:
        assert model.fit(X) is model
    assert model.n_iter_ == stopped.n_iter_ == 2
    assert_same(model, stopped)
    assert_same(pickle.loads(pickle.dumps(model)), stopped)


@networks
def test_a_step_that_is_interrupted_leaves_no_trace(
    estimator: Any, ctrl_c: Callable[..., Any]
) -> None:
    stopped = clone(estimator).set_callbacks(Stop(2)).fit(X)
    ctrl_c(2)
    with pytest.warns(ConvergenceWarning, match=r"in 2 epochs.*warm_start=True"):
        model = clone(estimator).fit(X)
    assert model.loss_terms_ == stopped.loss_terms_
    assert model.validation_curve_ == stopped.validation_curve_
    assert_array_equal(model.transform(X), stopped.transform(X))
    if not isinstance(model, VQVAE):  # whose prior trains under later draws
        assert_same(model, stopped)


def test_an_interrupt_gives_the_best_weights_back(ctrl_c: Callable[..., Any]) -> None:
    # The first epoch is the best: the others walk away from it.
    model = VAE(2, **{**SMALL, "learning_rate_init": 0.3, "max_iter": 9})
    best = clone(model).set_callbacks(Stop(1)).fit(X)
    ctrl_c(4)
    with interrupted:
        model.fit(X)
    assert np.argmin(model.validation_curve_) == 0
    assert model.n_iter_ == 4
    assert_array_equal(model.score_samples(X), best.score_samples(X))


@pytest.mark.parametrize("n_epochs", [0, 2])
def test_an_interrupted_prior_is_kept(
    n_epochs: int, ctrl_c: Callable[..., Any]
) -> None:
    estimator = VQVAE(8, n_tokens=2, code_size=2, **SMALL)
    whole = clone(estimator).fit(X)
    ctrl_c(n_epochs, of_prior=True)
    with pytest.warns(ConvergenceWarning, match="prior over tokens: the fit was inter"):
        model = clone(estimator).fit(X)
    assert_array_equal(model.transform(X), whole.transform(X))
    assert model.prior_curve_ == whole.prior_curve_[:n_epochs]
    assert np.isfinite(model.score_samples(X)).all()
    assert_same(pickle.loads(pickle.dumps(model)), model)


def test_warm_start_goes_on_from_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, ctrl_c: Any
) -> None:
    model = VAE(2, **SMALL, warm_start=True)
    ctrl_c(3)
    with interrupted:
        model.fit(X)
    first = model.loss_curve_
    monkeypatch.undo()
    assert model.fit(X).loss_curve_[:3] == first
    assert model.loss_curve_[3] < first[0]
    assert model.n_iter_ == len(model.validation_curve_) == 7


@pytest.mark.parametrize(
    "estimator", [VAE(2, **SMALL), VQVAE(8, n_tokens=2, **SMALL)], ids=class_name
)
@pytest.mark.parametrize("warm_start", [False, True])
def test_before_the_first_epoch_has_ended_nothing_is_kept(
    estimator: Any,
    warm_start: bool,
    ctrl_c: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new, old = clone(estimator), clone(estimator).fit(X)
    before, state = old.score_samples(X), sorted(vars(old))
    old.set_params(warm_start=warm_start)
    ctrl_c(old.n_iter_ if warm_start else 0)
    with pytest.raises(KeyboardInterrupt):
        old.fit(X[::-1])
    assert_array_equal(old.score_samples(X), before)
    assert sorted(vars(old)) == state
    monkeypatch.undo()
    ctrl_c(0)
    with pytest.raises(KeyboardInterrupt):
        new.fit(X)
    with pytest.raises(NotFittedError):
        new.score(X)


def test_a_second_interrupt_is_not_kept(
    ctrl_c: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*args: Any, **kwargs: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(VAE, "_finish", press)
    ctrl_c(2)
    model = VAE(2, **SMALL)
    with interrupted, pytest.raises(KeyboardInterrupt):
        model.fit(X)
    with pytest.raises(NotFittedError):
        model.score(X)


def test_an_interrupted_mixture_keeps_the_start_that_is_done() -> None:
    estimator = GaussianMixtureEM(3, tol=0.0, n_init=3, max_iter=5, random_state=0)
    first = clone(estimator).set_params(n_init=1).fit(X)
    model = clone(estimator).set_callbacks(Interrupt(5))
    with interrupted:
        model.fit(X)
    assert_same(model, first)
    with pytest.raises(KeyboardInterrupt):
        clone(estimator).set_callbacks(Interrupt(0)).fit(X)


@pytest.mark.parametrize("n_steps", [2, 7])
def test_an_interrupted_k_means_keeps_its_centres(
    n_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        KMeansAutoencoder, "_find_on_cpu", KMeansAutoencoder._find_on_device
    )
    estimator = KMeansAutoencoder(
        4, init="random", n_init=2, max_iter=5, tol=0.0, random_state=0
    )
    update, calls = skgen._em.lloyd.update, []

    def pressed(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == n_steps + 1:
            signal.raise_signal(signal.SIGINT)
        return update(*args)

    runs = [
        clone(estimator).set_params(n_init=1, max_iter=min(n_steps, 5)).fit(X),
        clone(estimator).fit(X),
    ]
    monkeypatch.setattr(skgen._em.lloyd, "update", pressed)
    with pytest.warns(ConvergenceWarning, match="init=model.cluster_centers_"):
        model = clone(estimator).fit(X)
    if n_steps < 5:
        assert_allclose(model.cluster_centers_, runs[0].cluster_centers_)
    assert runs[1].inertia_ <= model.inertia_ <= runs[0].inertia_
    calls[:] = [()] * n_steps
    with pytest.raises(KeyboardInterrupt):
        clone(estimator).fit(X)


# Inside others.


def test_a_pipeline_keeps_what_its_last_step_has(ctrl_c: Callable[..., Any]) -> None:
    ctrl_c(2)
    with interrupted:
        model = make_pipeline(StandardScaler(), VAE(2, **SMALL)).fit(X)
    assert np.isfinite(model.score(X))


GRID = {"beta": [1.0, 2.0]}


@pytest.mark.parametrize("Search", [GridSearchCV, BatchedGridSearchCV])
def test_a_search_ends(
    Search: type[Any], ctrl_c: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(self: Any, loss: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    ctrl_c(2)
    monkeypatch.setattr(Stacked, "_descend", press)
    model = skgen.BetaVAE(2, **SMALL)
    search = Search(model, GRID, cv=2)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X)
    assert not hasattr(search, "cv_results_")
    grid = [{"vae__beta": [1.0, 2.0]}]
    piped = Search(
        skgen.GenerativePipeline([("scale", StandardScaler()), ("vae", model)]),
        grid,
        cv=2,
    )
    with pytest.raises(KeyboardInterrupt):
        piped.fit(X)


def test_a_search_ends_in_a_fit_that_is_not_stacked(
    ctrl_c: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skgen._search.stacking, "LARGEST_STEP", 0)
    ctrl_c(2)
    with pytest.raises(KeyboardInterrupt):
        BatchedGridSearchCV(skgen.BetaVAE(2, **SMALL), GRID, cv=2).fit(X)


@pytest.mark.parametrize("Search", [GridSearchCV, BatchedGridSearchCV])
def test_a_mixture_in_a_search_ends_the_search(
    Search: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_pass, calls = skgen._em.steps.one_pass, []

    def pressed(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return one_pass(*args)

    monkeypatch.setattr(skgen._em.steps, "one_pass", pressed)
    search = Search(GaussianMixtureEM(3, random_state=0), {"tol": [0.0]}, cv=2)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X)


@pytest.mark.parametrize("Search", [GridSearchCV, BatchedGridSearchCV])
def test_a_search_keeps_an_interrupted_refit(
    Search: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = skgen.BetaVAE(2, **SMALL)
    follow, n_rows = Loop._follow, len(X)

    def _follow(self: Any) -> None:
        follow(self)
        run = self.trainings[0]
        # Only the refit has so many rows.
        if run.trainer.n_epochs == 2 and len(run.rows) > n_rows // 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Loop, "_follow", _follow)
    with interrupted:
        search = Search(model, GRID, cv=2).fit(X)
    assert search.best_estimator_.n_iter_ == 2
    assert np.isfinite(search.score(X))
