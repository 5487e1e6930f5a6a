"""Maps one after the other, and side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skgen._tables.frames import numbered_frame
from skgen.bijections.generic import Array, inverse, log_det, log_slopes
from skgen.bijections.levels import MissingLevel


class Pushed(NamedTuple):
    """Rows behind a chain of maps, and what the maps do to a density."""

    rows: Any  # (m, k), those at which all maps are invertible
    log_det: Array  # (n,), -inf for the others
    lost_at: list[Any]  # the maps at which they were lost


def active(steps: Sequence[tuple[str, Any]]) -> list[Any]:
    """Return the transformers of named steps, without those that pass rows through."""
    return [step for _, step in steps if not (step is None or isinstance(step, str))]


def push_forward(steps: Sequence[Any], X: Any) -> Pushed:
    """Map rows (n, d) through a chain, and add up the log-determinants."""
    total, kept = np.zeros(len(X)), np.arange(len(X))
    lost_at = []
    for step in steps:
        terms = np.broadcast_to(log_det_of_complete(step, X), kept.shape)
        inside = np.isfinite(terms)
        total[kept] += np.where(inside, terms, -np.inf)
        if not inside.all():
            X, kept = _take(X, np.flatnonzero(inside)), kept[inside]
            lost_at.append(step)
        if not len(kept):  # transformers want rows
            break
        X = step.transform(X)
    return Pushed(X, total, lost_at)


def log_det_of_complete(step: Any, X: Any) -> Any:
    """Return the log-determinant at rows, which for most maps must miss no cell.

    Raises
    ------
    ValueError
        If numbers are missing, and the map does not say itself what that means.
    """
    if not isinstance(step, (ColumnTransformer, Pipeline, SimpleImputer)):
        cells = np.asarray(X)
        if cells.dtype.kind == "f" and np.isnan(cells).any():
            raise ValueError(
                "Input X contains NaN, and the log-determinant of "
                f"{type(step).__name__} is that of complete rows. Models by "
                "themselves, without earlier steps, score what was observed of a row."
            )
    return log_det(step, X)


def pull_back(steps: Sequence[Any], Z: Any) -> Array:
    """Map rows back through a chain; what cannot come back is not finite."""
    rows = np.asarray(Z)
    lost = np.zeros(len(rows), dtype=bool)
    for step in reversed(steps):
        lost |= ~come_back(rows)
        # Transformers refuse NaN: zeros stand in for what is lost.
        kept = np.where(lost[:, None], 0, rows) if lost.any() else rows
        rows = np.asarray(inverse(step, _as_fitted(step, kept)))
    return np.where(lost[:, None], np.nan, rows) if lost.any() else rows


def come_back(rows: Array) -> NDArray[np.bool_]:
    """Return which rows (n, d) have no number that is not finite."""
    if rows.dtype != object:
        return np.asarray(np.isfinite(rows).all(axis=1))
    cells = [
        [not isinstance(cell, float) or _is_there(cell) for cell in row] for row in rows
    ]
    return np.asarray(np.array(cells, dtype=bool).all(axis=1))


def _is_there(cell: float) -> bool:
    return math.isfinite(cell) or isinstance(cell, MissingLevel)


def _as_fitted(step: Any, rows: Array) -> Any:
    """Return rows as a DataFrame for a function that was fitted on one.

    Other transformers take arrays.
    """
    is_function = isinstance(step, FunctionTransformer) and not step.validate
    if not is_function or not hasattr(step, "feature_names_in_"):
        return rows
    is_named = step.feature_names_out is not None
    names = step.get_feature_names_out() if is_named else step.feature_names_in_
    if len(names) != rows.shape[1]:
        return rows
    frame = numbered_frame(rows, list(names))
    return rows if frame is None else frame


def _take(X: Any, rows: Any = slice(None), columns: Any = slice(None)) -> Any:
    """Return rows and columns of an array or a DataFrame, by position."""
    return (X.iloc if hasattr(X, "iloc") else X)[rows, columns]


@log_det.register(Pipeline)
def _chained(step: Pipeline, X: Any) -> Array:
    return push_forward(active(step.steps), X).log_det


@log_slopes.register(Pipeline)
def _chained_slopes(step: Pipeline, X: Any) -> Array:
    return push_cells(active(step.steps), X)


def push_cells(steps: Sequence[Any], X: Any) -> Array:
    """Return log-slopes (n, d) of a chain of maps of columns by themselves."""
    found = np.zeros(np.shape(X))
    for step in steps:
        found = found + log_slopes(step, X)
        X = step.transform(X)
    return found


@inverse.register(str)
@inverse.register(type(None))
def _passed_back(step: Any, Z: Any) -> Any:
    return Z


@inverse.register(Pipeline)
def _chain_back(step: Pipeline, Z: Any) -> Any:
    return pull_back(active(step.steps), Z)


# A transformer by columns: maps side by side.


class _Part(NamedTuple):
    """One transformer of several that stand side by side."""

    step: Any
    inputs: Array  # columns that it takes
    outputs: slice  # columns that it gives


def _parts(step: ColumnTransformer) -> list[_Part]:
    """Return the transformers that stand side by side, when no column is lost."""
    parts = [
        # The positions have no public name.
        _Part(part, np.array(step._transformer_to_input_indices[name], dtype=int), out)
        for name, part, _ in step.transformers_
        if (out := step.output_indices_[name]).stop > out.start
    ]
    _check_disjoint(step, parts)
    return parts


def _check_disjoint(step: Any, parts: list[_Part]) -> None:
    """Raise a ValueError unless each column goes to one transformer, unweighted."""
    used = [column for part in parts for column in part.inputs]
    wrong = np.flatnonzero(np.bincount(used, minlength=step.n_features_in_) != 1)
    if len(wrong):
        names = getattr(step, "feature_names_in_", np.arange(step.n_features_in_))
        raise ValueError(
            f"ColumnTransformer drops or repeats the columns {names[wrong].tolist()}, "
            "so that it has no inverse. Give each column to one transformer, and the "
            "others to remainder='passthrough'."
        )
    if step.transformer_weights:
        raise ValueError(
            f"ColumnTransformer with transformer_weights={step.transformer_weights!r} "
            "has no known inverse. Use transformer_weights=None, and scale in the "
            "transformers."
        )


def _as_seen_in_fit(step: ColumnTransformer, X: Any) -> Any:
    """Return rows with columns in the order of the fit: it selects them by name."""
    if hasattr(X, "columns") and hasattr(step, "feature_names_in_"):
        return X[list(step.feature_names_in_)]
    return X


@log_det.register(ColumnTransformer)
def _columns(step: ColumnTransformer, X: Any) -> Any:
    X = _as_seen_in_fit(step, X)
    return sum(
        log_det_of_complete(part.step, _take(X, columns=part.inputs))
        for part in _parts(step)
    )


@log_slopes.register(ColumnTransformer)
def _slopes_by_columns(step: ColumnTransformer, X: Any) -> Array:
    X = _as_seen_in_fit(step, X)
    found = np.zeros(np.shape(X))
    for part in _parts(step):
        found[:, part.inputs] = log_slopes(part.step, _take(X, columns=part.inputs))
    return found


@inverse.register(ColumnTransformer)
def _columns_back(step: Any, Z: Any) -> Array:
    Z = np.asarray(Z)
    parts = _parts(step)
    back = [
        np.asarray(inverse(part.step, _as_fitted(part.step, Z[:, part.outputs])))
        for part in parts
    ]
    numeric = all(cells.dtype.kind in "biuf" for cells in back)
    X = np.empty((len(Z), step.n_features_in_), dtype=Z.dtype if numeric else object)
    for part, cells in zip(parts, back):
        X[:, part.inputs] = cells
    return X
