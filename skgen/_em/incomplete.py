"""EM over missing cells: exact where cells are missing at random.

The E-step asks for the moments of whole rows given what is there of them. Where
features are dependent, a missing cell counts with its conditional mean and covariance
(Dempster, Laird & Rubin 1977); where they are not, it counts nothing, and the M-step
takes means over the cells that are there.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce, singledispatch
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from skgen._em.conditionals import (
    LOSS,
    Block,
    ByFeature,
    Conditionals,
    Filled,
    conditionals,
    flat_cells,
    there_of,
)
from skgen._em.covariance import spread
from skgen._em.fixed_point import Iterate
from skgen._em.matrices import Covariance, Matrix
from skgen._em.priors import Regularisation, regularised, shares
from skgen._em.steps import Mixture, normalise, positive
from skgen._utils.chunks import CentredRows, chunk_rows
from skgen._utils.reduce import any_true, is_alone, mean, total, totals
from skgen._utils.threads import threads_for


class IncompleteRows(CentredRows):
    """Rows with missing cells, NaN, seen from the means of the cells that are there."""

    @classmethod
    def of_rows(cls, rows: CentredRows, owner: str) -> Self:
        """Take rows; a ValueError names a column of which no cell is there."""
        zero = torch.zeros_like(rows.centre)
        count, first, _ = _column_sums(rows._replace(centre=zero))
        if not count.all():
            column = int((count == 0).nonzero()[0])
            raise ValueError(
                f"Column {column} of X has missing cells only, from which {owner} "
                "can learn nothing. Leave the column out."
            )
        return cls(rows.x, rows.weight, first / count)

    def normalise_weights(self) -> Self:
        """Leave rows of weight zero out, and divide weights by their mean."""
        kept = self.weight > 0
        weight = self.weight[kept] / mean(self.weight[kept])
        return self._replace(x=self.x[kept], weight=weight)

    def with_rounded_centre(self, variance: Tensor) -> Self:
        """Keep the means as they are: missing cells are filled with them."""
        return self

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the mean and variance of the cells that are there of each column."""
        count, first, second = _column_sums(self)
        shift = first / count
        variance = (second / count - shift * shift).clamp(min=0)
        return self.centre + shift, variance

    def filled(self) -> CentredRows:
        """Put the mean of their column into missing cells."""
        x = torch.where(self.x.isnan(), self.centre.to(self.x.dtype), self.x)
        return CentredRows(x, self.weight, self.centre)

    def without_empty(self) -> Self:
        """Give no weight to rows of which no cell is there."""
        empty = self.x.isnan().all(1)
        some = any_true(bool(empty.any()))
        return self._replace(weight=self.weight.where(~empty, 0)) if some else self

    def missing_weights(self) -> Tensor:
        """Return the weight of the rows that lack a cell of each column, (d,)."""
        return (self.total_weight - _column_sums(self)[0]).clamp(min=0)

    def missing_variance(self) -> Tensor:
        """Return what filled rows lack of the variance of each column, (d,)."""
        return self.missing_weights() / self.total_weight * self.moments()[1]

    def equal(self, other: CentredRows) -> bool:
        """Return whether these are the same rows: only if they are one object."""
        return self is other


def _column_sums(rows: CentredRows) -> tuple[Tensor, Tensor, Tensor]:
    """Sum weights, weighted cells and their squares over what is there, each (d,)."""
    sums = torch.zeros(3, *rows.centre.shape).to(rows.centre)
    for x, weight in rows.chunks(chunk_rows(rows.x.device, rows.x.shape[1])):
        there = x.isnan().logical_not_()
        x.nan_to_num_(nan=0.0)
        for row, cells in zip(sums, (there.to(x.dtype), x, x * x)):
            row += weight @ cells
    found = total(sums)
    return found[0], found[1], found[2]


def with_holes(rows: CentredRows, owner: str) -> CentredRows:
    """Return rows as they are, or as incomplete rows where cells are missing.

    That is known from their mean: no row is looked at for it.
    """
    is_known = isinstance(rows, IncompleteRows)
    holes = not is_known and bool(rows.centre.isnan().any())
    return IncompleteRows.of_rows(rows, owner) if holes else rows


