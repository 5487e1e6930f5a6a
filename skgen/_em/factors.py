"""Covariances of low rank and a diagonal: a mixture of factor analysers.

    x = m + W z + e,   z ~ N(0, I_q),   e ~ N(0, diag psi),   S = W W^T + diag psi

(Ghahramani & Hinton 1996). Nothing here has the size of S: a component takes d (q + 1)
numbers, and a row d q multiplications. In units of the noise, W becomes V = W / psi^1/2
and a row y = (x - m) / psi^1/2; with M = I + V^T V,

    z = M^-1 V^T y,   distance = |y - V z|^2 + |z|^2,   log |S| = log |psi| + log |M|,

where z is the mean of the code given the row. The sum of squares cancels nothing.

The M-step has the means of rows under responsibilities, which are the likeliest
whatever S is, and then one step of EM in which z is not known. So no step lowers the
likelihood, and none has moments of pairs of features.

Shapes: K components, n rows, d features, q factors. Covariances are (K, d, q + 1), the
loadings W and in the last column psi; roots likewise V and psi^-1/2; precisions a U and
1 / psi, with S^-1 = diag(1 / psi) - U U^T.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, reduce
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from skgen._em.conditionals import (
    Block,
    Conditionals,
    Filled,
    blocks_of_any_pattern,
    conditionals,
    inverse_and_log_det,
    there_of,
)
from skgen._em.fixed_point import Iterate
from skgen._em.incomplete import (
    IncompleteRows,
    IncompleteSteps,
    start_from_cells,
    summed,
)
from skgen._em.matrices import ILL_DEFINED, Covariance, Direct, eye
from skgen._em.priors import Regularisation, regularised, shares, with_ridge
from skgen._em.steps import EMSteps, Mixture, normalise, positive, start_from
from skgen._utils.chunks import CentredRows, chunk_rows
from skgen._utils.tensors import make_generator
from skgen._utils.threads import threads_for

# Part of the rows of other components that a start lets each see, so that no component
# starts without a spread; and rounds that its loadings are sought in.
SOFT, START_ROUNDS = 0.01, 20


class Factors(NamedTuple):
    """A root, and what distances need of it."""

    V: Tensor  # (..., d, q)
    scale: Tensor  # (..., d): psi^-1/2
    spread: Tensor  # (..., q, q): M^-1, the covariance of the code given the row

    @classmethod
    def of(cls, roots: Tensor) -> Self:
        """Take roots (..., d, q + 1)."""
        V, scale = roots[..., :-1], roots[..., -1]
        return cls(V, scale, torch.cholesky_inverse(_lower(V)))

    def whiten(self, difference: Tensor) -> Tensor:
        """Turn (..., d, n) into y - V z, and below it z, (..., d + q, n)."""
        y = difference * self.scale[..., None]
        z = self.spread @ (self.V.mT @ y)
        return torch.cat([y - self.V @ z, z], dim=-2)


def _lower(V: Tensor) -> Tensor:
    """Cholesky factors of M = I + V^T V."""
    found: Tensor = torch.linalg.cholesky(V.mT @ V + eye(V))
    return found


class FactorAnalysed(Direct):
    """Loadings and noise per component.

    Parameters
    ----------
    n_factors : int
        Number of factors q.
    """

    def __init__(self, n_factors: int) -> None:
        self.n_factors = n_factors

    def shape(self, K: int, d: int) -> tuple[int, ...]:
        return (K, d, self.n_factors + 1)

    def n_parameters(self, K: int, d: int) -> int:
        # Loadings may be rotated.
        q = min(self.n_factors, d)
        return K * (d * (q + 1) - q * (q - 1) // 2)

    def row_elements(self, K: int, d: int, C: int = 1) -> int:
        return C * K * (d + self.n_factors)

    def score_elements(self, K: int, d: int) -> int:
        return K + 3 * (d + self.n_factors)

    # E-step.

    def scale(self, difference: Tensor, roots: Tensor) -> Tensor:
        return Factors.of(roots).whiten(difference)

    def projection(self, means: Tensor, roots: Tensor) -> Callable[[Tensor], Tensor]:
        known = Factors.of(roots)
        return lambda x: known.whiten(x.T - means[..., None])

    def log_det(self, roots: Tensor, d: int) -> Tensor:
        rank = _lower(roots[..., :-1]).diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return roots[..., -1].log().sum(-1) - rank

    # M-step.

    def moments(self, y: Tensor, resp: Tensor, d: int) -> tuple[Tensor, Tensor]:
        """Sum y - V z and z; and their products with z, and squares."""
        weighted = y * resp[..., None, :]
        z = y[..., d:, :]
        squares = (weighted * y).sum(-1, keepdim=True)
        return weighted.sum(-1), torch.cat([weighted @ z.mT, squares], dim=-1)

    def maximise(
        self, nk: Tensor, first: Tensor, second: Tensor, means: Tensor, roots: Tensor
    ) -> tuple[Tensor, Tensor]:
        V, scale, spread = Factors.of(roots)
        d = V.shape[-2]
        first, second = first / nk[..., None], second / nk[..., None, None]
        z, zz = first[..., d:, None], second[..., d:, :-1]
        rest_z, rest = second[..., :d, :-1], second[..., :d, -1]
        seen = V @ zz
        # Means of y, y z^T and y^2, from those of y - V z; then about the new mean.
        y = first[..., :d] + (V @ z).squeeze(-1)
        yz = rest_z + seen - y[..., None] * z.mT
        yy = rest + ((2 * rest_z + seen) * V).sum(-1) - y * y
        zz = zz - z @ z.mT + spread
        loadings = torch.linalg.solve(zz, yz.mT).mT
        noise = (yy - (loadings * yz).sum(-1)).clamp(min=0)
        parts = (loadings / scale[..., None], (noise / scale**2)[..., None])
        return means + y / scale, torch.cat(parts, dim=-1)

    def per(self, counts: Tensor) -> Tensor:
        return counts[..., None]

    def shrunk(
        self, covariances: Tensor, per: Tensor, rows: float, scatter: Tensor
    ) -> Tensor:
        noise = super().shrunk(covariances[..., -1], per, rows, scatter)
        return torch.cat([covariances[..., :-1], noise[..., None]], dim=-1)

    def penalties(
        self, roots: Tensor, means: Tensor, scatter: Tensor
    ) -> tuple[Tensor, Tensor]:
        scale = roots[..., -1]
        return -2 * scale.log().sum(), (scale**2 * scatter).sum()

    # Between covariances, roots and precisions.

    def identity(self, means: Tensor) -> Tensor:
        *stack, K, d = means.shape
        loadings = means.new_zeros(*stack, K, d, self.n_factors)
        return torch.cat([loadings, torch.ones_like(loadings[..., :1])], dim=-1)

    def add(self, covariances: Tensor, reg_covar: float | Tensor) -> Tensor:
        noise = covariances[..., -1] + reg_covar
        return torch.cat([covariances[..., :-1], noise[..., None]], dim=-1)

    def ridge(self, variances: Tensor) -> Tensor:
        return variances

    def roots(self, covariances: Tensor) -> Tensor:
        noise = covariances[..., -1:]
        if not (noise > 0).all():
            raise ValueError(ILL_DEFINED)
        scale = noise.rsqrt()
        return torch.cat([covariances[..., :-1] * scale, scale], dim=-1)

    def covariances(self, roots: Tensor) -> Tensor:
        scale = roots[..., -1:]
        return torch.cat([roots[..., :-1] / scale, scale**-2], dim=-1)

    def variances(self, covariances: Tensor) -> Tensor:
        return covariances[..., :-1].square().sum(-1) + covariances[..., -1]

    def precisions(self, roots: Tensor) -> Tensor:
        axes, values = _axes(roots[..., :-1])
        scale = roots[..., -1:]
        parts = (axes * (values / (1 + values)).sqrt() * scale, scale**2)
        return torch.cat(parts, dim=-1)

    def roots_of_precisions(self, precisions: Tensor) -> Tensor:
        scale = precisions[..., -1:].sqrt()
        axes, values = _axes(precisions[..., :-1] / scale)
        return torch.cat([axes * (values / (1 - values)).sqrt(), scale], dim=-1)

    def check_precisions(self, precisions: Tensor, name: str) -> None:
        inverse_noise = precisions[..., -1:]
        good = bool((inverse_noise > 0).all())
        if (
            not good
            or (_axes(precisions[..., :-1] / inverse_noise.sqrt())[1] >= 1).any()
        ):
            raise ValueError(f"'{name} precision' should be positive-definite")

    def excess(self, covariances: Tensor, roots: Tensor) -> Tensor:
        V, scale = roots[..., :-1], roots[..., -1:]
        loadings = (covariances[..., :-1] * scale - V) / (1 + V.abs())
        noise = covariances[..., -1:] * scale**2 - 1
        return torch.cat([loadings, noise], dim=-1)

    def colour(self, noise: Tensor, k: Tensor, roots: Tensor) -> Tensor:
        # The symmetric root of I + V V^T; no second draw is needed for the code.
        axes, values = _axes(roots[..., :-1])
        stretch = (1 + values.squeeze(-2)).sqrt() - 1
        found = torch.empty_like(noise)
        for i in range(len(roots)):
            own = noise[k == i]
            along = (own @ axes[i]) * stretch[i]
            found[k == i] = (own + along @ axes[i].T) / roots[i, :, -1]
        return found

    def at_columns(self, covariances: Tensor, K: int, columns: Tensor) -> Tensor:
        loadings = covariances[:, columns, :-1]
        return loadings @ loadings.mT + covariances[:, columns, -1].diag_embed()


@cache
def factor_analysed(n_factors: int) -> FactorAnalysed:
    """Return the covariance type of so many factors: one object for each number."""
    return FactorAnalysed(n_factors)


def _axes(V: Tensor) -> tuple[Tensor, Tensor]:
    """Return orthonormal axes (..., d, q) of V, and eigenvalues of V V^T (..., 1, q).

    With fewer features than factors, the last axes are zero.
    """
    axes, values, _ = torch.linalg.svd(V, full_matrices=False)
    lacks = V.shape[-1] - values.shape[-1]
    if lacks:
        axes = torch.nn.functional.pad(axes, (0, lacks))
        values = torch.nn.functional.pad(values, (0, lacks))
    return axes, values.square()[..., None, :]


# Where it starts.


@start_from.register
def start_factors(
    kind: FactorAnalysed, rows: CentredRows, resp: Tensor, reg_covar: Regularisation
) -> Mixture:
    """Start from responsibilities (n, K): some rounds of EM in which they are known.

    From loadings that are drawn, always the same ones, for each component and column in
    units of its spread.
    """
    d, K = len(rows.centre), resp.shape[1]
    resp = (1 - SOFT) * resp.to(rows.centre) + SOFT / K
    theta = _without_factors(kind, rows, resp)
    generator = make_generator(0, torch.device("cpu"))
    drawn = torch.randn(K, d, kind.n_factors, generator=generator, dtype=torch.float64)
    spread = kind.variances(theta.covariances).sqrt()[..., None]
    loadings = drawn.to(spread) * spread / (2 * kind.n_factors) ** 0.5
    parts = (loadings, theta.covariances[..., -1:] / 2)
    nk = len(rows.x) * theta.weights
    covariances = torch.cat(parts, dim=-1)
    covariances = regularised(kind, covariances, kind.per(nk), reg_covar)
    theta = theta._replace(covariances=covariances, roots=kind.roots(covariances))
    for _ in range(START_ROUNDS):
        theta = _known_step(kind, rows, resp, theta, reg_covar)
    return theta


def _without_factors(kind: FactorAnalysed, rows: CentredRows, resp: Tensor) -> Mixture:
    """Return means and variances under responsibilities (n, K)."""
    d, K = len(rows.centre), resp.shape[1]
    counts, first, second = (rows.centre.new_zeros(K, c) for c in (1, d, d))
    size = chunk_rows(rows.x.device, K + 2 * d)
    for (x, weight), r in zip(rows.chunks(size), resp.split(size)):
        weighted = r.T * weight
        counts += weighted.sum(1, keepdim=True)
        first += weighted @ x
        second += weighted @ x.square()
    nk = positive(counts)
    means = first / nk
    noise = (second / nk - means**2).clamp(min=0)
    tiny = torch.finfo(noise.dtype).tiny ** 0.5
    parts = (means.new_zeros(K, d, kind.n_factors), noise.clamp(min=tiny)[..., None])
    covariances = torch.cat(parts, dim=-1)
    weights = (nk / nk.sum()).squeeze(1)
    return Mixture(weights, rows.centre + means, covariances, covariances)


def _known_step(
    kind: FactorAnalysed,
    rows: CentredRows,
    resp: Tensor,
    theta: Mixture,
    reg_covar: Regularisation,
) -> Mixture:
    """M-step under responsibilities (n, K) that stay."""
    K, d = theta.means.shape
    size, whole = chunk_rows(rows.x.device, kind.row_elements(K, d)), rows.uncentred()
    project = kind.projection(theta.means, theta.roots)
    parts: Any = (
        (r.T * weight, project(x))
        for (x, weight), r in zip(whole.chunks(size), resp.split(size))
    )
    each: Any = ((r.sum(1), *kind.moments(y, r, d)) for r, y in parts)
    nk, first, second = reduce(lambda a, b: map(torch.add, a, b), each)
    nk = positive(nk)
    means, covariances = kind.maximise(nk, first, second, theta.means, theta.roots)
    covariances = regularised(kind, covariances, kind.per(nk), reg_covar)
    return Mixture(shares(nk, reg_covar), means, covariances, kind.roots(covariances))


@start_from_cells.register
def _start_factors_from_cells(
    kind: FactorAnalysed, rows: IncompleteRows, resp: Tensor, reg_covar: Regularisation
) -> Mixture:
    ridge = kind.ridge(rows.missing_variance())
    return start_factors(kind, rows.filled(), resp, with_ridge(reg_covar, ridge))


# Missing cells.


class ByFactor(Conditionals):
    """By the code given what is there of a row: a matrix (q, q) for each row."""

    def __init__(self, means: Tensor, roots: Tensor) -> None:
        super().__init__(means)
        roots = roots.expand(len(means), *roots.shape[1:])
        self.V, self.scale = roots[..., :-1], roots[..., -1]

    def elements(self, m: int) -> int:
        K, d = self.means.shape
        return K * (2 * d + 2 * (self.V.shape[-1] + 1) ** 2)

    def codes(self, y: Tensor, there: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what white cells (K, d, n), zero where missing, say of the code.

        The means z (K, q, n) and covariances (K, q, q, n) of the code given them, their
        squared distances (K, n), and log |S_OO| without the noise.
        """
        K, _, q = self.V.shape
        outer = (self.V[..., :, None] * self.V[..., None, :]).flatten(2)
        M = (outer.mT @ there).view(K, q, q, -1)
        M = M + eye(M[..., 0])[..., None]
        spread, log_det = inverse_and_log_det(M)
        z = (spread * (self.V.mT @ y)[:, None]).sum(2)
        rest = (y - self.V @ z) * there
        squares = rest.square_().sum(1) + z.square().sum(1)
        return z, spread, squares, log_det

    def fill(self, y: Tensor, block: Block) -> Filled:
        there = there_of(block.x).to(y.dtype)
        z, _, squares, log_det = self.codes(y * self.scale[..., None], there)
        expected = (self.V @ z) / self.scale[..., None]
        y = torch.where(there.bool(), y, expected)
        log_det = log_det - 2 * self.scale.log() @ there
        return Filled(y, there.sum(0), log_det, squares, y.new_zeros(0))

    def blocks(self, x: Tensor) -> Iterator[Block]:
        return blocks_of_any_pattern(x, self.elements(0))


