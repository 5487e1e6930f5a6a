"""Noise levels of a diffusion model, and steps from one to the next.

A level is gamma, minus the log of the signal-to-noise ratio: ``z = alpha x + sigma
eps`` with ``alpha^2 = sigmoid(-gamma)`` and ``sigma^2 = sigmoid(gamma)``. Steps take F,
the prediction of ``v = alpha eps - sigma x``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from skgen._utils.tensors import inverse_cdf

# Noise levels from rows, whose standard deviation is 1, with noise of 0.007, to noise
# with a part 0.03 of rows.
FIRST, LAST = -10.0, 7.0
# Slope of the schedule in the middle of the range, in parts of that of a straight line.
MIDDLE_SLOPE = 0.35
# Noise below which rows are taken to be smooth.
SMOOTH = 0.3
# Frequencies that the network sees a level by.
N_FREQUENCIES = 6


class Level(NamedTuple):
    """Noise levels, (..., 1), and the parts of signal and noise."""

    gamma: Tensor

    @property
    def alpha(self) -> Tensor:
        """Part of the row."""
        return (-self.gamma).sigmoid().sqrt()

    @property
    def sigma(self) -> Tensor:
        """Part of the noise."""
        return self.gamma.sigmoid().sqrt()

    @property
    def scale(self) -> Tensor:
        """Scale of what is predicted: it is little where there is little noise.

        Where densities are smooth, v less its noise is sigma times a slope. So errors
        of large noise, which weigh much at small noise, do not reach the network.
        """
        return self.sigma / (self.gamma.sigmoid() + SMOOTH**2).sqrt()

    @property
    def features(self) -> Tensor:
        """Inputs of the network that tell the level, (..., 2 N + 1)."""
        part = 2 * (self.gamma - FIRST) / (LAST - FIRST) - 1
        powers = torch.arange(N_FREQUENCIES, device=part.device, dtype=part.dtype)
        angles = part * (0.5 * math.pi) * 2**powers
        return torch.cat([part, angles.sin(), angles.cos()], dim=-1)


def scheduled(uniform: Tensor) -> tuple[Level, Tensor]:
    """Return the levels of uniform numbers (..., 1), and their slopes.

    A cubic with most levels in the middle, where there is something to learn.
    """
    t = 2 * uniform - 1
    half, middle = 0.5 * (LAST - FIRST), 0.5 * (LAST + FIRST)
    gamma = middle + half * (MIDDLE_SLOPE * t + (1 - MIDDLE_SLOPE) * t**3)
    slope = 2 * half * (MIDDLE_SLOPE + 3 * (1 - MIDDLE_SLOPE) * t**2)
    return Level(gamma), slope


def levels(n_steps: int, like: Tensor) -> Tensor:
    """Return levels (n_steps + 1,) at equal distances, the first first."""
    return torch.linspace(FIRST, LAST, n_steps + 1, device=like.device).to(like.dtype)


def rotated(z: Tensor, F: Tensor, t: Level, s: Level) -> Tensor:
    """Go from a level to one with less noise, without any (Song et al. 2021, DDIM)."""
    x, eps = t.alpha * z - t.sigma * F, t.sigma * z + t.alpha * F
    return s.alpha * x + s.sigma * eps


def step_back(z: Tensor, F: Tensor, t: Level, s: Level) -> tuple[Tensor, Tensor]:
    """Return mean and variance of p(z_s | z_t) of the diffusion (Ho et al. 2020).

    Exact where rows are standard normal, and F zero.
    """
    eps = t.sigma * z + t.alpha * F
    part = -torch.expm1(s.gamma - t.gamma)
    mean = s.alpha / t.alpha * (z - part * t.sigma * eps)
    return mean, part * t.sigma.square()


def stepped_back(z: Tensor, F: Tensor, t: Level, s: Level, noise: Tensor) -> Tensor:
    """Draw from p(z_s | z_t) of the diffusion (DDPM)."""
    mean, variance = step_back(z, F, t, s)
    return mean + variance.sqrt() * noise


# Levels of columns: a cell is drawn anew from the shares of its column, now and then.
# By a level of noise, a part alpha^2 of the cells is what it was.


class Shares(NamedTuple):
    """Shares pi (c, K) of the levels of c columns; 0 for levels that a column lacks.

    Cells are numbers of levels, (..., c). A prediction g (..., c, K) is the ratio of a
    probability and the share of each level: 1 where nothing is known. It is of a cell
    given all others, whatever the cell itself is at the moment.
    """

    share: Tensor

    def known(self, cells: Tensor) -> Tensor:
        """Return the g of cells that are known."""
        return self._at(cells) / self._of(self.share, cells)[..., None]

    def predicted(self, logits: Tensor) -> Tensor:
        """Return g, given logits (..., c, K) that are added to the log-shares."""
        shares = self.share.to(logits.dtype)
        log_share = shares.clamp(min=torch.finfo(shares.dtype).tiny).log()
        ratio = logits - (logits + log_share).logsumexp(-1, keepdim=True)
        return torch.where(shares > 0, ratio.exp(), 0.0)

    def noised(self, cells: Tensor, level: Level, uniform: Tensor) -> Tensor:
        """Draw cells (..., c) at a noise level from cells that are known."""
        kept = level.alpha.square()
        at = ((uniform - kept) / (1 - kept))[..., None]
        drawn = (at >= self.share.cumsum(-1)[..., :-1]).sum(-1)
        return torch.where(uniform < kept, cells, drawn.to(cells.dtype))

    def drawn(self, probability: Tensor, uniform: Tensor) -> Tensor:
        """Draw cells (..., c) with probabilities (..., c, K)."""
        cdf = probability.cumsum(-1).contiguous()
        return inverse_cdf(cdf, uniform.contiguous()).to(uniform.dtype)

    def back(self, cells: Tensor, g: Tensor, kept: Tensor, before: Tensor) -> Tensor:
        """Return the probabilities (..., c, K) of cells at a level with less noise.

        ``kept`` and ``before`` (..., 1) are alpha^2 at the level of ``cells`` and at
        the other: 1 for the cells without any noise (Hoogeboom et al. 2021).
        """
        kept, before = kept[..., None], before[..., None]
        stay = (kept / before) * self._at(cells)
        forward = stay + (1 - kept / before) * self._of(self.share, cells)[..., None]
        joint = forward * self.share * (before * g + 1 - before)
        return joint / joint.sum(-1, keepdim=True)

    def gains(self, x: Tensor, cells: Tensor, g: Tensor, level: Level) -> Tensor:
        """Gain (..., c) of a prediction over the shares, a unit of gamma.

        Cells jump from i to j at the rate ``sigma^2 pi_j f_j / f_i`` on the way back,
        ``f_j = alpha^2 [j = x] / pi_x + sigma^2``; the model has the f of its g. The
        bound loses what a Poisson process of one rate loses by the other (Campbell et
        al. 2022), here less what it loses by f = 1, the shares.
        """
        a, b = level.alpha.square(), level.sigma.square()
        f = a * (x == cells) / self._of(self.share, x) + b
        log_f = (a[..., None] * g + b[..., None]).log()
        at_cell = self._of(log_f, cells)
        mean = a * self._of(log_f, x) + b * (self.share * log_f).sum(-1)
        return b * (1 - (-at_cell).exp() + (mean - at_cell) / f)

    def log_of(self, probability: Tensor, cells: Tensor) -> Tensor:
        """Log-probabilities (..., c) of cells, of probabilities (..., c, K)."""
        return self._of(probability, cells).log()

    def one_hot(self, cells: Tensor) -> Tensor:
        """Return cells as zeros and ones, side by side, (..., c K)."""
        return self._at(cells).to(self.share.dtype).flatten(-2)

    def _at(self, cells: Tensor) -> Tensor:
        levels = torch.arange(self.share.shape[-1], device=cells.device)
        return cells[..., None] == levels

    def _of(self, values: Tensor, cells: Tensor) -> Tensor:
        """Select those of some cells (..., c) among values (..., c, K)."""
        shape = torch.broadcast_shapes(values.shape[:-1], cells.shape)
        index = cells.long().expand(shape)[..., None]
        return values.expand(*shape, -1).gather(-1, index).squeeze(-1)
