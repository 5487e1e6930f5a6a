"""Fits that are killed, and go on from their checkpoints: bit for bit as if never."""

import errno
import math
import os
import pickle
import signal
import threading
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from skgen import (
    IWAE,
    VAE,
    VQVAE,
    BetaVAE,
    ConditionalVAE,
    GaussianDensity,
    GaussianMixtureEM,
    MixedDensity,
    MixtureEM,
    load,
)
from skgen._files import checkpoints
from skgen._files.fingerprints import digest
from skgen._training import data
from skgen.exceptions import CheckpointWarning
from skgen.io import save
from skgen.likelihoods import Gaussian, Mixed
from skgen.model_selection import BatchedGridSearchCV
from tests.estimators import ONE_OF_EACH, class_name, rows_for

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore::skgen.exceptions.CheckpointWarning",
)

RNG = np.random.RandomState(0)
X = np.concatenate([RNG.randn(60, 3) - 1, 0.5 * RNG.randn(60, 3) + 1])
HOLES = np.where(RNG.rand(*X.shape) < 0.1, np.nan, X)
LABELS = np.repeat([0, 1], 60)
NETWORK: dict[str, Any] = {
    "hidden_layer_sizes": (8,),
    "batch_size": 32,
    "n_importance_samples": 4,
    "random_state": 0,
}


class Dropout(torch.nn.Sequential):
    """A network of the user's that draws from torch's own generator."""

    def __init__(self, n_inputs: Any, n_outputs: Any) -> None:
        super().__init__(torch.nn.Linear(n_inputs, n_outputs), torch.nn.Dropout(0.3))


FITS: dict[str, Any] = {
    "early stopping": (
        VAE(2, max_iter=12, n_iter_no_change=3, tol=0.05, **NETWORK),
        X,
    ),
    "training loss, schedule, average": (
        VAE(
            2,
            max_iter=6,
            early_stopping=False,
            learning_rate="cosine",
            weight_averaging=0.9,
            kl_warmup=4,
            **NETWORK,
        ),
        X.astype(np.float32),
    ),
    "dropout": (VAE(2, max_iter=5, encoder=Dropout, **NETWORK), X),
    "linear start": (VAE(2, max_iter=5, linear_path="auto", **NETWORK), X),
    "BetaVAE": (BetaVAE(2, beta=2.0, capacity=0.5, max_iter=5, **NETWORK), X),
    "IWAE": (IWAE(2, n_draws=3, max_iter=6, **NETWORK), X),
    "VQVAE": (VQVAE(4, n_tokens=2, code_size=2, max_iter=5, **NETWORK), X),
    "VQVAE, averages": (
        VQVAE(4, n_tokens=2, code_size=2, codebook_update="ema", max_iter=4, **NETWORK),
        X,
    ),
    "a Gaussian with holes": (GaussianDensity(tol=1e-9), HOLES),
    "components of one with holes": (GaussianDensity(0.8, tol=1e-4), HOLES),
    "a mixture": (
        GaussianMixtureEM(3, max_iter=12, tol=1e-5, random_state=0),
        X,
    ),
    "mixtures, tied": (
        GaussianMixtureEM(
            2, n_init=2, covariance_type="tied", max_iter=8, tol=0, random_state=0
        ),
        X,
    ),
    "mixtures in a stack": (
        GaussianMixtureEM(
            2, n_init=2, init_params="random", max_iter=20, tol=1e-4, random_state=0
        ),
        X,
    ),
    "mixtures that end apart": (
        GaussianMixtureEM(
            3, n_init=4, init_params="random", max_iter=30, tol=3e-3, random_state=1
        ),
        X,
    ),
    "mixtures, one by one": (
        GaussianMixtureEM(2, n_init=2, max_iter=9, tol=1e-5, random_state=0, verbose=1),
        X,
    ),
    "mixtures of products": (
        MixtureEM(
            2, kinds=["normal", "auto", 2], n_init=2, max_iter=6, tol=0, random_state=0
        ),
        np.column_stack([HOLES[:, :2], LABELS]),
    ),
    "stepwise EM": (
        MixtureEM(2, n_init=2, batch_size=50, max_iter=4, tol=0, random_state=0),
        X,
    ),
    "a mixture with holes": (
        GaussianMixtureEM(2, max_iter=8, tol=1e-5, random_state=0),
        HOLES,
    ),
}
fits = pytest.mark.parametrize("name", FITS)


