"""Posteriors of rows with missing cells: what importance sampling draws codes from.

Given few of its cells, the code of a row is uncertain in many directions at once, which
no density of independent coordinates covers. So a network of its own proposes codes of
such rows: a normal density with correlations, or tokens one after the other.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skgen._networks.dense import mlp
from skgen._networks.lookups import SparseInputs
from skgen._networks.token_priors import AutoregressivePrior, TokenPrior
from skgen._utils.tensors import LOG_2PI, inverse_cdf
from skgen.priors import LOG_SIGMA_MAX, LOG_SIGMA_MIN, Normal

# Width of the hidden layers: a proposal answers every pattern of missing cells.
N_HIDDEN = 256
# Weights of the first layer at most: for columns of thousands of levels it is narrower.
FIRST_WEIGHTS = 2**20
# Coordinates up to which they are correlated: the network has k^2 / 2 outputs.
MAX_COUPLED = 32
# Part of the draws that comes from the prior. It bounds the importance weights.
FROM_PRIOR = 0.1
# Hidden units of what a row adds to the logits of tokens, at each place.
N_TOKEN_HIDDEN = 64


def hidden_sizes(n_inputs: int) -> list[int]:
    """Return the widths of the hidden layers, for inputs of a width."""
    return [max(16, min(N_HIDDEN, FIRST_WEIGHTS // n_inputs))]


class CoupledNormal(NamedTuple):
    """N(mean, C), where ``A (z - mean) = scale * eps`` with A unit lower triangular.

    Each coordinate regresses on those before it, so that ``C = A^-1 scale^2 A^-T``.
    """

    mean: Tensor  # (n, k)
    log_scale: Tensor  # (n, k)
    coupling: Tensor | None  # A, (n, k, k); None for the identity

    @classmethod
    def of(cls, outputs: Tensor, k: int) -> CoupledNormal:
        """From the outputs (n, 2k + k (k - 1) / 2) of a network.

        Means, log scales and what is below the diagonal of A; without the last, (n,
        2k), coordinates are independent.
        """
        mean, log_scale, below = outputs.split([k, k, outputs.shape[-1] - 2 * k], -1)
        log_scale = F.hardtanh(log_scale, LOG_SIGMA_MIN, LOG_SIGMA_MAX)
        if not below.shape[-1]:
            return cls(mean, log_scale, None)
        places = torch.tril_indices(k, k, -1, device=mean.device)
        coupling = torch.eye(k, dtype=mean.dtype, device=mean.device).repeat(
            len(mean), 1, 1
        )
        coupling[:, places[0], places[1]] = below
        return cls(mean, log_scale, coupling)

    @classmethod
    def of_precision(cls, mean: Tensor, precision: Tensor) -> CoupledNormal:
        """From means (n, k) and precision matrices (n, k, k).

        A precision is U U^T, U upper triangular: with its coordinates reversed, it is
        what Cholesky gives.
        """
        upper = torch.linalg.cholesky(precision.flip(1, 2)).flip(1, 2)
        scale = upper.diagonal(dim1=1, dim2=2)
        return cls(mean, -scale.log(), (upper / scale[:, None]).mT)

    def to(self, dtype: torch.dtype) -> CoupledNormal:
        """Cast all parts."""
        coupling = None if self.coupling is None else self.coupling.to(dtype)
        return CoupledNormal(self.mean.to(dtype), self.log_scale.to(dtype), coupling)

    def draw(self, eps: Tensor) -> Tensor:
        """Draw codes (S?, n, k) from standard normal noise (S?, n, k)."""
        residual = eps * self.log_scale.exp()
        if self.coupling is None:
            return self.mean + residual
        deviation = torch.linalg.solve_triangular(
            self.coupling, _columns(residual), upper=False, unitriangular=True
        )
        return self.mean + _draws(deviation, eps.ndim)

    def coordinate_log_probs(self, z: Tensor) -> Tensor:
        """Log-density of each coordinate of codes (S?, n, k), given those before it."""
        residual = z - self.mean
        if self.coupling is not None:
            residual = _draws(self.coupling @ _columns(residual), z.ndim)
        squared = (residual * (-self.log_scale).exp()) ** 2
        return -(0.5 * (squared + LOG_2PI) + self.log_scale)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density (S?, n) of codes (S?, n, k)."""
        return self.coordinate_log_probs(z).sum(-1)

    def frozen(self) -> CoupledNormal:
        """Return the same density, which passes no gradient to its parameters."""
        coupling = None if self.coupling is None else self.coupling.detach()
        return CoupledNormal(self.mean.detach(), self.log_scale.detach(), coupling)

    @property
    def n_dims(self) -> int:
        """Dimensions of the parameters; draws may have one more."""
        return self.mean.ndim

    def at(self, rows: Tensor, other: Normal | CoupledNormal) -> CoupledNormal:
        """Return this density at some rows (n,), a mask, and another elsewhere."""
        here, coupling = rows[:, None], self.coupling
        elsewhere = getattr(other, "coupling", None)
        if coupling is not None or elsewhere is not None:
            k = self.mean.shape[-1]
            eye = torch.eye(k, dtype=self.mean.dtype).to(self.mean)
            coupling = torch.where(
                here[..., None],
                eye if coupling is None else coupling,
                eye if elsewhere is None else elsewhere,
            )
        return CoupledNormal(
            torch.where(here, self.mean, other.mean),
            torch.where(here, self.log_scale, other.log_scale),
            coupling,
        )

    @property
    def sigma(self) -> Tensor:
        """Marginal standard deviations (n, k)."""
        scale = self.log_scale.exp()
        if self.coupling is None:
            return scale
        root = torch.linalg.solve_triangular(
            self.coupling, scale.diag_embed(), upper=False, unitriangular=True
        )
        found: Tensor = root.norm(dim=-1)
        return found


