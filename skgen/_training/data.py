"""Rows of a fit: in memory as the networks see them, or where they are stored.

Up to a size rows are standardised once, and kept. Larger ones stay in the array of the
user, a memory map for instance: parts of them are an index, and a block is gathered,
moved to the device and standardised when it is used.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from skgen._utils.chunks import slices
from skgen._utils.pages import select
from skgen._utils.sparse import SparseRows, dense, equal
from skgen._utils.threads import threads_for

# Rows over which the mean of a loss with one draw per row is steady enough.
ENOUGH_ROWS = 1024
# Numbers up to which rows are kept as the networks see them: a quarter of a gigabyte.
KEPT_ELEMENTS = 2**26
# Numbers of larger sets: those that a start is computed from, and those that a pass
# over all rows takes at a time.
SAMPLE_ELEMENTS, CHUNK_ELEMENTS = 2**24, 2**22
# Rows that are far from the device are read in pieces of about a megabyte, in random
# order; rows are shuffled within a window of many pieces.
PIECE_ELEMENTS, WINDOW_PIECES = 2**18, 64


Index = Tensor | slice
Map = Callable[[Tensor], Tensor]


def are_few(shape: tuple[int, ...]) -> bool:
    """Whether rows (n, ...) are so few that they are kept in memory."""
    return math.prod(shape) <= KEPT_ELEMENTS


class WeightedRows(ABC):
    """Rows (n, ...), their weights (n,) in float64, and their context (n, m), or None.

    In ``fit``, weights have a mean of one.
    """

    weight: Tensor | None
    context: Tensor | None
    #: Whether single rows are slow to read: on a disk, or on the other side of a bus.
    out_of_core = False
    #: Whether other processes have some of the rows.
    is_sharded = False

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape (n, ...) of the rows."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where rows are given out."""

    @abstractmethod
    def take(self, index: Index) -> Self:
        """Select rows."""

    @abstractmethod
    def gather(self, index: Index) -> Rows:
        """Select rows, and have them in memory."""

    @abstractmethod
    def map(self, function: Map, size: int | None = None) -> Self:
        """Return what a function makes of the rows, ``size`` at a time."""

    @abstractmethod
    def same_as(self, other: WeightedRows | None) -> bool:
        """Whether others are the same rows."""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def is_kept(self) -> bool:
        """Return whether rows are in memory, as the networks see them."""
        return False

    def chunks(self, size: int | None = None) -> Iterator[Rows]:
        """Yield all rows in order, ``size`` at a time; of no rows, one part."""
        n = max(1, len(self))
        for part in slices(n, size or self._chunk_size):
            yield self.gather(part)

    def blocks(self) -> Iterator[Rows]:
        """Yield all rows in order, as many as are read at a time."""
        return self.chunks()

    @property
    def _chunk_size(self) -> int:
        return max(1, len(self))

    @property
    def _row_elements(self) -> int:
        """Numbers of a row."""
        return math.prod(self.shape[1:])

    def _rows_of(self, n_elements: int) -> int:
        """Rows that make up a number of numbers."""
        return max(1, n_elements // self._row_elements)

    def in_memory(self) -> Rows:
        """Return all rows in memory."""
        return self.gather(slice(None))

    def sample(self) -> Rows:
        """Return the rows that a start is computed from: all, where they are few."""
        return self.in_memory()

    def first(self, n: int) -> Rows:
        """Return n rows that stand for all."""
        return self.gather(slice(n))

    def windows(self, generator: torch.Generator) -> Sequence[Self]:
        """Part the rows into sets, in random order, each to be shuffled as a whole.

        Where they are far, a set is of pieces.
        """
        if not self.out_of_core:
            return [self]
        n_pieces = math.ceil(len(self) / self._rows_of(PIECE_ELEMENTS))
        order = torch.randperm(n_pieces, generator=generator, device=generator.device)
        groups = order.cpu().tensor_split(math.ceil(n_pieces / WINDOW_PIECES))
        return Windows(self, n_pieces, groups)

    def loaded(self) -> Self:
        """Return these rows where single ones are read fast."""
        return self

    def mean(self, values: Tensor) -> Tensor:
        """Weighted mean over the rows of values (n, ...)."""
        if self.weight is None:
            return values.mean(0)
        weight = self.weight / self.weight.sum()
        found: Tensor = torch.tensordot(weight, values.to(weight.dtype), 1)
        return found

    def repeated(self) -> Self:
        """Repeat a small set, so that a mean over it is one over several draws."""
        copies = math.ceil(ENOUGH_ROWS / len(self))
        if copies == 1:
            return self
        return self.take(torch.arange(len(self)).repeat(copies))


class Windows(Sequence[Any]):
    """Sets of pieces of rows, each made when it is asked for.

    All together would be an index of all rows.

    Parameters
    ----------
    rows : WeightedRows
        The rows.
    n_pieces : int
        Number of pieces that they are cut into.
    groups : sequence of Tensor
        Numbers of the pieces of each set.
    """

    def __init__(
        self, rows: WeightedRows, n_pieces: int, groups: Sequence[Tensor]
    ) -> None:
        self.rows, self.n_pieces, self.groups = rows, n_pieces, groups

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, i: Any) -> Any:
        pieces = [self._piece(int(k)) for k in self.groups[i]]
        return self.rows.take(torch.cat(pieces))

    def _piece(self, k: int) -> Tensor:
        """Return the numbers of the rows of a piece; the first ones have one more."""
        size, more = divmod(len(self.rows), self.n_pieces)
        start = k * size + min(k, more)
        return torch.arange(start, start + size + (k < more))


