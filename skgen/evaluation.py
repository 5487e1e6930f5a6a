"""Bounds on log p(x) from the encoder: the score, and the careful estimate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skgen.likelihoods import Likelihood
from skgen.networks import PassSize, Standardizer
from skgen.objectives import importance_weighted_bound, log_weights, weights_at
from skgen.rows import chunk_rows
from skgen.tensors import make_generator

N_BLOCKS = 256
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


class LogLikelihood(NamedTuple):
    """Estimate of log p(x) for each row, in nats, with its Monte Carlo error."""

    log_prob: NDArray[Any]  # (n,)
    standard_error: NDArray[Any]  # (n,)

    @property
    def mean(self) -> float:
        """Mean over the rows."""
        return float(self.log_prob.mean())

    @property
    def mean_standard_error(self) -> float:
        """Monte Carlo standard error of the mean over the rows."""
        n = len(self.standard_error)
        return float(np.sqrt((self.standard_error**2).sum()) / n)


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

    A model gives ``prior``, ``posterior(x)``, ``outputs_of(z)`` (those of the decoder
    at draws from a posterior), ``standard_noise`` and ``draw_codes``. These see
    standardised rows; ``decode``, ``draw``, ``log_prob``, ``impute`` and ``noise_of``
    see the rows of the user.
    """

    encoder: nn.Module
    decoder: nn.Module
    standard_noise: Callable[..., Tensor]
    posterior: Callable[[Tensor], Any]
    outputs_of: Callable[[Tensor], Tensor]
    draw_codes: Callable[..., Tensor]
    work: int = 0  # multiplications that a row takes, where they were counted
    noise: Tensor  # (256, S, ...): a block of S draws for each hash of a row
    thresholds: Tensor  # (256, d): uniforms, where the likelihood draws what it sees

    #: Buffers that scores read, and no training.
    scoring_buffers: ClassVar[tuple[str, ...]] = ("noise", "thresholds")

    def __init__(self, likelihood: Likelihood, standardizer: Standardizer) -> None:
        super().__init__()
        self.likelihood, self.standardizer = likelihood, standardizer
        self.widest = 0  # numbers that a layer makes of a row, where they were counted
        self.precision = "float32"  # of PRECISIONS

    def stacks(self) -> bool:
        """Return whether models like this one may be trained as a stack.

        `skgen.stacking.StackedModel` computes what a model does in its place. So a
        class claims this for itself, and its subclasses claim it again.
        """
        return False

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
            return scaled
        return self.likelihood.observe(scaled, self.thresholds[row_blocks(x)])

    def encoder_outputs(self, x: Tensor) -> Tensor:
        """Encode rows (n, d) by the network, to outputs (n, q)."""
        return self._outputs(self.encoder, self.likelihood.inputs(x))

    def _outputs(self, network: nn.Module, inputs: Tensor) -> Tensor:
        return self.at_precision(network, inputs, network.training)

    def at_precision(
        self, network: Callable[[Tensor], Tensor], inputs: Tensor, training: bool
    ) -> Tensor:
        """Run a network, which in training may multiply in less precision."""
        if not training or self.precision == "float32":
            return network(inputs)
        dtype, device = PRECISIONS[self.precision], inputs.device.type
        with torch.autocast(device, dtype, cache_enabled=False):
            outputs = network(inputs)
        return outputs.to(inputs.dtype)

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """Log p(x|z), (S?, n), of rows (n, d) and draws (S?, n, ...) from a posterior.

        Where no gradient keeps what decoders make, a few rows at a time. One draw
        needs no dimension S.
        """
        if torch.is_grad_enabled():
            return self.likelihood.log_prob(self.outputs_of(z), x)
        along = z.ndim - x.ndim  # the dimension of rows: 0, or 1 behind S
        n_draws = len(z) if along else 1
        size = chunk_rows(x.device, n_draws * self.row_elements)
        parts = [
            self.likelihood.log_prob(self.outputs_of(codes), rows)
            for rows, codes in zip(x.split(size), z.split(size, dim=along))
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
        z = self.draw_codes(n, generator)
        if not noise:
            return self.decode(z)
        x = self.likelihood.draw(self.decoder(z), generator)
        return self.standardizer.inverse(x)

    def noise_of(self, x: Tensor) -> Tensor:
        """Noise (S, n, ...) that is a function of the rows (n, d)."""
        return self.noise[row_blocks(x)].transpose(0, 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Importance-weighted bound on log p(x), (n,)."""
        log_w = log_weights(self, self.view(x), self.noise_of(x))
        return importance_weighted_bound(log_w) - self.standardizer.log_scale

    def impute(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Rows (n, d) with the mean of missing cells given the rest, or a draw of them.

        By draws from the encoder, weighted as those of ``log_prob`` are: the mean is
        theirs, a draw comes from one of them that is picked by its weight.
        """
        likelihood: Any = self.likelihood
        scaled = self.view(x)
        q = self.posterior(scaled)
        z = q.draw(self.noise_of(x))
        weight = weights_at(self, scaled, z, q).softmax(0)  # (S, n)
        if generator is None:
            size = chunk_rows(x.device, len(z) * self.row_elements)
            parts = zip(z.split(size, dim=1), weight.split(size, dim=1))
            found = torch.cat(
                [likelihood.mixture_mean(self.outputs_of(c), w) for c, w in parts]
            )
        else:
            picked = weight.T.multinomial(1, generator=generator).squeeze(1)
            z = z[picked, torch.arange(len(x), device=x.device)]
            found = likelihood.draw(self.outputs_of(z), generator)
        return torch.where(x.isnan(), self.standardizer.inverse(found), x)

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
        scaled = self.view(x)
        q = self.posterior(scaled)

        def draw_log_weights(n_draws: int) -> Tensor:
            noise = self.standard_noise((n_draws, len(x)), generator)
            return log_weights(self, scaled, noise, q)

        n_per_pass = self.noise.shape[1]
        log_prob, error = estimate_log_likelihood(
            draw_log_weights, n_samples, n_per_pass
        )
        return torch.stack([log_prob - self.standardizer.log_scale, error], dim=1)
