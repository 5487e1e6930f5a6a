"""EM in fewer passes: SQUAREM, which extrapolates along two of its steps.

With r = F(theta) - theta and v = F(F(theta)) - F(theta) - r, for a step F of EM, a
cycle goes as far as a quadratic through the three has its end,

    theta' = theta - 2 a r + a^2 v,   a = -max(1, |r| / |v|),

and takes a step of EM from there (Varadhan & Roland 2008, scheme S3). Where theta' is
no mixture, or is less likely than F(theta), the cycle ends at F(F(theta)): so no cycle
lowers what a step of EM does not lower.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from skgen._em.fixed_point import Iterate
from skgen._em.matrices import Covariance
from skgen._em.steps import Mixture
from skgen._utils.chunks import CentredRows

Steps = Callable[[Any], Iterate[Any]]


def squared_steps(
    make_steps: Callable[[Any, CentredRows, Any], Steps],
    kind: Covariance,
    rows: CentredRows,
    reg_covar: Any,
) -> Squared:
    """Return cycles of SQUAREM over the steps that are made."""
    return Squared(kind, make_steps(kind, rows, reg_covar))


class Squared:
    """Cycles of SQUAREM.

    Parameters
    ----------
    kind : Covariance
        The covariance type.
    steps : callable
        A step of EM, and the bound before it.
    """

    def __init__(self, kind: Covariance, steps: Steps) -> None:
        self.kind, self.steps = kind, steps

    def __call__(self, theta: Mixture) -> Iterate[Mixture]:
        """Return the end of a cycle, and the bound before it."""
        first = self.steps(theta)
        second = self.steps(first.state)
        try:
            ahead = self.steps(
                extrapolated(self.kind, theta, first.state, second.state)
            )
        except ValueError:  # what was extrapolated is no mixture
            return Iterate(second.state, first.bound)
        leads = ahead.bound >= second.bound
        return Iterate(ahead.state if leads else second.state, first.bound)


def extrapolated(kind: Covariance, *theta: Mixture) -> Mixture:
    """Return the mixture that three, a step of EM apart, lead to.

    Raises
    ------
    ValueError
        If it is none: a weight or a variance is not positive.
    """
    steps = [_in_units(kind, b, a, theta[0]) for a, b in pairwise(theta)]
    r, v = steps[0].norm(), (steps[1] - steps[0]).norm()
    a: Any = (r / v.clamp(min=torch.finfo(v.dtype).tiny)).clamp(min=1)

    def ahead(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        found: Tensor = x + 2 * a * (y - x) + a**2 * (z - 2 * y + x)
        return found

    weights, means, covariances = map(ahead, *(each[:3] for each in theta))
    if not ((weights > 0).all() and (kind.variances(covariances) > 0).all()):
        raise ValueError("Extrapolated weights or variances are not positive.")
    return Mixture(weights, means, covariances, kind.roots(covariances))


def _in_units(kind: Covariance, new: Mixture, old: Mixture, unit: Mixture) -> Tensor:
    """Return a step of weights, means and variances, in units of mean variances."""
    scale = kind.variances(unit.covariances).mean(0)
    moved = kind.variances(new.covariances) - kind.variances(old.covariances)
    parts = (
        new.weights - old.weights,
        (new.means - old.means) / scale.sqrt(),
        moved / scale,
    )
    return torch.cat([part.flatten() for part in parts])