@dataclass(frozen=True, eq=False)
class Rows(WeightedRows):
    """Rows (n, ...) in memory, their weights (n,) and their context (n, m), or None.

    Where other processes have some of them, ``here`` (n,) says which are not theirs.
    """

    x: Tensor
    weight: Tensor | None = None
    context: Tensor | None = None
    here: Tensor | None = None

    @property
    def is_kept(self) -> bool:
        """Return whether rows are in memory, as the networks see them."""
        return True

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (n, ...) of the rows."""
        return tuple(self.x.shape)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.x.device

    def take(self, index: Index) -> Rows:
        """Select rows."""
        return Rows(*(_taken(t, index) for t in (self.x, self.weight, self.context)))

    gather = take

    def map(self, function: Map, size: int | None = None) -> Rows:
        """Return what a function makes of the rows, ``size`` at a time."""
        if size is None:
            return replace(self, x=function(self.x))
        return replace(self, x=torch.cat([function(x) for x in self.x.split(size)]))

    def same_as(self, other: WeightedRows | None) -> bool:
        """Whether others are the same rows."""
        return (
            isinstance(other, Rows)
            and _same(self.x, other.x)
            and _same(self.weight, other.weight)
            and _same(self.context, other.context)
        )


@dataclass(frozen=True, eq=False)
class StoredRows(WeightedRows):
    """Rows where they are stored, with what is made of a block that is used.

    Parameters
    ----------
    store : Tensor or SparseRows of shape (N, d)
        Where the rows are: on the host, or on the device.
    weight : Tensor of shape (n,) or None
        Weights, on the device.
    onto : torch.device
        The device: where rows are given out.
    out_of_core : bool, default=False
        Whether single rows are slow to read: on a disk, or on the other side of a bus.
    index : Tensor of shape (n,), default=None
        Which of the stored rows these are, beside ``store``. None: all of them. Where
        the store is far, they are in the order in which they are stored.
    maps : tuple of callable, default=()
        What is made of a block (b, d) on the device, one after the other.
    context : Tensor of shape (n, m), default=None
        Context of the rows, on the device.
    """

    store: Tensor | SparseRows
    weight: Tensor | None
    onto: torch.device
    out_of_core: bool = False
    index: Tensor | None = None
    maps: tuple[Map, ...] = ()
    context: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (n, d) of the rows as they are stored."""
        n = len(self.store) if self.index is None else len(self.index)
        return (n, *self.store.shape[1:])

    @property
    def device(self) -> torch.device:
        """Where rows are given out."""
        return self.onto

    @property
    def dtype(self) -> torch.dtype:
        """Type of the numbers that are stored."""
        return self.store.dtype

    @property
    def x(self) -> Tensor:
        """All rows in memory."""
        return self.in_memory().x

    def take(self, index: Index) -> StoredRows:
        """Select rows, as an index."""
        if isinstance(index, Tensor) and self.out_of_core:
            index = in_order(index)
        return replace(
            self,
            index=self._places(index),
            weight=_taken(self.weight, index),
            context=_taken(self.context, index),
        )

    def gather(self, index: Index) -> Rows:
        """Select rows, and have them in memory as the maps make them."""
        x = self._read(index)
        with torch.no_grad():
            for function in self.maps:
                x = function(x)
        return Rows(x, _taken(self.weight, index), _taken(self.context, index))

    def map(self, function: Map, size: int | None = None) -> StoredRows:
        """Return what a function is to make of the rows, a block at a time."""
        return replace(self, maps=(*self.maps, function))

    def with_weight(self, weight: Tensor | None) -> StoredRows:
        """Give the rows other weights."""
        return replace(self, weight=weight)

    def kept(self) -> WeightedRows:
        """Return these rows in memory where they are few, or else as they are."""
        return self.in_memory() if self._are_few else self

    def in_memory(self) -> Rows:
        """Return all rows in memory, a chunk of them after the other."""
        if self.index is None and not self.maps:
            return self.gather(slice(None))
        if not len(self):
            return self.gather(slice(None))
        x: Any = None
        for start, chunk in zip(range(0, len(self), self._chunk_size), self.chunks()):
            if x is None:
                x = chunk.x.new_empty(len(self), *chunk.x.shape[1:])
            x[start : start + len(chunk)] = chunk.x
        return Rows(x, self.weight, self.context)

    def sample(self) -> Rows:
        """Return the rows that a start is computed from: all, where they are few."""
        if self._are_few:
            return self.in_memory()
        is_sparse = isinstance(self.store, SparseRows)
        most = CHUNK_ELEMENTS if is_sparse else SAMPLE_ELEMENTS
        return self.first(self._rows_of(most))

    def first(self, n: int) -> Rows:
        """Return n rows, spread evenly: their order may mean something."""
        if n >= len(self):
            return self.in_memory()
        return self.gather(torch.arange(n) * len(self) // n)

    def loaded(self) -> StoredRows:
        """Return these rows where single ones are read fast: on the device."""
        if not self.out_of_core:
            return self
        return replace(
            self, store=self._read(slice(None)), index=None, out_of_core=False
        )

    def same_as(self, other: WeightedRows | None) -> bool:
        """Whether others are the same rows, under the same maps."""
        return (
            isinstance(other, StoredRows)
            and self.maps == other.maps
            and _same(self.store, other.store)
            and _same(self.index, other.index)
            and _same(self.weight, other.weight)
            and _same(self.context, other.context)
        )

    @property
    def _are_few(self) -> bool:
        """Return whether rows are kept in memory: sparse ones in one chunk."""
        if isinstance(self.store, SparseRows):
            return math.prod(self.shape) <= CHUNK_ELEMENTS
        return are_few(self.shape)

    @property
    def _chunk_size(self) -> int:
        return self._rows_of(CHUNK_ELEMENTS)

    def _places(self, index: Index) -> Any:
        """Where in the store some of these rows are."""
        if isinstance(index, Tensor):
            index = index.to(self.store.device)
        if self.index is not None:
            return self.index[index]
        if isinstance(index, Tensor):
            return index
        first, last, step = index.indices(len(self.store))
        return torch.arange(first, last, step, device=self.store.device)

    def _read(self, index: Index) -> Tensor:
        """Bring rows as they are stored (b, d) to the device."""
        whole = self.index is None and isinstance(index, slice)
        x: Tensor = dense(_taken(self.store, index if whole else self._places(index)))
        if x.device.type == self.onto.type:
            return x
        staged = x.pin_memory() if self.onto.type == "cuda" else x
        return staged.to(self.onto, non_blocking=True)


def _taken(values: Any, index: Index) -> Any:
    """Select of tensors, or of None, along their first dimension."""
    if values is None:
        return None
    return values[index] if isinstance(index, slice) else select(values, index)


def in_order(index: Tensor) -> Tensor:
    """Return the numbers of rows in rising order; torch would say their ranks, too."""
    return torch.from_numpy(np.sort(index.cpu().numpy())).to(index.device)


def shuffled(n: int, rng: np.random.RandomState) -> Tensor:
    """Return n rows in random order; of 32 bits where that will do."""
    order = np.arange(n, dtype=np.int32 if n < 2**31 else np.int64)
    rng.shuffle(order)
    return torch.from_numpy(order)


def _same(one: Tensor | SparseRows | None, other: Tensor | SparseRows | None) -> bool:
    """Whether two tensors are equal; those that share memory are not read."""
    if one is None or other is None:
        return one is other
    if isinstance(one, SparseRows) or isinstance(other, SparseRows):
        return equal(one, other)
    layouts = [(t.data_ptr(), t.shape, t.stride(), t.dtype) for t in (one, other)]
    return layouts[0] == layouts[1] or torch.equal(one, other)


Item = TypeVar("Item")
Made = TypeVar("Made")


def prefetch(make: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Yield what is made of each item; the next is made while one is in use."""
    rest = iter(items)

    def alone(item: Item) -> Made:
        with threads_for():
            return make(item)

    made = make(next(rest))
    with ThreadPoolExecutor(1) as pool:  # of which a thread is born at the first task
        for item in rest:
            coming = pool.submit(alone, item)
            yield made
            made = coming.result()
    yield made
