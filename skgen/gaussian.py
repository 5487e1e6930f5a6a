"""One Gaussian: whitening as encoder, colouring as generator, exact density.

``z ~ N(0, I)``, ``x = m + W z + e``, ``e ~ N(0, s2 I)``. With as many latent
coordinates as features, ``W = E L^(1/2)`` from the eigenvectors and eigenvalues of
the covariance and ``s2 = 0``; with fewer it is probabilistic PCA.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import scipy.linalg
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from skgen.base import (
    FitCallbacks,
    GenerativeModel,
    InformationCriteria,
    whole_or_as_before,
)
from skgen.parameters import Rules, integer, none, options, real
from skgen.rows import CentredRows, chunk_rows
from skgen.tensors import LOG_2PI, to_array

ILL_DEFINED = (
    "Fitting the model failed because the data have an ill-defined empirical "
    "covariance (for instance a constant or repeated column, or fewer rows than "
    "features) and reg_covar=0. Increase reg_covar, or remove such columns."
)


class Moments(NamedTuple):
    """Total weight, mean and scatter of rows, centred so that nothing cancels."""

    weight: Tensor  # ()
    mean: Tensor  # (d,)
    scatter: Tensor  # (d, d), or (d,) where only the diagonal is kept

    @classmethod
    def of(cls, x: Tensor, weight: Tensor | None, *, full: bool) -> Moments:
        """Sum over rows (n, d) with weights (n,), in chunks, in the wide dtype."""
        rows = CentredRows.of(x, weight)
        size = chunk_rows(x.device, x.shape[1])
        total = rows.weight.sum()
        mean = rows.centre + sum(w @ c for c, w in rows.chunks(size)) / total
        rows = rows._replace(centre=mean)
        scatter = sum(
            (_scatter(c, w, full) for c, w in rows.chunks(size)),
            start=torch.zeros_like(total),
        )
        return cls(total, mean, scatter)

    @classmethod
    def of_parts(cls, parts: Iterable[tuple[Tensor, Tensor | None]]) -> Moments:
        """Sum over rows and weights that come in parts; the diagonal is kept."""
        return reduce(cls.merge, (cls.of(*part, full=False) for part in parts))

    def merge(self, other: Moments) -> Moments:
        """Moments of the rows of both (Chan, Golub & LeVeque 1983)."""
        total = self.weight + other.weight
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.weight / total)
        between = _scatter(
            shift[None], (self.weight * other.weight / total)[None], self.is_full
        )
        return Moments(total, mean, self.scatter + other.scatter + between)

    @property
    def is_full(self) -> bool:
        """Whether the scatter is a matrix."""
        return self.scatter.ndim == 2

    @property
    def covariance(self) -> Tensor:
        """Maximum likelihood covariance: the scatter over the weight."""
        return self.scatter / self.weight


def _scatter(centred: Tensor, weight: Tensor, full: bool) -> Tensor:
    """Sum over rows of w c c^T, (d, d), or its diagonal, (d,)."""
    return centred.T @ (weight[:, None] * centred) if full else weight @ centred**2


class PrincipalAxes(NamedTuple):
    """N(m, E (L - s2 I) E^T + s2 I) in its eigenbasis."""

    mean: Tensor  # (d,)
    components: Tensor  # E^T: (q, d), orthonormal rows
    variances: Tensor  # L: (q,), decreasing, not below the noise
    noise_variance: Tensor  # s2: (), zero when q = d

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
        """Log-density (n,): the axes, and an isotropic rest around them."""
        (q, d), centred = self.components.shape, x - self.mean
        scores = centred @ self.components.T
        squared = (scores**2 / self.variances).sum(1)
        log_det = self.variances.log().sum()
        if q < d:
            # The rest as a vector: ||x||^2 - ||scores||^2 would cancel.
            rest = centred - scores @ self.components
            squared = squared + (rest**2).sum(1) / self.noise_variance
            log_det = log_det + (d - q) * self.noise_variance.log()
        return -0.5 * (d * LOG_2PI + log_det + squared)

    def draw(self, n: int, noise: bool, generator: torch.Generator) -> Tensor:
        """Draw (n, d) rows m + W z + e."""
        (q, d), like = self.components.shape, self.mean
        x = self.decode(_randn(n, q, like, generator))
        if noise and q < d:
            x = x + self.noise_variance.sqrt() * _randn(n, d, like, generator)
        return x

    @property
    def covariance(self) -> Tensor:
        """The model's covariance (d, d)."""
        d = len(self.mean)
        W = self.components.T * self.loadings
        return W @ W.T + self.noise_variance * torch.eye(d).to(W)


