"""EM for mixtures of Gaussians: the mathematics, on tensors.

EM is coordinate ascent on ``E_q[log p(x, z)] + H(q)`` in (q, theta). The E-step makes
the bound tight, ``q = p(z|x)``; the M-step raises it. Both are written for a chunk of
rows, so that memory is a chunk's: the responsibilities (K, n), and the rows projected.

Mixtures of one size may take their steps together, on the same rows: parameters and
responsibilities have a dimension more, (C, K, ...), and the rows have not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce, singledispatch
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skgen._em.fixed_point import Iterate
from skgen._em.matrices import Covariance, Direct, half_less
from skgen._em.priors import Regularisation, regularised, shares
from skgen._utils.chunks import CentredRows, chunk_rows
from skgen._utils.reduce import totals
from skgen._utils.tensors import LOG_2PI
from skgen._utils.threads import threads_for

# Nats that a log-density may lose by rounding in a fast form of its covariance type.
LOSS = 1e-8
# Relative error of a squared distance that float32 parameters may make.
NARROW_LOSS = 1e-5


class Mixture(NamedTuple):
    """theta = (w, m, S); a root P has S^-1 = P P^T. A stack has a dimension before.

    Means are in the coordinates of the rows as given. Only inside a step, and in
    `skgen._em.fitted`, are they seen from a centre.
    """

    weights: Tensor  # (K,)
    means: Tensor  # (K, d)
    covariances: Tensor  # shaped by the covariance type, as are roots
    roots: Tensor

    @classmethod
    def stack(cls, mixtures: Iterable[Mixture]) -> Mixture:
        """Stack mixtures of one size."""
        return cls(*map(torch.stack, zip(*mixtures)))

    def take(self, index: int | Tensor) -> Mixture:
        """Select from a stack: one, or some."""
        return Mixture(*(part[index] for part in self))

    def minus(self, centre: Tensor | float) -> Mixture:
        """See the means from a centre."""
        return self._replace(means=self.means - centre)

    def around(self, means: Tensor) -> Mixture:
        """Return the same with other means."""
        return self._replace(means=means)

    def loses(self, form: Covariance, centre: Tensor) -> Tensor:
        """Return whether a form, about a centre, would cost digits: (), bool."""
        return ~(form.loss(self.means - centre, *self[2:]) < LOSS)


def holds(dtype: torch.dtype, kind: Direct, theta: Mixture) -> bool:
    """Return whether parameters in a dtype say the same density as in their own.

    They do not if they overflow or underflow, if a mean is far from zero for the width
    of its component, or if a covariance is nearly singular.
    """
    narrow = Mixture(*(part.to(dtype).to(part.dtype) for part in theta))
    shift = (narrow.means - theta.means)[..., None]
    precisions = kind.precisions(narrow.roots).to(dtype)
    errors = (
        narrow.weights / theta.weights - 1,
        kind.scale(shift, theta.roots),
        kind.excess(narrow.covariances, theta.roots),
        kind.excess(theta.covariances, narrow.roots),
    )
    exact = all(bool((error.abs() < NARROW_LOSS).all()) for error in errors)
    return exact and bool(precisions.isfinite().all())


class SufficientStatistics(NamedTuple):
    """Sums over weighted rows of log p(x), and under r_k of 1, x and x x^T."""

    log_prob: Tensor  # (); a stack has a dimension before, here and below
    counts: Tensor  # (K,)
    first: Tensor  # (K, d)
    second: Tensor  # shaped by the covariance type

    def add(self, other: SufficientStatistics) -> SufficientStatistics:
        """Moments of the rows of both."""
        return SufficientStatistics(*(a + b for a, b in zip(self, other)))


def expectation(
    kind: Covariance, theta: Mixture
) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Return the E-step at theta, a function of rows x (n, d).

    It gives log p(x) = log sum_k w_k N_k(x), r_k = w_k N_k(x) / p(x), and x projected.
    """
    joint = log_joint(kind, theta)

    def at(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_masses, y = joint(x)
        return *normalise(log_masses), y

    return at


def log_joint(
    kind: Covariance, theta: Mixture
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return log w_k N_k(x), (K, n), and x projected; what no row changes, once."""
    constant = log_peaks(kind, theta)
    metric = kind.metric(theta.means, theta.roots)
    project = kind.projection(theta.means, theta.roots)

    def at(x: Tensor) -> tuple[Tensor, Tensor]:
        y = project(x)
        return half_less(constant, metric(y)), y

    return at


def log_peaks(kind: Covariance, theta: Mixture) -> Tensor:
    """Log w_k N_k(m_k), (K, 1)."""
    d = theta.means.shape[-1]
    log_det = kind.log_det(theta.roots, d)
    return (theta.weights.log() + log_det - 0.5 * d * LOG_2PI)[..., None]


def normalise(joint: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exp (n,) of log-masses (K, n), and their softmax: one exp for both."""
    log_total, resp, total = sum_exp(joint)
    return log_total, resp.div_(total)


def sum_exp(joint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-sum-exp (n,) of log-masses (K, n); masses in their place, and sums (1, n)."""
    top = joint.amax(-2, keepdim=True).clamp_(min=torch.finfo(joint.dtype).min)
    masses = joint.sub_(top).exp_()
    total = masses.sum(-2, keepdim=True)
    return total.log().add_(top).squeeze(-2), masses, total


def m_step(
    kind: Covariance,
    sums: SufficientStatistics,
    theta: Mixture,
    reg_covar: Regularisation,
) -> Mixture:
    """w_k = n_k / n; m_k = sum_n r x / n_k; S_k = sum_n r (x - m)(x - m)^T / n_k."""
    nk = positive(sums.counts)
    parts = (sums.first, sums.second, theta.means, theta.roots)
    means, covariances = kind.maximise(nk, *parts)
    covariances = regularised(kind, covariances, kind.per(nk), reg_covar)
    weights = shares(nk, reg_covar)
    return Mixture(weights, means, covariances, kind.roots(covariances))


def positive(counts: Tensor) -> Tensor:
    """Keep n_k from zero, as scikit-learn does; small n_k keep their digits."""
    info = torch.finfo(counts.dtype)
    positive = counts + 10 * info.eps * counts.clamp(max=1)
    return positive.clamp(min=info.tiny / info.eps)


class EMSteps:
    """Steps of EM, each in the fastest form that loses no digits before or after it.

    Parameters
    ----------
    kind : Covariance
        The covariance type.
    rows : CentredRows
        Rows (n, d).
    reg_covar : float or MixturePrior
        Added to the variances; or priors.
    """

    def __init__(
        self, kind: Covariance, rows: CentredRows, reg_covar: Regularisation
    ) -> None:
        self.kind, self.rows, self.reg_covar = kind, rows, reg_covar
        self._checked: tuple[type, Mixture | None] = (type(kind), None)  # what suited

    def __call__(self, theta: Mixture) -> Iterate[Mixture]:
        """E-step and M-step, and the mean log-density of the rows under theta."""
        found = None
        for form in _fast_forms(self.kind, theta):
            if self._suits(form, theta):
                found = self._pass(form, theta)
                if self._suits(form, found.state):
                    return found
        try:
            return self._pass(self.kind, theta)
        except ValueError:
            # A component has collapsed. As in scikit-learn, that is an error one step
            # later, if rounding about the centre leaves it a width.
            if found is None or not found.state.roots.isfinite().all():
                raise
            return found

    def _pass(self, form: Covariance, theta: Any) -> Iterate[Any]:
        """Take both steps in one of the forms."""
        return one_pass(form, self.rows, theta, self.reg_covar)

    def _suits(self, form: Covariance, theta: Mixture) -> bool:
        """Whether a form loses no digits: the state after a step is that before one."""
        known, last = self._checked
        if last is theta and known is type(form):
            return True
        if theta.loses(form, self.rows.centre):
            return False
        self._checked = type(form), theta
        return True


def _fast_forms(kind: Covariance, theta: Mixture) -> list[Covariance]:
    """Return the forms, but for the last, whose chunks have enough rows."""
    forms = kind.forms[:-1]
    return [form for form in forms if chunk_of(form, theta) >= form.least_rows]


def one_pass(
    form: Covariance,
    rows: CentredRows,
    theta: Any,
    reg_covar: Regularisation,
    expected: Callable[..., Any] | None = None,
    maximise: Callable[..., Any] | None = None,
) -> Iterate[Any]:
    """Both steps in one pass over the rows; of a stack, the bounds are a list.

    A second pass takes the moments about the new means, where a mean has moved so far
    that its covariance would lose digits. The steps are those of normal components,
    ``expected_moments`` and ``m_step``, unless others are given.
    """
    expected, maximise = expected or expected_moments, maximise or m_step
    rows = rows if form.is_centred else rows.uncentred()
    seen = theta.minus(rows.centre)
    sums = expected(form, rows, seen)
    distant = _distant_means(form, sums, seen, reg_covar)
    if distant is not None:
        sums = expected(form, rows, seen, distant)
        seen = seen.around(distant)
    bound: Any = (sums.log_prob / rows.n_rows).tolist()
    # Decompositions wait for their threads more often than products do.
    with threads_for(theta.covariances.numel() * len(rows.centre) // 8):
        found = maximise(form, sums, seen, reg_covar)
    return Iterate(found.minus(-rows.centre), bound)


def _distant_means(
    form: Covariance, sums: Any, theta: Any, reg_covar: Regularisation
) -> Tensor | None:
    """Return the new means, if second moments about the old ones lose digits."""
    if not form.is_about_means:
        return None
    parts = (sums.first, sums.second, theta.means, theta.roots)
    nk = positive(sums.counts)
    means, covariances = form.maximise(nk, *parts)
    covariances = regularised(form, covariances, form.per(nk), reg_covar)
    variances = form.variances(covariances)
    rounding = (means - theta.means) ** 2 * torch.finfo(means.dtype).eps
    return means if (rounding > LOSS * variances).any() else None


def expected_moments(
    form: Covariance,
    rows: CentredRows,
    theta: Mixture,
    means: Tensor | None = None,
) -> SufficientStatistics:
    """E-step over all rows, and the moments about the means of theta or others."""
    posterior, d = expectation(form, theta), len(rows.centre)
    n_parameters = theta.means.numel() + theta.covariances.numel()
    project = None if means is None else form.projection(means, theta.roots)

    def expected(x: Tensor, weight: Tensor) -> SufficientStatistics:
        with threads_for(len(x) * n_parameters):
            log_prob, resp, y = posterior(x)
            resp *= weight
            if project is not None:
                y = project(x)
            return SufficientStatistics(
                (log_prob * weight).sum(-1), resp.sum(-1), *form.moments(y, resp, d)
            )

    chunks = rows.at_least_one().chunks(chunk_of(form, theta))
    found = reduce(
        SufficientStatistics.add, (expected(x, weight) for x, weight in chunks)
    )
    return SufficientStatistics(*totals(*found))


def chunk_of(kind: Covariance, theta: Any) -> int:
    """Rows of a chunk."""
    *stack, K, d = theta.means.shape
    return chunk_rows(theta.means.device, kind.row_elements(K, d, *stack))


@singledispatch
def start_from(
    kind: Covariance, rows: CentredRows, resp: Tensor, reg_covar: Regularisation
) -> Mixture:
    """M-step from responsibilities (n, K): the means, then covariances about them."""
    for form in kind.forms[:-1]:
        theta = _start_in(form, rows, resp, reg_covar)
        if not theta.loses(form, rows.centre):
            return theta
    return _start_in(kind, rows.uncentred(), resp, reg_covar)


def _start_in(
    form: Covariance, rows: CentredRows, resp: Tensor, reg_covar: Regularisation
) -> Mixture:
    d, K = len(rows.centre), resp.shape[1]
    none = rows.centre.new_zeros(K, d)
    means = weighted_means(rows, resp) - rows.centre
    theta = Mixture(none[:, 0], means, none, form.identity(none))
    size = chunk_of(form, theta)

    def moments(theta: Mixture) -> SufficientStatistics:
        parts = zip(rows.chunks(size), resp.split(size))
        return reduce(
            SufficientStatistics.add, (of(theta, x, r.T * w) for (x, w), r in parts)
        )

    def of(theta: Mixture, x: Tensor, r: Tensor) -> SufficientStatistics:
        y = form.project(x, theta.means, theta.roots)
        return SufficientStatistics(r.sum(), r.sum(1), *form.moments(y, r, d))

    sums = moments(theta)
    distant = _distant_means(form, sums, theta, reg_covar)
    if distant is not None:
        theta = theta._replace(means=distant)
        sums = moments(theta)
    return m_step(form, sums, theta, reg_covar).minus(-rows.centre)


def weighted_means(rows: CentredRows, resp: Tensor) -> Tensor:
    """Return the means (K, d) of rows under responsibilities (n, K)."""
    d, K = len(rows.centre), resp.shape[1]
    size = chunk_rows(rows.x.device, K + d)
    counts, first = rows.centre.new_zeros(K), rows.centre.new_zeros(K, d)
    for (x, weight), r in zip(rows.chunks(size), resp.split(size)):
        weighted = r.T * weight
        counts += weighted.sum(1)
        first += weighted @ x
    return rows.centre + first / positive(counts)[:, None]


def start_around(
    kind: Covariance,
    rows: CentredRows,
    means: Tensor,
    reg_covar: Regularisation,
    *,
    moves: bool,
) -> Mixture:
    """Start where all components share a covariance: from clusters around means (K, d).

    Each row counts to the nearest mean, in units of the covariance of all rows, and the
    covariance is that of rows about the means of their clusters. With the covariance of
    all rows instead, EM would hardly move: equal means are a stationary point.

    ``moves`` says whether the start has the means of the clusters, or those given.
    """
    K, n = len(means), len(rows.x)
    whole = start_from(kind, rows, means.new_ones(n, 1), reg_covar)
    uniform = means.new_full((K,), 1 / K)
    theta = Mixture(uniform, means, *whole[2:])
    joint = log_joint(kind, theta)
    chunks = rows.uncentred().chunks(chunk_of(kind, theta))
    labels = torch.cat([joint(x)[0].argmax(0) for x, _ in chunks])
    one_hot = means.new_zeros(n, K).scatter_(1, labels[:, None], 1)
    found = start_from(kind, rows, one_hot, reg_covar)
    if moves:
        some = one_hot.any(0)[:, None]
        means = found.means.where(some, means)
    return found._replace(weights=uniform, means=means)