def _columns(z: Tensor) -> Tensor:
    """Turn (S?, n, k) into matrices (n, k, S) that linear algebra takes."""
    return z[..., None] if z.ndim == 2 else z.permute(1, 2, 0)


def _draws(columns: Tensor, ndim: int) -> Tensor:
    """Undo ``_columns``, to as many dimensions as there were."""
    return columns.squeeze(-1) if ndim == 2 else columns.permute(2, 0, 1)


class LinearPosterior(nn.Module):
    """Posterior of a linear model, of rows of which any cells are missing.

    ``x = m + W z + e``, with ``z ~ N(0, I)`` and ``e ~ N(0, diag psi)``. It starts at a
    W of zero, and knows nothing.

    Parameters
    ----------
    n_columns, n_components : int
        p and k.
    """

    loadings: Tensor  # W, (p, k)
    noise: Tensor  # psi, (p,)
    mean: Tensor  # m, (p,)

    def __init__(self, n_columns: int, n_components: int) -> None:
        super().__init__()
        self.register_buffer("loadings", torch.zeros(n_columns, n_components))
        self.register_buffer("noise", torch.ones(n_columns))
        self.register_buffer("mean", torch.zeros(n_columns))

    def forward(self, values: Tensor) -> CoupledNormal:
        """Return the density of codes, given values (n, p), NaN where missing."""
        seen = ~values.isnan()
        scaled = self.loadings / self.noise[:, None]
        pairs = self.loadings[:, :, None] * scaled[:, None]  # (p, k, k)
        information = (seen.to(values) @ pairs.flatten(1)).unflatten(1, pairs.shape[1:])
        precision = information + torch.eye(pairs.shape[-1]).to(information)
        deviation = torch.where(seen, values - self.mean, 0.0)
        lower = torch.linalg.cholesky(precision)
        mean = torch.cholesky_solve((deviation @ scaled)[..., None], lower)[..., 0]
        return CoupledNormal.of_precision(mean, precision)


