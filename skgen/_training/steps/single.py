"""Steps of one module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from skgen._training.batches import Batch
from skgen._training.contracts import Terms
from skgen._training.steps.captured import Captured
from skgen._training.steps.compiled import Compiled
from skgen._training.steps.eager import Eager, Problem, Step
from skgen._training.trainer import Trainer
from skgen._utils.threads import threads_for

EXECUTIONS: dict[str, Callable[[Problem], Step]] = {
    "eager": Eager,
    "compiled": Compiled,
    "captured": Captured,
}


class Single:
    """Way to train one module: eager, compiled, or as a CUDA graph.

    Tensors have a first dimension of one. They are views, so that it costs nothing.
    """

    def __init__(self, trainers: Sequence[Trainer], groups: Sequence[slice]) -> None:
        (self.trainer,) = trainers
        self.model = module = self.trainer.module
        self.optimizers = [(slice(0, 1), self.trainer.optimizer)]
        self.learned = [p.detach()[None] for p in self.trainer.learned]
        rule = self.trainer.rule
        problem = Problem(
            module,
            self.trainer.objective,
            self.trainer.optimizer,
            list(self.trainer.paces),
            rule.max_grad_norm,
            self.trainer.cache_key,
        )
        self.run_step = EXECUTIONS[rule.execution](problem)
        # A compiled step has their number inside.
        self.steady = rule.execution != "eager"

    @property
    def weights(self) -> list[Tensor]:
        """Parameters (1, ...)."""
        return [p.detach()[None] for p in self.model.parameters()]

    @property
    def kept(self) -> list[Tensor]:
        """Parameters, and buffers such as running averages, (1, ...)."""
        return [*self.weights, *(b.detach()[None] for b in self.model.buffers())]

    def train(self, mode: bool) -> None:
        """Set the mode of layers such as dropout."""
        self.model.train(mode)

    def joined(self, batches: Sequence[Batch], which: Tensor) -> Batch:
        """Return the one batch that there is."""
        return batches[0]

    def step(self, batch: Batch, annealing: Any) -> Terms:
        """Take a step, and return the terms of the rows before it."""
        with self._threads_for(batch, steady=self.steady):
            return self.run_step(batch, annealing)

    def terms(self, batch: Batch) -> Terms:
        """Return the terms of rows, at the end of a warm-up."""
        with self._threads_for(batch):
            return self.trainer.objective(self.model, batch, 1.0)

    def _threads_for(
        self, batch: Batch, steady: bool = False
    ) -> AbstractContextManager[None]:
        """Run on the threads that a batch is worth."""
        work = batch.n_draws * len(batch.x) * self.trainer.row_work
        return threads_for(work, steady=steady)

    def select(
        self, kept: Tensor, trainers: Sequence[Trainer], groups: Sequence[slice]
    ) -> None:
        """Go on with the one module."""

    @torch.no_grad()
    def restore(self, i: int, values: Sequence[Tensor]) -> None:
        """Put what was ``kept`` back."""
        for tensor, value in zip(self.kept, values):
            tensor[0].copy_(value)
