"""Rows of a diffusion model given some of their cells: twisted Monte Carlo.

Particles go from noise to rows, and each is drawn towards the cells that are known. A
twist ``psi_t(z) = p(known cells | z)``, guessed from the row that the network makes of
z, bends the steps, and weights make up for what was guessed: their mean is, unbiased,
the density of the known cells under the model in as many steps, and the weighted
particles are rows given these (Wu et al. 2023).

For a standard normal density the twist is exact, and so are all weights.

References
----------
Wu, Trippe, Naesseth, Blei & Cunningham, "Practical and asymptotically exact
conditional sampling in diffusion models", NeurIPS 2023.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from skgen._utils.tensors import LOG_2PI
from skgen.models.noising import Level, levels, step_back

if TYPE_CHECKING:
    from skgen.models.diffusion import DiffusionModel

# Part of the particles that the weights have to stand for; else they are drawn anew.
LEAST_EFFECTIVE = 0.5

#: Gives the noise (P, n, m + c + 2) of a step: normal, and two uniform numbers, of
#: which the last is spread over [0, 1] along P.
Draws = Callable[[int], Tensor]


class Particles(NamedTuple):
    """Weighted rows given the known cells of n rows."""

    rows: Tensor  # (P, n, m + c), inside: numbers, and levels
    weight: Tensor  # (P, n), which add up to one
    log_total: Tensor  # (n,), log-density of the known cells


class Look(NamedTuple):
    """Prediction of the network at particles, and how well it meets the known cells."""

    F: Tensor  # (P, n, m)
    g: Tensor | None  # (P, n, c, K)
    log_twist: Tensor  # (P, n)
    pull: Tensor  # (P, n, m), its gradient


def particles(
    model: DiffusionModel, x: Tensor, seen: Tensor | None, draws: Draws
) -> Particles:
    """Draw rows given what is known of rows (n, m + c), NaN where nothing is."""
    with torch.inference_mode(False), torch.no_grad():
        copied = copy.deepcopy(model).requires_grad_(False)
        seen = None if seen is None else seen.clone()
        return Twisted(copied, x.clone(), seen, draws).run()


def normal_log_prob(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Log N(x; mean, variance), number by number."""
    return -0.5 * ((x - mean).square() / variance + variance.log() + LOG_2PI)


