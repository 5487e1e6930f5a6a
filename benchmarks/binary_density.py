"""Fit mixtures of Bernoullis to the binary sets of the literature.

    SKGEN_DATA=folder python benchmarks/binary_density.py [--sets nltcs dna] [--quick]

The folder has ``binary_density.npz``: for each set of `SETS` the arrays ``NAME_train``,
``NAME_valid`` and ``NAME_test``, rows of bits packed by ``numpy.packbits(axis=1)``, and
``NAME_d``, the number of columns.

Each size and smoothing of `GRIDS` is fitted once to the training rows, and that with
the best score on the validation rows again from several starts, whose densities are
averaged. The test rows are scored by that average, and by the one fit. Results go to
``benchmarks/results/binary_density.txt``.

Published test scores are those of Einsum networks (Peharz et al. 2020) and of random
sum-product networks (Peharz et al. 2019, RAT-SPN).
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from timing import machine, report, threads

from skgen import MixtureEM

RESULTS = Path(__file__).parent / "results" / "binary_density.txt"
NAME = "binary_density.npz"
# Set -> components and cells of the prior that are tried.
GRIDS = {
    "nltcs": [(100, 1.0), (200, 1.0), (200, 3.0)],
    "dna": [(400, 3.0), (800, 3.0), (800, 5.0)],
    "mushrooms": [(100, 0.01), (100, 0.03), (100, 0.1), (200, 0.03)],
    "jester": [(100, 1.0), (100, 3.0), (200, 3.0)],
    "plants": [(400, 0.5), (600, 0.5)],
}
# Einsum networks, RAT-SPN; those of mushrooms are not asked for.
PUBLISHED = {
    "nltcs": (-6.015, -6.011),
    "plants": (-13.68, -13.44),
    "jester": (-52.56, -52.97),
    "dna": (-96.09, -97.23),
}
STARTS = 16
HEADER = (
    f"{'set':10s} {'rows':>6s} {'columns':>7s} {'size':>12s} {'prior':>5s} "
    f"{'valid':>8s} {'test':>8s} {'error':>6s} {'one fit':>8s} {'EiNet':>8s} "
    f"{'RAT-SPN':>8s} {'seconds':>8s}"
)


def data() -> dict[str, np.ndarray]:
    """Return the arrays of the file."""
    path = Path(os.environ.get("SKGEN_DATA", ""), NAME)
    if not path.exists():
        sys.exit(
            f"There is no {NAME}. Set the environment variable SKGEN_DATA to the "
            "folder that has it."
        )
    return dict(np.load(path))


def rows_of(arrays: dict[str, np.ndarray], name: str) -> list[np.ndarray]:
    """Return the training, validation and test rows of a set."""
    d = int(arrays[f"{name}_d"])
    parts = (arrays[f"{name}_{part}"] for part in ("train", "valid", "test"))
    return [np.unpackbits(x, axis=1)[:, :d].astype(np.float64) for x in parts]


def mixture(K: int, prior: float, n_init: int = 1) -> MixtureEM:
    """Return an unfitted mixture, the average of so many."""
    return MixtureEM(
        K,
        kinds="bernoulli",
        level_prior=prior,
        init_params="random_from_data",
        max_iter=30,
        tol=5e-3,
        n_init=n_init,
        combine="average",
        random_state=0,
    )


def line(name: str, parts: list[np.ndarray], starts: int) -> str:
    """Choose a fit on the validation rows, and score the test rows."""
    train, valid, test = parts
    began = process_time()
    one = {each: mixture(*each).fit(train) for each in GRIDS[name]}
    K, prior = best = max(one, key=lambda each: one[each].score(valid))
    averaged = mixture(K, prior, n_init=starts).fit(train)
    seconds = process_time() - began
    scores = averaged.score_samples(test)
    published = PUBLISHED.get(name, (np.nan, np.nan))
    return (
        f"{name:10s} {len(train):6d} {train.shape[1]:7d} {f'{starts} x {K}':>12s} "
        f"{prior:5.2f} {averaged.score(valid):8.3f} {scores.mean():8.3f} "
        f"{scores.std() / len(scores) ** 0.5:6.3f} {one[best].score(test):8.3f} "
        + " ".join(f"{value:8.3f}" for value in published)
        + f" {seconds:8.0f}"
    )


def lines(names: list[str], starts: int) -> Iterator[str]:
    """Yield the lines of the report."""
    yield from machine()
    yield (
        "Mixtures of Bernoullis by MixtureEM, chosen on the validation rows; nats per "
        f"row of the average of {starts} fits, with the standard error of its test "
        "score, and of one fit alone. Seconds of one core, of all fits."
    )
    yield ""
    yield HEADER
    arrays = data()
    for name in names:
        yield line(name, rows_of(arrays, name), starts)


def main() -> None:
    """Read the command line, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sets", nargs="+", choices=GRIDS, default=list(GRIDS))
    parser.add_argument("--quick", action="store_true", help="two starts, no file")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    starts = 2 if args.quick else STARTS
    whole = set(args.sets) == set(GRIDS) and not args.quick
    with threads(1):
        report(lines(args.sets, starts), RESULTS if whole else None)


if __name__ == "__main__":
    main()
