"""Ask boosted trees to tell draws of ``MixedDensity`` from the rows of real tables.

    python benchmarks/synthetic_tables.py [--data FOLDER] [--rows 16000] [--quick]

On adult (census income, 32,561 rows of numbers and text) and shoppers (sessions of a
shop, 12,330 rows of counts, durations and levels): half the rows, up to 16,000, are
fitted on, as many are drawn from the model, and as many others are the holdout.
``adult.csv.gz`` and ``shoppers.csv.gz`` are in a folder that ``--data`` or the
environment variable ``SKGEN_DATA`` names.

The table has measures of ``skgen.metrics.table_report`` for each estimator inside
``MixedDensity``, with the seconds of the processor that fit and draws took:

- "score": 1 - (2 max(AUC, 0.5) - 1) of histogram boosting, cross-validated against the
  rows of the fit, with its standard error over the folds; 1 where draws are not told
  apart. Published, on all rows and with XGBoost: a flat mixture .773 on adult and .290
  on shoppers, TVAE and CTGAN .000 on both, probabilistic circuits .855 and .894.
- "xgboost": the same score by XGBoost of 100 trees, where it is installed;
- "shapes", "trends": means over columns and pairs;
- "share": part of the draws that are closer to rows of the fit than to the holdout;
- "learned": nats a row by which rows of the fit are more likely than the holdout; and
- "holdout": log p(x) of the holdout, nats per row, values that the guessed kind of a
  column does not have at their price.

The first line of a table has the holdout itself in the place of draws, and the second
columns of the rows of the fit, each shuffled by itself. Results go to
``benchmarks/results/synthetic_tables-adult.txt`` and ``-shoppers.txt``.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score

from skgen import MixedDensity, MixtureEM
from skgen.metrics import table_report

try:
    from xgboost import XGBClassifier
except ImportError:
    XGBClassifier = None

RESULTS = Path(__file__).parent / "results"
MEASURES = ["column_shape", "pair_trend", "two_sample", "closest_record"]
STEPWISE = {"batch_size": 2000, "max_iter": 12, "random_state": 0}
MODELS = {
    "MixtureEM(100)": lambda: MixtureEM(100, random_state=0),
    "MixtureEM(400), prior .1": lambda: MixtureEM(400, level_prior=0.1, **STEPWISE),
    "MixtureEM(1000), prior .1": lambda: MixtureEM(1000, level_prior=0.1, **STEPWISE),
}


def halves(path: Path, most: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows to fit on and as many others, in a random order."""
    table = pd.read_csv(path, na_values="?")
    order = np.random.RandomState(0).permutation(len(table))
    n = min(len(table) // 2, most)
    return table.iloc[order[:n]], table.iloc[order[n : 2 * n]]


def independent(table: pd.DataFrame) -> pd.DataFrame:
    """Draw each column by itself."""
    rng = np.random.RandomState(0)
    return table.apply(lambda x: rng.permutation(x.to_numpy()))


def as_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Write levels as their places, NaN where missing."""
    found = table.copy()
    for name, x in table.items():
        if not pd.api.types.is_numeric_dtype(x) or x.dtype == bool:
            codes = pd.Categorical(x.astype(object)).codes.astype(float)
            found[name] = np.where(codes < 0, np.nan, codes)
    return found.astype(float)


def told_by_xgboost(real: pd.DataFrame, drawn: pd.DataFrame) -> float:
    """Return 1 - (2 max(AUC, 0.5) - 1) of XGBoost, cross-validated."""
    if XGBClassifier is None:
        return np.nan
    both = as_numbers(pd.concat([real, drawn], ignore_index=True)).to_numpy()
    trees = XGBClassifier(
        n_estimators=100, tree_method="hist", n_jobs=1, random_state=0
    )
    is_drawn = np.repeat([0, 1], [len(real), len(drawn)])
    scores = cross_val_score(trees, both, is_drawn, cv=5, scoring="roc_auc")
    return 1 - (2 * max(float(scores.mean()), 0.5) - 1)


def line(name: str, real: Any, drawn: Any, holdout: Any, more: str = "") -> str:
    """Report on draws, in one line."""
    report = table_report(real, drawn, holdout, measures=MEASURES, random_state=0)
    whole = report[report["column"].isna()].set_index("measure")
    value, error = whole["value"], whole["standard_error"]
    return (
        f"  {name:26s} {value['two_sample']:.3f} +- {error['two_sample']:.3f}"
        f"   {told_by_xgboost(real, drawn):7.3f}"
        f"   {value['column_shape']:.3f}   {value['pair_trend']:.3f}"
        f"   {value.get('closest_record_share', np.nan):.3f}   {more}"
    ).rstrip()


def learned(model: Any, real: Any, holdout: Any) -> str:
    """Say how much more likely rows of the fit are, and how likely the holdout is."""
    report = table_report(
        real, real, holdout, model=model, measures=["memorisation"], random_state=0
    )
    value, error = report.loc[0, ["value", "standard_error"]]
    return f"{value:6.2f} +- {error:.2f} {model.score(holdout):9.3f}"


def fitted(build: Any, real: Any) -> tuple[Any, Any, float]:
    """Return a fitted model, draws, and the seconds of both."""
    start = time.process_time()
    model = MixedDensity(build()).fit(real)
    drawn = model.sample(len(real), random_state=0)
    return model, drawn, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SKGEN_DATA"))
    parser.add_argument("--rows", type=int, default=16_000)
    parser.add_argument("--tables", nargs="*", default=["adult", "shoppers"])
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    parser.add_argument("--quick", action="store_true", help="600 rows, nothing kept")
    args = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", "Column|Found unknown", UserWarning)
    if args.data is None or not (Path(args.data) / "adult.csv.gz").exists():
        parser.error("give the folder of adult.csv.gz and shoppers.csv.gz: --data")
    for name in args.tables:
        path = Path(args.data) / f"{name}.csv.gz"
        real, holdout = halves(path, 600 if args.quick else args.rows)
        lines = [
            f"{name}: {len(real)} rows, {real.shape[1]} columns; {platform.machine()}, "
            f"Python {platform.python_version()}, scikit-learn {sklearn.__version__}",
            "                             score of trees   xgboost  shapes  trends"
            "  share    learned, nats   holdout   seconds",
            line("holdout", real, holdout, None),
            line("independent columns", real, independent(real), holdout),
        ]
        print(*lines, sep="\n", flush=True)
        for label in args.models:
            model, drawn, seconds = fitted(MODELS[label], real)
            more = f"{learned(model, real, holdout)} {seconds:9.0f}"
            lines.append(line(label, real, drawn, holdout, more))
            print(lines[-1], flush=True)
            if not args.quick:  # a run that is stopped leaves what it has
                text = "\n".join(lines) + "\n"
                (RESULTS / f"synthetic_tables-{name}.txt").write_text(text)


if __name__ == "__main__":
    main()
