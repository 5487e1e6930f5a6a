"""Units of scores."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_scalar


def bits_per_dimension(log_prob: ArrayLike, n_features: int) -> Any:
    """Turn log-densities of rows, in nats, into bits for each feature.

    Parameters
    ----------
    log_prob : float or array-like
        What ``score`` or ``score_samples`` gives: log p(x) of a row, in nats.
    n_features : int
        Number of features of a row.

    Returns
    -------
    bits : float or ndarray
        ``-log_prob / (n_features * log 2)``, in the shape of ``log_prob``; less is
        better.

    Notes
    -----
    Bits depend on the unit of the features. Published numbers for 8-bit images are
    in steps of the 256 grey values: for rows that were divided by 256, add 8.

    References
    ----------
    Theis, van den Oord & Bethge, "A note on the evaluation of generative models",
    ICLR 2016.

    Examples
    --------
    >>> import math
    >>> from skgen.metrics import bits_per_dimension
    >>> bits_per_dimension(-10 * math.log(2), n_features=5)
    2.0
    """
    check_scalar(n_features, "n_features", Integral, min_val=1)
    bits = -np.asarray(log_prob, dtype=np.float64) / (n_features * math.log(2))
    return bits if bits.ndim else float(bits)
