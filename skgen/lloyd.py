"""Lloyd's algorithm: a hard E-step and an M-step, in matrix products."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
import torch
from sklearn.cluster import kmeans_plusplus
from sklearn.utils import check_array
from torch import Tensor

from skgen.engine import FixedPoint, Interrupted, Iterate, iterate_fixed_point
from skgen.matrices import nearest_of
from skgen.rows import CentredRows, chunk_rows
from skgen.tensors import to_array, to_tensor, wide_dtype


class Assignment(NamedTuple):
    """The nearest centre of each row, and the squared distance to it.

    Chunks write into it: where they are kept, they lie among the blocks of the work,
    which then come anew from the system for each chunk.
    """

    labels: Tensor  # (n,)
    distances: Tensor  # (n,)

    @classmethod
    def empty(cls, n: int, centres: Tensor) -> Self:
        """Make room for n rows."""
        labels = torch.empty(n, dtype=torch.long, device=centres.device)
        return cls(labels, centres.new_empty(n))

    def split(self, size: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return labels and distances in chunks."""
        return self.labels.split(size), self.distances.split(size)

    def inertia(self, weight: Tensor) -> float:
        """Weighted sum of the squared distances."""
        return float(weight @ self.distances)


def assign(rows: CentredRows, centres: Tensor) -> Assignment:
    """E-step: the nearest of the centres (K, d), which are seen from the rows' centre.

    The product decides which is nearest; the distance to it is summed directly, for
    nothing to cancel.
    """
    K, d = centres.shape
    found = Assignment.empty(len(rows.x), centres)
    size, nearest = chunk_rows(centres.device, K + d), nearest_of(centres)
    for (x, _), k, distance in zip(rows.chunks(size), *found.split(size)):
        k.copy_(nearest(x))
        torch.sum((x - centres[k]).square_(), 1, out=distance)
    return found


def measure(x: Tensor, centres: Tensor, labels: Tensor) -> Assignment:
    """Take labels as given: the squared distance of each row to its centre.

    Rows and centres are of one dtype, in which their difference is as good as they
    are, and the sum of its squares; sums of distances are wide.
    """
    size, wide = chunk_rows(x.device, x.shape[1]), wide_dtype(x.device)
    found = Assignment(labels, x.new_empty(len(x), dtype=wide))
    ones = x.new_ones(x.shape[1])  # a product adds up short rows faster than a sum
    for part, k, distance in zip(x.split(size), *found.split(size)):
        squares = centres.index_select(0, k).sub_(part).square_()
        distance.copy_(squares @ ones)
    return found


def update(rows: CentredRows, found: Assignment, centres: Tensor) -> Tensor:
    """M-step: the weighted mean of each centre's rows."""
    K, d = centres.shape
    weights, sums = centres.new_zeros(K), torch.zeros_like(centres)
    size = chunk_rows(centres.device, K + d)
    for (x, w), k in zip(rows.chunks(size), found.labels.split(size)):
        one_hot = x.new_zeros(len(x), K).scatter_(1, k[:, None], w[:, None])
        weights += one_hot.sum(0)
        sums += one_hot.T @ x
    _reseed(rows, found, weights, sums)
    means = sums / weights[:, None]
    # A centre that is still without rows goes where the largest one is.
    return torch.where(weights[:, None] > 0, means, means[weights.argmax()])


def _reseed(
    rows: CentredRows, found: Assignment, weights: Tensor, sums: Tensor
) -> None:
    """Give each centre without rows one of the rows that lie farthest out."""
    empty = (weights == 0).nonzero()[:, 0].tolist()
    if not empty or not found.distances.any():
        return
    farthest = found.distances.topk(len(empty)).indices
    for new, i in zip(empty, farthest):
        w, old = rows.weight[i], found.labels[i]
        part = w * (rows.x[i].to(sums) - rows.centre)
        sums[old], weights[old] = sums[old] - part, weights[old] - w
        sums[new], weights[new] = part, w


