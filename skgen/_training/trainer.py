"""How a module is trained."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from skgen._training.adam import Adam, StepRule, paces
from skgen._training.batches import Batch, HeldOut, Observe, shuffled_batches
from skgen._training.contracts import Objective
from skgen._training.data import WeightedRows


class Update(Protocol):
    """Update without a gradient, after a step: a named tuple of constants."""

    @property
    def changes(self) -> tuple[str, ...]:
        """Names of the buffers that are changed."""

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw the noise of an update."""

    def __call__(self, model: Any, terms: Any, batch: Batch, noise: Tensor) -> None:
        """Update a model by the terms of a step's rows, its batch."""


class Trainer:
    """Adam over shuffled batches of rows, for one module.

    Parameters
    ----------
    module : Module
        Trained in place.
    objective : callable
        ``objective(module, batch, annealing)`` gives the terms of each row.
    observe : callable
        ``observe(x)`` gives what the loss takes of rows (n, ...): the rows, or a draw
        of them, and noise (S, n, ...) or None.
    rule : StepRule
        How to step.
    batch_size : int
        Rows of a batch, at most.
    generator : Generator
        Shuffles, on the device of the rows.
    rates : dict of str to float, default=None
        Multiples of the step size for parameters, by name.
    warm_up : int, default=0
        Epochs over which ``annealing`` rises from 0 to 1. What is watched on held-out
        rows is always at 1, and patience waits for the end of the warm-up.
    held_out_chunk : int, default=8192
        Draws for rows that one evaluation of the held-out loss takes at a time.
    update : Update, optional
        Changes what has no gradient, after each step.
    part : str, default=""
        Prefix of the names of the parameters to train.
    cache_key : Hashable or None, default=None
        Equal for modules of one structure that compute the same function; None
        where that is not known.
    row_work : int, default=None
        Multiplications that a row takes; None: as many as parameters are learned.
    """

    def __init__(
        self,
        module: nn.Module,
        objective: Objective,
        observe: Observe,
        rule: StepRule,
        *,
        batch_size: int,
        generator: torch.Generator,
        rates: dict[str, float] | None = None,
        warm_up: int = 0,
        held_out_chunk: int = 8192,
        update: Update | None = None,
        part: str = "",
        cache_key: Hashable | None = None,
        row_work: int | None = None,
    ) -> None:
        self.module, self.objective, self.observe = module, objective, observe
        self.rule, self.update, self.cache_key = rule, update, cache_key
        self.batch_size, self.generator, self.warm_up = batch_size, generator, warm_up
        self.held_out_chunk = held_out_chunk
        self.rates = rates or {}
        self.n_epochs = 0  # so far, of which the warm-up is a part
        self.paces = paces(module, rule, self.rates, part)
        named = dict(module.named_parameters())
        self.learned = [named[name] for name in self.paces]
        self.optimizer = Adam(self.learned, self.paces.values())
        self.row_work = row_work or sum(p.numel() for p in self.learned)

    def batches(self, rows: WeightedRows) -> Iterator[tuple[float, Batch]]:
        """Yield shuffled batches, each with the part of the epoch that it ends."""
        return shuffled_batches(rows, self.observe, self.batch_size, self.generator)

    def held_out(self, rows: WeightedRows) -> HeldOut:
        """Return rows that are held out, under draws of their own."""
        return HeldOut(rows, self.observe, self.generator)

    def annealing(self, part: float) -> float:
        """Part of the warm-up that is over after a part of this epoch."""
        return min(1.0, (self.n_epochs + part) / self.warm_up) if self.warm_up else 1.0