class Twisted:
    """Particles on their way.

    Parameters
    ----------
    model : DiffusionModel
        The model, whose weights have no gradients.
    x : Tensor of shape (n, m + c)
        What is known of rows, NaN for the rest.
    seen : Tensor of shape (n, q) or None
        What the network sees of conditions.
    draws : callable
        Noise of a step.
    """

    def __init__(
        self, model: Any, x: Tensor, seen: Tensor | None, draws: Draws
    ) -> None:
        self.model, self.seen, self.draws = model, seen, draws
        self.m, self.shares = model.n_numbers, model.shares
        known, filled = ~x.isnan(), x.nan_to_num(0.0)
        self.x, self.known = filled[:, : self.m], known[:, : self.m]
        self.cells, self.known_cells = filled[:, self.m :], known[:, self.m :]

    def run(self) -> Particles:
        """Go from the last level to the first, a step at a time."""
        grid = levels(self.model.n_steps, self.x).flip(0)
        noise = self.draws(0)
        self.z, self.at = self.model.started(noise)
        look = self.looked(Level(grid[:1]))
        log_weight, self.log_total = look.log_twist, look.log_twist.new_zeros(())
        for k, (t, s) in enumerate(zip(grid[:-1].split(1), grid[1:].split(1)), 1):
            noise = self.draws(k)
            log_weight, look = self.resampled(log_weight, look, noise[..., -1])
            log_weight = log_weight - look.log_twist
            log_weight = log_weight + self.step(look, Level(t), Level(s), noise)
            is_last = k == len(grid) - 1
            look = self.ended(Level(s)) if is_last else self.looked(Level(s))
            log_weight = log_weight + look.log_twist
        total = log_weight.logsumexp(0) - math.log(len(log_weight))
        rows = torch.cat([self.z / Level(grid[-1:]).alpha, self.at], dim=-1)
        return Particles(rows, log_weight.softmax(0), self.log_total + total)

    def looked(self, level: Level) -> Look:
        """Ask the network, and how the twist changes with the particles."""
        z = self.z.detach().requires_grad_()
        with torch.enable_grad():
            state = torch.cat([z, self.at], dim=-1)
            F, g = self.model.predicted(state, level.gamma[None], self.seen)
            mean = level.alpha * z - level.sigma * F
            twist = normal_log_prob(self.x, mean, level.sigma.square())
            log_twist = (twist * self.known).sum(-1)
            if g is not None:
                kept = level.alpha.square()
                p = self.shares.back(self.at, g, kept, torch.ones_like(kept))
                log_twist = log_twist + self.of_cells(p)
            (pull,) = torch.autograd.grad(log_twist.sum(), z)
        g = None if g is None else g.detach()
        return Look(F.detach(), g, log_twist.detach(), pull)

    def of_cells(self, probability: Tensor) -> Tensor:
        """Log-probability (P, n) of the known cells, of probabilities (P, n, c, K)."""
        found = self.shares.log_of(probability, self.cells)
        total: Tensor = (found * self.known_cells).sum(-1)
        return total

    def ended(self, level: Level) -> Look:
        """Compare the known cells with what is drawn at the first level."""
        spread = (level.sigma / level.alpha).square()
        twist = normal_log_prob(self.x, self.z / level.alpha, spread)
        log_twist = (twist * self.known).sum(-1)
        if self.shares is not None:
            kept = level.alpha.square()
            one = torch.ones_like(self.shares.share)
            p = self.shares.back(self.at, one, kept, torch.ones_like(kept))
            log_twist = log_twist + self.of_cells(p)
        return Look(self.z, None, log_twist, self.z)

    def resampled(
        self, log_weight: Tensor, look: Look, places: Tensor
    ) -> tuple[Tensor, Look]:
        """Draw particles anew, by their weights, of rows where few stand for all."""
        P = len(log_weight)
        weight = log_weight.softmax(0)
        is_poor = weight.square().sum(0) * P * LEAST_EFFECTIVE > 1
        edges = weight.cumsum(0).T.contiguous()
        picked = torch.searchsorted(edges, places.T.contiguous()).T.clamp(max=P - 1)
        order = torch.arange(P, device=picked.device)[:, None]
        index = torch.where(is_poor, picked, order)
        total = log_weight.logsumexp(0) - math.log(P)
        self.log_total = self.log_total + torch.where(is_poor, total, 0.0)
        self.z, self.at = taken(self.z, index), taken(self.at, index)
        F, g, log_twist, pull = look
        look = Look(
            taken(F, index),
            None if g is None else taken(g, index),
            log_twist.gather(0, index),
            taken(pull, index),
        )
        return torch.where(is_poor, 0.0, log_weight), look

    def step(self, look: Look, t: Level, s: Level, noise: Tensor) -> Tensor:
        """Move the particles; return the log-ratio (P, n) of the model and the move."""
        mean, variance = step_back(self.z, look.F, t, s)
        # Numbers that are known end at a point: less noise is left for them.
        less = (s.sigma / t.sigma).square()
        narrow = torch.where(self.known, variance * less, variance)
        moved = mean + s.alpha / t.alpha * variance * look.pull
        self.z = moved + narrow.sqrt() * noise[..., : self.m]
        plain = normal_log_prob(self.z, mean, variance)
        ratio = (plain - normal_log_prob(self.z, moved, narrow)).sum(-1)
        return ratio if look.g is None else ratio + self.step_cells(look, t, s, noise)

    def step_cells(self, look: Look, t: Level, s: Level, noise: Tensor) -> Tensor:
        """Draw levels: those that are known on their way to what they are."""
        kept, before = t.alpha.square(), s.alpha.square()
        shares = self.shares
        p = shares.back(self.at, look.g, kept, before)
        known = shares.back(self.at, shares.known(self.cells), kept, before)
        q = torch.where(self.known_cells[..., None], known, p)
        uniform = torch.special.ndtr(noise[..., self.m : -2])
        self.at = shares.drawn(q, uniform)
        ratio: Tensor = shares.log_of(p, self.at) - shares.log_of(q, self.at)
        return ratio.sum(-1)


def taken(values: Tensor, index: Tensor) -> Tensor:
    """Select particles (P, n) of values (P, n, ...)."""
    columns = torch.arange(index.shape[1], device=index.device)
    return values[index, columns]
