"""Restoring one image by fitting a network to it (Ulyanov, Vedaldi & Lempitsky 2018).

``min_theta || A f_theta(z) - x ||^2`` for a fixed noise z and a known degradation A. A
convolutional network f fits natural images sooner than noise: the image is read off
before the network has learned the noise too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import KW_ONLY
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.nn import functional as F

from skgen._utils.parameters import (
    device,
    estimator,
    integer,
    parameter,
    random_state,
    real,
    verbosity,
)
from skgen._utils.tensors import check_random_state
from skgen.textures.images import TextureModel

# Slope of leaky rectifiers, channels of skips, and the range of the fixed noise.
SLOPE, SKIP_CHANNELS, NOISE = 0.2, 4, 0.1
# Standard deviation of the noise that is added to z in each step, as a share of z's.
JITTER = 0.3
# Share of the running average of outputs that a step keeps.
AVERAGING = 0.97
# Steps between two looks at the pixels held out: each look waits for the device.
CHECK_EVERY = 10


def _conv(n_in: int, n_out: int, size: int, stride: int = 1) -> nn.Sequential:
    """Convolution, normalisation over the image, and leaky rectifier."""
    return nn.Sequential(
        nn.ReflectionPad2d(size // 2),
        nn.Conv2d(n_in, n_out, size, stride, bias=False),
        nn.BatchNorm2d(n_out, track_running_stats=False),
        nn.LeakyReLU(SLOPE),
    )


class Level(nn.Module):
    """One scale of an hourglass: down, what is below, up, beside a thin skip."""

    def __init__(self, n_in: int, width: int, below: nn.Module) -> None:
        super().__init__()
        self.down = nn.Sequential(_conv(n_in, width, 3, 2), _conv(width, width, 3))
        self.below = below
        self.skip = _conv(n_in, SKIP_CHANNELS, 1)
        self.up = nn.Sequential(
            _conv(width + SKIP_CHANNELS, width, 3), _conv(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (1, n_in, h, w) to (1, width, h, w)."""
        deep = self.below(self.down(x))
        deep = F.interpolate(deep, x.shape[-2:], mode="bilinear", align_corners=False)
        found: Tensor = self.up(torch.cat([deep, self.skip(x)], dim=1))
        return found


def hourglass(
    width: int, depth: int, n_out: int, generator: torch.Generator
) -> nn.Module:
    """Make the network, with weights drawn from a generator on the CPU."""
    with torch.device("meta"):
        body: nn.Module = nn.Identity()
        for _ in range(depth):
            body = Level(width, width, body)
        network = nn.Sequential(body, nn.Conv2d(width, n_out, 1), nn.Sigmoid())
    network.to_empty(device="cpu")
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, SLOPE, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return network


class Observed(NamedTuple):
    """Known pixels of the image (1, c, h, w), in two sets."""

    pixels: Tensor
    train: Tensor  # (1, 1, h, w), 1 where a pixel is fitted
    held_out: Tensor  # likewise, where it chooses the step to stop at
    upscale: int

    def degrade(self, image: Tensor) -> Tensor:
        """Return the image as it would be observed: A f."""
        return F.avg_pool2d(image, self.upscale) if self.upscale > 1 else image

    def error(self, image: Tensor, part: Tensor) -> Tensor:
        """Mean squared error over one set of pixels."""
        squared = (self.degrade(image) - self.pixels) ** 2
        return (squared * part).sum() / (part.sum() * squared.shape[1])


