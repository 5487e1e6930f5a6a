"""Draws of mixtures whose cells are to lie in intervals.

A component is drawn by the mass that it would have if cells were independent; its
cells are drawn one after the other, each in its interval given those before. What the
masses then differ by is an importance weight (Geweke 1991; Hajivassiliou & McFadden
1998). It is one for all where components have independent cells, or where one cell has
an interval; there draws are exact. Otherwise they are resampled by their weights.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp, ndtri_exp

Array = NDArray[np.float64]

# Candidates that a draw is picked from, and how many are tried in all: at least, most.
CANDIDATES, FEWEST, MOST = 20, 2_000, 1_000_000


class Known(NamedTuple):
    """Components (C, K) for each of C cases, and cells J of normal density in them."""

    log_masses: Array  # (C, K): log p(case, k)
    means: Array  # (C, K, J)
    covariances: Array  # (K, J, J)
    widths: Array | None = None  # (C, K): factors of the standard deviations


class Drawn(NamedTuple):
    """Draws, the case of each, and how many draws they are worth."""

    case: NDArray[np.intp]  # (n,)
    cells: Array  # (n, J)
    effective: float  # sample size of the candidates; inf where draws are exact


def draw_within(
    known: Known, low: Array, high: Array, n: int, rng: np.random.RandomState
) -> Drawn:
    """Draw n cases and cells between ``low`` and ``high``, (J,)."""
    scale = np.sqrt(np.diagonal(known.covariances, axis1=1, axis2=2))  # (K, J)
    if known.widths is not None:
        scale = scale * known.widths[..., None]
    ends = ((end - known.means) / scale for end in (low, high))
    own = log_normal_mass(*ends).sum(2)  # (C, K): if cells were independent
    log_p = known.log_masses + own
    if not np.isfinite(log_p.max(initial=-np.inf)):
        raise ValueError("no component has any mass there")
    lower: Any = np.linalg.cholesky(known.covariances)
    is_exact = len(low) < 2 or not np.tril(lower, -1).any()
    size = n if is_exact else int(np.clip(CANDIDATES * n, FEWEST, max(n, MOST)))
    p = np.exp(log_p - logsumexp(log_p)).ravel()
    case, k = np.divmod(rng.choice(len(p), size, p=p / p.sum()), log_p.shape[1])
    roots = lower[k]
    if known.widths is not None:
        roots = roots * known.widths[case, k][:, None, None]
    cells, log_mass = _one_after_the_other(known.means[case, k], roots, low, high, rng)
    if is_exact:
        return Drawn(case, cells, np.inf)
    weight = np.exp(log_mass - own[case, k] - (log_mass - own[case, k]).max())
    weight /= weight.sum()
    picked = rng.choice(size, n, p=weight)
    return Drawn(case[picked], cells[picked], float(1 / (weight**2).sum()))


def _one_after_the_other(
    means: Array, lower: Array, low: Array, high: Array, rng: np.random.RandomState
) -> tuple[Array, Array]:
    """Draw cells (n, J), each given those before; return their log-mass, too, (n,)."""
    noise, log_mass = np.zeros_like(means), np.zeros(len(means))
    for j in range(means.shape[1]):
        centre = means[:, j] + (lower[:, j, :j] * noise[:, :j]).sum(1)
        a, b = ((end[j] - centre) / lower[:, j, j] for end in (low, high))
        log_mass += log_normal_mass(a, b)
        noise[:, j] = truncated_normal(a, b, rng)
    cells = means + (lower @ noise[..., None])[..., 0]
    return cells.clip(low, high), log_mass


def log_normal_mass(a: Array, b: Array) -> Array:
    """Log of the mass of a standard normal density between a and b."""
    a, b = _on_the_left(a, b)
    above, below = log_ndtr(b), log_ndtr(a)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = above + np.log(-np.expm1(below - above))
    mass: Array = np.where(np.isnan(found), -np.inf, found)
    return mass


def truncated_normal(a: Array, b: Array, rng: np.random.RandomState) -> Array:
    """Draw standard normal values between a and b, by their distribution function."""
    left, right = _on_the_left(a, b)
    log_u = np.log(rng.uniform(np.finfo(float).tiny, 1, size=a.shape))
    drawn = ndtri_exp(
        np.logaddexp(log_ndtr(left), log_u + log_normal_mass(left, right))
    )
    value: Any = np.where(left == a, drawn, -drawn)
    found: Array = np.clip(value, a, b)
    return found


def _on_the_left(a: Array, b: Array) -> tuple[Array, Array]:
    """Mirror intervals to where the distribution function keeps its digits."""
    mirrored = a + b > 0
    return np.where(mirrored, -b, a), np.where(mirrored, -a, b)
