"""Time a batched grid search against scikit-learn's, on the same estimator.

    python benchmarks/grid_search.py [--quick] [--jobs 2]

Eight betas, five folds. On a table (5000 x 30, hidden 64, batch 64), where the networks
are stacked, and on 784-400 networks, where they are too large to gain. Both searches
refit; GridSearchCV has warm workers, one thread each. Both must rank the candidates
alike wherever they differ by more than a standard error of their difference over the
folds. Results go to ``benchmarks/results/grid_search.txt``.
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from timing import interleaved, machine, report, threads

from skgen import BetaVAE
from skgen.model_selection import BatchedGridSearchCV

RESULTS = Path(__file__).parent / "results" / "grid_search.txt"
GRID = {"beta": [0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0]}


def table(n: int = 5_000, d: int = 30) -> np.ndarray:
    rng = np.random.default_rng(0)
    low = rng.normal(size=(n, 5)) @ rng.normal(size=(5, d))
    return (np.tanh(low) + 0.3 * rng.normal(size=(n, d))).astype(np.float32)


def images(n: int, d: int = 784) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.random((n, d)) < 0.2).astype(np.float32)


def searches(
    model: Any,
    grid: dict[str, list[Any]],
    X: np.ndarray,
    jobs: int,
    n_folds: int = 5,
    *,
    alone: bool = False,
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
    """Both searches as functions, and where they leave their results.

    ``alone`` has scikit-learn's in one process, too.
    """
    found: dict[str, Any] = {}

    def run(cls: type[GridSearchCV], n_jobs: int | None) -> Callable[[], None]:
        def search() -> None:
            name = f"{cls.__name__}(n_jobs={n_jobs})"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                found[name] = cls(model, grid, cv=n_folds, n_jobs=n_jobs).fit(X)

        return search

    functions = {
        f"{cls.__name__}(n_jobs={n})": run(cls, n)
        for cls, n in (
            *([(GridSearchCV, None)] if alone else []),
            (GridSearchCV, jobs),
            (BatchedGridSearchCV, None),
            (BatchedGridSearchCV, jobs),
        )
    }
    return functions, found


def disagreements(one: Any, other: Any) -> int:
    """Pairs of candidates that are ranked otherwise, though they surely differ."""
    scores = [
        np.stack([s.cv_results_[f"split{i}_test_score"] for i in range(s.n_splits_)])
        for s in (one, other)
    ]  # (folds, candidates) each
    count = 0
    for a, b in itertools.combinations(range(scores[0].shape[1]), 2):
        gaps = [s[:, a] - s[:, b] for s in scores]
        error = gaps[0].std(ddof=1) / np.sqrt(len(gaps[0]))
        sure = abs(gaps[0].mean()) > error
        count += bool(sure and (gaps[0].mean() > 0) != (gaps[1].mean() > 0))
    return count


def compare(name: str, model: Any, X: np.ndarray, jobs: int, repeats: int) -> list[str]:
    functions, found = searches(model, GRID, X, jobs)
    with warnings.catch_warnings():
        # Workers may be stopped between rounds for the memory they hold.
        warnings.simplefilter("ignore", UserWarning)
        # Apart from the search in one process, which leaves waiting workers cold.
        (alone,) = [each for each in functions if "None" in each]
        one_process = {alone: functions.pop(alone)}
        seconds = interleaved(functions, repeats) | interleaved(one_process, repeats)
    theirs = f"GridSearchCV(n_jobs={jobs})"
    lines = [f"{name}: {X.shape[0]} x {X.shape[1]}, 8 betas x 5 folds"]
    for each, value in seconds.items():
        lines.append(
            f"  {each:32s} {value:8.2f} s  {seconds[theirs] / value:5.2f} x"
            f"  best {found[each].best_params_} {found[each].best_score_:.4f}"
            f"  pairs ranked otherwise {disagreements(found[theirs], found[each])}"
        )
    epochs = found[theirs].best_estimator_.n_iter_
    return [*lines, f"  epochs of the best, refitted: {epochs}"]


def lines(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the table."""
    quick, jobs = arguments.quick, arguments.jobs
    repeats = 1 if quick else arguments.repeats
    small = BetaVAE(
        10,
        hidden_layer_sizes=(64,),
        batch_size=64,
        max_iter=5 if quick else 30,
        random_state=0,
    )
    large = BetaVAE(
        20,
        hidden_layer_sizes=(400,),
        likelihood="bernoulli",
        batch_size=100,
        max_iter=1 if quick else 3,
        random_state=0,
    )
    yield from machine("joblib")
    yield f"{jobs} processes, or {jobs} threads"
    yield f"medians of {repeats}, after a first round"
    yield from compare("hidden 64", small, table(), jobs, repeats)
    yield from compare("hidden 400", large, images(3_000), jobs, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--jobs", type=int, default=joblib.cpu_count())
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with threads(arguments.jobs):
        report(lines(arguments), None if arguments.quick else RESULTS)


if __name__ == "__main__":
    main()
