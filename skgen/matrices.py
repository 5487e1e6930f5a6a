"""What a covariance type of a mixture decides; covariance matrices, by whitening.

K components, n rows, d features. A covariance is known by its root ``P``, the
Cholesky factor of its inverse: ``S^-1 = P P^T``, upper triangular where it is a
matrix. Rows and means are seen from one centre. What the rows of a chunk give to
distances and to moments alike is made once, by ``project``.

Parameters, responsibilities and moments may have a dimension more, before those that
are named: C mixtures of one size, which see the same rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from skgen.rows import CentredRows, chunk_rows

ILL_DEFINED = (
    "Fitting the mixture model failed because some components have ill-defined "
    "empirical covariance (for instance caused by singleton or collapsed samples). "
    "Try to decrease the number of components, increase reg_covar, or scale the "
    "input data."
)


class Covariance(ABC):
    """One covariance type."""

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

    def spread(self, rows: CentredRows, means: Tensor) -> Tensor | None:
        """Return the covariances that go with means that are rows, where not zero."""
        return None

    @property
    def expanded(self) -> Covariance | None:
        """The same type in a form that is faster and may lose digits, if any."""
        return None

    def loss(self, means: Tensor, covariances: Tensor, roots: Tensor) -> Tensor:
        """Nats that a log-density loses by this form, beyond what any form does: ()."""
        return means.new_zeros(means.shape[:-2])

    # What matrices and variances do each in their way.

    @abstractmethod
    def identity(self, means: Tensor) -> Tensor:
        """Roots of unit covariances."""

    @abstractmethod
    def add(self, covariances: Tensor, reg_covar: float | Tensor) -> Tensor:
        """Covariances with more on their diagonals."""

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
    def log_det(self, roots: Tensor, d: int) -> Tensor:
        """Log-determinants of the roots: (K,), or (1,) where all share one."""

    @abstractmethod
    def colour(self, noise: Tensor, k: Tensor, roots: Tensor) -> Tensor:
        """Turn standard normal rows (n, d) into noise of the components k (n,)."""


class Matrix(Covariance):
    """Covariances (..., d, d)."""

    def identity(self, means: Tensor) -> Tensor:
        return eye(means).expand(self.shape(*means.shape))

    def add(self, covariances: Tensor, reg_covar: float | Tensor) -> Tensor:
        return covariances + reg_covar * eye(covariances)

    def roots(self, covariances: Tensor) -> Tensor:
        lower, info = torch.linalg.cholesky_ex(covariances)
        if info.any():
            raise ValueError(ILL_DEFINED)
        return inverse(lower.mT, upper=True)

    def roots_of_precisions(self, precisions: Tensor) -> Tensor:
        # Upper times its transpose is lower times its transpose, read backwards.
        return torch.linalg.cholesky(precisions.flip(-1, -2)).flip(-1, -2)

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

    def log_det(self, roots: Tensor, d: int) -> Tensor:
        return roots.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def inverse(triangular: Tensor, *, upper: bool) -> Tensor:
    """Invert triangular matrices."""
    return torch.linalg.solve_triangular(triangular, eye(triangular), upper=upper)


def eye(like: Tensor) -> Tensor:
    """Make a unit matrix of a tensor's last dimension, dtype and device."""
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


