"""Mixtures of Student components: EM, and mixtures that are evaluated.

A row of a component is normal with a covariance that a factor of its own divides,

    u ~ Gamma(f / 2, rate f / 2),   x | u ~ N(m, S / u),

which makes it Student's t with f degrees of freedom (Peel & McLachlan 2000). EM has u
as a second thing that is not known: rows far from a mean have a small one, and count
little in it. The E-step gives E[u | x] = (f + d) / (f + distance); the M-step takes
moments under responsibilities times that.

The M-step is that of parameter-expanded EM (Liu, Rubin & Wu 1998): u may have another
mean a, so that S is what rows have about m, divided by a. No step lowers the
likelihood, and S gets to its size at once, where EM takes many steps if columns are
many.

A marginal of Student's t is one, too, so that missing cells are integrated out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainccinv, gammaincinv, gammaln
from torch import Tensor

from skgen._em.conditionals import Block, Conditionals, conditionals, there_of
from skgen._em.fitted import FittedMixture, draw_given
from skgen._em.fixed_point import Iterate
from skgen._em.incomplete import (
    FeatureSums,
    IncompleteRows,
    IncompleteSteps,
    Sums,
    summed,
    sums_for,
)
from skgen._em.matrices import Covariance, Direct
from skgen._em.steps import (
    EMSteps,
    Mixture,
    chunk_of,
    log_peaks,
    normalise,
    one_pass,
    positive,
)
from skgen._em.truncation import Known
from skgen._utils.chunks import CentredRows
from skgen._utils.tensors import LOG_2PI, to_array
from skgen._utils.threads import threads_for

# Degrees of freedom that are learned: the least, above which there is a mean, and the
# most, of which the density is a normal one to all purposes.
LEAST_DOF, MOST_DOF = 1.0, 1e6
# Newton steps of a search for degrees of freedom.
NEWTON_STEPS = 6
# Half the degrees of freedom above which gamma functions are taken by their series.
LARGE = 50.0
# Points of the density of u, and its mass beyond the first and the last of them.
POINTS, TAIL = 256, 1e-13


class StudentMixture(NamedTuple):
    """Parameters: those of a mixture of Gaussians, and degrees of freedom."""

    mixture: Mixture  # with scale matrices in the place of covariances
    dof: Tensor  # (K,)

    @property
    def weights(self) -> Tensor:
        """Weights (K,)."""
        return self.mixture.weights

    @property
    def means(self) -> Tensor:
        """Means (K, d), or medians where there is no mean."""
        return self.mixture.means

    @property
    def covariances(self) -> Tensor:
        """Scale matrices, shaped by the covariance type."""
        return self.mixture.covariances

    @property
    def roots(self) -> Tensor:
        """Roots of their inverses."""
        return self.mixture.roots

    def minus(self, centre: Tensor | float) -> StudentMixture:
        """See the means from a centre."""
        return self._replace(mixture=self.mixture.minus(centre))

    def around(self, means: Tensor) -> StudentMixture:
        """Return the same with other means."""
        return self._replace(mixture=self.mixture.around(means))

    def loses(self, form: Covariance, centre: Tensor) -> Tensor:
        """Return whether a form, about a centre, would cost digits: (), bool."""
        return self.mixture.loses(form, centre)


# The density, beside the normal one of the same scale matrix.


def log_tails(dof: Tensor, n_cells: Tensor | int, squares: Tensor) -> Tensor:
    """Log t(x) less the log of the normal density at its peak.

    Parameters
    ----------
    dof : Tensor of shape (K, 1)
        Degrees of freedom f.
    n_cells : Tensor of shape (n,), or int
        Number of cells c of a row.
    squares : Tensor of shape (K, n)
        Squared distances in units of the scale matrix.

    Returns
    -------
    log_tails : Tensor of shape (K, n)
        log G(f/2 + c/2) / (G(f/2) (f/2)^(c/2)) - (f + c)/2 log(1 + distance / f), with
        the gamma function G.
    """
    a, b = dof / 2, torch.as_tensor(n_cells).to(dof) / 2
    return log_rise(a, b) - (a + b) * (squares / dof).log1p()


def log_rise(a: Tensor, b: Tensor) -> Tensor:
    """Log G(a + b) / (G(a) a^b), which goes to zero as a grows."""
    far = (a + b - 0.5) * (b / a).log1p() - b + _series(a + b) - _series(a)
    near = (a + b).lgamma() - a.lgamma() - b * a.log()
    return torch.where(a > LARGE, far, near)


def _series(x: Tensor) -> Tensor:
    """Log G(x) less Stirling's formula, for large x."""
    y = 1 / (x * x)
    return (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y / 1680))) / x


