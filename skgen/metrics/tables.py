"""A synthetic table against the real one: columns, pairs, rows, use and privacy.

Tables become matrices once: numbers as they are, levels as codes, NaN where a cell is
missing. Each measure is a function from these to rows of the report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import (
    KFold,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import _safe_indexing, check_scalar

from skgen._tables.aligned import aligned_columns, checked_table
from skgen._tables.frames import table_library
from skgen._utils.tensors import draw_seed, fresh_random_state

Array = NDArray[Any]

OWNER = "table_report"
# Rows that a table must have, for folds.
LEAST_ROWS = 10
FOLDS = 5
# Bins of a number beside another column; levels there, the most common ones.
BINS, LEVELS_OF_PAIRS = 10, 20
# Levels that histogram boosting can have, those of a target, and those that a search
# for the closest record tells apart.
LEVELS_OF_TREES, LEVELS_OF_TARGETS, LEVELS_OF_SEARCH = 254, 10, 64
# Rows that tests a forest where there is no holdout, as a part of the real ones.
TEST_SIZE = 1 / 3
FOREST = {"n_estimators": 50, "min_samples_leaf": 5}
# Rows that a forest learns from where each column is a target in turn.
ROWS_OF_FORESTS = 2000
# Squared distances that are equal but for rounding.
TIE = 1e-9


class Row(NamedTuple):
    """A row of the report: without a column, of the table as a whole."""

    measure: str
    column: Any
    other: Any
    value: float
    standard_error: float = math.nan
    reference: float = math.nan


class Comparison(NamedTuple):
    """Tables as matrices, with what the measures need beside them.

    Columns are in the order of their names and rows in the order of their values, so
    that nothing depends on how the tables were arranged.
    """

    names: list[Any]
    is_level: NDArray[np.bool_]  # (d,)
    tables: list[
        Array
    ]  # real, synthetic and perhaps holdout: (n, d), NaN where missing
    targets: list[int]
    log_probs: list[Array] | None  # (n,) of the real and the holdout rows
    seed: int

    @property
    def real(self) -> Array:
        """Return the real rows."""
        return self.tables[0]

    @property
    def synthetic(self) -> Array:
        """Return the synthetic rows."""
        return self.tables[1]

    @property
    def holdout(self) -> Array | None:
        """Return the real rows that were held out, if any."""
        return self.tables[2] if len(self.tables) > 2 else None

    def shuffled(self, rows: Array, n: int | None = None) -> Array:
        """Return some rows, or all, in random order."""
        order = np.random.RandomState(self.seed).permutation(len(rows))
        return np.asarray(rows[order[:n]])

    def with_levels(self, most: int) -> list[Array]:
        """Return the tables with at most so many levels and one of all others.

        The levels that are kept are the most common ones of the real rows.
        """
        tables = [x.copy() for x in self.tables]
        for j in np.flatnonzero(self.is_level):
            for x, codes in zip(tables, _limited([x[:, j] for x in tables], most)):
                x[:, j] = codes
        return tables


def table_report(
    real: Any,
    synthetic: Any,
    holdout: Any = None,
    *,
    target: Any = None,
    model: Any = None,
    measures: Sequence[str] | None = None,
    max_rows: int | None = 10_000,
    random_state: Any = None,
) -> Any:
    """Compare a synthetic table with the real one that it stands for.

    Columns may be numbers, text, booleans, categories, dates or durations, with cells
    missing. A missing cell counts as a value of its own.

    Parameters
    ----------
    real : DataFrame or array-like of shape (n_real, n_features)
        Rows that the model was fitted on, ten or more.
    synthetic : DataFrame or array-like of shape (n_synthetic, n_features)
        Rows that were drawn from the model, with the same columns.
    holdout : DataFrame or array-like of shape (n_holdout, n_features), default=None
        Real rows that the model has not seen.
    target : object, default=None
        Name of the column, or place in an array, that "efficacy" predicts from the
        others; ``None`` is each column in turn.
    model : object, default=None
        The fitted density, whose ``score_samples`` gives log p(x), for "memorisation",
        which needs ``holdout``, too.
    measures : sequence of str, default=None
        Measures that are computed, of those below; ``None`` is all that can be.
    max_rows : int, default=10_000
        Rows of each table that are drawn at random where it has more; ``None`` is all.
    random_state : int, RandomState, Generator or None, default=None
        Source of the rows and of the folds; ``None`` is fresh entropy at each call.

    Returns
    -------
    report : DataFrame of pandas
        A row for each measure, column or pair of columns. It has the columns
        ``measure``; ``column`` and ``other``, which are None in rows that speak of the
        whole table; ``value``; its ``standard_error``; and the ``reference`` that fresh
        rows of the real distribution would reach. Errors and references are NaN where
        there is none. The measures are

        - "column_shape": 1 less the Kolmogorov-Smirnov distance of a column's numbers,
          or the total variation of its levels. The reference is that of the holdout.
        - "pair_trend": of two columns of numbers, 1 less half the difference of their
          rank correlations; of others, 1 less the total variation of both together,
          numbers in ten bins. The reference is that of the holdout.
        - "two_sample": 1 - (2 max(AUC, 0.5) - 1) of scikit-learn's histogram boosting
          that tells synthetic rows from real ones, in five folds: 1 where it cannot.
        - "efficacy": how well a random forest that learns from synthetic rows predicts
          a column of the holdout, or without one of a third of the real rows: the mean
          AUC of its levels against the rest, or R^2 of ranks of numbers. The reference
          is that of as many real rows.
        - "closest_record": the median distance of a synthetic row to the closest real
          one. The reference is that of the holdout.
        - "closest_record_share": part of the synthetic rows that are closer to the real
          rows than to the holdout, of as many rows each. Above 1/2, rows were copied.
        - "copied_rows": part of the synthetic rows that are equal to a real one. The
          reference is the part of the holdout that is.
        - "memorisation": mean log p(x) of the training rows less that of the holdout
          under ``model``, in nats per row, each less what rows at its place have. More
          than two or three standard errors above 0, rows were learned by heart.

    Raises
    ------
    ValueError
        If the tables have different columns, or a parameter is out of its range.
    TypeError
        If ``model`` has no ``score_samples``.

    See Also
    --------
    skgen.display.TableReportDisplay : Draws the report.
    two_sample_test : Without a classifier, for columns of numbers.
    classification_accuracy_score : Efficacy for classes, with any classifier.

    Notes
    -----
    Whole numbers of at most 20 different values are levels. All measures see numbers by
    their order alone, so that no scaling matters.

    Distances are the root of the mean over columns: the square of a difference of
    numbers, as quantiles of the real rows, and 1 for different levels, or where one of
    two cells is missing. Where rows are drawn at random, the closest record and copies
    are sought among those that were.

    In "memorisation" each log-density is compared with what is expected at its place: a
    regression on the rows predicts it from other rows of both tables, in five folds,
    and the differences of log-density and prediction have the mean and the standard
    error. Under a density that treats both tables alike it is 0 in the mean, and its
    error is smaller than that of the plain difference.

    References
    ----------
    Lopez-Paz & Oquab, "Revisiting classifier two-sample tests", ICLR 2017.

    Esteban, Hyland & Ratsch, "Real-valued (medical) time series generation with
    recurrent conditional GANs", 2017, for training on synthetic and testing on real
    rows.

    Platzer & Reutterer, "Holdout-based empirical assessment of mixed-type synthetic
    data", Frontiers in Big Data 4, 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skgen import GaussianMixtureEM
    >>> from skgen.metrics import table_report
    >>> X = load_iris().data
    >>> model = GaussianMixtureEM(3, random_state=0).fit(X[::2])
    >>> report = table_report(
    ...     X[::2], model.sample(75, random_state=0), X[1::2], random_state=0
    ... )
    >>> whole = report[report["column"].isna()].set_index("measure")
    >>> bool(whole.loc["column_shape", "value"] > 0.8)
    True
    """
    pandas = table_library("pandas")
    given = {"real": real, "synthetic": synthetic, "holdout": holdout}
    tables = {
        name: checked_table(X, name, OWNER, LEAST_ROWS)
        for name, X in given.items()
        if X is not None
    }
    chosen = _chosen(measures, model, holdout)
    if max_rows is not None:
        check_scalar(max_rows, "max_rows", Integral, min_val=LEAST_ROWS)
    rng = fresh_random_state(random_state)
    tables = {name: _drawn(X, max_rows, rng) for name, X in tables.items()}
    comparison, names = _compared(tables, target, model, draw_seed(rng))
    rows = [row for measure in chosen for row in MEASURES[measure](comparison)]
    fields = dict(zip(Row._fields, zip(*_as_given(rows, names))))
    for name in ("column", "other"):  # None stays None, and names as they are
        fields[name] = pandas.Series(fields[name], dtype=object)
    return pandas.DataFrame(fields, columns=Row._fields)


def _chosen(measures: Sequence[str] | None, model: Any, holdout: Any) -> list[str]:
    """Return measures that were asked for; a ValueError for what cannot be."""
    if model is not None and not hasattr(model, "score_samples"):
        raise TypeError(
            f"The 'model' parameter of {OWNER} must be a fitted density with "
            f"score_samples. Got {model!r}."
        )
    if model is not None and holdout is None:
        raise ValueError(
            f"{OWNER} compares log-densities of training rows with those of rows that "
            "the model has not seen. Give them as 'holdout', or leave 'model' out."
        )
    if measures is None:
        return [
            name for name in MEASURES if name != "memorisation" or model is not None
        ]
    unknown = [name for name in measures if name not in MEASURES]
    if isinstance(measures, str) or unknown or not len(measures):
        raise ValueError(
            f"The 'measures' parameter of {OWNER} must list some of "
            f"{', '.join(MEASURES)}. Got {measures!r}."
        )
    if "memorisation" in measures and model is None:
        raise ValueError(
            f"The measure 'memorisation' of {OWNER} needs the fitted density. Give it "
            "as 'model'."
        )
    return [name for name in MEASURES if name in measures]


def _drawn(X: Any, most: int | None, rng: np.random.RandomState) -> Any:
    """Return the rows of a table, or some of them, drawn at random."""
    if most is None or len(X) <= most:
        return X
    return _safe_indexing(X, np.sort(rng.choice(len(X), most, replace=False)))


def _compared(
    tables: dict[str, Any], target: Any, model: Any, seed: int
) -> tuple[Comparison, list[Any]]:
    """Return tables as matrices, and the names of the columns in their own order."""
    columns = aligned_columns(tables, OWNER)
    names = [column.name for column in columns]
    columns.sort(key=lambda column: str(column.name))
    sorted_names = [column.name for column in columns]
    rows = [np.column_stack(x) for x in zip(*(column.tables for column in columns))]
    orders = [np.lexsort(x.T) for x in rows]
    if target is not None and target not in names:
        raise ValueError(
            f"The 'target' parameter of {OWNER} must be one of the columns {names}. "
            f"Got {target!r}."
        )
    log_probs = None
    if model is not None:
        scores = [_log_probs(model, tables[name], name) for name in ("real", "holdout")]
        log_probs = [scores[0][orders[0]], scores[1][orders[2]]]
    return Comparison(
        sorted_names,
        np.array([column.is_level for column in columns]),
        [x[order] for x, order in zip(rows, orders)],
        [j for j, name in enumerate(sorted_names) if target in (None, name)],
        log_probs,
        seed,
    ), names


def _log_probs(model: Any, X: Any, name: str) -> Array:
    """Return log p(x) (n,) of rows; a ValueError where any is not finite."""
    log_prob = np.asarray(model.score_samples(X), dtype=np.float64)
    wrong = ~np.isfinite(log_prob)
    if wrong.any():
        raise ValueError(
            f"The 'model' of {OWNER} gives {wrong.sum()} rows of {name} the "
            f"log-density {log_prob[np.argmax(wrong)]}: a mean over rows says nothing. "
            "Leave 'model' out, or such rows."
        )
    return log_prob


def _as_given(rows: Iterable[Row], names: list[Any]) -> list[Row]:
    """Put rows, and the columns of a pair, into the order of the columns."""
    places = {name: i for i, name in enumerate(names)}

    def place(row: Row) -> tuple[int, int]:
        return places.get(row.column, -1), places.get(row.other, -1)

    found: dict[str, list[Row]] = {}
    for row in rows:
        first, second = place(row)
        if second >= 0 and second < first:
            row = row._replace(column=row.other, other=row.column)
        found.setdefault(row.measure, []).append(row)
    return [row for part in found.values() for row in sorted(part, key=place)]


def _with_mean(
    measure: str, keys: Sequence[tuple[Any, Any]], values: Array, references: Array
) -> Iterator[Row]:
    """Yield the mean over columns or pairs, and a row for each; nothing of none."""
    if not keys:
        return
    known = ~np.isnan(values)
    yield Row(
        measure,
        None,
        None,
        float(values[known].mean()) if known.any() else math.nan,
        reference=float(references[known].mean()) if known.any() else math.nan,
    )
    for key, value, reference in zip(keys, values, references):
        yield Row(measure, *key, float(value), reference=float(reference))


# Levels and numbers.


def _limited(tables: list[Array], most: int) -> list[Array]:
    """Return codes (n,) of levels by how common they are, where there are too many."""
    n_levels = int(max(np.nanmax(x, initial=-1) for x in tables)) + 1
    if n_levels <= most:
        return tables
    real = tables[0]
    counts = np.bincount(real[~np.isnan(real)].astype(int), minlength=n_levels)
    rank = np.empty(n_levels)
    rank[np.argsort(-counts, kind="stable")] = np.arange(n_levels)
    rank = np.append(np.minimum(rank, most), np.nan)  # the last of missing cells
    return [rank[_with_missing(x, n_levels)] for x in tables]


def _with_missing(codes: Array, n_levels: int) -> NDArray[np.intp]:
    """Return codes as integers, missing cells as one level more."""
    return np.nan_to_num(codes, nan=n_levels).astype(np.intp)


def _binned(given: Comparison) -> list[NDArray[np.intp]]:
    """Return bins of numbers and common levels (n, d), missing cells as the last."""
    tables = given.with_levels(LEVELS_OF_PAIRS)
    for j in np.flatnonzero(~given.is_level):
        edges = _edges(given.real[:, j])
        for x in tables:
            found = np.searchsorted(edges, x[:, j]).astype(np.float64)
            x[:, j] = np.where(np.isnan(x[:, j]), np.nan, found)
    return [_with_missing(x, LEVELS_OF_PAIRS + 1) for x in tables]


def _edges(x: Array) -> Array:
    """Return the inner ends of bins that hold as many numbers (n,) each."""
    seen = x[~np.isnan(x)]
    quantiles = np.arange(1, BINS) / BINS
    return np.unique(np.quantile(seen, quantiles)) if len(seen) else seen


def _total_variation(x: NDArray[np.intp], y: NDArray[np.intp]) -> float:
    """Total variation of two sets of integers."""
    size = int(max(x.max(), y.max())) + 1
    p, q = (np.bincount(z, minlength=size) / len(z) for z in (x, y))
    return 0.5 * float(np.abs(p - q).sum())


def _kolmogorov_smirnov(x: Array, y: Array) -> float:
    """Largest difference of two distribution functions; missing cells come last."""
    x, y = (np.sort(np.nan_to_num(z, nan=np.inf)) for z in (x, y))
    points = np.concatenate([x, y])
    first, second = (np.searchsorted(z, points, "right") / len(z) for z in (x, y))
    return float(np.abs(first - second).max())


def _rank_correlations(rows: Array) -> Array:
    """Correlations (d, d) of ranks over rows that have both cells; 0 of constants."""
    seen = (~np.isnan(rows)).astype(np.float64)
    ranks = rankdata(rows, axis=0, nan_policy="omit")
    ranks = np.nan_to_num(ranks / len(rows) - 0.5)
    n, sums = np.maximum(seen.T @ seen, 1), ranks.T @ seen
    variances = (ranks**2).T @ seen / n - (sums / n) ** 2
    covariances = ranks.T @ ranks / n - sums * sums.T / n**2
    scale = np.sqrt(np.maximum(variances * variances.T, 0))
    scale[scale < 1e-12] = np.inf
    return np.asarray(covariances / scale)


# The measures.


def _column_shapes(given: Comparison) -> Iterator[Row]:
    def similarities(table: Array) -> Array:
        return np.array(
            [
                1 - _distance(x, y, is_level)
                for x, y, is_level in zip(given.real.T, table.T, given.is_level)
            ]
        )

    keys = [(name, None) for name in given.names]
    yield from _with_mean("column_shape", keys, *_against(given, similarities))


def _distance(x: Array, y: Array, is_level: bool) -> float:
    """Return the distance of the laws of a column in two tables, in [0, 1]."""
    if not is_level:
        return _kolmogorov_smirnov(x, y)
    n_levels = int(np.nanmax(np.concatenate([x, y]), initial=-1)) + 1
    return _total_variation(_with_missing(x, n_levels), _with_missing(y, n_levels))


def _against(
    given: Comparison, similarities: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """Return what synthetic rows have, and the holdout, if any."""
    values = similarities(given.synthetic)
    if given.holdout is None:
        return values, np.full(len(values), np.nan)
    return values, similarities(given.holdout)


def _pair_trends(given: Comparison) -> Iterator[Row]:
    pairs = list(combinations(range(len(given.names)), 2))
    bins = _binned(given)
    numbers = [np.where(given.is_level, np.nan, x) for x in given.tables]
    trends = [_rank_correlations(x) for x in numbers]
    size = LEVELS_OF_PAIRS + 2

    def similarity(k: int, i: int, j: int) -> float:
        if not given.is_level[[i, j]].any():
            return 1 - 0.5 * abs(float(trends[0][i, j] - trends[k][i, j]))
        both = (bins[table][:, i] * size + bins[table][:, j] for table in (0, k))
        return 1 - _total_variation(*both)

    values = np.array([similarity(1, i, j) for i, j in pairs])
    references = np.full(len(pairs), np.nan)
    if given.holdout is not None:
        references = np.array([similarity(2, i, j) for i, j in pairs])
    keys = [(given.names[i], given.names[j]) for i, j in pairs]
    yield from _with_mean("pair_trend", keys, values, references)


def _two_sample(given: Comparison) -> Iterator[Row]:
    real, synthetic, *_ = given.with_levels(LEVELS_OF_TREES)
    is_synthetic = np.repeat([0, 1], [len(real), len(synthetic)])
    aucs = cross_val_score(
        HistGradientBoostingClassifier(
            categorical_features=given.is_level, random_state=given.seed
        ),
        _some_values(np.vstack([real, synthetic])),
        is_synthetic,
        cv=StratifiedKFold(FOLDS, shuffle=True, random_state=given.seed),
        scoring="roc_auc",
    )
    score = 1 - (2 * max(float(aucs.mean()), 0.5) - 1)
    error = 2 * float(aucs.std(ddof=1)) / math.sqrt(FOLDS)
    yield Row("two_sample", None, None, score, error, 1.0)


def _some_values(rows: Array) -> Array:
    """Return rows in which columns without any value are constant: trees need one."""
    return np.where(np.isnan(rows).all(0), 0.0, rows)


def _efficacy(given: Comparison) -> Iterator[Row]:
    if len(given.names) == 1:
        return
    real, synthetic, *others = map(given.shuffled, given.with_levels(LEVELS_OF_TARGETS))
    n_test = round(TEST_SIZE * len(real))
    test = others[0] if others else real[:n_test]
    real = real if others else real[n_test:]
    most = None if len(given.targets) == 1 else ROWS_OF_FORESTS
    n = min([len(real), len(synthetic), *([most] if most else [])])
    scores = np.array(
        [
            [
                _skill(x[:n], test[:most], real[:, j], j, given)
                for x in (synthetic, real)
            ]
            for j in given.targets
        ]
    )
    keys = [(given.names[j], None) for j in given.targets]
    yield from _with_mean("efficacy", keys, *scores.T)


def _skill(train: Array, test: Array, scale: Array, j: int, given: Comparison) -> float:
    """Predict column j of test rows; NaN where it has one value only.

    ``scale`` (n,) are numbers of which those of the column are quantiles.
    """
    test = test[~np.isnan(test[:, j])]
    train = train[~np.isnan(train[:, j])]
    if len(np.unique(test[:, j])) < 2:
        return math.nan
    is_level = bool(given.is_level[j])
    if not len(train):
        return 0.5 if is_level else 0.0
    X, X_test = (_some_values(np.delete(x, j, 1)) for x in (train, test))
    y, y_test = train[:, j], test[:, j]
    if is_level:
        forest = RandomForestClassifier(**FOREST, random_state=given.seed).fit(X, y)
        return _mean_auc(forest, X_test, y_test)
    y, y_test = (_quantiles(each, scale) for each in (y, y_test))
    forest = RandomForestRegressor(**FOREST, random_state=given.seed).fit(X, y)
    return float(r2_score(y_test, forest.predict(X_test)))


def _mean_auc(forest: Any, X: Array, y: Array) -> float:
    """AUC of each level against the others, in the mean over the rows."""
    found = dict(zip(forest.classes_, forest.predict_proba(X).T))
    levels, counts = np.unique(y, return_counts=True)
    never = np.zeros(len(y))
    aucs = [roc_auc_score(y == level, found.get(level, never)) for level in levels]
    return float(np.average(aucs, weights=counts))


def _quantiles(x: Array, scale: Array) -> Array:
    """Places of numbers (n,) in the distribution of others, NaN where missing."""
    seen = np.sort(scale[~np.isnan(scale)])
    found = sum(np.searchsorted(seen, x, side) for side in ("left", "right"))
    return np.where(np.isnan(x), np.nan, found / (2 * max(len(seen), 1)))


def _closest_records(given: Comparison) -> Iterator[Row]:
    real, synthetic, *others = _on_one_scale(given)
    own = _to_closest(synthetic, real, given.is_level)
    median, copied = _median_and_copied(own), own <= TIE
    fresh = (math.nan, math.nan)
    if others:
        fresh = _median_and_copied(_to_closest(others[0], real, given.is_level))
    yield Row("closest_record", None, None, median[0], reference=fresh[0])
    if others:
        n = min(len(real), len(others[0]))
        to_real, to_holdout = (
            _to_closest(synthetic, given.shuffled(rows, n), given.is_level)
            for rows in (real, others[0])
        )
        share = _mean_and_error(_closer(to_real, to_holdout))
        yield Row("closest_record_share", None, None, *share, 0.5)
    yield Row("copied_rows", None, None, *_mean_and_error(copied), fresh[1])


def _median_and_copied(squares: Array) -> tuple[float, float]:
    """Median of distances whose squares (n,) are given, and the part that is 0."""
    return float(np.median(np.sqrt(squares))), float((squares <= TIE).mean())


def _closer(to_real: Array, to_holdout: Array) -> Array:
    """Return 1 where the first distance (n,) is less, and 1/2 where both are equal."""
    difference = to_holdout - to_real
    return np.where(np.abs(difference) <= TIE, 0.5, difference > 0)


def _mean_and_error(x: Array) -> tuple[float, float]:
    """Mean of values (n,) and its standard error."""
    return float(x.mean()), float(x.std(ddof=1)) / math.sqrt(len(x))


def _on_one_scale(given: Comparison) -> list[Array]:
    """Return the tables with numbers as quantiles of the real rows."""
    tables = [x.copy() for x in given.tables]
    for j in np.flatnonzero(~given.is_level):
        for x in tables:
            x[:, j] = _quantiles(x[:, j], given.real[:, j])
    return tables


def _to_closest(rows: Array, others: Array, is_level: NDArray[np.bool_]) -> Array:
    """Squared distance (n,) of each row to the closest of others, in [0, 1]."""
    points = _embedded(np.vstack([others, rows]), is_level)
    points, queries = np.split(points, [len(others)])
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(points)
    found = others[search.kneighbors(queries, return_distance=False)[:, 0]]
    # Again from the cells: the search expands distances, and is short of levels.
    differences = np.where(is_level, rows != found, (rows - found) ** 2)
    differences = np.nan_to_num(differences, nan=1.0)
    differences[np.isnan(rows) & np.isnan(found)] = 0.0
    return np.asarray(differences.mean(1))


def _embedded(rows: Array, is_level: NDArray[np.bool_]) -> Array:
    """Points (n, k) whose squared distances are those of rows, or nearly.

    Levels beyond some number share coordinates. A missing number is in the middle, and
    has a coordinate of its own.
    """
    parts = []
    for x, level in zip(rows.T, is_level):
        missing = np.isnan(x)
        if level:
            codes = np.where(missing, LEVELS_OF_SEARCH, x % LEVELS_OF_SEARCH)
            parts.append((codes[:, None] == np.unique(codes)) / 2**0.5)
        else:
            places = np.where(missing, 0.5, x)
            parts.append(np.column_stack([places, missing * 0.75**0.5]))
    return np.hstack(parts)


def _memorisation(given: Comparison) -> Iterator[Row]:
    assert given.log_probs is not None
    real, _, holdout = given.with_levels(LEVELS_OF_TREES)
    log_prob = np.concatenate(given.log_probs)
    expected = cross_val_predict(
        HistGradientBoostingRegressor(
            categorical_features=given.is_level, random_state=given.seed
        ),
        _some_values(np.vstack([real, holdout])),
        log_prob,
        cv=KFold(FOLDS, shuffle=True, random_state=given.seed),
    )
    parts = np.split(log_prob - expected, [len(real)])
    (first, error), (second, other_error) = map(_mean_and_error, parts)
    error = math.hypot(error, other_error)
    yield Row("memorisation", None, None, first - second, error, 0.0)


MEASURES: dict[str, Callable[[Comparison], Iterator[Row]]] = {
    "column_shape": _column_shapes,
    "pair_trend": _pair_trends,
    "two_sample": _two_sample,
    "efficacy": _efficacy,
    "closest_record": _closest_records,
    "memorisation": _memorisation,
}
