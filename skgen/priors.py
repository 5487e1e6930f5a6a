"""Densities of latent codes: priors p(z), and the posteriors q(z|x) of encoders.

A posterior turns standard noise into draws, so that its noise can be an argument:
``draw(noise)``. Leading dimensions are draws, then rows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skgen.tensors import LOG_2PI


class Normal(NamedTuple):
    """The posterior q(z|x) = N(mean, diag sigma^2) of rows."""

    mean: Tensor  # (n, k)
    sigma: Tensor  # (n, k)

    def draw(self, eps: Tensor) -> Tensor:
        """Reparameterised draws z = mean + sigma * eps, (..., n, k)."""
        return self.mean + self.sigma * eps

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density (..., n) of draws (..., n, k)."""
        squared = ((z - self.mean) / self.sigma) ** 2
        return -(0.5 * (squared + LOG_2PI) + self.sigma.log()).sum(-1)


class StandardNormal(nn.Module):
    """p(z) = N(0, I)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density (..., n) of codes (..., n, k)."""
        return -0.5 * (z**2 + LOG_2PI).sum(-1)

    def kl(self, q: Normal) -> Tensor:
        """KL(q || p) of each row, (n,), in closed form."""
        m2, s2 = q.mean**2, q.sigma**2
        return 0.5 * (m2 + s2 - 1 - s2.log()).sum(-1)


class Categorical(NamedTuple):
    """Independent tokens: the posterior q(k|x) of a row's tokens."""

    log_probs: Tensor  # (n, T, K)

    def draw(self, uniform: Tensor) -> Tensor:
        """Tokens (S, n, T) from uniform noise (S, n, T), by the inverse of the CDF."""
        cdf = self.log_probs.exp().cumsum(-1)  # (n, T, K)
        noise = uniform.permute(1, 2, 0).contiguous()  # (n, T, S)
        # From the right: noise of exactly 0 must not draw a first token of no mass.
        tokens = torch.searchsorted(cdf, noise * cdf[..., -1:], right=True)
        return tokens.clamp(max=cdf.shape[-1] - 1).permute(2, 0, 1)

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Log-mass (S, n) of tokens (S, n, T)."""
        chosen = self.log_probs.gather(-1, tokens.permute(1, 2, 0))  # (n, T, S)
        return chosen.sum(1).T


class AutoregressivePrior(nn.Module):
    """p(k_1) p(k_2|k_1) ... over the T tokens of a row.

    The conditionals are a neural autoregressive distribution estimator (Larochelle &
    Murray 2011): one hidden layer whose input is a running sum over the tokens so
    far. They start as smoothed unigrams, and in the end are mixed with them, token by
    token, so that the prior is no worse than independent tokens where rows are few.

    Parameters
    ----------
    n_tokens : int
        T.
    codebook_size : int
        K.
    n_hidden : int, default=64
        Hidden units, H.
    """

    counts: Tensor  # (T, K)
    mixing: Tensor  # (): weight of the network, 1 - mixing of the unigrams

    def __init__(self, n_tokens: int, codebook_size: int, n_hidden: int = 64) -> None:
        super().__init__()
        T, K, H = n_tokens, codebook_size, n_hidden
        self.inputs = nn.Parameter(torch.randn(T, K, H) / math.sqrt(T))
        self.bias = nn.Parameter(torch.zeros(T, H))
        self.outputs = nn.Parameter(torch.zeros(T, H, K))
        self.register_buffer("counts", torch.zeros(T, K))
        self.register_buffer("mixing", torch.tensor(0.0))

    @property
    def n_tokens(self) -> int:
        """Tokens of a row."""
        return len(self.bias)

    @property
    def log_unigrams(self) -> Tensor:
        """Log-frequencies of the codes at each place, smoothed by one, (T, K)."""
        return (self.counts + 1.0).log().log_softmax(-1)

    def network_log_probs(self, before: Tensor, place: slice = slice(None)) -> Tensor:
        """Conditionals (..., T, K) from sums over the tokens before, (..., T, H)."""
        hidden = (self.bias[place] + before).tanh()
        change = torch.einsum("...th,thk->...tk", hidden, self.outputs[place])
        return (self.log_unigrams[place] + change).log_softmax(-1)

    def mixed(self, log_network: Tensor, log_unigrams: Tensor) -> Tensor:
        """Mix both conditionals by weight."""
        return torch.logaddexp(
            self.mixing.log() + log_network, (1 - self.mixing).log() + log_unigrams
        )

    def token_log_probs(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Log p(k_t | k_<t) of the network and of the unigrams, (..., T) each."""
        places = torch.arange(self.n_tokens, device=tokens.device)
        inputs = self.inputs[places, tokens]  # (..., T, H)
        before = inputs.cumsum(-2) - inputs
        log_probs = self.network_log_probs(before)
        network = log_probs.gather(-1, tokens[..., None]).squeeze(-1)
        return network, self.log_unigrams[places, tokens]

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Log-mass (...) of tokens (..., T)."""
        return self.mixed(*self.token_log_probs(tokens)).sum(-1)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw tokens (n, T), one place after the other."""
        before = self.bias.new_zeros(n, 1, self.bias.shape[1])
        tokens = []
        for t in range(self.n_tokens):
            place = slice(t, t + 1)
            log_network = self.network_log_probs(before, place)
            probs = self.mixed(log_network, self.log_unigrams[place]).exp()
            token = torch.multinomial(probs[:, 0], 1, generator=generator)  # (n, 1)
            before = before + self.inputs[t, token]
            tokens.append(token)
        return torch.cat(tokens, dim=1)
