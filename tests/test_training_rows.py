"""Rows of a fit that stay where they are stored: what is read of them, and when."""

import os
import subprocess
import sys
import warnings
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.base import clone
from torch import Tensor

from skgen import IWAE, VAE, VQVAE, BetaVAE, GaussianMixtureEM, KMeansAutoencoder
from skgen._networks.dense import Standardizer
from skgen._search.stacking import share_rows, stacks_as
from skgen._training import data as module
from skgen._training.adam import StepRule
from skgen._training.batches import HeldOut
from skgen._training.data import Rows, StoredRows, prefetch
from skgen._training.loop import Source
from skgen._training.shards import ShardedRows
from skgen._training.trainer import Trainer
from skgen._utils import pages
from skgen._utils.moments import Moments
from skgen._utils.tensors import is_mapped, to_tensor
from skgen.likelihoods import Gaussian, Mixed
from skgen.likelihoods.base import BINARY_ROWS, TwoValues
from skgen.model_selection import Fit, fit_together
from tests.toys import generator, normal

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    # Few iterations, on purpose.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

SETTINGS: dict[str, Any] = {
    "hidden_layer_sizes": (8,),
    "max_iter": 3,
    "random_state": 0,
}
MODELS = [
    VAE(2, **SETTINGS),
    BetaVAE(2, beta=0.5, **SETTINGS),
    IWAE(2, n_draws=2, **SETTINGS),
    VQVAE(8, n_tokens=2, **SETTINGS),
]
each_model = pytest.mark.parametrize(
    "model", MODELS, ids=lambda model: type(model).__name__
)
X = (normal(600, 5, seed=1) @ normal(5, 5, seed=2) + 3).numpy()
WEIGHT = np.random.default_rng(0).integers(0, 3, len(X))


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take any rows for many."""
    monkeypatch.setattr(module, "KEPT_ELEMENTS", 0)


@pytest.fixture
def in_parts(stored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take any rows for many, a few of them for a chunk, and fewer for a piece."""
    monkeypatch.setattr(module, "SAMPLE_ELEMENTS", 500)
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 250)
    monkeypatch.setattr(module, "PIECE_ELEMENTS", 50)
    monkeypatch.setattr(module, "WINDOW_PIECES", 12)


def mapped(X: NDArray[Any], folder: Path) -> Any:
    """Rows as a read-only file."""
    np.save(folder / "rows.npy", X)
    return np.load(folder / "rows.npy", mmap_mode="r")


def rows_of(n: int, out_of_core: bool = False, **options: Any) -> Any:
    """Rows (n, 2) that are numbered."""
    x = torch.arange(float(n))[:, None].expand(n, 2)
    return StoredRows(x, None, x.device, out_of_core=out_of_core, **options)


def numbers(rows: Any) -> Any:
    return rows.in_memory().x[:, 0].long().tolist()


def test_rows_of_a_file_are_selected_as_any_while_its_pages_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = mapped(X, tmp_path)
    monkeypatch.setattr(pages, "MOST_ROWS", 7)
    monkeypatch.setattr(pages, "_FILES", {rows.base})
    index = torch.randperm(len(X), generator=generator(0)).int()
    found = pages.select(to_tensor(rows, torch.device("cpu")), index)
    assert_array_equal(found, X[index.numpy()])


@pytest.mark.parametrize("out_of_core", [False, True])
def test_shards_know_which_rows_are_here(out_of_core: bool) -> None:
    places = torch.tensor([1, 2, 5, 8], dtype=torch.int32)
    rows = ShardedRows(rows_of(4), places, 10, out_of_core=out_of_core)
    index = torch.tensor([8, 0, 9, 1, 6], dtype=torch.int32)
    found = rows.gather(index)
    assert found.here is not None
    assert found.here.tolist() == [True, False, False, True, False]
    assert found.x[:, 0].tolist() == [3, 0, 0, 0, 0]
    some = rows.take(torch.tensor([2, 3, 7, 8]))
    assert list(some.places) == [0, 3]
    between = ShardedRows(rows_of(4), range(3, 7), 10, out_of_core=out_of_core)
    few = between.take(torch.tensor([0, 2, 4, 6, 9]))
    assert list(few.places) == [2, 3]
    assert numbers(few.own) == [1, 3]
    assert numbers(some.own) == [1, 3]


