"""One Gaussian: whitening as encoder, colouring as generator, exact density.

``z ~ N(0, I)``, ``x = m + W z + e``, ``e ~ N(0, s2 I)``. With as many latent
coordinates as features, ``W = E L^(1/2)`` from the eigenvectors and eigenvalues of
the covariance and ``s2 = 0``; with fewer it is probabilistic PCA.

Columns may have any scale: eigenvectors come from a factor F of the covariance,
``F F^T``, whose rows are scaled as the columns are. Where there are fewer rows than
features, the factor is the centred rows, and no matrix (d, d) is made.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import KW_ONLY
from functools import partial
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skgen._em.covariance import COVARIANCES
from skgen._em.fitted import FittedMixture
from skgen._em.fixed_point import Iterate, Iteration
from skgen._em.incomplete import (
    IncompleteRows,
    IncompleteSteps,
    start_from_cells,
    with_holes,
)
from skgen._em.steps import Mixture
from skgen._training.driver import Steps
from skgen._utils.chunks import CentredRows
from skgen._utils.moments import Moments
from skgen._utils.parameters import (
    attribute,
    device,
    estimator,
    integer,
    none,
    options,
    parameter,
    path,
    real,
)
from skgen._utils.reduce import count, first_draws, total
from skgen._utils.scales import (
    least_of_moments,
    warn_large_reg_covar,
    warn_scales,
    warn_tiny,
)
from skgen._utils.sizes import check_memory
from skgen._utils.sparse import SparseRows, on_host
from skgen._utils.tensors import LOG_2PI, shared, to_array, wide_dtype
from skgen._utils.threads import blas_threads_for, threads_for
from skgen.models.base import (
    FitCallbacks,
    whole_or_as_before,
)
from skgen.models.exact import INCOMPLETE_BATCH, ExactDensity

ILL_DEFINED = (
    "Fitting the model failed because the data have an ill-defined empirical "
    "covariance (for instance a constant or repeated column, or fewer rows than "
    "features) and reg_covar=0. Increase reg_covar, or remove such columns."
)
FULL = COVARIANCES["full"]
# Ratio of the largest to the smallest scale of a column above which an ordinary SVD
# loses digits of the small ones.
GRADED = 1e4
# Ratio of the largest variance to that of the noise above which the projection off
# the axes is repeated, to keep its digits.
STEEP = 1e8
# Columns of sparse rows up to which their covariance is decomposed as a matrix.
MOST_COLUMNS = 4096


def _decomposition_work(scatter: Tensor) -> int:
    """Multiplications between two points at which its threads wait for each other."""
    # A decomposition is a chain of small products: 64 was measured.
    return scatter.numel() * len(scatter) // 64


# Eigenvalues and eigenvectors of covariances: on the host, as arrays.


class Spectrum(NamedTuple):
    """Eigenvalues of a covariance, decreasing, and its eigenvectors."""

    # (r, d), orthonormal rows; or, of independent features, their numbers (r,).
    components: NDArray[Any]
    variances: NDArray[np.float64]  # (r,)

    @classmethod
    def of(cls, moments: Moments, rounding: float) -> Spectrum:
        """Decompose the covariance of rows; correlations are known to ``rounding``."""
        weight, eps = float(moments.weight), torch.finfo(moments.mean.dtype).eps
        scatter = to_array(moments.scatter).astype(np.float64, copy=False)
        if moments.is_factor:
            root = independent_rows(scatter / math.sqrt(weight), eps).T
        else:
            root = graded_cholesky(scatter / weight, eps * rounding)
        return cls.of_root(root)

    @classmethod
    def of_root(cls, root: NDArray[np.float64]) -> Spectrum:
        """Decompose F F^T, from F (d, r) of full rank."""
        vectors, lengths = left_singular(root)
        # An eigenvector has no sign of its own: make its largest entry positive.
        largest = np.abs(vectors).argmax(0)
        signs = np.sign(vectors[largest, np.arange(len(lengths))])
        return cls((vectors * signs).T, lengths**2)

    @classmethod
    def of_features(cls, variance: NDArray[np.float64]) -> Spectrum:
        """Sort independent features by their variance (d,)."""
        order = np.argsort(-variance, kind="stable")
        return cls(order, variance[order])

    def axes(self, q: int) -> NDArray[np.float64]:
        """Return the first q eigenvectors, or all, (min(q, r), d)."""
        first = self.components[:q]
        if first.ndim == 2:
            return np.ascontiguousarray(first)
        rows = np.zeros((len(first), len(self.components)))
        rows[np.arange(len(first)), first] = 1
        return rows


def graded_cholesky(
    covariance: NDArray[np.float64], rounding: float
) -> NDArray[np.float64]:
    """Return F (d, r) with F F^T a covariance of rank r.

    By Cholesky with pivots, of the correlations: that keeps the digits of columns of
    any scale. What is left of correlations below rounding does not count as rank.
    """
    scale = np.sqrt(covariance.diagonal())
    varies = scale > 0
    own = scale[varies, None]
    correlation = covariance[np.ix_(varies, varies)] / own / own.T
    lower, pivots, rank, _ = scipy.linalg.lapack.dpstrf(
        correlation, lower=1, tol=rounding
    )
    root = np.zeros((len(own), rank))
    root[pivots - 1] = np.tril(lower)[:, :rank]
    found = np.zeros((len(scale), rank))
    found[varies] = own * root
    return found


def independent_rows(factor: NDArray[np.float64], eps: float) -> NDArray[np.float64]:
    """Return A (r, d) of full rank with the A^T A of a factor (k, d)."""
    scale = np.sqrt((factor**2).sum(0))
    scaled = factor / np.where(scale > 0, scale, 1)
    values, vectors = np.linalg.eigh(scaled @ scaled.T)
    kept = values > 4 * len(values) * eps * values[-1:].sum()
    return factor if kept.all() else vectors[:, kept].T @ factor


def left_singular(
    root: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return left singular vectors (d, r) and singular values (r,) of F (d, r).

    By one-sided Jacobi rotations where the rows of F differ much in scale, which gives
    small singular values and small entries of the vectors to full accuracy (Demmel &
    Veselic, "Jacobi's method is more accurate than QR", SIAM J. Matrix Anal. 1992).
    """
    lengths = np.sqrt((root**2).sum(1))
    lengths = lengths[lengths > 0]
    if len(lengths) and lengths.max() > GRADED * lengths.min():
        size = np.abs(root).max()
        # "F": rows of any scale; left vectors; right ones too, which costs little.
        values, left, _, work, _, info = scipy.linalg.lapack.dgejsv(
            root / size, joba=2, jobu=0, jobv=0, jobr=0
        )
        if info == 0:
            r = root.shape[1]
            return reorthogonal(left[:, :r]), values[:r] * (size * work[0] / work[1])
    left, values, _ = np.linalg.svd(root, full_matrices=False)
    return left, values


