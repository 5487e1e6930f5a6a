"""Normal densities of the cells that are there, and of the others given these.

Of a row with the cells O there and the cells M missing, a component N(m, S) says

    log N(x_O; m_O, S_OO),   E[x_M | x_O],   Cov[x_M | x_O],

which need one small matrix for each pattern of missing cells. Where few are missing,
that is of the precision L = S^-1, for m x m instead of (d - m) x (d - m) cells:

    Cov[x_M | x_O] = L_MM^-1,   E[x_M | x_O] = m_M - L_MM^-1 L_MO (x_O - m_O),
    log |S_OO| = log |S| + log |L_MM|.

A nearly singular S costs these forms digits; then S_OO itself is decomposed. Where
features are independent, missing cells are left out of sums, and nothing is solved.

Shapes: K components, n rows, d features; m missing cells in each of P patterns. Small
matrices (K, m, m, P) lie along the patterns, so that one operation serves them all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import singledispatch
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skgen._em.matrices import ILL_DEFINED, Covariance, Matrix
from skgen._utils.chunks import chunk_rows, slices
from skgen._utils.tensors import LOG_2PI, to_array, to_tensor

# Nats that a log-density may lose by rounding in the form by precisions.
LOSS = 1e-8
# Size up to which matrices of all patterns are inverted by operations on them all.
SWEPT = 8
# Missing cells above which a block has the rows of one pattern alone.
LARGE = 32


class Block(NamedTuple):
    """Rows with equally many missing cells, those of a pattern side by side.

    Where patterns do not matter, they are not told apart: none is known to miss cells.
    """

    rows: Tensor  # (n,): which of all rows
    x: Tensor  # (n, d), NaN where missing
    missing: Tensor  # (m, P): columns that a pattern lacks
    pattern: Tensor  # (n,): pattern of each row

    @property
    def cells(self) -> Tensor:
        """Columns that each row lacks, (m, n)."""
        return self.missing[:, self.pattern]

    @property
    def n_patterns(self) -> int:
        """P."""
        return self.missing.shape[1]

    def of_rows(self, by_pattern: Tensor) -> Tensor:
        """Turn what is known by pattern (..., P) into one by row (..., n)."""
        each = self.n_patterns == len(self.pattern)
        return by_pattern if each else by_pattern.index_select(-1, self.pattern)

    def summed(self, by_row: Tensor) -> Tensor:
        """Sum over the rows of each pattern, (K, n) to (K, P)."""
        if self.n_patterns == len(self.pattern):
            return by_row
        sums = by_row.new_zeros(len(by_row), self.n_patterns)
        return sums.index_add_(1, self.pattern, by_row)


def blocks(x: Tensor, elements: Callable[[int], int]) -> Iterator[Block]:
    """Sort rows (n, d) by pattern, and cut them into blocks that suit the device.

    ``elements`` says how many numbers a row with so many missing cells holds.
    """
    mask = to_array(x.isnan())
    count = mask.sum(1)
    words = _words(mask)
    order = np.lexsort((*words.T, count))
    is_new = np.ones(len(x), dtype=bool)
    is_new[1:] = (words[order[1:]] != words[order[:-1]]).any(1)
    pattern = np.cumsum(is_new) - 1
    starts = np.flatnonzero(is_new)
    columns = mask[order[starts]]
    for m, first, last in _groups(count[order]):
        size = chunk_rows(x.device, elements(m))
        for rows in _cut(pattern[first:last], size, one_pattern=m > LARGE):
            part = slice(first + rows.start, first + rows.stop)
            low, high = pattern[part.start], pattern[part.stop - 1]
            found = columns[low : high + 1].nonzero()[1]
            missing = found.reshape(high + 1 - low, m).T
            arrays = (order[part], missing, pattern[part] - low)
            index, *known = (to_tensor(array, x.device) for array in arrays)
            yield Block(index, features_first(x[index]), *known)


def features_first(x: Tensor) -> Tensor:
    """Lay rows (n, d) in memory as all that is made of them, features first."""
    return x.T.contiguous().T


def _words(mask: NDArray[Any]) -> NDArray[Any]:
    """Pack a mask (n, d) into words of 64 bits."""
    bits = np.packbits(mask, axis=1)
    padded = np.zeros((len(mask), -(-bits.shape[1] // 8) * 8), dtype=np.uint8)
    padded[:, : bits.shape[1]] = bits
    return padded.view(np.uint64)


def _groups(count: NDArray[Any]) -> Iterator[tuple[int, int, int]]:
    """Yield each value of increasing counts (n,), and where it begins and ends."""
    values, first = np.unique(count, return_index=True)
    yield from zip(values.tolist(), first.tolist(), [*first[1:].tolist(), len(count)])


def _cut(pattern: NDArray[Any], size: int, *, one_pattern: bool) -> Iterator[slice]:
    """Cut rows of increasing patterns (n,) into slices, of one pattern if asked."""
    bounds = [0, len(pattern)]
    if one_pattern:
        bounds[1:1] = (np.flatnonzero(np.diff(pattern)) + 1).tolist()
    for low, high in pairwise(bounds):
        for part in slices(high - low, size):
            yield slice(low + part.start, low + part.stop)


class Filled(NamedTuple):
    """Rows of a block as each component expects them."""

    y: Tensor  # (K, d, n): rows less the mean, with E[x_M | x_O] - m_M where missing
    n_cells: Tensor | int  # that are there, (n,)
    log_det: Tensor  # (K, n): log |S_OO|
    squares: Tensor  # (K, n): squared Mahalanobis distance of x_O
    spread: Tensor  # (K or 1, m, m, P): Cov[x_M | x_O]

    @property
    def log_density(self) -> Tensor:
        """Log N(x_O; m_k, S_k), (K, n)."""
        return log_normal(self.n_cells, self.log_det, self.squares)


class Conditionals(ABC):
    """Conditional densities of the components, of incomplete rows.

    Parameters
    ----------
    means : Tensor of shape (K, d)
        Means.
    """

    def __init__(self, means: Tensor) -> None:
        self.means = means

    def __call__(self, block: Block) -> Filled:
        """Fill rows, and evaluate what is there of them."""
        x = block.x.to(self.means.dtype)
        found = self.fill((x.T - self.means[..., None]).nan_to_num_(nan=0.0), block)
        if len(block.missing) == x.shape[1]:  # nothing is there, for certain
            found.log_det.zero_()
            found.squares.zero_()
        return found

    @abstractmethod
    def fill(self, y: Tensor, block: Block) -> Filled:
        """Fill differences to the means (K, d, n), which are zero where missing."""

    @abstractmethod
    def elements(self, m: int) -> int:
        """Return how many numbers a row with m missing cells holds."""

    def blocks(self, x: Tensor) -> Iterator[Block]:
        """Cut rows (n, d) into blocks that suit the device."""
        return blocks(x, self.elements)


class ByPrecision(Conditionals):
    """By the inverse of L_MM, for each pattern.

    With a condition number c of L, a log-density loses some eps c^2 nats; ``refines``
    repeats the solution, for its residual, and loses some eps c.
    """

    def __init__(
        self, kind: Covariance, means: Tensor, roots: Tensor, *, refines: bool = False
    ) -> None:
        super().__init__(means)
        d = means.shape[1]
        self.roots = roots.reshape(-1, d, d)
        self.precisions = kind.precisions(self.roots)
        self.log_det = 2 * kind.log_det(roots, d)  # of the precisions: (K,) or (1,)
        self.refines = refines

    def elements(self, m: int) -> int:
        K, d = self.means.shape
        return K * max(d, m * m)

    def fill(self, y: Tensor, block: Block) -> Filled:
        K, d, n = y.shape
        m = len(block.missing)
        cells = block.cells.expand(K, m, n)
        spread, log_det = inverse_and_log_det(at_cells(self.precisions, block.missing))
        pulled = self.precisions @ y
        force = pulled.gather(1, cells)
        found = -product(spread, force, block)
        squares = None if self.refines else (y * pulled).sum(1)
        y.scatter_(1, cells, found)
        if squares is None:
            force = (self.precisions @ y).gather(1, cells)
            y.scatter_add_(1, cells, -product(spread, force, block))
            squares = (self.roots.mT @ y).square_().sum(1)
        else:
            squares += (force * found).sum(1)
        log_det = block.of_rows(log_det) - self.log_det[:, None]  # of S_OO
        return Filled(y, d - m, log_det, squares.clamp_(min=0), spread)


class ByCovariance(Conditionals):
    """By the Cholesky factor of S_OO, for each pattern: slower, and loses no digits."""

    def __init__(self, covariances: Tensor, means: Tensor) -> None:
        super().__init__(means)
        d = means.shape[1]
        self.covariances = covariances.reshape(-1, d, d)

    def elements(self, m: int) -> int:
        K, d = self.means.shape
        return K * d * d

    def fill(self, y: Tensor, block: Block) -> Filled:
        K, d, n = y.shape
        m = len(block.missing)
        there = _others(block.missing, d)
        lower = _cholesky(at_cells(self.covariances, there).movedim(-1, -3))
        own = lower[:, block.pattern]  # (K, n, o, o)
        cells = there[:, block.pattern].expand(K, d - m, n)
        seen = y.gather(1, cells).mT[..., None]
        white = torch.linalg.solve_triangular(own, seen, upper=False)
        pull = torch.linalg.solve_triangular(own.mT, white, upper=True)[..., 0].mT
        expected = self.covariances @ torch.zeros_like(y).scatter_(1, cells, pull)
        cells = block.cells.expand(K, m, n)
        y.scatter_(1, cells, expected.gather(1, cells))
        log_det = 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        squares = white[..., 0].square_().sum(-1)
        spread = self._spread(lower, there, block)
        return Filled(y, d - m, block.of_rows(log_det), squares, spread)

    def _spread(self, lower: Tensor, there: Tensor, block: Block) -> Tensor:
        """S_MM - S_MO S_OO^-1 S_OM."""
        cross = at_cells(self.covariances, there, block.missing).movedim(-1, -3)
        white = torch.linalg.solve_triangular(lower, cross, upper=False)
        own = at_cells(self.covariances, block.missing)
        found: Tensor = own - (white.mT @ white).movedim(-3, -1)
        return found


def blocks_of_any_pattern(x: Tensor, elements: int) -> Iterator[Block]:
    """Cut rows (n, d) into blocks whose rows need not miss the same cells.

    The work of a row has so many elements.
    """
    none = torch.zeros(0, 1, dtype=torch.long, device=x.device)
    for part in slices(len(x), chunk_rows(x.device, elements)):
        rows = torch.arange(part.start, part.stop, device=x.device)
        yield Block(rows, features_first(x[part]), none, torch.zeros_like(rows))


class ByFeature(Conditionals):
    """Independent features: a missing cell says nothing, and is its mean."""

    def __init__(self, kind: Covariance, means: Tensor, roots: Tensor) -> None:
        super().__init__(means)
        self.roots = kind.variances(roots).expand_as(means)

    def elements(self, m: int) -> int:
        return self.means.numel()

    def fill(self, y: Tensor, block: Block) -> Filled:
        there = there_of(block.x).to(y.dtype)
        squares = ((self.roots**2)[:, None] @ (y * y)).squeeze(1)
        log_det = -2 * self.roots.log() @ there
        return Filled(y, there.sum(0), log_det, squares, y.new_zeros(0))

    def blocks(self, x: Tensor) -> Iterator[Block]:
        return blocks_of_any_pattern(x, self.elements(0))


@singledispatch
def conditionals(
    kind: Covariance, means: Tensor, covariances: Tensor, roots: Tensor
) -> Conditionals:
    """Return the conditionals of components in the fastest form that loses no digits.

    Parameters
    ----------
    kind : Covariance
        The covariance type.
    means, covariances, roots : Tensor
        Of K components, shaped by the covariance type.
    """
    return ByFeature(kind, means, roots)


@conditionals.register
def _of_matrices(
    kind: Matrix, means: Tensor, covariances: Tensor, roots: Tensor
) -> Conditionals:
    size = kind.variances(covariances).sqrt()
    terms = size[..., :, None] * kind.precisions(roots) * size[..., None, :]
    condition = float(terms.flatten(-2).norm(dim=-1).amax())
    loss = condition * torch.finfo(terms.dtype).eps
    if loss < LOSS:
        refines = not condition * loss < LOSS
        return ByPrecision(kind, means, roots, refines=refines)
    return ByCovariance(covariances, means)


def there_of(x: Tensor) -> Tensor:
    """Say of rows (n, d) which cells are there, (d, n)."""
    return x.T.isnan().logical_not_()


def at_cells(matrices: Tensor, rows: Tensor, columns: Tensor | None = None) -> Tensor:
    """Take entries of matrices (K, d, d): (K, a, b, P) at rows (a, P), columns (b, P).

    Without columns, they are the rows.
    """
    return matrices.flatten(1)[:, flat_cells(rows, columns, matrices.shape[-1])]


def flat_cells(rows: Tensor, columns: Tensor | None, d: int) -> Tensor:
    """Return indices (a, b, P) into flat matrices (d * d)."""
    columns = rows if columns is None else columns
    return rows[:, None] * d + columns[None]


def product(matrices: Tensor, vectors: Tensor, block: Block) -> Tensor:
    """Multiply matrices (K, m, m, P) by the vectors (K, m, n) of each row."""
    if block.n_patterns == 1:
        return matrices[..., 0] @ vectors
    by_row = block.of_rows(matrices)
    found = torch.zeros_like(vectors)
    for j in range(vectors.shape[1]):
        found.addcmul_(by_row[:, :, j], vectors[:, None, j])
    return found


def inverse_and_log_det(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Invert positive definite (K, m, m, P), and return log-determinants (K, P)."""
    if matrices.shape[1] <= SWEPT:
        return _swept(matrices)
    lower = _cholesky(matrices.movedim(-1, -3))
    log_det = 2 * lower.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return torch.cholesky_inverse(lower).movedim(-3, -1).contiguous(), log_det