class Whitened(Matrix):
    """A matrix a component. Rows are whitened: y_k = P_k^T (x - m_k), (K, d, n).

    Whatever the scale of a component and wherever it lies, nothing cancels: its
    distances and its moments are taken about its own mean.
    """

    def shape(self, K: int, d: int) -> tuple[int, ...]:
        return (K, d, d)

    def n_parameters(self, K: int, d: int) -> int:
        return K * d * (d + 1) // 2

    def row_elements(self, K: int, d: int, C: int = 1) -> int:
        return C * K * d

    def projection(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        # One product for all components, features first: the shape that is fastest.
        stacked = roots.mT.flatten(0, -2)
        centres = (roots.mT @ means[..., None]).view(-1, 1)

        def at(x: Tensor) -> Tensor:
            y = torch.addmm(centres, stacked, x.T, beta=-1)
            return y.view(*means.shape, len(x))

        return at

    def metric(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda y: (y * y).sum(-2)

    def row_log_masses(
        self, means: Tensor, roots: Tensor, constant: Tensor
    ) -> Callable[[Tensor], Tensor]:
        project = self.projection(means, roots)
        return lambda x: half_less(constant, project(x).square_().sum(-2))

    def moments(self, y: Tensor, resp: Tensor, d: int) -> tuple[Tensor, Tensor]:
        z = y * resp[..., None, :]
        return z.sum(-1), z @ y.mT

    def maximise(
        self, nk: Tensor, first: Tensor, second: Tensor, means: Tensor, roots: Tensor
    ) -> tuple[Tensor, Tensor]:
        shift = (first / nk[..., None])[..., None, :]  # (K, 1, d), still white
        white = second / nk[..., None, None] - shift.mT @ shift
        back = inverse(roots, upper=True)
        return means + (shift @ back).squeeze(-2), back.mT @ white @ back

    def colour(self, noise: Tensor, k: Tensor, roots: Tensor) -> Tensor:
        coloured = torch.empty_like(noise)
        for i, back in enumerate(inverse(roots, upper=True)):
            coloured[k == i] = noise[k == i] @ back
        return coloured


class Tied(Matrix):
    """One matrix for all components. Rows are whitened: y = x P, (n, d)."""

    def shape(self, K: int, d: int) -> tuple[int, ...]:
        return (d, d)

    def n_parameters(self, K: int, d: int) -> int:
        return d * (d + 1) // 2

    def row_elements(self, K: int, d: int, C: int = 1) -> int:
        return C * (K + d)

    def projection(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda x: x @ roots

    def metric(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        white = means @ roots
        return lambda y: squared_distances(white, y)

    def moments(self, y: Tensor, resp: Tensor, d: int) -> tuple[Tensor, Tensor]:
        return resp @ y, (y * resp.sum(-2)[..., None]).mT @ y

    def maximise(
        self, nk: Tensor, first: Tensor, second: Tensor, means: Tensor, roots: Tensor
    ) -> tuple[Tensor, Tensor]:
        white_means = first / nk[..., None]
        between = white_means.mT @ (nk[..., None] * white_means)
        white = (second - between) / nk.sum(-1)[..., None, None]
        back = inverse(roots, upper=True)
        return white_means @ back, back.mT @ white @ back

    def log_det(self, roots: Tensor, d: int) -> Tensor:
        return super().log_det(roots, d)[..., None]

    def colour(self, noise: Tensor, k: Tensor, roots: Tensor) -> Tensor:
        return noise @ inverse(roots, upper=True)

    def spread(self, rows: CentredRows, means: Tensor) -> Tensor | None:
        # scikit-learn takes the second moment of all rows about the origin, whatever
        # the responsibilities; the same seed is to give the same start.
        K, d = means.shape
        origin = rows._replace(centre=torch.zeros_like(rows.centre))
        chunks = origin.chunks(chunk_rows(means.device, d))
        second = sum((x * w[:, None]).T @ x for x, w in chunks)
        means = means + rows.centre
        return (second - means.T @ means) / K


def half_less(constant: Tensor, squares: Tensor) -> Tensor:
    """Turn squared distances (K, n) into constants (K, 1) less half of them."""
    return torch.add(constant, squares, alpha=-0.5, out=squares)


def nearest_of(means: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function of rows (n, d): the nearest (n,) of means (K, d)."""
    constant = (means**2).sum(1)[:, None]
    backwards = torch.arange(len(means), 0, -1).to(means)[:, None]

    def nearest(x: Tensor) -> Tensor:
        # Less the squares of the row, which all share.
        distances = torch.addmm(constant, means, x.T, alpha=-2)
        # The first of the least: min's own index takes a branch a number.
        is_least = distances.eq_(distances.amin(0))
        return len(means) - is_least.mul_(backwards).amax(0).long()

    return nearest


def squared_distances(means: Tensor, x: Tensor) -> Tensor:
    """Squared distances (K, n) of means (K, d) to rows (n, d)."""
    constant = (means**2).sum(-1)[..., None] + (x * x).sum(-1)[..., None, :]
    product = torch.addmm if means.ndim == 2 else torch.baddbmm
    return product(constant, means, x.mT, alpha=-2).clamp_(min=0)
