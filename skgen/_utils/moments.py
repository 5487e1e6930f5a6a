"""Weight, mean and scatter of rows, summed in chunks and in float64."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from skgen._utils.chunks import CentredRows, chunk_rows
from skgen._utils.reduce import alone, from_first, is_alone, objects, total
from skgen._utils.threads import threads_for


class Moments(NamedTuple):
    """Total weight, mean and scatter of rows, centred so that nothing cancels."""

    weight: Tensor  # ()
    mean: Tensor  # (d,)
    # (d, d); or a factor A (k, d) with k < d, where the scatter is A^T A; or its
    # diagonal (d,) alone.
    scatter: Tensor

    @classmethod
    def of(cls, x: Tensor, weight: Tensor | None, *, full: bool) -> Moments:
        """Sum over rows (n, d) with weights (n,), in chunks, in the wide dtype."""
        rows = CentredRows.of(x, weight)
        if not full or rows.n_rows > x.shape[1]:
            return cls._of_many(rows, full)
        rows = rows.everywhere()
        found = from_first(lambda: cls._of_few(rows))
        return cls(*(part.to(rows.centre) for part in found))

    @classmethod
    def _of_many(cls, rows: CentredRows, full: bool) -> Moments:
        """Sum with a scatter that is a matrix, or its diagonal."""
        rows = rows.at_mean()
        size = chunk_rows(rows.x.device, rows.x.shape[1])
        n_sums = len(rows.centre) ** 2 if full else len(rows.centre)
        with threads_for(min(size, len(rows.x)) * n_sums):
            scatter = sum(
                (_scatter(c, w, full) for c, w in rows.chunks(size)),
                start=torch.zeros_like(rows.centre[0]),
            )
        return cls(rows.total_weight, rows.centre, total(scatter))

    @classmethod
    def _of_few(cls, rows: CentredRows) -> Moments:
        """Sum with a factor of the scatter."""
        rows = rows.at_mean()
        return cls(rows.total_weight, rows.centre, _scatter_factor(rows))

    @classmethod
    def of_parts(cls, parts: Iterable[tuple[Tensor, Tensor | None]]) -> Moments:
        """Sum over rows and weights that come in parts; the diagonal is kept."""
        with alone():
            found = reduce(cls.merge, (cls.of(*part, full=False) for part in parts))
        if is_alone():
            return found
        each = objects(cls(*(part.cpu() for part in found)))
        known = (cls(*(part.to(found.mean) for part in m)) for m in each if m.weight)
        return reduce(cls.merge, known)

    def merge(self, other: Moments) -> Moments:
        """Moments of the rows of both (Chan, Golub & LeVeque 1983)."""
        total = self.weight + other.weight
        shift = other.mean - self.mean
        share = other.weight / total
        between = (self.weight * share).sqrt() * shift[None]  # (1, d), a factor
        mean = self.mean + shift * share
        return Moments(total, mean, _sum_scatters(self.scatter, other.scatter, between))

    def scaled(self, factor: float) -> Moments:
        """Return the moments of rows with weights multiplied by a factor."""
        by = math.sqrt(factor) if self.is_factor else factor
        return Moments(self.weight * factor, self.mean, self.scatter * by)

    @property
    def is_factor(self) -> bool:
        """Return whether the scatter is kept as a factor."""
        return _is_factor(self.scatter)

    @property
    def variance(self) -> Tensor:
        """Variance of each column, (d,)."""
        if self.scatter.ndim == 1:
            return self.scatter / self.weight
        if self.is_factor:
            return (self.scatter**2).sum(0) / self.weight
        return self.scatter.diagonal() / self.weight


def _is_factor(scatter: Tensor) -> bool:
    return scatter.ndim == 2 and len(scatter) < scatter.shape[1]


def _scatter(centred: Tensor, weight: Tensor, full: bool) -> Tensor:
    """Sum over rows of w c c^T, (d, d), or its diagonal, (d,)."""
    return centred.T @ (weight[:, None] * centred) if full else weight @ centred**2


def _scatter_factor(rows: CentredRows) -> Tensor:
    """Return A (n - 1, d) with A^T A the scatter of n rows seen from their mean.

    The rows times the roots of their weights are orthogonal to those roots: reflected
    so that the roots become the first unit vector, they have a first row of zeros.
    """
    kept = rows.weight > 0
    root = rows.weight[kept].sqrt()
    centred = root[:, None] * (rows.x[kept].to(root.dtype) - rows.centre)
    v = root / root.norm()
    v[0] += 1  # the roots are positive, so that nothing cancels
    found: Tensor = (centred - torch.outer(v, v @ centred) / v[0])[1:]
    return found


def _sum_scatters(*scatters: Tensor) -> Tensor:
    """Add scatters: stack their factors while these have fewer rows than columns."""
    if scatters[0].ndim == 1:
        return scatters[0] + scatters[1] + scatters[2][0] ** 2
    if sum(map(len, scatters)) < scatters[0].shape[1]:
        return torch.cat(scatters)
    matrices = (a.T @ a if _is_factor(a) else a for a in scatters)
    return sum(matrices, start=scatters[0].new_zeros(()))
