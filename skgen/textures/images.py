"""Images of any dtype as (height, width, channels) arrays of float64, and back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skgen._utils.estimators import Estimator
from skgen._utils.parameters import check_parameters, integer
from skgen._utils.tensors import resolve_device, without_mask


class Layout(NamedTuple):
    """Form in which the user gave an image, and takes images back."""

    dtype: np.dtype[Any]
    n_channels: int | None  # None for an image without a dimension of channels

    def restore(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return pixels (height, width, channels) in the user's form.

        Integers are rounded, and stay within the range of their dtype.
        """
        if self.n_channels is None:
            pixels = pixels[..., 0]
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            pixels = pixels.round().clip(limits.min, limits.max)
        return pixels.astype(self.dtype)


def read_image(X: ArrayLike, name: str, mask: ArrayLike | None = None) -> Any:
    """Return the pixels (height, width, channels) of an image, and its layout.

    Pixels are float64, and NaN where they or the mask say that they are unknown.
    """
    is_float = getattr(X, "dtype", None) in (np.float32, np.float64)
    X = without_mask(X, "The image", allows_missing=is_float)
    image = np.asarray(X.cpu() if isinstance(X, Tensor) else X)
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(
            f"{name} takes one image, of shape (height, width) or (height, width, "
            f"channels). Got an array of shape {image.shape}."
        )
    if image.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} takes an image of numbers. Got dtype {image.dtype}; convert it, "
            "for instance with image.astype(float)."
        )
    pixels = image.astype(np.float64).reshape(*image.shape[:2], -1)
    if np.isinf(pixels).any():
        raise ValueError(f"{name} takes finite pixels. The image holds infinity.")
    if mask is not None:
        unknown = np.asarray(mask)
        if unknown.dtype != bool or unknown.shape != image.shape[:2]:
            raise ValueError(
                f"'mask' must be a boolean array of shape {image.shape[:2]}, true "
                f"where a pixel is unknown. Got {unknown.dtype} of shape "
                f"{unknown.shape}."
            )
        pixels[unknown] = np.nan
    n_channels = image.shape[2] if image.ndim == 3 else None
    return pixels, Layout(image.dtype, n_channels)


def check_shape(shape: Any, default: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of the image asked for, by default the exemplar's."""
    if shape is None:
        return default
    valid = isinstance(shape, tuple | list) and len(shape) == 2
    if not valid or not all(integer(1).accepts(side) for side in shape):
        raise ValueError(
            f"'shape' must be (height, width), two positive ints, or None for the size "
            f"of the exemplar. Got {shape!r}."
        )
    height, width = shape
    return int(height), int(width)


class TextureModel(Estimator):
    """Base of the models of one image: parameters, device and layout."""

    device: str | torch.device
    _layout: Layout

    def _read_exemplar(
        self, X: ArrayLike, mask: ArrayLike | None = None, *, min_side: int = 1
    ) -> NDArray[np.float64]:
        """Check parameters and image, and return its pixels (height, width, c)."""
        name = type(self).__name__
        check_parameters(self, self._parameters)
        device = resolve_device(self.device, name)
        pixels, layout = read_image(X, name, mask)
        if min(pixels.shape[:2]) < min_side:
            raise ValueError(
                f"{name} needs an image of at least {min_side} x {min_side} pixels. "
                f"Got {pixels.shape[0]} x {pixels.shape[1]}; lower the size of the "
                "window or patch, or give a larger image."
            )
        self._layout, self.device_ = layout, str(device)
        self.shape_ = pixels.shape[:2]
        result: NDArray[np.float64] = pixels
        return result

    def _read_like_exemplar(
        self, X: ArrayLike, mask: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Return the pixels of another image, of as many channels."""
        check_is_fitted(self)
        name = type(self).__name__
        pixels, layout = read_image(X, name, mask)
        if layout.n_channels != self._layout.n_channels:
            raise ValueError(
                f"{name} was fitted on an image of {_channels(self._layout)}. Got one "
                f"of {_channels(layout)}."
            )
        result: NDArray[np.float64] = pixels
        return result

    def _refuse_unknown(self, pixels: NDArray[Any], remedy: str) -> None:
        if np.isnan(pixels).any():
            raise ValueError(
                f"{type(self).__name__} takes an image whose pixels are all known. "
                f"This one holds NaN: {remedy}."
            )

    def _tensor(self, pixels: NDArray[Any], dtype: torch.dtype) -> Tensor:
        return torch.as_tensor(pixels).to(device=self.device_, dtype=dtype)


def _channels(layout: Layout) -> str:
    return (
        "no channels" if layout.n_channels is None else f"{layout.n_channels} channels"
    )


def tile(image: ArrayLike, shape: tuple[int, int]) -> NDArray[Any]:
    """Repeat an image side by side, the counter-example of texture synthesis.

    Its seams and its period show what the models of this package avoid.

    Parameters
    ----------
    image : array-like of shape (height, width) or (height, width, channels)
        The exemplar.
    shape : (int, int)
        Height and width of the result.

    Returns
    -------
    tiled : ndarray
        The tiled image, in the dtype of the exemplar.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen.textures import tile
    >>> tile(np.array([[0, 1]]), (2, 3))
    array([[0, 1, 0],
           [0, 1, 0]])
    """
    pixels, layout = read_image(image, "tile")
    height, width = check_shape(shape, pixels.shape[:2])
    rows, columns = (
        np.arange(n) % side for n, side in zip((height, width), pixels.shape)
    )
    found: NDArray[Any] = layout.restore(pixels[rows[:, None], columns])
    return found
