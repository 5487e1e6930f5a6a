"""A call runs on as many threads as its steps are worth, and restores the setting."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn

from skgen import VAE
from skgen._networks.dense import PassSize
from skgen._utils import threads
from skgen._utils.threads import blas_threads_for, pools, threads_for
from skgen.model_selection import BatchedGridSearchCV
from tests.estimators import ONE_OF_EACH, name_of, rows_for

pytestmark = pytest.mark.filterwarnings("ignore:.*maximum iterations")

LARGE = 8 * threads.WORK_PER_THREAD
X = np.random.RandomState(0).randn(40, 3)


def settings() -> tuple[Any, ...]:
    """Numbers of threads of this thread, and of the libraries of the process."""
    libraries = ThreadpoolController().info()
    return [pool.get() for pool in pools()], [each["num_threads"] for each in libraries]


@pytest.fixture
def four(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An idle machine of four CPUs, and four threads set."""
    before, _ = settings()
    monkeypatch.setattr(joblib, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(threads, "n_others", lambda n_own: 0)
    torch.get_num_threads()
    for pool in pools():
        pool.set(4)
    yield
    for pool, n in zip(pools(), before):
        pool.set(n)


class Recorder(nn.Linear):
    """An encoder that keeps the number of threads that it runs on."""

    seen: list[int] = []  # noqa: RUF012

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__(n_inputs, n_outputs)
        self.seen.clear()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(torch.get_num_threads())
        return super().forward(x)


def recording() -> Any:
    return VAE(2, encoder=Recorder, max_iter=1, early_stopping=False, random_state=0)


def test_threads_are_as_many_as_the_work_is_worth(four: None) -> None:
    for work, n in ((0, 1), (1.9, 1), (2, 2), (3.5, 3), (4, 4), (100, 4)):
        with threads_for(work * threads.WORK_PER_THREAD):
            assert torch.get_num_threads() == n


def test_a_small_fit_runs_on_one_thread_and_a_large_one_on_more(
    four: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording().fit(X)
    assert set(Recorder.seen) == {1}
    monkeypatch.setattr(threads, "WORK_PER_THREAD", 1)
    model = recording().fit(X)
    assert max(Recorder.seen) == 4
    Recorder.seen.clear()
    model.score_samples(X)
    assert set(Recorder.seen) == {4}


@pytest.mark.parametrize("estimator", ONE_OF_EACH, ids=name_of)
def test_no_call_changes_the_setting(
    estimator: Any, four: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "WORK_PER_THREAD", 100)
    before, rows = settings(), rows_for(estimator)
    model = clone(estimator).fit(rows)
    assert settings() == before
    model.reconstruct(rows)
    model.score(rows)
    model.sample(3)
    if hasattr(model, "partial_fit"):
        model.partial_fit(rows)
    assert settings() == before


def test_a_search_does_not_change_the_setting(four: None) -> None:
    before = settings()
    grid = {"learning_rate_init": [1e-3, 1e-2]}
    BatchedGridSearchCV(VAE(2, max_iter=1, random_state=0), grid).fit(X)
    assert settings() == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("work", [0, LARGE])
def test_the_setting_comes_back_after_an_error(
    four: None, error: type[Any], work: int
) -> None:
    before = settings()

    def fail() -> None:
        with threads_for(), threads_for(work):
            raise error

    with pytest.raises(error):
        fail()
    assert settings() == before


def test_no_more_threads_than_were_set(four: None) -> None:
    for pool in pools():
        pool.set(2)
    before = settings()
    with threads_for(LARGE):
        assert torch.get_num_threads() == 2
        with threads_for():
            assert torch.get_num_threads() == 1
            with threads_for(LARGE):
                assert torch.get_num_threads() == 2
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    assert settings() == before


def test_a_setting_of_torch_is_left_as_it_was(four: None) -> None:
    torch.set_num_threads(3)
    before = settings()
    with threads_for(LARGE):
        assert torch.get_num_threads() == 3
    assert settings() == before
    new = run_in_thread(torch.get_num_threads)
    assert new == 3
    with threads_for():
        assert run_in_thread(torch.get_num_threads) == 3
    torch.set_num_threads(1)


def run_in_thread(function: Callable[..., Any]) -> Any:
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_calls_at_once_have_their_own_numbers(four: None) -> None:
    before = settings()
    inside, done = threading.Event(), threading.Event()
    seen = []

    def other() -> None:
        torch.get_num_threads()
        for pool in pools():
            pool.set(3)
        with threads_for(LARGE):
            inside.set()
            done.wait()
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=other)
    with threads_for():
        thread.start()
        inside.wait()
        assert torch.get_num_threads() == 1
    assert settings() == before
    done.set()
    thread.join()
    assert seen == [3, 3]
    assert settings() == before


def openblas() -> list[Any]:
    info = ThreadpoolController().select(internal_api="openblas").info()
    return [each["num_threads"] for each in info]


def test_openblas_is_one_thread_for_scikit_learn_and_put_back_by_the_first() -> None:
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        before = openblas()
        with blas_threads_for(0):
            assert set(openblas()) <= {1}
            with blas_threads_for(0):
                assert set(openblas()) <= {1}
            run_in_thread(one_more_block)
            assert set(openblas()) <= {1}
        assert openblas() == before


def one_more_block() -> None:
    with blas_threads_for(0):
        pass


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinities")
def test_a_process_that_may_use_one_cpu_has_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "n_others", lambda n_own: 0)
    before = os.sched_getaffinity(0)
    numbers, _ = settings()
    try:
        os.sched_setaffinity(0, {min(before)})
        for pool in pools():
            pool.set(2)
        with threads_for(LARGE):
            assert torch.get_num_threads() == 1
    finally:
        os.sched_setaffinity(0, before)
        for pool, n in zip(pools(), numbers):
            pool.set(n)


