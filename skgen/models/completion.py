"""Rows that meet conditions, of models that fill in cells and score what is there."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from skgen._tables.conditions import Conditions
from skgen.exceptions import DegenerateWeightsWarning

Array = NDArray[np.float64]

# Candidates for a row, and in all, at most; and how many are drawn at a time.
MOST, AT_LEAST, AT_ONCE = 100, 2_000, 20_000


def draw_given(
    model: Any, conditions: Conditions, n: int, rng: np.random.RandomState, owner: str
) -> Array:
    """Draw rows (n, d) of a model, given what is known of them.

    Cells of known value are as they are, and the others are drawn given these by
    ``impute``; of several cases, one by its density. Of such draws those are kept
    that lie in the intervals, out of 100 for a row at most.

    Parameters
    ----------
    model : estimator
        It has ``impute``, ``sample``, and ``score_samples`` of rows with missing cells.
    conditions : Conditions
        What is known. Rows of a table are each completed n times, in their order.
    n : int
        Number of rows.
    rng : RandomState
        Source of the draws.
    owner : str
        Name of the estimator, for warnings and errors.
    """
    if conditions.are_values:
        return _completed(model, conditions.rows.repeat(n, axis=0), rng)
    n_drawn, n_found, parts = 0, 0, []
    for candidates in _candidates(model, conditions, n, rng):
        parts.append(candidates[_inside(candidates, conditions)])
        n_drawn, n_found = n_drawn + len(candidates), n_found + len(parts[-1])
        if n_found >= n:
            return np.concatenate(parts)[:n]
    if not n_found:
        raise ValueError(
            f"'given' of {owner} has no mass that was found: none of {n_drawn} draws "
            "meets its intervals. Widen them, or give values."
        )
    warnings.warn(
        f"{owner}.sample: the {n} rows stand for {n_found} draws only, since few "
        "candidates meet the intervals of 'given'. Widen them, or give values.",
        DegenerateWeightsWarning,
        stacklevel=4,
    )
    return np.concatenate(parts)[rng.randint(n_found, size=n)]


def _candidates(
    model: Any, conditions: Conditions, n: int, rng: np.random.RandomState
) -> Iterator[Array]:
    """Yield draws of which intervals are not asked, until there were enough."""
    rows, left = conditions.rows, max(MOST * n, AT_LEAST)
    p = softmax(_log_masses(model, rows))
    size = n
    while left > 0:
        case = rng.choice(len(rows), min(size, left), p=p)
        yield _completed(model, rows[case], rng)
        left -= size
        size = min(max(n, 2 * size), AT_ONCE)


def _log_masses(model: Any, rows: Array) -> Array:
    """Return log p of what is known in each case (C, d), up to a constant."""
    if len(rows) == 1:
        return np.zeros(1)
    scores: Array = np.asarray(model.score_samples(rows), dtype=np.float64)
    return scores


def _completed(model: Any, rows: Array, rng: np.random.RandomState) -> Array:
    """Draw the cells of rows (n, d) that are not known."""
    if np.isnan(rows).all():
        return np.asarray(model.sample(len(rows), rng), dtype=np.float64)
    return np.asarray(model.impute(rows, noise=True, random_state=rng), np.float64)


def _inside(rows: Array, conditions: Conditions) -> NDArray[np.bool_]:
    """Return which rows (n, d) lie in the intervals."""
    inside = np.ones(len(rows), dtype=bool)
    for column, (low, high) in conditions.intervals.items():
        inside &= (rows[:, column] >= low) & (rows[:, column] <= high)
    return inside
