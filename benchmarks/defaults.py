"""Compare default VAE and IWAE with one Gaussian on twenty-two tables.

    python benchmarks/defaults.py [--data FOLDER] [--seeds 10 11 12] [--tables iris ...]

Tables of scikit-learn, patches of its photographs, and, of a folder that ``--data`` or
the environment variable ``SKGEN_DATA`` names, those of ``uci.npz``, the normal rows of
``anomalies.npz``, and the numbers of ``adult.csv.gz`` and ``shoppers.csv.gz``. They
have 5,000 rows at most, of which 70 % are fitted and up to 1,000 of the others scored.
Columns are standardised by the rows of the fit, and get uniform noise of the width of
their rounding, so that densities have a ceiling. Splits and models have seeds other
than those that the defaults were chosen with.

Nothing is set but the seed. Of each table, in nats per row, means over the seeds:

- "Gaussian": ``GaussianDensity`` with as many components as the networks have, 10 (the
  full one, of as many columns or fewer), and "full": what the full one adds to it;
- "gain" and "s.e.": how far held-out log-densities of a network, by the careful
  estimate of 500 draws, are above the former, with the error of the paired difference;
  "over full" and "s.e.": likewise above the full one;
- "below": seeds in which the gain is negative by more than two standard errors;
- "epochs", "warned" (fits that ended at ``max_iter`` with a warning), and seconds of
  the processor for a fit.

Results go to ``benchmarks/results/defaults.txt``.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_digits,
    load_iris,
    load_sample_images,
    load_wine,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.model_selection import train_test_split
from timing import machine, report, threads

from skgen import IWAE, VAE, GaussianDensity

RESULTS = Path(__file__).parent / "results" / "defaults.txt"
N_COMPONENTS = 10
MOST_ROWS, MOST_SCORED = 5_000, 1_000
LOADERS = {
    "iris": load_iris,
    "diabetes": load_diabetes,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
}
HEADER = (
    f"{'table':17}{'rows':>6}{'d':>4}{'Gaussian':>10}{'full':>8}  {'model':5}"
    f"{'gain':>8}{'s.e.':>7}{'below':>7}{'over full':>11}{'s.e.':>7}"
    f"{'epochs':>8}{'warned':>8}{'seconds':>9}"
)

Array = NDArray[Any]


def patches() -> Array:
    """Grey patches of 8 x 8 of two photographs."""
    images = [image.mean(2) for image in load_sample_images().images]
    found = [
        extract_patches_2d(x, (8, 8), max_patches=2_500, random_state=0) for x in images
    ]
    return np.concatenate(found).reshape(-1, 64)


def tables(folder: str | None) -> Iterator[tuple[str, Array]]:
    """Yield the name and the numbers of each table."""
    for name, load in LOADERS.items():
        yield name, load().data
    yield "patches", patches()
    if folder is None:
        return
    data = Path(folder)
    with np.load(data / "uci.npz") as file:
        yield from ((name, file[name]) for name in file)
    with np.load(data / "anomalies.npz") as file:
        for name in (name[:-2] for name in file if name.endswith("_X")):
            yield name.partition("_")[2], file[f"{name}_X"][file[f"{name}_y"] == 0]
    for name in ("adult", "shoppers"):
        table = pd.read_csv(data / f"{name}.csv.gz")
        yield name, table.select_dtypes("number").to_numpy()


def dequantised(X: Array) -> Array:
    """Add uniform noise of the width of rounding; leave constant columns out."""
    rng = np.random.RandomState(0)
    X = X[rng.permutation(len(X))[:MOST_ROWS]]
    X = X[:, X.std(0) > 0].astype(float)
    widths = [np.diff(np.unique(column)).min() for column in X.T]
    noise: Array = rng.uniform(size=X.shape)
    return X + widths * noise


def split(X: Array, seed: int) -> tuple[Array, Array]:
    """Return rows to fit and others, standardised by the former."""
    train, test = train_test_split(X, test_size=0.3, random_state=seed)
    mean, scale = train.mean(0), train.std(0)
    scale[scale == 0] = 1.0
    return (train - mean) / scale, ((test - mean) / scale)[:MOST_SCORED]


class Fit(NamedTuple):
    """A default fit: held-out log-densities, and what it took."""

    scores: Array
    epochs: int
    warned: bool
    seconds: float


def fitted(model: Any, train: Array, test: Array) -> Fit:
    start = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(train)
    seconds = time.process_time() - start
    warned = any(issubclass(each.category, ConvergenceWarning) for each in caught)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = model.log_likelihood(test, 500).log_prob
    return Fit(scores, model.n_iter_, warned, seconds)


def errors(differences: list[Array]) -> Array:
    """Return the standard error of the mean of each."""
    return np.array([each.std() / len(each) ** 0.5 for each in differences])


class Row(NamedTuple):
    """A model on a table: gains over both Gaussians, and fits that warned."""

    model: str
    gain: float
    below: int
    over_full: float
    full_error: float
    warned: int
    n_fits: int


def compared(name: str, X: Array, seeds: list[int]) -> Iterator[tuple[Row, str]]:
    parts, d = [split(X, seed) for seed in seeds], X.shape[1]
    small, full = (
        [GaussianDensity(k).fit(train).score_samples(test) for train, test in parts]
        for k in (min(N_COMPONENTS, d), None)
    )
    base = np.mean([each.mean() for each in small])
    more = np.mean([each.mean() for each in full]) - base
    for cls in (VAE, IWAE):
        fits = [fitted(cls(random_state=s), *part) for s, part in zip(seeds, parts)]
        over = [fit.scores - each for fit, each in zip(fits, small)]
        gains, error = np.array([each.mean() for each in over]), errors(over)
        over_full = [fit.scores - each for fit, each in zip(fits, full)]
        row = Row(
            cls.__name__,
            float(gains.mean()),
            int((gains < -2 * error).sum()),
            float(np.mean([each.mean() for each in over_full])),
            float(errors(over_full).mean()),
            sum(fit.warned for fit in fits),
            len(fits),
        )
        epochs = np.mean([fit.epochs for fit in fits])
        seconds = np.mean([fit.seconds for fit in fits])
        yield (
            row,
            f"{name:17}{len(X):>6}{d:>4}{base:>10.2f}{more:>8.2f}  {row.model:5}"
            f"{row.gain:>8.2f}{error.mean():>7.2f}{row.below:>7}"
            f"{row.over_full:>11.2f}{row.full_error:>7.2f}"
            f"{epochs:>8.0f}{row.warned:>8}{seconds:>9.1f}",
        )


def summary(model: str, rows: list[Row]) -> str:
    """Say how often a model is below, above and at its last epoch."""
    below = sum(row.below for row in rows)
    above = sum(row.over_full > 0 for row in rows)
    clearly = sum(row.over_full > 2 * row.full_error for row in rows)
    n_fits = sum(row.n_fits for row in rows)
    warned = sum(row.warned for row in rows)
    return (
        f"{model}: {below} of {n_fits} fits below the Gaussian of as many components "
        f"by two standard errors; above the full one on {above} of {len(rows)} tables, "
        f"{clearly} by two standard errors; {warned} of {n_fits} fits ended at max_iter"
    )


def lines(arguments: argparse.Namespace) -> Iterator[str]:
    yield from (*machine(), "", HEADER)
    rows: list[Row] = []
    for name, X in tables(arguments.data):
        if arguments.tables is None or name in arguments.tables:
            for row, line in compared(name, dequantised(X), arguments.seeds):
                rows.append(row)
                yield line
    yield ""
    for model in ("VAE", "IWAE"):
        yield summary(model, [row for row in rows if row.model == model])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default=os.environ.get("SKGEN_DATA"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12])
    parser.add_argument("--tables", nargs="+", default=None)
    arguments = parser.parse_args()
    with threads(1):
        report(lines(arguments), RESULTS if arguments.tables is None else None)


if __name__ == "__main__":
    main()
