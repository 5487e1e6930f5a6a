"""Time KMeansAutoencoder against scikit-learn's KMeans and faiss.

    python benchmarks/kmeans_speed.py [--threads 1] [--repeats 5] [--quick]

First equal starts (random rows as centres) and at most 20 iterations, all of which
faiss makes, while the others stop where no label changes; faiss,
where it is installed, has float32 only. Then what a user gets who sets no parameter
but the number of clusters and the seed. Results go to
``benchmarks/results/kmeans_speed.txt``.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mixture_speed import CASES, blobs
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from timing import interleaved, machine, report, threads

from skgen import KMeansAutoencoder

try:
    import faiss
except ImportError:
    faiss = None

RESULTS = Path(__file__).parent / "results" / "kmeans_speed.txt"
ITERATIONS = 20


def by_faiss(X: np.ndarray, centres: np.ndarray) -> Callable[[], Any]:
    """Return a fit from given centres, of all rows, where faiss would take some."""
    n, (K, d) = len(X), centres.shape
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": n}

    def fit() -> None:
        faiss.Kmeans(d, K, niter=ITERATIONS, **limits).train(X, init_centroids=centres)

    return fit


def describe(X: np.ndarray, K: int, seconds: dict[str, float], n_iter: int) -> str:
    """Write medians in a line, and ours as a multiple of the fastest of the others."""
    fastest = min(value for name, value in seconds.items() if name != "skgen")
    times = "".join(f"{name} {1e3 * t:8.1f} ms  " for name, t in seconds.items())
    return (
        f"{len(X):6d} x {X.shape[1]:3d}, K = {K:2d} {X.dtype!s:7s} {n_iter:3d} "
        f"iterations  {times}{seconds['skgen'] / fastest:.2f}"
    )


def from_given_centres(X: np.ndarray, K: int, repeats: int) -> str:
    """Time fits from random rows as centres."""
    centres = X[np.random.RandomState(0).choice(len(X), K, replace=False)]
    params = {"init": centres, "n_init": 1, "max_iter": ITERATIONS, "tol": 0}
    theirs, ours = KMeans(K, **params), KMeansAutoencoder(K, **params)
    fits = {"sklearn": lambda: theirs.fit(X), "skgen": lambda: ours.fit(X)}
    if faiss and X.dtype == np.float32:
        fits["faiss"] = by_faiss(X, centres)
    return describe(X, K, interleaved(fits, repeats), ours.n_iter_)


def by_default(X: np.ndarray, K: int, repeats: int) -> str:
    """Time fits whose parameters are the defaults."""
    theirs, ours = KMeans(K, random_state=0), KMeansAutoencoder(K, random_state=0)
    fits = {"sklearn": lambda: theirs.fit(X), "skgen": lambda: ours.fit(X)}
    return describe(X, K, interleaved(fits, repeats), ours.n_iter_)


def lines(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the table."""
    cases = [(2000, 8, 4)] if arguments.quick else [*CASES, (60_000, 784, 10)]
    yield from machine("faiss-cpu")
    yield (
        f"threads: {arguments.threads} on every side; median of {arguments.repeats} "
        "fits, interleaved; last: skgen over the fastest of the others"
    )
    for title, compare in {
        "from given centres": from_given_centres,
        "by default": by_default,
    }.items():
        yield title
        for dtype in ("float32", "float64"):
            for n, d, K in cases:
                if d < 100 or dtype == "float32":
                    yield compare(blobs(n, d, K, dtype), K, arguments.repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small, and not written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    if faiss:
        faiss.omp_set_num_threads(arguments.threads)
    with threads(arguments.threads):
        report(lines(arguments), None if arguments.quick else RESULTS)


if __name__ == "__main__":
    main()
