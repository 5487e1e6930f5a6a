"""Priors over the tokens of a row: place after place, or in random order.

Where tokens have levels, those of the level at the top come first, so that each level
is drawn given the levels above it.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

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

    A prior in random order sees the order as a part of the code: behind the T tokens
    of a row are the T ranks of their places, which are uniform among all orders.

    Parameters
    ----------
    n_tokens : int
        T.
    codebook_size : int
        K.
    levels : sequence of int, default=None
        Tokens of each level, from the top; their codebooks differ. None: one level.
    n_conditions : int, default=0
        Numbers c that a row's tokens are conditioned on.
    """

    counts: Tensor  # (T, K)
    mixing: Tensor  # (): weight of the network, 1 - mixing of the unigrams

    #: Whether tokens are drawn in random order.
    has_order: ClassVar[bool] = False

    def __init__(
        self,
        n_tokens: int,
        codebook_size: int,
        *,
        levels: Sequence[int] | None = None,
        n_conditions: int = 0,
    ) -> None:
        super().__init__()
        self.levels = (n_tokens,) if levels is None else tuple(levels)
        self.n_conditions = n_conditions
        self.register_buffer("counts", torch.zeros(n_tokens, codebook_size))
        self.register_buffer("mixing", torch.tensor(0.0))
        self.has_learned = True

    @abstractmethod
    def draw(
        self, n: int, generator: torch.Generator, condition: Tensor | None = None
    ) -> Tensor:
        """Draw tokens (n, T), given conditions (n, c) where there are some."""

    @abstractmethod
    def token_log_probs(
        self, tokens: Tensor, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities (..., T) of each token, of the network and of the unigrams.

        Given those that are drawn before it, of tokens (..., T), with ranks behind them
        where there is an order, and conditions (n, c) of their rows.
        """

    def learned_log_prob(
        self, tokens: Tensor, uniform: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        """Log-mass (n,) of tokens (n, ...) by the network, which it learns from.

        Or an unbiased estimate, from the noise (n, ...) of the rows.
        """
        return self.token_log_probs(tokens, condition)[0].sum(-1)

    def learning_rate(self, rate: float) -> float:
        """Return what it learns at where the networks learn at a rate."""
        return rate

    @contextmanager
    def without_network(self) -> Iterator[None]:
        """Leave the network out of the block, where it would count for nothing."""
        self.has_learned = False
        try:
            yield
        finally:
            self.has_learned = True

    @property
    def n_tokens(self) -> int:
        """Tokens of a row."""
        return len(self.counts)

    def level_places(self, device: torch.device) -> Tensor:
        """Return the level of each place, (T,)."""
        parts = [
            torch.full((size,), level, device=device)
            for level, size in enumerate(self.levels)
        ]
        return torch.cat(parts)

    @property
    def n_noise(self) -> int:
        """Uniform numbers that a row's tokens, and their order, are drawn from."""
        return self.n_tokens

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

    def log_prob(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Log-mass (...) of tokens (..., T), with ranks where there is an order."""
        if not self.has_learned:
            return self.log_unigrams_of(tokens[..., : self.n_tokens]).sum(-1)
        return self.mixed(*self.token_log_probs(tokens, condition)).sum(-1)

    def log_unigrams_of(self, tokens: Tensor) -> Tensor:
        """Log-probabilities (..., T) of tokens (..., T) by the unigrams."""
        places = torch.arange(self.n_tokens, device=tokens.device)
        return self.log_unigrams[places, tokens]

    def draw_token(self, t: Any, change: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the token at a place, (n, 1), from the network's outputs (n, K).

        The place is a number, or one for each row (n,).
        """
        log_unigrams = self.log_unigrams[t]
        log_network = (log_unigrams + change).log_softmax(-1)
        probs = self.mixed(log_network, log_unigrams).exp()
        return torch.multinomial(probs, 1, generator=generator)


def of_each(condition: Tensor | None, tokens: Tensor) -> Tensor | None:
    """Repeat conditions (n, c) for tokens (..., n, T), as rows (m, c)."""
    if condition is None:
        return None
    return condition.expand(*tokens.shape[:-1], -1).flatten(0, -2)


class RandomOrderPrior(TokenPrior):
    """Base of the priors whose tokens are drawn in random order."""

    has_order = True

    @property
    def n_noise(self) -> int:
        """Uniform numbers: of the tokens, and of their order."""
        return 2 * self.n_tokens

    def ranks(self, uniform: Tensor) -> Tensor:
        """Return the rank (..., T) of each place, from noise (..., T): a random order.

        Places of a level that is above come first.
        """
        if len(self.levels) > 1:
            uniform = uniform + self.level_places(uniform.device)
        return uniform.argsort(-1).argsort(-1)


class SequentialPrior(TokenPrior):
    """Base of the priors whose tokens are drawn one after the other."""

    @abstractmethod
    def changes(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return what the network adds to the log-unigrams, (m, T, K).

        At each place of tokens (m, T) it knows the tokens before, and conditions
        (m, c). Where there is an order, ranks are behind the tokens (m, 2 T).
        """

    def token_log_probs(
        self, tokens: Tensor, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log p(k_t | k_<t) of the network and of the unigrams, (..., T) each."""
        rows, condition = tokens.flatten(0, -2), of_each(condition, tokens)
        logits = self.log_unigrams + self.changes(rows, condition)
        tokens = tokens[..., : self.n_tokens]
        chosen = logits.gather(-1, rows[:, : self.n_tokens, None]).squeeze(-1)
        network = (chosen - logits.logsumexp(-1)).view(tokens.shape)
        return network, self.log_unigrams_of(tokens)


class AutoregressivePrior(SequentialPrior):
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
    **about : object
        ``levels`` and ``n_conditions`` of `TokenPrior`.

    References
    ----------
    Larochelle & Murray, "The neural autoregressive distribution estimator", AISTATS
    2011.
    """

    def __init__(
        self, n_tokens: int, codebook_size: int, n_hidden: int = 64, **about: Any
    ) -> None:
        super().__init__(n_tokens, codebook_size, **about)
        T, K, H = n_tokens, codebook_size, n_hidden
        self.inputs = nn.Parameter(torch.randn(T, K, H) / math.sqrt(T))
        self.bias = nn.Parameter(torch.zeros(T, H))
        self.outputs = nn.Parameter(torch.zeros(T, H, K))
        self.shift = linear_or_none(self.n_conditions, H)

    def changes(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the outputs (m, T, K) for tokens (m, T)."""
        places = torch.arange(self.n_tokens, device=tokens.device)
        inputs = self.inputs[places, tokens]  # (m, T, H)
        return self.outputs_after(inputs.cumsum(-2) - inputs, condition)

    def outputs_after(self, before: Tensor, condition: Tensor | None) -> Tensor:
        """Return the outputs (m, T, K) after sums of inputs (m, T, H)."""
        hidden = self.bias + before
        if condition is not None and self.shift is not None:
            hidden = hidden + self.shift(condition)[:, None]
        return torch.einsum("mth,thk->mtk", hidden.tanh(), self.outputs)

    def before_first(self, n: int, condition: Tensor | None) -> Tensor:
        """Return the sums (n, H) that n rows start from."""
        before = self.bias.new_zeros(n, self.bias.shape[1])
        if condition is None or self.shift is None:
            return before
        shifted: Tensor = before + self.shift(condition)
        return shifted

    def draw(
        self, n: int, generator: torch.Generator, condition: Tensor | None = None
    ) -> Tensor:
        """Draw tokens (n, T), one place after the other."""
        before = self.before_first(n, condition)
        tokens = []
        for t in range(self.n_tokens):
            change = (self.bias[t] + before).tanh() @ self.outputs[t]
            token = self.draw_token(t, change, generator)
            before = before + self.inputs[t, token[:, 0]]
            tokens.append(token)
        return torch.cat(tokens, dim=1)


class AnyOrderPrior(RandomOrderPrior, AutoregressivePrior):
    """p(k) as a mixture over orders of the tokens, with weights for each place.

    ``p(k) = E_s prod_i p(k_s(i) | k_s(<i))``, s a random order of the places of each
    level, from the top. The running sum of the hidden layer is over the tokens before
    in the order, so that one network gives every token from any others, and all of an
    order at once. Its log-mass is bounded by ``E_s sum_i log p(k_s(i) | k_s(<i))``,
    which it learns from one order of a row at a time. With the order a part of the
    code, ``p(k|s)`` is exact.

    Parameters
    ----------
    n_tokens : int
        T.
    codebook_size : int
        K.
    n_hidden : int, default=64
        Hidden units, H.
    **about : object
        ``levels`` and ``n_conditions`` of `TokenPrior`.

    References
    ----------
    Uria, Murray & Larochelle, "A deep and tractable density estimator", ICML 2014.

    Examples
    --------
    >>> import torch
    >>> from skgen._networks.token_priors import AnyOrderPrior
    >>> prior = AnyOrderPrior(n_tokens=3, codebook_size=8)
    >>> tokens, ranks = torch.zeros(1, 3).long(), torch.tensor([[2, 0, 1]])
    >>> round(prior.log_prob(torch.cat([tokens, ranks], 1)).item(), 2)  # -3 log 8
    -6.24
    """

    @property
    def row_elements(self) -> int:
        """Numbers that one pass of a row holds: which places are before which."""
        return max(super().row_elements, self.n_tokens**2)

    def changes(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the outputs (m, T, K) for tokens and ranks (m, 2 T)."""
        rows, ranks = tokens.split(self.n_tokens, dim=-1)
        inputs = self.inputs[torch.arange(self.n_tokens, device=rows.device), rows]
        is_before = ranks[:, None] < ranks[..., None]  # (m, T, T)
        return self.outputs_after(is_before.to(inputs) @ inputs, condition)

    def draw(
        self, n: int, generator: torch.Generator, condition: Tensor | None = None
    ) -> Tensor:
        """Draw tokens (n, T), one after the other, in an order for each row."""
        uniform = self.bias.new_empty(n, self.n_tokens).uniform_(generator=generator)
        order = self.ranks(uniform).argsort(-1)
        before = self.before_first(n, condition)
        tokens = torch.zeros_like(order)
        for t in order.T:  # places (n,)
            hidden = (self.bias[t] + before).tanh()
            change = torch.einsum("nh,nhk->nk", hidden, self.outputs[t])
            token = self.draw_token(t, change, generator)
            before = before + self.inputs[t, token[:, 0]]
            tokens = tokens.scatter(1, t[:, None], token)
        return tokens


def linear_or_none(n_inputs: int, n_outputs: int) -> nn.Linear | None:
    """Return a linear map without a bias, or None where there are no inputs."""
    return nn.Linear(n_inputs, n_outputs, bias=False) if n_inputs else None


class Attention(nn.Module):
    """Self-attention of several heads, to the places before or to all."""

    def __init__(self, width: int, n_heads: int, is_causal: bool = True) -> None:
        super().__init__()
        self.n_heads, self.is_causal = n_heads, is_causal
        self.inputs = nn.Linear(width, 3 * width)
        self.outputs = nn.Linear(width, width)

    def forward(self, h: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Let each place see those before it and itself, or all, (n, t, width).

        With a past, ``h`` is one place that comes after it.
        """
        heads = self.inputs(h).unflatten(-1, (3, self.n_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        if past is not None:
            key = torch.cat([past.keys, key], dim=2)
            value = torch.cat([past.values, value], dim=2)
        is_causal = self.is_causal and past is None
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
        return self.outputs(seen.transpose(1, 2).flatten(2)), Past(key, value)


class Block(nn.Module):
    """A layer: attention, then two dense maps; each adds to its normalised input."""

    def __init__(self, width: int, n_heads: int, is_causal: bool = True) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width)
        self.attention = Attention(width, n_heads, is_causal)
        self.before_dense = nn.LayerNorm(width)
        self.dense = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, h: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Map (n, t, width) to (n, t, width), and the past to the one with it."""
        seen, past = self.attention(self.before_attention(h), past)
        h = h + seen
        return h + self.dense(self.before_dense(h)), past


class AttentionPrior(TokenPrior):
    """Base of the priors by a transformer, whose weights all places share.

    A symbol is a token, counted on from level to level, or, last of all, nothing.

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
    **about : object
        ``levels`` and ``n_conditions`` of `TokenPrior`.
    """

    #: Whether a place sees those before it only.
    is_causal: ClassVar[bool]

    def __init__(
        self,
        n_tokens: int,
        codebook_size: int,
        width: int = 64,
        n_heads: int = 4,
        n_layers: int = 2,
        **about: Any,
    ) -> None:
        super().__init__(n_tokens, codebook_size, **about)
        T, K, causal = n_tokens, codebook_size, self.is_causal
        self.nothing = len(self.levels) * K
        self.codes = nn.Embedding(self.nothing + 1, width)
        self.places = nn.Parameter(torch.randn(T, width))
        self.blocks = nn.ModuleList(
            Block(width, n_heads, causal) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.outputs = nn.Linear(width, self.nothing, bias=False)
        nn.init.zeros_(self.outputs.weight)
        self.shift = linear_or_none(self.n_conditions, width)

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

    def level_of(self, t: int) -> int:
        """Return the level of a place."""
        ends = itertools.accumulate(self.levels)
        return next(level for level, end in enumerate(ends) if t < end)

    def symbols(self, tokens: Tensor) -> Tensor:
        """Return tokens (m, T) as symbols."""
        if len(self.levels) == 1:
            return tokens
        return tokens + self.counts.shape[1] * self.level_places(tokens.device)

    def shifted(self, h: Tensor, condition: Tensor | None) -> Tensor:
        """Add what a condition (m, c) says to inputs (m, t, width)."""
        if condition is None or self.shift is None:
            return h
        found: Tensor = h + self.shift(condition)[:, None]
        return found

    def advance(self, h: Tensor, past: list[Past] | None) -> tuple[Tensor, list[Past]]:
        """Return what the layers make of inputs (n, t, width), and the past then."""
        now = []
        for i, block in enumerate(self.blocks):
            h, each = block(h, None if past is None else past[i])
            now.append(each)
        return self.norm(h), now

    def logits(self, h: Tensor, level: int | Tensor) -> Tensor:
        """Return the outputs (n, t, K) of a level, or of the level (n, t) of each."""
        outputs: Tensor = self.outputs(h)
        if len(self.levels) == 1:
            return outputs
        by_level = outputs.unflatten(-1, (len(self.levels), -1))  # (n, t, L, K)
        if isinstance(level, int):
            alone: Tensor = by_level[:, :, level]
            return alone
        index = level[..., None, None].expand(*h.shape[:2], 1, by_level.shape[-1])
        found: Tensor = by_level.gather(2, index).squeeze(2)
        return found


class TransformerPrior(AttentionPrior, SequentialPrior):
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
    **about : object
        ``levels`` and ``n_conditions`` of `TokenPrior`.

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

    is_causal = True

    def changes(self, tokens: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the outputs (m, T, K) for tokens (m, T)."""
        symbols = self.symbols(tokens)
        before = F.pad(symbols[:, :-1], (1, 0), value=self.nothing)
        inputs = self.shifted(self.codes(before) + self.places, condition)
        h, _ = self.advance(inputs, None)
        if len(self.levels) == 1:
            return self.logits(h, 0)
        return self.logits(h, self.level_places(h.device).expand(len(h), -1))

    def draw(
        self, n: int, generator: torch.Generator, condition: Tensor | None = None
    ) -> Tensor:
        """Draw tokens (n, T), one place after the other."""
        K = self.counts.shape[1]
        symbol = torch.full((n, 1), self.nothing, device=self.places.device)
        tokens, past = [], None
        for t in range(self.n_tokens):
            inputs = self.shifted(self.codes(symbol) + self.places[t], condition)
            h, past = self.advance(inputs, past)
            level = self.level_of(t)
            token = self.draw_token(t, self.logits(h, level)[:, 0], generator)
            symbol = token + K * level
            tokens.append(token)
        return torch.cat(tokens, dim=1)


class Step(NamedTuple):
    """One step of a masked prior: the ranks that it draws, in a level."""

    start: int
    end: int
    level_end: int  # the ranks of the level that are left are start, ..., level_end - 1
    level: int


def schedule(levels: Sequence[int], most: int) -> list[Step]:
    """Return the steps of each level: a token each, or ``most`` along half a cosine.

    A step draws few tokens where few are known, and many at the end (Chang et al.
    2022).
    """
    steps, first = [], 0
    for level, size in enumerate(levels):
        n = min(size, most)
        known = [round(size * (1 - math.cos(0.5 * math.pi * i / n))) for i in range(n)]
        cuts = [max(each, i) for i, each in enumerate(known)] if n < size else range(n)
        ends = [first + cut for cut in (*cuts, size)]
        steps += [
            Step(a, b, first + size, level)
            for a, b in itertools.pairwise(ends)
            if a < b
        ]
        first += size
    return steps


class MaskedPrior(AttentionPrior, RandomOrderPrior):
    """p(k) as a mixture over orders of the tokens, by a transformer: many tokens.

    ``p(k) = E_s prod_i p(k_s(i) | k_s(<i))``, s a random order of the places of each
    level, from the top: one network gives every token from any others. Its log-mass is
    bounded by ``E_s sum_i log p(k_s(i) | k_s(<i))`` (Uria et al. 2014), which it learns
    from one step of one order at a time (Hoogeboom et al. 2022). Places are filled in a
    few steps (Chang et al. 2022), and the tokens of one step are independent given
    those of the steps before: with the order a part of the code, ``p(k|s)`` is exact.

    A discrete diffusion whose noise hides tokens (absorbing states, Austin et al. 2021)
    is this model: tokens that are hidden at independent times come back in a random
    order, and in continuous time its bound is the one above.

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
    n_steps : int, default=8
        Most steps of a level.
    **about : object
        ``levels`` and ``n_conditions`` of `TokenPrior`.

    References
    ----------
    Uria, Murray & Larochelle, "A deep and tractable density estimator", ICML 2014.
    Hoogeboom et al., "Autoregressive diffusion models", ICLR 2022. Chang et al.,
    "MaskGIT: masked generative image transformer", CVPR 2022. Austin et al.,
    "Structured denoising diffusion models in discrete state-spaces", NeurIPS 2021.

    Examples
    --------
    >>> import torch
    >>> from skgen._networks.token_priors import MaskedPrior
    >>> prior = MaskedPrior(n_tokens=3, codebook_size=8)
    >>> tokens, ranks = torch.zeros(1, 3).long(), torch.tensor([[2, 0, 1]])
    >>> round(prior.log_prob(torch.cat([tokens, ranks], 1)).item(), 2)  # -3 log 8
    -6.24
    """

    is_causal = False

    step_starts: Tensor  # (n_steps,), ranks; with the next two, what `schedule` gives
    step_ends: Tensor
    level_ends: Tensor

    def __init__(self, *sizes: int, n_steps: int = 8, **about: Any) -> None:
        super().__init__(*sizes, **about)
        self.steps = schedule(self.levels, n_steps)
        starts, ends, level_ends, _ = zip(*self.steps)
        self.register_buffer("step_starts", torch.tensor(starts))
        self.register_buffer("step_ends", torch.tensor(ends))
        self.register_buffer("level_ends", torch.tensor(level_ends))

    @property
    def n_noise(self) -> int:
        """Uniform numbers: of the tokens, of their order, and of one step."""
        return super().n_noise + 1

    @property
    def row_work(self) -> int:
        """Multiplications that a row takes, in all steps."""
        return len(self.steps) * super().row_work

    def seen(self, symbols: Tensor, known: Tensor, condition: Tensor | None) -> Tensor:
        """Return what the layers make (m, T, width) of the symbols that are known."""
        shown = torch.where(known, symbols, self.nothing)
        inputs = self.shifted(self.codes(shown) + self.places, condition)
        return self.advance(inputs, None)[0]

    def step_logits(self, h: Tensor, places: Tensor, level: int) -> Tensor:
        """Return the outputs (m, g, K) at places (m, g) of a level."""
        index = places[..., None].expand(-1, -1, h.shape[-1])
        return self.logits(h.gather(1, index), level)

    def token_log_probs(
        self, tokens: Tensor, condition: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log p of each token given those of the steps before, (..., T), and unigrams.

        Of tokens and ranks (..., 2 T).
        """
        T, condition = self.n_tokens, of_each(condition, tokens)
        rows, ranks = tokens.reshape(-1, 2 * T).split(T, dim=-1)
        order, symbols = ranks.argsort(-1), self.symbols(rows)
        log_unigrams, parts = self.log_unigrams, []
        for step in self.steps:
            h = self.seen(symbols, ranks < step.start, condition)
            places = order[:, step.start : step.end]
            logits = log_unigrams[places] + self.step_logits(h, places, step.level)
            chosen = rows.gather(1, places)[..., None]
            parts.append(logits.gather(-1, chosen).squeeze(-1) - logits.logsumexp(-1))
        network = torch.cat(parts, dim=1).gather(1, ranks)
        tokens = tokens[..., :T]
        return network.view(tokens.shape), self.log_unigrams_of(tokens)

    def learned_log_prob(
        self, tokens: Tensor, uniform: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        """Estimate the log-mass (n,) of tokens and ranks (n, 2 T) from one step.

        Whose places are any of those of its level that are left, so that all of these
        are of use; its number is drawn from the last of the uniform numbers.
        """
        rows, ranks = tokens.split(self.n_tokens, dim=-1)
        n_steps, level_places = len(self.steps), self.level_places(tokens.device)
        step = (uniform[:, -1] * n_steps).long().clamp(max=n_steps - 1)
        start, end, last = (
            each[step][:, None]
            for each in (self.step_starts, self.step_ends, self.level_ends)
        )
        h = self.seen(self.symbols(rows), ranks < start, condition)
        changes = self.logits(h, level_places.expand(len(h), -1))
        log_probs = (self.log_unigrams + changes).log_softmax(-1)
        chosen = log_probs.gather(-1, rows[..., None]).squeeze(-1)
        is_left = (ranks >= start) & (ranks < last)
        part = (end - start) / (last - start)
        found: Tensor = n_steps * (part * is_left * chosen).sum(-1)
        return found

    def draw(
        self, n: int, generator: torch.Generator, condition: Tensor | None = None
    ) -> Tensor:
        """Draw tokens (n, T), those of a step at once."""
        like, T, K = self.places, self.n_tokens, self.counts.shape[1]
        ranks = self.ranks(like.new_empty(n, T).uniform_(generator=generator))
        order = ranks.argsort(-1)
        symbols = torch.zeros_like(ranks)
        for step in self.steps:
            h = self.seen(symbols, ranks < step.start, condition)
            places = order[:, step.start : step.end]
            changes = self.step_logits(h, places, step.level)
            drawn = self.draw_token(places.flatten(), changes.flatten(0, 1), generator)
            symbols = symbols.scatter(1, places, drawn.view_as(places) + K * step.level)
        found: Tensor = symbols % K
        return found