# Where it starts.


@singledispatch
def start_from_cells(
    kind: Covariance, rows: CentredRows, resp: Tensor, reg_covar: Regularisation
) -> Mixture:
    """Start from responsibilities (n, K): moments over the cells that are there.

    A covariance of two features is that of the rows that have both. Filled rows would
    have smaller ones, and EM would need many steps to forget that.
    """
    means, count = _means_of_cells(rows, resp)
    K, d = means.shape
    shape = kind.shape(K, d)
    if isinstance(kind, Matrix):
        covariances = _covariances_of_pairs(rows, resp, means, is_one=len(shape) == 2)
    else:
        variances = _variances_of_cells(rows, resp, means, count)
        covariances = variances if len(shape) == 2 else variances.mean(1)
    nk = positive(resp.T.to(means) @ rows.weight)
    covariances = covariances.reshape(shape)
    covariances = regularised(kind, covariances, kind.per(nk), reg_covar)
    roots = kind.roots(covariances)
    return Mixture(shares(nk, reg_covar), means, covariances, roots)


def _means_of_cells(rows: CentredRows, resp: Tensor) -> tuple[Tensor, Tensor]:
    """Return means (K, d) over the cells that are there, and their counts (K, d)."""
    count, first = rows.centre.new_zeros(2, resp.shape[1], len(rows.centre))
    size = chunk_rows(rows.x.device, 2 * len(rows.centre))
    for (x, weight), r in zip(rows.chunks(size), resp.split(size)):
        weighted = r.T.to(x.dtype) * weight
        count += weighted @ x.isnan().logical_not_().to(x.dtype)
        first += weighted @ x.nan_to_num_(nan=0.0)
    return rows.centre + _ratio(first, count, 0), count


def _variances_of_cells(
    rows: CentredRows, resp: Tensor, means: Tensor, count: Tensor
) -> Tensor:
    """Return variances (K, d) about means, of so many cells."""
    second = torch.zeros_like(means)
    size, whole = chunk_rows(rows.x.device, means.numel()), rows.uncentred()
    for (x, weight), r in zip(whole.chunks(size), resp.split(size)):
        y = (x.T - means[..., None]).nan_to_num_(nan=0.0)
        second += (y.square_() @ (r.T.to(x.dtype) * weight)[..., None]).squeeze(-1)
    return _ratio(second, count, rows.moments()[1])


def _covariances_of_pairs(
    rows: CentredRows, resp: Tensor, means: Tensor, *, is_one: bool
) -> Tensor:
    """Return covariances (K, d, d) about means, or one (1, d, d) of all components."""
    K, d = means.shape
    counts, second = means.new_zeros(2, K, d, d)
    size, rows = chunk_rows(rows.x.device, K * d), rows.uncentred()
    for (x, weight), r in zip(rows.chunks(size), resp.split(size)):
        there = there_of(x).to(x.dtype)
        r = (r.T.to(x.dtype) * weight)[:, None]  # (K, 1, n)
        y = (x.T - means[..., None]).nan_to_num_(nan=0.0)
        counts += (r * there) @ there.T
        second += (r * y) @ y.mT
    if is_one:
        counts, second = counts.sum(0, keepdim=True), second.sum(0, keepdim=True)
    everywhere = second.diagonal(dim1=1, dim2=2).sum(0)
    number = counts.diagonal(dim1=1, dim2=2).sum(0)
    found = _ratio(second, counts, (everywhere / number).diag())
    return _positive_definite(found)


def _ratio(sums: Tensor, counts: Tensor, otherwise: Tensor | float) -> Tensor:
    """Divide sums by counts, where these are not zero."""
    some = counts > 0
    return (sums / counts.where(some, 1)).where(some, otherwise)