def _swept(a: Tensor) -> tuple[Tensor, Tensor]:
    """Sweep one row after the other (Beaton 1964), of all patterns at once."""
    log_det = a.new_zeros(len(a), a.shape[-1])
    for j in range(a.shape[1]):
        pivot = a[:, j, j].clone()
        log_det += pivot.log()
        row, column = a[:, j] / pivot[:, None], a[:, :, j] / -pivot[:, None]
        a = torch.addcmul(a, a[:, :, j, None], row[:, None], value=-1)
        a[:, j], a[:, :, j], a[:, j, j] = row, column, 1 / pivot
    return a, log_det


def log_normal(n_cells: Tensor | int, log_det: Tensor, squares: Tensor) -> Tensor:
    """Log-density (K, n) of so many cells, by their covariance and distance."""
    return -0.5 * (n_cells * LOG_2PI + log_det + squares)


def _others(missing: Tensor, d: int) -> Tensor:
    """Columns (o, P) that are not missing."""
    is_there = torch.ones(missing.shape[1], d, dtype=torch.bool, device=missing.device)
    is_there.scatter_(1, missing.T, False)
    return is_there.nonzero()[:, 1].view(len(is_there), d - len(missing)).T


def _cholesky(matrices: Tensor) -> Tensor:
    lower, info = torch.linalg.cholesky_ex(matrices)
    if info.any():
        raise ValueError(ILL_DEFINED)
    found: Tensor = lower
    return found
