"""EM for mixtures of Gaussians: the mathematics, on tensors.

EM is coordinate ascent on ``E_q[log p(x, z)] + H(q)`` in (q, theta). The E-step makes
the bound tight, ``q = p(z|x)``; the M-step raises it. Both are written for a chunk of
rows, so that memory is a chunk's: the responsibilities (K, n), and the rows projected.

Mixtures of one size may take their steps together, on the same rows: parameters and
responsibilities have a dimension more, (C, K, ...), and the rows have not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any, NamedTuple, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from skgen.covariance import Covariance
from skgen.engine import Iterate
from skgen.matrices import half_less
from skgen.rows import CentredRows, chunk_rows
from skgen.tensors import LOG_2PI, wide_dtype
from skgen.threads import threads_for

# Nats that a log-density may lose where its distance is expanded about the centre.
LOSS = 1e-8
# Rows of a chunk below which a product with so many pairs of features is slow.
ENOUGH_ROWS = 64


class Mixture(NamedTuple):
    """theta = (w, m, S); a root P has S^-1 = P P^T. A stack has a dimension before."""

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


class Moments(NamedTuple):
    """Sums over weighted rows of log p(x), and under r_k of 1, x and x x^T."""

    log_prob: Tensor  # (); a stack has a dimension before, here and below
    counts: Tensor  # (K,)
    first: Tensor  # (K, d)
    second: Tensor  # shaped by the covariance type

    def add(self, other: Moments) -> Moments:
        """Moments of the rows of both."""
        return Moments(*(a + b for a, b in zip(self, other)))


def e_step(
    kind: Covariance, theta: Mixture, x: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log p(x) = log sum_k w_k N_k(x), r_k = w_k N_k(x) / p(x), and x projected."""
    return expectation(kind, theta)(x)


def expectation(
    kind: Covariance, theta: Mixture
) -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Return the E-step at theta."""
    joint = log_joint(kind, theta)

    def at(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_masses, y = joint(x)
        return *_normalise(log_masses), y

    return at


def log_joint(
    kind: Covariance, theta: Mixture
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return log w_k N_k(x), (K, n), and x projected; what no row changes, once."""
    constant = _log_peaks(kind, theta)
    metric = kind.metric(theta.means, theta.roots)
    project = kind.projection(theta.means, theta.roots)

    def at(x: Tensor) -> tuple[Tensor, Tensor]:
        y = project(x)
        return half_less(constant, metric(y)), y

    return at


def _log_peaks(kind: Covariance, theta: Mixture) -> Tensor:
    """Log w_k N_k(m_k), (K, 1)."""
    d = theta.means.shape[-1]
    log_det = kind.log_det(theta.roots, d)
    return (theta.weights.log() + log_det - 0.5 * d * LOG_2PI)[..., None]


