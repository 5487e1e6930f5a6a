"""Covariance types of a mixture: all that a type decides, one class a type.

K components, n rows, d features. A covariance is known by its root ``P``, the
Cholesky factor of its inverse: ``S^-1 = P P^T``, upper triangular where it is a
matrix. Rows and means are seen from one centre. What the rows of a chunk give to
distances and to moments alike is made once, by ``project``.
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
    def row_elements(self, K: int, d: int) -> int:
        """Numbers that the projection of one row holds."""

    @abstractmethod
    def project(self, x: Tensor, means: Tensor, roots: Tensor) -> Tensor:
        """Project rows (n, d) to what the methods below take them as."""

    @abstractmethod
    def metric(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function of y that gives squared Mahalanobis distances (K, n)."""

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
    def expanded(self) -> ExpandedFull | None:
        """The same type in a form that is faster and may lose digits, if any."""
        return None

    # What matrices and variances do each in their way.

    @abstractmethod
    def identity(self, means: Tensor) -> Tensor:
        """Roots of unit covariances."""

    @abstractmethod
    def add(self, covariances: Tensor, reg_covar: float) -> Tensor:
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
        """Log-determinants of the roots: (K,), or () where all share one."""

    @abstractmethod
    def colour(self, noise: Tensor, k: Tensor, roots: Tensor) -> Tensor:
        """Turn standard normal rows (n, d) into noise of the components k (n,)."""


class _Matrix(Covariance):
    """Covariances (..., d, d)."""

    def identity(self, means: Tensor) -> Tensor:
        return _eye(means).expand(self.shape(*means.shape))

    def add(self, covariances: Tensor, reg_covar: float) -> Tensor:
        return covariances + reg_covar * _eye(covariances)

    def roots(self, covariances: Tensor) -> Tensor:
        lower, info = torch.linalg.cholesky_ex(covariances)
        if info.any():
            raise ValueError(ILL_DEFINED)
        return _inverse(lower.mT, upper=True)

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
        inverse = _inverse(roots, upper=True)
        return inverse.mT @ inverse

    def log_det(self, roots: Tensor, d: int) -> Tensor:
        return roots.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _inverse(triangular: Tensor, *, upper: bool) -> Tensor:
    return torch.linalg.solve_triangular(triangular, _eye(triangular), upper=upper)


def _eye(like: Tensor) -> Tensor:
    """Make a unit matrix of a tensor's last dimension, dtype and device."""
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