class Killed(BaseException):
    """Takes the place of SIGKILL: no clause of the library catches it."""


@pytest.fixture(autouse=True)
def _every_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save every iteration, whatever the clock says."""
    monkeypatch.setattr(checkpoints, "PART", math.inf)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Count the writes, and kill the fit after those with some numbers."""

    class Writes:
        n, deadly = 0, ()

    def write_file(*args: Any) -> None:
        original(*args)
        Writes.n += 1
        if Writes.n in Writes.deadly:
            raise Killed

    original = checkpoints.write_file
    monkeypatch.setattr(checkpoints, "write_file", write_file)
    return Writes


def killed_and_resumed(model: Any, x: Any, *args: Any) -> Any:
    """Fit until no kill comes between; return the model and the number of kills."""
    for kills in range(1000):
        try:
            return model.fit(x, *args), kills
        except Killed:
            continue
    raise AssertionError("The fit does not end.")


def state_of(model: Any) -> Any:
    """All that a fit has set, as sums by name."""
    return {
        name: digest(value)
        for name, value in vars(model).items()
        if name.endswith("_") or name in ("_optimizer_state", "_weight_unit")
    }


def assert_same_fit(model: Any, other: Any) -> None:
    assert state_of(model) == state_of(other)


@fits
def test_a_checkpoint_changes_nothing(name: Any, tmp_path: Path) -> None:
    model, x = FITS[name]
    path = tmp_path / "run"
    with warnings.catch_warnings():
        warnings.simplefilter("error", CheckpointWarning)
        found = clone(model).set_params(checkpoint=path).fit(x)
    assert_same_fit(found, clone(model).fit(x))
    assert not [*tmp_path.iterdir()]  # the file, and what lay beside it


@fits
def test_a_fit_that_is_killed_after_each_write_ends_as_if_never(
    name: Any, tmp_path: Path, writes: Any
) -> None:
    model, x = FITS[name]
    writes.deadly = range(1, 10_000)
    model = clone(model)
    found, kills = killed_and_resumed(
        clone(model).set_params(checkpoint=tmp_path / "run"), x
    )
    assert kills == writes.n >= 3
    assert_same_fit(found, model.fit(x))
    assert not [*tmp_path.iterdir()]


KEPT = [each for each in ONE_OF_EACH if "checkpoint" in each.get_params()]


@pytest.mark.parametrize("estimator", KEPT, ids=class_name)
def test_every_model_goes_on(estimator: Any, tmp_path: Path, writes: Any) -> None:
    x = rows_for(estimator)
    if isinstance(estimator, GaussianDensity):
        x = np.where(np.eye(*x.shape), np.nan, x)
    writes.deadly = (1, 2)
    ours = clone(estimator).set_params(checkpoint=tmp_path / "run")
    found, kills = killed_and_resumed(ours, x)
    assert kills
    assert_same_fit(found, clone(estimator).fit(x))


def test_all_that_iterate_can_be_kept() -> None:
    names = {class_name(each) for each in ONE_OF_EACH if hasattr(each, "max_iter")}
    kept = {class_name(each) for each in KEPT}
    assert names - kept <= {"KMeansAutoencoder"}  # scikit-learn's loop


def test_rows_that_stay_on_a_disk_go_on(
    tmp_path: Path, writes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "KEPT_ELEMENTS", 0)
    monkeypatch.setattr(data, "PIECE_ELEMENTS", 30)
    monkeypatch.setattr(data, "WINDOW_PIECES", 3)
    np.save(tmp_path / "rows.npy", X)
    x = np.load(tmp_path / "rows.npy", mmap_mode="r")
    model = VAE(2, max_iter=4, **NETWORK)
    writes.deadly = (1, 2, 4)
    ours = clone(model).set_params(checkpoint=tmp_path / "run")
    found, kills = killed_and_resumed(ours, x)
    assert kills == 3
    assert_same_fit(found, model.fit(x))