def factors(dof: Tensor, n_cells: Tensor | int, squares: Tensor) -> tuple[Tensor, ...]:
    """Return E[u | x] and E[log u | x], (K, n), for arguments of ``log_tails``."""
    cells = torch.as_tensor(n_cells).to(dof)
    u = (dof + cells) / (dof + squares)
    half = (dof + cells) / 2
    return u, u.log() + (half.digamma() - half.log())


def likeliest_dof(g: Tensor) -> Tensor:
    """Solve log(f/2) - digamma(f/2) + 1 + g = 0 for f, within bounds, (K,).

    g is E[log u] - log a - E[u] / a for the mean a of u. As of the shape of a gamma
    density (Minka 2002), in steps for the inverse of f, from a start that is near.
    """
    y = (-1 - g).clamp(min=1 / MOST_DOF)  # about 1 / f, where that is small
    half = (3 - y + ((y - 3) ** 2 + 24 * y).sqrt()) / (12 * y)
    for _ in range(NEWTON_STEPS):
        error, slope = (
            half.log() - half.digamma() - y,
            1 / half - torch.polygamma(1, half),
        )
        half = 1 / (1 / half + error / (half**2 * slope))
    return (2 * half).clamp(LEAST_DOF, MOST_DOF)


# Steps.


class StudentSums(NamedTuple):
    """Sums over weighted rows of log p(x), and under r_k u of 1, x and x x^T."""

    log_prob: Tensor  # ()
    counts: Tensor  # (K,): of r u
    first: Tensor  # (K, d)
    second: Tensor  # shaped by the covariance type
    shares: Tensor  # (K,): of r
    log_u: Tensor  # (K,): of r E[log u]


def expected_sums(
    form: Covariance,
    rows: CentredRows,
    theta: StudentMixture,
    means: Tensor | None = None,
) -> StudentSums:
    """E-step over all rows, and the moments about the means of theta or others."""
    d, dof = len(rows.centre), theta.dof[:, None]
    peaks = log_peaks(form, theta.mixture)
    metric = form.metric(theta.means, theta.roots)
    project = form.projection(theta.means, theta.roots)
    again = None if means is None else form.projection(means, theta.roots)
    work = theta.means.numel() + theta.covariances.numel()

    def of(x: Tensor, weight: Tensor) -> StudentSums:
        with threads_for(len(x) * work):
            y = project(x)
            squares = metric(y)
            log_prob, resp = normalise(peaks + log_tails(dof, d, squares))
            resp *= weight
            u, log_u = factors(dof, d, squares)
            y = y if again is None else again(x)
            scaled = resp * u
            return StudentSums(
                (log_prob * weight).sum(),
                scaled.sum(1),
                *form.moments(y, scaled, d),
                resp.sum(1),
                (resp * log_u).sum(1),
            )

    chunks = rows.at_least_one().chunks(chunk_of(form, theta))
    found: StudentSums = summed(of(*chunk) for chunk in chunks)
    return found


def maximised(
    kind: Covariance,
    sums: StudentSums,
    theta: StudentMixture,
    reg_covar: float | Tensor,
    learns: bool,
) -> StudentMixture:
    """M-step; ``learns`` says whether also of degrees of freedom."""
    nk, mass = positive(sums.shares), positive(sums.counts)
    parts = (sums.first, sums.second, theta.means, theta.roots)
    means, covariances = kind.maximise(mass, *parts)
    a = _mean_factors(kind, theta, nk, mass)
    covariances = covariances * (kind.per(mass) / kind.per(a * nk))
    covariances = kind.add(covariances, reg_covar)
    mixture = Mixture(nk / nk.sum(), means, covariances, kind.roots(covariances))
    dof = _next_dof(theta, sums.log_u / nk, mass / nk, a) if learns else theta.dof
    return StudentMixture(mixture, dof)


def _mean_factors(
    kind: Covariance, theta: StudentMixture, nk: Tensor, mass: Tensor
) -> Tensor:
    """Return the likeliest means a of u, (K,): one for all that share a matrix."""
    if len(kind.log_det(theta.roots, theta.means.shape[1])) == len(nk):
        return mass / nk
    return ((theta.dof @ mass) / (theta.dof @ nk)).expand_as(nk)


