"""Fits of several processes equal fits of one, on the rows of all."""

import os
import pickle
import subprocess
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import Tensor

from skgen import GaussianDensity
from skgen.distributed import data_parallel
from tests.distributed_fits import CASES, DISPERSED, LONG, NETWORKS, X

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or sys.platform == "win32",
    reason="torch has no gloo here",
)

ROOT = Path(__file__).parents[1]


# What is done by groups of so many processes.
JOBS = ["2", "fits", "3", "fits", "2", "errors", "2", "killed"]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: Any) -> Path:
    """Folder of what the groups have learned."""
    folder: Path = tmp_path_factory.mktemp("jobs")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "tests.distributed_fits", folder, *JOBS],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return folder


def states(folder: Path, name: str, size: int) -> list[Any]:
    """Return what the processes have learned, by rank."""
    paths = (folder / f"{name}-{rank}" for rank in range(size))
    return [pickle.loads(path.read_bytes()) for path in paths]


def assert_alike(one: Any, other: Any, rtol: float, atol: float, where: str) -> None:
    """Compare two values, and what they are made of."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one:
            assert_alike(one[name], other[name], rtol, atol, f"{where}.{name}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other)):
            assert_alike(a, b, rtol, atol, f"{where}[{i}]")
    elif isinstance(one, (float, np.ndarray, Tensor)):
        a, b = np.asarray(one), np.asarray(other)
        assert a.dtype == b.dtype, where
        if a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=where)
        else:
            np.testing.assert_array_equal(a, b, err_msg=where)
    elif isinstance(one, (int, str, bool, type(None))):
        assert one == other, where


def tolerance(name: str) -> tuple[float, float]:
    """Return a relative and an absolute tolerance for a case."""
    if name.startswith(NETWORKS):  # float32, over many steps
        return 1e-4, 1e-5
    # A dispersion is searched for, to half the digits.
    return (1e-6, 1e-8) if name in DISPERSED else (1e-10, 1e-10)


@cache
def fitted(name: str) -> dict[str, Any]:
    """Return the state of the fit of one process."""
    model, rows, weight = CASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state: dict[str, Any] = (
            clone(model).fit(rows, sample_weight=weight)._file_state()
        )
    return state


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_processes_learn_what_one_would(jobs: Path, name: str, size: int) -> None:
    first, *others = states(jobs / f"{size} fits", name, size)
    alone = dict(fitted(name))
    if "labels_" in first:  # of the rows that a process has
        labels = [state.pop("labels_") for state in (first, *others)]
        np.testing.assert_array_equal(np.concatenate(labels), alone.pop("labels_"))
    for other in others:
        assert_alike(first, other, 0.0, 0.0, name)
    assert_alike(first, alone, *tolerance(name), name)


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", [name for name in CASES if name.endswith(", steps")])
def test_a_step_is_that_of_one_process(jobs: Path, name: str, size: int) -> None:
    found, alone = states(jobs / f"{size} fits", name, size)[0], fitted(name)
    np.testing.assert_allclose(found["loss_curve_"], alone["loss_curve_"], rtol=1e-6)
    weights = alone["module_"]["weights"]
    for key, value in found["module_"]["weights"].items():
        value, expected = (torch.as_tensor(v) for v in (value, weights[key]))
        # The prior over tokens is learned in many steps after these.
        if value.is_floating_point() and not key.startswith("prior."):
            error = torch.linalg.vector_norm((value - expected).double())
            norm = torch.linalg.vector_norm(expected.double())
            assert error <= 1e-6 * norm, key


@pytest.fixture(scope="module")
def errors(jobs: Path) -> list[dict[str, str]]:
    """Errors that two processes had, by rank."""
    return states(jobs / "2 errors", "errors", 2)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rows of one", ("Rank 1 of the group failed with ValueError", "infinity")),
        ("features", ("[3, 2] features", "[3, 2] features")),
        ("parameter", ("'n_components'", "'n_components'")),
        ("too few", ("n_samples=240", "n_samples=240")),
        ("collapse", ("ill-defined", "ill-defined")),
        ("partial_fit", ("Leave the block", "Leave the block")),
        ("compiled", ("execution='eager'", "execution='eager'")),
        ("callback", ("Another process", "the callback fails")),
    ],
)
def test_processes_hear_of_an_error(
    errors: Any, name: str, words: tuple[str, str]
) -> None:
    for said, expected in zip(errors, words):
        assert expected in said[name]


def test_an_error_that_all_know_of_leaves_the_group(errors: Any) -> None:
    assert [said["after"] for said in errors] == ["(3,)"] * 2


def test_a_job_whose_process_is_killed_goes_on(jobs: Path) -> None:
    for name, model in LONG.items():
        first, second = states(jobs / "2 killed", f"killed {name}", 2)
        assert_alike(first, second, 0.0, 0.0, name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            alone = clone(model).fit(X)._file_state()
        assert_alike(first, alone, *tolerance(name), name)


def test_one_process_without_a_group_is_told_how_to_start() -> None:
    with pytest.raises(ValueError, match="torchrun"), data_parallel():
        GaussianDensity().fit(X)