# A fit.


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
@pytest.mark.parametrize("model", MODELS[:3], ids=lambda model: type(model).__name__)
def test_stored_rows_have_the_curve_of_rows_in_memory(
    model: Any, weight: NDArray[Any] | None, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, model = X.astype(dtype), clone(model).set_params(early_stopping=False)
    in_memory = clone(model).fit(rows, sample_weight=weight)
    monkeypatch.setattr(module, "KEPT_ELEMENTS", 0)
    stored = clone(model).fit(rows, sample_weight=weight)
    assert stored.loss_curve_ == in_memory.loss_curve_
    assert_array_equal(stored.score_samples(rows), in_memory.score_samples(rows))


@each_model
def test_a_small_memory_map_has_the_curve_of_an_array(
    model: Any, tmp_path: Path
) -> None:
    array, file = clone(model).fit(X), clone(model).fit(mapped(X, tmp_path))
    assert file.loss_curve_ == array.loss_curve_
    assert file.validation_curve_ == array.validation_curve_


@each_model
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
def test_a_fit_from_a_file_learns_and_repeats(
    model: Any, weight: NDArray[Any] | None, in_parts: None, tmp_path: Path
) -> None:
    # From a linear start there is little to learn.
    model = clone(model).set_params(learning_rate_init=0.01, linear_path=False)
    file = mapped(X, tmp_path)
    found = clone(model).fit(file, sample_weight=weight)
    again = clone(model).fit(file, sample_weight=weight)
    assert found.loss_curve_[0] > found.loss_curve_[-1] + 0.1
    assert found.loss_curve_ == again.loss_curve_
    assert found.validation_curve_ == again.validation_curve_
    assert_array_equal(found.score_samples(file), again.score_samples(X))


@each_model
def test_partial_fits_take_stored_rows(
    model: Any, in_parts: None, tmp_path: Path
) -> None:
    file = mapped(X, tmp_path)
    found = clone(model).partial_fit(file).partial_fit(file)
    assert found.n_iter_ == 2
    assert found.loss_curve_[1] < found.loss_curve_[0]


def test_rows_that_are_drawn_may_be_stored(in_parts: None) -> None:
    model = VQVAE(8, n_tokens=2, likelihood="bernoulli", **SETTINGS)
    model.fit((X > 3).astype(float))
    assert np.isfinite(model.score_samples((X[:5] > 3).astype(float))).all()


def test_tables_with_missing_cells_may_be_stored(in_parts: None) -> None:
    table = X.copy()
    table[::7, 2] = np.nan
    model = VAE(2, likelihood=Mixed(["real"] * 5), **SETTINGS).fit(table)
    assert np.isfinite(model.score(table))


def test_a_column_that_is_constant_in_a_sample_is_freed_by_the_rest(
    in_parts: None,
) -> None:
    rows = X.copy()
    rows[:, 1] = 1.0
    rows[301, 1] = 2.0  # a row that the sample leaves out
    model = VAE(2, early_stopping=False, **SETTINGS).fit(rows)
    assert not model.module_.likelihood.is_constant.any()


def test_a_column_that_is_constant_stays_so(in_parts: None) -> None:
    rows = X.copy()
    rows[:, 1] = 1.0
    model = VAE(2, **SETTINGS).fit(rows)
    assert model.module_.likelihood.is_constant.tolist() == [False, True, *[False] * 3]


def test_latent_variances_are_those_of_all_codes(in_parts: None) -> None:
    model = VAE(2, early_stopping=False, **SETTINGS).fit(X)
    variances = model.transform(X).var(axis=0)
    assert_allclose(model.latent_variances_, variances, rtol=1e-4)


def test_the_usage_of_a_codebook_is_that_of_all_training_rows(stored: None) -> None:
    model = VQVAE(8, n_tokens=2, encode="ordinal", **SETTINGS).fit(X)
    kept = np.bincount(model.transform(X).astype(int).ravel(), minlength=8)
    assert_allclose(model.codebook_usage_, kept / kept.sum(), atol=0.05)


# Fits that are trained as one.


@pytest.mark.parametrize("model", [MODELS[1], MODELS[3]], ids=["BetaVAE", "VQVAE"])
def test_stored_rows_are_shared_by_a_stack(model: Any, stored: Any) -> None:
    name = "beta" if isinstance(model, BetaVAE) else "commitment_cost"
    models = [clone(model).set_params(**{name: value}) for value in (0.5, 2.0)]
    fits: list[Any] = [Fit(clone(model), X, None, None) for model in models]
    trainings: list[Any] = [fit.work for fit in fits]
    assert len({stacks_as(training) for training in trainings} - {None}) == 1
    known: list[Any] = []
    for training in trainings:
        share_rows(training, known)
    assert len(known) == 1
    assert trainings[1].rows is trainings[0].rows
    assert Source(trainings[0]).serves(trainings[1])
    fit_together(fits)
    for fit, model in zip(fits, models):
        alone = model.fit(X)
        assert_allclose(fit.estimator.loss_curve_, alone.loss_curve_, rtol=1e-4)


def test_rows_that_are_far_are_not_stacked(in_parts: Any, tmp_path: Path) -> None:
    fit: Any = Fit(clone(MODELS[1]), mapped(X, tmp_path), None, None)
    assert stacks_as(fit.work) is None


# What is held out.


def test_draws_for_held_out_rows_are_the_same_each_time_and_no_others(
    in_parts: Any,
) -> None:
    draws = generator()
    held_out = HeldOut(
        rows_of(600), lambda x: (x, torch.randn(1, len(x), generator=draws)), draws
    )
    before = draws.get_state()
    first: Any
    second: Any
    first, second = ([block.noise for block in held_out.blocks()] for _ in range(2))
    assert len(first) > 1
    assert all(one.equal(other) for one, other in zip(first, second))
    assert draws.get_state().equal(before)


# Shuffles.


def batches_of(rows: Any, size: Any = 7) -> list[Any]:
    made = Trainer(
        torch.nn.Identity(),
        cast(Any, None),
        lambda x: (x, None),
        StepRule(0.1),
        batch_size=size,
        generator=generator(),
    )
    return list(made.batches(rows))


@pytest.mark.parametrize("n", [1, 24, 25, 299, 600, 1001])
@pytest.mark.parametrize("out_of_core", [False, True])
def test_every_row_comes_once_an_epoch(
    n: int, out_of_core: bool, in_parts: None
) -> None:
    parts, found = zip(*batches_of(rows_of(n, out_of_core)))
    seen = list(chain.from_iterable(batch.x[:, 0].tolist() for batch in found))
    assert sorted(seen) == list(range(n))
    assert n < 24 or seen != sorted(seen)
    assert [*parts] == sorted(parts)
    assert parts[-1] == 1
    assert max(len(batch.x) for batch in found) <= 7


def test_far_rows_are_read_in_pieces(in_parts: None) -> None:
    windows = rows_of(1000, out_of_core=True).windows(generator())
    assert len(windows) > 1
    for window in windows:
        found = torch.tensor(numbers(window))
        steps = found.diff()
        assert (steps > 0).all()  # as they are stored
        assert (steps > 1).sum() < 12  # of pieces
        near = window.loaded()
        assert not near.out_of_core
        assert near.index is None
        assert numbers(near) == found.tolist()


def test_windows_are_other_ones_each_epoch(in_parts: None) -> None:
    draws, rows = generator(), rows_of(1000, out_of_core=True)
    one, other = (numbers(rows.windows(draws)[0]) for _ in range(2))
    assert one != other


def test_rows_that_are_near_are_shuffled_as_a_whole(in_parts: None) -> None:
    rows = rows_of(1000)
    assert rows.windows(generator()) == [rows]


def test_weights_go_with_their_rows(in_parts: None) -> None:
    x = torch.arange(1000.0)[:, None]
    rows = StoredRows(x, x[:, 0] / x.mean(), x.device, out_of_core=True)
    rows = rows.take(torch.randperm(1000, generator=generator()))
    for _, batch in batches_of(rows):
        assert batch.weight.equal(batch.x[:, 0] / x.mean())


def test_the_next_is_made_while_one_is_in_use() -> None:
    made: Any = []
    items = prefetch(lambda i: made.append(i) or i, range(4))
    assert next(items) == 0
    assert list(items) == [1, 2, 3]
    assert made == [0, 1, 2, 3]


def test_an_error_of_what_is_prefetched_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(prefetch(lambda i: 1 / i, [2, 1, 0]))


# Parts of rows.


def test_rows_are_taken_as_an_index() -> None:
    rows = rows_of(10).take(torch.tensor([3, 1, 8])).take(torch.tensor([2, 0]))
    assert rows.store.shape == (10, 2)
    assert numbers(rows) == [8, 3]
    assert numbers(rows_of(10).take(slice(2, 4))) == [2, 3]
    assert [len(part) for part in rows_of(10).chunks(4)] == [4, 4, 2]


def test_a_sample_is_spread_evenly(in_parts: None) -> None:
    assert rows_of(1000).sample().x[:, 0].tolist() == list(range(0, 1000, 4))
    assert rows_of(100).first(1000).x.shape == (100, 2)


def test_maps_follow_one_another() -> None:
    rows = rows_of(4).map(lambda x: x + 1).map(lambda x: 2 * x)
    assert numbers(rows) == [2, 4, 6, 8]
    assert numbers(Rows(rows.x, None).map(lambda x: -x, 3)) == [-2, -4, -6, -8]


def test_rows_know_whether_they_are_the_same() -> None:
    x, other = normal(10, 2), normal(10, 2, seed=1)
    scale = Standardizer.of(x.mean(0), x.var(0))
    rows = scale.rows(StoredRows(x, None, x.device))
    same = Standardizer.of(x.mean(0), x.var(0)).rows(rows_of_tensor(x.clone()))
    assert rows.same_as(same)
    assert not rows.same_as(Standardizer.identity(2).rows(rows_of_tensor(x)))
    assert not rows.same_as(scale.rows(rows_of_tensor(other)))
    assert not rows.same_as(rows.take(slice(5)))
    assert not rows.same_as(rows.in_memory())
    assert not rows.same_as(None)


def rows_of_tensor(x: Tensor) -> Any:
    return StoredRows(x, None, x.device)


def test_moments_of_parts_are_those_of_the_whole() -> None:
    x, weight = 1e3 + normal(100, 3), normal(100, seed=3).exp()
    whole = Moments.of(x, weight, full=False)
    parts = Moments.of_parts(zip(x.split(30), weight.split(30)))
    torch.testing.assert_close(tuple(parts), tuple(whole), rtol=1e-12, atol=0)


@pytest.mark.parametrize("size", [3, 7, 100])
def test_rows_of_two_values_are_found_in_parts(size: int) -> None:
    binary = (normal(60, 2) > 0).double() * torch.tensor([1.0, -5.0])
    binary[:20, 0] = 1  # a constant, in the first parts
    for x, warns in [
        (binary, True),
        (torch.cat([binary, binary - 1]), False),  # every part is binary
        (torch.cat([binary[:40], torch.tensor([[2.0, 0.0]])]), False),
        (torch.cat([torch.tensor([[0.0, 0.0], [2.0, 0.0]]), binary]), False),
        (torch.ones(60, 2), False),
        (binary[: BINARY_ROWS - 1], False),
    ]:
        columns = TwoValues()
        for part in x.split(size):
            columns.see(part)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            columns.warn()
        assert bool(caught) == warns


def test_a_fit_warns_of_binary_rows_alone(in_parts: None) -> None:
    rows = np.repeat(X[:1], 600, axis=0)
    rows[::2] = X[1]
    model = VAE(2, likelihood=Gaussian(), **SETTINGS)
    with pytest.warns(UserWarning, match="no ceiling"):
        clone(model).fit(rows)
    clone(model).fit(np.concatenate([rows, rows + 1]))


# Memory.


def test_read_only_arrays_share_their_memory(tmp_path: Path) -> None:
    for rows in (np.asarray(mapped(X, tmp_path)), np.broadcast_to(X, X.shape)):
        assert not rows.flags.writeable
        tensor = to_tensor(rows, torch.device("cpu"))
        assert tensor.data_ptr() == rows.ctypes.data
        assert tensor.equal(torch.from_numpy(X))


def test_a_tensor_keeps_the_array_that_it_shares() -> None:
    rows = X.copy()
    rows.flags.writeable = False
    tensor = to_tensor(rows, torch.device("cpu"))
    del rows
    assert tensor.equal(torch.from_numpy(X))


def test_views_of_a_file_are_known(tmp_path: Path) -> None:
    file = mapped(X, tmp_path)
    assert is_mapped(file)
    assert is_mapped(np.asarray(file)[3:])
    assert not is_mapped(X)
    assert not is_mapped(file.copy())


def test_no_model_writes_into_a_file(tmp_path: Path) -> None:
    file = mapped(X, tmp_path)
    for model in (
        KMeansAutoencoder(3, copy_x=False, random_state=0),
        GaussianMixtureEM(2, random_state=0),
        *MODELS,
    ):
        clone(model).fit(file).score_samples(file)
    assert_array_equal(file, X)


BOUNDED = """
import re, resource, sys, warnings
import numpy as np
from skgen import VAE
from skgen.models import evaluation
from skgen._training import data as module

warnings.simplefilter("ignore")
path, n_bytes = sys.argv[1], int(sys.argv[2])
X = np.load(path, mmap_mode="r")
model = VAE(2, hidden_layer_sizes=(8,), batch_size=4096, max_iter=1, random_state=0)
model.fit(X[:5000]).score_samples(X[:50])  # all libraries at work
module.KEPT_ELEMENTS = 0
evaluation.PASS_ELEMENTS = module.SAMPLE_ELEMENTS = module.CHUNK_ELEMENTS = 2**20
module.WINDOW_PIECES = 8
status = open("/proc/self/status").read()
in_use = 1024 * int(re.search(r"VmData:\\s+(\\d+)", status).group(1))
resource.setrlimit(resource.RLIMIT_DATA, (in_use + n_bytes,) * 2)
model.fit(X).transform(X)
try:
    X.copy()
except MemoryError:
    print("bounded")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
def test_a_fit_to_a_file_takes_less_memory_than_the_file(tmp_path: Path) -> None:
    n, d = 400_000, 100  # 160 megabytes
    shape = (n, d)
    rows = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", np.float32, shape)
    some = np.random.default_rng(0).random((20_000, d), dtype=np.float32)
    for start in range(0, n, len(some)):
        rows[start : start + len(some)] = some
    del rows
    command = [sys.executable, "-c", BOUNDED, str(tmp_path / "X.npy"), str(100 * 2**20)]
    # What is freed goes back at once.
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.stdout == "bounded\n", done.stderr