def _next_dof(theta: StudentMixture, log_u: Tensor, u: Tensor, a: Tensor) -> Tensor:
    """Return the likeliest degrees of freedom, given means of log u and u, (K,)."""
    return likeliest_dof(log_u - a.log() - u / a)


class StudentSteps(EMSteps):
    """Steps of EM on complete rows.

    Parameters
    ----------
    kind, rows, reg_covar
        As of `EMSteps`.
    learns : bool
        Whether degrees of freedom are learned.
    """

    def __init__(
        self, kind: Covariance, rows: CentredRows, reg_covar: float, learns: bool
    ) -> None:
        super().__init__(kind, rows, reg_covar)
        self._steps = expected_sums, partial(maximised, learns=learns)

    def _pass(self, form: Covariance, theta: Any) -> Iterate[Any]:
        return one_pass(form, self.rows, theta, self.reg_covar, *self._steps)


class CellSums(NamedTuple):
    """The same sums over rows with missing cells."""

    log_prob: Tensor  # ()
    shares: Tensor  # (K,): of r
    log_u: Tensor  # (K,): of r E[log u]
    cells: Tensor  # (K, d): as the shares, of rows that have the cell
    scaled: Sums  # under r u


class StudentCellSteps(IncompleteSteps):
    """Steps of EM on rows with missing cells.

    Parameters
    ----------
    kind, rows, reg_covar
        As of `IncompleteSteps`.
    learns : bool
        Whether degrees of freedom are learned.
    """

    def __init__(
        self, kind: Covariance, rows: CentredRows, reg_covar: float, learns: bool
    ) -> None:
        super().__init__(kind, rows, reg_covar)
        self.ridge, self.learns = reg_covar, learns

    def __call__(self, theta: Any) -> Iterate[Any]:
        given = conditionals(self.kind, *theta.mixture[1:])
        parts = (self._of_cells(given, theta, block) for block in self._in(given))
        sums: CellSums = summed(parts)
        bound = float(sums.log_prob) / self.n_rows
        return Iterate(self._next(sums, theta), bound)

    def _of_cells(
        self, given: Conditionals, theta: StudentMixture, block: Block
    ) -> CellSums:
        with threads_for(len(block.x) * theta.means.numel() * len(theta.means[0])):
            found, dof = given(block), theta.dof[:, None]
            joint = _log_joint(theta, found)
            log_prob, resp = normalise(joint)
            weight = self.rows.weight[block.rows]
            resp *= weight
            u, log_u = factors(dof, found.n_cells, found.squares)
            y, kind = found.y, sums_for(given)
            return CellSums(
                (log_prob * weight).sum(),
                resp.sum(1),
                (resp * log_u).sum(1),
                resp @ there_of(block.x).to(y.dtype).T,
                kind.of(y, found, resp * u, block, of_spread=resp),
            )

    def _next(self, sums: CellSums, theta: StudentMixture) -> StudentMixture:
        kind, scaled = self.kind, sums.scaled
        nk, mass = positive(sums.shares), positive(scaled.counts)
        shift, covariances = scaled.maximise(theta)
        a = _mean_factors(kind, theta, nk, mass)
        if isinstance(scaled, FeatureSums):
            plain: Sums = scaled._replace(cells=sums.cells * a[:, None])
        else:
            plain = scaled._replace(counts=a * nk)
        ratio = scaled.per(kind) / plain.per(kind)
        covariances = covariances * ratio.nan_to_num(nan=1.0)  # of no cell
        covariances = kind.add(covariances, self.ridge)
        means, roots = theta.means + shift, kind.roots(covariances)
        mixture = Mixture(nk / nk.sum(), means, covariances, roots)
        dof = theta.dof
        if self.learns:
            dof = _next_dof(theta, sums.log_u / nk, mass / nk, a)
        return StudentMixture(mixture, dof)


def student_steps(
    kind: Covariance, rows: CentredRows, reg_covar: float, learns: bool
) -> StudentSteps | StudentCellSteps:
    """Return the steps of EM for Student components."""
    has_holes = isinstance(rows, IncompleteRows)
    steps = StudentCellSteps if has_holes else StudentSteps
    return steps(kind, rows, reg_covar, learns)


