"""Time fits on one, chosen and all threads, alone and beside busy processes.

    python benchmarks/busy_machine.py [--quick] [--repeats 3]

Seconds of a fit and of its score on one thread; on as many as skgen chooses, as a
multiple of that; and on all that torch has. On an idle machine, beside one process
that counts, and beside two. What is chosen should cost at most 1.05 times the better
of one and all threads where the machine is idle, and at most 1.2 times one thread
where it is not. Rounds take turns; the median is taken on an idle machine, the mean
beside others, whose turns fall by chance. Run it without OMP_NUM_THREADS, on a machine
that is idle otherwise.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import mean, median
from time import perf_counter
from typing import Any
from unittest import mock

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from timing import machine, report, threads

import skgen
from skgen._utils import threads as chosen

RESULTS = Path(__file__).parent / "results" / "busy_machine.txt"
DIGITS = load_digits().data.astype(np.float32)
BUSY = [sys.executable, "-c", "while True: pass"]


def rows(n: int, d: int) -> Any:
    """Rows of low rank with noise, in four clusters."""
    rng = np.random.RandomState(0)
    centres = 3 * rng.randn(4, d)[rng.randint(4, size=n)]
    return (centres + rng.randn(n, 4) @ rng.randn(4, d) + rng.randn(n, d)).astype("f4")


def networks(**params: Any) -> dict[str, Any]:
    return {"random_state": 0, "early_stopping": False, **params}


def mixture(n_components: int, kind: str) -> Any:
    return skgen.GaussianMixtureEM(
        n_components,
        covariance_type=kind,
        init_params="random_from_data",
        max_iter=5,
        tol=0,
        random_state=0,
    )


def cases() -> dict[str, tuple[Any, Any]]:
    """Estimators and rows, small and large."""
    few, many, wide = rows(2000, 8), rows(40000, 32), rows(2000, 400)
    image = {"architecture": "conv", "image_shape": (8, 8), "channels": 16}
    large = networks(hidden_layer_sizes=(400,), batch_size=512, max_iter=2)
    return {
        "VAE, digits": (skgen.VAE(8, **networks(max_iter=5)), DIGITS),
        "BetaVAE, digits": (skgen.BetaVAE(8, **networks(max_iter=5)), DIGITS),
        "IWAE, digits": (skgen.IWAE(8, **networks(max_iter=3)), DIGITS),
        "VQVAE, digits": (skgen.VQVAE(random_state=0, max_iter=2), DIGITS[:600]),
        "VAE, 8 x 8 images": (skgen.VAE(8, **image, **networks(max_iter=1)), DIGITS),
        "VAE, 400 columns": (skgen.VAE(8, **large), wide),
        "IWAE, 400 columns": (skgen.IWAE(8, **large), wide),
        "VQVAE, 400 columns": (
            skgen.VQVAE(hidden_layer_sizes=(400,), max_iter=1, random_state=0),
            wide[:1000],
        ),
        "GaussianDensity, 8 columns": (skgen.GaussianDensity(), few),
        "GaussianDensity, 40000 x 32": (skgen.GaussianDensity(), many),
        "GaussianDensity, 400 columns": (skgen.GaussianDensity(), wide),
        "KMeansAutoencoder, 8 columns": (skgen.KMeansAutoencoder(random_state=0), few),
        "KMeansAutoencoder, 40000 x 32": (
            skgen.KMeansAutoencoder(16, random_state=0),
            many,
        ),
        "mixture, full, 8 columns": (mixture(8, "full"), few),
        "mixture, full, 40000 x 32": (mixture(8, "full"), many),
        "mixture, diag, 40000 x 32": (mixture(8, "diag"), many),
        "mixture, tied, 40000 x 32": (mixture(8, "tied"), many),
        "mixture, full, 400 columns": (mixture(4, "full"), wide[:1500]),
    }


@contextmanager
def busy(n: int) -> Iterator[None]:
    """Have n other processes that do not wait for anything."""
    processes = [subprocess.Popen(BUSY) for _ in range(n)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def fixed(n: int | None) -> Iterator[None]:
    """Run on n threads, whatever the work; None: as many as there are."""
    with ExitStack() as stack:
        if n is not None:
            stack.enter_context(threads(n))
        else:
            stack.enter_context(mock.patch.object(chosen._Call, "set_for", _leave))
            stack.enter_context(mock.patch.object(chosen, "_openblas_limit", ExitStack))
        yield


def _leave(call: Any, work: float, steady: bool) -> None:
    """Leave the number of threads as it was set."""
    call.n = max(call.before)


WAYS: dict[str, Callable[[], Any]] = {
    "one": lambda: fixed(1),
    "chosen": ExitStack,
    "all": lambda: fixed(None),
}


def measured(model: Any, X: Any, ways: list[str], repeats: int) -> dict[str, list]:
    """Seconds of a fit and a score, in turns."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            with WAYS[way]():
                start = perf_counter()
                model.fit(X).score(X)
                seconds[way].append(perf_counter() - start)
    return seconds


def lines(repeats: int, n_busy: tuple[int, ...], part: int) -> Iterator[str]:
    yield from machine("threadpoolctl")
    yield f"{repeats} rounds after a warm fit; seconds, and multiples of one thread"
    shown = list(cases().items())[::part]
    for _, (model, X) in shown:
        model.fit(X).score(X)
    for n in n_busy:
        with busy(n):
            yield f"\nbeside {n} busy processes"
            ways = ["one", "chosen", "all"] if n == 0 else ["one", "chosen"]
            average = median if n == 0 else mean
            for name, (model, X) in shown:
                found = measured(model, X, ways, repeats)
                times = {way: average(values) for way, values in found.items()}
                ratios = [f"{way} {times[way] / times['one']:5.2f}" for way in ways[1:]]
                yield f"{name:32s} one {times['one']:7.3f} s  " + "  ".join(ratios)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    if arguments.quick:
        report(lines(2, (0, 1, 2), 2), None)
    else:
        report(lines(arguments.repeats, (0, 1, 2), 1), RESULTS)
