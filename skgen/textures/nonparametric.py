"""Textures grown pixel by pixel from an exemplar (Efros & Leung 1999).

A texture is a Markov random field: a pixel is drawn given the pixels in the window
around it that are known, as the centre of one of the exemplar's windows that agree with
them. No density is fitted: the exemplar is the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skgen._utils.parameters import (
    device,
    estimator,
    integer,
    parameter,
    real,
    verbosity,
)
from skgen._utils.tensors import check_random_state
from skgen.textures.images import TextureModel, check_shape


class Windows(NamedTuple):
    """All windows of an exemplar whose pixels are known, one per row."""

    pixels: Tensor  # (N, s * s * c), less the mean colour
    squares: Tensor  # (N, s * s), summed over channels
    centres: NDArray[np.float64]  # (N, c), as they are in the exemplar

    def distances(self, wanted: Tensor, weight: Tensor) -> Tensor:
        """Weighted squared distances (B, N) to windows of which parts are known.

        Without the term that is the same for all windows: ``sum w (p - q)^2`` less
        ``sum w q^2``, for weights (B, s * s) and pixels q (B, s * s, c).
        """
        pulled = (wanted * weight[..., None]).flatten(1)
        return weight @ self.squares.T - 2 * pulled @ self.pixels.T


class Canvas:
    """An image with unknown pixels, padded by half a window of unknown ones."""

    def __init__(self, pixels: NDArray[np.float64], window: int) -> None:
        self.half, self.window = window // 2, window
        border = ((self.half, self.half),) * 2
        self.known = np.pad(~np.isnan(pixels).any(-1), border)
        self.pixels = np.pad(np.nan_to_num(pixels), (*border, (0, 0)))
        self._inside = np.pad(np.ones(pixels.shape[:2], dtype=bool), border)
        self._count = self._neighbours()

    def _neighbours(self) -> NDArray[np.int64]:
        """Count the known pixels around each pixel, in its window."""
        padded = np.pad(self.known.astype(np.int64), ((self.half + 1, self.half),) * 2)
        total = padded.cumsum(0).cumsum(1)
        s = self.window
        found: NDArray[np.int64] = (
            total[s:, s:] - total[:-s, s:] - total[s:, :-s] + total[:-s, :-s]
        )
        return found

    def border(self) -> NDArray[np.int64]:
        """Return unknown pixels (B, 2) with known ones around, most of them first."""
        wanted = self._inside & ~self.known & (self._count > 0)
        places = np.argwhere(wanted)
        return places[np.argsort(-self._count[wanted], kind="stable")]

    def round(self, rng: np.random.RandomState) -> NDArray[np.int64]:
        """Return pixels (B, 2) to draw now, none in the window of another.

        So it makes no difference that they are drawn at once.
        """
        blocked, chosen = np.zeros_like(self.known), []
        places = self.border()
        counts = self._count[places[:, 0], places[:, 1]]
        # Ties in random order, for the growth to prefer no direction.
        for r, c in places[np.lexsort((rng.permutation(len(places)), -counts))]:
            if not blocked[r, c]:
                chosen.append((r, c))
                blocked[self._around(r, c)] = True
        return np.array(chosen)

    def _around(self, r: int, c: int) -> tuple[slice, slice]:
        h = self.half
        return slice(r - h, r + h + 1), slice(c - h, c + h + 1)

    def views(self, places: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Windows around pixels: (B, s, s, c), and which of theirs are known."""
        windows = [self._around(r, c) for r, c in places]
        return (
            np.stack([self.pixels[window] for window in windows]),
            np.stack([self.known[window] for window in windows]),
        )

    def put(self, places: NDArray[np.int64], colours: NDArray[Any]) -> None:
        """Write colours (B, c), which are known from now on."""
        self.pixels[places[:, 0], places[:, 1]] = colours
        self.known[places[:, 0], places[:, 1]] = True
        for r, c in places:
            self._count[self._around(r, c)] += 1

    @property
    def image(self) -> NDArray[np.float64]:
        """The image without its padding."""
        return self.pixels[self.half : -self.half, self.half : -self.half]


