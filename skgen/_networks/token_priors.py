"""Priors over the tokens of a row: p(k_1) p(k_2|k_1) ..., place after place."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Past(NamedTuple):
    """Keys and values of a transformer layer at the places so far."""

    keys: Tensor  # (n, heads, t, width / heads)
    values: Tensor  # (n, heads, t, width / heads)


class TokenPrior(nn.Module, ABC):
    """Base of the priors: a network, mixed with independent tokens by weight.

    The network starts as smoothed unigrams: its outputs, zero at first, are added to
    their logarithms. Mixed with them in the end, token by token, the prior is no
    worse than independent tokens where rows are few.

    Parameters
    ----------
    n_tokens : int
        T.
    codebook_size : int
        K.
    """

    counts: Tensor  # (T, K)
    mixing: Tensor  # (): weight of the network, 1 - mixing of the unigrams

    def __init__(self, n_tokens: int, codebook_size: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(n_tokens, codebook_size))
        self.register_buffer("mixing", torch.tensor(0.0))

    @abstractmethod
    def changes(self, tokens: Tensor) -> Tensor:
        """Return what the network adds to the log-unigrams, (m, T, K).

        At each place of tokens (m, T) it knows the tokens before.
        """

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw tokens (n, T), one place after the other."""

    def learning_rate(self, rate: float) -> float:
        """Return what it learns at where the networks learn at a rate."""
        return rate

    @property
    def n_tokens(self) -> int:
        """Tokens of a row."""
        return len(self.counts)

    @property
    def row_work(self) -> int:
        """Multiplications that a row takes."""
        return sum(p.numel() for p in self.parameters())

    @property
    def row_elements(self) -> int:
        """Numbers that one pass of a row holds at a time."""
        return self.counts.numel()

    @property
    def log_unigrams(self) -> Tensor:
        """Log-frequencies of the codes at each place, smoothed by one, (T, K)."""
        return (self.counts + 1.0).log().log_softmax(-1)

    def mixed(self, log_network: Tensor, log_unigrams: Tensor) -> Tensor:
        """Mix both conditionals by weight."""
        return torch.logaddexp(
            self.mixing.log() + log_network, (1 - self.mixing).log() + log_unigrams
        )

    def token_log_probs(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Log p(k_t | k_<t) of the network and of the unigrams, (..., T) each."""
        rows = tokens.reshape(-1, self.n_tokens)
        log_unigrams = self.log_unigrams
        logits = log_unigrams + self.changes(rows)
        chosen = logits.gather(-1, rows[..., None]).squeeze(-1)
        network = (chosen - logits.logsumexp(-1)).view(tokens.shape)
        places = torch.arange(self.n_tokens, device=tokens.device)
        return network, log_unigrams[places, tokens]

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Log-mass (...) of tokens (..., T)."""
        return self.mixed(*self.token_log_probs(tokens)).sum(-1)

    def draw_token(self, t: int, change: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the token at a place, (n, 1), from the network's outputs (n, K)."""
        log_unigrams = self.log_unigrams[t]
        log_network = (log_unigrams + change).log_softmax(-1)
        probs = self.mixed(log_network, log_unigrams).exp()
        return torch.multinomial(probs, 1, generator=generator)


class AutoregressivePrior(TokenPrior):
    """p(k_1) p(k_2|k_1) ... with weights of its own for each place: few tokens.

    A neural autoregressive distribution estimator: one hidden layer, whose input is a
    running sum over the tokens so far.

    Parameters
    ----------
    n_tokens : int
        T.
    codebook_size : int
        K.
    n_hidden : int, default=64
        Hidden units, H.

    References
    ----------
    Larochelle & Murray, "The neural autoregressive distribution estimator", AISTATS
    2011.
    """

    def __init__(self, n_tokens: int, codebook_size: int, n_hidden: int = 64) -> None:
        super().__init__(n_tokens, codebook_size)
        T, K, H = n_tokens, codebook_size, n_hidden
        self.inputs = nn.Parameter(torch.randn(T, K, H) / math.sqrt(T))
        self.bias = nn.Parameter(torch.zeros(T, H))
        self.outputs = nn.Parameter(torch.zeros(T, H, K))

    def changes(self, tokens: Tensor) -> Tensor:
        """Return the outputs (m, T, K) for tokens (m, T)."""
        places = torch.arange(self.n_tokens, device=tokens.device)
        inputs = self.inputs[places, tokens]  # (m, T, H)
        hidden = (self.bias + inputs.cumsum(-2) - inputs).tanh()
        return torch.einsum("mth,thk->mtk", hidden, self.outputs)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw tokens (n, T), one place after the other."""
        before = self.bias.new_zeros(n, self.bias.shape[1])
        tokens = []
        for t in range(self.n_tokens):
            change = (self.bias[t] + before).tanh() @ self.outputs[t]
            token = self.draw_token(t, change, generator)
            before = before + self.inputs[t, token[:, 0]]
            tokens.append(token)
        return torch.cat(tokens, dim=1)


class Attention(nn.Module):
    """Causal self-attention of several heads."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.inputs = nn.Linear(width, 3 * width)
        self.outputs = nn.Linear(width, width)

    def forward(self, h: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Let each place see those before it and itself, (n, t, width).

        With a past, ``h`` is one place that comes after it.
        """
        heads = self.inputs(h).unflatten(-1, (3, self.n_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        if past is not None:
            key = torch.cat([past.keys, key], dim=2)
            value = torch.cat([past.values, value], dim=2)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=past is None)
        return self.outputs(seen.transpose(1, 2).flatten(2)), Past(key, value)


class Block(nn.Module):
    """A layer: attention, then two dense maps; each adds to its normalised input."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width)
        self.attention = Attention(width, n_heads)
        self.before_dense = nn.LayerNorm(width)
        self.dense = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, h: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Map (n, t, width) to (n, t, width), and the past to the one with it."""
        seen, past = self.attention(self.before_attention(h), past)
        h = h + seen
        return h + self.dense(self.before_dense(h)), past


class TransformerPrior(TokenPrior):
    """p(k_1) p(k_2|k_1) ... by a small causal transformer.

    Weights are shared by all places, which a grid of many tokens needs. At a place
    the input is the token before, and where it is.

    Parameters
    ----------
    n_tokens : int
        T.
    codebook_size : int
        K.
    width : int, default=64
        Width of the layers.
    n_heads : int, default=4
        Heads of the attention; they divide the width.
    n_layers : int, default=2
        Layers.

    References
    ----------
    Vaswani et al., "Attention is all you need", NeurIPS 2017; with normalisation
    first, as Radford et al., "Language models are unsupervised multitask learners",
    2019.

    Examples
    --------
    >>> import torch
    >>> from skgen._networks.token_priors import TransformerPrior
    >>> prior = TransformerPrior(n_tokens=49, codebook_size=8)
    >>> round(prior.log_prob(torch.zeros(1, 49).long()).item(), 2)  # -49 log 8
    -101.89
    """

    def __init__(
        self,
        n_tokens: int,
        codebook_size: int,
        width: int = 64,
        n_heads: int = 4,
        n_layers: int = 2,
    ) -> None:
        super().__init__(n_tokens, codebook_size)
        T, K = n_tokens, codebook_size
        self.nothing = K  # the token before the first
        self.codes = nn.Embedding(K + 1, width)
        self.places = nn.Parameter(torch.randn(T, width))
        self.blocks = nn.ModuleList(Block(width, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        self.outputs = nn.Linear(width, K, bias=False)
        nn.init.zeros_(self.outputs.weight)

    def learning_rate(self, rate: float) -> float:
        """Ten times the networks' rate, up to 0.01, beyond which it falls apart.

        On tokens of images of clothes, 60000 rows then teach it what twelve times as
        many did: 141 nats per row.
        """
        return min(10 * rate, 0.01)

    @property
    def row_elements(self) -> int:
        """Numbers that one pass of a row holds at a time."""
        return max(super().row_elements, 4 * self.places.numel())

    @property
    def row_work(self) -> int:
        """Multiplications that a row takes: the layers are used at each place."""
        return self.n_tokens * super().row_work

    def changes(self, tokens: Tensor) -> Tensor:
        """Return the outputs (m, T, K) for tokens (m, T)."""
        before = F.pad(tokens[:, :-1], (1, 0), value=self.nothing)
        outputs, _ = self.advance(self.codes(before) + self.places, None)
        return outputs

    def advance(self, h: Tensor, past: list[Past] | None) -> tuple[Tensor, list[Past]]:
        """Return the outputs (n, t, K) of inputs (n, t, width), and the past then."""
        now = []
        for i, block in enumerate(self.blocks):
            h, each = block(h, None if past is None else past[i])
            now.append(each)
        return self.outputs(self.norm(h)), now

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw tokens (n, T), one place after the other."""
        token = torch.full((n, 1), self.nothing, device=self.places.device)
        tokens, past = [], None
        for t in range(self.n_tokens):
            outputs, past = self.advance(self.codes(token) + self.places[t], past)
            token = self.draw_token(t, outputs[:, 0], generator)
            tokens.append(token)
        return torch.cat(tokens, dim=1)
