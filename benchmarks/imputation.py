"""Fill in a fifth of the cells by exact densities, beside ``IterativeImputer``.

    python benchmarks/imputation.py [--splits 5] [--tables iris wine ...]

The tables, halves and hidden cells of ``mixed_tables.py``, which has the networks:
models learn from one half with a fifth of its cells hidden, and fill in those hidden in
the other. The error of numbers is the root of the mean square in standard deviations of
their column, that of levels the part that is wrong. ``IterativeImputer`` and the
Gaussian densities see levels as their places, which are rounded; ``MixedDensity`` sees
them as they are. "behind" is by how much the error of numbers is above that of
``IterativeImputer``. Means over the halves, with their standard errors, go to
``benchmarks/results/imputation.txt``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mixed_tables import (
    KINDS,
    TABLES,
    errors,
    hidden,
    imputed_as_numbers,
    imputed_by_iteration,
    imputed_by_most_common,
)
from sklearn.model_selection import ShuffleSplit
from timing import machine, report, threads

from skgen import GaussianDensity, GaussianMixtureEM, MixedDensity, MixtureEM

RESULTS = Path(__file__).parent / "results" / "imputation.txt"
RIVAL = "IterativeImputer"
Filled = Callable[[pd.DataFrame, pd.DataFrame, Any], pd.DataFrame]


def gaussian(model: Any) -> Filled:
    """Return how a density of numbers fills in rows."""

    def filled(train: pd.DataFrame, test: pd.DataFrame, kinds: Any) -> pd.DataFrame:
        def impute(rows: Any, new: Any) -> Any:
            return model.fit(rows).impute(new)

        return imputed_as_numbers(train, test, impute)

    return filled


def mixed(model: Any) -> Filled:
    """Return how a density of tables fills in rows."""

    def filled(train: pd.DataFrame, test: pd.DataFrame, kinds: Any) -> pd.DataFrame:
        found: pd.DataFrame = MixedDensity(model, kinds=kinds).fit(train).impute(test)
        return found

    return filled


def small_mixture(n_components: int) -> Any:
    return GaussianMixtureEM(n_components, covariance_prior="auto", random_state=0)


MODELS: dict[str, Filled] = {
    "mean or mode": lambda train, test, kinds: imputed_by_most_common(train, test),
    RIVAL: lambda train, test, kinds: imputed_by_iteration(train, test),
    "GaussianDensity()": gaussian(GaussianDensity()),
    "GaussianDensity(5)": gaussian(GaussianDensity(5)),
    "GaussianMixtureEM(1)": gaussian(small_mixture(1)),
    "GaussianMixtureEM(3)": gaussian(small_mixture(3)),
    "MixtureEM(5)": mixed(MixtureEM(5, random_state=0)),
    "MixtureEM(20)": mixed(MixtureEM(20, random_state=0)),
}


def one_table(name: str, n_splits: int) -> Iterator[str]:
    """Fill in the hidden cells of a table by each model, and yield lines."""
    X, kinds = TABLES[name](), KINDS.get(name, "auto")
    yield f"{name}: {len(X)} rows, {X.shape[1]} columns"
    halves = list(ShuffleSplit(n_splits, test_size=0.5, random_state=0).split(X))
    base = None
    for title, fill in MODELS.items():
        start, found = time.process_time(), []
        for seed, (train, test) in enumerate(halves):
            rng = np.random.RandomState(seed)
            truth = X.iloc[test]
            seen, left = hidden(X.iloc[train], rng), hidden(truth, rng)
            found.append(errors(fill(seen, left, kinds), truth, left))
        seconds = (time.process_time() - start) / n_splits
        values = np.array(found)
        mean, error = values.mean(0), values.std(0, ddof=1) / n_splits**0.5
        base = mean[0] if title == RIVAL else base
        behind = f"{mean[0] / base - 1:+9.1%}" if base else " " * 9
        yield (
            f"  {title:22}{mean[0]:7.3f} +- {error[0]:.3f}{behind}"
            f"{mean[1]:10.3f} +- {error[1]:.3f}{seconds:9.1f}"
        )


def main() -> None:
    """Fill in all tables, and write the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--tables", nargs="*", default=list(TABLES))
    args = parser.parse_args()
    warnings.simplefilter("ignore")

    def lines() -> Iterator[str]:
        yield from [*machine(), ""]
        heads = f"{'numbers':>19}{'behind':>13}{'levels':>14}{'seconds':>14}"
        yield f"  {args.splits} halves{heads}"
        for name in args.tables:
            yield from one_table(name, args.splits)

    with threads(1):
        report(lines(), RESULTS if args.tables == list(TABLES) else None)


if __name__ == "__main__":
    main()