@estimator
class NonparametricTexture(TextureModel):
    """A texture grown pixel by pixel from the windows of an exemplar.

    It copies structure that a Gaussian field cannot hold; it has no density, and may
    repeat or run into garbage where the window is too small for the structure.

    Parameters
    ----------
    window : int, default=11
        Side of the square window, odd: about the size of the largest regular
        structure. Time and memory grow with its area.
    tolerance : float, default=0.1
        A window of the exemplar may be drawn when its distance is at most
        ``1 + tolerance`` times the smallest. 0 takes the best alone.
    seed_size : int, default=3
        Side of the patch of the exemplar from which ``sample`` grows.
    verbose : int, default=0
        Above 0, print the number of pixels drawn after every hundred rounds.
    device : str or torch.device, default="cpu"
        Where windows are compared: "cpu", "cuda", "cuda:<index>", "mps" or "auto".

    Attributes
    ----------
    n_windows_ : int
        Number of windows of the exemplar, those with unknown pixels left out.
    shape_ : tuple of int
        Height and width of the exemplar.
    device_ : str
        Where windows are compared.

    Notes
    -----
    Distances are weighted by a Gaussian of a sixth of the window, as in the paper. In a
    round, pixels are drawn together of which none lies in the window of another, those
    with the most known neighbours first: one product serves them all. A pixel takes
    O(exemplar x window area); 128 x 128 from as many take some ten seconds.

    References
    ----------
    Efros & Leung, "Texture synthesis by non-parametric sampling", ICCV 1999.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen.textures import NonparametricTexture
    >>> stripes = np.tile([0, 0, 1, 1], (12, 3))
    >>> NonparametricTexture(window=5).fit(stripes).sample((2, 6), random_state=2)
    array([[1, 0, 0, 1, 1, 0],
           [1, 0, 0, 1, 1, 0]])
    """

    _: KW_ONLY
    window: int = parameter(integer(3), default=11)
    tolerance: float = parameter(real(0), default=0.1)
    seed_size: int = parameter(integer(1), default=3)
    verbose: int = parameter(verbosity, default=0)
    device: str | torch.device = parameter(device, default="cpu")

    def fit(
        self, X: ArrayLike, y: Any = None, *, mask: ArrayLike | None = None
    ) -> Self:
        """Keep the windows of an image.

        Parameters
        ----------
        X : array-like of shape (height, width) or (height, width, channels)
            The exemplar; NaN is an unknown pixel.
        y : None
            Ignored, present for API consistency by convention.
        mask : array-like of bool of shape (height, width), default=None
            True where a pixel is unknown, for images of integers.

        Returns
        -------
        self : NonparametricTexture
            The fitted model.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or no window of the image is known.
        """
        if integer(3).accepts(self.window) and self.window % 2 == 0:
            raise ValueError(
                "The 'window' parameter of NonparametricTexture must be odd, for a "
                f"window to have a centre. Got {self.window}."
            )
        pixels = self._read_exemplar(X, mask, min_side=self.window)
        windows = sliding_window_view(pixels, (self.window,) * 2, axis=(0, 1))
        windows = windows.transpose(0, 1, 3, 4, 2).reshape(
            -1, self.window**2, pixels.shape[2]
        )
        windows = windows[~np.isnan(windows).any((1, 2))]
        if not len(windows):
            raise ValueError(
                f"No window of {self.window} x {self.window} pixels of the image is "
                "wholly known. Lower 'window', or give an image with fewer holes."
            )
        self.exemplar_, self.n_windows_ = pixels, len(windows)
        self._mean = windows.mean((0, 1))
        self._windows = windows  # (N, s * s, c)
        self._window, self._tolerance = self.window, self.tolerance
        return self

    def sample(
        self, shape: tuple[int, int] | None = None, random_state: Any = None
    ) -> NDArray[Any]:
        """Grow a texture from a patch of the exemplar, from the middle outwards.

        Parameters
        ----------
        shape : (int, int), default=None
            Height and width; ``None`` is the exemplar's.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.

        Returns
        -------
        image : ndarray of shape (height, width) or (height, width, channels)
            The texture, in the dtype of the exemplar; its colours are the exemplar's.
        """
        check_is_fitted(self)
        rng = check_random_state(random_state)
        height, width = check_shape(shape, self.shape_)
        image = np.full((height, width, len(self._mean)), np.nan)
        side = min(self.seed_size, self._window, height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image[top : top + side, left : left + side] = self._seed(side, rng)
        return self._layout.restore(self._grow(image, rng))

    def fill(
        self,
        X: ArrayLike,
        mask: ArrayLike | None = None,
        *,
        random_state: Any = None,
    ) -> NDArray[Any]:
        """Draw the unknown pixels of an image, from the borders of its holes inwards.

        Parameters
        ----------
        X : array-like of shape (height, width) or (height, width, channels)
            The image, with as many channels as the exemplar (it may be the exemplar);
            NaN is an unknown pixel.
        mask : array-like of bool of shape (height, width), default=None
            True where a pixel is unknown, for images of integers.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.

        Returns
        -------
        image : ndarray
            The image; pixels that were known are as they were.

        Raises
        ------
        ValueError
            If no pixel is known: use ``sample``.
        """
        pixels = self._read_like_exemplar(X, mask)
        if np.isnan(pixels).any(-1).all():
            raise ValueError(
                "NonparametricTexture.fill needs known pixels to start from. None is; "
                "use sample(shape)."
            )
        rng = check_random_state(random_state)
        return self._layout.restore(self._grow(pixels, rng))

    def _seed(self, side: int, rng: np.random.RandomState) -> NDArray[np.float64]:
        """Return a patch of a random window, from its middle."""
        window = self._windows[rng.randint(self.n_windows_)]
        window = window.reshape(self._window, self._window, -1)
        start = (self._window - side) // 2
        found: NDArray[np.float64] = window[start : start + side, start : start + side]
        return found

    def _grow(
        self, pixels: NDArray[np.float64], rng: np.random.RandomState
    ) -> NDArray[np.float64]:
        """Draw the unknown pixels of (h, w, c) in rounds."""
        canvas, windows = Canvas(pixels, self._window), self._compared()
        missing = int(np.isnan(pixels).any(-1).sum())
        done = 0
        for number, places in enumerate(self._rounds(canvas, rng), 1):
            canvas.put(places, self._draw(windows, *canvas.views(places), rng))
            done += len(places)
            if self.verbose and number % 100 == 0:
                print(f"drew {done} of {missing} pixels")
        return canvas.image

    @staticmethod
    def _rounds(
        canvas: Canvas, rng: np.random.RandomState
    ) -> Iterator[NDArray[np.int64]]:
        while len(places := canvas.round(rng)):
            yield places

    def _compared(self) -> Windows:
        """Place the windows on the device."""
        pixels = self._tensor(self._windows - self._mean, torch.float32)
        centres = self._windows[:, self._window**2 // 2]
        return Windows(pixels.flatten(1), (pixels**2).sum(-1), centres)

    def _draw(
        self,
        windows: Windows,
        wanted: NDArray[np.float64],
        known: NDArray[np.bool_],
        rng: np.random.RandomState,
    ) -> NDArray[np.float64]:
        """Draw colours (B, c) for the centres of windows (B, s, s, c)."""
        B = len(wanted)
        weight = known * self._kernel()
        weight = (weight / weight.sum((1, 2), keepdims=True)).reshape(B, -1)
        wanted = (wanted - self._mean).reshape(B, weight.shape[1], -1)
        wanted_, weight_ = (self._tensor(a, torch.float32) for a in (wanted, weight))
        distances = windows.distances(wanted_, weight_).cpu().numpy()
        rest = (weight[..., None] * wanted**2).sum((1, 2))
        distances = (distances + rest[:, None]).clip(min=0)
        limit = (1 + self._tolerance) * distances.min(1) + self._rounding
        # The window with the largest of as many uniform draws, among those allowed.
        lots = np.where(
            distances <= limit[:, None], rng.random_sample(distances.shape), -1
        )
        found: NDArray[np.float64] = windows.centres[lots.argmax(1)]
        return found

    def _kernel(self) -> NDArray[np.float64]:
        """Gaussian weights (s, s) of a window."""
        offset = np.arange(self._window) - self._window // 2
        bell = np.exp(-0.5 * (offset / (self._window / 6.4)) ** 2)
        return np.outer(bell, bell)

    @property
    def _rounding(self) -> float:
        """Rounding of a distance in float32: exact matches are told from others."""
        return 1e-5 * float(((self._windows - self._mean) ** 2).sum(-1).mean())
