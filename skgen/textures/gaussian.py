"""Textures as stationary Gaussian fields (Galerne, Gousseau & Morel 2011).

A spot t is convolved with white noise W on the torus: ``x = m + t * W``. Its covariance
is the autocorrelation of the spot, diagonal in the Fourier basis. With the exemplar,
less its mean, as the spot, the field has the exemplar's mean and autocovariance.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY
from typing import Any, Literal, Self

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skgen._utils.parameters import boolean, estimator, options, parameter, real
from skgen._utils.tensors import LOG_2PI, check_random_state
from skgen.textures.images import TextureModel, check_shape

# Share of a side over which a spot fades out where the torus is larger than it.
FADE = 0.1

Spectrum = NDArray[np.complex128]


def periodic_component(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the periodic component of an image (h, w, c) (Moisan 2011).

    The image less a smooth one, whose discrete Laplacian is the jump over the borders:
    so the cross of the borders leaves the spectrum, and the inside stays as it is.
    """
    h, w, _ = image.shape
    jump = np.zeros_like(image)
    vertical, horizontal = image[-1] - image[0], image[:, -1] - image[:, 0]
    jump[0] += vertical
    jump[-1] -= vertical
    jump[:, 0] += horizontal
    jump[:, -1] -= horizontal
    rows, columns = (2 * np.cos(2 * np.pi * np.arange(n) / n) - 2 for n in (h, w))
    laplacian = rows[:, None] + columns
    laplacian[0, 0] = 1.0  # the jump has mean 0: the smooth component too
    smooth = _fft(jump) / laplacian[..., None]
    smooth[0, 0] = 0
    return image - _ifft(smooth)


def _fft(image: NDArray[Any]) -> Spectrum:
    """Fourier transform of each channel of (h, w, c)."""
    spectrum: Spectrum = scipy.fft.fft2(image, axes=(0, 1))
    return spectrum


def _ifft(spectrum: Spectrum) -> NDArray[np.float64]:
    image: NDArray[np.float64] = scipy.fft.ifft2(spectrum, axes=(0, 1)).real
    return image


def _fade(n: int) -> NDArray[np.float64]:
    """Weights (n,) that are 1 inside and go to 0 smoothly at both ends."""
    width = max(1, round(FADE * n))
    ramp = np.sin(0.5 * np.pi * (np.arange(width) + 0.5) / width) ** 2
    weights = np.ones(n)
    weights[:width] = ramp
    weights[n - width :] *= ramp[::-1]
    return weights