def test_all_pieces_of_a_fit_go_on(tmp_path: Path, writes: Any) -> None:
    """A VAE that fills holes, its posterior of holes, the tokens, and so on."""
    settings: dict[str, Any] = {"n_tokens": 2, "code_size": 2, "max_iter": 2}
    model = VQVAE(4, likelihood=Mixed(["real"] * 3), **settings, **NETWORK)
    writes.deadly = (1, 3, 4, 7, 8)
    ours = clone(model).set_params(checkpoint=tmp_path / "run")
    found, kills = killed_and_resumed(ours, HOLES)
    assert kills == 5
    assert writes.n == 2 + 1 + 2 + 2 + 1
    assert_same_fit(found, model.fit(HOLES))


def test_a_model_inside_another_goes_on(tmp_path: Path, writes: Any) -> None:
    table = np.column_stack([HOLES[:, :2], LABELS])
    model = MixedDensity(VAE(2, max_iter=3, **NETWORK))
    writes.deadly = (2, 3, 4)
    ours = clone(model).set_params(estimator__checkpoint=tmp_path / "run")
    found, kills = killed_and_resumed(ours, table)
    assert kills == 3
    assert_same_fit(found.estimator_, model.fit(table).estimator_)


def test_the_rest_is_done_and_no_more(tmp_path: Path, writes: Any) -> None:
    model = VAE(2, max_iter=9, early_stopping=False, **NETWORK)
    path = tmp_path / "run"
    writes.deadly = (4,)
    with pytest.raises(Killed):
        clone(model).set_params(checkpoint=path).fit(X)
    with pytest.warns(CheckpointWarning, match="goes on after 4 epochs") as caught:
        clone(model).set_params(checkpoint=path).fit(X)
    assert writes.n == 9
    assert f"checkpoint={str(path)!r} of VAE" in str(caught[0].message)


def test_a_conditional_model_goes_on(tmp_path: Path, writes: Any) -> None:
    model = ConditionalVAE(2, max_iter=4, **NETWORK)
    writes.deadly = (2, 5)
    ours = clone(model).set_params(checkpoint=tmp_path / "run")
    found, kills = killed_and_resumed(ours, X, LABELS)
    assert kills
    assert_same_fit(found, model.fit(X, LABELS))
    writes.deadly = (writes.n + 1,)
    with pytest.raises(Killed):
        ours.fit(X, LABELS)
    with pytest.raises(ValueError, match=r"differs in y\."):
        ours.fit(X, 1 - LABELS)


def test_without_a_seed_one_is_kept(tmp_path: Path, writes: Any) -> None:
    model = VAE(2, max_iter=4, checkpoint=tmp_path / "run", **NETWORK)
    model.set_params(random_state=None)
    writes.deadly = (2,)
    np.random.seed(3)
    found, kills = killed_and_resumed(clone(model), X)
    assert kills == 1
    np.random.seed(3)
    assert_same_fit(found, model.fit(X))


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_a_generator_counts_by_its_state(
    make: Any, tmp_path: Path, writes: Any
) -> None:
    def model(seed: int) -> Any:
        mixture = GaussianMixtureEM(2, n_init=2, tol=1e-6, random_state=make(seed))
        return mixture.set_params(checkpoint=tmp_path / "run")

    expected = model(0).fit(X)
    writes.deadly = (writes.n + 2,)
    with pytest.raises(Killed):
        model(0).fit(X)
    with pytest.raises(ValueError, match="differs in random_state"):
        model(1).fit(X)
    assert_same_fit(model(0).fit(X), expected)


@pytest.mark.parametrize(
    "model",
    [
        VAE(2, max_iter=3, encoder=Dropout, **NETWORK),
        GaussianMixtureEM(2, max_iter=3, tol=0, random_state=0),
    ],
    ids=["VAE", "GaussianMixtureEM"],
)
def test_a_warm_fit_goes_on_from_its_checkpoint(
    model: Any, tmp_path: Path, writes: Any
) -> None:
    model = clone(model).set_params(warm_start=True).fit(X)
    data = pickle.dumps(model)
    expected = model.fit(X)
    writes.deadly = (2,)
    ours = pickle.loads(data).set_params(checkpoint=tmp_path / "run")
    found, kills = killed_and_resumed(ours, X)
    assert kills == 1
    assert_same_fit(found, expected)
    writes.deadly = (writes.n + 1,)
    with pytest.raises(Killed):
        found.fit(X)
    with pytest.raises(ValueError, match="differs in the model to go on from"):
        pickle.loads(data).set_params(checkpoint=tmp_path / "run").fit(X)