def _positive_definite(covariances: Tensor) -> Tensor:
    """Mend covariances (..., d, d) of pairs, which need not be positive definite.

    Eigenvalues of the correlations below the size of the least, where that is negative,
    are noise, and become as large as it.
    """
    scale = covariances.diagonal(dim1=-2, dim2=-1).sqrt()
    outer = scale[..., :, None] * scale[..., None, :]
    values, vectors = torch.linalg.eigh(_ratio(covariances, outer, 0))
    floor = -2 * values[..., :1]
    mended = (vectors * values.clamp(min=floor)[..., None, :]) @ vectors.mT * outer
    return torch.where(floor[..., None] < 0, covariances, mended)


# Steps.


class MatrixSums(NamedTuple):
    """Expected moments of filled rows about some means."""

    log_prob: Tensor  # ()
    counts: Tensor  # (K,)
    first: Tensor  # (K, d)
    second: Tensor  # (K, d, d), or (1, d, d) where components share a covariance

    @classmethod
    def of(
        cls,
        y: Tensor,
        found: Filled,
        resp: Tensor,
        block: Block,
        of_spread: Tensor | None = None,
    ) -> Self:
        """Sum y (K, d, n) and the spread of missing cells, under weighted resp.

        The spread may have weights (K, n) of its own.
        """
        z = y * resp[:, None]
        second = z @ y.mT
        masses = block.summed(resp if of_spread is None else of_spread)
        if len(found.spread) == 1:
            second, masses = second.sum(0, keepdim=True), masses.sum(0, keepdim=True)
        cells = flat_cells(block.missing, None, y.shape[1]).flatten()
        spreads = (found.spread * masses[:, None, None]).flatten(1)
        second.flatten(1).index_add_(1, cells, spreads)
        zero = resp.new_zeros(())
        return cls(zero, resp.sum(1), z.sum(2), second)

    def per(self, kind: Covariance) -> Tensor:
        """Return what each covariance is a mean over, to multiply it by."""
        return kind.per(positive(self.counts))

    def maximise(self, theta: Any) -> tuple[Tensor, Tensor]:
        """Return the shifts of the means (K, d), and covariances."""
        nk = positive(self.counts)
        shift = self.first / nk[:, None]
        if theta.covariances.ndim == 2:
            between = shift.T @ (nk[:, None] * shift)
            return shift, (self.second[0] - between) / nk.sum()
        between = shift[:, :, None] * shift[:, None]
        return shift, self.second / nk[:, None, None] - between


class FeatureSums(NamedTuple):
    """Moments of the cells that are there about some means."""

    log_prob: Tensor  # ()
    counts: Tensor  # (K,)
    cells: Tensor  # (K, d): as the counts, of rows that have the cell
    first: Tensor  # (K, d)
    second: Tensor  # (K, d)

    @classmethod
    def of(
        cls,
        y: Tensor,
        found: Filled,
        resp: Tensor,
        block: Block,
        of_spread: Tensor | None = None,
    ) -> Self:
        """Sum y (K, d, n), under weighted resp."""
        cells = resp @ there_of(block.x).to(y.dtype).T
        first, second = (each @ resp[..., None] for each in (y, y * y))
        zero = resp.new_zeros(())
        return cls(zero, resp.sum(1), cells, first[..., 0], second[..., 0])

    def per(self, kind: Covariance) -> Tensor:
        """Return what each variance is a mean over, to multiply it by."""
        has_each = len(kind.shape(*self.cells.shape)) == 2
        return self.cells if has_each else self.cells.mean(1)

    def maximise(self, theta: Any) -> tuple[Tensor, Tensor]:
        """Return the shifts of the means (K, d), and variances.

        What a component has no cell of stays as it was.
        """
        some = self.cells > 0
        cells = self.cells.where(some, 1)
        shift = (self.first / cells).where(some, 0)
        squares = spread(self.second / cells, shift**2)
        if theta.covariances.ndim == 2:
            return shift, squares.where(some, theta.covariances)
        total = self.cells.sum(1)
        variance = (self.cells * squares).sum(1) / total
        return shift, variance.where(total > 0, theta.covariances)


Sums = MatrixSums | FeatureSums


def sums_for(given: Conditionals) -> type[Sums]:
    """Return the sums that an M-step needs of components of a kind."""
    return FeatureSums if isinstance(given, ByFeature) else MatrixSums


