"""Measure what checkpoints cost a fit, and kill fits to see them go on.

    python benchmarks/checkpoints.py [--quick] [--threads 1] [--kills 20]

First the cost: epochs of a VAE (784-400-20) on so many rows that one takes about a
second on an idle machine, and on a tenth of them, and EM on 100,000 rows, with a
checkpoint on this disk: the seconds inside of the fit in which files are made and
written, fsync and all. Then kills: a process fits, is killed by SIGKILL after a random
time, and is started again, until processes have been killed so often and the last fit
has ended; there, every iteration is saved, however long that takes. What comes out is
compared bit for bit with a fit that was not killed, and the iterations that were run
with those that had to be. Results go to ``benchmarks/results/checkpoints.txt``.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
from timing import machine, report, threads

from skgen import IWAE, VAE, VQVAE, GaussianMixtureEM, MixtureEM
from skgen._em.restarts import EMRun
from skgen._files import checkpoints
from skgen._files.checkpoints import FitCheckpoint
from skgen._files.fingerprints import digest
from skgen._training.loop import Loop

FORK = get_context("fork")  # a new process would import torch for seconds
RESULTS = Path(__file__).parent / "results" / "checkpoints.txt"
# Seconds that a process lives after its first iteration, at most.
LONGEST = 0.5
NETWORK = {"max_iter": 40, "n_iter_no_change": 50, "random_state": 0}
KILLED = {
    "VAE": VAE(4, **NETWORK),
    "IWAE": IWAE(4, n_draws=5, **NETWORK),
    "VQVAE": VQVAE(16, n_tokens=2, **NETWORK),
    "GaussianMixtureEM": GaussianMixtureEM(
        12, n_init=2, max_iter=200, tol=0.0, random_state=0
    ),
    "MixtureEM": MixtureEM(12, n_init=2, max_iter=200, tol=0.0, random_state=0),
}


class Watch:
    """Notes the seconds of each call of a method."""

    def __init__(self, owner: type, name: str) -> None:
        self.seconds: list[float] = []
        original = getattr(owner, name)

        def timed(*args: Any) -> Any:
            start = perf_counter()
            try:
                return original(*args)
            finally:
                self.seconds.append(perf_counter() - start)

        setattr(owner, name, timed)


def cost(name: str, model: Any, x: Any, folder: str, watch: Watch) -> str:
    """Fit with a checkpoint; return a row of the table."""
    watch.seconds.clear()
    start = perf_counter()
    model.set_params(checkpoint=f"{folder}/run").fit(x)
    seconds, n_files = perf_counter() - start, len(watch.seconds)
    n_iter = len(getattr(model, "loss_curve_", getattr(model, "lower_bounds_", [])))
    written = sum(watch.seconds)
    return (
        f"| {name} | {n_iter} | {seconds / n_iter:.3f} | {n_files} | "
        f"{1e3 * written / max(n_files, 1):.1f} | {written / seconds:.2%} |"
    )


def costs(quick: bool) -> Iterator[str]:
    """Compare fits of several sizes."""
    rng = np.random.default_rng(0)
    pixels = (rng.random((2_000 if quick else 16_000, 784)) < 0.2).astype(np.float32)
    rows = rng.normal(size=(100_000 // (10 if quick else 1), 16))
    settings = {
        "hidden_layer_sizes": (400,),
        "likelihood": "bernoulli",
        "batch_size": 128,
        "early_stopping": False,
        "tol": 0.0,
        "random_state": 0,
    }
    cases = {
        "VAE": (VAE(20, max_iter=10, **settings), pixels),
        "VAE, a tenth of the rows": (
            VAE(20, max_iter=60, **settings),
            pixels[: len(pixels) // 10],
        ),
        "GaussianMixtureEM": (
            GaussianMixtureEM(16, max_iter=50, tol=0.0, random_state=0),
            rows,
        ),
    }
    watch = Watch(FitCheckpoint, "write")
    yield "| fit | epochs | s each | files | ms each | of the fit |"
    yield "|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        for name, (model, x) in cases.items():
            yield cost(name, model, x, folder, watch)


def fit(name: str, path: str | None, pipe: Connection) -> None:
    """Fit; tell of each iteration, and of all that the fit has set as one sum."""

    def told(function: Callable[..., Any]) -> Callable[..., Any]:
        def telling(*args: Any) -> Any:
            found = function(*args)
            pipe.send("one")
            return found

        return telling

    checkpoints.PART = math.inf  # every iteration is saved
    Loop.epoch, EMRun.see = told(Loop.epoch), told(EMRun.see)  # type: ignore[method-assign]
    rng = np.random.RandomState(0)
    x = rng.randn(4_000, 5) @ rng.randn(5, 8) + rng.randn(4_000, 8)
    state = vars(KILLED[name].set_params(checkpoint=path).fit(x))
    pipe.send(f"end {digest({n: v for n, v in state.items() if n.endswith('_')})}")


def outcome(name: str, path: str | None, seconds: float | None) -> tuple[int, str]:
    """Run a fit, killed so long after its first iteration: those that ended, result."""
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=fit, args=(name, path, theirs))
    process.start()
    theirs.close()
    found = [""]
    with suppress(EOFError):
        found.append(ours.recv())
        if seconds is not None:
            sleep(seconds)
            process.kill()
        while True:
            found.append(ours.recv())
    process.join()
    return found.count("one"), found[-1]


def kills(name: str, n: int) -> str:
    """Kill fits n times at random instants; return a row of the table."""
    n_iter, expected = outcome(name, None, None)
    rng, n_fits, n_killed, n_run, n_same = random.Random(name), 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        found = ""
        while n_killed < n or not found.startswith("end"):
            seconds = rng.random() * LONGEST if n_killed < n else None
            done, found = outcome(name, f"{folder}/run", seconds)
            ended = found.startswith("end")
            n_run, n_killed, n_fits = (
                n_run + done,
                n_killed + (not ended),
                n_fits + ended,
            )
            n_same += found == expected
        left = [*Path(folder).iterdir()]
    again = n_run - n_fits * n_iter
    same = "yes" if n_same == n_fits and not left else "NO"
    return f"| {name} | {n_iter} | {n_killed} | {n_fits} | {again} | {same} |"


def lines(quick: bool, n_kills: int) -> Iterator[str]:
    """Yield the lines of the report."""
    yield from machine()
    yield ""
    yield from costs(quick)
    yield ""
    yield "| fit | epochs | kills | fits that ended | epochs again | same to the bit |"
    yield "|---|---|---|---|---|---|"
    for name in KILLED:
        yield kills(name, n_kills)


def main() -> None:
    """Parse the arguments, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with threads(args.threads):
        n_kills = 3 if args.quick else args.kills
        report(lines(args.quick, n_kills), None if args.quick else RESULTS)


if __name__ == "__main__":
    main()
