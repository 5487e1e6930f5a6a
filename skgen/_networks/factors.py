"""Factor analysis: the linear model that networks with a linear path start from.

``x = W z + e``, with ``z ~ N(0, I)`` and independent noise ``e ~ N(0, diag psi)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from skgen._utils.tensors import wide_dtype

# Rounds of the fit: it is a start, and stopping early keeps noise from vanishing.
ROUNDS = 30
# Columns beyond which one round is enough, since an eigendecomposition takes long.
MANY_COLUMNS = 256
# Least variance of the noise, as a part of that of its column.
LEAST_NOISE = 1e-3
# Numbers of the rows that are multiplied at a time.
CHUNK_ELEMENTS = 2**22


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


def covariance_of(x: Tensor, centre: Tensor) -> Tensor:
    """Covariance (p, p) about a centre (p,), over the pairs of cells that are there.

    In float64 where the device has it, a chunk of the rows (n, p) at a time. Where
    cells are missing it is made positive semidefinite.
    """
    wide = wide_dtype(x.device)
    parts = x.split(max(1, CHUNK_ELEMENTS // x.shape[1]))
    sums = zip(*(_pairs((part - centre).to(wide)) for part in parts))
    products, counts = (torch.stack(each).sum(0) for each in sums)
    covariance: Tensor = products / counts.clamp(min=1)
    if bool((counts == len(x)).all()):
        return covariance
    values, vectors = torch.linalg.eigh(covariance)
    positive: Tensor = vectors * values.clamp(min=0) @ vectors.T
    return positive


def _pairs(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums (p, p) of products of columns (n, p), and of how many cells."""
    seen = (~x.isnan()).to(x)
    x = x.nan_to_num()
    return x.T @ x, seen.T @ seen


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
