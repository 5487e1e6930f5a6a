"""Mean and covariance of normal rows with missing cells, by EM."""

from __future__ import annotations

import math

from torch import Tensor

from skgen._em.covariance import COVARIANCES
from skgen._em.incomplete import IncompleteRows, IncompleteSteps, start_from_cells
from skgen._utils.chunks import CentredRows

FULL = COVARIANCES["full"]
# Steps at most, and nats of all rows a column, below which they end: few rows gain more
# from what is theirs alone.
MOST_STEPS, LEAST_GAIN = 50, 0.5
# Rows, and multiplications of a step, at most; and rows for a column, at least.
MOST_ROWS, MOST_WORK, LEAST_ROWS = 2**14, 2e9, 5
# Added to variances, in those of standardised columns.
RIDGE = 1e-6


def likeliest_moments(x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return the likeliest mean (d,) and covariance (d, d) of rows (n, d) with holes.

    Cells are missing at random: moments over the cells, or pairs, that are there would
    be those of other rows. Of many rows the first are taken; None where there are too
    few of them, or too many columns.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        Rows of about unit scale, NaN where missing.
    """
    d = x.shape[1]
    x = x[: min(MOST_ROWS, int(MOST_WORK / d**3))]
    known = x[~x.isnan().all(1)]
    if len(known) < LEAST_ROWS * d or known.isnan().all(0).any():
        return None
    rows = IncompleteRows.of_rows(CentredRows.of(known, None), "EM")
    everywhere = rows.centre.new_ones(len(known), 1)
    try:
        theta = start_from_cells(FULL, rows, everywhere, RIDGE)
        steps, last = IncompleteSteps(FULL, rows, RIDGE), -math.inf
        for _ in range(MOST_STEPS):
            theta, bound = steps(theta)
            if (bound - last) * len(known) < LEAST_GAIN * d:
                break
            last = bound
    except ValueError:  # columns that depend on each other
        return None
    covariance = FULL.add(theta.covariances, -RIDGE)[0]
    return theta.means[0], covariance
