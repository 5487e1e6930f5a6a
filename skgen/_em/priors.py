"""Priors of mixtures: what regularises the M-step.

Weights have a Dirichlet prior, covariances an inverse-Wishart one (of variances, an
inverse gamma): up to a constant,

    a sum_k log w_k  -  1/2 sum_k (s log |S_k| + tr(Psi S_k^-1)),

under which EM climbs log p(x) and that together. The M-step adds a rows to the weight
of each component, and s rows to its covariance, whose squares sum up to Psi:

    w_k ~ n_k + a,   S_k = (n_k S_k + Psi) / (n_k + s).

Of factor analysers the noise has the prior, in the place of S.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from skgen._em.fixed_point import Iterate
from skgen._em.matrices import Covariance
from skgen._utils.chunks import CentredRows


class MixturePrior(NamedTuple):
    """Priors, and what is added to variances beside them."""

    reg_covar: float | Tensor
    rows: float  # s
    scatter: Tensor | None  # Psi of one component; None for no prior of covariances
    weight: float  # a

    def plus(self, ridge: float | Tensor) -> MixturePrior:
        """Return the same with more added to the variances."""
        return self._replace(reg_covar=self.reg_covar + ridge)

    def log_density(self, kind: Covariance, theta: Any) -> Tensor:
        """Return the log-density at weights and roots, up to a constant, ()."""
        found: Tensor = theta.weights.new_zeros(())
        if self.weight:
            found = found + self.weight * theta.weights.log().sum()
        if self.scatter is None:
            return found
        log_det, trace = kind.penalties(theta.roots, theta.means, self.scatter)
        penalised: Tensor = found - 0.5 * (self.rows * log_det + trace)
        return penalised


#: What is added to the variances, or priors.
Regularisation = float | Tensor | MixturePrior


def regularised(
    kind: Covariance, covariances: Tensor, per: Tensor, by: Regularisation
) -> Tensor:
    """Return the covariances of an M-step, which are means over so much weight."""
    if not isinstance(by, MixturePrior):
        return kind.add(covariances, by)
    if by.scatter is not None:
        covariances = kind.shrunk(covariances, per, by.rows, by.scatter)
    return kind.add(covariances, by.reg_covar)


def shares(counts: Tensor, by: Regularisation) -> Tensor:
    """Return weights (K,) of components that have so many rows."""
    if isinstance(by, MixturePrior) and by.weight:
        counts = counts + by.weight
    return counts / counts.sum(-1, keepdim=True)


def with_ridge(by: Regularisation, ridge: float | Tensor) -> Regularisation:
    """Add more to the variances."""
    return by.plus(ridge) if isinstance(by, MixturePrior) else by + ridge


class PenalisedSteps:
    """Steps of EM whose bound is the mean log-density and a share of the prior.

    Parameters
    ----------
    steps : callable
        Steps that were made with the prior.
    prior : MixturePrior
        The prior.
    n_rows : int
        Total weight of the rows.
    """

    def __init__(self, steps: Any, prior: MixturePrior, n_rows: int) -> None:
        self.steps, self.prior, self.n_rows = steps, prior, n_rows

    def __call__(self, theta: Any) -> Iterate[Any]:
        """Return both steps, and the bound under theta."""
        found = self.steps(theta)
        penalty = float(self.prior.log_density(self.steps.kind, theta))
        return Iterate(found.state, found.bound + penalty / self.n_rows)


def penalised_steps(
    make_steps: Callable[..., Any], kind: Covariance, rows: CentredRows, by: Any
) -> PenalisedSteps:
    """Return steps of EM under priors."""
    return PenalisedSteps(make_steps(kind, rows, by), by, rows.n_rows)


def conjugate(
    whole: Tensor, K: int, d: int, rows: float | None
) -> tuple[float, Tensor]:
    """Return s and Psi, from the covariance of all rows as one component.

    Divided by ``K ** (2 / d)``, so that K of them fill the place of all rows. Without a
    number of rows, those of Fraley & Raftery (2007), with d + 2 degrees of freedom.
    """
    each = whole / K ** (2 / d)
    if rows is not None:
        return rows, rows * each
    if each.ndim == 2:  # a matrix
        return float(2 * d + 3), each
    if each.ndim == 0:  # one variance for all features
        return (d + 4) / d, each / d
    return float(d + 4), each
