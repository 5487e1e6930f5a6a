"""Networks for images: convolutional and residual, between rows and codes.

A row (n, height * width * C) has its channels last, as arrays of images do. Inside,
images are (n, C, height, width); strided convolutions halve them until neither side
is above 8. A code is either a vector, by a linear map of what is left, or a grid of
tokens, one at each place that is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skgen._networks.dense import ACTIVATIONS, Layers
from skgen._utils.parameters import integer, sequence

SMALLEST_SIDE, LARGEST_SIDE, MOST_CHANNELS = 8, 128, 4
# No side of a grid is longer.
GRID_SIDE = 8
# Layers have at most this multiple of the channels of the first.
MOST_WIDENING = 4
# Scale of the weights of a decoder's first layer. It starts near its offsets, and
# small weights change fast: on Fashion-MNIST, 150 steps leave a squared error of 15.6 a
# row, against 21.2 at full scale.
FIRST_GAIN = 0.03


def check_image_shape(
    image_shape: Any, n_features: int, owner: str
) -> tuple[int, int, int]:
    """Read the ``image_shape`` parameter of an estimator.

    Parameters
    ----------
    image_shape : (height, width) or (height, width, channels)
        Without channels there is one.
    n_features : int
        Width of the rows.
    owner : str
        Name of the estimator, for errors.

    Returns
    -------
    height, width, channels : int
        The shape of the image in each row.

    Raises
    ------
    ValueError
        If a side is outside [8, 128] or the channels are outside [1, 4], or if rows
        have another number of features.

    Examples
    --------
    >>> from skgen._networks.images import check_image_shape
    >>> check_image_shape((28, 28), n_features=784, owner="VAE")
    (28, 28, 1)
    """
    sides = integer(SMALLEST_SIDE, LARGEST_SIDE)
    if not (
        sequence(integer(1), 2, 3).accepts(image_shape)
        and all(sides.accepts(side) for side in image_shape[:2])
        and all(integer(1, MOST_CHANNELS).accepts(C) for C in image_shape[2:])
    ):
        raise ValueError(
            f"The 'image_shape' parameter of {owner} must be (height, width) or "
            f"(height, width, channels), with sides in the range [{SMALLEST_SIDE}, "
            f"{LARGEST_SIDE}] and channels in the range [1, {MOST_CHANNELS}]. Got "
            f"{image_shape!r} instead."
        )
    height, width, channels = (int(size) for size in (*image_shape, 1)[:3])
    if height * width * channels != n_features:
        raise ValueError(
            f"X has {n_features} features, but {owner} with image_shape="
            f"{image_shape!r} is expecting {height * width * channels} features as "
            "input: height * width * channels. Set image_shape to the shape of the "
            "image in each row of X, channels last."
        )
    return height, width, channels


def halved_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes from the image to the grid: each half of the one before, rounded up."""
    sizes = [(height, width)]
    while len(sizes) == 1 or max(sizes[-1]) > GRID_SIDE:
        h, w = sizes[-1]
        sizes.append((-(-h // 2), -(-w // 2)))
    return sizes


def grid_shape(height: int, width: int) -> tuple[int, int]:
    """Height and width of the grid of tokens of an image.

    Parameters
    ----------
    height, width : int
        Size of the image. It is halved once, and on until neither side is above 8;
        halves are rounded up.

    Returns
    -------
    height, width : int
        Size of the grid.

    Examples
    --------
    >>> from skgen._networks.images import grid_shape
    >>> grid_shape(28, 28), grid_shape(8, 13)
    ((7, 7), (4, 7))
    """
    return halved_sizes(height, width)[-1]


class ToImages(nn.Module):
    """Rows (n, h * w * C), channels last -> images (n, C, h, w)."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.size = (height, width)

    def forward(self, x: Tensor) -> Tensor:
        """Unflatten."""
        found: Tensor = (
            x.unflatten(1, (*self.size, -1)).permute(0, 3, 1, 2).contiguous()
        )
        return found


class ToRows(nn.Module):
    """Images (n, C, h, w) -> rows (n, h * w * C), channels last."""

    def forward(self, x: Tensor) -> Tensor:
        """Flatten."""
        return x.permute(0, 2, 3, 1).flatten(1)


class Crop(nn.Module):
    """Images, less what is below and to the right of a size."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.size = (height, width)

    def forward(self, x: Tensor) -> Tensor:
        """Cut."""
        height, width = self.size
        return x[..., :height, :width]


class Offsets(nn.Module):
    """Rows plus a learned number for each feature."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(n_features))

    def forward(self, x: Tensor) -> Tensor:
        """Add."""
        return x + self.bias


class ResidualBlock(nn.Module):
    """Images plus what two convolutions, after their activations, make of them."""

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        inner = -(-channels // 2)
        self.branch = nn.Sequential(
            ACTIVATIONS[activation](),
            nn.Conv2d(channels, inner, 3, padding=1),
            ACTIVATIONS[activation](),
            nn.Conv2d(inner, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the branch."""
        out: Tensor = x + self.branch(x)
        return out


class GridsToImages(nn.Module):
    """Rows of the tokens of several grids -> images (n, L * c, h, w), side by side.

    Tokens are at the places of a grid one after the other, and grid after grid; each
    is spread over the pixels that its place has.

    Parameters
    ----------
    shapes : sequence of (height, width)
        Of each of the L grids.
    size : (height, width)
        Of the images.
    """

    def __init__(
        self, shapes: Sequence[tuple[int, ...]], size: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.shapes, self.size = list(shapes), size

    def forward(self, x: Tensor) -> Tensor:
        """Part the rows into images, and bring them to one size."""
        sizes = [math.prod(shape) for shape in self.shapes]
        c = x.shape[1] // sum(sizes)
        parts = x.split([size * c for size in sizes], dim=1)
        images = [
            part.unflatten(1, (*shape, c)).permute(0, 3, 1, 2)
            for part, shape in zip(parts, self.shapes)
        ]
        return torch.cat([F.interpolate(each, self.size) for each in images], dim=1)


class GridsEncoder(nn.Module):
    """Images (n, C, h, w) -> rows of the vectors of grids, each half of the next.

    Parameters
    ----------
    shapes : sequence of (height, width)
        Of the grids, the smallest first.
    width : int
        C.
    code_size : int
        c, width of a vector.
    activation : str
        A name of ``skgen._networks.dense.ACTIVATIONS``.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, ...]],
        width: int,
        code_size: int,
        activation: str,
    ) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv2d(width, code_size, 1) for _ in shapes)
        self.halves = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, stride=2, padding=1),
                ResidualBlock(width, activation),
                ACTIVATIONS[activation](),
            )
            for _ in shapes[1:]
        )
        self.to_rows = ToRows()

    def forward(self, x: Tensor) -> Tensor:
        """Encode, and halve, and encode again."""
        rows = [self.to_rows(self.heads[0](x))]
        for head, half in zip(self.heads[1:], self.halves):
            x = half(x)
            rows.insert(0, self.to_rows(head(x)))
        return torch.cat(rows, dim=1)


def unit_gain(layer: nn.Module) -> None:
    """Start a linear layer such that outputs vary as much as inputs."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


@dataclass(frozen=True)
class ImageNetworks:
    """Factories of the encoders and decoders of images of one size.

    Each method takes the widths of rows in and out, ``n_inputs`` and ``n_outputs``,
    and makes a network between them. Rows of images have as many numbers at each
    pixel as their width has room for: channels, and for a decoder, several outputs of
    each channel side by side.

    Parameters
    ----------
    height, width : int
        Size of the images.
    channels : int, default=32
        Channels at half size. They double at each further halving, up to four times.
    n_blocks : int, default=1
        Residual blocks at each size, but at the largest of several, where they cost
        most.
    activation : str, default="relu"
        A name of ``skgen._networks.dense.ACTIVATIONS``.

    References
    ----------
    van den Oord, Vinyals & Kavukcuoglu, "Neural discrete representation learning",
    NeurIPS 2017. He et al., "Identity mappings in deep residual networks", ECCV 2016.

    Examples
    --------
    >>> import torch
    >>> from skgen._networks.images import ImageNetworks
    >>> networks = ImageNetworks(28, 28)
    >>> encoder, decoder = networks.encoder(784, 10), networks.decoder(10, 784)
    >>> decoder(encoder(torch.zeros(2, 784))).shape
    torch.Size([2, 784])
    >>> networks.grid_encoder(784, 7 * 7 * 4)(torch.zeros(2, 784)).shape
    torch.Size([2, 196])
    """

    height: int
    width: int
    channels: int = 32
    n_blocks: int = 1
    activation: str = "relu"

    def encoder(self, n_inputs: int, n_outputs: int) -> nn.Sequential:
        """Make an encoder: rows of images -> vectors."""
        head = [nn.Flatten(), nn.Linear(math.prod(self._levels[-1]), n_outputs)]
        return nn.Sequential(*self.down(n_inputs), *head).apply(unit_gain)

    def decoder(self, n_inputs: int, n_outputs: int) -> Layers:
        """Make a decoder: vectors -> rows of images."""
        shape = self._levels[-1]
        first = [nn.Linear(n_inputs, math.prod(shape)), nn.Unflatten(1, shape)]
        return self._decoder(first, n_outputs)

    def grid_encoder(self, n_inputs: int, n_outputs: int) -> nn.Sequential:
        """Make an encoder: rows of images -> rows of tokens, place after place."""
        width, h, w = self._levels[-1]
        head = [nn.Conv2d(width, n_outputs // (h * w), 1), ToRows()]
        return nn.Sequential(*self.down(n_inputs), *head).apply(unit_gain)

    def grid_decoder(self, n_inputs: int, n_outputs: int) -> Layers:
        """Make a decoder: rows of tokens, place after place -> rows of images."""
        width, h, w = self._levels[-1]
        tokens = nn.Conv2d(n_inputs // (h * w), width, 3, padding=1)
        return self._decoder([ToImages(h, w), tokens], n_outputs)

    def grids_encoder(
        self, n_inputs: int, n_outputs: int, shapes: Sequence[tuple[int, ...]]
    ) -> nn.Sequential:
        """Make an encoder: rows of images -> rows of the tokens of several grids.

        Each is half of the one behind it, and the last is that of ``grid_encoder``.
        """
        c = n_outputs // sum(math.prod(shape) for shape in shapes)
        head = GridsEncoder(shapes, self._levels[-1][0], c, self.activation)
        return nn.Sequential(*self.down(n_inputs), head).apply(unit_gain)

    def grids_decoder(
        self, n_inputs: int, n_outputs: int, shapes: Sequence[tuple[int, ...]]
    ) -> Layers:
        """Make a decoder: rows of the tokens of several grids -> rows of images."""
        width, h, w = self._levels[-1]
        n_planes = len(shapes) * (n_inputs // sum(math.prod(each) for each in shapes))
        tokens = nn.Conv2d(n_planes, width, 3, padding=1)
        return self._decoder([GridsToImages(shapes, (h, w)), tokens], n_outputs)

    def between_grids(
        self,
        n_inputs: int,
        n_outputs: int,
        shapes: Sequence[tuple[int, ...]],
        size: tuple[int, ...],
    ) -> nn.Sequential:
        """Make a network: rows of the tokens of grids -> those of a larger grid."""
        width = self._levels[-1][0]
        n_planes = len(shapes) * (n_inputs // sum(math.prod(each) for each in shapes))
        return nn.Sequential(
            GridsToImages(shapes, size),
            nn.Conv2d(n_planes, width, 3, padding=1),
            ResidualBlock(width, self.activation),
            self._activation(),
            nn.Conv2d(width, n_outputs // math.prod(size), 1),
            ToRows(),
        ).apply(unit_gain)

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the features at the smallest size."""
        return self._levels[-1]

    @property
    def _levels(self) -> list[tuple[int, int, int]]:
        """Channels, height and width at half size, ..., at the grid."""
        return [
            (self.channels * min(2**level, MOST_WIDENING), h, w)
            for level, (h, w) in enumerate(halved_sizes(self.height, self.width)[1:])
        ]

    def _activation(self) -> nn.Module:
        return ACTIVATIONS[self.activation]()

    def _blocks(self, level: int) -> list[nn.Module]:
        """Residual blocks of a level."""
        costly = level == 0 and len(self._levels) > 1
        n_blocks, width = 0 if costly else self.n_blocks, self._levels[level][0]
        return [ResidualBlock(width, self.activation) for _ in range(n_blocks)]

    def down(self, n_inputs: int) -> list[nn.Module]:
        """Make layers from rows of images to features (n, C, h, w), activated."""
        layers: list[nn.Module] = [ToImages(self.height, self.width)]
        C = n_inputs // (self.height * self.width)
        for level, (width, _, _) in enumerate(self._levels):
            halve = nn.Conv2d(C, width, 3, stride=2, padding=1)
            layers += [halve, *self._blocks(level), self._activation()]
            C = width
        return layers

    def _up(self, level: int) -> list[nn.Module]:
        """From the level below; its channels are mixed first, where it is cheap."""
        (below, _, _), (width, h, w) = self._levels[level + 1], self._levels[level]
        mix = nn.Conv2d(below, width, 1)
        return [mix, nn.Upsample(size=(h, w)), *self._blocks(level)]

    def _last(self, n_outputs: int) -> list[nn.Module]:
        """From half size to rows: each place gives the outputs of four pixels."""
        n_quad = 4 * (n_outputs // (self.height * self.width))
        conv = nn.Conv2d(self._levels[0][0], n_quad, 3, padding=1, bias=False)
        crop = Crop(self.height, self.width)
        return [conv, nn.PixelShuffle(2), crop, ToRows(), Offsets(n_outputs)]

    def _decoder(self, first: list[nn.Module], n_outputs: int) -> Layers:
        """From layers that end at the last level to rows of images."""
        n_levels = len(self._levels)
        layers = [*first, *self._blocks(n_levels - 1)]
        for level in reversed(range(n_levels - 1)):
            layers += self._up(level)
        layers += [self._activation(), *self._last(n_outputs)]
        network = Layers(*layers).apply(unit_gain)
        next(network.parameters()).data *= FIRST_GAIN
        return network
