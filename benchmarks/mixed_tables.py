"""Tables of several kinds of columns with a fifth of their cells missing.

    python benchmarks/mixed_tables.py [--splits 5] [--jobs 2] [--quick]

On real tables (scikit-learn's own, with their classes as a column) and a generated
one: each is split in half, a fifth of all cells is hidden at random in both halves,
and models are fitted on the first. On the second half:

- the log-density of what was left there, in nats per row, less that of independent
  columns of the same kinds; and
- the error of the cells that were hidden: of numbers, the root of the mean square in
  units of the column's standard deviation; of levels, the part that is wrong. Rivals
  are the mean or the mode, and scikit-learn's ``IterativeImputer`` on numbers and the
  places of levels.

Means over the splits, with their standard errors, go to
``benchmarks/results/mixed_tables.txt``.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.model_selection import ShuffleSplit
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from skgen import IWAE, VAE, MixedDensity

RESULTS = Path(__file__).parent / "results" / "mixed_tables.txt"
MISSING = 0.2


def with_class(load: Any) -> pd.DataFrame:
    data = load(as_frame=True)
    names = np.asarray(data.target_names)[data.target]
    return data.data.assign(kind=names)


def diabetes() -> pd.DataFrame:
    data = load_diabetes(as_frame=True, scaled=False)
    sex = np.where(data.data["sex"] == 1, "a", "b")
    return data.data.assign(sex=sex, progression=data.target)


def patients(n: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Draw patients of three groups that nobody recorded: five kinds of columns."""
    rng = np.random.RandomState(seed)
    group = rng.choice(3, n, p=[0.5, 0.3, 0.2])
    severity = rng.randn(n)
    age = np.array([40, 55, 70])[group] + 8 * rng.randn(n)
    cost = np.exp(6 + 0.5 * group + 0.8 * severity + 0.3 * rng.randn(n))
    visits = rng.poisson(np.exp(0.3 + 0.5 * group + 0.6 * severity))
    smokes = rng.rand(n) < 1 / (1 + np.exp(-(severity - 0.5)))
    wards = np.array(["surgery", "medicine", "geriatrics"])
    moved = rng.rand(n) < 0.15
    ward = np.where(moved, rng.choice(wards, n), wards[group])
    outcomes = np.array(["home", "care", "clinic", "other"])
    logits = np.column_stack([2 - severity, group - 0.5, severity, np.zeros(n)])
    outcome = outcomes[(logits + rng.gumbel(size=logits.shape)).argmax(1)]
    return pd.DataFrame(
        {
            "age": age,
            "cost": cost,
            "visits": visits,
            "smokes": smokes,
            "ward": ward,
            "outcome": outcome,
        }
    )


TABLES = {
    "iris": lambda: with_class(load_iris),
    "wine": lambda: with_class(load_wine),
    "breast cancer": lambda: with_class(load_breast_cancer),
    "diabetes": diabetes,
    "patients": patients,
}


# Integers beside missing cells are floats, which are not guessed to be counts. Others
# are guessed from a half to have ends, beyond which the other half has values.
KINDS: dict[str, dict[str, Any]] = {
    "patients": {"visits": "count"},
    "breast cancer": {"worst concavity": "real"},
    "diabetes": {"s4": "real"},
}


def hidden(X: pd.DataFrame, rng: np.random.RandomState) -> pd.DataFrame:
    """Hide a fifth of the cells, but never a whole row."""
    mask = rng.rand(*X.shape) < MISSING
    mask[mask.all(1), 0] = False
    return X.astype(object).mask(mask).infer_objects()