class NormalProposal(nn.Module):
    """Network that proposes a normal density of a continuous code.

    Parameters
    ----------
    n_inputs : int
        Encoder inputs of a row, with the flags of the cells that are there.
    n_components : int
        k, coordinates of the codes of all layers.
    n_columns : int, default=0
        Columns of a linear model, to whose posterior the network adds. Without them,
        or with so many coordinates that they are not correlated, there is none.
    """

    def __init__(self, n_inputs: int, n_components: int, n_columns: int = 0) -> None:
        super().__init__()
        k = self.n_components = n_components
        has_linear = n_columns > 0 and 1 < k <= MAX_COUPLED
        self.linear = LinearPosterior(n_columns, k) if has_linear else None
        n_outputs = 2 * k + (k * (k - 1) // 2 if k <= MAX_COUPLED else 0)
        self.network = mlp(n_inputs, n_outputs, hidden_sizes(n_inputs), "relu")

    def start_from(self, loadings: Tensor, noise: Tensor, mean: Tensor) -> None:
        """Start from the posterior of a linear model, and nothing beside."""
        linear = self.linear
        if linear is not None:
            linear.loadings[:, : loadings.shape[1]] = loadings
            linear.noise, linear.mean = noise, mean
            last: Any = self.network[-1]
            last.weight.data.zero_()
            last.bias.data.zero_()

    def forward(
        self, inputs: Tensor | SparseInputs, values: Tensor | None
    ) -> CoupledNormal:
        """Return the density of the codes of rows (n, n_inputs).

        ``values`` (n, p) are those of the linear model, where it is used.
        """
        found = self._of_network(inputs)
        if self.linear is None or values is None:
            return found
        base = self.linear(values)
        assert found.coupling is not None  # as there is none without a linear model
        below = found.coupling.tril(-1)
        return CoupledNormal(
            base.mean + found.mean,
            base.log_scale + found.log_scale,
            base.coupling + below,
        )

    def _of_network(self, inputs: Tensor | SparseInputs) -> CoupledNormal:
        return CoupledNormal.of(self.network(inputs), self.n_components)


class WithPrior(NamedTuple):
    """Mixture of a proposal with the prior, from which a fixed part of draws comes.

    So no importance weight exceeds ``p(x|z)`` over that part (Owen & Zhou 2000).
    """

    proposal: Any  # a CoupledNormal or a TokenSequence
    prior: Any  # p(z), or the prior's network over tokens

    def draw(self, eps: Tensor) -> Tensor:
        """Draw codes (S, n, k), the first of them from the prior."""
        n_prior = round(FROM_PRIOR * len(eps))
        return torch.cat(
            [
                self.prior.draw_layers(eps[:n_prior]),
                self.proposal.draw(eps[n_prior:]),
            ]
        )

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density (S, n) of the mixture that S codes are drawn from."""
        part = round(FROM_PRIOR * len(z)) / len(z)
        log_proposal = self.proposal.log_prob(z)
        if part == 0:
            found: Tensor = log_proposal
            return found
        return torch.logaddexp(
            log_proposal + math.log1p(-part), self.prior.log_prob(z) + math.log(part)
        )


class TokenProposal(nn.Module):
    """Network that proposes tokens one after the other, given a row.

    Its logits are those of a prior over tokens, from which it starts, and what the row
    adds to them, given the tokens before.

    Parameters
    ----------
    n_inputs : int
        Encoder inputs of a row, with the flags of the cells that are there.
    n_tokens : int
        T.
    codebook_size : int
        K.
    """

    def __init__(self, n_inputs: int, n_tokens: int, codebook_size: int) -> None:
        super().__init__()
        T, K, H = n_tokens, codebook_size, N_TOKEN_HIDDEN
        self.base = AutoregressivePrior(T, K)
        self.network = mlp(n_inputs, T * H, hidden_sizes(n_inputs), "relu")
        self.inputs = nn.Parameter(torch.randn(T, K, H) / math.sqrt(T))
        self.outputs = nn.Parameter(torch.zeros(T, H, K))

    @torch.no_grad()
    def start_from(self, prior: TokenPrior) -> None:
        """Propose what the prior's network does, or unigrams, whatever the row."""
        self.outputs.zero_()
        if isinstance(prior, AutoregressivePrior):
            self.base.load_state_dict(prior.state_dict())

    @property
    def row_elements(self) -> int:
        """Numbers that one pass of a row holds at a time."""
        return self.inputs[:, 0].numel()

    def forward(
        self, inputs: Tensor | SparseInputs, prior: TokenPrior, explore: float
    ) -> WithPrior:
        """Return the density of the tokens of rows (n, n_inputs)."""
        context = self.network(inputs).unflatten(-1, (len(self.inputs), -1))
        found = TokenSequence(context, self, prior.log_unigrams, explore)
        return WithPrior(found, found._replace(context=None))


def _product(hidden: Tensor, outputs: Tensor) -> Tensor:
    """Multiply (..., H) by (H, K), or (..., T, H) by (T, H, K) at each place."""
    if outputs.ndim == 2:
        return hidden @ outputs
    return torch.einsum("...th,thk->...tk", hidden, outputs)


class TokenSequence(NamedTuple):
    """q(k_1|x) q(k_2|k_1, x) ..., each mixed with the unigrams of its place."""

    context: Tensor | None  # (n, T, H); None where nothing is known of rows
    proposal: TokenProposal
    log_unigrams: Tensor  # (T, K)
    explore: float  # weight of the unigrams

    def _log_probs(self, t: Any, past: Tensor, before: Tensor) -> Tensor:
        """Log-probabilities (..., K) at a place, or at all of them.

        Given the sums over the tokens before, of the prior's inputs and of the
        proposal's own.
        """
        own, base = self.proposal, self.proposal.base
        log_unigrams = self.log_unigrams[t]
        logits = log_unigrams + _product((base.bias[t] + past).tanh(), base.outputs[t])
        if self.context is not None:
            hidden = (self.context[:, t] + before).relu()
            logits = logits + _product(hidden, own.outputs[t])
        log_probs = logits.log_softmax(-1)
        return torch.logaddexp(
            log_probs + math.log1p(-self.explore),
            log_unigrams + math.log(self.explore),
        )

    def _sequence(self, choose: Any, shape: torch.Size) -> Tensor:
        """Choose tokens (*shape, T), place after place."""
        own, base = self.proposal, self.proposal.base
        past = base.inputs.new_zeros(*shape, base.inputs.shape[-1])
        before = own.inputs.new_zeros(*shape, own.inputs.shape[-1])
        tokens = []
        for t in range(len(own.inputs)):
            token = choose(t, self._log_probs(t, past, before))
            past, before = past + base.inputs[t, token], before + own.inputs[t, token]
            tokens.append(token)
        return torch.stack(tokens, dim=-1)

    def draw(self, uniform: Tensor) -> Tensor:
        """Draw tokens (S, n, T) from uniform noise (S, n, T), by the inverse CDF."""

        def choose(t: int, log_probs: Tensor) -> Tensor:
            return inverse_cdf(log_probs.exp().cumsum(-1), uniform[..., t])

        return self._sequence(choose, uniform.shape[:-1])

    def draw_layers(self, uniform: Tensor) -> Tensor:
        """Draw tokens, of which there is one layer."""
        return self.draw(uniform)

    def mode(self, n: int) -> Tensor:
        """Return the most probable token at each place, given those before, (n, T)."""
        size = torch.Size([n])
        return self._sequence(lambda t, log_probs: log_probs.argmax(-1), size)

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Return the log-mass (S, n) of tokens (S, n, T)."""
        places = torch.arange(tokens.shape[-1], device=tokens.device)
        past, before = (
            inputs.cumsum(-2) - inputs
            for inputs in (
                self.proposal.base.inputs[places, tokens],
                self.proposal.inputs[places, tokens],
            )
        )
        log_probs = self._log_probs(slice(None), past, before)
        return log_probs.gather(-1, tokens[..., None]).squeeze(-1).sum(-1)