class Full(_Matrix):
    """A matrix a component. Rows are whitened: y_k = P_k^T (x - m_k), (K, d, n).

    Whatever the scale of a component and wherever it lies, nothing cancels: its
    distances and its moments are taken about its own mean.
    """

    def shape(self, K: int, d: int) -> tuple[int, ...]:
        return (K, d, d)

    def n_parameters(self, K: int, d: int) -> int:
        return K * d * (d + 1) // 2

    def row_elements(self, K: int, d: int) -> int:
        return K * d

    def project(self, x: Tensor, means: Tensor, roots: Tensor) -> Tensor:
        # One product for all components, features first: the shape that is fastest.
        (K, d), stacked = means.shape, roots.mT.flatten(0, 1)
        centres = (roots.mT @ means[:, :, None]).view(K * d, 1)
        return torch.addmm(centres, stacked, x.T, beta=-1).view(K, d, len(x))

    def metric(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda y: (y * y).sum(1)

    def moments(self, y: Tensor, resp: Tensor, d: int) -> tuple[Tensor, Tensor]:
        z = y * resp[:, None]
        return z.sum(2), z @ y.mT

    def maximise(
        self, nk: Tensor, first: Tensor, second: Tensor, means: Tensor, roots: Tensor
    ) -> tuple[Tensor, Tensor]:
        shift = (first / nk[:, None])[:, None]  # (K, 1, d), still white
        white = second / nk[:, None, None] - shift.mT @ shift
        back = _inverse(roots, upper=True)
        return means + (shift @ back).squeeze(1), back.mT @ white @ back

    def colour(self, noise: Tensor, k: Tensor, roots: Tensor) -> Tensor:
        coloured = torch.empty_like(noise)
        for i, back in enumerate(_inverse(roots, upper=True)):
            coloured[k == i] = noise[k == i] @ back
        return coloured

    @property
    def expanded(self) -> ExpandedFull:
        return ExpandedFull()


class Tied(_Matrix):
    """One matrix for all components. Rows are whitened: y = x P, (n, d)."""

    def shape(self, K: int, d: int) -> tuple[int, ...]:
        return (d, d)

    def n_parameters(self, K: int, d: int) -> int:
        return d * (d + 1) // 2

    def row_elements(self, K: int, d: int) -> int:
        return K + d

    def project(self, x: Tensor, means: Tensor, roots: Tensor) -> Tensor:
        return x @ roots

    def metric(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        white = means @ roots
        return lambda y: squared_distances(white, y)

    def moments(self, y: Tensor, resp: Tensor, d: int) -> tuple[Tensor, Tensor]:
        return resp @ y, (y * resp.sum(0)[:, None]).T @ y

    def maximise(
        self, nk: Tensor, first: Tensor, second: Tensor, means: Tensor, roots: Tensor
    ) -> tuple[Tensor, Tensor]:
        white_means = first / nk[:, None]
        white = (second - white_means.T @ (nk[:, None] * white_means)) / nk.sum()
        back = _inverse(roots, upper=True)
        return white_means @ back, back.T @ white @ back

    def colour(self, noise: Tensor, k: Tensor, roots: Tensor) -> Tensor:
        return noise @ _inverse(roots, upper=True)

    def spread(self, rows: CentredRows, means: Tensor) -> Tensor | None:
        # scikit-learn takes the second moment of all rows about the origin, whatever
        # the responsibilities; the same seed is to give the same start.
        K, d = means.shape
        origin = rows._replace(centre=torch.zeros_like(rows.centre))
        chunks = origin.chunks(chunk_rows(means.device, d))
        second = sum((x * w[:, None]).T @ x for x, w in chunks)
        means = means + rows.centre
        return (second - means.T @ means) / K


def squared_distances(means: Tensor, x: Tensor) -> Tensor:
    """Squared distances (K, n) of means (K, d) to rows (n, d)."""
    constant = (means**2).sum(1)[:, None] + (x * x).sum(1)
    return torch.addmm(constant, means, x.T, alpha=-2).clamp_(min=0)


class _Expanded(Covariance):
    """Distances expanded about the centre: linear in (x, squares of x), (f, n).

    Two products, y -> distances and responsibilities -> moments, are all the work.
    """

    @abstractmethod
    def n_features(self, d: int) -> int:
        """Return f, the length of x and its squares."""

    @abstractmethod
    def squares(self, x: Tensor, out: Tensor) -> None:
        """Write the squares (f - d, n) of rows, features first (d, n)."""

    @abstractmethod
    def slopes(self, means: Tensor, roots: Tensor) -> tuple[Tensor, Tensor]:
        """S^-1 m (K, d), and what the squares are multiplied by (K, f - d)."""

    def row_elements(self, K: int, d: int) -> int:
        return K + self.n_features(d)

    def project(self, x: Tensor, means: Tensor, roots: Tensor) -> Tensor:
        n, d = x.shape
        y = x.new_empty(self.n_features(d), n)
        y[:d] = x.T
        self.squares(y[:d], out=y[d:])
        return y

    def metric(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        pulled, precisions = self.slopes(means, roots)
        constant = (means * pulled).sum(1, keepdim=True)
        slopes = torch.cat([-2 * pulled, precisions], dim=1)
        return lambda y: torch.addmm(constant, slopes, y).clamp_(min=0)

    def moments(self, y: Tensor, resp: Tensor, d: int) -> tuple[Tensor, Tensor]:
        sums = resp @ y.T
        return sums[:, :d], sums[:, d:]


class ExpandedFull(_Expanded, Full):
    """Full covariances, expanded: the squares are the products x_i x_j.

    Each pair comes once, as (i, i + s mod d) with s up to half a turn: half the work
    of whitening. What lies far from the centre for its width loses digits.
    """

    def n_features(self, d: int) -> int:
        return d + (d // 2 + 1) * d

    def squares(self, x: Tensor, out: Tensor) -> None:
        d, n = x.shape
        turned = torch.cat([x, x]).unfold(0, d, 1).mT  # (s, i, n) -> x_(i + s mod d)
        torch.mul(x, turned[: d // 2 + 1], out=out.view(-1, d, n))

    def slopes(self, means: Tensor, roots: Tensor) -> tuple[Tensor, Tensor]:
        precisions = self.precisions(roots)
        pulled = (precisions @ means[:, :, None]).squeeze(2)
        s, i, j = _turns(means)
        # A pair of two features is met once, or, at half a turn, in both orders.
        times = torch.where(2 * s % means.shape[1] == 0, 1, 2)
        return pulled, (precisions[:, i, j] * times).flatten(1)

    def maximise(
        self, nk: Tensor, first: Tensor, second: Tensor, means: Tensor, roots: Tensor
    ) -> tuple[Tensor, Tensor]:
        _, i, j = _turns(means)
        means = first / nk[:, None]
        matrices = torch.empty_like(roots)
        matrices[:, i, j] = matrices[:, j, i] = (second / nk[:, None]).view(
            -1, *i.shape
        )
        return means, matrices - means[:, :, None] * means[:, None]

    def roots(self, covariances: Tensor) -> Tensor:
        # Without an error: where this fails, the whitened form has the last word.
        lower, info = torch.linalg.cholesky_ex(covariances)
        lower = lower.where(info[:, None, None] == 0, torch.nan)
        return _inverse(lower.mT, upper=True)

    def loss(self, means: Tensor, covariances: Tensor, roots: Tensor) -> float:
        """Estimate the rounding of log-densities, in nats: the largest of a component.

        A distance adds up the terms x_i L_ij x_j, each rounded; at the rows of a
        component they may be far larger than it. As much comes into a covariance that
        is taken from moments about the centre.
        """
        squares = means**2 + covariances.diagonal(dim1=-2, dim2=-1)
        size = squares.sqrt()  # (K, d): root mean square of x_i
        terms = size[:, :, None] * self.precisions(roots) * size[:, None]
        return float(terms.flatten(1).norm(dim=1).max()) * torch.finfo(terms.dtype).eps


def _turns(means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shifts s (d // 2 + 1, 1), and indices i and j = i + s mod d (d // 2 + 1, d)."""
    d = means.shape[1]
    i = torch.arange(d, device=means.device)
    s = i.new_tensor(range(d // 2 + 1))[:, None]
    return s, *torch.broadcast_tensors(i, (i + s) % d)


class _Variance(_Expanded):
    """Variances, of any shape."""

    def identity(self, means: Tensor) -> Tensor:
        return means.new_ones(self.shape(*means.shape))

    def add(self, covariances: Tensor, reg_covar: float) -> Tensor:
        return covariances + reg_covar

    def roots(self, covariances: Tensor) -> Tensor:
        if not (covariances > 0).all():
            raise ValueError(ILL_DEFINED)
        return covariances.rsqrt()

    def roots_of_precisions(self, precisions: Tensor) -> Tensor:
        return precisions.sqrt()

    def check_precisions(self, precisions: Tensor, name: str) -> None:
        if not (precisions > 0).all():
            raise ValueError(f"'{name} precision' should be positive")

    def precisions(self, roots: Tensor) -> Tensor:
        return roots**2

    def covariances(self, roots: Tensor) -> Tensor:
        return roots**-2


def _spread(squares: Tensor, squared_means: Tensor) -> Tensor:
    """Return their difference, or zero where it is within rounding."""
    difference = squares - squared_means
    noise = 4 * torch.finfo(squares.dtype).eps * squares
    return torch.where(difference > noise, difference, 0)


class Diag(_Variance):
    """A variance a component and feature. The squares are those of the features."""

    def shape(self, K: int, d: int) -> tuple[int, ...]:
        return (K, d)

    def n_parameters(self, K: int, d: int) -> int:
        return K * d

    def n_features(self, d: int) -> int:
        return 2 * d

    def squares(self, x: Tensor, out: Tensor) -> None:
        torch.mul(x, x, out=out)

    def slopes(self, means: Tensor, roots: Tensor) -> tuple[Tensor, Tensor]:
        precisions = roots**2
        return means * precisions, precisions

    def maximise(
        self, nk: Tensor, first: Tensor, second: Tensor, means: Tensor, roots: Tensor
    ) -> tuple[Tensor, Tensor]:
        means = first / nk[:, None]
        return means, _spread(second / nk[:, None], means**2)

    def log_det(self, roots: Tensor, d: int) -> Tensor:
        return roots.log().sum(1)

    def colour(self, noise: Tensor, k: Tensor, roots: Tensor) -> Tensor:
        return noise / roots[k]


class Spherical(_Variance):
    """A variance a component. The square is ||x||^2."""

    def shape(self, K: int, d: int) -> tuple[int, ...]:
        return (K,)

    def n_parameters(self, K: int, d: int) -> int:
        return K

    def n_features(self, d: int) -> int:
        return d + 1

    def squares(self, x: Tensor, out: Tensor) -> None:
        torch.sum(x * x, 0, keepdim=True, out=out)

    def slopes(self, means: Tensor, roots: Tensor) -> tuple[Tensor, Tensor]:
        precisions = (roots**2)[:, None]
        return means * precisions, precisions

    def maximise(
        self, nk: Tensor, first: Tensor, second: Tensor, means: Tensor, roots: Tensor
    ) -> tuple[Tensor, Tensor]:
        means = first / nk[:, None]
        squares = _spread(second.squeeze(1) / nk, (means**2).sum(1))
        return means, squares / means.shape[1]

    def log_det(self, roots: Tensor, d: int) -> Tensor:
        return d * roots.log()

    def colour(self, noise: Tensor, k: Tensor, roots: Tensor) -> Tensor:
        return noise / roots[k][:, None]


COVARIANCES: dict[str, Covariance] = {
    "full": Full(),
    "tied": Tied(),
    "diag": Diag(),
    "spherical": Spherical(),
}
