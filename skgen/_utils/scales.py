"""Scales of columns: the least variance of a density, and warnings."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skgen._utils.chunks import CentredRows
from skgen._utils.sparse import SparseRows
from skgen._utils.tensors import to_array

# Standard deviations below this have squares that lose digits, or are 0.
SMALLEST = 1e-150
# Least standard deviation that is found for a column, in units of its spread.
NARROWEST = 1e-3


def column_scale(x: NDArray[Any]) -> tuple[float, float, float]:
    """Return middle and spread of a column, and the least variance in its units.

    The spread is that of the middle half, where there is one. Cells that repeat are
    rounded: their steps are noise, whose variance is a twelfth of the square. Of a
    constant column nothing is known but that no row of n was elsewhere: it gets the
    variance of one row of n that is as far from it as zero is, or one.
    """
    x = np.sort(x[~np.isnan(x)])
    if not len(x):
        return 0.0, 1.0, NARROWEST**2
    low, middle, high = np.quantile(x, [0.25, 0.5, 0.75])
    spread = float(high - low) / 1.349 or float(x.std())
    if spread <= 4 * np.finfo(float).eps * abs(middle):
        floor = max(NARROWEST**2, 1 / len(x))
        return float(middle), abs(float(middle)) or 1.0, floor
    gaps = np.diff(x)
    gaps = gaps[gaps > 0]
    is_rounded = len(gaps) < len(x) / 2
    step = float(np.quantile(gaps, 0.1)) if is_rounded else 0.0
    floor = max(NARROWEST**2, min(step / spread, 1.0) ** 2 / 12)
    return float(middle), spread, floor


def least_variances(rows: CentredRows) -> Tensor:
    """Return the least variance (d,) that suits each column of rows (n, d).

    As `column_scale` has it; of sparse rows, by the variance alone. Constant columns
    get that of one row in n, at the typical distance in the others.
    """
    if isinstance(rows.x, SparseRows):
        return least_of_moments(*rows.moments(), float(rows.n_rows))
    columns = to_array(rows.x).astype(np.float64, copy=False).T
    found = [spread**2 * floor for _, spread, floor in map(column_scale, columns)]
    varies = [np.nanmax(x) > np.nanmin(x) for x in columns]
    return _with_constants(
        rows.centre.new_tensor(found),
        rows.centre.new_tensor([np.nanvar(x) for x in columns]),
        torch.tensor(varies, device=rows.centre.device),
        len(rows.x),
    )


def least_of_moments(mean: Tensor, variance: Tensor, weight: float) -> Tensor:
    """Return the least variance (d,) of columns of which only moments are known.

    Parameters
    ----------
    mean, variance : Tensor of shape (d,)
        Mean and variance of each column.
    weight : float
        Total weight of the rows.

    Returns
    -------
    least : Tensor of shape (d,)
        The square of a thousandth of the standard deviation. Constant columns get the
        variance of one row in n, at the typical distance in the others.
    """
    varies = _varies(mean, variance)
    return _with_constants(NARROWEST**2 * variance, variance, varies, weight)


def _with_constants(
    least: Tensor, variance: Tensor, varies: Tensor, n: float
) -> Tensor:
    """Give constant columns the geometric mean of the variances of others, over n."""
    typical = variance[varies].log().mean().exp() if varies.any() else 1.0
    return torch.where(varies, least, typical / n)


def warn_scales(rows: CentredRows, reg_covar: float | str, owner: str) -> Tensor:
    """Warn where ``reg_covar`` or float64 does not suit a column; return variances.

    Parameters
    ----------
    rows : CentredRows
        Rows (n, d), seen from their weighted mean or close to it.
    reg_covar : float or "auto"
        What the model adds to variances.
    owner : str
        Name of the estimator, for the messages.

    Returns
    -------
    variance : Tensor of shape (d,)
        Weighted variance of each column.

    Warns
    -----
    UserWarning
        As `warn_large_reg_covar` and `warn_tiny` do.
    """
    mean, variance = rows.moments()
    warn_large_reg_covar(reg_covar, mean, variance, owner)
    warn_tiny(rows, mean, variance, owner)
    return variance


def warn_large_reg_covar(
    reg_covar: float | str, mean: Tensor, variance: Tensor, owner: str
) -> None:
    """Warn if ``reg_covar`` is above a tenth of the smallest variance of a column.

    A constant column has no variance but rounding, and does not count; nor does one
    that `warn_tiny` warns about.

    Parameters
    ----------
    reg_covar : float or "auto"
        What the model adds to variances, in squared units of the data.
    mean, variance : Tensor of shape (d,)
        Mean and variance of each column.
    owner : str
        Name of the estimator, for the message.

    Warns
    -----
    UserWarning
        With the column, its variance, and a value of ``reg_covar`` that would do.
    """
    if isinstance(reg_covar, str) or not reg_covar:
        return
    varies = _varies(mean, variance)
    column = int(variance.where(varies, torch.inf).argmin())
    smallest = float(variance[column])
    if not varies[column] or reg_covar <= smallest / 10:
        return
    # A power of ten, so that the message is short, and between a hundredth and a tenth.
    value = 10.0 ** math.floor(math.log10(smallest) - 1)
    warnings.warn(
        f"reg_covar={reg_covar:.3g} of {owner} is more than a tenth of the variance of "
        f"column {column}, {smallest:.3g}, which it blurs. Set "
        f"reg_covar={value:.0e} or less, or rescale the columns "
        "(sklearn.preprocessing.StandardScaler).",
        UserWarning,
        stacklevel=2,
    )


def warn_collapsed(
    rows: CentredRows, reg_covar: float, variances: Tensor, owner: str
) -> None:
    """Warn if values repeat, and a component has no width there but ``reg_covar``.

    Parameters
    ----------
    rows : CentredRows
        Rows (n, d).
    reg_covar : float
        What the model adds to variances, in squared units of the data.
    variances : Tensor of shape (K, d)
        Variances of the components, with it.
    owner : str
        Name of the estimator, for the message.

    Warns
    -----
    UserWarning
        With a column and the remedies.
    """
    is_narrow = (variances < 2 * reg_covar).any(0)
    if not is_narrow.any():
        return
    _, variance = rows.moments()
    # Of those that it blurs, `warn_large_reg_covar` warns.
    is_narrow = is_narrow & ((variance > 10 * reg_covar) | (variance == 0))
    columns = [j for j in is_narrow.nonzero().flatten().tolist() if _repeats(rows.x, j)]
    if columns:
        which = f"{len(columns)} columns of X, such as {columns[0]},"
        warnings.warn(
            f"Components of {owner} have no width but reg_covar={reg_covar:.3g} in "
            f"{which if len(columns) > 1 else f'column {columns[0]} of X,'} where "
            "values repeat: the density has no ceiling there. Set reg_covar='auto', "
            "leave such columns out, or take MixtureEM or MixedDensity, which know "
            "levels and counts.",
            UserWarning,
            stacklevel=2,
        )


def _repeats(x: Any, column: int) -> bool:
    """Return whether at most half of the cells of a column are different.

    Sparse columns repeat by their nature, and "auto" does not see their steps.
    """
    if isinstance(x, SparseRows):
        return False
    cells = x[:, column]
    cells = cells[~cells.isnan()]
    return 2 * len(cells.unique()) <= len(cells)


def warn_tiny(rows: CentredRows, mean: Tensor, variance: Tensor, owner: str) -> None:
    """Warn if a column varies by so little that its variance counts as 0.

    Squares of numbers below 1e-150 lose digits in float64, and those below 1e-162
    are 0.

    Parameters
    ----------
    rows : CentredRows
        Rows (n, d).
    mean, variance : Tensor of shape (d,)
        Mean and variance of each column.
    owner : str
        Name of the estimator, for the message.

    Warns
    -----
    UserWarning
        With the column and its largest deviation.
    """
    for column in (variance < SMALLEST**2).nonzero().flatten().tolist():
        x = rows.x[:, column]
        x = x[~x.isnan()]
        deviation = float((x - x[:1]).abs().max()) if len(x) else 0.0
        if deviation > float(_rounding(mean[column])):
            warnings.warn(
                f"Column {column} of X varies by {deviation:.3g} at most, whose square "
                f"underflows: it counts as constant in {owner}. Rescale X to "
                f"magnitudes above {SMALLEST:.0e}.",
                UserWarning,
                stacklevel=2,
            )
            return


def _varies(mean: Tensor, variance: Tensor) -> Tensor:
    """Return which columns (d,) vary by more than rounding."""
    return variance > (_rounding(mean) ** 2).clamp(min=SMALLEST**2)


def _rounding(mean: Tensor) -> Tensor:
    """Return the standard deviation that rounding may give to a constant column."""
    return 4 * torch.finfo(mean.dtype).eps * mean.abs()
