"""Learning p(k), once the codebook is trained.

Few rows over-fit a prior over tokens, so the rows that trained neither the codebook
nor the prior decide three things: when the prior's network stops, how it is mixed with
unigrams, and the temperature of the posterior that the bound draws from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from skgen._training.adam import StepRule
from skgen._training.batches import Batch
from skgen._training.data import WeightedRows
from skgen._training.early_stopping import History
from skgen._training.loop import Report, Training
from skgen._training.trainer import Trainer
from skgen._utils.reduce import largest, total
from skgen._utils.tensors import wide_dtype
from skgen._utils.threads import threads_for

if TYPE_CHECKING:
    from skgen.models.vqvae import VectorQuantizedAutoencoder

# Range of temperatures, as powers of 2 of the mean squared quantisation error, and how
# well the best power is to be known.
TEMPERATURE_POWERS, POWER_TOLERANCE = (-5.0, 6.0), 0.25
# Rows and draws that a temperature is tried on; fewer rows where they have many tokens
# of many codes, or many levels.
TEMPERATURE_ROWS, TEMPERATURE_DRAWS, TEMPERATURE_ELEMENTS = (32, 128), 32, 2**25
# Weights of the network against the unigrams that are tried.
MIXING_WEIGHTS = np.linspace(0, 1, 41)
MIXING_ROWS, MIXING_DRAWS = 1024, 8
# What remains of the counts of earlier rows when more come: the codes have moved.
COUNT_DECAY = 0.9


class PriorTerms(NamedTuple):
    """Loss of each row, -log p(k)."""

    loss: Tensor

    @property
    def watched(self) -> Tensor:
        """Held-out quantity of early stopping."""
        return self.loss


def prior_loss(model: Any, batch: Batch, annealing: float) -> PriorTerms:
    """-log p(k) of encoded rows (n, T, c), their tokens assigned afresh at each step.

    The bound scores such tokens, and their noise keeps the prior from over-fitting.
    """
    context = () if batch.context is None else (batch.context,)
    return PriorTerms(-model.token_log_prob(batch.x, batch.noise, *context))


def learn_prior(
    model: VectorQuantizedAutoencoder,
    train: WeightedRows,
    held_out: WeightedRows | None,
    generator: torch.Generator,
    rule: StepRule,
    *,
    max_iter: int,
    tol: float,
    patience: int,
    keep_counts: bool,
    batch_size: int,
    report: Report | None = None,
    cache_key: Hashable | None = None,
) -> Generator[Training, History, tuple[History, Tensor]]:
    """Fit the prior of a token model, and the temperature of its posterior.

    Parameters
    ----------
    model : VectorQuantizedAutoencoder
        Its ``prior`` and ``temperature`` are set.
    train, held_out : WeightedRows
        Standardised rows (n, d). Without held-out rows the prior stays as it is mixed.
    generator : Generator
        Source of the draws.
    rule, max_iter, tol, patience, batch_size
        Settings of the descent.
    keep_counts : bool
        Whether the unigram counts of earlier rows stay, in part.
    report : callable, optional
        Called with the means of each epoch.
    cache_key : Hashable or None, default=None
        Equal for models whose priors may be trained as one.

    Yields
    ------
    training : Training
        Training of the prior; its history is sent back.

    Returns
    -------
    history : History
        Its loss is the mean -log p(k) of training rows, in nats.
    usage : Tensor of shape (K,)
        Part of the training rows' tokens that each code has.
    """
    prior, judges = model.prior, train if held_out is None else held_out
    with torch.no_grad():
        z_train, z_judges = encoded(model, train), encoded(model, judges)
        counts = token_counts(model, z_train, model.nearest_one_hot)
        if not (keep_counts and prior.counts.any()):
            # A temperature needs a prior, and soft counts need a temperature.
            prior.mixing.zero_()
            prior.counts.copy_(counts)
            with prior.without_network():
                choose_temperature(model, judges, generator)
            prior.counts.zero_()
        prior.counts *= COUNT_DECAY
        prior.counts += token_counts(model, z_train, model.expected_one_hot)
    history = yield Training(
        prior_descent(model, batch_size, rule, generator, cache_key),
        z_train,
        None if held_out is None else z_judges.repeated(),
        max_iter,
        tol,
        patience,
        report,
    )
    with torch.no_grad():
        if held_out is not None:
            choose_mixing(model, z_judges, generator)
        choose_temperature(model, judges, generator)
    return history, model.usage_of(counts)


def encoded(model: VectorQuantizedAutoencoder, rows: WeightedRows) -> WeightedRows:
    """Encode rows (n, d) to vectors (n, T, c): at once, or when they are used."""

    def vectors(x: Tensor) -> Tensor:
        model.encoder.eval()  # while the prior is trained, too
        with threads_for(len(x) * model.row_work):
            return model.encoded(Batch(x))

    return rows.map(vectors, model.pass_rows)


def token_counts(
    model: VectorQuantizedAutoencoder,
    z_e: WeightedRows,
    one_hot: Callable[[Tensor], Tensor],
) -> Tensor:
    """Sum the weight of each code at each place, (T, K), over encoded rows.

    In units of the largest weight, which may underflow in the dtype of the rows.
    """
    counts = torch.zeros_like(model.prior.counts)
    unit = 1.0
    if z_e.weight is not None:
        unit = largest(float(z_e.weight.max()) if len(z_e.weight) else 0.0)
    for part in z_e.chunks(model.pass_rows):
        weight = part.x.new_ones(len(part))
        if part.weight is not None:
            weight = (part.weight / unit).to(weight)
        # A row whose squares overflow has no posterior, and counts for nothing.
        tokens = one_hot(part.x).nan_to_num(0.0)
        counts += torch.einsum("n,ntk->tk", weight, tokens)
    return total(counts).to(wide_dtype(counts.device)) * unit


def token_usage(model: VectorQuantizedAutoencoder, z_e: WeightedRows) -> Tensor:
    """Return the part (K,) of the tokens of encoded rows that each code has."""
    with torch.no_grad():
        return model.usage_of(token_counts(model, z_e, model.nearest_one_hot))


def choose_temperature(
    model: VectorQuantizedAutoencoder, rows: WeightedRows, generator: torch.Generator
) -> None:
    """Set tau to what gives rows (n, d) the best importance-weighted bound."""
    fewest, most = TEMPERATURE_ROWS
    size = max(model.prior.counts.numel(), model.row_elements)
    n_rows = TEMPERATURE_ELEMENTS // (TEMPERATURE_DRAWS * size)
    tried = rows.first(min(max(n_rows, fewest), most))
    noise = model.standard_noise((TEMPERATURE_DRAWS, len(tried)), generator)
    batch = Batch(tried.x, noise, context=tried.context)
    scale = model.error_scale(batch)

    def gap(power: float) -> float:
        model.temperature.copy_(scale * 2.0**power)
        with threads_for(noise[..., 0].numel() * model.row_work):
            bound = model.bound(batch)
        return -float(bound.nanmean().nan_to_num(-math.inf))

    best = minimize_scalar(
        gap, bounds=TEMPERATURE_POWERS, options={"xatol": POWER_TOLERANCE}
    )
    model.temperature.copy_(scale * 2.0**best.x)


def prior_descent(
    model: VectorQuantizedAutoencoder,
    batch_size: int,
    rule: StepRule,
    generator: torch.Generator,
    cache_key: Hashable | None,
) -> Trainer:
    """Descend -log p(k) over encoded rows, at the rate that the prior asks for."""
    rate = model.prior.learning_rate(rule.learning_rate)
    rule = rule._replace(learning_rate=rate)
    return Trainer(
        model,
        prior_loss,
        lambda z_e: (z_e, model.standard_noise((1, len(z_e)), generator)),
        rule,
        batch_size=batch_size,
        generator=generator,
        held_out_chunk=model.pass_rows,
        part="prior.",
        cache_key=cache_key,
        row_work=model.prior.row_work,
    )


def choose_mixing(
    model: VectorQuantizedAutoencoder, z_e: WeightedRows, generator: torch.Generator
) -> None:
    """Set the weight of the network against the unigrams, from held-out rows."""
    z_e = z_e.first(MIXING_ROWS)
    noise = model.standard_noise((MIXING_DRAWS, len(z_e.x)), generator)
    with threads_for(MIXING_DRAWS * len(z_e.x) * model.prior.row_work):
        log_network, log_unigrams = model.token_log_probs(z_e.x, noise, z_e.context)
    candidates, values = torch.from_numpy(MIXING_WEIGHTS).to(log_network), []
    for weight in candidates:
        model.prior.mixing.copy_(weight)
        log_prob = model.prior.mixed(log_network, log_unigrams).sum(-1).mean(0)
        values.append(z_e.mean(log_prob))
    model.prior.mixing.copy_(candidates[torch.stack(values).argmax()])
