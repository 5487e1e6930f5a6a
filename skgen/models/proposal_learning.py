"""Learning the posterior of rows with missing cells, once the density is learned.

Rows are drawn from the model itself with their codes, cells of them are hidden at
random, and the network learns to tell the code from the rest. The minimum is the
model's posterior given any subset of cells, however many cells the training rows had,
and learning it changes nothing of the density.

This is the sleep phase of Hinton, Dayan, Frey & Neal, "The wake-sleep algorithm for
unsupervised neural networks", Science 1995, with the masks of Strauss & Oliva,
"Posterior matching for arbitrary conditioning", NeurIPS 2022.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skgen._training.adam import StepRule
from skgen._training.batches import Batch
from skgen._training.data import Rows
from skgen._training.early_stopping import History
from skgen._training.loop import Training
from skgen._training.trainer import Trainer

# Steps at most, rows of a step, and steps between two looks at the learning rate.
MAX_STEPS, BATCH_ROWS, EPOCH_STEPS = 1500, 128, 16
RULE = StepRule(learning_rate=2e-3, schedule="cosine")


class ProposalTerms(NamedTuple):
    """Loss of each row, -log q(code | observed cells)."""

    loss: Tensor

    @property
    def watched(self) -> Tensor:
        """Quantity that the best epoch is chosen by."""
        return self.loss


def proposal_loss(model: Any, batch: Batch, annealing: float) -> ProposalTerms:
    """-log q of codes (1, n, ...), given rows (n, d) with missing cells."""
    codes = batch.draws
    return ProposalTerms(-model.proposed(batch).log_prob(codes)[0])


def hide_cells(x: Tensor, generator: torch.Generator) -> Tensor:
    """Hide cells of rows (n, d) at random: 1 to d of each row, all numbers alike."""
    n, d = x.shape
    uniform = torch.rand(n, d + 1, generator=generator, device=x.device)
    n_hidden = 1 + (uniform[:, :1] * d).long().clamp(max=d - 1)
    rank = uniform[:, 1:].argsort(-1).argsort(-1)
    return torch.where((rank < n_hidden) | ~x.isfinite(), torch.nan, x)


def learn_proposal(
    model: Any, n_steps: int, generator: torch.Generator
) -> Generator[Training, History, History]:
    """Fit the posterior of rows with missing cells of a model that is learned.

    Parameters
    ----------
    model : BoundedModel
        Its ``proposal`` is learned.
    n_steps : int
        Number of steps.
    generator : Generator
        Source of the draws.

    Yields
    ------
    training : Training
        Training of the proposal; its history is sent back.

    Returns
    -------
    history : History
        Its loss is the mean -log q(code | observed cells), in nats.
    """

    @torch.no_grad()
    def simulate(places: Tensor) -> tuple[Tensor, Tensor]:
        model.decoder.eval()  # while the proposal is trained, too
        codes = model.simulated_codes(len(places), generator)
        x = places.clone(memory_format=torch.contiguous_format)
        size = model.pass_rows
        for rows, part in zip(x.split(size), codes.split(size)):
            rows.copy_(model.likelihood.draw(model.outputs_of(part), generator))
        return hide_cells(x, generator), codes[None]

    n_epochs = math.ceil(n_steps / EPOCH_STEPS)
    n_rows = math.ceil(n_steps / n_epochs) * BATCH_ROWS
    d = len(model.standardizer.shift)
    # They hold nothing: a batch is drawn anew whatever is in it.
    places = torch.zeros(1, device=generator.device).expand(n_rows, d)
    model.proposal.requires_grad_(True)
    try:
        trainer = Trainer(
            model,
            proposal_loss,
            simulate,
            RULE,
            batch_size=BATCH_ROWS,
            generator=generator,
            part="proposal.",
        )
        history = yield Training(
            trainer, Rows(places, None), None, n_epochs, 0.0, n_epochs
        )
    finally:
        model.set_learns_incomplete(model.learns_incomplete)
    return history