@conditionals.register
def _by_factor(
    kind: FactorAnalysed, means: Tensor, covariances: Tensor, roots: Tensor
) -> Conditionals:
    return ByFactor(means, roots)


class RegressionSums(NamedTuple):
    """Sums over cells that are there, in units of the noise, under r.

    A cell is a regression on the code and a constant, (z, 1).
    """

    log_prob: Tensor  # ()
    counts: Tensor  # (K,)
    cells: Tensor  # (K, d)
    inputs: Tensor  # (K, (q + 1)^2, d): products of inputs
    products: Tensor  # (K, q + 1, d): of inputs and cells
    squares: Tensor  # (K, d): of cells


class FactorCellSteps(IncompleteSteps):
    """Steps of EM on rows with missing cells, which are left out of the M-step.

    The code is all that is not known: each column is a regression on it, over the rows
    that have the cell.
    """

    def __call__(self, theta: Mixture) -> Iterate[Mixture]:
        given = conditionals(self.kind, *theta[1:])
        parts = (self._of_cells(given, theta, block) for block in self._in(given))
        sums: RegressionSums = summed(parts)
        bound = float(sums.log_prob) / self.n_rows
        return Iterate(self._next(sums, theta), bound)

    def _of_cells(self, given: Any, theta: Mixture, block: Block) -> RegressionSums:
        there = there_of(block.x)
        x = block.x.T.to(theta.means.dtype) - theta.means[..., None]
        y = x.nan_to_num_(nan=0.0) * given.scale[..., None]
        there = there.to(y.dtype)
        with threads_for(y.numel() * given.V.shape[-1]):
            z, spread, squares, log_det = given.codes(y, there)
            log_det = log_det - 2 * given.scale.log() @ there
            found = Filled(y, there.sum(0), log_det, squares, y.new_zeros(0))
            log_prob, resp = normalise(found.log_density + theta.weights.log()[:, None])
            weight = self.rows.weight[block.rows]
            resp *= weight
            inputs = torch.cat([z, torch.ones_like(z[:, :1])], dim=1)
            outer = inputs[:, :, None] * inputs[:, None]
            outer[:, :-1, :-1] += spread
            weighted = resp[:, None]
            return RegressionSums(
                (log_prob * weight).sum(),
                resp.sum(1),
                resp @ there.T,
                (outer.flatten(1, 2) * weighted) @ there.T,
                (inputs * weighted) @ y.mT,
                (resp[:, None] @ y.square().mT).squeeze(1),
            )

    def _next(self, sums: RegressionSums, theta: Mixture) -> Mixture:
        """Regress the cells of each column; one without cells stays as it was."""
        scale, q = theta.roots[..., -1], theta.roots.shape[-1] - 1
        some = sums.cells > 0
        cells = sums.cells.where(some, 1)[:, None]
        inputs = (sums.inputs / cells).mT.unflatten(-1, (q + 1, q + 1))  # (K, d, ...)
        inputs = inputs.where(some[..., None, None], eye(inputs))
        products = (sums.products / cells).mT  # (K, d, q + 1)
        slopes = torch.linalg.solve(inputs, products)
        noise = sums.squares / cells[:, 0] - (slopes * products).sum(-1)
        parts = (slopes[..., :-1], noise.clamp(min=0)[..., None])
        units = scale[..., None].expand(*scale.shape, q + 1).clone()
        units[..., -1] *= scale
        covariances = torch.cat(parts, dim=-1) / units
        covariances = covariances.where(some[..., None], theta.covariances)
        covariances = regularised(self.kind, covariances, sums.cells, self.reg_covar)
        means = theta.means + slopes[..., -1].where(some, 0) / scale
        weights = shares(positive(sums.counts), self.reg_covar)
        return Mixture(weights, means, covariances, self.kind.roots(covariances))


def factor_steps(
    kind: Covariance, rows: CentredRows, reg_covar: Regularisation
) -> EMSteps | FactorCellSteps:
    """Return the steps of EM for factor analysers."""
    steps = FactorCellSteps if isinstance(rows, IncompleteRows) else EMSteps
    return steps(kind, rows, reg_covar)
