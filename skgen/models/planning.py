"""Planning the training of networks: batches, patience, weights, what is held out."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from skgen._training.adam import StepRule
from skgen._training.batches import auto_batch_size
from skgen._training.data import StoredRows, WeightedRows
from skgen._training.shards import FitRows
from skgen._training.trainer import Trainer
from skgen._utils.reduce import gathered, mean
from skgen._utils.tensors import wide_dtype
from skgen.models.evaluation import BoundedModel
from skgen.models.proposal_learning import MAX_STEPS, learn_proposal
from skgen.models.reporting import warn_of_end

if TYPE_CHECKING:
    from skgen.models.neural import TrainedModel

# Largest weight of a row in `partial_fit`, relative to the mean of the first rows: a
# squared gradient stays in the range of float32.
MOST_WEIGHT = 2.0**24
# Patience where none is given: an epoch over few rows has too few steps to tell.
PATIENCE_EPOCHS, PATIENCE_STEPS = 10, 300
# How messages name the run that learns the posterior of incomplete rows.
PROPOSAL = ", posterior of rows with missing cells"


class TrainingPlan:
    """How a model is trained on n rows, by its parameters.

    Parameters
    ----------
    model : TrainedModel
        The model.
    n_rows : int
        Rows to train on.
    incremental : bool, default=False
        Whether a ``partial_fit`` takes one epoch.
    """

    def __init__(
        self, model: TrainedModel, n_rows: int, *, incremental: bool = False
    ) -> None:
        self.model, self.n_rows, self.incremental = model, n_rows, incremental
        size = model.batch_size
        self.batch_size = auto_batch_size(n_rows) if isinstance(size, str) else size
        self.n_batches = math.ceil(n_rows / self.batch_size)
        self.max_iter = 1 if incremental else model.max_iter

    def epochs(self, n_steps: int) -> int:
        """Epochs that make up a number of steps."""
        return math.ceil(n_steps / self.n_batches)

    @property
    def patience(self) -> int:
        """Epochs without improvement that end a fit."""
        if isinstance(self.model.n_iter_no_change, str):
            return max(PATIENCE_EPOCHS, self.epochs(PATIENCE_STEPS))
        return self.model.n_iter_no_change

    @property
    def rule(self) -> StepRule:
        """How Adam steps."""
        model = self.model
        return StepRule(
            model.learning_rate_init,
            model.learning_rate,
            model.weight_decay,
            model.max_grad_norm,
            model.weight_averaging,
            model.execution,
            model._beta1,
        )

    def trainer(self, generator: torch.Generator) -> Trainer:
        """Return what trains the module of the model."""
        model, module = self.model, self.model.module_
        module.precision = model.precision
        trainer = Trainer(
            module,
            model._objective,
            lambda x: (
                module.observe(x, generator),
                model._noise(module, len(x), generator),
            ),
            self.rule,
            batch_size=self.batch_size,
            generator=generator,
            rates=model._rates,
            warm_up=model._warm_up(self),
            held_out_chunk=module.pass_rows,
            update=model._update,
            # What trains models as one knows no other posterior than the encoder's.
            cache_key=None if module.learns_incomplete else model._cache_key,
            row_work=module.row_work,
        )
        trainer.n_epochs = model.n_iter_  # so that a warm-up goes on where it was
        return trainer

    def learn_proposal(self, generator: torch.Generator) -> Generator[Any, Any, None]:
        """Learn the posterior of rows with missing cells, where they are allowed.

        In as many steps as the networks may take, up to a number that is enough.
        """
        module = self.model.module_
        if module.proposal is None:
            return
        n_steps = min(self.n_batches * self.max_iter, MAX_STEPS)
        history = yield from learn_proposal(module, n_steps, generator)
        if history.status == "diverged":
            warn_of_end(self.model, history, PROPOSAL)


def as_seen(
    module: BoundedModel, train: FitRows, held_out: FitRows | None
) -> tuple[WeightedRows, WeightedRows | None]:
    """Rows as the networks see them; the likelihood takes notice of them all."""
    seen = [
        module.standardizer.rows(part).kept()
        for part in (train, held_out)
        if part is not None
    ]
    if train.is_sharded:
        module.likelihood.see_rows([_extremes(part) for part in seen])
    else:
        chunks = chain.from_iterable(part.chunks() for part in seen)
        module.likelihood.see_rows(chunk.x for chunk in chunks)
    return seen[0], seen[1] if held_out is not None else None


def as_observed(
    module: BoundedModel, rows: WeightedRows, generator: torch.Generator
) -> WeightedRows:
    """Return rows as the likelihood observes them."""
    if not module.likelihood.draws_rows:
        return rows
    return rows.map(partial(module.observe, generator=generator))


def _extremes(rows: WeightedRows) -> Tensor:
    """Return rows of the least and of the largest cells of the columns, (m, d).

    Two of each chunk of any process: they contradict what any of its rows does.
    """
    # As lists: small tensors, made between chunks, would keep the allocator from using
    # the memory of these again.
    ends: list[list[float]] = []
    for x in (chunk.x for chunk in rows.chunks()):
        if len(x):
            ends.append(torch.where(x.isnan(), torch.inf, x).amin(0).tolist())
            ends.append(torch.where(x.isnan(), -torch.inf, x).amax(0).tolist())
    found = x.new_tensor(ends) if ends else x[:0]
    return gathered(torch.where(found.isinf(), torch.nan, found))


def mean_weight(rows: FitRows) -> float:
    """Return the mean of the weights of rows."""
    return 1.0 if rows.weight is None else float(mean(rows.weight))


def relative(rows: FitRows) -> FitRows:
    """Divide weights by their mean."""
    if rows.weight is None:
        return rows
    return rows.with_weight(rows.weight / mean(rows.weight))


def in_unit(rows: StoredRows, unit: float) -> StoredRows:
    """Divide weights by a unit: the mean of those of the first fit."""
    if rows.weight is None and unit == 1:
        return rows
    weight = rows.weight
    if weight is None:
        weight = torch.ones(len(rows), dtype=wide_dtype(rows.device))
    weight = (weight.to(rows.device) / unit).clamp(max=MOST_WEIGHT)
    return replace(rows, weight=weight)


def of_positive_weight(x: StoredRows, weight: Tensor | None) -> StoredRows:
    """Select the rows of positive weight: others must not move a start."""
    if weight is None:
        return x
    kept = weight > 0
    if not kept.all():
        x, weight = x.take(kept.nonzero().squeeze(1)), weight[kept]
    return replace(x, weight=weight)