def lloyd(
    rows: CentredRows, centres: Tensor, *, max_iter: int, tol: float, verbose: int = 0
) -> FixedPoint[Tensor]:
    """Iterate both steps until the centres move by no more than ``tol``, squared."""

    def step(centres: Tensor) -> Iterate[Tensor]:
        found = assign(rows, centres)
        return Iterate(update(rows, found, centres), -found.inertia(rows.weight))

    def settled(previous: Iterate[Tensor], present: Iterate[Tensor]) -> bool:
        return bool(((present.state - previous.state) ** 2).sum() <= tol)

    def report(i: int, previous: Any, present: Iterate[Tensor]) -> bool:
        if verbose:  # in scikit-learn's words
            print(f"Iteration {i - 1}, inertia {-present.bound}.")
        return False

    start = Iterate(centres, -float("inf"))
    return iterate_fixed_point(
        step, start, max_iter=max_iter, settled=settled, on_end=report
    )


def variance_tolerance(rows: CentredRows, tol: float) -> float:
    """Turn a tolerance relative to the mean variance of the features absolute."""
    n, d = rows.x.shape
    mean = sum(w @ x for x, w in rows.chunks(chunk_rows(rows.x.device, d))) / n
    chunks = rows.chunks(chunk_rows(rows.x.device, d))
    total = sum(float((w @ (x - mean) ** 2).mean()) for x, w in chunks)
    return tol * total / n


def restarted_lloyd(
    rows: CentredRows,
    K: int,
    *,
    init: Any,
    n_init: int | str,
    max_iter: int,
    tol: float,
    rng: np.random.RandomState,
    verbose: int = 0,
    keeps_interrupted: bool = False,
) -> FixedPoint[Tensor]:
    """Run Lloyd's algorithm from several starts, and keep the tightest clusters.

    The parameters are those of `sklearn.cluster.KMeans`, and draw the same starts.
    With ``keeps_interrupted``, Ctrl-C ends the present start, and is the last.
    """
    if len(rows.x) < K:
        raise ValueError(f"n_samples={len(rows.x)} should be >= n_clusters={K}.")
    if n_init == "auto":
        n_init = 10 if callable(init) or _is(init, "random") else 1
    tol = variance_tolerance(rows, tol)
    runs = list[tuple[float, FixedPoint[Tensor]]]()
    for _ in range(int(n_init) if isinstance(init, str) or callable(init) else 1):
        centres = _start(rows, K, init, rng) - rows.centre
        try:
            run = lloyd(rows, centres, max_iter=max_iter, tol=tol, verbose=verbose)
        except Interrupted as cut:
            run = cut.so_far
            if not (keeps_interrupted and (runs or run.bounds)):
                raise
        runs.append((assign(rows, run.state).inertia(rows.weight), run))
        if run.stopped:
            break
    best = min(runs, key=lambda pair: pair[0])[1]
    return best._replace(stopped=run.stopped)


def _is(init: Any, name: str) -> bool:
    return isinstance(init, str) and init == name


def _start(rows: CentredRows, K: int, init: Any, rng: np.random.RandomState) -> Tensor:
    """Draw centres, or take those given, (K, d)."""
    X, weight = to_array(rows.x), to_array(rows.weight)
    if _is(init, "k-means++"):
        start, _ = kmeans_plusplus(X, K, sample_weight=weight, random_state=rng)
    elif isinstance(init, str):
        p = weight / weight.sum()
        start = X[rng.choice(len(X), size=K, replace=False, p=p)]
    else:
        start = init(X, K, random_state=rng) if callable(init) else init
    start = check_array(start, dtype=np.float64, input_name="init")
    if start.shape != (K, X.shape[1]):
        raise ValueError(
            f"The shape of the initial centers {start.shape} does not match "
            f"(n_clusters, n_features) = {(K, X.shape[1])}."
        )
    return to_tensor(start, rows.x.device).to(rows.centre)
