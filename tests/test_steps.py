"""Ways to run a step: each takes the steps that are written, to rounding."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast
from unittest.mock import MagicMock

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skgen import IWAE, VAE, VQVAE, BetaVAE
from skgen._training.steps import captured, compiled, eager
from skgen._training.steps.structure import frozen
from skgen._utils import threads
from skgen.likelihoods import Bernoulli, Likelihood
from skgen.model_selection import BatchedGridSearchCV
from tests.toys import normal

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    # Few epochs, on purpose.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

LOW_RANK = normal(120, 2, seed=1) @ normal(2, 5, seed=2) + 0.3 * normal(120, 5, seed=3)
X = LOW_RANK.numpy()
# Two batches of a size: each size makes a program.
SETTINGS: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 3, "batch_size": 54}
FEW_DRAWS: dict[str, Any] = {**SETTINGS, "n_importance_samples": 8, "random_state": 0}

MODELS: dict[str, Any] = {
    "VAE": VAE(2, **FEW_DRAWS),
    "clipped, decaying": VAE(2, max_grad_norm=0.5, weight_decay=0.1, **FEW_DRAWS),
    "averages": VAE(2, weight_averaging=0.9, learning_rate="cosine", **FEW_DRAWS),
    "free bits, capacity": BetaVAE(2, free_bits=0.1, capacity=1.0, **FEW_DRAWS),
    "what is seen is drawn": VAE(2, likelihood=Bernoulli("dynamic"), **FEW_DRAWS),
    "several draws": IWAE(2, n_draws=3, **FEW_DRAWS),
    "two layers": IWAE((2, 1), gradient="stl", **FEW_DRAWS),
    "tokens": VQVAE(8, n_tokens=2, code_size=2, **FEW_DRAWS),
    "averages of codes": VQVAE(
        8, n_tokens=2, code_size=2, codebook_update="ema", **FEW_DRAWS
    ),
}


@pytest.fixture(autouse=True)
def traced_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace programs, and leave them as they are: to compile takes seconds."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    monkeypatch.setattr(compiled, "_PROGRAMS", {})


def rows_of(model: Any) -> NDArray[Any]:
    binary = isinstance(model.likelihood, Bernoulli)
    return 1 / (1 + np.exp(-X)) if binary else X


def assert_same_fit(model: Any, other: Any, X: NDArray[Any], rtol: Any = 1e-5) -> None:
    assert_allclose(model.loss_curve_, other.loss_curve_, rtol=rtol)
    assert_allclose(model.validation_curve_, other.validation_curve_, rtol=rtol)
    assert len(set(model.loss_curve_)) > 1


@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_fit_is_the_fit(name: str) -> None:
    model = MODELS[name]
    rows = rows_of(model)
    other = clone(model).set_params(execution="compiled").fit(rows)
    assert_same_fit(other, clone(model).fit(rows), rows)
    assert compiled._PROGRAMS or other._cache_key is None


def test_weights_of_rows_are_compiled_too() -> None:
    weight = np.linspace(0, 2, len(X))
    model = clone(MODELS["VAE"]).fit(X, sample_weight=weight)
    other = clone(model).set_params(execution="compiled")
    assert_same_fit(other.fit(X, sample_weight=weight), model, X)


def test_models_of_a_structure_share_their_programs() -> None:
    model = BetaVAE(2, execution="compiled", **FEW_DRAWS).fit(X)
    n_programs = len(compiled._PROGRAMS)
    for change in (
        {"beta": 2},
        {"random_state": 1, "learning_rate_init": 1e-2},
        {"kl_warmup": 2, "capacity": 0.0},
    ):
        again = clone(model).set_params(**change).fit(X)
        plain = clone(again).set_params(execution="eager").fit(X)
        assert_same_fit(again, plain, X)
    assert len(compiled._PROGRAMS) == n_programs


def test_no_more_programs_are_kept_than_are_meant_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "MOST_PROGRAMS", 1)
    for hidden in (4, 5):
        model = clone(MODELS["VAE"]).set_params(hidden_layer_sizes=(hidden,))
        model.set_params(execution="compiled").fit(X)
        assert len(compiled._PROGRAMS) == 1


def test_a_program_is_for_a_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    n_threads = torch.get_num_threads()
    monkeypatch.setattr(threads, "WORK_PER_THREAD", 1)
    monkeypatch.setattr(joblib, "cpu_count", lambda: n_threads + 1)
    model = BetaVAE(2, execution="compiled", **FEW_DRAWS).fit(X)
    n_programs = len(compiled._PROGRAMS)
    torch.set_num_threads(n_threads + 1)
    try:
        model.fit(X)
    finally:
        torch.set_num_threads(n_threads)
    assert len(compiled._PROGRAMS) == 2 * n_programs


def test_networks_of_the_user_are_compiled_by_themselves() -> None:
    with torch.random.fork_rng():
        encoder = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh())
    model = clone(MODELS["VAE"]).set_params(encoder=encoder)
    other = clone(model).set_params(execution="compiled").fit(X)
    assert_same_fit(other, model.fit(X), X)
    assert not compiled._PROGRAMS


class Laplace(Likelihood):
    """A likelihood of the user's, whose scale is where structures do not look."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.options = {"scale": scale}

    def log_prob(self, outputs: Any, x: Any) -> Any:
        b = self.options["scale"]
        return -((x - outputs).abs() / b + np.log(2 * b)).sum(-1)

    def mean(self, outputs: Any) -> Any:
        return outputs

    def draw(self, outputs: Any, generator: Any) -> Any:
        return outputs