def reorthogonal(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make each column of (d, r) orthogonal to those before it, of larger variance.

    Rotations give entries to an absolute accuracy. Along columns of large scale, the
    entries of an axis of small variance must be far smaller than that.
    """
    for _ in range(2):
        vectors = vectors - vectors @ np.triu(vectors.T @ vectors, 1)
    return vectors


def complement(components: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Return ``count`` orthonormal rows that are orthogonal to orthonormal rows (r, d).

    An eigenspace has no basis of its own; this one depends on the space alone: the
    projections of unit vectors, chosen by pivoting, in their order.
    """
    basis, picks = components, list[int]()
    for _ in range(count):
        rest = 1 - (basis**2).sum(0)
        pick = int(rest.argmax())
        row = -basis[:, pick] @ basis
        row[pick] += 1
        row -= (basis @ row) @ basis
        basis = np.concatenate([basis, row[None] / np.linalg.norm(row)])
        picks.append(pick)
    picks.sort()
    projected = -components.T @ components[:, picks]
    projected[picks, np.arange(count)] += 1
    found, _ = scipy.linalg.qr(projected, mode="economic")
    return np.ascontiguousarray(found.T)


def leading_axes(
    X: Any, mean: NDArray[np.float64], roots: NDArray[np.float64], q: int
) -> Spectrum:
    """Return q axes of sparse rows (n, d) about their mean, and their variances.

    ``roots`` (n,) are square roots of the shares of the rows. Only products with X are
    taken (Lehoucq, Sorensen & Yang, "ARPACK users' guide", SIAM 1998).
    """
    X = X.astype(np.float64, copy=False)

    def times(v: NDArray[Any]) -> NDArray[Any]:
        v = v.ravel()
        found: NDArray[Any] = roots * (X @ v - mean @ v)
        return found

    def transposed(u: NDArray[Any]) -> NDArray[Any]:
        u = roots * u.ravel()
        found: NDArray[Any] = X.T @ u - u.sum() * mean
        return found

    centred = scipy.sparse.linalg.LinearOperator(
        X.shape, matvec=times, rmatvec=transposed, dtype=np.float64
    )
    start = np.random.RandomState(0).uniform(-1, 1, min(X.shape))
    _, lengths, axes = scipy.sparse.linalg.svds(centred, q, v0=start)
    order = np.argsort(-lengths)
    axes, lengths = axes[order], lengths[order]
    largest = np.abs(axes).argmax(1)
    signs = np.sign(axes[np.arange(q), largest])
    return Spectrum(signs[:, None] * axes, lengths**2)


class Widening(NamedTuple):
    """How variances along axes grow: by ``added``, then up to ``least``."""

    added: float
    least: NDArray[np.float64]  # (d,), of the columns

    def along(self, axes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the least variances along orthonormal axes (q, d), (q,)."""
        found: NDArray[np.float64] = axes**2 @ self.least
        return found

    def off(self, axes: NDArray[Any]) -> float:
        """Return the mean least variance off orthonormal axes (q, d)."""
        q, d = axes.shape
        rest = float(self.least.sum() - self.along(axes).sum())
        return max(0.0, rest) / float(d - q)


# How many latent coordinates.


def explaining(variances: NDArray[np.float64], share: float) -> int:
    """Return the smallest number of variances, decreasing, above a share of the sum."""
    parts = np.cumsum(variances / max(variances.sum(), np.finfo(float).tiny))
    return min(int(np.searchsorted(parts, share, side="right")) + 1, len(parts) or 1)


def minka_dimension(variances: NDArray[np.float64], n: float, d: int) -> int:
    """Return the number of components of largest evidence, by Laplace's method.

    Parameters
    ----------
    variances : ndarray of shape (r,)
        Positive eigenvalues of the covariance, decreasing.
    n : float
        Number of rows.
    d : int
        Number of features.

    References
    ----------
    Minka, "Automatic choice of dimensionality for PCA", NeurIPS 2000.
    """
    values = np.zeros(d)
    values[: len(variances)] = variances
    ranks = range(1, min(d, len(variances) + 1))
    evidence = [_log_evidence(values, k, n) for k in ranks]
    return 1 + int(np.argmax(evidence)) if evidence else 1


def _log_evidence(values: NDArray[np.float64], k: int, n: float) -> float:
    """Log-evidence of k components, for eigenvalues (d,): equation 30 of Minka."""
    d = len(values)
    i = np.arange(1, k + 1)
    log_u = -k * math.log(2) + float(
        (gammaln((d - i + 1) / 2) - (d - i + 1) / 2 * math.log(math.pi)).sum()
    )
    noise = values[k:].mean()
    if noise <= 0:
        return math.inf
    log_l = -n / 2 * (np.log(values[:k]).sum() + (d - k) * math.log(noise))
    m = d * k - k * (k + 1) / 2
    hat = np.concatenate([values[:k], np.full(d - k, noise)])
    first, second = np.triu_indices(k, 1, d)
    gaps = (values[first] - values[second]) * (1 / hat[second] - 1 / hat[first])
    log_a = float(np.log(gaps).sum()) + len(first) * math.log(n)
    return float(
        log_u
        + log_l
        + (m + k) / 2 * math.log(2 * math.pi)
        - log_a / 2
        - k / 2 * math.log(n)
    )


# Densities: on the device, in the wide dtype.


class PrincipalAxes(NamedTuple):
    """N(m, E (L - s2 I) E^T + s2 I): axes, and an isotropic rest around them."""

    mean: Tensor  # (d,)
    components: Tensor  # E^T: (q, d), orthonormal rows
    variances: Tensor  # L: (q,), decreasing, not below the noise
    noise_variance: Tensor  # s2: (), zero when q = d
    is_steep: bool = False  # whether L_1 / s2 is large

    @property
    def loadings(self) -> Tensor:
        """Length of the columns of W: (L - s2)^(1/2), (q,)."""
        return (self.variances - self.noise_variance).clamp(min=0).sqrt()

    def encode(self, x: Tensor) -> Tensor:
        """Posterior mean (W^T W + s2 I)^-1 W^T (x - m), where W^T W + s2 I = L."""
        return (x - self.mean) @ self.components.T * (self.loadings / self.variances)

    def decode(self, z: Tensor) -> Tensor:
        """Generate m + W z."""
        return self.mean + (z * self.loadings) @ self.components

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density (n,)."""
        q, d = self.components.shape
        log_det = self.variances.log().sum()
        if q < d:
            log_det = log_det + (d - q) * self.noise_variance.log()
        return -0.5 * (d * LOG_2PI + log_det + self.squared_distance(x))

    def squared_distance(self, x: Tensor) -> Tensor:
        """Return (x - m)^T C^-1 (x - m) of rows (n, d), (n,)."""
        (q, d), centred = self.components.shape, x - self.mean
        along = centred @ self.components.T
        squared = ((along / self.variances.sqrt()) ** 2).sum(1)
        if q == d:
            return squared
        # The rest as a vector: ||x||^2 - ||along||^2 would cancel.
        rest = self._off_axes(centred, along) / self.noise_variance.sqrt()
        return squared + (rest**2).sum(1)

    def _off_axes(self, centred: Tensor, along: Tensor) -> Tensor:
        """Subtract from rows what lies along the axes."""
        rest = centred - along @ self.components
        if self.is_steep:  # what rounding left along the axes is more than the noise
            rest = rest - rest @ self.components.T @ self.components
        return rest

    def draw(self, n: int, noise: bool, generator: torch.Generator) -> Tensor:
        """Draw (n, d) rows m + W z + e."""
        z = _randn(n, len(self.components), self.mean, generator)
        return self.with_noise(self.decode(z), generator) if noise else self.decode(z)

    def with_noise(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Add the noise e to rows (n, d)."""
        q, d = self.components.shape
        if q == d:
            return x
        return x + self.noise_variance.sqrt() * _randn(len(x), d, x, generator)


class Reflected(NamedTuple):
    """The same density with a code of d coordinates, and no basis of the rest.

    A block reflector ``H = I - Y K Y^T`` takes the first r unit vectors to the axes E,
    up to a rotation of them, and the others to a basis of the rest: memory O(d r)
    (Schreiber & Parlett, "Block reflectors", SIAM J. Numer. Anal. 1988).
    """

    axes: PrincipalAxes
    reflector: Tensor  # Y: (d, r)
    kernel: Tensor  # K: (r, r)
    rotation: Tensor  # R: (r, r); H takes the first unit vectors to E R

    @classmethod
    def of(cls, axes: PrincipalAxes) -> Self:
        """Find the reflector of r axes (r, d)."""
        basis = axes.components.T
        r = basis.shape[1]
        left, lengths, right = torch.linalg.svd(basis[:r])
        rotation = -right.T @ left.T
        reflector = -(basis @ rotation)
        reflector[:r].diagonal().add_(1)
        kernel = left / (1 + lengths) @ left.T
        return cls(axes, reflector, kernel, rotation)

    def reflect(self, x: Tensor) -> Tensor:
        """Multiply rows (n, d) by H, which is symmetric and its own inverse."""
        return x - x @ self.reflector @ self.kernel @ self.reflector.T

    def encode(self, x: Tensor) -> Tensor:
        """Return white codes (n, d): along the axes, then off them."""
        centred, r = x - self.axes.mean, len(self.axes.components)
        along = centred @ self.axes.components.T / self.axes.variances.sqrt()
        rest = self.reflect(centred)[:, r:] / self.axes.noise_variance.sqrt()
        return torch.cat([along, rest], dim=1)

    def decode(self, z: Tensor) -> Tensor:
        """Rows of white codes."""
        r = len(self.axes.components)
        along = z[:, :r] * self.axes.variances.sqrt() @ self.rotation
        rest = z[:, r:] * self.axes.noise_variance.sqrt()
        return self.axes.mean + self.reflect(torch.cat([along, rest], dim=1))

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density (n,)."""
        return self.axes.log_prob(x)

    def squared_distance(self, x: Tensor) -> Tensor:
        """Return (x - m)^T C^-1 (x - m) of rows (n, d), (n,)."""
        return self.axes.squared_distance(x)

    def draw(self, n: int, noise: bool, generator: torch.Generator) -> Tensor:
        """Draw (n, d) rows; all noise is latent here."""
        mean = self.axes.mean
        return self.decode(_randn(n, len(mean), mean, generator))


class Independent(NamedTuple):
    """N(m, diag(s^2)): a standard score per feature."""

    mean: Tensor  # (d,)
    scale: Tensor  # (d,)

    def encode(self, x: Tensor) -> Tensor:
        """Return standard scores."""
        return (x - self.mean) / self.scale

    def decode(self, z: Tensor) -> Tensor:
        """Rows of standard scores."""
        return self.mean + z * self.scale

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density (n,)."""
        d, log_det = len(self.mean), 2 * self.scale.log().sum()
        return -0.5 * (d * LOG_2PI + log_det + self.squared_distance(x))

    def squared_distance(self, x: Tensor) -> Tensor:
        """Return (x - m)^T C^-1 (x - m) of rows (n, d), (n,)."""
        return (self.encode(x) ** 2).sum(1)

    def draw(self, n: int, noise: bool, generator: torch.Generator) -> Tensor:
        """Draw (n, d) rows; all noise is latent here."""
        return self.decode(_randn(n, len(self.mean), self.mean, generator))


class WithHoles(NamedTuple):
    """A density whose rows may have missing cells; complete ones are as they were."""

    whole: PrincipalAxes | Reflected | Independent
    n_codes: int  # latent coordinates
    mixture: Callable[[], FittedMixture]  # the same density, as a mixture of one

    def encode(self, x: Tensor) -> Tensor:
        """Return the posterior mean of the code, which is linear in x."""
        code = self.whole.encode(x)
        if code.sum().isnan():
            incomplete = x.isnan().any(1)
            code[incomplete] = self.whole.encode(self.impute(x[incomplete], None))
        return code

    @property
    def mean(self) -> Tensor:
        """Mean of the rows, (d,)."""
        whole = self.whole
        return whole.axes.mean if isinstance(whole, Reflected) else whole.mean

    def decode(self, z: Tensor) -> Tensor:
        """Rows of codes."""
        return self.whole.decode(z)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density (n,) of what is there of the rows."""
        found = self.whole.log_prob(x)
        incomplete = found.isnan()
        if incomplete.any():
            found[incomplete] = self.mixture().log_prob(x[incomplete])
        return found

    def squared_distance(self, x: Tensor) -> Tensor:
        """Squared Mahalanobis distance (n,) of what is there of the rows."""
        found = self.whole.squared_distance(x)
        incomplete = found.isnan()
        if incomplete.any():
            rows, density = x[incomplete], self.mixture()
            at_mean = torch.where(rows.isnan(), rows, self.mean)
            nats = density.log_prob(at_mean) - density.log_prob(rows)
            found[incomplete] = 2 * nats
        return found

    def draw(self, n: int, noise: bool, generator: torch.Generator) -> Tensor:
        """Draw (n, d) rows."""
        return self.whole.draw(n, noise, generator)

    def impute(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Fill rows (n, d) with the mean of missing cells given the rest, or a draw."""
        return self.mixture().impute(x, generator)

    def complete(
        self, x: Tensor, noise: bool, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw what is missing of rows (n, d), and the codes (n, k) it is of.

        A draw of a whole row and its code is moved by what the cells that are there
        let expect of its difference to the row (Matheron's rule).
        """
        whole, mean = self.whole, self.mean
        z = _randn(len(x), self.n_codes, mean, generator)
        drawn = whole.decode(z)
        if isinstance(whole, PrincipalAxes):
            drawn = whole.with_noise(drawn, generator)
        expected = self.mixture().impute(mean + x - drawn, None)
        z = z + whole.encode(expected)
        found = drawn + expected - mean if noise else whole.decode(z)
        return torch.where(x.isnan(), found, x), z


def _randn(n: int, k: int, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(n, k, generator=generator, device=like.device, dtype=like.dtype)


# Fitted attributes of a density with axes.
AXES = (
    "components_",
    "explained_variance_",
    "explained_variance_ratio_",
    "noise_variance_",
)


def _wide(t: Tensor) -> NDArray[np.float64]:
    """Bring a tensor to the host, in float64."""
    return to_array(t).astype(np.float64)


@estimator
class GaussianDensity(ExactDensity):
    """A Gaussian density whose encoder whitens and whose decoder colours.

    Maximum likelihood in closed form. With ``n_components`` below the number of
    features it is probabilistic PCA. The score is exact.

    Parameters
    ----------
    n_components : int, float or "mle", default=None
        Number of latent coordinates. ``None`` keeps all features, and the round
        trip through the latent code is exact. Fewer than features is probabilistic
        PCA of the covariance: along its principal axes when it is full, along the
        features of largest variance when it is diagonal; a spherical one has
        nothing to explain, and its code is zero. A float between 0 and 1 is the
        share of the variance to explain, with as few coordinates as possible; "mle"
        is Minka's choice, for a full covariance and as many rows as features. Both
        are as in :class:`sklearn.decomposition.PCA`.
    covariance_type : {"full", "diag", "spherical"}, default="full"
        A full covariance, one variance per feature, or one variance for all.
    reg_covar : "auto" or float, default="auto"
        "auto" raises variances along the axes to those of the square of a thousandth of
        each column's standard deviation, and changes none that are above; a constant
        column gets the variance of one row in all that is as far from it as rows are
        from the mean in others. A number is added to the variances, in squared units of
        the data. A warning says when it is above a tenth of the smallest variance of a
        column that is not constant. 0 is the exact maximum likelihood, which exists for
        data of full rank only.
    tol : float, default=1e-6
        With missing cells, EM stops when the mean log-density changes by less.
    max_iter : int, default=1000
        Most iterations of that EM; complete rows need none.
    device : str or torch.device, default="cpu"
        "cpu", "cuda", "cuda:<index>", "mps" or "auto".
    checkpoint : path-like or None, default=None
        File that has the state of EM over missing cells, after each iteration, or a
        folder for the files of many fits. Called again with the same parameters and
        rows, a fit that was killed goes on from there, says so, and ends where it
        would have ended, to the bit. Other parameters or rows are an error. A fit that
        ends removes its file; in a folder it stays.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Mean of the rows.
    covariance_ : ndarray of shape (n_features, n_features) or (n_features,)
        Covariance of the density, computed when it is asked for; the variances alone
        where it is diagonal and no latent coordinate is left out.
    components_ : ndarray of shape (n_components, n_features)
        Principal axes, by decreasing variance, where the density is not diagonal.
        Without ``n_components`` and with fewer rows than features, the axes along
        which the rows vary, one fewer than rows; the code has ``n_features``
        coordinates all the same.
    explained_variance_ : ndarray of shape (n_components,)
        Variance of the density along each axis, with ``reg_covar``.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        Share of each axis in the total variance of the rows, without ``reg_covar``.
    noise_variance_ : float
        Variance off the axes: the mean of the eigenvalues left out, 0 if none is.
    n_components_ : int
        Number of latent coordinates.
    n_iter_ : int
        Iterations of EM over missing cells, or 1.
    n_samples_seen_ : float
        Total weight of the rows that were seen.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit, when they are all strings.
    device_ : str
        Where the model is evaluated.

    See Also
    --------
    GaussianMixtureEM : Several Gaussians.
    sklearn.decomposition.PCA : The same axes, without a sampler in its interface.

    Notes
    -----
    Missing cells, NaN, are integrated out: a fit is EM over them, exact where they are
    missing at random, and scores and codes are those of what is there of a row.

    References
    ----------
    Tipping & Bishop, "Probabilistic principal component analysis", Journal of the
    Royal Statistical Society B 61(3), 1999.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import GaussianDensity
    >>> X = np.random.RandomState(0).randn(500, 3) @ np.diag([3.0, 2.0, 1.0])
    >>> model = GaussianDensity().fit(X)
    >>> model.transform(X).std(axis=0).round(3)
    array([1., 1., 1.])
    >>> np.allclose(model.reconstruct(X), X)
    True
    >>> round(model.score(X), 2)
    -5.98
    """

    _fits_together = True

    mean_: NDArray[Any] = attribute()
    components_: NDArray[Any] = attribute()
    explained_variance_: NDArray[Any] = attribute()
    explained_variance_ratio_: NDArray[Any] = attribute()
    noise_variance_: float = attribute()
    n_components_: int = attribute()
    n_samples_seen_: float = attribute()

    _n_rows: int = attribute()  # seen so far
    _variances: NDArray[np.float64] = attribute()  # (d,), where there are no axes

    # Weight, mean and scatter of the rows so far.
    _moments: tuple[NDArray[Any], ...] = attribute()

    n_components: int | float | Literal["mle"] | None = parameter(
        integer(1), real(0, 1, closed="neither"), options("mle"), none, default=None
    )
    _: KW_ONLY
    covariance_type: Literal["full", "diag", "spherical"] = parameter(
        options("full", "diag", "spherical"), default="full", builds=True
    )
    reg_covar: float | Literal["auto"] = parameter(
        options("auto"), real(0), default="auto"
    )
    tol: float = parameter(real(0), default=1e-6)
    max_iter: int = parameter(integer(1), default=1000)
    device: str | torch.device = parameter(device, default="cpu")
    checkpoint: str | os.PathLike[str] | None = parameter(path, none, default=None)

    def partial_fit(
        self, X: ArrayLike, y: Any = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Update the fit with more rows: the same result as one fit on all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Further rows.
        y : None
            Ignored, present for API consistency by convention.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, on one scale over all calls.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        with whole_or_as_before(self), threads_for():
            self._merge_rows(X, sample_weight)
        return self

    def _merge_rows(self, X: Any, sample_weight: Any) -> None:
        """Merge the moments of further rows with those of the rows seen before."""
        first = not hasattr(self, "_moments")
        if not first:
            self._check_unchanged("partial_fit")
        _, x, weight = self._prepare(X, None, sample_weight, reset=first)
        moments, n_rows = self._moments_of(x, weight), len(x)
        if moments.mean.isnan().any():
            raise ValueError(INCOMPLETE_BATCH.format(owner=type(self).__name__))
        if not first:
            if not self._moments:
                raise ValueError(
                    "partial_fit of GaussianDensity cannot go on from a fit that kept "
                    "some axes of sparse rows only. Begin with partial_fit."
                )
            seen = Moments(*(part.to(moments.mean) for part in self._seen_moments))
            moments, n_rows = seen.merge(moments), self._n_rows + n_rows
        self.n_iter_ = 1
        self._warn_scales(moments, x)
        self._set_moments(moments, n_rows, self.n_components)

    def _fit(
        self,
        x: Tensor,
        weight: Tensor | None,
        rng: np.random.RandomState,
        callbacks: FitCallbacks,
    ) -> Steps:
        if isinstance(x, SparseRows) and self._is_thin(x):
            self._fit_axes(CentredRows.of(x, weight))
            return
        moments = self._moments_of(x, weight)
        if moments.mean.isnan().any():
            yield from self._fit_cells(x, weight, rng)
            return
        self.n_iter_ = 1
        self._warn_scales(moments, x)
        self._set_moments(moments, count(len(x)), self.n_components)

    def _is_thin(self, x: SparseRows) -> bool:
        """Return whether a matrix of sparse rows is too large to be decomposed."""
        n, d = x.shape
        return self.covariance_type == "full" and (n <= d or d > MOST_COLUMNS)

    def _fit_axes(self, rows: CentredRows) -> None:
        """Find the first axes of sparse rows, and the variance of all, by Lanczos."""
        (n, d), q = rows.x.shape, self.n_components
        if not isinstance(q, int | np.integer) or q >= min(n, d):
            raise ValueError(
                f"Sparse data of {n} rows and {d} columns need n_components of "
                f"{type(self).__name__} as an int below {min(n, d)}. Got {q!r} "
                "instead; or give X.toarray()."
            )
        mean, variance = rows.moments()
        warn_large_reg_covar(self.reg_covar, mean, variance, type(self).__name__)
        warn_tiny(rows, mean, variance, type(self).__name__)
        weight = rows.weight.sum()
        self.n_iter_, self._n_rows, self._moments = 1, n, ()
        self.n_samples_seen_ = self._unscaled(float(weight))
        self.mean_ = _wide(mean)
        roots = to_array((rows.weight / weight).sqrt())
        found = leading_axes(on_host(rows.x), self.mean_, roots, int(q))
        rest = max(0.0, float(variance.sum()) - found.variances.sum())
        self.n_components_ = int(q)
        variances = np.append(found.variances, rest)
        by = self._widening(mean, variance, float(weight))
        self._set_axes(found._replace(variances=variances), by, is_wide=False)

    def _fit_cells(
        self, x: Tensor, weight: Tensor | None, rng: np.random.RandomState
    ) -> Steps:
        """Fit rows with missing cells: by EM where features depend on each other."""
        rows = CentredRows.of(x, weight).normalise_weights()
        rows = with_holes(rows, type(self).__name__)
        warn_scales(rows, self.reg_covar, type(self).__name__)
        n, d = rows.n_rows, rows.x.shape[1]
        self._n_rows, self.n_iter_ = n, 1
        n_components = self.n_components
        scale = 1.0 if weight is None else float(total(weight.sum())) / n
        if self.covariance_type != "full":
            moments = self._moments_of_cells(rows).scaled(scale)
            self._set_moments(moments, n, n_components)
            return
        if not isinstance(rows, IncompleteRows):  # holes in rows of weight zero alone
            moments = self._moments_of(rows.x, rows.weight).scaled(scale)
            self._set_moments(moments, n, n_components)
            return
        self._check_matrix_size(d)
        sample = rows.sampled(rng)
        everywhere = rows.centre.new_ones(len(sample.x), 1)
        by = self._widening(*rows.moments(), float(rows.total_weight))
        added = FULL.ridge(torch.as_tensor(by.least + by.added).to(rows.centre))
        start = first_draws(
            rng, lambda: start_from_cells(FULL, sample, everywhere, added)
        )
        begin = Mixture(*(part.to(rows.centre) for part in start))
        if n_components is not None and not isinstance(n_components, int | np.integer):
            yield from self._climb(rows, begin, scale, None)
            variances = self._spectrum(self._seen_moments).variances
            n_components = self._choose_n_components(variances, n_components)
        yield from self._climb(rows, begin, scale, n_components)

    def _check_matrix_size(self, d: int) -> None:
        """Raise a ValueError where a covariance (d, d) would not fit into memory."""
        sizes = {"n_features": d}
        check_memory(3 * 8.0 * d * d, torch.device("cpu"), type(self).__name__, sizes)

    def _moments_of_cells(self, rows: CentredRows) -> Moments:
        """Return moments of independent features, from the cells that are there.

        Variances that the model takes for one count by their cells.
        """
        n = rows.total_weight
        mean, variance = rows.moments()
        count = n - rows.missing_weights() if isinstance(rows, IncompleteRows) else n
        count = torch.as_tensor(count).expand_as(mean)
        order = variance.argsort(descending=True, stable=True)
        q = 0
        if self.covariance_type == "diag":
            q = self._choose_n_components(_wide(variance[order]), self.n_components)
        rest = order[q:]
        if len(rest):
            variance[rest] = count[rest] @ variance[rest] / count[rest].sum()
        return Moments(n, mean, variance * n)

    def _climb(
        self, rows: CentredRows, start: Mixture, scale: float, n_components: Any
    ) -> Steps:
        """Run EM: expected moments of whole rows, and the density that has them."""
        steps, n = IncompleteSteps(FULL, rows, 0.0), rows.n_rows
        weight = rows.total_weight

        def moments_of(theta: Mixture) -> Moments:
            scatter = theta.covariances[0] * n
            return Moments(weight, theta.means[0], scatter).scaled(scale)

        def step(state: tuple[Mixture, Moments]) -> Iterate[tuple[Mixture, Moments]]:
            found, bound = steps.moments(state[0])
            moments = moments_of(found)
            self._set_moments(moments, n, n_components)
            return Iterate((self._as_mixture(rows.centre), moments), bound)

        def settled(previous: Iterate[Any], present: Iterate[Any]) -> bool:
            return abs(present.bound - previous.bound) < self.tol

        first = Iterate((start, moments_of(start)), -math.inf)
        run = yield Iteration(step, first, self.max_iter, settled)
        self._set_moments(run.state[1], n, n_components)  # if no step was left to make
        self.n_iter_ = len(run.bounds)
        if run.stopped:
            self._warn_interrupted(self.n_iter_, "give a checkpoint")
        elif not run.converged:
            warnings.warn(
                f"{type(self).__name__}: EM over missing cells did not converge in "
                f"max_iter={self.max_iter} iterations. Increase max_iter or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def _scale_seen(self, factor: float) -> None:
        scaled = self._seen_moments.scaled(factor)
        self._moments = tuple(to_array(part) for part in scaled)

    @property
    def _seen_moments(self) -> Moments:
        """Moments of the rows so far, on the host."""
        return Moments(*(shared(np.asarray(part)) for part in self._moments))

    def _moments_of(self, x: Tensor, weight: Tensor | None) -> Moments:
        return Moments.of(x, weight, full=self.covariance_type == "full")

    def _set_moments(self, moments: Moments, n_rows: int, n_components: Any) -> None:
        """Set the fitted attributes."""
        self._moments = tuple(to_array(part) for part in moments)
        self._n_rows = n_rows
        self.n_samples_seen_ = self._unscaled(float(moments.weight))
        self.mean_ = _wide(moments.mean)
        with blas_threads_for(_decomposition_work(moments.scatter)):
            spectrum = self._spectrum(moments)
        variances = spectrum.variances
        self.n_components_ = self._choose_n_components(variances, n_components)
        weight = float(moments.weight)
        by = self._widening(moments.mean, moments.variance, weight)
        if self._has_axes:
            self._set_axes(spectrum, by, is_wide=moments.is_factor)
        else:
            self._set_variances(_wide(self._feature_variances(moments)), by)

    def _widening(self, mean: Tensor, variance: Tensor, weight: float) -> Widening:
        """Return how variances grow, from the moments of columns."""
        if isinstance(self.reg_covar, str):
            return Widening(0.0, _wide(least_of_moments(mean, variance, weight)))
        return Widening(float(self.reg_covar), np.zeros(len(mean)))

    def _warn_scales(self, moments: Moments, x: Tensor) -> None:
        """Warn of columns that ``reg_covar`` blurs, or whose squares underflow."""
        scales = (moments.mean, moments.variance, type(self).__name__)
        warn_large_reg_covar(self.reg_covar, *scales)
        warn_tiny(CentredRows.of(x, None, moments.mean), *scales)

    def _feature_variances(self, moments: Moments) -> Tensor:
        """Return the variance of each feature, (d,); one for all where spherical."""
        variance = moments.variance
        if self.covariance_type == "spherical":
            variance = variance.mean().expand_as(variance)
        return variance

    def _spectrum(self, moments: Moments) -> Spectrum:
        if self.covariance_type == "full":
            return Spectrum.of(moments, self._rounding)
        return Spectrum.of_features(_wide(self._feature_variances(moments)))

    @property
    def _rounding(self) -> float:
        """Rounding of correlations of sums over rows, in units of the machine's.

        Below it columns may depend on each other: without ``reg_covar``, to be refused.
        With it, what is left of their difference is the best that is known.
        """
        d = len(self.mean_)
        return d if self.reg_covar else 10 * (d + math.sqrt(self._n_rows))

    def _set_axes(self, spectrum: Spectrum, by: Widening, *, is_wide: bool) -> None:
        """Keep q axes; the variances that are left out become that of the noise."""
        d, q = len(self.mean_), self.n_components_
        rank = int((spectrum.variances > 0).sum())
        if self.reg_covar == 0 and rank < min(q + 1, d):
            raise ValueError(ILL_DEFINED)
        axes, variances = spectrum.axes(q), spectrum.variances[:q]
        total = max(spectrum.variances.sum(), np.finfo(float).tiny)
        missing = 0 if is_wide and q == d else q - len(axes)
        if missing:
            axes = np.concatenate([axes, complement(axes, missing)])
            variances = np.concatenate([variances, np.zeros(missing)])
        noise = 0.0
        if len(axes) < d:  # zero, of all that is off the axes of few rows
            rest = spectrum.variances[q:].sum() / (d - len(axes))
            noise = max(rest + by.added, by.off(axes))
        found = np.maximum(np.maximum(variances + by.added, by.along(axes)), noise)
        order = np.argsort(-found, kind="stable")
        self.components_, self.explained_variance_ = axes[order], found[order]
        self.explained_variance_ratio_ = variances[order] / total
        self.noise_variance_ = float(noise)

    def _set_variances(self, variance: NDArray[np.float64], by: Widening) -> None:
        """Keep a variance per feature."""
        least = by.least
        if self._fitted("covariance_type") == "spherical":
            least = least.mean()
        found = np.maximum(variance + by.added, least)
        if not (found > 0).all():
            raise ValueError(ILL_DEFINED)
        for name in filter(partial(hasattr, self), AXES):  # of an earlier fit
            delattr(self, name)
        self._variances = found

    @property
    def _has_axes(self) -> bool:
        """Whether the density is kept in an eigenbasis, not feature by feature."""
        is_full = self._fitted("covariance_type") == "full"
        return is_full or self.n_components_ < len(self.mean_)

    def _choose_n_components(self, variances: NDArray[np.float64], given: Any) -> int:
        """Return the number of latent coordinates, of variances that decrease."""
        d = self.n_features_in_
        if given is None:
            return d
        if isinstance(given, str):
            self._check_mle(d)
            return minka_dimension(variances, self._n_rows, d)
        if not isinstance(given, int | np.integer):
            return explaining(variances, float(given))
        if given > d:
            raise ValueError(
                f"n_components={given} must be between 1 and n_features={d} for "
                "GaussianDensity. Lower it, or use n_components=None for all."
            )
        return int(given)

    def _check_mle(self, d: int) -> None:
        if self.covariance_type != "full" or self._n_rows < d:
            raise ValueError(
                "n_components='mle' of GaussianDensity needs covariance_type='full' "
                f"and as many rows as features. Got {self.covariance_type!r} and "
                f"{self._n_rows} rows of {d} features. Give n_components as a number."
            )

    # The covariance.

    @property
    def covariance_(self) -> NDArray[Any]:
        """Covariance of the density (d, d), or its diagonal (d,)."""
        check_is_fitted(self)
        return self.get_covariance() if self._has_axes else self._variances

    def get_covariance(self) -> NDArray[Any]:
        """Return the covariance of the density.

        Returns
        -------
        covariance : ndarray of shape (n_features, n_features)
            ``E (L - s2 I) E^T + s2 I``, from the axes E and variances L, s2.
        """
        check_is_fitted(self)
        return self._matrix(lambda variances: variances)

    def get_precision(self) -> NDArray[Any]:
        """Return the inverse of the covariance.

        Returns
        -------
        precision : ndarray of shape (n_features, n_features)
            From the axes and their variances: no matrix is inverted.
        """
        check_is_fitted(self)
        return self._matrix(np.reciprocal)

    def mahalanobis(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return squared Mahalanobis distances of rows to the mean.

        Of rows of the density they have a chi-squared distribution, with as many
        degrees of freedom as features.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        distance : ndarray of shape (n_samples,)
            ``(x - mean_)^T C^-1 (x - mean_)``, with the covariance C of the density:
            squared, as in scikit-learn's ``EmpiricalCovariance``. Of a row with missing
            cells, the distance of those that are there, by their own covariance.

        References
        ----------
        Mahalanobis, "On the generalised distance in statistics", Proceedings of the
        National Institute of Sciences of India 2, 1936.

        Examples
        --------
        >>> import numpy as np
        >>> from skgen import GaussianDensity
        >>> X = np.array([[-1.0, -2.0], [1.0, -2.0], [-1.0, 2.0], [1.0, 2.0]])
        >>> GaussianDensity().fit(X).mahalanobis([[0.0, 0.0], [3.0, 0.0]]).round(3)
        array([0., 9.])
        """
        return self._apply(lambda model, x: model.squared_distance(x), X, scores=True)

    def _matrix(
        self, function: Callable[[NDArray[Any]], NDArray[Any]]
    ) -> NDArray[np.float64]:
        """Apply a function to the eigenvalues of the covariance."""
        if not self._has_axes:
            return np.diag(function(self._variances))
        noise = np.array(self.noise_variance_)
        off = function(noise) if noise else noise
        along = function(self.explained_variance_) - off
        matrix: NDArray[np.float64] = (self.components_.T * along) @ self.components_
        matrix[np.diag_indices_from(matrix)] += off
        return matrix

    # Evaluating, and state.

    def _tensor_dtype(self, dtype: np.dtype[Any]) -> torch.dtype:
        """Evaluate in float64, whatever the dtype of the rows."""
        return wide_dtype(torch.device(self.device_))

    def _model(self, dtype: torch.dtype) -> WithHoles:
        whole = self._whole_model(dtype)
        return WithHoles(whole, self.n_components_, self._mixture)

    def _as_mixture(self, like: Tensor) -> Mixture:
        """Return the density as a mixture of one, with a matrix."""
        covariance = torch.as_tensor(self.get_covariance()[None]).to(like)
        mean = torch.as_tensor(self.mean_[None]).to(like)
        return Mixture(mean.new_ones(1), mean, covariance, FULL.roots(covariance))

    def _mixture(self) -> FittedMixture:
        """Return the density as a mixture of one, for incomplete rows."""
        device = torch.device(self.device_)
        one, mean = np.ones(1), self.mean_[None]
        if not self._has_axes:
            variances = self._variances[None]
            diagonal = (one, mean, variances, variances**-0.5)
            return FittedMixture.of(COVARIANCES["diag"], *diagonal, device=device)
        self._check_matrix_size(len(self.mean_))
        like = torch.zeros((), dtype=torch.float64)
        parts = map(to_array, self._as_mixture(like))
        return FittedMixture.of(FULL, *parts, device=device)

    def _whole_model(
        self, dtype: torch.dtype
    ) -> PrincipalAxes | Reflected | Independent:
        def tensor(value: Any) -> Tensor:
            # A copy: a memory-mapped pickle has arrays that are read-only.
            return torch.tensor(value, dtype=dtype, device=self.device_)

        mean = tensor(self.mean_)
        if not self._has_axes:
            return Independent(mean, tensor(self._variances).sqrt())
        noise = self.noise_variance_
        is_steep = bool((self.explained_variance_[:1] > STEEP * noise).any())
        axes = PrincipalAxes(
            mean,
            tensor(self.components_),
            tensor(self.explained_variance_),
            tensor(noise),
            is_steep,
        )
        return Reflected.of(axes) if self._is_reflected else axes

    @property
    def _is_reflected(self) -> bool:
        """Return whether codes have more coordinates than there are axes."""
        return len(self.components_) < self.n_components_

    @property
    def _without_sparse(self) -> str | None:
        if self.covariance_type != "full" or self.n_components is not None:
            return None
        return (
            "Give n_components=k, or covariance_type='diag' or 'spherical', which take "
            "sparse data; or X.toarray()."
        )

    @property
    def _code_variances(self) -> NDArray[Any]:
        if not self._has_axes or self._is_reflected:
            return np.ones_like(self.mean_)
        return 1 - self.noise_variance_ / self.explained_variance_

    @classmethod
    def _upgraded(cls, state: dict[str, Any]) -> dict[str, Any]:
        state = dict(super()._upgraded(state))
        if "covariance_" in state:  # of 0.1, which kept it beside the axes
            covariance = np.asarray(state.pop("covariance_"))
            state["_n_rows"] = math.ceil(state["n_samples_seen_"])
            if covariance.ndim == 1:
                state["_variances"] = covariance
            else:
                variances = state["explained_variance_"]
                state["explained_variance_ratio_"] = variances / covariance.trace()
        return state

    def _set_file_state(self, state: dict[str, Any]) -> None:
        super()._set_file_state(state)
        d = len(self.mean_)
        if not self._moments:
            return
        weight, mean, scatter = (part.shape for part in self._moments)
        rows = scatter[0] if self._fitted("covariance_type") == "full" else None
        expected = (d,) if rows is None else (min(rows, d), d)
        if (weight, mean, scatter) != ((), (d,), expected):
            raise ValueError("the moments do not have the shapes of the mean")

    def _n_parameters(self) -> int:
        d, q = len(self.mean_), self.n_components_
        n_variances = min(q + 1, d)
        if self._fitted("covariance_type") == "spherical":
            return d + 1
        if self._fitted("covariance_type") == "diag":
            return d + n_variances
        # A basis of q orthogonal axes has d - 1, d - 2, ... free parameters.
        return d + n_variances + q * (2 * d - q - 1) // 2

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    @property
    def _n_tasks(self) -> int:
        return 0  # one piece to callbacks
