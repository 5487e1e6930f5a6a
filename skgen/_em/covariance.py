"""The covariance types of a mixture, by name, each in its direct and its fast forms.

The interface, the notation, and what all matrices share are in `skgen._em.matrices`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from skgen._em.matrices import (
    ILL_DEFINED,
    Covariance,
    Direct,
    Matrix,
    half_less,
    inverse,
    squared_distances,
)


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


class Whitened(Matrix):
    """A matrix per component. Rows are whitened: y_k = P_k^T x - P_k^T m_k, (K, d, n).

    One product for all components. The two terms are as large as the distance to the
    centre, in standard deviations, and their difference has the rounding of both.
    """

    is_about_means = True

    def shape(self, K: int, d: int) -> tuple[int, ...]:
        return (K, d, d)

    def n_parameters(self, K: int, d: int) -> int:
        return K * d * (d + 1) // 2

    def row_elements(self, K: int, d: int, C: int = 1) -> int:
        return C * K * d

    def projection(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        # Features first: the shape that is fastest.
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

    def loss(self, means: Tensor, covariances: Tensor, roots: Tensor) -> Tensor:
        # Norms of |P|^T |m|, the terms that a projection adds up.
        terms = means.abs()[..., None, :] @ roots.abs()
        size = torch.linalg.vector_norm(terms.squeeze(-2), dim=-1)
        found: Tensor = size.amax(-1) * torch.finfo(means.dtype).eps
        return found

    def colour(self, noise: Tensor, k: Tensor, roots: Tensor) -> Tensor:
        coloured = torch.empty_like(noise)
        for i, back in enumerate(inverse(roots, upper=True)):
            coloured[k == i] = noise[k == i] @ back
        return coloured


class ExpandedFull(_Expanded, Whitened):
    """Full covariances, expanded: the squares are the products x_i x_j.

    Each pair comes once, as (i, i + s mod d) with s up to half a turn: half the work
    of whitening.
    """

    is_about_means = False
    least_rows = 64

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
        return nan_roots(covariances)

    def loss(self, means: Tensor, covariances: Tensor, roots: Tensor) -> Tensor:
        """Return the nats lost by rounding, by the component that loses most.

        A distance adds up the terms x_i L_ij x_j, each rounded; at the rows of a
        component they may be far larger than it. As much comes into a covariance that
        is taken from moments about the centre.
        """
        squares = means**2 + covariances.diagonal(dim1=-2, dim2=-1)
        size = squares.sqrt()  # (K, d): root mean square of x_i
        terms = size[..., :, None] * self.precisions(roots) * size[..., None, :]
        largest = terms.flatten(-2).norm(dim=-1).amax(-1)
        found: Tensor = largest * torch.finfo(terms.dtype).eps
        return found


def nan_roots(covariances: Tensor) -> Tensor:
    """Return roots of matrices, NaN where one is not positive definite.

    Then ``loss`` is NaN too, and the direct form is asked.
    """
    lower, info = torch.linalg.cholesky_ex(covariances)
    lower = lower.where(info[..., None, None] == 0, torch.nan)
    return inverse(lower.mT, upper=True)


def _turns(means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Shifts s (d // 2 + 1, 1), and indices i and j = i + s mod d (d // 2 + 1, d)."""
    d = means.shape[-1]
    i = torch.arange(d, device=means.device)
    s = i[: d // 2 + 1, None]
    return s, *torch.broadcast_tensors(i, (i + s) % d)


class Full(Direct, Whitened):
    """A matrix per component."""

    @property
    def forms(self) -> tuple[Covariance, ...]:
        return (ExpandedFull(), *self.score_forms)

    @property
    def score_forms(self) -> tuple[Covariance, ...]:
        return (Whitened(), self)

    def score_elements(self, K: int, d: int) -> int:
        return K * d

    def scale(self, difference: Tensor, roots: Tensor) -> Tensor:
        return roots.mT @ difference


class _OneMatrix(Matrix):
    """One matrix for all components."""

    def shape(self, K: int, d: int) -> tuple[int, ...]:
        return (d, d)

    def n_parameters(self, K: int, d: int) -> int:
        return d * (d + 1) // 2

    def variances(self, covariances: Tensor) -> Tensor:
        return super().variances(covariances)[..., None, :]

    def average(self, parts: Iterable[tuple[Tensor, Tensor]], total: Tensor) -> Tensor:
        sums = ((mass[:, None, None] * each).sum(0) for mass, each in parts)
        return sum(sums, start=total.new_zeros(())) / total.sum()

    def log_det(self, roots: Tensor, d: int) -> Tensor:
        return super().log_det(roots, d)[..., None]

    def per(self, counts: Tensor) -> Tensor:
        return super().per(counts.sum(-1))

    def colour(self, noise: Tensor, k: Tensor, roots: Tensor) -> Tensor:
        return noise @ inverse(roots, upper=True)


class ExpandedTied(_OneMatrix):
    """Rows are whitened about the centre, y = x P (n, d), and distances expanded."""

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

    def roots(self, covariances: Tensor) -> Tensor:
        return nan_roots(covariances)

    def loss(self, means: Tensor, covariances: Tensor, roots: Tensor) -> Tensor:
        squares = (means.abs() @ roots.abs()).square_().sum(-1)
        return squares.amax(-1) * torch.finfo(means.dtype).eps


class Tied(Direct, _OneMatrix):
    """One matrix for all components."""

    @property
    def forms(self) -> tuple[Covariance, ...]:
        return (ExpandedTied(), self)

    def scale(self, difference: Tensor, roots: Tensor) -> Tensor:
        return roots.mT[..., None, :, :] @ difference

    def component(self, roots: Tensor, k: int) -> Tensor:
        return roots

    def moments(self, y: Tensor, resp: Tensor, d: int) -> tuple[Tensor, Tensor]:
        z = y * resp[..., None, :]
        return z.sum(-1), (z @ y.mT).sum(-3)

    def maximise(
        self, nk: Tensor, first: Tensor, second: Tensor, means: Tensor, roots: Tensor
    ) -> tuple[Tensor, Tensor]:
        shift = first / nk[..., None]  # (K, d), still white
        between = shift.mT @ (nk[..., None] * shift)
        white = (second - between) / nk.sum(-1)[..., None, None]
        back = inverse(roots, upper=True)
        return means + shift @ back, back.mT @ white @ back


class _Variance(Covariance):
    """Variances, of any shape."""

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

    def excess(self, covariances: Tensor, roots: Tensor) -> Tensor:
        return covariances * roots**2 - 1


class _ExpandedVariance(_Expanded, _Variance):
    """Variances, with expanded distances."""

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

    def roots(self, covariances: Tensor) -> Tensor:
        return covariances.rsqrt()  # NaN or infinite as `nan_roots`

    def loss(self, means: Tensor, covariances: Tensor, roots: Tensor) -> Tensor:
        # Mean squares of the features, in units of their variance.
        terms = (means * self.variances(roots)).square_().add_(1)
        size = torch.linalg.vector_norm(terms, dim=-1)
        found: Tensor = size.amax(-1) * torch.finfo(means.dtype).eps
        return found


def spread(squares: Tensor, squared_means: Tensor) -> Tensor:
    """Return their difference, or zero where it is within rounding."""
    difference = squares - squared_means
    noise = 4 * torch.finfo(squares.dtype).eps * squares
    return torch.where(difference > noise, difference, 0)


class _PerFeature(_Variance):
    """A variance per component and feature."""

    def shape(self, K: int, d: int) -> tuple[int, ...]:
        return (K, d)

    def n_parameters(self, K: int, d: int) -> int:
        return K * d

    def ridge(self, variances: Tensor) -> Tensor:
        return variances

    def variances(self, covariances: Tensor) -> Tensor:
        return covariances

    def outer(self, shift: Tensor) -> Tensor:
        return shift**2

    def log_det(self, roots: Tensor, d: int) -> Tensor:
        return roots.log().sum(-1)

    def per(self, counts: Tensor) -> Tensor:
        return counts[..., None]

    def at_columns(self, covariances: Tensor, K: int, columns: Tensor) -> Tensor:
        return covariances[:, columns].diag_embed()

    def colour(self, noise: Tensor, k: Tensor, roots: Tensor) -> Tensor:
        return noise / roots[k]


class ExpandedDiag(_ExpandedVariance, _PerFeature):
    """Distances expanded about the centre. The squares are those of the features."""

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
        return means, spread(second / nk[..., None], means**2)


class Diag(Direct, _PerFeature):
    """A variance per component and feature."""

    @property
    def forms(self) -> tuple[Covariance, ...]:
        return (ExpandedDiag(), self)

    def scale(self, difference: Tensor, roots: Tensor) -> Tensor:
        return difference.mul_(roots[..., None])

    def moments(self, y: Tensor, resp: Tensor, d: int) -> tuple[Tensor, Tensor]:
        z = y * resp[..., None, :]
        return z.sum(-1), z.mul_(y).sum(-1)

    def maximise(
        self, nk: Tensor, first: Tensor, second: Tensor, means: Tensor, roots: Tensor
    ) -> tuple[Tensor, Tensor]:
        shift = first / nk[..., None]  # (K, d), still white
        white = spread(second / nk[..., None], shift**2)
        return means + shift / roots, white / roots**2


class _PerComponent(_Variance):
    """A variance per component."""

    def shape(self, K: int, d: int) -> tuple[int, ...]:
        return (K,)

    def n_parameters(self, K: int, d: int) -> int:
        return K

    def ridge(self, variances: Tensor) -> Tensor:
        return variances.mean()

    def variances(self, covariances: Tensor) -> Tensor:
        return covariances[..., None]

    def outer(self, shift: Tensor) -> Tensor:
        return (shift**2).mean(-1)

    def log_det(self, roots: Tensor, d: int) -> Tensor:
        return d * roots.log()

    def per(self, counts: Tensor) -> Tensor:
        return counts

    def penalties(
        self, roots: Tensor, means: Tensor, scatter: Tensor
    ) -> tuple[Tensor, Tensor]:
        log_det, trace = super().penalties(roots, means, scatter)
        return log_det, trace * means.shape[-1]

    def at_columns(self, covariances: Tensor, K: int, columns: Tensor) -> Tensor:
        return covariances[:, None].expand(K, len(columns)).diag_embed()

    def colour(self, noise: Tensor, k: Tensor, roots: Tensor) -> Tensor:
        return noise / roots[k][:, None]


class ExpandedSpherical(_ExpandedVariance, _PerComponent):
    """Distances expanded about the centre. The square is ||x||^2."""

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
        squares = spread(second.squeeze(-1) / nk, (means**2).sum(-1))
        return means, squares / means.shape[-1]


class Spherical(Direct, _PerComponent):
    """A variance per component."""

    @property
    def forms(self) -> tuple[Covariance, ...]:
        return (ExpandedSpherical(), self)

    def scale(self, difference: Tensor, roots: Tensor) -> Tensor:
        return difference.mul_(roots[..., None, None])

    def moments(self, y: Tensor, resp: Tensor, d: int) -> tuple[Tensor, Tensor]:
        z = y * resp[..., None, :]
        return z.sum(-1), z.mul_(y).sum((-2, -1))

    def maximise(
        self, nk: Tensor, first: Tensor, second: Tensor, means: Tensor, roots: Tensor
    ) -> tuple[Tensor, Tensor]:
        shift = first / nk[..., None]  # (K, d), still white
        white = spread(second / nk, (shift**2).sum(-1)) / means.shape[-1]
        return means + shift / roots[..., None], white / roots**2


COVARIANCES: dict[str, Direct] = {
    "full": Full(),
    "tied": Tied(),
    "diag": Diag(),
    "spherical": Spherical(),
}
