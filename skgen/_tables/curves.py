"""Increasing maps of numbers to normal ones, learned from the quantiles of a column."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from skgen._utils.scales import column_scale
from skgen.likelihoods.specs import Spec

Array = NDArray[np.float64]

# Pieces at most and at least, and cells that one stands for at least.
MOST_PIECES, LEAST_PIECES, LEAST_CELLS = 64, 4, 8


class Curve(NamedTuple):
    """Line through points ``(t, z)``, where t is x or its logarithm.

    z is the normal quantile of the share of cells below. Beyond the first and the last
    point the line goes on, so that each number has its place.
    """

    t: tuple[float, ...]
    z: tuple[float, ...]
    is_log: bool = False

    @classmethod
    def of(cls, x: Array, spec: Spec) -> Curve | None:
        """Learn it from cells (n,) of a kind; None where it has no density of its own.

        Parameters
        ----------
        x : ndarray of shape (n,)
            Numbers that are there.
        spec : Spec
            Kind: "real", "positive", or ("bounded", low, high). Other kinds have
            masses.
        """
        is_interval = isinstance(spec, tuple) and spec[0] == "bounded"
        if not is_interval and spec not in ("real", "positive"):
            return None
        is_log = spec == "positive"
        t = np.log(x) if is_log else x
        n_pieces = min(MOST_PIECES, len(t) // LEAST_CELLS)
        if n_pieces < LEAST_PIECES:
            return None
        # The middles of as many parts of equal mass.
        shares = (np.arange(n_pieces + 1) + 0.5) / (n_pieces + 1)
        points = np.quantile(t, shares)
        kept = _apart(points, _least_step(t))
        if len(kept) < 2:
            return None
        return cls(tuple(points[kept].tolist()), tuple(_middle(shares, kept)), is_log)

    @classmethod
    def checked(cls, given: Any) -> Curve | None:
        """Return what a file states; a ValueError for what cannot be."""
        if given is None:
            return None
        t, z, is_log = given
        found = cls(tuple(map(float, t)), tuple(map(float, z)), is_log)
        is_long = len(found.t) == len(found.z) > 1
        if not is_long or not (np.diff([found.t, found.z]) > 0).all():
            raise ValueError("the quantiles of a column are out of order")
        if type(is_log) is not bool or not np.isfinite([found.t, found.z]).all():
            raise ValueError("the quantiles of a column are no numbers")
        return found

    @property
    def _slopes(self) -> Array:
        found: Array = np.diff(self.z) / np.diff(self.t)
        return found

    def spec(self, spec: Spec) -> Spec:
        """Return the kind of z, from that of x."""
        if spec in ("real", "positive"):
            return "real"
        assert isinstance(spec, tuple)
        ends = np.array(spec[1:], dtype=np.float64)
        return "bounded", *self(ends).tolist()

    def __call__(self, x: Array) -> Array:
        """Return z (n,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.log(x) if self.is_log else x
        return _line(t, self.t, self.z, self._slopes)

    def inverse(self, z: Array) -> Array:
        """Return x (n,)."""
        t = _line(z, self.z, self.t, 1 / self._slopes)
        return np.exp(t) if self.is_log else t

    def log_slope(self, x: Array) -> Array:
        """Return log dz/dx (n,)."""
        t = np.log(x) if self.is_log else x
        found: Array = np.log(self._slopes)[_piece(t, self.t)]
        return found - t if self.is_log else found


def _least_step(t: Array) -> float:
    """Return the least distance of points: that of rounding, where cells repeat."""
    _, spread, floor = column_scale(t)
    return spread * float(np.sqrt(12 * floor))


def _apart(points: Array, step: float) -> list[int]:
    """Return which of increasing points are kept, each so far above the last."""
    kept = [0]
    for i, point in enumerate(points):
        if point - points[kept[-1]] > step:
            kept.append(i)
    return kept


def _middle(shares: Array, kept: list[int]) -> list[float]:
    """Return normal quantiles of points that stand for those left out after them."""
    ends = np.append(kept[1:], len(shares)) - 1
    found: list[float] = ndtri((shares[kept] + shares[ends]) / 2).tolist()
    return found


def _piece(t: Array, points: tuple[float, ...]) -> NDArray[np.intp]:
    """Return the numbers (n,) of pieces; the outer ones have no end."""
    found: NDArray[np.intp] = np.searchsorted(points[1:-1], t, "right")
    return found


def _line(t: Array, points: tuple[float, ...], values: Any, slopes: Array) -> Array:
    """Return values (n,) of a line through points."""
    piece = _piece(t, points)
    found: Array = (
        np.asarray(values)[piece] + (t - np.asarray(points)[piece]) * slopes[piece]
    )
    return found
