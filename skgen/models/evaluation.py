"""Bounds on log p(x) from the encoder: the score, and the careful estimate."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skgen._networks.dense import Layers, PassSize, Standardizer
from skgen._training.batches import Batch
from skgen._utils.chunks import chunk_rows
from skgen._utils.tensors import make_generator
from skgen.exceptions import DegenerateWeightsWarning
from skgen.likelihoods import Likelihood
from skgen.objectives import importance_weighted_bound, log_weights

N_BLOCKS = 256
# Draws that a missing cell is imputed from; fewer, but as many as scores take, where
# a row of outputs is so wide that they would hold more numbers.
IMPUTE_DRAWS, IMPUTE_ELEMENTS = 512, 2**22
# Effective sample size below which an estimate of log p(x) is not to be trusted, and
# number of draws from which on a warning says so: fewer are a rough estimate anyway.
FEWEST_EFFECTIVE, MANY_DRAWS = 2, 500
# Numbers that one pass of a fit over rows, without gradients, may hold at a time.
PASS_ELEMENTS = 2**22

# In what networks multiply in training.
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

# A multiplier with well mixed bits (that of the splitmix64 finaliser), as int64.
_MIX = -0x40A7B892E31B1A47


def row_blocks(x: Tensor) -> Tensor:
    """Hash the float32 bits of each row (n, d) to a block (n,) in [0, 256).

    A score is deterministic, and independent of a row's neighbours and of chunks,
    when its noise is a function of the row; and errors of many rows average out
    when different rows have different noise.
    """
    x = torch.where(x.isnan(), torch.nan, x)  # of which there are many
    bits = (x.to(torch.float32) + 0.0).contiguous().view(torch.int32)  # -0 is 0
    positions = torch.arange(1, x.shape[1] + 1, device=x.device)
    # Integer sums wrap around exactly, in any order.
    mixed = (bits.to(torch.int64) + positions * _MIX) * _MIX
    mixed = (mixed ^ (mixed >> 29)) * _MIX
    total = mixed.sum(1)
    total = (total ^ (total >> 32)) * _MIX
    return (total >> 40) & (N_BLOCKS - 1)


@dataclass(frozen=True, eq=False)
class LogLikelihood:
    """Estimate of log p(x) for each row, in nats, with its Monte Carlo error.

    To NumPy it is the array ``log_prob``; it unpacks into ``log_prob`` and
    ``standard_error``.

    Parameters
    ----------
    log_prob : ndarray of shape (n,)
        The estimates.
    standard_error : ndarray of shape (n,)
        Their Monte Carlo standard errors. They never exceed 1: one near it says that a
        single draw has all the weight, and the estimate may be wrong by any amount.
    n_samples : float, default=inf
        Importance samples of each row.
    """

    log_prob: NDArray[Any]
    standard_error: NDArray[Any]
    n_samples: float = math.inf

    @property
    def effective_sample_size(self) -> NDArray[Any]:
        """Number of draws of equal weight that are worth as much: (sum w)^2 / sum w^2.

        Near 1, neither the estimate nor its error is to be trusted.
        """
        variance = self.standard_error**2
        return 1 / (variance + (1 - variance) / self.n_samples)

    @property
    def mean_log_prob(self) -> float:
        """Mean over the rows."""
        return float(self.log_prob.mean())

    @property
    def mean_standard_error(self) -> float:
        """Monte Carlo standard error of the mean over the rows."""
        n = len(self.standard_error)
        return float(np.sqrt((self.standard_error**2).sum()) / n)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield ``log_prob`` and ``standard_error``."""
        return iter((self.log_prob, self.standard_error))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return ``log_prob``."""
        return np.array(self.log_prob, dtype=dtype, copy=copy)

    def warn_of_few(self, owner: str) -> None:
        """Warn of rows whose estimate rests on few of many importance samples."""
        effective = self.effective_sample_size
        few = effective < FEWEST_EFFECTIVE
        if self.n_samples >= MANY_DRAWS and few.any():
            warnings.warn(
                f"{owner}.log_likelihood: of the n_samples={self.n_samples} importance "
                f"samples, few count in {few.sum()} of {len(few)} rows (effective "
                f"sample size {np.nanmin(effective):.1f} at the least). Their log_prob "
                "may be far too low, and their standard_error says nothing. Raise "
                "n_samples; where that does not help, the rows are unlike those that "
                "the model was fitted on.",
                DegenerateWeightsWarning,
                stacklevel=3,
            )


def estimate_log_likelihood(
    draw_log_weights: Callable[[int], Tensor], n_samples: int, n_per_pass: int
) -> tuple[Tensor, Tensor]:
    """Average importance weights by a running log-add-exp, in bounded memory.

    Parameters
    ----------
    draw_log_weights : callable
        ``draw_log_weights(K)`` gives fresh log-weights (K, n).
    n_samples : int
        Number of draws in all.
    n_per_pass : int
        Number of draws at a time.

    Returns
    -------
    log_prob, standard_error : Tensor of shape (n,)
        log 1/K sum w, and sd(w) / (sqrt(K) mean(w)), its error to first order.
    """
    log_sum = log_square_sum = None
    for start in range(0, n_samples, n_per_pass):
        log_w = draw_log_weights(min(n_per_pass, n_samples - start))
        log_w = log_w if log_w.device.type == "mps" else log_w.double()
        new, new_square = log_w.logsumexp(0), (2 * log_w).logsumexp(0)
        log_sum = new if log_sum is None else torch.logaddexp(log_sum, new)
        log_square_sum = (
            new_square
            if log_square_sum is None
            else torch.logaddexp(log_square_sum, new_square)
        )
    assert log_sum is not None
    assert log_square_sum is not None
    # mean(w^2) / mean(w)^2 - 1, the squared coefficient of variation.
    variation = (log_square_sum - 2 * log_sum + math.log(n_samples)).expm1()
    # One draw says nothing about its error: 0 / 0.
    error = (variation.clamp(min=0) / log_sum.new_tensor(n_samples - 1)).sqrt()
    return log_sum - math.log(n_samples), error


class BoundedModel(nn.Module):
    """A module whose log p(x) is bounded by importance sampling from its encoder.

    A model gives ``prior``, ``posterior(batch)``, ``outputs_of(z)`` (those of the
    decoder at draws from a posterior), ``standard_noise`` and ``draw_codes``. These see
    standardised rows; ``decode``, ``draw``, ``log_prob``, ``impute`` and ``noise_of``
    see the rows of the user.

    The encoder answers for the rows and patterns of missing cells that it is trained
    on. Where the likelihood allows missing cells, codes of rows that have some come
    from a ``proposal`` that is learned for all patterns, through ``proposed(batch)``.
    """

    encoder: nn.Module
    decoder: nn.Module
    standard_noise: Callable[..., Tensor]
    posterior: Callable[[Batch], Any]
    outputs_of: Callable[[Tensor], Tensor]
    draw_codes: Callable[..., Tensor]
    work: int = 0  # multiplications that a row takes, where they were counted
    proposed: Callable[[Batch], Any]  # posterior of standardised, incomplete rows
    simulated_codes: Callable[[int, torch.Generator], Tensor]  # to learn it from
    noise: Tensor  # (256, S, ...): a block of S draws for each hash of a row
    thresholds: Tensor  # (256, d): uniforms, where the likelihood draws what it sees

    #: Buffers that scores read, and no training.
    scoring_buffers: ClassVar[tuple[str, ...]] = ("noise", "thresholds")

    def __init__(self, likelihood: Likelihood, standardizer: Standardizer) -> None:
        super().__init__()
        self.likelihood, self.standardizer = likelihood, standardizer
        self.proposal: nn.Module | None = None
        self.learns_incomplete = False
        self.widest = 0  # numbers that a layer makes of a row, where they were counted
        self.precision = "float32"  # of PRECISIONS

    def stacks(self) -> bool:
        """Return whether models like this one may be trained as a stack.

        `skgen._search.stacking.StackedModel` computes in the place of a model what the
        model does. So a class claims this for itself; subclasses claim it again.
        """
        return False

    def set_proposal(self, proposal: nn.Module) -> None:
        """Take a network that proposes codes of rows with missing cells."""
        self.proposal = proposal
        self.set_learns_incomplete(False)

    def set_learns_incomplete(self, holds: bool) -> None:
        """Say whether the proposal is the posterior of training rows, too."""
        self.learns_incomplete = holds and self.proposal is not None
        if self.proposal is not None:
            self.proposal.requires_grad_(self.learns_incomplete)

    def complete_posterior(self, batch: Batch) -> Any:
        """Posterior of complete rows (n, d)."""
        return self.posterior(batch)

    def register_noise(self, n_importance_samples: int) -> None:
        """Draw the pool of noise that scores are computed with."""
        noise = self.standard_noise((N_BLOCKS, n_importance_samples))
        self.register_buffer("noise", noise)
        d = len(self.standardizer.shift) if self.likelihood.draws_rows else 0
        self.register_buffer("thresholds", torch.rand(N_BLOCKS, d))

    def set_rows(self, x: Tensor) -> None:
        """Adapt to training rows, standardised."""
        self.likelihood.set_rows(x)
        outputs = self.likelihood.initial_outputs(x)
        start_from = getattr(self.decoder, "start_from", None)
        if outputs is not None and start_from is not None:
            start_from(outputs)
        self.count_outputs(x[:1])

    def set_context(self, context: Tensor | None, weight: Tensor | None) -> None:
        """Adapt to the context (n, m) of training rows, where there is one."""

    def count_outputs(self, x: Tensor) -> None:
        """Count the numbers that layers make of a row (1, d), and their work."""
        z = self.draw_codes(1, make_generator(0, x.device))
        inputs = self.likelihood.inputs(x)
        passes = PassSize.of(self.encoder, inputs), PassSize.of(self.decoder, z)
        self.widest = max(size.widest for size in passes)
        self.work = sum(size.work for size in passes)

    def observe(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Draw afresh what is observed of training rows (n, d), where it is drawn."""
        if not self.likelihood.draws_rows:
            return x
        uniform = torch.empty_like(x).uniform_(generator=generator)
        return self.likelihood.observe(x, uniform)

    def view(self, x: Tensor) -> Tensor:
        """Rows (n, d) of the user as the networks see them.

        What a likelihood draws is, as all noise of a score, a function of the row.
        """
        scaled = self.standardizer(x)
        if not self.likelihood.draws_rows:
            found: Tensor = scaled
            return found
        return self.likelihood.observe(scaled, self.thresholds[row_blocks(x)])

    def encoder_outputs(self, x: Tensor) -> Tensor:
        """Encode rows (n, d) by the network, to outputs (n, q)."""
        takes_sparse = isinstance(self.encoder, Layers)
        form = self.likelihood.sparse_inputs if takes_sparse else self.likelihood.inputs
        return self._outputs(self.encoder, form(x))

    def _outputs(self, network: nn.Module, inputs: Any) -> Tensor:
        return self.at_precision(network, inputs, network.training)

    def at_precision(
        self, network: Callable[[Any], Tensor], inputs: Any, training: bool
    ) -> Tensor:
        """Run a network, which in training may multiply in less precision."""
        if not training or self.precision == "float32":
            return network(inputs)
        rows = inputs if isinstance(inputs, Tensor) else inputs.dense
        dtype = PRECISIONS[self.precision]
        with torch.autocast(rows.device.type, dtype, cache_enabled=False):
            outputs = network(inputs)
        return outputs.float()

    def log_likelihood(self, batch: Batch, z: Tensor) -> Tensor:
        """Log p(x|z), (S?, n), of rows (n, d) and draws (S?, n, ...) from a posterior.

        Where no gradient keeps what decoders make, a few rows at a time. One draw
        needs no dimension S.
        """
        if torch.is_grad_enabled():
            return self.likelihood.log_prob(self.outputs_of(z), batch.x)
        if z.ndim == batch.x.ndim:
            return self._log_likelihood_of(batch.x, z[None]).squeeze(0)
        parts = z.split(self.pass_rows)  # all draws at once, but for very wide rows
        return torch.cat([self._log_likelihood_of(batch.x, part) for part in parts])

    def _log_likelihood_of(self, x: Tensor, z: Tensor) -> Tensor:
        """Log p(x|z), (S, n), a few rows at a time."""
        size = chunk_rows(x.device, len(z) * self.row_elements)
        parts = [
            self.likelihood.log_prob(self.outputs_of(codes), rows)
            for rows, codes in zip(x.split(size), z.split(size, dim=1))
        ]
        return torch.cat(parts, dim=-1)

    def decoder_outputs(self, z: Tensor) -> Tensor:
        """Decode codes (..., k) by a network that takes rows, to outputs (..., p)."""
        outputs = self._outputs(self.decoder, z.reshape(-1, z.shape[-1]))
        return outputs if z.ndim == 2 else outputs.unflatten(0, z.shape[:-1])

    def decode(self, z: Tensor) -> Tensor:
        """Mean (n, d) of p(x|z), of codes (n, k)."""
        return self.standardizer.inverse(self.likelihood.mean(self.decoder(z)))

    def draw(self, n: int, noise: bool, generator: torch.Generator) -> Tensor:
        """Draw rows (n, d) from p(z) p(x|z), or decoded means of draws from p(z)."""
        return self.drawn_at(self.draw_codes(n, generator), noise, generator)

    def drawn_at(self, z: Tensor, noise: bool, generator: torch.Generator) -> Tensor:
        """Draw rows (n, d) from p(x|z), or the decoded means, of codes (n, k)."""
        if not noise:
            return self.decode(z)
        x = self.likelihood.draw(self.decoder(z), generator)
        return self.standardizer.inverse(x)

    def noise_of(self, x: Tensor, n_blocks: int = 1) -> Tensor:
        """Noise (n_blocks * S, n, ...) that is a function of the rows (n, d)."""
        first = row_blocks(x)
        blocks = [(first + i) % N_BLOCKS for i in range(n_blocks)]
        return torch.cat([self.noise[each].transpose(0, 1) for each in blocks])

    def by_completeness(
        self, batch: Batch, function: Callable[[Batch, Any], Tensor]
    ) -> Tensor:
        """Apply a function to complete rows, and to rows with missing cells.

        ``function(batch, q)`` gets some of the standardised rows (n, d) and their
        posterior; it returns a tensor (n', ...).
        """
        if self.proposal is None:
            return function(batch, self.posterior(batch))
        incomplete = batch.x.isnan().any(1)
        kinds = [(self.complete_posterior, ~incomplete), (self.proposed, incomplete)]
        present = [(posterior, which) for posterior, which in kinds if which.any()]
        present = present or kinds[:1]  # of no rows
        if len(present) == 1:
            return function(batch, present[0][0](batch))
        result: Any = None
        for posterior, which in present:
            index = which.nonzero().squeeze(1)
            part = batch.part(index)
            found = function(part, posterior(part))
            if result is None:
                result = found.new_empty(len(batch.x), *found.shape[1:])
            result[index] = found
        value: Tensor = result
        return value

    def scored(self, x: Tensor, noise: Tensor | None) -> Batch:
        """Rows (n, d) of the user as a batch that is scored."""
        return Batch(self.view(x), noise)

    def log_prob(self, x: Tensor) -> Tensor:
        """Importance-weighted bound on log p(x), (n,)."""

        def bound(batch: Batch, q: Any) -> Tensor:
            return importance_weighted_bound(log_weights(self, batch, q))

        found = self.by_completeness(self.scored(x, self.noise_of(x)), bound)
        return found - self.standardizer.log_scale

    def row_bounds(self, scaled: Tensor) -> Tensor:
        """Bound log p of standardised rows (n, d) under the training posterior, (n, 1).

        Under noise that rows decide.
        """
        batch = Batch(scaled, self.noise_of(scaled))
        log_w = log_weights(self, batch, self.posterior(batch))
        return importance_weighted_bound(log_w)[:, None]

    def impute(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Rows (n, d) with the mean of missing cells given the rest, or a draw of them.

        By self-normalised importance sampling: the mean is that over many codes, each
        by its weight; a draw comes from one of as many fresh codes, picked by weight.
        """
        incomplete = x.isnan().any(1)
        rows = x[incomplete]
        size = chunk_rows(x.device, self.n_impute_draws * self.row_elements)
        parts = [
            self._mean_of(part)
            if generator is None
            else self._drawn_for(part, generator)
            for part in rows.split(size)
        ]
        found = self.standardizer.inverse(torch.cat(parts))
        filled = x.clone()
        filled[incomplete] = torch.where(rows.isnan(), found, rows)
        return filled

    @property
    def n_impute_draws(self) -> int:
        """Codes that the cells of one row are imputed from."""
        affordable = min(IMPUTE_DRAWS, IMPUTE_ELEMENTS // self.row_elements)
        return max(affordable, self.noise.shape[1])

    def _codes_of_rest(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Codes (S, n, ...) of incomplete rows, and log p(z) - log q(z|x), (S, n)."""
        posterior = self.posterior if self.proposal is None else self.proposed
        q, prior = posterior(batch), cast(Any, self.prior)
        z = q.draw(batch.noise)
        return z, prior.log_prob(z) - q.log_prob(z)

    def _mean_of(self, x: Tensor) -> Tensor:
        """Conditional means (n, d), standardised, under noise that rows decide.

        Each code is decoded once: its outputs give its weight, and a part of the mean.
        """
        likelihood: Any = self.likelihood
        n_blocks = math.ceil(self.n_impute_draws / self.noise.shape[1])
        noise = self.noise_of(x, n_blocks)[: self.n_impute_draws]
        batch, size = self.scored(x, noise), self.pass_rows
        z, log_ratio = self._codes_of_rest(batch)

        def components() -> Iterator[tuple[Tensor, Tensor]]:
            for codes, ratio in zip(z.split(size), log_ratio.split(size)):
                outputs = self.outputs_of(codes)
                yield outputs, likelihood.log_prob(outputs, batch.x) + ratio

        mean: Tensor = likelihood.mixture_mean(components())
        return mean

    def _drawn_for(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Draws (n, d), standardised, of rows given what was observed of them."""
        noise = self.standard_noise((self.n_impute_draws, len(x)), generator)
        batch = self.scored(x, noise)
        z, log_ratio = self._codes_of_rest(batch)
        weight = (self.log_likelihood(batch, z) + log_ratio).softmax(0)
        picked = weight.T.multinomial(1, generator=generator).squeeze(1)
        z = z[picked, torch.arange(len(x), device=x.device)]
        return self.likelihood.draw(self.outputs_of(z), generator)

    @property
    def row_elements(self) -> int:
        """Numbers that one pass of a row through the networks holds at a time."""
        widest = max((p.shape[0] for p in self.parameters() if p.ndim), default=1)
        return max(widest, self.widest, len(self.standardizer.shift))

    @property
    def row_work(self) -> int:
        """Multiplications that one pass of a row through the networks takes."""
        # A file of skgen 0.1 has no count. Layers are at least a product each.
        return max(self.work, sum(p.numel() for p in self.parameters()))

    @property
    def pass_rows(self) -> int:
        """Rows that one pass of a fit, without gradients, may take."""
        return max(1, PASS_ELEMENTS // self.row_elements)

    @property
    def score_elements(self) -> int:
        """Numbers that scoring a row holds at a time: its draws; the rest in parts."""
        return max(self.noise[0].numel(), self.row_elements)

    def careful_log_prob(
        self, x: Tensor, n_samples: int, generator: torch.Generator
    ) -> Tensor:
        """Log p(x) from many draws, and its standard error, (n, 2).

        Rows are encoded once; draws come in passes as large as those of ``log_prob``.
        """
        n_per_pass = self.noise.shape[1]

        def estimate(batch: Batch, q: Any) -> Tensor:
            def draw_log_weights(n_draws: int) -> Tensor:
                noise = self.standard_noise((n_draws, len(batch.x)), generator)
                return log_weights(self, batch._replace(noise=noise), q)

            found = estimate_log_likelihood(draw_log_weights, n_samples, n_per_pass)
            return torch.stack(found, dim=1)

        found = self.by_completeness(self.scored(x, None), estimate)
        found[:, 0] -= self.standardizer.log_scale
        return found