def _normalise(joint: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exp (n,) of log-masses (K, n), and their softmax: one exp for both."""
    log_total, resp, total = _sum_exp(joint)
    return log_total, resp.div_(total)


def _sum_exp(joint: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-sum-exp (n,) of log-masses (K, n); masses in their place, and sums (1, n)."""
    top = joint.amax(-2, keepdim=True).clamp_(min=torch.finfo(joint.dtype).min)
    masses = joint.sub_(top).exp_()
    total = masses.sum(-2, keepdim=True)
    return total.log().add_(top).squeeze(-2), masses, total


def m_step(
    kind: Covariance, sums: Moments, theta: Mixture, reg_covar: float | Tensor
) -> Mixture:
    """w_k = n_k / n; m_k = sum_n r x / n_k; S_k = sum_n r (x - m)(x - m)^T / n_k."""
    nk = _positive(sums.counts)
    parts = (sums.first, sums.second, theta.means, theta.roots)
    means, covariances = kind.maximise(nk, *parts)
    covariances = kind.add(covariances, reg_covar)
    weights = nk / nk.sum(-1, keepdim=True)
    return Mixture(weights, means, covariances, kind.roots(covariances))


def _positive(counts: Tensor) -> Tensor:
    """Keep n_k from zero, as scikit-learn does."""
    return counts + 10 * torch.finfo(counts.dtype).eps


def em_step(
    kind: Covariance, rows: CentredRows, theta: Mixture, reg_covar: float
) -> Iterate[Mixture]:
    """Both steps, and the mean log-density of the rows under theta.

    In the expanded form where neither theta nor what is found loses digits by it.
    """
    quick = kind.expanded
    if quick and _chunk(quick, theta) >= ENOUGH_ROWS and quick.loss(*theta[1:]) < LOSS:
        found = one_pass(quick, rows, theta, reg_covar)
        if quick.loss(*found.state[1:]) < LOSS:
            return found
    return one_pass(kind, rows, theta, reg_covar)


def one_pass(
    kind: Covariance, rows: CentredRows, theta: Mixture, reg_covar: float | Tensor
) -> Iterate[Mixture]:
    """Both steps in one pass over the rows; of a stack, the bounds are a list."""
    posterior, d = expectation(kind, theta), len(rows.centre)
    n_parameters = theta.means.numel() + theta.covariances.numel()

    def expected(x: Tensor, weight: Tensor) -> Moments:
        with threads_for(len(x) * n_parameters):
            log_prob, resp, y = posterior(x)
            resp *= weight
            return Moments(
                (log_prob * weight).sum(-1), resp.sum(-1), *kind.moments(y, resp, d)
            )

    chunks = rows.chunks(_chunk(kind, theta))
    sums = reduce(Moments.add, (expected(x, weight) for x, weight in chunks))
    bound: Any = (sums.log_prob / len(rows.x)).tolist()
    # Decompositions wait for their threads more often than products do.
    with threads_for(theta.covariances.numel() * d // 8):
        return Iterate(m_step(kind, sums, theta, reg_covar), bound)


def _chunk(kind: Covariance, theta: Mixture) -> int:
    *stack, K, d = theta.means.shape
    return chunk_rows(theta.means.device, kind.row_elements(K, d, *stack))


def start_from(
    kind: Covariance, rows: CentredRows, resp: Tensor, reg_covar: float
) -> Mixture:
    """M-step from responsibilities (n, K): the means, then covariances about them."""
    d, K = len(rows.centre), resp.shape[1]
    none = rows.centre.new_zeros(K, d)
    theta = Mixture(none[:, 0], none, none, kind.identity(none))
    size = _chunk(kind, theta)

    def chunks() -> Iterator[tuple[Tensor, Tensor]]:
        for (x, weight), r in zip(rows.chunks(size), resp.split(size)):
            yield x, r.T * weight

    def moments(x: Tensor, r: Tensor) -> Moments:
        y = kind.project(x, theta.means, theta.roots)
        return Moments(r.sum(), r.sum(1), *kind.moments(y, r, d))

    nk = _positive(sum((r.sum(1) for _, r in chunks()), start=none[:, 0]))
    means = sum((r @ x for x, r in chunks()), start=none) / nk[:, None]
    theta = theta._replace(means=means)
    sums = reduce(Moments.add, (moments(x, r) for x, r in chunks()))
    return m_step(kind, sums, theta, reg_covar)


def start_from_picks(
    kind: Covariance, rows: CentredRows, theta: Mixture, reg_covar: float
) -> Mixture:
    """Do to a start from K of the rows what scikit-learn does to it."""
    # These weights do not sum to one.
    theta = theta._replace(weights=theta.weights * len(theta.means) / len(rows.x))
    covariances = kind.spread(rows, theta.means)
    if covariances is None:
        return theta
    covariances = kind.add(covariances, reg_covar)
    return theta._replace(covariances=covariances, roots=kind.roots(covariances))


class FittedMixture(NamedTuple):
    """A mixture that is evaluated: rows of any dtype, seen from a centre and wide.

    Where that loses no digits, the centre is the origin, and no pass takes it off.
    """

    kind: Covariance
    theta: Mixture
    centre: Tensor  # (d,)
    see: Callable[[Tensor], Tensor]  # rows (n, d) as they come -> a copy, as theta is
    joint: Callable[[Tensor], Tensor]  # rows so seen -> log p(x, k), (K, n)

    @classmethod
    def of(cls, kind: Covariance, *parts: ArrayLike, device: torch.device) -> Self:
        """Take weights, means, covariances and roots as fitted arrays."""
        wide = wide_dtype(device)
        theta = Mixture(*(torch.tensor(part, dtype=wide).to(device) for part in parts))
        centre = torch.zeros_like(theta.means[0])
        see: Callable[[Tensor], Tensor] = lambda x: x.to(wide, copy=True)  # noqa: E731
        # At the mean of a component, the square of its distance to the origin cancels.
        y = kind.project(centre[None], theta.means, theta.roots)
        squares = kind.distances(y, theta.means, theta.roots)
        if not float(squares.max()) * torch.finfo(wide).eps < LOSS:
            centre = theta.means.mean(0)
            see = lambda x: x - centre  # noqa: E731
        theta = theta._replace(means=theta.means - centre)
        constant = _log_peaks(kind, theta)
        joint = kind.row_log_masses(theta.means, theta.roots, constant)
        return cls(kind, theta, centre, see, joint)

    def log_masses(self, x: Tensor) -> Tensor:
        """Log p(x, k), (K, n)."""
        return self.joint(self.see(x))

    def encode(self, x: Tensor) -> Tensor:
        """Responsibilities (n, K)."""
        return _normalise(self.log_masses(x))[1].T

    def decode(self, code: Tensor) -> Tensor:
        """Sum of the means, weighted by a code (n, K)."""
        return self.centre + code.to(self.centre.dtype) @ self.theta.means

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density (n,)."""
        return _sum_exp(self.log_masses(x))[0]

    def draw_components(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw components (n,)."""
        weights = self.theta.weights
        return weights.multinomial(n, replacement=True, generator=generator)

    def draw(self, n: int, noise: bool, generator: torch.Generator) -> Tensor:
        """Draw rows (n, d), or the means of their components."""
        k = self.draw_components(n, generator)
        x = self.centre + self.theta.means[k]
        if not noise:
            return x
        white = torch.empty_like(x).normal_(generator=generator)
        return x + self.kind.colour(white, k, self.theta.roots)
