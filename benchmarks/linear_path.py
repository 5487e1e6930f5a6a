"""Compare default networks, with and without their linear path, with one Gaussian.

    python benchmarks/linear_path.py [--uci FILE] [--seeds 0 1 2] [--tables iris ...]

Tables of scikit-learn, and with ``--uci`` those of a file of arrays: 2,000 rows at
most, of which 70 % are fitted. Columns are standardised by these, and get uniform noise
of the width of their rounding, so that densities have a ceiling. The table has held-out
log-densities, means over the seeds in nats per row: of probabilistic PCA with as many
components (of the full Gaussian, where there are as many columns), and how far VAE and
IWAE are above it, nothing set but the seed and ``linear_path``, by the careful estimate
of 500 draws, with the standard error of that difference. "below" counts seeds where it
is negative by more than two of them. Results go to
``benchmarks/results/linear_path.txt``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_wine,
)
from sklearn.model_selection import train_test_split
from timing import machine, report

from skgen import IWAE, VAE, GaussianDensity

RESULTS = Path(__file__).parent / "results" / "linear_path.txt"
N_COMPONENTS = 10
LOADERS = {
    "iris": load_iris,
    "diabetes": load_diabetes,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
}
HEADER = (
    f"{'table':17}{'rows':>6}{'d':>4}{'Gaussian':>10}  {'model':5} {'path':5}"
    f"{'gain':>8}{'s.e.':>7}{'below':>7}{'epochs':>8}{'seconds':>9}"
)


def dequantised(X: NDArray[Any]) -> NDArray[Any]:
    """Add uniform noise of the width of rounding; leave constant columns out."""
    X = X[:, X.std(0) > 0].astype(float)
    widths = [np.diff(np.unique(column)).min() for column in X.T]
    noise: NDArray[Any] = np.random.RandomState(0).uniform(size=X.shape)
    return X + widths * noise


def tables(uci: str | None) -> dict[str, NDArray[Any]]:
    found = {name: load().data for name, load in LOADERS.items()}
    if uci is not None:
        with np.load(uci) as file:
            found |= {name: file[name] for name in file}
    return {name: dequantised(X[:2_000]) for name, X in found.items()}


def splits(X: NDArray[Any], seed: int) -> Any:
    train, test = train_test_split(X, test_size=0.3, random_state=seed)
    mean, scale = train.mean(0), train.std(0)
    return (train - mean) / scale, ((test - mean) / scale)[:500]


def compared(name: str, X: NDArray[Any], seeds: list[int], paths: Any) -> Iterator[str]:
    d, parts = X.shape[1], [splits(X, seed) for seed in seeds]
    gaussian = GaussianDensity(min(N_COMPONENTS, d))
    base = [gaussian.fit(train).score_samples(test) for train, test in parts]
    mean = np.mean([each.mean() for each in base])
    for cls in (VAE, IWAE):
        for path in paths:
            start, gains, epochs = time.process_time(), [], []
            for seed, (train, test), reference in zip(seeds, parts, base):
                given = {} if path is None else {"linear_path": path}
                model = cls(random_state=seed, **given).fit(train)
                epochs.append(model.n_iter_)
                gains.append(model.log_likelihood(test, 500).log_prob - reference)
            seconds = (time.process_time() - start) / len(seeds)
            gain = np.array([each.mean() for each in gains])
            error = np.array([each.std() / len(each) ** 0.5 for each in gains])
            below = int((gain < -2 * error).sum())
            yield (
                f"{name:17}{len(X):>6}{d:>4}{mean:>10.2f}  {cls.__name__:5} "
                f"{path!s:5}{gain.mean():>8.2f}{error.mean():>7.2f}{below:>7}"
                f"{np.mean(epochs):>8.0f}{seconds:>9.1f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uci", default=None)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tables", nargs="+", default=None)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    chosen = {
        name: X
        for name, X in tables(args.uci).items()
        if args.tables is None or name in args.tables
    }
    lines = [*machine(), "", HEADER]
    for line in lines:
        print(line, flush=True)
    for name, X in chosen.items():
        for line in compared(name, X, args.seeds, (False, "auto")):
            print(line, flush=True)
            lines.append(line)
    if args.tables is None:
        report(lines, RESULTS)


if __name__ == "__main__":
    main()