class Independent(NamedTuple):
    """N(m, diag(s^2)): a standard score a feature."""

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
        return -0.5 * (d * LOG_2PI + log_det + (self.encode(x) ** 2).sum(1))

    def draw(self, n: int, noise: bool, generator: torch.Generator) -> Tensor:
        """Draw (n, d) rows; all noise is latent here."""
        return self.decode(_randn(n, len(self.mean), self.mean, generator))


def _randn(n: int, k: int, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(n, k, generator=generator, device=like.device, dtype=like.dtype)


def principal_axes(
    mean: Tensor, covariance: Tensor, n_components: int, reg_covar: float
) -> PrincipalAxes:
    """Eigenvectors of S + reg I; the eigenvalues that are left out become s2.

    This is the maximum of probabilistic PCA's likelihood (Tipping & Bishop 1999).
    """
    # eigh has no MPS kernel; a covariance is small enough for the host.
    eigenvalues, vectors = torch.linalg.eigh(covariance.cpu())
    eigenvalues, components = eigenvalues.flip(0), vectors.flip(1).T  # decreasing
    floor = eigenvalues[0] * len(mean) * torch.finfo(mean.dtype).eps
    rank = int((eigenvalues > floor).sum())
    variances = eigenvalues.clamp(min=0) + reg_covar
    noise = variances[n_components:].mean().nan_to_num()  # 0 if none is left out
    smallest = noise if n_components < len(mean) else variances[-1]
    if reg_covar == 0 and smallest <= floor:
        raise ValueError(ILL_DEFINED)
    # An eigenvector has no sign of its own: make its largest entry positive.
    largest = components.abs().argmax(1, keepdim=True)
    components = components * components.gather(1, largest).sign()
    components[rank:] = _complement(components[:rank])
    kept = slice(n_components)
    parts = (components[kept], variances[kept], noise)
    return PrincipalAxes(mean, *(part.to(mean) for part in parts))


def _complement(rows: Tensor) -> Tensor:
    """Return an orthonormal basis of what is orthogonal to orthonormal rows.

    An eigenspace has no basis of its own; this one depends on the space alone: the
    projections of as many unit vectors, chosen by pivoting, in their order.
    """
    r, d = rows.shape
    projector = (torch.eye(d).to(rows) - rows.T @ rows).numpy()
    *_, pivots = scipy.linalg.qr(projector, pivoting=True)
    basis, _ = scipy.linalg.qr(projector[:, np.sort(pivots[: d - r])], mode="economic")
    return torch.from_numpy(basis.T.copy())


class GaussianDensity(InformationCriteria, GenerativeModel):
    """A Gaussian density whose encoder whitens and whose decoder colours.

    Maximum likelihood in closed form. With ``n_components`` below the number of
    features it is probabilistic PCA. The score is exact.

    Parameters
    ----------
    n_components : int, default=None
        Number of latent coordinates. ``None`` keeps all features, and the round
        trip through the latent code is exact. Fewer than features is probabilistic
        PCA of the covariance: along its principal axes when it is full, along the
        features of largest variance when it is diagonal; a spherical one has
        nothing to explain, and its code is zero.
    covariance_type : {"full", "diag", "spherical"}, default="full"
        A full covariance, one variance a feature, or one variance for all.
    reg_covar : float, default=1e-6
        Added to the variances, in squared units of the data. 0 is the exact maximum
        likelihood, which exists for data of full rank only.
    device : str, default="cpu"
        "cpu", "cuda", "cuda:<index>", "mps" or "auto".

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Mean of the rows.
    covariance_ : ndarray of shape (n_features, n_features) or (n_features,)
        Covariance of the density; the variances alone where it is diagonal and no
        latent coordinate is left out.
    components_ : ndarray of shape (n_components, n_features)
        Principal axes, by decreasing variance, where ``covariance_`` is a matrix.
    explained_variance_ : ndarray of shape (n_components,)
        Variance along each axis, likewise.
    noise_variance_ : float
        Variance off the axes: the mean of the eigenvalues left out, 0 if none is.
    n_components_ : int
        Number of latent coordinates.
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

    _parameters: ClassVar[Rules] = {
        **GenerativeModel._parameters,
        "n_components": (integer(1), none),
        "covariance_type": options("full", "diag", "spherical"),
        "reg_covar": real(0),
    }
    _fixed = ("covariance_type",)

    _moments: tuple[Tensor, ...]  # weight, mean and scatter of the rows so far

    def __init__(
        self,
        n_components: int | None = None,
        *,
        covariance_type: str = "full",
        reg_covar: float = 1e-6,
        device: str = "cpu",
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.reg_covar = reg_covar
        self.device = device

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
        with whole_or_as_before(self):
            self._merge_rows(X, sample_weight)
        return self

    def _merge_rows(self, X: Any, sample_weight: Any) -> None:
        """Merge the moments of further rows with those of the rows seen before."""
        first = not hasattr(self, "_moments")
        if not first:
            self._check_unchanged("partial_fit")
        _, x, weight = self._prepare(X, sample_weight, reset=first)
        moments = Moments.of(x, weight, full=self.covariance_type == "full")
        if not first:
            seen = Moments(*(part.to(moments.mean) for part in self._moments))
            moments = seen.merge(moments)
        self._set_moments(moments)

    def _fit(
        self,
        x: Tensor,
        weight: Tensor | None,
        rng: np.random.RandomState,
        callbacks: FitCallbacks,
    ) -> None:
        self._set_moments(Moments.of(x, weight, full=self.covariance_type == "full"))

    def _set_file_state(self, state: dict[str, Any]) -> None:
        super()._set_file_state(state)
        d = len(self.mean_)
        scatter = (d, d) if self._fitted("covariance_type") == "full" else (d,)
        if [part.shape for part in self._moments] != [(), (d,), scatter]:
            raise ValueError("the moments do not have the shapes of the mean")

    def _set_moments(self, moments: Moments) -> None:
        """Set the fitted attributes, in the dtype of the data."""
        mean, covariance = moments.mean, moments.covariance
        self.n_components_ = self._check_n_components(len(mean))
        self.n_samples_seen_ = float(moments.weight)
        self._moments = tuple(part.cpu() for part in moments)
        self.mean_ = self._as_fitted(mean)
        if self.covariance_type == "spherical":
            covariance = covariance.mean().expand_as(mean)
        if self._has_axes:
            matrix = covariance if covariance.ndim == 2 else covariance.diag()
            axes = principal_axes(mean, matrix, self.n_components_, self.reg_covar)
            self.components_ = self._as_fitted(axes.components)
            self.explained_variance_ = self._as_fitted(axes.variances)
            self.noise_variance_ = float(axes.noise_variance)
            self.covariance_ = self._as_fitted(axes.covariance)
            return
        variance = covariance + self.reg_covar
        if not (variance > 0).all():
            raise ValueError(ILL_DEFINED)
        self.covariance_ = self._as_fitted(variance)

    @property
    def _has_axes(self) -> bool:
        """Whether the density is kept in an eigenbasis, not feature by feature."""
        is_full = self._fitted("covariance_type") == "full"
        return is_full or self.n_components_ < len(self.mean_)

    def _check_n_components(self, d: int) -> int:
        q = d if self.n_components is None else self.n_components
        if q > d:
            raise ValueError(
                f"n_components={q} must be between 1 and n_features={d} for "
                "GaussianDensity. Lower it, or use n_components=None for all."
            )
        return q

    def _as_fitted(self, t: Tensor) -> Any:
        return to_array(t).astype(self._dtype)

    def _model(self, dtype: torch.dtype) -> PrincipalAxes | Independent:
        def tensor(value: Any) -> Tensor:
            # A copy: a memory-mapped pickle has arrays that are read-only.
            return torch.tensor(value, dtype=dtype, device=self.device_)

        mean = tensor(self.mean_)
        if not self._has_axes:
            return Independent(mean, tensor(self.covariance_).sqrt())
        parts = (self.components_, self.explained_variance_, self.noise_variance_)
        return PrincipalAxes(mean, *(tensor(part) for part in parts))

    @property
    def _code_variances(self) -> NDArray[Any]:
        if not self._has_axes:
            return np.ones_like(self.mean_)
        return 1 - self.noise_variance_ / self.explained_variance_

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