def test_a_fit_that_was_interrupted_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = VAE(2, max_iter=6, checkpoint=tmp_path / "run", **NETWORK)
    original, count = checkpoints.write_file, []

    def interrupted(*args: Any) -> None:
        original(*args)
        count.append(args)
        if len(count) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write_file", interrupted)
    with pytest.warns(ConvergenceWarning, match="interrupted"):
        found = clone(model).fit(X)
    assert found.n_iter_ == 3
    assert_same_fit(
        clone(model).fit(X), clone(model).set_params(checkpoint=None).fit(X)
    )


# What is refused.


CHANGES: dict[str, Any] = {
    "learning_rate_init": lambda model: (model.set_params(learning_rate_init=0.1), X),
    "hidden_layer_sizes": lambda model: (model.set_params(hidden_layer_sizes=(9,)), X),
    "tol, max_iter": lambda model: (model.set_params(tol=1.0, max_iter=7), X),
    "decoder": lambda model: (model.set_params(decoder=torch.nn.Linear), X),
    "likelihood": lambda model: (model.set_params(likelihood="bernoulli"), X > 0),
    "X": lambda model: (model, X + 1),
    "X, the last": lambda model: (model, np.vstack([X[:-1], X[:1]])),
    "dtype of X": lambda model: (model, X.astype(np.float32)),
}


@pytest.fixture
def killed(tmp_path: Path, writes: Any) -> Any:
    """A model whose fit was killed after two epochs."""
    model = VAE(2, max_iter=5, checkpoint=tmp_path / "run", **NETWORK)
    writes.deadly = (2,)
    with pytest.raises(Killed):
        model.fit(X)
    return model


@pytest.mark.parametrize("name", CHANGES)
def test_another_fit_is_told_what_differs(name: Any, killed: Any) -> None:
    before = killed.checkpoint.read_bytes()
    model, x = CHANGES[name](clone(killed))
    words = {"X, the last": "X", "dtype of X": "X"}.get(name, name)
    with pytest.raises(ValueError, match="file of another fit") as caught:
        model.fit(x)
    said = str(caught.value).partition("differs in ")[2].partition(". Give")[0]
    if name == "likelihood":
        words = "likelihood, X"
    assert sorted(said.split(", ")) == sorted(words.split(", "))
    assert killed.checkpoint.read_bytes() == before
    with pytest.raises(ValueError, match="differs in sample_weight"):
        clone(killed).fit(X, sample_weight=np.arange(len(X)))
    with pytest.raises(ValueError, match="differs in the class"):
        IWAE(**{**killed.get_params(), "max_grad_norm": 1.0}).fit(X)


