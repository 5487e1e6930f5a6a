"""Stepwise EM: the sums of a batch replace a part of those so far.

Parameters and sums are functions of each other: a mixture stands for the sums that it
is of, those of one row. So nothing else is kept, and moments are merged about their own
means, where no difference of large sums cancels.

References: Cappé & Moulines, "On-line expectation-maximization algorithm for latent
data models", JRSS B 71(3), 2009; Liang & Klein, "Online EM for unsupervised models",
NAACL 2009.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from skgen._em.fixed_point import Iterate
from skgen._em.incomplete import FeatureSums, IncompleteRows, IncompleteSteps
from skgen._em.steps import (
    EMSteps,
    Mixture,
    SufficientStatistics,
    one_pass,
    positive,
)
from skgen._utils.chunks import CentredRows


def step_size(t: float, decay: float) -> float:
    """Return the part of the sums that batch t replaces."""
    return float((t + 2) ** -decay)


def blended(
    kind: Any, theta: Mixture, found: Mixture, reg_covar: Any, rate: float
) -> Mixture:
    """Replace a part of what theta is of by what was found: both as one set of rows.

    Covariances found are without ``reg_covar``, those of theta and the result with it.
    """
    old, new = (1 - rate) * theta.weights, rate * found.weights
    weights = old + new
    share, shift = new / weights, found.means - theta.means
    parts = (
        (old, kind.add(theta.covariances, -reg_covar)),
        (new, found.covariances),
        (old * share, kind.outer(shift)),
    )
    means = theta.means + share[:, None] * shift
    covariances = kind.add(kind.average(parts, weights), reg_covar)
    return Mixture(weights, means, covariances, kind.roots(covariances))


class StepwiseSteps(EMSteps):
    """A step of stepwise EM on a batch of whole rows.

    Parameters
    ----------
    kind, rows, reg_covar
        As of `EMSteps`.
    rate : float
        Part of the sums that those of the rows replace.
    """

    def __init__(
        self, kind: Any, rows: CentredRows, reg_covar: Any, rate: float
    ) -> None:
        super().__init__(kind, rows, reg_covar)
        self.rate = rate

    def _pass(self, form: Any, theta: Any) -> Iterate[Any]:
        maximise = partial(_maximised, rate=self.rate)
        return one_pass(form, self.rows, theta, self.reg_covar, maximise=maximise)


def _maximised(
    kind: Any,
    sums: SufficientStatistics,
    theta: Mixture,
    reg_covar: Any,
    rate: float,
) -> Mixture:
    """Return the M-step of sums that replace a part of those of theta."""
    nk = positive(sums.counts)
    parts = (sums.first, sums.second, theta.means, theta.roots)
    means, covariances = kind.maximise(nk, *parts)
    found = Mixture(nk / nk.sum(), means, covariances, theta.roots)
    return blended(kind, theta, found, reg_covar, rate)


class IncompleteStepwiseSteps(IncompleteSteps):
    """The same on rows with missing cells, which count as the mixture expects them.

    Parameters
    ----------
    kind, rows, reg_covar, rate
        As of `StepwiseSteps`.
    """

    def __init__(
        self, kind: Any, rows: CentredRows, reg_covar: Any, rate: float
    ) -> None:
        super().__init__(kind, rows, reg_covar)
        self.added, self.rate = reg_covar, rate

    def __call__(self, theta: Mixture) -> Iterate[Mixture]:
        """Return the mixture after the step, and the mean log-density before it."""
        sums, means, covariances = self._maximised(theta)
        nk = positive(sums.counts)
        found = Mixture(nk / nk.sum(), means, covariances, theta.roots)
        if isinstance(sums, FeatureSums):
            found = _of_whole_rows(self.kind, theta, found, sums.cells / nk[:, None])
        state = blended(self.kind, theta, found, self.added, self.rate)
        return Iterate(state, float(sums.log_prob) / self.n_rows)


def _of_whole_rows(kind: Any, theta: Mixture, found: Mixture, part: Tensor) -> Mixture:
    """Return moments of whole rows, from those of a part (K, d) of their cells.

    The others are as theta has them.
    """
    part = part.clamp(max=1)
    shift, share = found.means - theta.means, kind.outer(part.sqrt())
    between = kind.outer((part * (1 - part)).sqrt() * shift)
    covariances = share * found.covariances + (1 - share) * theta.covariances + between
    return found._replace(means=theta.means + part * shift, covariances=covariances)


def step_on_batch(
    kind: Any, rows: CentredRows, reg_covar: Any, rate: float, theta: Mixture
) -> Iterate[Mixture]:
    """Take a step, whether cells of the batch are missing or not."""
    is_incomplete = isinstance(rows, IncompleteRows)
    steps = IncompleteStepwiseSteps if is_incomplete else StepwiseSteps
    return steps(kind, rows, reg_covar, rate)(theta)
