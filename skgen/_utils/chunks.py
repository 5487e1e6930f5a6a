"""Weighted rows, given out in chunks that are centred and wide.

What sums over rows of any dtype takes them from here: minus a centre, so that
nothing cancels far from zero, and in float64 where the device has it, a chunk at a
time, so that no second copy of the data is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
import torch
from sklearn.utils.random import sample_without_replacement
from torch import Tensor

from skgen._utils.reduce import (
    any_true,
    count,
    gathered,
    is_alone,
    mean,
    rows_at,
    total,
    totals,
)
from skgen._utils.sparse import equal
from skgen._utils.tensors import wide_dtype

# Numbers that a chunk's largest intermediate may hold. On a CPU it should stay in
# the cache; elsewhere a launch should have enough to do.
CPU_CHUNK, DEVICE_CHUNK = 3 * 2**16, 2**24
# Rows, and numbers, above which a start is sought on some. K-means would copy all rows,
# and responsibilities (n, K) may be larger than they.
MANY_ROWS, MANY_ELEMENTS = 2**20, 2**24
# Numbers of these, 64 MiB in float64, and rows that they are of at least.
START_ELEMENTS, START_ROWS = 2**23, 2**16


def chunk_rows(device: torch.device, row_elements: int) -> int:
    """Rows of a chunk whose intermediates hold ``row_elements`` numbers per row."""
    elements = CPU_CHUNK if device.type == "cpu" else DEVICE_CHUNK
    return max(1, elements // row_elements)


def rows_of_start(n: int, d: int) -> int:
    """Return on how many of n rows of d numbers a start is sought."""
    if n <= MANY_ROWS and n * d <= MANY_ELEMENTS:
        return n
    return min(n, MANY_ROWS, max(START_ROWS, START_ELEMENTS // d))


def slices(n: int, size: int) -> Iterator[slice]:
    """Cut n rows into parts: scikit-learn's ``gen_batches`` without its checks.

    The checks take a tenth of the time in which one row is scored.
    """
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


class CentredRows(NamedTuple):
    """Rows (n, d), their weights (n,), and the centre (d,) they are seen from.

    Of a fit of several processes they are those of this one; numbers and moments are
    those of the rows of all.
    """

    x: Tensor
    weight: Tensor
    centre: Tensor

    @classmethod
    def of(cls, x: Tensor, weight: Tensor | None, centre: Tensor | None = None) -> Self:
        """See rows from a centre, or their mean; without weights, each counts one."""
        wide = wide_dtype(x.device)
        if weight is None:
            weight = torch.ones((), dtype=wide, device=x.device).expand(len(x))
        weight = weight.to(wide)
        if centre is None:
            centre = _mean(x, weight)
        return cls(x, weight, centre.to(wide))

    def normalise_weights(self) -> Self:
        """Leave rows of weight zero out, and divide weights by their mean."""
        if not self.is_weighted:
            return self._replace(weight=self.weight.new_ones(()).expand(len(self.x)))
        rows = self
        if any_true(not self.weight.all()):
            kept = self.weight > 0
            rows = type(self).of(self.x[kept], self.weight[kept])
        return rows._replace(weight=rows.weight / mean(rows.weight))

    @property
    def is_weighted(self) -> bool:
        """Whether weights differ."""
        return _differ(self.weight)

    @property
    def n_rows(self) -> int:
        """Number of rows of all processes."""
        return count(len(self.x))

    @property
    def total_weight(self) -> Tensor:
        """Sum of the weights, ()."""
        return total(self.weight.sum())

    def equal(self, other: CentredRows) -> bool:
        """Whether rows, weights and centre are the same, in the same place."""
        kinds = ((rows.x.device, rows.x.dtype) for rows in (self, other))
        return len({*kinds}) == 1 and all(map(equal, self, other))

    def uncentred(self) -> Self:
        """See the same rows from the origin."""
        return self._replace(centre=torch.zeros_like(self.centre))

    def with_rounded_centre(self, variance: Tensor) -> Self:
        """Round the centre to a sixteenth of a standard deviation, or less.

        Differences to a centre of few binary digits are exact more often.
        """
        step = (variance.sqrt() / 16).log2().floor().exp2()
        rounded = (self.centre / step).round() * step
        return self._replace(centre=rounded.where(rounded.isfinite(), self.centre))

    def sampled(self, rng: np.random.RandomState) -> Self:
        """Return rows of all processes that a start is sought on: of many, some."""
        n = self.n_rows
        some = rows_of_start(n, self.x.shape[1])
        if some < n:
            # In order, and without a permutation of n numbers.
            index = sample_without_replacement(n, some, random_state=rng)
            at = torch.as_tensor(index).sort().values.to(self.x.device)
            x, weight = rows_at(self.x, at), rows_at(self.weight, at)
            return self._replace(x=x, weight=weight)
        return self.everywhere()

    def everywhere(self) -> Self:
        """Return the rows of all processes."""
        if is_alone():
            return self
        return self._replace(x=gathered(self.x), weight=gathered(self.weight))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the weighted mean and variance of each column, (d,) and (d,)."""
        sums = [torch.zeros_like(self.centre)] * 2
        is_weighted = self.is_weighted or not len(self.x)
        for x, weight in self.chunks(chunk_rows(self.x.device, self.x.shape[1])):
            for power in range(2):
                each = weight @ x if is_weighted else x.sum(0) * weight[0]
                sums[power] = sums[power] + each
                x.square_()
        *both, weight = totals(*sums, self.weight.sum())
        first, second = (each / weight for each in both)
        return self.centre + first, (second - first * first).clamp(min=0)

    def at_mean(self) -> Self:
        """See the rows from their mean, to the last digit."""
        size = chunk_rows(self.x.device, self.x.shape[1])
        shift = torch.as_tensor(sum(w @ c for c, w in self.chunks(size)))
        return self._replace(centre=self.centre + total(shift) / self.total_weight)

    def at_least_one(self) -> Self:
        """Return the rows, or where there are none one of no weight."""
        if len(self.x):
            return self
        x = self.centre[None].to(self.x.dtype)
        return self._replace(x=x, weight=torch.zeros_like(self.centre[:1]))

    def take(self, index: Tensor) -> Self:
        """Select rows, seen from the same centre."""
        return self._replace(x=self.x[index], weight=self.weight[index])

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield centred rows and their weights."""
        for x, weight in zip(self.x.split(size), self.weight.split(size)):
            yield x.to(self.centre.dtype) - self.centre, weight


def _differ(weight: Tensor) -> bool:
    """Return whether weights differ."""
    is_one = weight.stride() == (0,)
    if is_alone():
        return not is_one and bool((weight != weight[:1]).any())
    return any_true(not is_one and bool((weight != 1).any()))


def _mean(x: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of rows, in the dtype of the weights, (d,)."""
    # In chunks: a mean in another dtype would be one of a copy.
    chunks = x.split(chunk_rows(x.device, x.shape[1]))
    if not _differ(weight):
        found = sum(chunk.sum(0, dtype=weight.dtype) for chunk in chunks)
        return total(torch.as_tensor(found)) / count(len(x))
    shares = (weight / total(weight.sum())).split(max(1, len(chunks[0])))
    found = sum(w @ c.to(w.dtype) for w, c in zip(shares, chunks))
    return total(torch.as_tensor(found))
