"""Sparse rows, of which blocks are made dense when they are used.

A `SparseRows` stands where a tensor (n, d) does in what takes rows a chunk at a time:
selections of rows stay sparse, and ``split``, ``to`` and `dense` give tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from skgen._utils.tensors import shared, to_array, wide_dtype


class SparseRows:
    """Rows (n, d) of a SciPy matrix in CSR format, as tensors on a device.

    Parameters
    ----------
    matrix : csr_array or csr_matrix of shape (n, d)
        The rows, of float32 or float64.
    device : torch.device
        Where dense blocks of them go.
    """

    ndim = 2
    is_cpu = True  # where they are stored

    def __init__(self, matrix: Any, device: torch.device) -> None:
        self.matrix, self.device = matrix, device

    @property
    def shape(self) -> torch.Size:
        """Shape (n, d) of the rows."""
        return torch.Size(self.matrix.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the numbers of dense blocks."""
        is_wide = self.matrix.dtype == np.float64
        return wide_dtype(self.device) if is_wide else torch.float32

    def __len__(self) -> int:
        n: int = self.matrix.shape[0]
        return n

    def dense(self) -> Tensor:
        """Return all rows as a tensor on the device."""
        return shared(self.matrix.toarray()).to(self.device, self.dtype)

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return all rows as a tensor, placed or cast as ``Tensor.to`` does."""
        return self.dense().to(*args, **kwargs)

    def __getitem__(self, key: Any) -> Any:
        """Select rows; the tensor (n,) of a column, or (d,) of one row."""
        if isinstance(key, tuple):
            column = self.matrix[:, [key[1]]]
            return SparseRows(column, self.device).dense()[:, 0]
        key = to_array(key) if isinstance(key, Tensor) else key
        if np.ndim(key) == 0 and not isinstance(key, slice):
            return self[int(key) : int(key) + 1].dense()[0]
        return SparseRows(self.matrix[key], self.device)

    def index_select(self, dim: int, index: Tensor) -> SparseRows:
        """Select rows, as ``Tensor.index_select`` does along the first dimension."""
        found: SparseRows = self[index]
        return found

    def split(self, size: int) -> Sequence[Tensor]:
        """Return dense blocks of rows, each made when it is asked for."""
        return _Blocks(self, size)

    def new_zeros(self, *shape: int) -> Tensor:
        """Return zeros in the dtype of the rows and on the device."""
        return torch.zeros(*shape, dtype=self.dtype, device=self.device)

    def new_empty(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """Return memory in the dtype of the rows and on the device."""
        return torch.empty(*shape, dtype=dtype or self.dtype, device=self.device)

    def equal(self, other: Any) -> bool:
        """Return whether others are the same rows."""
        if not isinstance(other, SparseRows) or self.shape != other.shape:
            return False
        one, two = self.matrix, other.matrix
        return one is two or (one.dtype == two.dtype and not (one != two).nnz)


class _Blocks(Sequence[Any]):
    """Dense blocks of sparse rows."""

    def __init__(self, rows: SparseRows, size: int) -> None:
        self.rows, self.size = rows, size

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def __getitem__(self, i: Any) -> Any:
        if not 0 <= i < len(self):
            raise IndexError(i)
        block: SparseRows = self.rows[i * self.size : (i + 1) * self.size]
        return block.dense()

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))


def dense(x: Any) -> Any:
    """Return sparse rows as a tensor, a sparse matrix as an array; others as is."""
    if isinstance(x, SparseRows):
        return x.dense()
    return x.toarray() if scipy.sparse.issparse(x) else x


def on_host(x: Any) -> Any:
    """Return rows as an array or a sparse matrix, as scikit-learn takes them."""
    return x.matrix if isinstance(x, SparseRows) else to_array(x)


def equal(one: Any, other: Any) -> bool:
    """Return whether tensors or sparse rows are equal."""
    if isinstance(one, SparseRows) or isinstance(other, SparseRows):
        return isinstance(one, SparseRows) and one.equal(other)
    return torch.equal(one, other)


def as_csr(X: Any) -> Any:
    """Return a matrix in CSR format as compiled code takes it: indices of 32 bits."""
    X.sum_duplicates()
    if X.indices.dtype != np.int32 and max(*X.shape, X.nnz) < 2**31:
        X = X.copy()
        X.indices, X.indptr = X.indices.astype(np.int32), X.indptr.astype(np.int32)
    return X


def has_missing(X: Any) -> bool:
    """Return whether a number that is stored is NaN."""
    data: NDArray[Any] = X.data
    return bool(np.isnan(data).any())
