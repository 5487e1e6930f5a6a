"""Time fits of rows with missing cells against fits of the same rows without.

    python benchmarks/missing_em.py [--threads 1] [--repeats 3] [--quick]

Rows are those of a mixture with overlapping components; a fifth of their cells are
hidden at random, so that nearly every row has a pattern of its own. Each model is
fitted with its defaults, and mixtures also for ten iterations from one start, which is
the time of a step. Scores of the complete rows under both fits say what the holes cost.
Results go to ``benchmarks/results/missing_em.txt``.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mixture_speed import blobs, start
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from timing import interleaved, machine, report, threads

from skgen import GaussianDensity, GaussianMixtureEM, KMeansAutoencoder

RESULTS = Path(__file__).parent / "results" / "missing_em.txt"
N, D, K, PART = 100_000, 20, 5, 0.2
TYPES = ("full", "tied", "diag", "spherical")
HEADER = (
    f"{'model':38s} {'complete':>9s} {'steps':>5s} {'holes':>9s} {'steps':>5s} "
    f"{'ratio':>6s} {'score':>8s} {'score':>8s}"
)


def models(X: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Yield the models that are fitted, and their names."""
    yield "GaussianDensity", GaussianDensity()
    yield "GaussianDensity(diag)", GaussianDensity(covariance_type="diag")
    yield "GaussianDensity(5)", GaussianDensity(5)
    yield f"KMeansAutoencoder({K})", KMeansAutoencoder(K, random_state=0)
    for kind in TYPES:
        model = GaussianMixtureEM(K, covariance_type=kind, random_state=0)
        yield f"GaussianMixtureEM({K}, {kind})", model
    for kind in TYPES:
        steps = GaussianMixtureEM(K, covariance_type=kind, tol=0, max_iter=10)
        steps.set_params(**start(X, K, kind))
        yield f"ten steps of EM, {kind}", steps


def row(name: str, model: Any, X: np.ndarray, holes: np.ndarray, repeats: int) -> str:
    """Fit both, and write a line."""
    whole, partial = clone(model), clone(model)
    seconds = interleaved(
        {"whole": lambda: whole.fit(X), "holes": lambda: partial.fit(holes)}, repeats
    )
    ratio = seconds["holes"] / seconds["whole"]
    return (
        f"{name:38s} {seconds['whole']:8.3f}s {whole.n_iter_:5d} "
        f"{seconds['holes']:8.3f}s {partial.n_iter_:5d} {ratio:6.1f} "
        f"{whole.score(X):8.3f} {partial.score(X):8.3f}"
    )


def lines(n: int, repeats: int, n_threads: int) -> Iterator[str]:
    """Yield the lines of the report."""
    yield from machine()
    X = blobs(n, D, K, "float64")
    hidden = np.random.RandomState(1).rand(n, D) < PART
    holes = np.where(hidden, np.nan, X)
    patterns = len(np.unique(np.packbits(hidden, axis=1), axis=0))
    yield (
        f"{n} x {D} rows, {hidden.mean():.0%} of the cells missing in {patterns} "
        f"patterns; {n_threads} thread(s); seconds of a fit, median of {repeats}; "
        "score of the complete rows, in nats per row, of the fit without and with holes"
    )
    yield ""
    yield HEADER
    for name, model in models(X):
        yield row(name, model, X, holes, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    n = N // 10 if arguments.quick else N
    with threads(arguments.threads):
        found = lines(n, arguments.repeats, arguments.threads)
        report(found, None if arguments.quick else RESULTS)


if __name__ == "__main__":
    main()
