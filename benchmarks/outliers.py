"""Densities as outlier scores, beside the usual detectors.

    python benchmarks/outliers.py --data FOLDER [--repeats 1]
    python benchmarks/outliers.py --data FOLDER --trim

On the eleven labelled tables of ``anomalies.npz`` (the folder may also be named by the
environment variable SKGEN_DATA), the area under the ROC curve of minus the score, where
an anomaly is positive; 1 is perfect, 0.5 is chance. Columns are standardised by the
rows that are fitted on, for all models alike. Two protocols:

- "clean": fitted on half of the normal rows, and asked for the others and all
  anomalies;
- "contaminated": fitted on all rows, and asked for the same ones.

Figures are means over tables, and over repeats with other halves and seeds; then those
of each table. Models are at their defaults, but for sizes that are named: "(n/4)" is a
cluster for four rows, and "n/50 to n/2" is the mean score of five K-means, with a
cluster for 50, 20, 10, 4 and 2 rows: one setting for all tables, found on other halves
of these. The last lines are the contaminated table of breast cancer (WDBC), not
standardised: mixtures that learn single outliers by heart, and the same inside a
``DensityOutlierDetector`` that is told the share of outliers, and leaves out what is
unlikely under fits to other rows. A table goes to ``benchmarks/results/outliers.txt``.

``--trim`` asks how many rows such a detector should leave out, as a multiple of the
outliers: on all contaminated tables, for each of some densities, alone and so trimmed.
That goes to ``benchmarks/results/outliers_trim.txt``.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from timing import machine, report, threads

from skgen import (
    IWAE,
    VAE,
    GaussianDensity,
    GaussianMixtureEM,
    KMeansAutoencoder,
    MixtureEM,
    StudentMixtureEM,
)
from skgen.outliers import DensityOutlierDetector

RESULTS = Path(__file__).parent / "results" / "outliers.txt"
TRIM_RESULTS = RESULTS.with_name("outliers_trim.txt")
Array = NDArray[Any]
Score = Callable[[Array], Array]


class Neighbours:
    """The mean distance to the five nearest rows."""

    def __init__(self, seed: int) -> None:
        self.neighbours = NearestNeighbors(n_neighbors=6)

    def fit(self, X: Array) -> Neighbours:
        """Keep the rows."""
        self.X = X
        self.neighbours.fit(X)
        return self

    def score_samples(self, X: Array) -> Array:
        """Return how ordinary rows are."""
        # A row that was fitted is no neighbour of its own.
        own = X.shape == self.X.shape and np.array_equal(X, self.X)
        distances, _ = self.neighbours.kneighbors(X)
        found: Array = -(distances[:, 1:] if own else distances[:, :5]).mean(axis=1)
        return found


class LocalFactor:
    """The local outlier factor; of rows that were fitted, that of the fit."""

    def __init__(self, seed: int) -> None:
        self.factor = LocalOutlierFactor(novelty=True)

    def fit(self, X: Array) -> LocalFactor:
        """Fit the factor."""
        self.X = X
        self.factor.fit(X)
        return self

    def score_samples(self, X: Array) -> Array:
        """Return how ordinary rows are."""
        if X.shape == self.X.shape and np.array_equal(X, self.X):
            own: Array = self.factor.negative_outlier_factor_
            return own
        found: Array = self.factor.score_samples(X)
        return found


class Clusters:
    """The mean score of K-means with a cluster for so many rows."""

    def __init__(self, seed: int, rows: tuple[int, ...]) -> None:
        self.seed, self.rows = seed, rows

    def fit(self, X: Array) -> Clusters:
        """Fit each of them."""
        sizes = [max(2, len(X) // rows) for rows in self.rows]
        self.models = [
            KMeansAutoencoder(size, random_state=self.seed).fit(X) for size in sizes
        ]
        return self

    def score_samples(self, X: Array) -> Array:
        """Return the mean log-density of rows."""
        found: Array = np.mean([each.score_samples(X) for each in self.models], axis=0)
        return found


MODELS: dict[str, Callable[[int], Any]] = {
    "IsolationForest": lambda seed: IsolationForest(random_state=seed),
    "LocalOutlierFactor": LocalFactor,
    "5 nearest neighbours": Neighbours,
    "GaussianDensity": lambda seed: GaussianDensity(),
    "GaussianMixtureEM(5)": lambda seed: GaussianMixtureEM(5, random_state=seed),
    "  covariance_prior": lambda seed: GaussianMixtureEM(
        5, covariance_prior="auto", random_state=seed
    ),
    "  factor, 2": lambda seed: GaussianMixtureEM(
        5, covariance_type="factor", n_factors=2, random_state=seed
    ),
    "StudentMixtureEM(1)": lambda seed: StudentMixtureEM(1, random_state=seed),
    "StudentMixtureEM(5)": lambda seed: StudentMixtureEM(5, random_state=seed),
    "MixtureEM(5)": lambda seed: MixtureEM(5, random_state=seed),
    "KMeansAutoencoder(8)": lambda seed: KMeansAutoencoder(8, random_state=seed),
    "  variance=feature": lambda seed: KMeansAutoencoder(
        8, variance="feature", random_state=seed
    ),
    "KMeans(n/4)": lambda seed: Clusters(seed, (4,)),
    "KMeans(n/50 to n/2)": lambda seed: Clusters(seed, (50, 20, 10, 4, 2)),
    "VAE": lambda seed: VAE(random_state=seed),
    "IWAE": lambda seed: IWAE(random_state=seed),
}
# Mixtures that are tried inside detectors, and detectors with other folds.
MIXTURES: dict[str, dict[str, Any]] = {
    "GaussianMixtureEM(5)": {},
    "  covariance_prior='auto'": {"covariance_prior": "auto"},
    "  covariance_type='tied'": {"covariance_type": "tied"},
    "  covariance_type='factor', n_factors=2": {
        "covariance_type": "factor",
        "n_factors": 2,
    },
}
DETECTORS = 5
# Densities that are trimmed, and rows that are left out for each outlier.
TRIMMED = (
    "GaussianDensity",
    "GaussianMixtureEM(5)",
    "  covariance_prior",
    "StudentMixtureEM(5)",
    "MixtureEM(5)",
    "KMeansAutoencoder(8)",
)
TIMES = (1.5, 2, 3, 5)
# Of the halves: settings were looked for on those of seeds below.
FIRST_SEED = 10
QUICK = ("IsolationForest", "GaussianDensity", "GaussianMixtureEM(5)")


def tables(folder: str) -> dict[str, tuple[Array, Array]]:
    """Return rows and labels of each table."""
    path = Path(folder, "anomalies.npz")
    if not path.exists():
        raise SystemExit(
            f"There is no {path}. Name the folder by --data, or by the environment "
            "variable SKGEN_DATA."
        )
    arrays = np.load(path)
    names = sorted(name[:-2] for name in arrays if name.endswith("_X"))
    return {
        name.partition("_")[2]: (
            arrays[f"{name}_X"].astype(np.float64),
            arrays[f"{name}_y"].astype(bool),
        )
        for name in names
    }


def split(y: Array, protocol: str, seed: int) -> tuple[Array, Array]:
    """Return numbers of the rows to fit on, and of those to ask for."""
    if protocol == "contaminated":
        return np.arange(len(y)), np.arange(len(y))
    normal = np.random.RandomState(seed).permutation(np.flatnonzero(~y))
    half = len(normal) // 2
    return normal[:half], np.concatenate([normal[half:], np.flatnonzero(y)])


def area(model: Any, X: Array, y: Array, fitted: Array, asked: Array) -> float:
    """Return the area under the curve of a model; NaN where its fit fails."""
    mean, scale = X[fitted].mean(0), X[fitted].std(0)
    rows = (X - mean) / np.where(scale > 0, scale, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            scores = model.fit(rows[fitted]).score_samples(rows[asked])
        except ValueError:
            return float("nan")
    return float(roc_auc_score(y[asked], -np.nan_to_num(scores, neginf=-1e300)))


def lines(
    data: dict[str, tuple[Array, Array]],
    names: Any,
    protocols: Any,
    repeats: int,
) -> Iterator[str]:
    """Fit all, and yield the table."""
    for protocol in protocols:
        heads = "".join(f"{name[:9]:>10}" for name in data)
        yield f"{protocol:22}{'mean':>7}{heads}{'seconds':>9}"
        for name in names:
            start = process_time()
            found = [
                [
                    area(MODELS[name](seed), X, y, *split(y, protocol, seed))
                    for seed in range(FIRST_SEED, FIRST_SEED + repeats)
                ]
                for X, y in data.values()
            ]
            each = np.mean(found, axis=1)
            cells = "".join(f"{value:10.3f}" for value in each)
            seconds = process_time() - start
            yield f"{name:22}{each.mean():7.3f}{cells}{seconds:9.1f}"
        yield ""


def detected(data: dict[str, tuple[Array, Array]], repeats: int) -> Iterator[str]:
    """Yield the areas of mixtures on WDBC, alone and in a detector."""
    X, y = data["WDBC"]
    share = float(y.mean())
    yield f"WDBC as it is, {share:.1%} outliers among the {len(y)} rows"
    yield f"{'':42}{'alone':>7}{'in a detector: mean':>21}{'least':>7}"
    for title, settings in MIXTURES.items():
        model = GaussianMixtureEM(5, random_state=0, **settings)
        detectors = [
            DensityOutlierDetector(model, contamination=share, random_state=seed)
            for seed in range(DETECTORS * repeats)
        ]
        alone = area(model, X, y, fitted=np.arange(len(y)), asked=np.arange(len(y)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scores = [each.fit(X).score_samples(X) for each in detectors]
        areas = [roc_auc_score(y, -each) for each in scores]
        yield f"{title:42}{alone:7.3f}{np.mean(areas):21.3f}{np.min(areas):7.3f}"


def trimmed(data: dict[str, tuple[Array, Array]]) -> Iterator[str]:
    """Yield the areas of detectors that leave so many rows out for each outlier."""
    heads = "".join(f"{name[:9]:>10}" for name in data)
    yield f"{'':22}{'left out':>9}{'mean':>7}{heads}"
    for name in TRIMMED:
        for times in (0, *TIMES):
            areas = []
            for X, y in data.values():
                share = float(y.mean())
                model = MODELS[name](FIRST_SEED)
                if times:
                    model = DensityOutlierDetector(
                        model,
                        contamination=share,
                        trim=min(times * share, 0.5),
                        random_state=FIRST_SEED,
                    )
                areas.append(area(model, X, y, *split(y, "contaminated", FIRST_SEED)))
            cells = "".join(f"{value:10.3f}" for value in areas)
            many = f"{times} times" if times else "-"
            yield f"{name:22}{many:>9}{np.mean(areas):7.3f}{cells}"


def main() -> None:
    """Fit, ask, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=os.environ.get("SKGEN_DATA", ""))
    parser.add_argument("--protocols", nargs="*", default=["clean", "contaminated"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument(
        "--quick", action="store_true", help="a few models, small tables"
    )
    parser.add_argument("--trim", action="store_true", help="how many to leave out")
    args = parser.parse_args()
    data = tables(args.data)
    names, repeats = list(MODELS), args.repeats
    if args.quick:
        names, repeats = list(QUICK), 1
        data = {name: data[name] for name in data if len(data[name][0]) < 500}

    def found() -> Iterator[str]:
        yield from [*machine(), ""]
        yield from lines(data, names, args.protocols, repeats)
        yield from detected(data, repeats)

    with threads(1):
        if args.trim:
            report([*machine(), "", *trimmed(data)], TRIM_RESULTS)
            return
        report(found(), None if args.quick else RESULTS)


if __name__ == "__main__":
    main()