@estimator
class DeepImagePrior(TextureModel):
    """Denoise, complete or enlarge one image by the prior of a convolutional network.

    Nothing is learned from other images. Unknown pixels (NaN, or a mask) are completed;
    noise is left out by stopping early; ``upscale`` above 1 enlarges.

    Parameters
    ----------
    upscale : int, default=1
        Factor by which the result is larger than the image: a pixel of the image is
        taken to be the mean of ``upscale`` x ``upscale`` pixels of the result.
    width : int, default=32
        Channels of the network.
    depth : int, default=3
        Scales of the network, each half of the one above.
    learning_rate : float, default=0.01
        Step size of Adam.
    max_iter : int, default=2000
        Most steps.
    validation_fraction : float, default=0.1
        Share of the known pixels that are held out, and choose the step whose image is
        kept.
    n_iter_no_change : int, default=300
        Stop when the held-out error has not fallen for so many steps.
    random_state : int, RandomState, Generator or None, default=None
        Source of the noise, the weights, and the pixels held out.
    verbose : int, default=0
        Above 0, print the errors every hundred steps.
    device : str or torch.device, default="cpu"
        "cpu", "cuda", "cuda:<index>", "mps" or "auto".

    Attributes
    ----------
    image_ : ndarray of shape (height, width) or (height, width, channels)
        The restored image, in the dtype of the one given.
    validation_curve_ : list of float
        Mean squared error of the held-out pixels at each look, every 10 steps, in
        squared units of the image.
    best_iter_ : int
        Step whose image was kept.
    n_iter_ : int
        Steps made.
    shape_ : tuple of int
        Height and width of the image given.
    device_ : str
        Where it was fitted.

    Notes
    -----
    The image is the running average of the outputs of the network, as in the paper. The
    held-out pixels are as noisy as the rest, so their error does not fall to zero;
    where it turns, the network begins to fit noise.

    References
    ----------
    Ulyanov, Vedaldi & Lempitsky, "Deep image prior", CVPR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen.textures import DeepImagePrior
    >>> image = np.add.outer(np.linspace(0, 1, 16), np.linspace(0, 1, 16))
    >>> holes = image.copy()
    >>> holes[4:8, 4:8] = np.nan
    >>> model = DeepImagePrior(width=8, n_iter_no_change=20, random_state=0).fit(holes)
    >>> bool(abs(model.image_ - image).max() < 0.5)
    True
    """

    _: KW_ONLY
    upscale: int = parameter(integer(1), default=1)
    width: int = parameter(integer(1), default=32)
    depth: int = parameter(integer(1), default=3)
    learning_rate: float = parameter(real(0, closed="neither"), default=0.01)
    max_iter: int = parameter(integer(1), default=2000)
    validation_fraction: float = parameter(real(0, 1, closed="neither"), default=0.1)
    n_iter_no_change: int = parameter(integer(1), default=300)
    random_state: Any = parameter(random_state, default=None)
    verbose: int = parameter(verbosity, default=0)
    device: str | torch.device = parameter(device, default="cpu")

    def fit(
        self, X: ArrayLike, y: Any = None, *, mask: ArrayLike | None = None
    ) -> Self:
        """Restore an image.

        Parameters
        ----------
        X : array-like of shape (height, width) or (height, width, channels)
            The image; NaN is an unknown pixel.
        y : None
            Ignored, present for API consistency by convention.
        mask : array-like of bool of shape (height, width), default=None
            True where a pixel is unknown, for images of integers.

        Returns
        -------
        self : DeepImagePrior
            The fitted model, with the restored image in ``image_``.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or fewer than two pixels are known.

        Warns
        -----
        ConvergenceWarning
            If the held-out error was still falling at ``max_iter``.
        """
        pixels = self._read_exemplar(X, mask, min_side=2)
        if (~np.isnan(pixels).any(-1)).sum() < 2:
            raise ValueError(
                "DeepImagePrior needs two known pixels or more: one set is fitted, and "
                "one is held out. Give an image with fewer holes."
            )
        rng = check_random_state(self.random_state)
        low, high = np.nanmin(pixels), np.nanmax(pixels)
        scale = high - low if high > low else 1.0
        observed = self._observe((pixels - low) / scale, rng)
        best = self._descend(observed, rng, scale)
        image = best.double().cpu().numpy()[0].transpose(1, 2, 0)
        self.image_ = self._layout.restore(low + scale * image)
        return self

    def _observe(
        self, pixels: NDArray[np.float64], rng: np.random.RandomState
    ) -> Observed:
        """Divide the known pixels (h, w, c) into those fitted and those held out."""
        known = ~np.isnan(pixels).any(-1)
        places = rng.permutation(np.flatnonzero(known))
        n_held_out = max(1, round(self.validation_fraction * len(places)))
        held_out = np.zeros(known.shape)
        held_out.flat[places[: min(n_held_out, len(places) - 1)]] = 1.0
        filled = self._tensor(np.nan_to_num(pixels), torch.float32)
        return Observed(
            filled.movedim(-1, 0)[None],
            self._tensor(known - held_out, torch.float32)[None, None],
            self._tensor(held_out, torch.float32)[None, None],
            self.upscale,
        )

    def _descend(
        self, observed: Observed, rng: np.random.RandomState, scale: float
    ) -> Tensor:
        """Fit the network; return the image (1, c, h, w) of least held-out error."""
        best: Tensor | None = None
        least, self.validation_curve_ = np.inf, list[float]()
        steps = self._outputs(observed, rng)
        for self.n_iter_, average in enumerate(steps, 1):
            if self.n_iter_ % CHECK_EVERY and self.n_iter_ != self.max_iter:
                continue
            error = float(observed.error(average, observed.held_out))
            self.validation_curve_.append(error * scale**2)
            if self.verbose and self.n_iter_ % 100 == 0:
                print(f"step {self.n_iter_}: held-out error {error * scale**2:.4g}")
            if error < least or best is None:
                least, best, self.best_iter_ = error, average.clone(), self.n_iter_
            elif self.n_iter_ - self.best_iter_ >= self.n_iter_no_change:
                return best
        assert best is not None
        if self.max_iter - self.best_iter_ < CHECK_EVERY:
            warnings.warn(
                "The held-out error was still falling at the last step: increase "
                f"max_iter={self.max_iter}.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return best

    def _outputs(
        self, observed: Observed, rng: np.random.RandomState
    ) -> Iterator[Tensor]:
        """Yield the running average of the network's outputs, after each step."""
        generator = torch.Generator("cpu").manual_seed(int(rng.randint(2**31 - 1)))
        _, c, h, w = observed.pixels.shape
        network = hourglass(self.width, self._depth(h, w), c, generator)
        network.to(self.device_)
        size = (1, self.width, h * self.upscale, w * self.upscale)
        z = (NOISE * torch.rand(size, generator=generator)).to(self.device_)
        jitter = torch.Generator(self.device_).manual_seed(int(rng.randint(2**31 - 1)))
        adam = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        average: Tensor | None = None
        noise = torch.empty_like(z)
        for _ in range(self.max_iter):
            noise.normal_(std=JITTER * NOISE, generator=jitter)
            image = network(z + noise)
            adam.zero_grad()
            observed.error(image, observed.train).backward()
            adam.step()
            image = image.detach()
            average = image if average is None else average.lerp_(image, 1 - AVERAGING)
            yield average

    def _depth(self, h: int, w: int) -> int:
        """Return the number of scales, for the smallest to keep two pixels per side."""
        smallest = min(h, w) * self.upscale
        return max(1, min(self.depth, smallest.bit_length() - 2))
