"""Batches of rows: with what their loss needs, in random order, or held out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skgen._training.data import Rows, WeightedRows, prefetch
from skgen._utils.chunks import slices
from skgen._utils.reduce import Share
from skgen._utils.tensors import make_generator

# Numbers of the rows that are gathered at a time, for as many batches as they make.
BLOCK_ELEMENTS = 2**18

# Gives rows (n, ...) as they are observed, and the noise (S, n, ...) of their loss.
Observe = Callable[[Tensor], tuple[Tensor, Tensor | None]]


class Batch(NamedTuple):
    """Rows, and all that a model and its loss read beside them.

    A missing cell is NaN in ``x``. C models that are trained at once have a dimension
    more, before the rows: x is (C, b, ...), noise (S, C, b, ...).
    """

    x: Tensor  # (b, ...), as they are observed
    noise: Tensor | None = None  # (S, b, ...)
    weight: Tensor | None = None  # (b,)
    context: Tensor | None = None  # (b, m), what the model is conditioned on
    share: Any = None  # a Share of a larger batch, where other processes have the rest

    @property
    def n_draws(self) -> int:
        """Draws of a code for each row."""
        return 1 if self.noise is None else len(self.noise)

    @property
    def draws(self) -> Tensor:
        """Noise of a loss that needs some."""
        assert self.noise is not None
        return self.noise

    def part(self, index: Tensor | slice) -> Batch:
        """Select rows."""
        return Batch(
            self.x[index],
            None if self.noise is None else self.noise[:, index],
            None if self.weight is None else self.weight[index],
            None if self.context is None else self.context[index],
        )

    def share_of(self, here: Tensor | None) -> Batch:
        """Select the rows that a mask (b,) says are here, of those of all processes."""
        if here is None:
            return self
        places = here.nonzero()[:, 0]
        return self.part(places)._replace(share=Share(places, len(here)))

    def split(self, sizes: int | list[int]) -> Iterator[Batch]:
        """Yield parts of given sizes, or of one size and a rest."""
        # In one call a tensor: small steps spend most of their time between operations.
        x = self.x.split(sizes)
        nothing = [None] * len(x)
        yield from map(
            Batch,
            x,
            nothing if self.noise is None else self.noise.split(sizes, dim=1),
            nothing if self.weight is None else self.weight.split(sizes),
            nothing if self.context is None else self.context.split(sizes),
        )


def auto_batch_size(n_rows: int) -> int:
    """Return a batch size that gives a small set some ten steps per epoch."""
    return min(max(n_rows // 10, 16), 128)


def observed(rows: Rows, observe: Observe) -> Batch:
    """Return rows in memory as a batch."""
    return Batch(*observe(rows.x), rows.weight, rows.context)


def shuffled_batches(
    rows: WeightedRows, observe: Observe, size: int, generator: torch.Generator
) -> Iterator[tuple[float, Batch]]:
    """Yield batches in random order, each with the part of the epoch that it ends.

    Of all rows, or of one window of them after another.
    """
    windows = rows.windows(generator)
    for i, window in enumerate(prefetch(type(rows).loaded, windows)):
        for part, batch in _shuffled(window, observe, size, generator):
            yield (i + part) / len(windows), batch


def _shuffled(
    rows: WeightedRows, observe: Observe, size: int, generator: torch.Generator
) -> Iterator[tuple[float, Batch]]:
    """Yield batches of rows that are read fast; several are gathered at a time."""
    n = len(rows)
    order = torch.randperm(n, generator=generator, device=rows.device)
    n_batches = math.ceil(n / size)
    # Nearly equal sizes: no last batch of one row.
    sizes = [n // n_batches + (i < n % n_batches) for i in range(n_batches)]
    at_once = max(1, BLOCK_ELEMENTS // (sizes[0] * math.prod(rows.shape[1:])))
    done = 0
    for first in range(0, n_batches, at_once):
        cuts = sizes[first : first + at_once]
        block = rows.gather(order[done : done + sum(cuts)])
        masks = [None] * len(cuts) if block.here is None else block.here.split(cuts)
        batches = zip(observed(block, observe).split(cuts), masks)
        for i, (batch, here) in enumerate(batches, first + 1):
            yield i / n_batches, batch.share_of(here)
        done += sum(cuts)


class HeldOut:
    """Held-out rows, under draws that are the same whenever they are evaluated.

    What is drawn for rows in memory is kept; for others, it is drawn again.

    Parameters
    ----------
    rows : WeightedRows
        Rows.
    observe : callable
        Gives rows as they are observed, and the noise of their loss.
    generator : Generator
        What ``observe`` draws from.
    """

    def __init__(
        self, rows: WeightedRows, observe: Observe, generator: torch.Generator
    ) -> None:
        self.rows, self.observe, self.generator = rows, observe, generator
        self.kept: Sequence[Batch] = ()
        if rows.is_kept:
            self.kept = [self._observed(block) for block in rows.blocks()]
        else:
            device = generator.device
            seed = torch.randint(2**31 - 1, (), generator=generator, device=device)
            self.state = make_generator(int(seed), device).get_state()

    def blocks(self) -> Iterator[Batch]:
        """Yield the rows in order, as many as are read at a time."""
        if self.kept:
            yield from self.kept
            return
        now = self.generator.get_state()
        self.generator.set_state(self.state)
        try:
            for chunk in self.rows.blocks():
                yield self._observed(chunk)
        finally:
            self.generator.set_state(now)

    def batches(self, n_draws: int) -> Iterator[Batch]:
        """Yield the rows in order, as many as make up a number of draws."""
        for block in self.blocks():
            n = max(1, len(block.x))  # of no rows, one part
            for part in slices(n, n_draws // block.n_draws + 1):
                yield block.part(part)

    def _observed(self, block: Rows) -> Batch:
        return observed(block, self.observe).share_of(block.here)
