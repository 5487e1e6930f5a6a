"""Time GaussianMixtureEM against scikit-learn's GaussianMixture.

    python benchmarks/mixture_speed.py [--threads 1] [--repeats 5] [--quick]

Both fit the same rows from the same start (random rows as means, one variance) for
the same number of iterations; scikit-learn also on torch tensors, through the array
API. A fit of scikit-learn's evaluates the rows once more at its end. Then random rows
as centres and clusters without spread (`init_params`), also far from zero, where
scikit-learn stops in float32; and the memory of 14 million rows, each in a process of
its own. Results go to ``benchmarks/results/mixture_speed.txt``.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

# scikit-learn asks for this before SciPy is imported.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import numpy as np
import torch
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from timing import interleaved, machine, report, threads

from skgen import GaussianMixtureEM

RESULTS = Path(__file__).parent / "results" / "mixture_speed.txt"
CASES = [(20_000, 16, 8), (50_000, 50, 16), (100_000, 8, 32), (100_000, 32, 16)]
TYPES = ("full", "tied", "diag", "spherical")
MANY = 14_000_000
FAR = 10_000
HEADER = (
    f"{'n x d, K':>16s} {'type':9s} {'dtype':7s} {'sklearn':>9s} {'torch':>9s} "
    f"{'skgen':>9s} {'ratio':>6s} {'to torch':>8s}  bound"
)


def blobs(n: int, d: int, K: int, dtype: str = "float64") -> np.ndarray:
    """Rows of K overlapping Gaussians, each with a covariance of its own."""
    rng = np.random.RandomState(0)
    X, k = rng.standard_normal((n, d)), rng.randint(K, size=n)
    for j in range(K):
        mixing = np.eye(d) + rng.standard_normal((d, d)) / np.sqrt(d)
        X[k == j] = X[k == j] @ mixing + 3 * rng.standard_normal(d)
    return X.astype(dtype)


def start(X: np.ndarray, K: int, covariance_type: str) -> dict[str, Any]:
    """Random rows as means, and one variance."""
    n, d = X.shape
    one = np.ones(K, X.dtype) / X.var()
    precisions = {
        "full": one[:, None, None] * np.eye(d, dtype=X.dtype),
        "tied": one[0] * np.eye(d, dtype=X.dtype),
        "diag": one[:, None] * np.ones(d, X.dtype),
        "spherical": one,
    }
    return {
        "weights_init": np.full(K, 1 / K, X.dtype),
        "means_init": X[np.random.RandomState(1).choice(n, K, replace=False)],
        "precisions_init": precisions[covariance_type],
    }


class Fit:
    """A fit that can be called again; it keeps its error, if it has one."""

    def __init__(self, model: Any, X: Any, array_api: bool = False) -> None:
        self.model, self.X, self.array_api = model, X, array_api
        self.error = ""
        try:
            self()
        except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
            self.error = str(error).split(". ")[0]

    def __call__(self) -> None:
        """Fit."""
        with config_context(array_api_dispatch=self.array_api):
            self.model.fit(self.X)


def compare(X: np.ndarray, repeats: int, params: dict[str, Any]) -> str:
    """Time three fits of equal parameters, and describe them in a line."""
    tensors = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in params.items()
    }
    # Through the array API, K-means may not be the start, even where it is not used.
    tensors.setdefault("init_params", "random")
    fits = {
        "sklearn": Fit(GaussianMixture(**params), X),
        "torch": Fit(GaussianMixture(**tensors), torch.from_numpy(X), array_api=True),
        "skgen": Fit(GaussianMixtureEM(**params), X),
    }
    works = {name: fit for name, fit in fits.items() if not fit.error}
    seconds = interleaved(works, repeats)
    times = " ".join(
        f"{seconds[name]:8.3f}s" if name in works else f"{'stops':>9s}" for name in fits
    )
    ratios = [
        f"{seconds[name] / seconds['skgen']:.2f}" if name in works else "-"
        for name in ("sklearn", "torch")
    ]
    ours = works["skgen"].model.lower_bound_
    bound = f"{ours:.6f}"
    if "sklearn" in works:
        theirs = float(works["sklearn"].model.lower_bound_)
        bound += f" ({abs(ours - theirs) / abs(theirs):.0e} from sklearn's)"
    n, d = X.shape
    case = f"{n} x {d}, {params['n_components']}"
    lines = [
        f"{case:>16s} {params['covariance_type']:9s} {X.dtype!s:7s} {times} "
        f"{ratios[0]:>6s} {ratios[1]:>8s}  {bound}"
    ]
    lines += [f"    {name}: {fit.error}" for name, fit in fits.items() if fit.error]
    return "\n".join(lines)


def memory(dtype: str, init_params: str, n: int) -> str:
    """Fit n rows of 8 features in this process, and say what it took at its peak."""
    rng = np.random.default_rng(0)
    X = np.empty((n, 8), dtype)
    for part in np.array_split(X, 100):
        part[:] = rng.standard_normal(part.shape) + 5 * rng.integers(8, size=(1, 8))
    before = _peak()
    GaussianMixtureEM(
        8,
        covariance_type="diag",
        init_params=init_params,
        max_iter=2,
        random_state=0,
    ).fit(X)
    return (
        f"{n} x 8 {dtype}, K = 8 diag, {init_params:16s}: data "
        f"{X.nbytes / 2**30:.2f} GiB, peak above it {_peak() - before:.2f} GiB"
    )


def _peak() -> float:
    """Most resident memory so far, in GiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def lines(arguments: argparse.Namespace) -> Any:
    """Yield the lines of the table."""
    cases = [(2000, 8, 4)] if arguments.quick else CASES
    yield from machine()
    yield f"threads: {arguments.threads} on either side; SCIPY_ARRAY_API=1"
    yield (
        f"{arguments.iterations} iterations from given means, weights and precisions, "
        f"median of {arguments.repeats} fits, interleaved"
    )
    yield HEADER
    common = {"max_iter": arguments.iterations, "tol": 0}
    for dtype in ("float64", "float32"):
        for n, d, K in cases:
            X = blobs(n, d, K, dtype)
            for covariance_type in TYPES:
                params = {"n_components": K, "covariance_type": covariance_type}
                params |= {**common, **start(X, K, covariance_type)}
                yield compare(X, arguments.repeats, params)
    yield "init_params='random_from_data': random rows as centres, reg_covar as spread"
    n, d, K = cases[-1]
    picks = {**common, "init_params": "random_from_data", "random_state": 0}
    for dtype in ("float64", "float32"):
        params = {"n_components": K, "covariance_type": "full", **picks}
        yield compare(blobs(n, d, K, dtype), arguments.repeats, params)
    yield f"the same, {FAR} away from zero"
    for covariance_type in TYPES:
        params = {"n_components": K, "covariance_type": covariance_type, **picks}
        X = blobs(n, d, K, "float32") + np.float32(FAR)
        yield compare(X, arguments.repeats, params)
    yield "two iterations, peak memory of a process"
    n = 100_000 if arguments.quick else MANY
    for dtype in ("float64", "float32"):
        for init_params in ("random_from_data", "kmeans"):
            command = [sys.executable, __file__, "--memory", dtype, init_params, str(n)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            yield done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small, and not written")
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    if arguments.memory:
        dtype, init_params, n = arguments.memory
        print(memory(dtype, init_params, int(n)))
        return
    with threads(arguments.threads):
        report(lines(arguments), None if arguments.quick else RESULTS)


if __name__ == "__main__":
    main()
