"""Stochastic layers that are inferred from the top down: ladder VAEs.

A row gives evidence of the code of each layer, a normal density each, from the bottom
up. Then codes are drawn from the top down: at each layer the evidence meets p(z|u), the
prior given the layer above, and the two are multiplied, weighed by their precisions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skgen._networks.dense import ACTIVATIONS, Factory, mlp
from skgen._networks.images import ImageNetworks, ResidualBlock, ToImages, ToRows
from skgen.priors import Normal, StackedPrior


def product(one: Normal, other: Normal) -> Normal:
    """Multiply two normal densities: a mean of theirs, weighed by their precisions."""
    total = one.sigma**2 + other.sigma**2
    mean = other.mean + other.sigma**2 / total * (one.mean - other.mean)
    return Normal(mean, one.sigma * other.sigma / total.sqrt())


class TopDownPosterior(NamedTuple):
    """q(u|x) q(z|u, x): the codes of all layers side by side, (..., n, k + k').

    ``q(z|u, x)`` is proportional to the evidence of x times ``p(z|u)``.
    """

    evidence: Normal  # of the first layer, (n, k)
    above: Any  # q(u|x), a Normal or a TopDownPosterior
    given: Callable[..., Normal]  # u, frozen -> p(z|u)

    @property
    def n_dims(self) -> int:
        """Dimensions of the parameters; draws may have one more."""
        return self.evidence.n_dims

    def at(self, u: Tensor) -> Normal:
        """q(z|u, x) at codes u (..., n, k') of all layers above."""
        return product(self.evidence, self.given(u))

    def split(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Part codes into those of the first layer and the rest."""
        k = self.evidence.mean.shape[-1]
        return codes[..., :k], codes[..., k:]

    @property
    def mean(self) -> Tensor:
        """Means of all layers, each given the mean of those above."""
        u = self.above.mean
        return torch.cat([self.at(u).mean, u], -1)

    @property
    def sigma(self) -> Tensor:
        """Standard deviations of all layers, likewise."""
        return torch.cat([self.at(self.above.mean).sigma, self.above.sigma], -1)

    def draw(self, eps: Tensor) -> Tensor:
        """Reparameterised draws, from the top down."""
        eps_z, eps_u = self.split(eps)
        u = self.above.draw(eps_u)
        return torch.cat([self.at(u).draw(eps_z), u], -1)

    def log_prob(self, codes: Tensor) -> Tensor:
        """Log-density (..., n) of draws."""
        z, u = self.split(codes)
        found: Tensor = self.at(u).log_prob(z) + self.above.log_prob(u)
        return found

    def frozen(self) -> TopDownPosterior:
        """Return the same density, which passes no gradient to its parameters."""
        given = partial(self.given, frozen=True)
        return TopDownPosterior(self.evidence.frozen(), self.above.frozen(), given)


class LadderPrior(StackedPrior):
    """p(z) = int p(z|u) p(u) du, whose layers are inferred from the top down.

    Parameters
    ----------
    decoder : Module
        Maps (..., k') to the outputs of p(z|u), (..., 2k).
    n_components : int
        k.
    prior : StandardNormal, LearnedPrior or LadderPrior
        p(u).

    References
    ----------
    Sonderby, Raiko, Maaloe, Sonderby & Winther, "Ladder variational autoencoders",
    NeurIPS 2016.
    """

    def posterior(self, q: Normal) -> TopDownPosterior:
        """q(z, u|x) of all layers, from the evidence (n, k + k') of all of them."""
        k = self.layer_sizes[0]
        own, above = (
            Normal(*(p[..., s] for p in q)) for s in (slice(k), slice(k, None))
        )
        return TopDownPosterior(own, self.prior.posterior(above), self.given)

    def kl(self, q: TopDownPosterior, codes: Tensor) -> Tensor:
        """KL(q || p) of each coordinate, (n, k + k'), at draws (S?, n, .) of u.

        That of a layer is exact given those above.
        """
        u = self._split(codes)[1]
        p = self.given(u)
        own = product(q.evidence, p).kl_to(p)
        own = own if own.ndim == q.n_dims else own.mean(0)
        return torch.cat([own, self.prior.kl(q.above, u)], -1)


# Networks.


class LadderEncoder(nn.Module):
    """Evidence of all layers, from the bottom up: means (n, .), then log sigmas.

    Parameters
    ----------
    rungs : iterable of Module
        Of each layer: from the features of the layer below, or rows, to its features.
    heads : iterable of Module
        Of each layer: from its features to means and log sigmas, (n, 2k).
    """

    def __init__(self, rungs: Iterable[nn.Module], heads: Iterable[nn.Module]) -> None:
        super().__init__()
        self.rungs, self.heads = nn.ModuleList(rungs), nn.ModuleList(heads)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map rows (n, p) to the evidence of all layers, (n, 2 (k + k' + ...))."""
        evidence, features = [], inputs
        for rung, head in zip(self.rungs, self.heads):
            features = rung(features)
            evidence.append(head(features).chunk(2, dim=-1))
        means, log_sigmas = zip(*evidence)
        return torch.cat([*means, *log_sigmas], -1)


class DenseCell(nn.Module):
    """Rows plus what two layers make of them: nothing, at the start.

    So deep networks start as shallow ones, with no normalisation by batches, which
    would couple rows (Zhang, Dauphin & Ma, "Fixup initialization", ICLR 2019).
    """

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        last = nn.Linear(width, width)
        self.branch = nn.Sequential(act(), nn.Linear(width, width), act(), last)
        nn.init.zeros_(last.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch."""
        out: Tensor = x + self.branch(x)
        return out


class AnyRows(nn.Sequential):
    """Network of rows (n, p), called on tensors (..., n, p)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., n, p) to (..., n, q)."""
        outputs: Tensor = super().forward(x.flatten(0, -2))  # type: ignore[no-untyped-call]
        found: Tensor = outputs.unflatten(0, x.shape[:-1])
        return found


class DenseLadder(NamedTuple):
    """Factories of the networks of layers between tables and codes.

    Parameters
    ----------
    components : sequence of int
        Coordinates of each layer, the one next to the data first.
    hidden : sequence of sequence of int
        Widths of the hidden layers that lead to each. Where there are some, a residual
        cell follows them.
    activation : str
        A name of ``skgen._networks.dense.ACTIVATIONS``.
    """

    components: Sequence[int]
    hidden: Sequence[Sequence[int]]
    activation: str

    def encoder(self, n_inputs: int, n_outputs: int) -> LadderEncoder:
        """Make the encoder of all layers."""
        rungs, heads, width = [], [], n_inputs
        for k, sizes in zip(self.components, self.hidden):
            rungs.append(self._features(width, sizes))
            width = sizes[-1] if sizes else width
            heads.append(nn.Linear(width, 2 * k))
        return LadderEncoder(rungs, heads)

    def decoder(self, n_inputs: int, n_outputs: int) -> nn.Module:
        """Make the decoder of rows, from the codes of the first layer."""
        return mlp(n_inputs, n_outputs, self.hidden[0][::-1], self.activation)

    def between(self, layer: int) -> nn.Module:
        """Make the network of p(z|u), z of a layer and u of the one above it."""
        k, above = self.components[layer : layer + 2]
        sizes = self.hidden[layer + 1][::-1]
        width = sizes[-1] if sizes else above
        return nn.Sequential(self._features(above, sizes), nn.Linear(width, 2 * k))

    def _features(self, width: int, sizes: Sequence[int]) -> nn.Module:
        """Hidden layers, activated, with a residual cell between the last two parts."""
        if not sizes:
            return nn.Identity()
        *inner, last = sizes
        cell, act = DenseCell(last, self.activation), ACTIVATIONS[self.activation]()
        return nn.Sequential(mlp(width, last, inner, self.activation), cell, act)


class GridHead(nn.Module):
    """Means and log sigmas (n, 2k) of a grid of codes, from features (n, C, h, w)."""

    def __init__(self, channels: int, per_place: int) -> None:
        super().__init__()
        self.outputs, self.rows = nn.Conv2d(channels, 2 * per_place, 1), ToRows()

    def forward(self, features: Tensor) -> Tensor:
        """Map features to rows of means, and of log sigmas behind them."""
        return torch.cat([self.rows(p) for p in self.outputs(features).chunk(2, 1)], -1)


class ImageLadder(NamedTuple):
    """Factories of the networks of layers between images and codes.

    All layers see the features of the smallest size. A layer whose coordinates are a
    multiple of the places of that grid is a grid of so many channels; others are
    vectors.

    Parameters
    ----------
    components : sequence of int
        Coordinates of each layer, the one next to the data first.
    images : ImageNetworks
        Factories of the networks of one layer.
    """

    components: Sequence[int]
    images: ImageNetworks

    def per_place(self, k: int) -> int:
        """Return the channels of a layer that is a grid; 0 of one that is a vector."""
        places = math.prod(self.images.feature_shape[1:])
        return 0 if k % places else k // places

    def encoder(self, n_inputs: int, n_outputs: int) -> LadderEncoder:
        """Make the encoder of all layers."""
        down = nn.Sequential(*self.images.down(n_inputs))
        rungs = [down, *(self._cell() for _ in self.components[1:])]
        return LadderEncoder(rungs, map(self._head, self.components))

    def decoder(self, n_inputs: int, n_outputs: int) -> nn.Module:
        """Make the decoder of rows, from the codes of the first layer."""
        images = self.images
        make = images.grid_decoder if self.per_place(n_inputs) else images.decoder
        return make(n_inputs, n_outputs)

    def between(self, layer: int) -> nn.Module:
        """Make the network of p(z|u), z of a layer and u of the one above it."""
        k, above = self.components[layer : layer + 2]
        return AnyRows(*self._to_features(above), self._cell(), self._head(k))

    def _cell(self) -> nn.Module:
        width, activation = self.images.feature_shape[0], self.images.activation
        block = ResidualBlock(width, activation)
        return nn.Sequential(block, ACTIVATIONS[activation]())

    def _head(self, k: int) -> nn.Module:
        channels, h, w = self.images.feature_shape
        if per_place := self.per_place(k):
            return GridHead(channels, per_place)
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * h * w, 2 * k))

    def _to_features(self, k: int) -> list[nn.Module]:
        shape = channels, h, w = self.images.feature_shape
        if per_place := self.per_place(k):
            return [ToImages(h, w), nn.Conv2d(per_place, channels, 3, padding=1)]
        return [nn.Linear(k, math.prod(shape)), nn.Unflatten(1, shape)]


Ladder = DenseLadder | ImageLadder


def factories(ladder: Ladder) -> tuple[Factory, Factory]:
    """Return the factories of the encoder of all layers and of the decoder of rows."""
    return ladder.encoder, ladder.decoder