@estimator
class GaussianTexture(TextureModel):
    """A texture as a stationary Gaussian field with the exemplar's covariance.

    Samples are made by one convolution: fast, of any size, and right for textures
    without salient structure (sand, cloth, granite); edges and objects become clouds,
    since a Gaussian field holds no phase.

    Parameters
    ----------
    method : {"spot_noise", "random_phase"}, default="spot_noise"
        The asymptotic discrete spot noise, which is the Gaussian field; or the random
        phase noise, which keeps the Fourier moduli of the exemplar as they are and
        draws their phases. They look alike, and only the first has a density.
    smooth_borders : bool, default=True
        Whether to take the periodic component of the exemplar (Moisan 2011), so that
        the jump between opposite borders does not show as horizontal and vertical
        streaks.
    noise_level : float, default=1e-3
        Standard deviation of white noise that the field has besides, as a share of the
        exemplar's. Above 0 the density is proper, also with several channels, which
        share one noise; samples of "spot_noise" have it too.
    device : str, default="cpu"
        Only "cpu": transforms are SciPy's, and take milliseconds.

    Attributes
    ----------
    mean_ : ndarray of shape (n_channels,)
        Mean colour.
    spot_ : ndarray of shape (height, width, n_channels)
        The spot: the exemplar less its mean, over the square root of its size.
    noise_variance_ : float
        Variance of the white noise.
    shape_ : tuple of int
        Height and width of the exemplar.
    device_ : str
        Where it was fitted.

    References
    ----------
    Galerne, Gousseau & Morel, "Random phase textures: theory and synthesis", IEEE
    Transactions on Image Processing 20(1), 2011.

    Moisan, "Periodic plus smooth image decomposition", Journal of Mathematical Imaging
    and Vision 39(2), 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen.textures import GaussianTexture
    >>> exemplar = np.random.RandomState(0).rand(32, 32)
    >>> model = GaussianTexture().fit(exemplar)
    >>> model.sample(shape=(48, 64), random_state=0).shape
    (48, 64)
    """

    _: KW_ONLY
    method: Literal["spot_noise", "random_phase"] = parameter(
        options("spot_noise", "random_phase"), default="spot_noise"
    )
    smooth_borders: bool = parameter(boolean, default=True)
    noise_level: float = parameter(real(0), default=1e-3)
    device: Literal["cpu"] = parameter(options("cpu"), default="cpu")

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn mean and covariance of an image.

        Parameters
        ----------
        X : array-like of shape (height, width) or (height, width, channels)
            The exemplar.
        y : None
            Ignored, present for API consistency by convention.

        Returns
        -------
        self : GaussianTexture
            The fitted model.

        Raises
        ------
        ValueError
            If a parameter is out of its range, or the image is none.
        """
        pixels = self._read_exemplar(X)
        self._refuse_unknown(pixels, "fill it first, as NonparametricTexture does")
        image = periodic_component(pixels) if self.smooth_borders else pixels
        self.mean_ = pixels.mean((0, 1))
        centred = image - self.mean_
        self.spot_ = centred / math.sqrt(image.shape[0] * image.shape[1])
        self.noise_variance_ = float(self.noise_level**2 * (centred**2).mean())
        self._method = self.method
        return self

    def sample(
        self, shape: tuple[int, int] | None = None, random_state: Any = None
    ) -> NDArray[Any]:
        """Draw a texture.

        Parameters
        ----------
        shape : (int, int), default=None
            Height and width; ``None`` is the exemplar's. Up to the exemplar's size the
            field is one of the exemplar's torus, cut; above it, one of its own torus.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.

        Returns
        -------
        image : ndarray of shape (height, width) or (height, width, channels)
            The texture, in the dtype of the exemplar.
        """
        check_is_fitted(self)
        rng = check_random_state(random_state)
        height, width = check_shape(shape, self.shape_)
        torus = max(height, self.shape_[0]), max(width, self.shape_[1])
        noise = _fft(rng.standard_normal((*torus, 1)))  # one for all channels
        if self._method == "random_phase":
            noise = self._phases(noise) * math.sqrt(noise.size)
        field = self.mean_ + _ifft(self._spot_spectrum(torus) * noise)
        if self._method == "spot_noise":
            white = rng.standard_normal(field.shape)
            field = field + math.sqrt(self.noise_variance_) * white
        return self._layout.restore(field[:height, :width])

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Return the log-density of an image on its torus.

        Parameters
        ----------
        X : array-like of shape (height, width) or (height, width, channels)
            An image of at least the exemplar's height and width.
        y : None
            Ignored, present for API consistency by convention.

        Returns
        -------
        score : float
            Log-density of the whole image, in nats; its base measure is one unit of
            each pixel and channel. Not the mean over pixels.

        Raises
        ------
        ValueError
            For "random_phase", which has no density; for ``noise_level=0`` where the
            covariance is singular; for images smaller than the exemplar.
        """
        pixels = self._read_like_exemplar(X)
        self._refuse_unknown(pixels, "a field has no score of a part of its torus")
        self._check_density(pixels.shape)
        h, w, c = pixels.shape
        spot = self._spot_spectrum((h, w))
        y_hat = _fft(pixels - self.mean_)
        energy = (abs(spot) ** 2).sum(-1)  # (h, w): the variance along the spot
        direction = spot / np.sqrt(np.where(energy > 0, energy, 1.0))[..., None]
        along = (direction.conj() * y_hat).sum(-1)
        across = y_hat - direction * along[..., None]
        variance, white = energy + self.noise_variance_, self.noise_variance_
        # A frequency without energy has no direction: all of it lies across.
        squared = (abs(along) ** 2 / variance).sum()
        if c > 1 or (energy == 0).any():
            squared += (abs(across) ** 2).sum() / white
        log_det = np.log(variance).sum()
        if c > 1:
            log_det += h * w * (c - 1) * math.log(white)
        return float(-0.5 * (h * w * c * LOG_2PI + log_det + squared / (h * w)))

    def _check_density(self, shape: tuple[int, ...]) -> None:
        if self._method != "spot_noise":
            raise ValueError(
                "Random phase noise has no density: its Fourier moduli are fixed. Fit "
                "with method='spot_noise' to score images."
            )
        if self.noise_variance_ == 0:
            raise ValueError(
                "With noise_level=0 the covariance is singular: the mean of the field "
                "is fixed. Fit with a noise_level above 0 to score images."
            )
        if shape[0] < self.shape_[0] or shape[1] < self.shape_[1]:
            raise ValueError(
                f"An image of {shape[0]} x {shape[1]} pixels is smaller than the "
                f"exemplar, {self.shape_[0]} x {self.shape_[1]}: give a larger one, or "
                "fit a part of the exemplar."
            )

    def _spot_spectrum(self, torus: tuple[int, int]) -> Spectrum:
        """Fourier transform of the spot on a torus of at least its size.

        On a larger torus the spot fades out at its ends, and keeps its energy.
        """
        (h, w), spot = self.shape_, self.spot_
        if torus == (h, w):
            return _fft(spot)
        down = _fade(h) if torus[0] > h else np.ones(h)
        across = _fade(w) if torus[1] > w else np.ones(w)
        faded = spot * np.outer(down, across)[..., None]
        energy, left = (spot**2).sum(), (faded**2).sum()
        larger = np.zeros((*torus, spot.shape[-1]))
        larger[:h, :w] = faded * np.sqrt(energy / left if left > 0 else 1.0)
        return _fft(larger)

    @staticmethod
    def _phases(noise: Spectrum) -> Spectrum:
        """Return the phases of white noise, which are uniform; the mean has none."""
        phases = noise / abs(noise)
        phases[0, 0] = 1.0
        return phases