def test_what_changes_no_result_may_change(
    killed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    model = clone(killed).set_params(verbose=1).fit(X)
    assert "epoch 3 of 5" in capsys.readouterr().out
    assert_same_fit(model, clone(killed).set_params(checkpoint=None).fit(X))


@pytest.mark.parametrize("where", ["cut", "header", "end", "empty", "pickle"])
def test_a_damaged_file_is_an_error(where: Any, killed: Any) -> None:
    path = killed.checkpoint
    data = bytearray(path.read_bytes())
    if where == "header":
        data[200] ^= 1
    elif where == "end":
        data[-5] ^= 1
    new = {"cut": data[:-9], "empty": b"", "pickle": b"\x80\x04N."}.get(where, data)
    path.write_bytes(new)
    with pytest.raises(ValueError, match=r"cannot be read.*delete") as caught:
        killed.fit(X)
    assert "checkpoint=" in str(caught.value)
    assert "of VAE" in str(caught.value)
    assert path.read_bytes() == bytes(new)  # for the user to look at


def test_a_model_is_no_checkpoint_nor_the_other_way_round(
    killed: Any, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="is not a file of skgen"):
        load(killed.checkpoint)
    model = GaussianMixtureEM(2, random_state=0).fit(X)
    save(model, tmp_path / "model")
    with pytest.raises(ValueError, match="not a checkpoint of a fit"):
        model.set_params(checkpoint=tmp_path / "model").fit(X)


def test_two_fits_cannot_have_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = VAE(2, max_iter=3, checkpoint=tmp_path / "run", **NETWORK)
    writing, go_on = threading.Event(), threading.Event()
    original = checkpoints.write_file

    def waits(*args: Any) -> None:
        original(*args)
        writing.set()
        go_on.wait()

    monkeypatch.setattr(checkpoints, "write_file", waits)
    first = clone(model)
    thread = threading.Thread(target=first.fit, args=(X,))
    thread.start()
    writing.wait()
    try:
        with pytest.raises(ValueError, match="another fit is writing"):
            clone(model).fit(X)
    finally:
        go_on.set()
        thread.join()
    assert_same_fit(first, clone(model).set_params(checkpoint=None).fit(X))


# What cannot be written.


def test_a_full_disk_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = VAE(2, max_iter=5, checkpoint=tmp_path / "run", **NETWORK)
    original, count = checkpoints.write_file, []

    def full(*args: Any) -> None:
        count.append(args)
        if len(count) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if len(count) == 4:
            raise Killed
        original(*args)

    monkeypatch.setattr(checkpoints, "write_file", full)
    with (
        pytest.warns(CheckpointWarning, match="No space left") as caught,
        pytest.raises(Killed),
    ):
        clone(model).fit(X)
    assert len(caught) == 1
    with pytest.warns(CheckpointWarning, match="after 3 epochs"):
        found = clone(model).fit(X)
    assert_same_fit(found, clone(model).set_params(checkpoint=None).fit(X))


def test_a_place_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    model = GaussianMixtureEM(2, random_state=0)
    ours = clone(model).set_params(checkpoint=tmp_path / "file" / "run")
    with pytest.warns(CheckpointWarning, match="cannot be written") as caught:
        ours.fit(X)
    assert len(caught) == 1
    assert_same_fit(ours, model.fit(X))


def test_what_is_no_file_is_an_error() -> None:
    model = GaussianMixtureEM(2, checkpoint=os.devnull)
    with pytest.raises(ValueError, match="no file that can be written"):
        model.fit(X)


# Many fits.


def test_a_search_has_a_file_for_each_fit(tmp_path: Path, writes: Any) -> None:
    folder = tmp_path / "folder"
    model = VAE(2, max_iter=2, **NETWORK)
    grid = {"learning_rate_init": [1e-3, 1e-2]}
    expected = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X)
    model.set_params(checkpoint=f"{folder}{os.sep}")
    search = GridSearchCV(model, grid, cv=2, error_score="raise")
    writes.deadly = (1, 3, 8, 9)
    found, kills = killed_and_resumed(search, X)
    assert kills == 4
    assert writes.n == 5 * 2  # no epoch was run again
    assert_same_fit(found.best_estimator_, expected.best_estimator_)
    name = "mean_test_score"
    assert (found.cv_results_[name] == expected.cv_results_[name]).all()
    assert len([*folder.iterdir()]) == 5  # four fits, and the last on all rows
    again = GridSearchCV(model, grid, cv=2).fit(X)
    assert writes.n == 5 * 2
    assert (again.cv_results_[name] == found.cv_results_[name]).all()


def test_a_batched_search_fits_one_by_one(tmp_path: Path) -> None:
    model = GaussianMixtureEM(random_state=0, checkpoint=tmp_path)
    search = BatchedGridSearchCV(model, {"n_components": [1, 2]}, cv=2).fit(X)
    assert len([*tmp_path.iterdir()]) == 5
    model.set_params(checkpoint=None)
    expected = BatchedGridSearchCV(model, {"n_components": [1, 2]}, cv=2).fit(X)
    assert search.best_score_ == pytest.approx(expected.best_score_)


def test_a_fit_without_a_seed_leaves_nothing_in_a_folder(tmp_path: Path) -> None:
    GaussianMixtureEM(2, checkpoint=tmp_path).fit(X)
    assert not [*tmp_path.iterdir()]


def test_files_of_models_name_no_checkpoint(tmp_path: Path) -> None:
    model = GaussianMixtureEM(2, random_state=0, checkpoint=tmp_path / "run").fit(X)
    save(model, tmp_path / "model")
    assert load(tmp_path / "model").checkpoint is None


# What tells a fit from others.