class IncompleteSteps:
    """Steps of EM on rows with missing cells.

    Parameters
    ----------
    kind : Covariance
        The covariance type.
    rows : IncompleteRows
        Rows (n, d).
    reg_covar : float or MixturePrior
        Added to the variances; or priors.
    """

    def __init__(
        self, kind: Covariance, rows: CentredRows, reg_covar: Regularisation
    ) -> None:
        self.kind, self.reg_covar = kind, reg_covar
        self.rows, self.n_rows = rows.at_least_one(), rows.n_rows
        self._sorted: dict[type, list[Block]] = {}

    def __call__(self, theta: Mixture) -> Iterate[Mixture]:
        """E-step and M-step, and the mean log-density of what is there under theta."""
        sums, means, covariances = self._maximised(theta)
        covariances = self._regularised(covariances, sums)
        weights = shares(positive(sums.counts), self.reg_covar)
        found = Mixture(weights, means, covariances, self.kind.roots(covariances))
        return Iterate(found, float(sums.log_prob) / self.n_rows)

    def moments(self, theta: Mixture) -> Iterate[Mixture]:
        """Return the same without ``reg_covar``, and with the roots of before."""
        sums, means, covariances = self._maximised(theta)
        nk = positive(sums.counts)
        found = Mixture(nk / nk.sum(), means, covariances, theta.roots)
        return Iterate(found, float(sums.log_prob) / self.n_rows)

    def _regularised(self, covariances: Tensor, sums: Sums) -> Tensor:
        per = sums.per(self.kind)
        return regularised(self.kind, covariances, per, self.reg_covar)

    def _maximised(self, theta: Mixture) -> tuple[Sums, Tensor, Tensor]:
        """Return sums over all rows, means, and covariances."""
        sums = self.expected(theta)
        shift, covariances = sums.maximise(theta)
        means = theta.means + shift
        variances = self.kind.variances(self._regularised(covariances, sums))
        rounding = shift**2 * torch.finfo(shift.dtype).eps
        if (rounding > LOSS * variances).any():  # moments about the new means
            again, covariances = self.expected(theta, means).maximise(theta)
            means = means + again
        return sums, means, covariances

    def expected(self, theta: Mixture, means: Tensor | None = None) -> Sums:
        """E-step over all rows: moments about the means of theta, or others."""
        given = conditionals(self.kind, *theta[1:])
        move = None if means is None else (theta.means - means)[..., None]
        parts = (self._of_block(given, theta, block, move) for block in self._in(given))
        found: Sums = summed(parts)
        return found

    def _of_block(
        self, given: Conditionals, theta: Mixture, block: Block, move: Tensor | None
    ) -> Sums:
        with threads_for(len(block.x) * theta.means.numel() * len(theta.means[0])):
            found = given(block)
            joint = found.log_density + theta.weights.log()[:, None]
            log_prob, resp = normalise(joint)
            weight = self.rows.weight[block.rows]
            by_feature = isinstance(given, ByFeature)
            y = found.y
            if move is not None:
                y = y + (move * there_of(block.x) if by_feature else move)
            sums = sums_for(given).of(y, found, resp * weight, block)
            return sums._replace(log_prob=(log_prob * weight).sum())

    def _in(self, given: Conditionals) -> list[Block]:
        """Return the rows in blocks: sorted once for each form."""
        form = type(given)
        if form not in self._sorted:
            self._sorted[form] = list(given.blocks(self.rows.x))
        return self._sorted[form]


def summed(parts: Iterable[Any]) -> Any:
    """Add sums over parts of the rows, and those of other processes."""
    found = reduce(added, parts)
    if is_alone():
        return found
    each, kind = tree_flatten(found)
    return tree_unflatten(totals(*each), kind)


def added(one: Any, other: Any) -> Any:
    """Add sums over two parts of the rows."""
    pairs = zip(one, other)
    return type(one)(
        *(added(a, b) if isinstance(a, tuple) else a + b for a, b in pairs)
    )