def imputed_by_most_common(train: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    fill = {
        name: x.mean() if pd.api.types.is_numeric_dtype(x) else x.mode()[0]
        for name, x in train.items()
    }
    return test.fillna(fill)


def imputed_by_iteration(train: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """Fill in cells by IterativeImputer."""

    def impute(rows: Any, new: Any) -> Any:
        return IterativeImputer(max_iter=10, random_state=0).fit(rows).transform(new)

    return imputed_as_numbers(train, test, impute)


def imputed_as_numbers(
    train: pd.DataFrame, test: pd.DataFrame, impute: Callable[[Any, Any], Any]
) -> pd.DataFrame:
    """Fill in standardised columns; levels are their places, and rounded."""
    is_level = [not pd.api.types.is_numeric_dtype(x) for _, x in train.items()]
    names = [name for name, level in zip(train, is_level) if level]
    coder = OrdinalEncoder(encoded_missing_value=np.nan)
    places = make_column_transformer(
        (coder, names), remainder="passthrough", verbose_feature_names_out=False
    ).set_output(transform="pandas")
    rows = places.fit_transform(train).astype(float)
    new = places.transform(test).astype(float)
    scaler = StandardScaler().fit(rows)
    filled = scaler.inverse_transform(
        impute(scaler.transform(rows), scaler.transform(new))
    )
    found = pd.DataFrame(filled, columns=rows.columns, index=test.index)
    for name, levels in zip(
        names, places.named_transformers_["ordinalencoder"].categories_
    ):
        levels = np.array([level for level in levels if level == level], dtype=object)
        code = found[name].round().clip(0, len(levels) - 1).astype(int)
        found[name] = levels[code]
    return found


def errors(
    filled: pd.DataFrame, truth: pd.DataFrame, test: pd.DataFrame
) -> tuple[float, float]:
    """Error of numbers and of levels, over the cells that were hidden."""
    squares, wrong = [], []
    for name, x in truth.items():
        was_hidden = test[name].isna().to_numpy()
        mine, right = filled[name][was_hidden], x[was_hidden]
        if pd.api.types.is_numeric_dtype(x) and x.dtype != bool:
            off = (mine.astype(float) - right) / x.std()
            squares.append((off**2).to_numpy())
        else:
            wrong.append((mine.astype(str) != right.astype(str)).to_numpy())
    return (
        float(np.sqrt(np.concatenate(squares).mean())),
        float(np.concatenate(wrong).mean()),
    )


def density_of_independent_columns(
    model: MixedDensity, train: pd.DataFrame, test: pd.DataFrame
) -> float:
    """Mean log-density of columns of the same kinds that know nothing of each other."""
    import torch

    from skgen._training.data import Rows

    likelihood, rows = model.estimator_.likelihood, model._encoded(train)
    x = torch.from_numpy(rows)
    standardizer = likelihood.standardizer(Rows(x, None), True)
    outputs = likelihood.initial_outputs(standardizer(x))
    new = standardizer(torch.from_numpy(model._encoded(test)))
    with torch.no_grad():
        log_prob = likelihood.log_prob(outputs.expand(len(new), -1), new)
    return float((log_prob - standardizer.log_scale).mean())


RIVALS: dict[str, Any] = {
    "mean or mode": imputed_by_most_common,
    "IterativeImputer": imputed_by_iteration,
}
MODELS: dict[str, Any] = {
    "VAE": VAE(random_state=0),
    "IWAE, 5 draws": IWAE(random_state=0),
    "IWAE, 20 draws": IWAE(n_draws=20, random_state=0),
}


def one_split(
    X: pd.DataFrame, kinds: Any, train: Any, test: Any, seed: int
) -> dict[str, tuple[float, float, float]]:
    warnings.simplefilter("ignore")
    rng = np.random.RandomState(seed)
    truth = X.iloc[test]
    seen, left = hidden(X.iloc[train], rng), hidden(truth, rng)
    found = {
        "mean or mode": (
            np.nan,
            *errors(imputed_by_most_common(seen, left), truth, left),
        ),
        "IterativeImputer": (
            np.nan,
            *errors(imputed_by_iteration(seen, left), truth, left),
        ),
    }
    for name, inner in MODELS.items():
        model = MixedDensity(inner, kinds=kinds).fit(seen)
        gain = model.score(left) - density_of_independent_columns(model, seen, left)
        found[name] = (gain, *errors(model.impute(left), truth, left))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--tables", nargs="*", default=list(TABLES))
    parser.add_argument("--quick", action="store_true", help="one split, small tables")
    arguments = parser.parse_args()
    names = ["iris", "wine"] if arguments.quick else arguments.tables
    n_splits = 1 if arguments.quick else arguments.splits
    warnings.simplefilter("ignore")
    lines = [
        f"{n_splits} halves; gain in nats over independent columns, error of numbers "
        "(in standard deviations), part of wrong levels",
    ]
    for table in names:
        X = TABLES[table]()
        splits = ShuffleSplit(n_splits, test_size=0.5, random_state=0).split(X)
        runs = Parallel(n_jobs=arguments.jobs)(
            delayed(one_split)(X, KINDS.get(table, "auto"), *each, seed)
            for seed, each in enumerate(splits)
        )
        lines.append(f"{table}: {len(X)} rows, {X.shape[1]} columns")
        for name in runs[0]:
            values = np.array([run[name] for run in runs])
            error = (
                values.std(0, ddof=1) / np.sqrt(n_splits) if n_splits > 1 else [0] * 3
            )
            gain, number, level = (
                f"{m:7.3f} +- {e:.3f}" if np.isfinite(m) else " " * 16
                for m, e in zip(values.mean(0), error)
            )
            lines.append(f"  {name:20s} {gain} {number} {level}")
        print("\n".join(lines[-len(runs[0]) - 1 :]), flush=True)
    if not arguments.quick:
        RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
