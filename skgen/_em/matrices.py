"""The interface of a covariance type, and covariance matrices.

K components, n rows, d features. A covariance is known by its root ``P``, the
Cholesky factor of its inverse: ``S^-1 = P P^T``, upper triangular where it is a
matrix. What distances and moments both need of the rows of a chunk is computed once,
by ``project``.

Each type has several forms of the same mathematics. The direct form subtracts the
mean of each component from the rows: nothing cancels, however far apart the
components lie. Faster forms are matrix products about one centre, which lose digits
where a component is narrow for its distance to that centre; ``loss`` estimates how
many nats that costs.

Parameters, responsibilities and moments may have a leading dimension: a stack of C
mixtures of one size, which see the same rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
from torch import Tensor

from skgen._utils.chunks import chunk_rows

ILL_DEFINED = (
    "Fitting the mixture model failed because some components have ill-defined "
    "empirical covariance (for instance caused by singleton or collapsed samples). "
    "Try to decrease the number of components, increase reg_covar, or scale the "
    "input data."
)


class Covariance(ABC):
    """One covariance type, in one form."""

    #: Whether rows and means are to be given minus a common centre.
    is_centred: ClassVar[bool] = True
    #: Whether moments are about the means that rows were projected with.
    is_about_means: ClassVar[bool] = False
    #: Rows that a chunk needs at least for this form to be fast.
    least_rows: ClassVar[int] = 1

    @property
    def forms(self) -> tuple[Covariance, ...]:
        """Return the forms of this type, the fastest first, the direct one last."""
        return (self,)

    @property
    def score_forms(self) -> tuple[Covariance, ...]:
        """Return the forms in which rows are scored, likewise."""
        return self.forms

    @abstractmethod
    def shape(self, K: int, d: int) -> tuple[int, ...]:
        """Shape of covariances, precisions and roots."""

    @abstractmethod
    def n_parameters(self, K: int, d: int) -> int:
        """Free parameters of the covariances."""

    @abstractmethod
    def row_elements(self, K: int, d: int, C: int = 1) -> int:
        """Numbers that the projection of one row holds, for C mixtures."""

    @abstractmethod
    def projection(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function of rows (n, d) that gives y, as the rest takes it."""

    def project(self, x: Tensor, means: Tensor, roots: Tensor) -> Tensor:
        """Project rows (n, d)."""
        return self.projection(means, roots)(x)

    @abstractmethod
    def metric(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function of y that gives squared Mahalanobis distances (K, n)."""

    def row_log_masses(
        self, means: Tensor, roots: Tensor, constant: Tensor
    ) -> Callable[[Tensor], Tensor]:
        """Return the constants (K, 1) less half the squared distances, (K, n).

        A function of rows (n, d), which it may overwrite; y is not kept.
        """
        project, metric = self.projection(means, roots), self.metric(means, roots)
        return lambda x: half_less(constant, metric(project(x)))

    def score_elements(self, K: int, d: int) -> int:
        """Numbers that this function holds for a row."""
        return self.row_elements(K, d)

    def distances(self, y: Tensor, means: Tensor, roots: Tensor) -> Tensor:
        """Squared Mahalanobis distances (K, n)."""
        return self.metric(means, roots)(y)

    @abstractmethod
    def moments(self, y: Tensor, resp: Tensor, d: int) -> tuple[Tensor, Tensor]:
        """First (K, d) and second moments, weighted by responsibilities (K, n)."""

    @abstractmethod
    def maximise(
        self, nk: Tensor, first: Tensor, second: Tensor, means: Tensor, roots: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means (K, d) and covariances of largest expected likelihood.

        ``means`` and ``roots`` are those that rows were projected with.
        """

    @abstractmethod
    def loss(self, means: Tensor, covariances: Tensor, roots: Tensor) -> Tensor:
        """Return the nats that this form costs a log-density by rounding, ()."""

    # What matrices and variances do each in their way.

    @abstractmethod
    def identity(self, means: Tensor) -> Tensor:
        """Roots of unit covariances."""

    @abstractmethod
    def add(self, covariances: Tensor, reg_covar: float | Tensor) -> Tensor:
        """Covariances with more on their diagonals."""

    @abstractmethod
    def ridge(self, variances: Tensor) -> Tensor:
        """Return what ``add`` takes for more variance of each feature (d,)."""

    @abstractmethod
    def roots(self, covariances: Tensor) -> Tensor:
        """Roots of covariances; a ValueError where one is not positive."""

    @abstractmethod
    def roots_of_precisions(self, precisions: Tensor) -> Tensor:
        """Roots of precisions."""

    @abstractmethod
    def check_precisions(self, precisions: Tensor, name: str) -> None:
        """Raise a ValueError where a precision is not positive."""

    @abstractmethod
    def precisions(self, roots: Tensor) -> Tensor:
        """Precisions of roots."""

    @abstractmethod
    def covariances(self, roots: Tensor) -> Tensor:
        """Covariances of roots."""

    @abstractmethod
    def variances(self, covariances: Tensor) -> Tensor:
        """Variances of the features, which broadcast against means (K, d)."""

    @abstractmethod
    def excess(self, covariances: Tensor, roots: Tensor) -> Tensor:
        """P^T S P less its value for the covariances S of the roots: relative error."""

    def average(self, parts: Iterable[tuple[Tensor, Tensor]], total: Tensor) -> Tensor:
        """Sum masses (K,) times covariances, and divide by total masses (K,)."""
        shares = ((of_each(mass / total, each) * each) for mass, each in parts)
        return sum(shares, start=total.new_zeros(()))

    @abstractmethod
    def log_det(self, roots: Tensor, d: int) -> Tensor:
        """Log-determinants of the roots: (K,), or (1,) where all share one."""

    @abstractmethod
    def per(self, counts: Tensor) -> Tensor:
        """Sum counts (K,) of the components of each covariance, to multiply it by."""

    def shrunk(
        self, covariances: Tensor, per: Tensor, rows: float, scatter: Tensor
    ) -> Tensor:
        """Mean of covariances, of weight ``per``, and of rows with such a scatter."""
        return (covariances * per + scatter) / (per + rows)

    def penalties(
        self, roots: Tensor, means: Tensor, scatter: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum log |S| over components, and the trace of scatter and S^-1."""
        log_det = -2 * self.log_det(roots, means.shape[-1]).sum()
        return log_det, (self.precisions(roots) * scatter).sum()

    @abstractmethod
    def at_columns(self, covariances: Tensor, K: int, columns: Tensor) -> Tensor:
        """Return the matrices (K, c, c) of some columns (c,)."""

    @abstractmethod
    def colour(self, noise: Tensor, k: Tensor, roots: Tensor) -> Tensor:
        """Turn standard normal rows (n, d) into noise of the components k (n,)."""


class Matrix(Covariance):
    """Covariances (..., d, d)."""

    def identity(self, means: Tensor) -> Tensor:
        return eye(means).expand(self.shape(*means.shape))

    def add(self, covariances: Tensor, reg_covar: float | Tensor) -> Tensor:
        return covariances + reg_covar * eye(covariances)

    def ridge(self, variances: Tensor) -> Tensor:
        return variances[:, None]

    def roots(self, covariances: Tensor) -> Tensor:
        lower, info = torch.linalg.cholesky_ex(covariances)
        if info.any():
            raise ValueError(ILL_DEFINED)
        return inverse(lower.mT, upper=True)

    def roots_of_precisions(self, precisions: Tensor) -> Tensor:
        # Upper times its transpose is lower times its transpose, read backwards.
        found: Tensor = torch.linalg.cholesky(precisions.flip(-1, -2)).flip(-1, -2)
        return found

    def check_precisions(self, precisions: Tensor, name: str) -> None:
        symmetric = torch.isclose(precisions, precisions.mT).all()
        if not (symmetric and (torch.linalg.eigvalsh(precisions) > 0).all()):
            raise ValueError(
                f"'{name} precision' should be symmetric, positive-definite"
            )

    def precisions(self, roots: Tensor) -> Tensor:
        return roots @ roots.mT

    def covariances(self, roots: Tensor) -> Tensor:
        back = inverse(roots, upper=True)
        return back.mT @ back

    def variances(self, covariances: Tensor) -> Tensor:
        return covariances.diagonal(dim1=-2, dim2=-1)

    def excess(self, covariances: Tensor, roots: Tensor) -> Tensor:
        return roots.mT @ covariances @ roots - eye(roots)

    def outer(self, shift: Tensor) -> Tensor:
        """Products of shifts (K, d) with themselves, shaped as covariances of K."""
        return shift[..., :, None] * shift[..., None, :]

    def log_det(self, roots: Tensor, d: int) -> Tensor:
        return roots.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def per(self, counts: Tensor) -> Tensor:
        return counts[..., None, None]

    def at_columns(self, covariances: Tensor, K: int, columns: Tensor) -> Tensor:
        d = covariances.shape[-1]
        return covariances.expand(K, d, d)[:, columns][:, :, columns]


def of_each(mass: Tensor, covariances: Tensor) -> Tensor:
    """See masses (K,) as numbers that multiply covariances (K, ...)."""
    return mass.view(-1, *[1] * (covariances.ndim - 1))


def inverse(triangular: Tensor, *, upper: bool) -> Tensor:
    """Invert triangular matrices."""
    found: Tensor = torch.linalg.solve_triangular(
        triangular, eye(triangular), upper=upper
    )
    return found


def eye(like: Tensor) -> Tensor:
    """Make a unit matrix of a tensor's last dimension, dtype and device."""
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


class Direct(Covariance):
    """The direct form: y_k = P_k^T (x - m_k), (K, d, n)."""

    is_centred = False
    is_about_means = True

    @abstractmethod
    def scale(self, difference: Tensor, roots: Tensor) -> Tensor:
        """Whiten differences (K, d, n) to the means; they may be overwritten."""

    def component(self, roots: Tensor, k: int) -> Tensor:
        """Return the roots of one component, as of a mixture of one."""
        return roots[k : k + 1]

    def row_elements(self, K: int, d: int, C: int = 1) -> int:
        return C * K * d

    def score_elements(self, K: int, d: int) -> int:
        return K + 2 * d

    def loss(self, means: Tensor, covariances: Tensor, roots: Tensor) -> Tensor:
        return means.new_zeros(means.shape[:-2])

    def projection(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda x: self.scale(x.T - means[..., None], roots)

    def metric(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda y: (y * y).sum(-2)

    def row_log_masses(
        self, means: Tensor, roots: Tensor, constant: Tensor
    ) -> Callable[[Tensor], Tensor]:
        # One component after the other, which takes the memory of one.
        each = [
            self.projection(means[k : k + 1], self.component(roots, k))
            for k in range(len(means))
        ]

        def at(x: Tensor) -> Tensor:
            squares = [project(x).square_().sum(-2) for project in each]
            return half_less(constant, torch.cat(squares))

        return at


def half_less(constant: Tensor, squares: Tensor) -> Tensor:
    """Turn squared distances (K, n) into constants (K, 1) less half of them."""
    return torch.add(constant, squares, alpha=-0.5, out=squares)


def nearest_of(
    means: Tensor, centre: Tensor, otherwise: int = 0
) -> Callable[[Tensor], Tensor]:
    """Return the function of rows (n, d): the nearest (n,) of means (K, d).

    Rows may have another dtype. Distances are expanded about a centre, in one product;
    for rows where rounding leaves a doubt they are summed directly, and for those with
    missing cells over the cells that are there: ``otherwise`` is what is nearest to
    rows of which nothing is.
    """
    K, d = means.shape
    seen, rounding = means - centre, (d + 8) * torch.finfo(means.dtype).eps
    constant = (seen**2).sum(1)[:, None]
    reach = constant.max().sqrt()
    # A sum of these over the means within rounding of the least says if there is one
    # alone, and which.
    codes = torch.arange(K, 2 * K).to(means)

    def nearest(x: Tensor) -> Tensor:
        if not len(x):
            return torch.zeros(0, dtype=torch.long, device=x.device)
        y = x.to(means.dtype) - centre
        # Less the squares of the row, which all share.
        distances = torch.addmm(constant, seen, y.T, alpha=-2)
        low, high = torch.aminmax(y)
        if low.isnan():
            return _by_completeness(x, nearest, nearest_by_cells)
        farthest = reach + d**0.5 * torch.maximum(-low, high)
        bound = distances.amin(0).add_(rounding * reach * farthest)
        code = codes @ distances.le_(bound)
        k = code.long() - K
        doubtful = k >= K
        if doubtful.any():
            k[doubtful] = _nearest_directly(x[doubtful], means)
        return k

    def nearest_by_cells(x: Tensor) -> Tensor:
        k = square_distances_of_cells(means, x).argmin(0)
        return torch.where(x.isnan().all(1), otherwise, k)

    return nearest


def _by_completeness(
    x: Tensor,
    complete: Callable[[Tensor], Tensor],
    incomplete: Callable[[Tensor], Tensor],
) -> Tensor:
    """Map functions of rows (n, d) to labels (n,) over rows without and with holes."""
    has_holes = x.isnan().any(1)
    labels = has_holes.long()
    for rows, function in ((has_holes, incomplete), (~has_holes, complete)):
        if rows.any():
            labels[rows] = function(x[rows])
    return labels


def square_distances_of_cells(means: Tensor, x: Tensor) -> Tensor:
    """Squared distances (K, n) of means (K, d) to rows, over the cells that are there.

    They are summed directly, for nothing to cancel.
    """
    size = chunk_rows(x.device, means.numel())
    return torch.cat(
        [
            (part.T - means[..., None]).nan_to_num_(nan=0.0).square_().sum(1)
            for part in x.to(means.dtype).split(size)
        ],
        dim=1,
    )


def _nearest_directly(x: Tensor, means: Tensor) -> Tensor:
    """Return the nearest (n,) of means (K, d), by sums of squared differences."""
    mode = "donot_use_mm_for_euclid_dist"
    size = chunk_rows(x.device, sum(means.shape))
    return torch.cat(
        [
            torch.cdist(part.to(means.dtype), means, compute_mode=mode).argmin(1)
            for part in x.split(size)
        ]
    )


def squared_distances(means: Tensor, x: Tensor) -> Tensor:
    """Squared distances (K, n) of means (K, d) to rows (n, d)."""
    constant = (means**2).sum(-1)[..., None] + (x * x).sum(-1)[..., None, :]
    product = torch.addmm if means.ndim == 2 else torch.baddbmm
    return product(constant, means, x.mT, alpha=-2).clamp_(min=0)
