"""Factor analysis: the linear model that networks with a linear path start from.

``x = W z + e``, with ``z ~ N(0, I)`` and independent noise ``e ~ N(0, diag psi)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# Rounds of the fit: it is a start, and stopping early keeps noise from vanishing.
ROUNDS = 30
# Columns beyond which one round is enough, since an eigendecomposition takes long.
MANY_COLUMNS = 256
# Least variance of the noise, as a part of that of its column.
LEAST_NOISE = 1e-3


class Factors(NamedTuple):
    """A fitted factor analysis, with ``W^T psi^-1 W`` diagonal."""

    loadings: Tensor  # W, (p, q)
    noise: Tensor  # psi, (p,)

    def to(self, dtype: torch.dtype) -> Factors:
        """Cast both."""
        return Factors(self.loadings.to(dtype), self.noise.to(dtype))

    def among(self, which: Tensor, n_factors: int) -> Factors:
        """Return them for more columns and factors: those ``which`` (p',) marks.

        The other columns have no loadings, and a noise of 1.
        """
        loadings = self.loadings.new_zeros(len(which), n_factors)
        loadings[which, : self.loadings.shape[1]] = self.loadings
        noise = self.noise.new_ones(len(which))
        noise[which] = self.noise
        return Factors(loadings, noise)

    @property
    def code_variances(self) -> Tensor:
        """Variances (q,) of the code given a row: its coordinates are independent."""
        return 1 / (1 + (self.loadings**2 / self.noise[:, None]).sum(0))

    @property
    def regression(self) -> Tensor:
        """Matrix (q, p) that turns a centred row into the mean of its code."""
        return self.code_variances[:, None] * (self.loadings / self.noise[:, None]).T


def covariance_of(x: Tensor) -> Tensor:
    """Covariance (p, p) of centred rows (n, p), over the pairs of cells that are there.

    Where cells are missing it is made positive semidefinite.
    """
    seen = (~x.isnan()).to(x)
    x = x.nan_to_num()
    covariance = x.T @ x / (seen.T @ seen).clamp(min=1)
    if seen.all():
        return covariance
    values, vectors = torch.linalg.eigh(covariance)
    positive: Tensor = vectors * values.clamp(min=0) @ vectors.T
    return positive


def factor_analysis(
    covariance: Tensor, n_factors: int, noise_near: Callable[[Tensor], Tensor]
) -> Factors:
    """Fit loadings and noise by maximum likelihood, in turns.

    From probabilistic PCA on, whose likelihood no round lowers.

    Parameters
    ----------
    covariance : Tensor of shape (p, p)
        Covariance of the rows, all variances positive.
    n_factors : int
        Number of factors q, less than p.
    noise_near : callable
        Turns what the factors leave of the variances, (p,), into a noise that the
        model may have: itself, or one variance for all.
    """
    variance = covariance.diagonal()
    smallest = torch.linalg.eigvalsh(covariance)[: len(variance) - n_factors]
    noise = smallest.mean().clamp(min=0).expand_as(variance)
    floor = LEAST_NOISE * variance
    factors = _best_loadings(covariance, noise_near(noise.maximum(floor)), n_factors)
    for _ in range(ROUNDS if len(variance) <= MANY_COLUMNS else 1):
        left = (variance - (factors.loadings**2).sum(1)).maximum(floor)
        factors = _best_loadings(covariance, noise_near(left), n_factors)
    return factors


def _best_loadings(covariance: Tensor, noise: Tensor, n_factors: int) -> Factors:
    """Return the most likely loadings under a noise (p,)."""
    root = noise.sqrt()
    values, vectors = torch.linalg.eigh(covariance / root / root[:, None])
    first = slice(len(root) - n_factors, None)
    excess = (values[first] - 1).clamp(min=0)
    loadings = root[:, None] * vectors[:, first] * excess.sqrt()
    return Factors(loadings.flip(1), noise)
