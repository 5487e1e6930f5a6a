"""Where EM begins: responsibilities drawn as scikit-learn draws them, or given values.

The random state is consumed in scikit-learn's order, so that the same seed gives the
same start, up to `MANY_ROWS` rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import joblib
import numpy as np
import torch
from sklearn.cluster import kmeans_plusplus
from sklearn.utils import check_array
from torch import Tensor

from skgen._em.lloyd import (
    assign,
    centred_array,
    find_clusters,
    is_plain,
    restarted_lloyd,
)
from skgen._em.matrices import Covariance
from skgen._utils.chunks import MANY_ROWS, CentredRows
from skgen._utils.sparse import on_host
from skgen._utils.tensors import to_array, to_tensor
from skgen._utils.threads import blas_threads_for


class Given(NamedTuple):
    """Parts of a start that the user gives."""

    weights: Tensor | None  # (K,)
    means: Tensor | None  # (K, d)
    precisions: Tensor | None  # by covariance type

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to draw."""
        return all(value is not None for value in self)


def check_given(
    weights: Any, means: Any, precisions: Any, kind: Covariance, name: str, like: Tensor
) -> Given:
    """Validate the start that a user gives, for means (K, d) ``like`` these."""
    K, d = like.shape
    given = Given(
        _array(weights, (K,), "weights"),
        _array(means, (K, d), "means"),
        _array(precisions, kind.shape(K, d), f"{name} precision"),
    )
    if given.weights is not None:
        _check_weights(given.weights)
    if given.precisions is not None:
        kind.check_precisions(given.precisions, name)
    return Given(*(None if value is None else value.to(like) for value in given))


def _array(value: Any, shape: tuple[int, ...], name: str) -> Tensor | None:
    if value is None:
        return None
    parameter = f"{name.split()[-1].removesuffix('s')}s_init"
    try:
        array = check_array(
            value, dtype=(np.float64, np.float32), ensure_2d=False, allow_nd=True
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"The {parameter!r} parameter must be an array of shape {shape}. {error}"
        ) from error
    if array.shape != shape:
        raise ValueError(
            f"The parameter '{name}' should have the shape of {shape}, but got "
            f"{array.shape}. Change {parameter}."
        )
    return to_tensor(array, torch.device("cpu"))


def _check_weights(weights: Tensor) -> None:
    low, high, total = (float(v) for v in (weights.min(), weights.max(), weights.sum()))
    if low < 0 or high > 1:
        # The two values stand the other way round in scikit-learn's message too.
        raise ValueError(
            "The parameter 'weights' should be in the range [0, 1], but got max value "
            f"{low:.5f}, min value {high:.5f}"
        )
    if abs(1 - total) > (1e-6 if weights.dtype == torch.float32 else 1e-8):
        raise ValueError(
            "The parameter 'weights' should be normalized, but got sum(weights) = "
            f"{total:.5f}"
        )


def draw_responsibilities(
    rows: CentredRows, K: int, method: str, rng: np.random.RandomState
) -> tuple[CentredRows, Tensor]:
    """Draw rows to begin with, and responsibilities (n, K) for them.

    These are all rows; or K that are picked, one per component.
    """
    n, x = len(rows.x), rows.x
    weight = to_array(rows.weight) if rows.is_weighted else None
    if method == "random":
        resp = rng.uniform(size=(n, K)).astype(on_host(x[:1]).dtype, copy=False)
        resp /= resp.sum(axis=1)[:, np.newaxis]
        return rows, to_tensor(resp, x.device)
    if method == "kmeans":
        labels = _kmeans_labels(rows, K, rng)
        return rows, x.new_zeros(n, K).scatter_(1, labels[:, None], 1)
    if method == "k-means++":
        X = on_host(x)
        X = X if is_plain(X) else centred_array(rows, np.float64)
        with blas_threads_for(0):
            _, picks = kmeans_plusplus(X, K, sample_weight=weight, random_state=rng)
    else:
        p = None if weight is None else weight / weight.sum()
        picks = rng.choice(n, size=K, replace=False, p=p)
    picked = rows.take(torch.as_tensor(picks, device=x.device))
    # A picked row counts once, whatever its weight.
    return picked, (1 / picked.weight).diag()


class _Drawn(NamedTuple):
    """Labels that were drawn of some rows, and the random state before and after."""

    rows: CentredRows
    K: int
    before: Any
    labels: Tensor
    after: Any

    def serves(self, rows: CentredRows, K: int, state: Any) -> bool:
        """Whether the same would be drawn."""
        same_state = joblib.hash(self.before) == joblib.hash(state)
        return self.K == K and same_state and self.rows.equal(rows)


# What was drawn inside a block of `drawn_once`.
_DRAWN: ContextVar[list[_Drawn] | None] = ContextVar("_DRAWN", default=None)


@contextmanager
def drawn_once() -> Iterator[None]:
    """Inside the block, draw labels once of the same rows under the same seed."""
    token = _DRAWN.set([])
    try:
        yield
    finally:
        _DRAWN.reset(token)


def draw_labels(
    rows: CentredRows, K: int, method: str, rng: np.random.RandomState
) -> Tensor:
    """Draw labels (n,): by K-means, or the nearest of rows that are picked."""
    if method == "kmeans":
        return _kmeans_labels(rows, K, rng)
    n, x = len(rows.x), rows.x
    weight = to_array(rows.weight) if rows.is_weighted else None
    if method == "k-means++":
        with blas_threads_for(0):
            found = kmeans_plusplus(
                to_array(x), K, sample_weight=weight, random_state=rng
            )
        picks = found[1]
    else:
        p = None if weight is None else weight / weight.sum()
        picks = rng.choice(n, size=K, replace=False, p=p)
    centres = x[torch.as_tensor(picks, device=x.device)]
    return assign(rows, centres).labels


def _kmeans_labels(rows: CentredRows, K: int, rng: np.random.RandomState) -> Tensor:
    """Cluster rows; or remember how, and leave ``rng`` where it would be."""
    known = _DRAWN.get()
    if known is None or len(rows.x) >= MANY_ROWS:  # some of many are not to be kept
        return _cluster(rows, K, rng)
    before = rng.get_state(legacy=False)
    drawn = next((each for each in known if each.serves(rows, K, before)), None)
    if drawn is None:
        labels = _cluster(rows, K, rng)
        drawn = _Drawn(rows, K, before, labels, rng.get_state(legacy=False))
        known.append(drawn)
    rng.set_state(drawn.after)
    return drawn.labels


def _cluster(rows: CentredRows, K: int, rng: np.random.RandomState) -> Tensor:
    if rows.x.device.type == "cpu":
        return find_clusters(rows, K, rng=rng).labels
    centres = restarted_lloyd(
        rows, K, init="k-means++", n_init=1, max_iter=300, tol=1e-4, rng=rng
    ).state
    return assign(rows, centres).labels
