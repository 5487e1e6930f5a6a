"""Rows of a fit of several processes, of which each has some.

Numbers of rows are those among the rows of all processes, so that each draws the same
shuffles and noise that one process would, and takes what is of its own rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from skgen._training.data import (
    SAMPLE_ELEMENTS,
    Index,
    Map,
    Rows,
    StoredRows,
    WeightedRows,
    are_few,
    in_order,
)
from skgen._utils.chunks import slices
from skgen._utils.reduce import any_true, in_places, is_alone, span


@dataclass(frozen=True, eq=False)
class ShardedRows(WeightedRows):
    """Rows of all processes.

    Parameters
    ----------
    own : Rows or StoredRows
        The rows that are here.
    places : Tensor of shape (m,), or range
        Their numbers among all, on the device; a range where one follows the other.
    n : int
        Rows of all processes.
    out_of_core : bool, default=False
        Whether single rows are slow to read, in any process.
    """

    own: Any
    places: Tensor | range
    n: int
    out_of_core: bool = False

    is_sharded = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (n, ...) of the rows of all processes."""
        return (self.n, *self.own.shape[1:])

    @property
    def device(self) -> torch.device:
        """Return the device of the rows."""
        found: torch.device = self.own.device
        return found

    @property
    def dtype(self) -> torch.dtype:
        """Type of the numbers that are stored."""
        found: torch.dtype = self.own.dtype
        return found

    @property
    def is_kept(self) -> bool:
        """Return whether rows are in memory, as the networks see them."""
        return isinstance(self.own, Rows)

    @cached_property
    def home(self) -> Tensor:
        """Which of the rows here each of all rows is, (n,); -1 for those elsewhere."""
        found = torch.full((self.n,), -1, device=self.device)
        found[self.places] = torch.arange(len(self.own), device=self.device)
        return found

    def _at(self, index: Index) -> Tensor:
        """Return which of the rows here some rows are; -1 for those elsewhere."""
        if isinstance(index, slice):
            index = torch.arange(*index.indices(self.n))
        index = index.to(self.device)
        if isinstance(self.places, range):
            at = index - self.places.start
            return at.masked_fill_((at < 0) | (at >= len(self.places)), -1)
        return self.home[index]

    def with_weight(self, weight: Tensor | None) -> Self:
        """Give the rows that are here other weights."""
        return replace(self, own=replace(self.own, weight=weight))

    def take(self, index: Index) -> Self:
        """Select rows, of all processes."""
        if isinstance(index, Tensor) and self.out_of_core:
            index = in_order(index)
            if isinstance(self.places, range):
                return self._take_between(index, self.places)
        at = self._at(index)
        places = (at >= 0).nonzero()[:, 0]
        own = self.own.take(at[places])
        return replace(self, own=own, places=_as_range(places), n=len(at))

    def _take_between(self, index: Tensor, here: range) -> Self:
        """Select many rows, in order: those that are here follow each other."""
        ends = index.new_tensor([here.start, here.stop])
        first, last = torch.searchsorted(index, ends).tolist()
        own = self.own.take(index[first:last] - here.start)
        return replace(self, own=own, places=range(first, last), n=len(index))

    def gather(self, index: Index) -> Rows:
        """Select rows; in the place of those of other processes are zeros."""
        at = self._at(index)
        here = at >= 0
        own = self.own.gather(at[here])
        parts = (own.x, own.weight, own.context)
        x, weight, context = (_spread(part, here) for part in parts)
        return Rows(x, weight, context, here)

    def map(self, function: Map, size: int | None = None) -> Self:
        """Return what a function makes of the rows, ``size`` at a time."""
        return replace(self, own=self.own.map(function, size))

    def same_as(self, other: WeightedRows | None) -> bool:
        """Return whether others are the same rows."""
        return other is self

    def chunks(self, size: int | None = None) -> Iterator[Rows]:
        """Yield the rows that are here, ``size`` at a time."""
        found: Iterator[Rows] = self.own.chunks(size)
        return found

    def blocks(self) -> Iterator[Rows]:
        """Yield all rows in order, with zeros for those of other processes."""
        for part in slices(self.n, self._chunk_size):
            yield self.gather(part)

    @property
    def _chunk_size(self) -> int:
        return self.n if self.is_kept else int(self.own._chunk_size)

    @property
    def x(self) -> Tensor:
        """Rows of all processes, in memory."""
        return self.in_memory().x

    @property
    def weight(self) -> Tensor | None:  # type: ignore[override]
        """Weights of the rows that are here."""
        found: Tensor | None = self.own.weight
        return found

    @property
    def context(self) -> Tensor | None:  # type: ignore[override]
        """Context of the rows that are here."""
        found: Tensor | None = self.own.context
        return found

    def everywhere(self, index: Tensor) -> Rows:
        """Select rows, and have them in memory in all processes."""
        at = self._at(index)
        places = (at >= 0).nonzero()[:, 0]
        own = self.own.gather(at[places])
        parts = (own.x, own.weight, own.context)
        found: Any = (None if p is None else in_places(p, places) for p in parts)
        return Rows(*found)

    def in_memory(self) -> Rows:
        """Return the rows of all processes in memory."""
        return self.everywhere(torch.arange(self.n))

    def sample(self) -> Rows:
        """Return the rows that a start is computed from, in all processes."""
        if are_few(self.shape):
            return self.in_memory()
        return self.first(max(1, SAMPLE_ELEMENTS // self.own._row_elements))

    def first(self, n: int) -> Rows:
        """Return n rows that stand for all, in all processes."""
        if n >= self.n:
            return self.in_memory()
        index = torch.arange(n)
        return self.everywhere(index if self.is_kept else index * self.n // n)

    def kept(self) -> Self:
        """Return these rows in memory where all are few, or else as they are."""
        few = are_few(self.shape) and not self.is_kept
        return replace(self, own=self.own.in_memory()) if few else self

    def loaded(self) -> Self:
        """Return these rows where single ones are read fast."""
        if not self.out_of_core:
            return self
        return replace(self, own=self.own.loaded(), out_of_core=False)


# Rows of a fit, in one process or in several.
FitRows = StoredRows | ShardedRows


def in_shards(rows: StoredRows) -> FitRows:
    """Return rows of this process as some of those of all, where there are others."""
    if is_alone():
        return rows
    start, stop, n = span(len(rows))
    is_far = any_true(rows.out_of_core)
    return ShardedRows(rows, range(start, stop), n, out_of_core=is_far)


def _as_range(places: Tensor) -> Tensor | range:
    """Return places (m,) that rise as a range, where one follows the other."""
    if not len(places):
        return range(0)
    first, last = int(places[0]), int(places[-1])
    return range(first, last + 1) if last - first + 1 == len(places) else places


def _spread(values: Tensor | None, here: Tensor) -> Any:
    """Put rows where a mask (n,) is true, and zeros elsewhere; or None."""
    if values is None:
        return None
    found = values.new_zeros(len(here), *values.shape[1:])
    found[here] = values
    return found