def _log_joint(theta: StudentMixture, found: Any) -> Tensor:
    """Log w_k t_k(x_O), (K, n), of rows that a `Filled` tells of."""
    peaks = -0.5 * (found.n_cells * LOG_2PI + found.log_det)
    tails = log_tails(theta.dof[:, None], found.n_cells, found.squares)
    joint: Tensor = peaks + tails + theta.weights.log()[:, None]
    return joint


# Mixtures that are evaluated.


@dataclass(frozen=True, eq=False)
class FittedStudent(FittedMixture):
    """A mixture of Student components that is evaluated."""

    dof: Tensor  # (K,)

    @classmethod
    def of_dof(
        cls, dof: ArrayLike, kind: Direct, *parts: ArrayLike, device: torch.device
    ) -> Self:
        """Take degrees of freedom, and what `FittedMixture.of` takes."""
        base = FittedMixture.of(kind, *parts, device=device)
        known = torch.tensor(dof, dtype=base.centre.dtype).to(device)
        joint = _joint_of(base, known[:, None])
        return cls(**{**vars(base), "joint": joint}, dof=known)

    @property
    def _student(self) -> StudentMixture:
        return StudentMixture(self.given, self.dof)

    def _evaluated(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log p(x_O, k), E[x | x_O, k], and squared distances (K, n)."""
        given = conditionals(self.kind, *self.given[1:])
        K, d = self.given.means.shape
        log_masses, squares = self.given.means.new_empty(2, K, len(x))
        rows = self.given.means.new_empty(K, len(x), d)
        for block in given.blocks(x):
            found = given(block)
            log_masses[:, block.rows] = _log_joint(self._student, found)
            rows[:, block.rows] = self.given.means[:, None] + found.y.mT
            squares[:, block.rows] = found.squares
        return log_masses, rows, squares

    def expected(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._evaluated(x)[:2]

    def noise(self, k: Tensor, generator: torch.Generator) -> Tensor:
        normal, half = super().noise(k, generator), self.dof[k] / 2
        u = torch._standard_gamma(half, generator=generator) / half
        return normal * u.rsqrt()[:, None]

    def draw_given(self, x: Tensor, k: Tensor, generator: torch.Generator) -> Tensor:
        squares = self._evaluated(x)[2].gather(0, k[None])[0]
        half = (self.dof[k] + (~x.isnan()).sum(1)) / 2
        gamma = torch._standard_gamma(half, generator=generator)
        widths = ((self.dof[k] + squares) / (2 * gamma)).sqrt()
        return draw_given(self.kind, self.given, x, k, generator, widths)

    def known(self, x: Tensor, cells: list[int]) -> Known:
        """Return what rows (C, d) of one pattern let expect of cells J.

        A component is a mixture of normal ones, over points of u.
        """
        normal, squares = super().known(x, cells), to_array(self._evaluated(x)[2]).T
        dof, C = to_array(self.dof), len(x)
        half = (dof + int((~x[0].isnan()).sum())) / 2
        points, log_shares = gamma_points(half)  # (K, U)
        K, U = points.shape
        widths = np.sqrt((dof + squares)[..., None] / (2 * points))
        return Known(
            (normal.log_masses[..., None] + log_shares).reshape(C, K * U),
            normal.means.repeat(U, axis=1),
            normal.covariances.repeat(U, axis=0),
            widths.reshape(C, K * U),
        )


def _joint_of(base: FittedMixture, dof: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function of rows as they are seen: log w_k t_k(x), (K, n)."""
    theta, form, d = base.theta, base.form, len(base.centre)
    peaks = log_peaks(form, theta)
    # Normal densities that are one at their peak: minus half the squared distances.
    halves = form.row_log_masses(theta.means, theta.roots, torch.zeros_like(peaks))

    def at(x: Tensor) -> Tensor:
        squares = halves(x).mul_(-2).clamp_(min=0)
        return peaks + log_tails(dof, d, squares)

    return at


def gamma_points(a: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return points (K, U) of gamma densities of shape a, (K,), and log-shares.

    They are evenly spaced in log u, where sums over them are as good as integrals.
    """
    low, high = np.log([gammaincinv(a, TAIL), gammainccinv(a, TAIL)]).clip(min=-700)
    t = np.linspace(low, high, POINTS, axis=-1)
    log_p = a[:, None] * t - np.exp(t) - gammaln(a)[:, None]
    log_p -= np.logaddexp.reduce(log_p, axis=1, keepdims=True)
    return np.exp(t), log_p