class Scaled(torch.nn.Linear):
    """A network with a number that is no weight."""

    def __init__(self, scale: Any) -> None:
        super().__init__(2, 2)
        torch.nn.init.ones_(self.weight)
        torch.nn.init.ones_(self.bias)
        self.scale = scale
        self.itself = [self]


def adder(n: int) -> Any:
    return lambda x: x + n


def sorted_once(x: Any) -> Any:
    """Make sparse rows that know of themselves that they are sorted."""
    rows = scipy.sparse.csr_array(x)
    assert rows.has_canonical_format
    return rows


EQUAL = [
    (lambda: 0.5, lambda: np.float64(0.5)),
    (
        lambda: np.arange(6.0).reshape(2, 3),
        lambda: np.arange(6.0).reshape(3, 2).T.copy().T.reshape(2, 3),
    ),
    (
        lambda: np.arange(6).reshape(2, 3),
        lambda: np.asfortranarray(np.arange(6).reshape(2, 3)),
    ),
    (lambda: Mixed(["real", 3]), lambda: Mixed(["real", 3])),
    (lambda: Scaled(2), lambda: Scaled(2)),
    (lambda: adder(1), lambda: adder(1)),
    (lambda: scipy.sparse.csr_array(np.eye(3)), lambda: sorted_once(np.eye(3))),
    (lambda: {"a": 1, "b": 2}, lambda: {"b": 2, "a": 1}),
    (lambda: np.random.RandomState(3), lambda: np.random.RandomState(3)),
]
DIFFERENT = [
    (1, 1.0, True, "1", None, [1], np.array([1]), np.array([1.0]), np.array([[1]])),
    ([1, [2]], [[1], 2], [1, 2], []),
    (Gaussian(), Gaussian(0.5), Gaussian("row"), Mixed(["real"]), Mixed([2])),
    (Scaled(2), Scaled(3), torch.nn.Linear(2, 2)),
    (
        adder(1),
        adder(2),
        len,
        sum,
        torch.nn.Linear,
        partial(adder, 1),
        partial(adder, 2),
    ),
    (np.random.RandomState(3), np.random.RandomState(4), np.random.default_rng(3)),
    (
        scipy.sparse.csr_array(np.eye(3)),
        scipy.sparse.csr_array(2 * np.eye(3)),
        np.eye(3),
    ),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_equal_values_have_equal_sums(one: Any, other: Any) -> None:
    assert digest(one()) == digest(other())


@pytest.mark.parametrize("values", DIFFERENT)
def test_different_values_have_different_sums(values: Any) -> None:
    assert len({*map(digest, values)}) == len(values)


def test_a_sum_is_the_same_in_another_process() -> None:
    expected = digest([X[:0], (1, 2.5), {"a": None}, torch.ones(2), np.eye(2)[::-1]])
    assert expected.startswith("44fb205a9e5dce45")


# When it is written.


def test_writing_takes_a_small_part_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "PART", 1 / 10)
    now = [0.0]
    monkeypatch.setattr(checkpoints, "now", lambda: now[0])
    written = []

    def write_file(*args: Any) -> None:
        written.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr(checkpoints, "write_file", write_file)
    checkpoint = checkpoints.FitCheckpoint(tmp_path / "run", "", {})
    piece = checkpoint.next_piece()
    for epoch in range(1, 71):
        now[0] += 1.0
        piece.save(lambda epoch=epoch: {"n_iter": epoch}, is_over=epoch == 70)  # type: ignore[misc]
    assert written == [1.0, 40.0, 60.0]  # each takes two seconds, of twenty
    checkpoint.end(keeps=True)
    assert written == [1.0, 40.0, 60.0, 76.0]


def test_a_short_fit_writes_nothing(
    tmp_path: Path, writes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "PART", 1 / 64)
    monkeypatch.setattr(checkpoints, "now", lambda: 0.0)
    model = GaussianMixtureEM(2, random_state=0)
    clone(model).set_params(checkpoint=tmp_path / "run").fit(X)
    assert writes.n == 0
    clone(model).set_params(checkpoint=tmp_path).fit(X)
    assert writes.n == 1  # for a search that is called again


