"""Mixtures of Gaussians that are evaluated: scores, codes, draws, and missing cells."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from skgen._em.conditionals import conditionals
from skgen._em.matrices import Covariance, Direct
from skgen._em.steps import Mixture, log_peaks, normalise, sum_exp
from skgen._em.truncation import Known
from skgen._utils.tensors import to_array, wide_dtype


@dataclass(frozen=True, eq=False)
class FittedMixture:
    """A mixture that is evaluated: rows of any dtype, seen from a centre and wide.

    The centre is the origin, for which no pass is needed, where that loses no digits.
    """

    kind: Direct
    given: Mixture  # as it was fitted
    form: Covariance
    theta: Mixture  # seen from the centre
    centre: Tensor  # (d,)
    see: Callable[[Tensor], Tensor]  # rows (n, d) as they come -> a copy, as theta is
    joint: Callable[[Tensor], Tensor]  # rows so seen -> log p(x, k), (K, n)

    @classmethod
    def of(cls, kind: Direct, *parts: ArrayLike, device: torch.device) -> Self:
        """Take weights, means, covariances and roots as fitted arrays.

        Roots in float32 say another density than covariances in float32, which are
        what a user reads: the roots are then those of the covariances.
        """
        wide = wide_dtype(device)
        given = Mixture(*(torch.tensor(part, dtype=wide).to(device) for part in parts))
        if np.asarray(parts[-1]).dtype == np.float32:
            with suppress(ValueError):
                given = given._replace(roots=kind.roots(given.covariances))
        form, centre = _score_form(kind, given)
        see: Callable[[Tensor], Tensor] = lambda x: x.to(wide, copy=True)  # noqa: E731
        if centre.any():
            see = lambda x: x - centre  # noqa: E731
        theta = given.minus(centre)
        constant = log_peaks(form, theta)
        joint = form.row_log_masses(theta.means, theta.roots, constant)
        return cls(kind, given, form, theta, centre, see, joint)

    def log_masses(self, x: Tensor) -> Tensor:
        """Log p(x, k), (K, n), of what is there of the rows."""
        found = self.joint(self.see(x))
        incomplete = found[0].isnan()
        if incomplete.any():
            found[:, incomplete] = self.expected(x[incomplete])[0]
        return found

    def expected(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x_O, k), (K, n), and E[x | x_O, k], (K, n, d), of rows."""
        return expected_rows(self.kind, self.given, x)

    def encode(self, x: Tensor) -> Tensor:
        """Responsibilities (n, K)."""
        return normalise(self.log_masses(x))[1].T

    def decode(self, code: Tensor) -> Tensor:
        """Sum of the means, weighted by a code (n, K)."""
        return self.centre + code.to(self.centre.dtype) @ self.theta.means

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density (n,)."""
        return sum_exp(self.log_masses(x))[0]

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
        return x + self.noise(k, generator)

    def noise(self, k: Tensor, generator: torch.Generator) -> Tensor:
        """Draw rows of components k (n,) less their means."""
        white = self.centre.new_empty(len(k), len(self.centre))
        white.normal_(generator=generator)
        return self.form.colour(white, k, self.theta.roots)

    def draw_given(self, x: Tensor, k: Tensor, generator: torch.Generator) -> Tensor:
        """Draw rows of components k (n,) given what is there of rows x (n, d)."""
        return draw_given(self.kind, self.given, x, k, generator)

    def impute(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Fill rows (n, d) with the mean of missing cells given the rest, or a draw."""
        incomplete = x.isnan().any(1)
        rows = x[incomplete].to(self.centre)
        log_masses, expected = self.expected(rows)
        resp = normalise(log_masses)[1].T
        if generator is None:
            found = (resp[:, None] @ expected.transpose(0, 1)).squeeze(1)
        else:
            k = resp.multinomial(1, generator=generator).squeeze(1)
            found = self.draw_given(rows, k, generator)
        filled = x.clone()
        filled[incomplete] = torch.where(rows.isnan(), found, rows).to(x.dtype)
        return filled

    def complete(
        self, x: Tensor, noise: bool, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw what is missing of rows (n, d), and the components (n, K) it is of."""
        rows = x.to(self.centre)
        log_masses, expected = self.expected(rows)
        resp = normalise(log_masses)[1].T
        k = resp.multinomial(1, generator=generator).squeeze(1)
        if noise:
            found = self.draw_given(rows, k, generator)
        else:
            found = expected[k, torch.arange(len(k), device=k.device)]
        one_hot = torch.zeros_like(resp).scatter_(1, k[:, None], 1)
        return torch.where(rows.isnan(), found, rows), one_hot

    def known(self, x: Tensor, cells: list[int]) -> Known:
        """Return what rows (C, d) of one pattern let expect of cells J."""
        means, x = self.given.means, x.to(self.centre)
        there = (~x[0].isnan()).nonzero()[:, 0]
        columns, o = torch.cat([there, there.new_tensor(cells)]), len(there)
        S = self.kind.at_columns(self.given.covariances, len(means), columns)
        own, cross = S[:, :o, :o], S[:, :o, o:]
        slope = torch.cholesky_solve(cross, torch.linalg.cholesky(own))  # (K, o, J)
        lacks = x[:, None, there] - means[:, there]
        shift = (lacks[..., None, :] @ slope).squeeze(-2)
        spread = S[:, o:, o:] - cross.mT @ slope
        parts = (self.log_masses(x).T, means[:, cells] + shift, spread)
        return Known(*map(to_array, parts))


# Incomplete rows.


def expected_rows(kind: Direct, theta: Mixture, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return log p(x_O, k), (K, n), and E[x | x_O, k], (K, n, d), of rows (n, d)."""
    given = conditionals(kind, *theta[1:])
    K, d = theta.means.shape
    log_masses, rows = (
        theta.means.new_empty(K, len(x)),
        theta.means.new_empty(K, len(x), d),
    )
    for block in given.blocks(x):
        found = given(block)
        log_masses[:, block.rows] = found.log_density + theta.weights.log()[:, None]
        rows[:, block.rows] = theta.means[:, None] + found.y.mT
    return log_masses, rows


def draw_given(
    kind: Direct,
    theta: Mixture,
    x: Tensor,
    k: Tensor,
    generator: torch.Generator,
    widths: Tensor | None = None,
) -> Tensor:
    """Draw rows (n, d) of components k (n,) given what is there of rows x (n, d).

    A draw e of the whole row is moved by what its cells that are there lack: by what
    x_O - m_O - e_O lets expect of the others (Matheron's rule). The standard deviations
    of a row may be multiplied by a width (n,).
    """
    drawn = torch.empty_like(x)
    for each in k.unique().tolist():
        of_component = k == each
        rows, one = x[of_component], _component(kind, theta, each)
        white = torch.empty_like(rows).normal_(generator=generator)
        noise = kind.colour(white, k.new_zeros(len(rows)), one.roots)
        if widths is not None:
            noise = noise * widths[of_component, None]
        given = conditionals(kind, *one[1:])
        for block in given.blocks(rows):
            own = noise[block.rows]
            lacks = (block.x - one.means - own).nan_to_num_(nan=0.0)
            moved = given.fill(lacks.T[None].contiguous(), block).y[0].T
            noise[block.rows] = own + moved
        drawn[of_component] = one.means + noise
    return drawn


def _component(kind: Direct, theta: Mixture, k: int) -> Mixture:
    """Return one component, as a mixture of one."""
    weights, means, covariances, roots = theta
    own = (kind.component(each, k) for each in (covariances, roots))
    return Mixture(torch.ones_like(weights[:1]), means[k : k + 1], *own)


def _score_form(kind: Covariance, theta: Mixture) -> tuple[Covariance, Tensor]:
    """Return the fastest form, and a centre for it, in which scores keep digits."""
    origin, middle = torch.zeros_like(theta.means[0]), theta.means.mean(0)
    for form in kind.score_forms[:-1]:
        for centre in (origin, middle):
            if not theta.loses(form, centre):
                return form, centre
    return kind, origin
