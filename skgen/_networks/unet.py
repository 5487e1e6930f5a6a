"""A small U-Net: images with noise in them, to images of the same size.

A row (n, height * width * C) has its channels last, and behind it what tells the noise
level and the condition. Inside, images are halved as in `skgen._networks.images` and
doubled again; at each size what was there on the way down is put beside (Ronneberger et
al. 2015; Ho et al. 2020).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from skgen._networks.dense import ACTIVATIONS
from skgen._networks.images import MOST_WIDENING, ToImages, ToRows, halved_sizes

# Channels that are normalised together.
GROUP = 8


def normed(channels: int) -> nn.GroupNorm:
    """Return a normalisation of each image, in groups of channels."""
    return nn.GroupNorm(max(1, channels // GROUP), channels)


class NoisyBlock(nn.Module):
    """Two convolutions beside a shortcut; the noise level shifts what is between.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Channels.
    n_told : int
        Numbers that tell the level and the condition.
    activation : str
        A name of ``skgen._networks.dense.ACTIVATIONS``.
    """

    def __init__(
        self, n_inputs: int, n_outputs: int, n_told: int, activation: str
    ) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]
        self.first = nn.Sequential(
            normed(n_inputs), act(), nn.Conv2d(n_inputs, n_outputs, 3, padding=1)
        )
        self.shift = nn.Linear(n_told, n_outputs)
        self.second = nn.Sequential(
            normed(n_outputs), act(), nn.Conv2d(n_outputs, n_outputs, 3, padding=1)
        )
        is_same = n_inputs == n_outputs
        self.short = nn.Identity() if is_same else nn.Conv2d(n_inputs, n_outputs, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """Images (n, C, h, w) and what is told (n, q), to images (n, C', h, w)."""
        inner = self.first(x) + self.shift(told)[..., None, None]
        out: Tensor = self.short(x) + self.second(inner)
        return out


class UNet(nn.Module):
    """Network of noisy images, with what tells their noise behind the pixels of a row.

    Parameters
    ----------
    height, width : int
        Size of the images.
    n_pixels : int
        Numbers of an image: height * width * C.
    n_told : int
        Numbers behind them.
    channels : int, default=32
        Channels at full size. They double at each halving, up to four times.
    activation : str, default="silu"
        A name of ``skgen._networks.dense.ACTIVATIONS``.

    References
    ----------
    Ronneberger, Fischer & Brox, "U-Net: convolutional networks for biomedical image
    segmentation", MICCAI 2015. Ho, Jain & Abbeel, "Denoising diffusion probabilistic
    models", NeurIPS 2020.

    Examples
    --------
    >>> import torch
    >>> from skgen._networks.unet import UNet
    >>> network = UNet(8, 8, n_pixels=64, n_told=13, channels=8)
    >>> network(torch.zeros(2, 64 + 13)).shape
    torch.Size([2, 64])
    """

    def __init__(
        self,
        height: int,
        width: int,
        n_pixels: int,
        n_told: int,
        channels: int = 32,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.n_pixels = n_pixels
        C = n_pixels // (height * width)
        sizes = halved_sizes(height, width)
        widths = [channels * min(2**i, MOST_WIDENING) for i in range(len(sizes))]
        self.to_images = ToImages(height, width)
        q = 2 * channels
        self.tell = nn.Sequential(
            nn.Linear(n_told, q), ACTIVATIONS[activation](), nn.Linear(q, q)
        )
        self.stem = nn.Conv2d(C, channels, 3, padding=1)
        block = _Blocks(q, activation)
        self.downs = nn.ModuleList(block(w, w) for w in widths[:-1])
        self.halved = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths)
        )
        self.middle = nn.ModuleList(block(widths[-1], widths[-1]) for _ in range(2))
        self.doubled = nn.ModuleList(
            nn.Sequential(nn.Upsample(size=size), nn.Conv2d(b, a, 3, padding=1))
            for size, a, b in zip(sizes, widths, widths[1:])
        )
        self.ups = nn.ModuleList(block(2 * w, w) for w in widths[:-1])
        self.end = nn.Sequential(normed(channels), ACTIVATIONS[activation]())
        self.to_rows = ToRows()
        self.last = nn.Conv2d(channels, C, 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Rows (..., n_pixels + n_told), to rows (..., n_pixels)."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        told = self.tell(rows[:, self.n_pixels :])
        x = self.stem(self.to_images(rows[:, : self.n_pixels]))
        beside = []
        for block, halve in zip(self.downs, self.halved):
            x = block(x, told)
            beside.append(x)
            x = halve(x)
        for block in self.middle:
            x = block(x, told)
        for i in reversed(range(len(beside))):
            both = torch.cat([self.doubled[i](x), beside[i]], dim=1)
            x = self.ups[i](both, told)
        found: Tensor = self.to_rows(self.last(self.end(x)))
        return found.view(*inputs.shape[:-1], -1)


class _Blocks:
    """Makes blocks that are told the same."""

    def __init__(self, n_told: int, activation: str) -> None:
        self.n_told, self.activation = n_told, activation

    def __call__(self, n_inputs: int, n_outputs: int) -> NoisyBlock:
        return NoisyBlock(n_inputs, n_outputs, self.n_told, self.activation)
