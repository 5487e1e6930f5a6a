"""Time restarts and searches of GaussianMixtureEM as one batch, and one by one.

    python benchmarks/mixture_stack.py [--threads 1] [--jobs 2] [--repeats 5] [--quick]

First fits with eight restarts, from clusters and from random rows: stacked, and the
same fit with each start climbed alone. Then a search over eight values of `reg_covar`,
or eight seeds, with four restarts and five folds, against scikit-learn's in as many
processes, which are warm.
Results go to ``benchmarks/results/mixture_stack.txt``.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
from grid_search import searches
from mixture_speed import TYPES, blobs
from sklearn.exceptions import ConvergenceWarning
from timing import interleaved, machine, report, threads

from skgen import GaussianMixtureEM
from skgen._em import restarts

RESULTS = Path(__file__).parent / "results" / "mixture_stack.txt"
CASES = [(500, 2, 3), (2000, 8, 8), (20_000, 16, 8), (100_000, 32, 16)]
INITS = ("kmeans", "random_from_data")
MOST_STEPS = 5
# Rows up to which a fit is so short that there are four times the rounds.
MANY_ROUNDS = 2000
GRIDS = {
    "reg_covar": [float(value) for value in np.logspace(-6, -1, 8)],
    "random_state": list(range(8)),
}


def fits(model: GaussianMixtureEM, X: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return the fit with its starts one after the other, and as it is."""

    def alone() -> None:
        with patch.object(restarts, "run_em_stack", lambda *_: None):
            model.fit(X)

    return {"alone": alone, "stacked": lambda: model.fit(X)}


def restart_lines(cases: list[tuple[int, int, int]], repeats: int) -> Iterator[str]:
    yield f"n_init=8, at most {MOST_STEPS} iterations a start; ms a fit"
    yield f"{'n x d, K':>16s} {'type':9s} {'init_params':16s}    alone  stacked  ratio"
    for n, d, K in cases:
        X = blobs(n, d, K)
        rounds = repeats if n > MANY_ROUNDS else 4 * repeats
        for covariance_type in TYPES:
            for init_params in INITS[n == CASES[-1][0] :]:
                model = GaussianMixtureEM(
                    K,
                    covariance_type=covariance_type,
                    n_init=8,
                    init_params=init_params,
                    max_iter=MOST_STEPS,
                    random_state=0,
                )
                ms = [1e3 * s for s in interleaved(fits(model, X), rounds).values()]
                case = f"{n} x {d}, {K}"
                yield (
                    f"{case:>16s} {covariance_type:9s} {init_params:16s} "
                    f"{ms[0]:8.1f} {ms[1]:8.1f} {ms[0] / ms[1]:6.2f}"
                )


def search_lines(n: int, jobs: int, repeats: int) -> Iterator[str]:
    X = blobs(n, 8, 8)
    for init_params in INITS:
        for name, values in GRIDS.items():
            model = GaussianMixtureEM(
                8, n_init=4, init_params=init_params, random_state=0
            )
            functions, found = searches(model, {name: values}, X, jobs, alone=True)
            seconds = interleaved(functions, repeats)
            scores = {k: s.cv_results_["mean_test_score"] for k, s in found.items()}
            yield f"{n} x 8, 8: {name}, {init_params}, n_init=4, 8 candidates x 5 folds"
            for each, value in seconds.items():
                theirs = each.removeprefix("Batched")  # in as many processes
                gap = abs(scores[each] - scores[theirs]).max()
                yield (
                    f"  {each:32s} {value:8.2f} s  {seconds[theirs] / value:5.2f} x"
                    f"  scores {gap:.0e} from scikit-learn's search"
                )


def lines(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the table."""
    quick, repeats = arguments.quick, arguments.repeats
    yield from machine("joblib")
    yield f"threads: {arguments.threads}; medians of {repeats}, interleaved"
    yield f"(of {4 * repeats} for fits to {MANY_ROUNDS} rows or less)"
    yield from restart_lines(CASES[:1] if quick else CASES, repeats)
    yield from search_lines(500 if quick else 2000, arguments.jobs, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small, and not written")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", "A worker stopped", UserWarning)
    with threads(arguments.threads):
        report(lines(arguments), None if arguments.quick else RESULTS)


if __name__ == "__main__":
    main()
