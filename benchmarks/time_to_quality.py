"""Time until a fit is as good as a peer's in the end: the figure that users feel.

    SKGEN_DATA=folder python benchmarks/time_to_quality.py [--quick] [--seeds 3]

**Networks.** pythae trains a VAE (784-200-200-50, tanh) for six epochs of binarised
MNIST, in batches of 100 at a rate of 1e-3 (its side of ``likelihood.py``, with the same
start of the weights). Ours trains the same networks in the same batches, and in recipes
that a user would try, for two, three, ... epochs, each a fit of its own whose schedule
ends with it, until the held-out negative log-likelihood is at or below pythae's. Both
are scored by our estimator (100 draws) on 2000 test rows.

**Mixtures.** scikit-learn fits a mixture, its K-means start included; then ours to its
own end, by the same rule, and with ``acceleration="squarem"``, whose iterations are of
three steps. Bounds say whether they end alike.

Seconds are of one processor, of which either side has one thread: what else a machine
does counts less.

Needs ``pip install 'scikit-generative[bench]'`` and ``binarized_mnist_static.npz``.
Results go to ``benchmarks/results/time_to_quality.txt``.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from likelihood import load, new_model, train_pythae
from likelihood_runs import Run
from sklearn.mixture import GaussianMixture
from timing import machine, report, threads

from skgen import GaussianMixtureEM

RESULTS = Path(__file__).parent / "results" / "time_to_quality.txt"
N_EPOCHS, N_DRAWS, N_TEST = 6, 100, 2000
RECIPES: dict[str, dict[str, Any]] = {
    "the same settings": {},
    "rate 2e-3, cosine": {"learning_rate_init": 2e-3, "learning_rate": "cosine"},
    "rate 3e-3, cosine": {"learning_rate_init": 3e-3, "learning_rate": "cosine"},
    "rate 3e-3, cosine, batches of 200": {
        "learning_rate_init": 3e-3,
        "learning_rate": "cosine",
        "batch_size": 200,
    },
}
# Rows, columns, components, covariance type and tol.
MIXTURES = (
    (100_000, 32, 16, "full", 1e-3),
    (100_000, 8, 32, "full", 1e-3),
    (20_000, 16, 8, "full", 1e-3),
    (100_000, 32, 16, "diag", 1e-3),
    (20_000, 8, 16, "full", 1e-6),
    (20_000, 8, 16, "diag", 1e-6),
)


def timed(function: Any) -> tuple[Any, float]:
    """Return what a function gives, and its seconds of processor time."""
    start = process_time()
    found = function()
    return found, process_time() - start


def nll(model: Any, x: np.ndarray) -> float:
    """Estimate the negative log-likelihood of rows, in nats per row."""
    return -float(model.log_likelihood(x, n_samples=N_DRAWS).mean_log_prob)


def networks(quick: bool, seeds: int) -> Iterator[str]:
    """Yield the rows of the table of networks."""
    yield "| seed | fit | epochs | nats | s | of pythae's |"
    yield "|---|---|---|---|---|---|"
    n_rows, n_epochs = (5000, 2) if quick else (None, N_EPOCHS)
    for seed in range(1 if quick else seeds):
        stages = ((n_epochs, 1e-3),)
        run = Run("static", "VAE", 1, "pythae", seed, stages, n_rows=n_rows)
        rows = load(run)
        test = rows.test[:N_TEST]
        (peer, _), peer_seconds = timed(partial(train_pythae, run, rows.train))
        aim = nll(peer, test)
        yield f"| {seed} | pythae | {n_epochs} | {aim:.2f} | {peer_seconds:.1f} | |"
        for name, settings in RECIPES.items():
            for epochs in range(2, n_epochs + 1):
                model = new_model(run).set_params(
                    max_iter=epochs, warm_start=False, random_state=seed, **settings
                )
                _, seconds = timed(partial(model.fit, rows.train))
                reached = nll(model, test)
                if reached <= aim:
                    break
            share = f"{seconds / peer_seconds:.2f}" if reached <= aim else "not reached"
            yield (
                f"| {seed} | {name} | {epochs} | {reached:.2f} | {seconds:.1f} | "
                f"{share} |"
            )


def mixtures(quick: bool) -> Iterator[str]:
    """Yield the rows of the table of mixtures."""
    yield "| rows x columns, K, type, tol | fit | iterations | bound | s | of its |"
    yield "|---|---|---|---|---|---|"
    for n, d, K, kind, tol in MIXTURES:
        rng = np.random.default_rng(0)
        X = rng.standard_normal((n // 20 if quick else n, d))
        X += rng.standard_normal((K, d))[rng.integers(K, size=len(X))]
        settings: dict[str, Any] = {
            "covariance_type": kind,
            "max_iter": 2000,
            "tol": tol,
            "random_state": 0,
        }
        case = f"{len(X)} x {d}, {K} {kind}, {tol:g}"
        peer, base = (
            timed(GaussianMixture(K, **settings).fit_of(X))
            if False
            else timed(
                lambda: GaussianMixture(K, **settings).fit(X)  # noqa: B023
            )
        )
        yield (
            f"| {case} | scikit-learn | {peer.n_iter_} | {peer.lower_bound_:.6f} | "
            f"{base:.2f} | |"
        )
        for name, more in (("EM", {}), ("squarem", {"acceleration": "squarem"})):
            model: Any = GaussianMixtureEM(K, **settings, **more)
            _, seconds = timed(partial(model.fit, X))
            yield (
                f"| {case} | {name} | {model.n_iter_} | {model.lower_bound_:.6f} | "
                f"{seconds:.2f} | {seconds / base:.2f} |"
            )


def lines(quick: bool, seeds: int) -> Iterator[str]:
    """Yield the lines of the report."""
    yield from machine("pythae")
    yield "one thread on either side"
    yield ""
    yield from networks(quick, seeds)
    yield ""
    yield from mixtures(quick)


def main() -> None:
    """Parse the arguments, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    with threads(1):
        report(lines(args.quick, args.seeds), None if args.quick else RESULTS)


if __name__ == "__main__":
    main()