def test_likelihoods_of_the_user_are_told_apart() -> None:
    models = [VAE(2, likelihood=Laplace(b), **FEW_DRAWS) for b in (1.0, 0.1)]
    for model in models:
        other = clone(model).set_params(execution="compiled").fit(X)
        assert_same_fit(other, clone(model).fit(X), X)
    assert len(compiled._PROGRAMS) == 2
    grid = {"likelihood": [model.likelihood for model in models]}
    scores = [
        Search(models[0], grid, cv=2, refit=False).fit(X).cv_results_["mean_test_score"]
        for Search in (GridSearchCV, BatchedGridSearchCV)
    ]
    assert_allclose(*cast(tuple[Any, Any], scores), rtol=1e-4)


def test_what_is_frozen_is_equal_where_it_is_the_same() -> None:
    values = [
        1,
        1.0,
        True,
        [1],
        (1,),
        {"a": [1]},
        {"a": [2]},
        torch.ones(2),
        np.ones(2),
    ]
    for i, one in enumerate(values):
        assert frozen(one) == frozen(one)
        assert [frozen(one) == frozen(each) for each in values].count(True) == 1, i
    assert frozen({1}) != frozen({1})  # nothing is known of it


def test_partial_fits_go_on_compiled() -> None:
    model = clone(MODELS["VAE"])
    other = clone(model).set_params(execution="compiled")
    for _ in range(3):
        model.partial_fit(X)
        other.partial_fit(X)
    assert_allclose(other.loss_curve_, model.loss_curve_, rtol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_the_compiler_itself_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "BACKEND", "inductor")
    model = clone(MODELS["VAE"]).set_params(early_stopping=False, batch_size=60)
    other = clone(model).set_params(execution="compiled")
    other.fit(X)
    assert_allclose(other.loss_curve_, model.fit(X).loss_curve_, rtol=1e-5)
    assert len(compiled._PROGRAMS) == 1


