"""Warnings about columns whose scale does not suit a model."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from skgen._utils.chunks import CentredRows

# Standard deviations below this have squares that lose digits, or are 0.
SMALLEST = 1e-150


def warn_scales(rows: CentredRows, reg_covar: float, owner: str) -> Tensor:
    """Warn where ``reg_covar`` or float64 does not suit a column; return variances.

    Parameters
    ----------
    rows : CentredRows
        Rows (n, d), seen from their weighted mean or close to it.
    reg_covar : float
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
    reg_covar: float, mean: Tensor, variance: Tensor, owner: str
) -> None:
    """Warn if ``reg_covar`` is above a tenth of the smallest variance of a column.

    A constant column has no variance but rounding, and does not count; nor does one
    that `warn_tiny` warns about.

    Parameters
    ----------
    reg_covar : float
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
    if not reg_covar:
        return
    varies = variance > (_rounding(mean) ** 2).clamp(min=SMALLEST**2)
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


def _rounding(mean: Tensor) -> Tensor:
    """Return the standard deviation that rounding may give to a constant column."""
    return 4 * torch.finfo(mean.dtype).eps * mean.abs()