# A real kill.


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="There is no fork here.")
LONG: dict[str, Any] = {
    "VAE": VAE(2, max_iter=30, early_stopping=False, **NETWORK),
    "IWAE": IWAE(2, n_draws=2, max_iter=30, early_stopping=False, **NETWORK),
    "VQVAE": VQVAE(
        4, n_tokens=2, code_size=2, max_iter=30, early_stopping=False, **NETWORK
    ),
    "GaussianMixtureEM": GaussianMixtureEM(3, max_iter=60, tol=0, random_state=0),
    "MixtureEM": MixtureEM(3, max_iter=60, tol=0, random_state=0),
    "MixtureEM, stepwise": MixtureEM(
        3, batch_size=40, n_init=2, max_iter=30, tol=0, random_state=0
    ),
    "a search": GridSearchCV(
        MixtureEM(max_iter=12, tol=0, random_state=0),
        {"n_components": [2, 3]},
        cv=2,
        error_score="raise",
    ),
}
# Instants of a write: before it, between a file and its move to its place, after it.
INSTANTS = ("before", "replace", "after")


class Killer:
    """Ends the process at the n-th write from now on, at one of its instants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
        self.n_left, self.instant, self.log = -1, "", log
        self.write, self.replace = checkpoints.write_file, os.replace
        monkeypatch.setattr(checkpoints, "write_file", self.write_file)
        monkeypatch.setattr(os, "replace", self.replace_file)

    def write_file(self, *args: Any) -> None:
        self.n_left -= 1
        with self.log.open("ab") as file:  # one byte for each iteration that was made
            file.write(b".")
        self.die("before")
        self.write(*args)
        self.die("after")

    def replace_file(self, *args: Any) -> None:
        self.die("replace")
        self.replace(*args)

    def die(self, instant: str) -> None:
        if self.n_left == 0 and instant == self.instant:
            os.kill(os.getpid(), signal.SIGKILL)


@forks
@pytest.mark.parametrize("name", LONG)
def test_a_fit_that_is_killed_twenty_times_ends_as_if_never(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, rng = tmp_path / "runs", np.random.RandomState(0)
    model = clone(LONG[name])
    inner = model.estimator if name == "a search" else model
    inner.set_params(checkpoint=f"{folder}{os.sep}")
    killer, kills = Killer(monkeypatch, tmp_path / "log"), 0
    while kills < 20:
        killer.n_left, killer.instant = rng.randint(1, 3), rng.choice(INSTANTS)
        child = os.fork()
        if child == 0:
            try:
                model.fit(X)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"it ended after {kills} kills"
        assert os.WTERMSIG(status) == signal.SIGKILL
        kills += 1
    killer.instant = ""
    found = model.fit(X)
    n_made = len((tmp_path / "log").read_bytes())
    inner.set_params(checkpoint=None)
    (tmp_path / "log").write_bytes(b"")
    expected = clone(model).fit(X)
    if name == "a search":
        scores = (each.cv_results_["mean_test_score"] for each in (found, expected))
        np.testing.assert_array_equal(*scores)
        found, expected = found.best_estimator_, expected.best_estimator_
    assert_same_fit(found, expected)
    inner.set_params(checkpoint=tmp_path / "anew")
    clone(model).fit(X)
    n_alone = len((tmp_path / "log").read_bytes())
    assert n_alone < n_made <= n_alone + kills  # at most one iteration for each kill


@forks
def test_a_process_that_is_killed_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = IWAE(2, n_draws=2, max_iter=8, checkpoint=tmp_path / "run", **NETWORK)
    original, n_left = checkpoints.write_file, [0]

    def write_file(*args: Any) -> None:
        original(*args)
        n_left[0] -= 1
        if n_left[0] == 0:
            die()

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(checkpoints, "write_file", write_file)
    for n_left[0] in (2, 1, 3, -1):
        child = os.fork()
        if child == 0:
            if n_left[0] < 0:  # between writing a file and moving it to its place
                monkeypatch.setattr(os, "replace", lambda *_: die())
            model.fit(X)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
    assert len([*tmp_path.iterdir()]) == 3  # the file, its lock, and one that strayed
    with pytest.warns(CheckpointWarning, match="after 6 epochs"):
        found = clone(model).fit(X)
    assert_same_fit(found, model.set_params(checkpoint=None).fit(X))
    assert not [*tmp_path.iterdir()]