@pytest.mark.parametrize("how", ["compiled", "captured"])
def test_what_fails_is_said_and_steps_run_as_written(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "captured" and torch.cuda.is_available():
        pytest.skip("a CUDA device captures")
    monkeypatch.setattr(compiled, "BACKEND", "no such compiler")
    model = clone(MODELS["VAE"])
    with pytest.warns(UserWarning, match=f"execution='{how}' failed, and steps run"):
        other = clone(model).set_params(execution=how).fit(X)
    assert other.loss_curve_ == model.fit(X).loss_curve_


class FakeGraphs:
    """What ``torch.cuda`` has for captures, on the CPU.

    What runs in a capture is remembered, and run again at each replay, on the tensors
    that it had, into those that it gave.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.captured: Any
        self.n_replays, self.captured, step = 0, None, eager.Eager.__call__

        def seen(step_of: Any, *given: Any) -> Any:
            terms = step(step_of, *given)
            if self.is_open:
                self.captured = (step_of, given, terms)
            return terms

        def replay(graph: Any) -> None:
            step_of, given, terms = self.captured
            kind = eager.Kind.of(terms)
            with torch.enable_grad():
                found = kind.values(step(step_of, *given))
            for value, now in zip(kind.values(terms), found):
                value.detach().copy_(now.detach())
            self.n_replays += 1

        self.is_open = False
        monkeypatch.setattr(captured, "_has_graphs", lambda device: True)
        monkeypatch.setattr(eager.Eager, "__call__", seen)
        cuda: dict[str, Any] = {
            "CUDAGraph": type("Graph", (), {"replay": replay}),
            "Stream": lambda device: MagicMock(),
            "current_stream": lambda device: MagicMock(),
            "stream": lambda stream: nullcontext(),
            "graph": self.capture,
        }
        for name, fake in cuda.items():
            monkeypatch.setattr(torch.cuda, name, fake)

    @contextmanager
    def capture(self, graph: Any, capture_error_mode: Any) -> Iterator[Any]:
        self.is_open = True
        yield
        self.is_open = False


@pytest.mark.parametrize("name", MODELS)
def test_a_capture_has_the_tensors_of_the_fit(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = FakeGraphs(monkeypatch)
    model = MODELS[name]
    rows = rows_of(model)
    other = clone(model).set_params(execution="captured").fit(rows)
    assert graphs.n_replays >= 2 * model.max_iter  # batches of its epochs
    assert_same_fit(other, clone(model).fit(rows), rows)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", MODELS)
def test_a_captured_fit_is_the_fit(name: Any) -> None:
    model = clone(MODELS[name]).set_params(device="cuda")
    rows = rows_of(model)
    other = clone(model).set_params(execution="captured").fit(rows)
    assert_same_fit(other, model.fit(rows), rows, rtol=1e-3)


def test_a_search_stacks_only_steps_that_run_as_written() -> None:
    model = BetaVAE(2, **FEW_DRAWS)
    grid = {"beta": [1.0, 4.0]}
    stacked = BatchedGridSearchCV(model, grid, cv=2).fit(X)
    model.set_params(execution="compiled")
    alone = BatchedGridSearchCV(model, grid, cv=2).fit(X)
    assert compiled._PROGRAMS
    assert_allclose(
        alone.cv_results_["mean_test_score"],
        stacked.cv_results_["mean_test_score"],
        rtol=1e-4,
    )


@pytest.mark.parametrize("execution", ["eager", "compiled"])
def test_bfloat16_trains_nearly_as_well_and_scores_in_float32(execution: str) -> None:
    model = clone(MODELS["VAE"]).set_params(max_iter=20, early_stopping=False)
    low = clone(model).set_params(precision="bfloat16", execution=execution).fit(X)
    model.fit(X)
    assert low.loss_curve_ != model.loss_curve_
    assert abs(low.score(X) - model.score(X)) < 0.05
    assert {p.dtype for p in low.module_.parameters()} == {torch.float32}
    score = low.score_samples(X)
    low.module_.precision = "float32"
    assert (score == low.score_samples(X)).all()


def test_a_stack_trains_in_bfloat16_too() -> None:
    # From other weights than those of a linear start, to which fits may go back.
    model = BetaVAE(2, linear_path=False, learning_rate_init=1e-2, **FEW_DRAWS)
    low = clone(model).set_params(precision="bfloat16")
    grid = {"beta": [1.0, 4.0]}
    stacked, stacked_low, alone_low = (
        Search(each, grid, cv=2, refit=False).fit(X).cv_results_["mean_test_score"]
        for Search, each in (
            (BatchedGridSearchCV, model),
            (BatchedGridSearchCV, low),
            (GridSearchCV, low),
        )
    )
    assert (stacked_low != stacked).all()
    assert_allclose(stacked_low, alone_low, rtol=1e-4)
