"""Covariance types of a mixture, by name, and those whose distances are expanded.

Covariance matrices in the whitened form are in `skgen.matrices`, with the notation.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from skgen.matrices import ILL_DEFINED, Covariance, Tied, Whitened, inverse


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

    def row_elements(self, K: int, d: int, C: int = 1) -> int:
        return C * K + self.n_features(d)

    def projection(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        def at(x: Tensor) -> Tensor:
            n, d = x.shape
            y = x.new_empty(self.n_features(d), n)
            y[:d] = x.T
            self.squares(y[:d], out=y[d:])
            return y

        return at

    def metric(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        pulled, precisions = self.slopes(means, roots)
        constant = (means * pulled).sum(-1, keepdim=True)
        slopes = torch.cat([-2 * pulled, precisions], dim=-1)
        return lambda y: (slopes @ y).add_(constant).clamp_(min=0)

    def moments(self, y: Tensor, resp: Tensor, d: int) -> tuple[Tensor, Tensor]:
        sums = resp @ y.T
        return sums[..., :d], sums[..., d:]


class ExpandedFull(_Expanded, Whitened):
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
        pulled = (precisions @ means[..., None]).squeeze(-1)
        s, i, j = _turns(means)
        # A pair of two features is met once, or, at half a turn, in both orders.
        times = torch.where(2 * s % means.shape[-1] == 0, 1, 2)
        return pulled, (precisions[..., i, j] * times).flatten(-2)

    def maximise(
        self, nk: Tensor, first: Tensor, second: Tensor, means: Tensor, roots: Tensor
    ) -> tuple[Tensor, Tensor]:
        _, i, j = _turns(means)
        means = first / nk[..., None]
        squares = (second / nk[..., None]).unflatten(-1, i.shape)
        matrices = torch.empty_like(roots)
        matrices[..., i, j] = matrices[..., j, i] = squares
        return means, matrices - means[..., :, None] * means[..., None, :]

    def roots(self, covariances: Tensor) -> Tensor:
        # Without an error: where this fails, the whitened form has the last word.
        lower, info = torch.linalg.cholesky_ex(covariances)
        lower = lower.where(info[..., None, None] == 0, torch.nan)
        return inverse(lower.mT, upper=True)

    def loss(self, means: Tensor, covariances: Tensor, roots: Tensor) -> Tensor:
        """Estimate the rounding of log-densities, in nats: the largest of a component.

        A distance adds up the terms x_i L_ij x_j, each rounded; at the rows of a
        component they may be far larger than it. As much comes into a covariance that
        is taken from moments about the centre.
        """
        squares = means**2 + covariances.diagonal(dim1=-2, dim2=-1)
        size = squares.sqrt()  # (K, d): root mean square of x_i
        terms = size[..., :, None] * self.precisions(roots) * size[..., None, :]
        largest = terms.flatten(-2).norm(dim=-1).amax(-1)
        return largest * torch.finfo(terms.dtype).eps


def _turns(means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shifts s (d // 2 + 1, 1), and indices i and j = i + s mod d (d // 2 + 1, d)."""
    d = means.shape[-1]
    i = torch.arange(d, device=means.device)
    s = i[: d // 2 + 1, None]
    return s, *torch.broadcast_tensors(i, (i + s) % d)


class Full(Whitened):
    """A matrix a component: whitened, or expanded where that loses no digits."""

    @property
    def expanded(self) -> Covariance:
        return ExpandedFull()


class _Variance(_Expanded):
    """Variances, of any shape."""

    def row_log_masses(
        self, means: Tensor, roots: Tensor, constant: Tensor
    ) -> Callable[[Tensor], Tensor]:
        # A product with x, and one with its squares, in its place.
        pulled, precisions = self.slopes(means, roots)
        start = constant - 0.5 * (means * pulled).sum(1, keepdim=True)
        precisions = precisions.expand_as(means).contiguous()

        def at(x: Tensor) -> Tensor:
            linear = torch.addmm(start, pulled, x.T)
            return linear.addmm_(precisions, x.square_().T, alpha=-0.5)

        return at

    def score_elements(self, K: int, d: int) -> int:
        return K + d

    def identity(self, means: Tensor) -> Tensor:
        return means.new_ones(self.shape(*means.shape))

    def add(self, covariances: Tensor, reg_covar: float | Tensor) -> Tensor:
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
        means = first / nk[..., None]
        return means, _spread(second / nk[..., None], means**2)

    def log_det(self, roots: Tensor, d: int) -> Tensor:
        return roots.log().sum(-1)

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
        precisions = (roots**2)[..., None]
        return means * precisions, precisions

    def maximise(
        self, nk: Tensor, first: Tensor, second: Tensor, means: Tensor, roots: Tensor
    ) -> tuple[Tensor, Tensor]:
        means = first / nk[..., None]
        squares = _spread(second.squeeze(-1) / nk, (means**2).sum(-1))
        return means, squares / means.shape[-1]

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
