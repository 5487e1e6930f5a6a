"""Lloyd's algorithm: a hard E-step and an M-step, in matrix products."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from skgen._covariance import squared_distances
from skgen._rows import CentredRows, chunk_rows
from skgen.fixed_point import FixedPoint, Iterate, iterate_fixed_point


class Assignment(NamedTuple):
    """The nearest centre of each row, and the squared distance to it."""

    labels: Tensor  # (n,)
    distances: Tensor  # (n,)

    def inertia(self, weight: Tensor) -> Tensor:
        """Weighted sum of the squared distances."""
        return weight @ self.distances


def assign(rows: CentredRows, centres: Tensor) -> Assignment:
    """E-step: the nearest of the centres (K, d), which are seen from the rows' centre.

    The product decides which is nearest; the distance to it is summed directly, for
    nothing to cancel.
    """
    K, d = centres.shape
    labels, distances = [], []
    for x, _ in rows.chunks(chunk_rows(centres.device, K + d)):
        nearest = squared_distances(centres, x).argmin(0)
        labels.append(nearest)
        distances.append(((x - centres[nearest]) ** 2).sum(1))
    return Assignment(torch.cat(labels), torch.cat(distances))


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
    rows: CentredRows, centres: Tensor, *, max_iter: int, tol: float
) -> FixedPoint[Tensor]:
    """Iterate both steps until the centres move by no more than ``tol``, squared."""

    def step(centres: Tensor) -> Iterate[Tensor]:
        found = assign(rows, centres)
        return Iterate(update(rows, found, centres), -float(found.inertia(rows.weight)))

    def settled(previous: Iterate[Tensor], present: Iterate[Tensor]) -> bool:
        return bool(((present.state - previous.state) ** 2).sum() <= tol)

    start = Iterate(centres, -float("inf"))
    return iterate_fixed_point(step, start, max_iter=max_iter, settled=settled)


def variance_tolerance(rows: CentredRows, tol: float) -> float:
    """Turn a tolerance relative to the mean variance of the features absolute."""
    n, d = rows.x.shape
    mean = sum(w @ x for x, w in rows.chunks(chunk_rows(rows.x.device, d))) / n
    chunks = rows.chunks(chunk_rows(rows.x.device, d))
    total = sum(float((w @ (x - mean) ** 2).mean()) for x, w in chunks)
    return tol * total / n