def test_cores_on_which_others_run_are_left_to_them(
    four: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n_others, n in ((0, 4), (1, 3), (3, 1), (9, 1)):
        monkeypatch.setattr(threads, "n_others", lambda n_own, n=n_others: n)
        with threads_for(LARGE):
            assert torch.get_num_threads() == n
        with threads_for(LARGE, steady=True):
            assert torch.get_num_threads() == 4


def test_own_threads_that_may_still_spin_are_not_counted_as_others(
    four: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    own: Any = []
    monkeypatch.setattr(threads, "n_others", lambda n_own: own.append(n_own) or 0)
    monkeypatch.setattr(threads, "LOAD_INTERVAL", -1)  # look each time
    with threads_for():
        for _ in range(2):
            with threads_for(LARGE):
                pass
    assert own == [1, 4]


def test_deterministic_algorithms_do_not_depend_on_what_else_runs(
    four: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "n_others", lambda n_own: 3)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    with threads_for(LARGE):
        assert torch.get_num_threads() == 4


@pytest.mark.parametrize(
    ("text", "n_own", "n_others"),
    [
        ("0.5 0.4 0.3 3/120 77\n", 1, 2),
        ("0.5 0.4 0.3 1/120 77\n", 2, 0),
        ("what is this", 1, 0),
        (None, 1, 0),
    ],
)
def test_what_linux_tells_of_others(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    text: str | None,
    n_own: int,
    n_others: int,
) -> None:
    path = tmp_path / "loadavg"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(threads, "LOAD_FILE", path)
    assert threads.n_others(n_own) == n_others


@pytest.mark.parametrize(
    ("network", "shape", "work"),
    [
        (nn.Linear(4, 6), (1, 4), 24),
        (nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), (1, 4), 36),
        (nn.Conv2d(2, 3, 3, padding=1), (1, 2, 5, 5), 2 * 3 * 9 * 25),
        (nn.Conv2d(2, 3, 3, stride=2, padding=1), (1, 2, 6, 6), 2 * 3 * 9 * 9),
        (nn.ConvTranspose2d(2, 3, 2, stride=2), (1, 2, 5, 5), 2 * 3 * 4 * 25),
    ],
)
def test_work_counts_multiplications(
    network: Any, shape: tuple[Any, ...], work: int
) -> None:
    assert PassSize.of(network, torch.zeros(shape)).work == work
