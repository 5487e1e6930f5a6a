"""Diffusion models: a network takes out noise that is added to rows, step by step.

A row x, standardised, at a noise level gamma (minus the log of the signal-to-noise
ratio) is ``z = alpha x + sigma eps`` with ``alpha^2 = sigmoid(-gamma)``, ``sigma^2 =
sigmoid(gamma)`` and standard normal eps. The network F predicts ``v = alpha eps - sigma
x`` from z and gamma, so that ``x = alpha z - sigma v`` and ``eps = sigma z + alpha v``.

Where F is zero, the model is the standard normal density, at every level. So all that
is here is written as a gain over it: the variational bound (Kingma et al. 2021), whose
Monte Carlo error is that of the gain alone, and the probability-flow ODE (Song et al.
2021), ``dz / dgamma = alpha sigma F / 2``, a rotation of x and eps into each other.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional

from skgen._networks.dense import (
    ACTIVATIONS,
    Activation,
    Layers,
    PassSize,
    Standardizer,
    mlp,
)
from skgen._networks.unet import UNet
from skgen._tables.conditions import column_numbers, read_conditions
from skgen._training.adam import SCHEDULES
from skgen._training.batches import Batch
from skgen._utils.chunks import slices
from skgen._utils.parameters import (
    LARGEST_STEP,
    Rule,
    attribute,
    boolean,
    estimator,
    integer,
    none,
    options,
    parameter,
    real,
    sequence,
)
from skgen._utils.tensors import (
    LOG_2PI,
    draw_seed,
    fresh_random_state,
    make_generator,
)
from skgen.likelihoods import Likelihood
from skgen.likelihoods.noised import Noised
from skgen.likelihoods.specs import checked
from skgen.models.building import check_image, image_networks
from skgen.models.conditions import (
    Classes,
    ConditionedModel,
    Numbers,
    OptionallyConditioned,
    beside,
)
from skgen.models.evaluation import (
    N_BLOCKS,
    LogLikelihood,
    estimate_log_likelihood,
)
from skgen.models.hyperparameters import MOST_LAYERS
from skgen.models.neural import available_unless
from skgen.models.noising import (
    FIRST,
    LAST,
    N_FREQUENCIES,
    Level,
    Shares,
    levels,
    rotated,
    scheduled,
    stepped_back,
)
from skgen.models.twisting import Draws, particles
from skgen.objectives import DiffusionLoss
from skgen.priors import StandardNormal

# Levels at which a step sees each row of a table, and a held-out row is seen.
TRAINING_LEVELS, HELD_OUT_LEVELS = 4, 8
# Sets of particles of a careful estimate.
N_SETS = 8
SAMPLERS = ("ddim", "ddpm")


def _are_kinds(value: Any) -> bool:
    """Return whether a value is a sequence of kinds of columns."""
    if not isinstance(value, list | tuple) or not len(value):
        return False
    try:
        return all(checked(kind) is not None for kind in value)
    except (TypeError, ValueError):
        return False


kinds_rule = Rule(
    _are_kinds,
    "a list of kinds, one for each column: 'real', 'positive', 'count', an int, a "
    "number of levels, ('ordinal', n_levels), ('bounded', low, high), ('whole', low, "
    "high) or ('inflated', kind, values)",
)


class DiffusionModel(ConditionedModel):
    """The network of a diffusion model, its bound, and its probability flow.

    Inside, a row has m numbers, which get noise, and c levels, which are drawn anew;
    in rows of numbers alone m is d.

    Parameters
    ----------
    network : Module
        Of noisy rows, what it sees of their levels and conditions, side by side, to v
        and to what is added to the log-shares of levels.
    likelihood : Noised
        Makes rows of numbers and levels, and back.
    standardizer : Standardizer
        Scale of the rows.
    condition : Classes, Numbers or None
        Makes of a context what the network sees.
    n_times : int
        Levels at which a score looks at a row, and particles of a row that has missing
        cells.
    n_steps : int
        Steps of the flow.
    dropout : float
        Part of the training rows whose condition is hidden.
    """

    likelihood: Noised

    def __init__(
        self,
        network: nn.Module,
        likelihood: Noised,
        standardizer: Standardizer,
        condition: Classes | Numbers | None,
        n_times: int,
        n_steps: int,
        dropout: float,
    ) -> None:
        super().__init__(likelihood, standardizer)
        self.network, self.condition = network, condition
        self.n_steps, self.dropout = n_steps, dropout
        self.n_numbers = likelihood.n_numbers(len(standardizer.shift))
        self.n_inside = self.n_numbers + likelihood.n_level_columns
        self.prior = StandardNormal(self.n_numbers)
        self.register_buffer("noise", self.spread_draws(N_BLOCKS, n_times))
        d = len(standardizer.shift) if likelihood.draws_rows else 0
        self.register_buffer("thresholds", torch.rand(N_BLOCKS, d))

    @property
    def shares(self) -> Shares | None:
        """Shares of the levels; None where there are numbers alone."""
        has_levels = self.likelihood.n_level_columns > 0
        return Shares(self.likelihood.share) if has_levels else None

    def standard_noise(
        self, shape: Sequence[int], generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw noise (..., m + c + 2): normal, and two uniform numbers.

        These say whether a condition is hidden, and which level a row has.
        """
        like = next(self.parameters())
        noise = like.new_empty(*shape, self.n_inside + 2)
        noise.normal_(generator=generator)
        uniform = like.new_empty(*shape, 2).uniform_(generator=generator)
        noise[..., -2:] = uniform
        return noise

    def spread_draws(
        self, n: int, n_draws: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw noise (n, S, m + c + 2), a level from each of S parts of the range."""
        noise = self.standard_noise((n, n_draws), generator)
        strata = torch.arange(n_draws, device=noise.device)[None, :]
        noise[..., -1] = (noise[..., -1] + strata) / n_draws
        return noise

    def spread_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw noise (S, n, m + c + 2) of which the levels are spread over the range.

        Rows of a table are seen at several, which costs less than as many steps; those
        that are held out at more, since few of them judge each epoch.
        """
        is_cheap = isinstance(self.network, Layers)
        S = (TRAINING_LEVELS if is_cheap else 1) if self.training else HELD_OUT_LEVELS
        noise = self.standard_noise((S, n), generator)
        rows = torch.arange(n, device=noise.device) / n
        draws = torch.arange(S, device=noise.device)[:, None] / S
        noise[..., -1] = (noise[0, 0, -1].clone() + rows + draws) % 1
        return noise

    def set_rows(self, x: Tensor) -> None:
        """Adapt to training rows, standardised: start at independent columns."""
        self.likelihood.set_rows(x)
        last: Any = list(self.network.children())[-1]
        last.weight.data.zero_()
        last.bias.data.zero_()
        self.count_outputs(x[:1])

    def count_outputs(self, x: Tensor) -> None:
        """Count the numbers that layers make of a row (1, d), and their work."""
        shares = self.shares
        more = 2 * N_FREQUENCIES + 1
        more += 0 if self.condition is None else self.condition.width + 1
        more += 0 if shares is None else shares.share.numel()
        inputs = x.new_zeros(1, self.n_numbers + more)
        self.widest, self.work = PassSize.of(self.network, inputs)

    # As objectives call it: rows are standardised, and numbers and levels.

    def seen(self, batch: Batch, hidden: Tensor | None = None) -> Tensor | None:
        """Return conditions (..., n, c + 1), 0 where ``hidden`` (..., n)."""
        if self.condition is None:
            return None
        known = self.conditions(batch)
        known = torch.cat([known, torch.ones_like(known[:, :1])], dim=-1)
        return known if hidden is None else known * ~hidden[..., None]

    def outputs(self, rows: Tensor, gamma: Tensor, seen: Tensor | None) -> Tensor:
        """Ask the network at noisy rows, levels (..., 1) and conditions."""
        if (shares := self.shares) is not None:
            numbers, cells = rows[..., : self.n_numbers], rows[..., self.n_numbers :]
            rows = torch.cat([numbers, shares.one_hot(cells)], dim=-1)
        inputs = beside(rows, Level(gamma).features.expand(*rows.shape[:-1], -1))
        found: Tensor = self.network(inputs if seen is None else beside(inputs, seen))
        return found

    def parted(self, outputs: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor | None]:
        """Part outputs into F (..., n, m) and g (..., n, c, K) of levels."""
        scale = Level(gamma).scale
        if (shares := self.shares) is None:
            return scale * outputs, None
        F, logits = outputs[..., : self.n_numbers], outputs[..., self.n_numbers :]
        return scale * F, shares.predicted(logits.unflatten(-1, shares.share.shape))

    def predicted(
        self, rows: Tensor, gamma: Tensor, seen: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return F (..., n, m) and g (..., n, c, K) at noisy rows (..., n, m + c)."""
        return self.parted(self.outputs(rows, gamma, seen), gamma)

    def gains(self, batch: Batch) -> Tensor:
        """Draws of the bound's gain over independent columns, (S, n).

        Of numbers ``gamma' / 2 alpha^2 (2 F v - |F|^2)``: the loss |eps - eps_hat|^2
        less that of the standard normal, whose mean is known.
        """
        m, k = self.n_numbers, self.n_inside
        eps, uniform = batch.draws[..., :m], batch.draws[..., k:]
        hidden = uniform[..., 0] < self.dropout if self.training else None
        level, slope = scheduled(uniform[..., 1:])
        alpha, sigma = level.alpha, level.sigma
        x, cells = batch.x[..., :m], batch.x[..., m:]
        rows = alpha * x + sigma * eps
        shares, seen = self.shares, self.seen(batch, hidden)
        if shares is None:
            F, _ = self.predicted(rows, level.gamma, seen)
            return of_numbers(F, x, eps, level, slope)
        at = shares.noised(cells, level, torch.special.ndtr(batch.draws[..., m:k]))
        F, g = self.predicted(torch.cat([rows, at], dim=-1), level.gamma, seen)
        assert g is not None
        of_levels: Tensor = slope * shares.gains(cells, at, g, level)
        return of_numbers(F, x, eps, level, slope) + of_levels.sum(-1)

    def baseline(self, x: Tensor) -> Tensor:
        """Bound (n,) of independent columns: normal numbers, and the shares of levels.

        Of numbers, where F is zero, but for the ends of the range.
        """
        found = normal_bound(x[..., : self.n_numbers]) + self.likelihood.log_det(x)
        if (shares := self.shares) is None:
            return found
        return found + shares.log_of(shares.share, x[..., self.n_numbers :]).sum(-1)

    def bound(self, batch: Batch) -> Tensor:
        """Variational bound on log p(x|y), (n,); of known cells, where some are not."""
        incomplete = batch.x.isnan().any(-1)
        if not incomplete.any():
            return self.baseline(batch.x) + self.gains(batch).mean(0)
        found = batch.x.new_empty(len(batch.x))
        for function, which in (
            (self.bound, ~incomplete),
            (self.known_bound, incomplete),
        ):
            index = which.nonzero().squeeze(1)
            if len(index):
                found[index] = function(batch.part(index))
        return found

    # Rows with missing cells.

    def known_bound(self, batch: Batch) -> Tensor:
        """Log-density (n,) of the known cells, by particles under noise of the rows."""
        return self._known_bound(batch, self.noise_after(batch.draws))

    def _known_bound(self, batch: Batch, draws: Draws) -> Tensor:
        """Log-density (n,) of the known cells, by particles.

        The standardiser takes the log-scale of every column; those of missing cells
        are given back.
        """
        x = self.likelihood.without_noise(batch.x)
        found = particles(self, x, self.seen(batch), draws)
        scale = self.standardizer.scale
        if self.likelihood.kinds is not None:
            scale = scale[self.likelihood.numbers]
        lost = batch.x[..., : self.n_numbers].isnan() * scale.log().to(x.dtype)
        return found.log_total + self.likelihood.log_det(x) + lost.sum(-1)

    def noise_after(self, noise: Tensor) -> Draws:
        """Return the noise (P, n, ...) of each step after that (P, n, ...) of a score.

        Blocks of the pool, from one that is named by a number which scores do not use.
        """
        first = (noise[0, :, -2] * N_BLOCKS).long()
        return lambda k: self.noise[(first + k) % N_BLOCKS].transpose(0, 1).clone()

    def fresh_noise(self, n: int, generator: torch.Generator) -> Draws:
        """Return noise (P, n, ...) that is drawn for each step."""
        P = self.noise.shape[1]
        return lambda k: self.spread_draws(n, P, generator).transpose(0, 1)

    def started(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return numbers (..., m) and levels (..., c) that are noise alone."""
        z = noise[..., : self.n_numbers]
        if (shares := self.shares) is None:
            return z, noise[..., :0]
        uniform = torch.special.ndtr(noise[..., self.n_numbers : -2])
        shape = *uniform.shape, shares.share.shape[-1]
        return z, shares.drawn(shares.share.expand(shape), uniform)

    def impute(
        self, x: Tensor, generator: torch.Generator | None, *context: Tensor
    ) -> Tensor:
        """Rows (n, d) with the mean of missing cells given the rest, or a draw of them.

        From weighted particles: under noise that rows decide, or fresh.
        """
        incomplete = x.isnan().any(1).nonzero().squeeze(1)
        if not len(incomplete):
            return x
        known = (each[incomplete] for each in context)
        rows = self.completed(x[incomplete], generator, *known)
        filled = x.clone()
        filled[incomplete] = torch.where(x[incomplete].isnan(), rows, x[incomplete])
        return filled

    def completed(
        self,
        x: Tensor,
        generator: torch.Generator | None,
        context: Tensor | None = None,
    ) -> Tensor:
        """Means (n, d), or draws, of rows given what is known of them."""
        batch = self.scored_given(x, context)
        inside = self.likelihood.without_noise(batch.x)
        seen = self._seen_given(inside, context)
        if generator is None:
            found = particles(self, inside, seen, self.noise_after(batch.draws))
            return self.likelihood.average(self.rows_of(found.rows), found.weight)
        draws = self.fresh_noise(len(x), generator)
        found = particles(self, inside, seen, draws)
        picked = found.weight.T.multinomial(1, generator=generator).squeeze(1)
        rows = found.rows[picked, torch.arange(len(x), device=x.device)]
        return self.rows_of(self.noised_last(rows, generator))

    def noised_last(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Draw rows (n, m + c) from p(x | z) of the first level."""
        noise = self.standard_noise(rows.shape[:-1], generator)
        level, m = Level(rows.new_tensor([FIRST])), self.n_numbers
        x = rows[..., :m] + level.sigma / level.alpha * noise[..., :m]
        if (shares := self.shares) is None:
            return x
        uniform = torch.special.ndtr(noise[..., m:-2])
        return torch.cat([x, shares.noised(rows[..., m:], level, uniform)], dim=-1)

    def rows_of(self, inside: Tensor) -> Tensor:
        """Rows (..., d) in the units of the user."""
        rows = self.standardizer.inverse(self.likelihood.mean(inside))
        return self.likelihood.within(rows)

    # The probability flow.

    def flow(
        self,
        slope: Callable[[Tensor, Tensor], Tensor],
        state: Tensor,
        grid: Tensor,
    ) -> Tensor:
        """Follow ``d state / d gamma = slope`` along a grid of levels (Runge-Kutta)."""
        for start, end in itertools.pairwise(grid):
            h, middle = end - start, 0.5 * (start + end)
            k1 = slope(state, start)
            k2 = slope(state + 0.5 * h * k1, middle)
            k3 = slope(state + 0.5 * h * k2, middle)
            k4 = slope(state + h * k3, end)
            state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return state

    def velocity(self, z: Tensor, gamma: Tensor, seen: Tensor | None) -> Tensor:
        """Return dz / dgamma of noisy rows (..., n, d) at a level ()."""
        level = Level(gamma.view(1, 1))
        half = 0.5 * level.alpha * level.sigma
        return half * self.predicted(z, level.gamma, seen)[0]

    def careful_bound(
        self, batch: Batch, n_samples: int, generator: torch.Generator
    ) -> Tensor:
        """Return log p(x|y) carefully, and its standard error, (n, 2).

        By the flow; where cells are missing, by several sets of particles; with levels,
        which do not flow, a bound from more draws.
        """
        incomplete = batch.x.isnan().any(-1)
        found = batch.x.new_empty(len(batch.x), 2)
        complete = self._flow_density if self.shares is None else self._many_bounds
        for function, which in (
            (complete, ~incomplete),
            (self._careful_known_bound, incomplete),
        ):
            index = which.nonzero().squeeze(1)
            if len(index):
                found[index] = function(batch.part(index), n_samples, generator)
        return found

    def _many_bounds(
        self, batch: Batch, n_samples: int, generator: torch.Generator
    ) -> Tensor:
        """Mean of bounds from fresh draws, and its standard error, (n, 2)."""
        draws = self.fresh_noise(len(batch.x), generator)
        noises = map(draws, range(n_samples))
        gains = [self.gains(batch._replace(noise=noise)).mean(0) for noise in noises]
        bounds = torch.stack(gains)
        mean = self.baseline(batch.x) + bounds.mean(0)
        error = (bounds.var(0, correction=0) / bounds.new_tensor(n_samples - 1)).sqrt()
        return torch.stack([mean, error], dim=1)

    def _careful_known_bound(
        self, batch: Batch, n_samples: int, generator: torch.Generator
    ) -> Tensor:
        """Log-density (n,) of known cells by sets of particles, and its error, (n, 2).

        Each set is an unbiased estimate of the density.
        """
        draws = self.fresh_noise(len(batch.x), generator)

        def draw_log_weights(n_draws: int) -> Tensor:
            return torch.stack(
                [self._known_bound(batch, draws) for _ in range(n_draws)]
            )

        found = estimate_log_likelihood(draw_log_weights, N_SETS, 1)
        return torch.stack(found, dim=1)

    def _flow_density(
        self, batch: Batch, n_samples: int, generator: torch.Generator
    ) -> Tensor:
        """Return log p(x|y) by the flow, and its standard error, (n, 2).

        The divergence is exact where columns are no more than ``n_samples``, and
        otherwise from as many random directions (Hutchinson).
        """
        n, d = batch.x.shape
        if d <= n_samples:
            directions = torch.eye(d).to(batch.x)[:, None].expand(d, n, d)
        else:
            shape = n_samples, n, d
            bits = torch.randint(2, shape, generator=generator, device=batch.x.device)
            directions = 2 * bits.to(batch.x.dtype) - 1
        seen = self.seen(batch)
        # Inference tensors have no gradients: copies that are made outside do.
        with torch.inference_mode(False):
            model = copy.deepcopy(self).requires_grad_(False)
            seen = None if seen is None else seen.clone()
            z, traces = model._transported(batch.x.clone(), directions.clone(), seen)
        log_alpha = Level(z.new_tensor(FIRST)).alpha.log()
        density = self.prior.log_prob(z) + d * log_alpha
        density = density + self.likelihood.log_det(batch.x)
        if d <= n_samples:
            log_prob = density + traces.sum(0)
            return torch.stack([log_prob, torch.zeros_like(log_prob)], dim=1)
        # One direction says nothing of its error: 0 / 0.
        error = (traces.var(0, correction=0) / traces.new_tensor(n_samples - 1)).sqrt()
        return torch.stack([density + traces.mean(0), error], dim=1)

    def _transported(
        self, x: Tensor, directions: Tensor, seen: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return codes (n, d), and integrals (P, n) of ``u dF/dz u``, P directions."""
        n, d = x.shape
        P = len(directions)
        seen = None if seen is None else seen.expand(P, n, -1)

        def slope(both: Tensor, gamma: Tensor) -> Tensor:
            z = both[:, :d].expand(P, n, d).detach().requires_grad_()
            with torch.enable_grad():
                value = self.velocity(z, gamma, seen)
                (change,) = torch.autograd.grad(value, z, directions)
            traces = (change * directions).sum(-1)
            return torch.cat([value[0].detach(), traces.T], dim=1)

        alpha = Level(x.new_tensor(FIRST)).alpha
        start = torch.cat([alpha * x, x.new_zeros(n, P)], dim=1)
        end = self.flow(slope, start, levels(self.n_steps, x))
        return end[:, :d], end[:, d:].T

    # As estimators call it: rows are in the units of the user.

    def _seen_given(self, x: Tensor, context: Tensor | None) -> Tensor | None:
        """Return what the network sees of the conditions of codes or rows."""
        if self.condition is None:
            return None
        if context is None or not self.condition.is_known(context).all():
            raise ValueError(
                "Codes of a Diffusion with a condition are codes given y. Pass y, a "
                "label or numbers for each row, or one for all; none may be missing."
            )
        return self.seen(Batch(x, context=context))

    def _check_flows(self, x: Tensor) -> None:
        """Raise a ValueError where rows have no codes."""
        if self.shares is not None:
            raise ValueError(NO_CODES)
        if x.isnan().any():
            raise ValueError(
                "Codes of a Diffusion are one to one with complete rows, and X has "
                "missing cells (NaN). Fill them by impute first."
            )

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Codes (n, d) of rows, standard normal where rows are of the density."""
        self._check_flows(x)
        seen, grid = self._seen_given(x, context), levels(self.n_steps, x)
        start = Level(grid[:1]).alpha * self.view(x)
        return self.flow(lambda z, gamma: self.velocity(z, gamma, seen), start, grid)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Rows (n, d) of codes."""
        self._check_flows(z)
        seen, grid = self._seen_given(z, context), levels(self.n_steps, z).flip(0)
        end = self.flow(lambda z, gamma: self.velocity(z, gamma, seen), z, grid)
        return self.rows_of(end / Level(grid[-1:]).alpha)

    def draw(
        self,
        n: int,
        noise: bool,
        generator: torch.Generator,
        context: Tensor | None = None,
        *,
        sampler: str = "ddim",
        n_steps: int | None = None,
        guidance: float = 1.0,
    ) -> Tensor:
        """Draw rows (n, d) from p(x|y); y too, where it is missing."""
        start = self.standard_noise((n,), generator)
        seen = self._seen_given(start, self.drawn_labels(context, n, generator))
        z, cells = self.started(start)
        grid = levels(n_steps or self.n_steps, z).flip(0)
        for t, s in zip(map(Level, grid[:-1].split(1)), map(Level, grid[1:].split(1))):
            rows = torch.cat([z, cells], dim=-1)
            F, g = self.guided(rows, t.gamma[None], seen, guidance)
            if sampler == "ddim":
                z = rotated(z, F, t, s)
            else:
                fresh = torch.empty_like(z).normal_(generator=generator)
                z = stepped_back(z, F, t, s, fresh)
            if g is not None:
                cells = self.cells_back(cells, g, t, s, generator)
        rows = torch.cat([z / Level(grid[-1:]).alpha, cells], dim=-1)
        return self.rows_of(self.noised_last(rows, generator) if noise else rows)

    def cells_back(
        self, cells: Tensor, g: Tensor, t: Level, s: Level, generator: torch.Generator
    ) -> Tensor:
        """Draw levels (n, c) at a level with less noise."""
        shares = self.shares
        assert shares is not None
        probability = shares.back(cells, g, t.alpha.square(), s.alpha.square())
        uniform = torch.empty_like(cells).uniform_(generator=generator)
        return shares.drawn(probability, uniform)

    def guided(
        self, rows: Tensor, gamma: Tensor, seen: Tensor | None, guidance: float
    ) -> tuple[Tensor, Tensor | None]:
        """Predict, away from what is without a condition (Ho & Salimans)."""
        outputs = self.outputs(rows, gamma, seen)
        if seen is not None and guidance != 1:
            free = self.outputs(rows, gamma, torch.zeros_like(seen))
            outputs = free + guidance * (outputs - free)
        return self.parted(outputs, gamma)

    @property
    def score_elements(self) -> int:
        """Numbers that scoring a row holds at a time: its draws, in a layer."""
        return self.noise.shape[1] * self.row_elements


def of_numbers(
    F: Tensor, x: Tensor, eps: Tensor, level: Level, slope: Tensor
) -> Tensor:
    """Gain (...,) of numbers (..., m) over a standard normal, at a level."""
    v = level.alpha * eps - level.sigma * x
    gains: Tensor = (0.5 * slope * level.alpha.square() * F * (2 * v - F)).sum(-1)
    return gains


def normal_bound(x: Tensor) -> Tensor:
    """Bound (n,) where F is zero: log N(x; 0, I), but for the ends of the range."""
    first, last = (Level(x.new_tensor(gamma)) for gamma in (FIRST, LAST))
    a, b = first.alpha.square(), last.alpha.square()
    squared, m = x.square().sum(-1), x.shape[-1]
    per_column = functional.softplus(-first.gamma) - functional.softplus(-last.gamma)
    diffusion = m * (per_column - a + b) + squared * (a - b)
    prior = b * squared - m * (b + last.sigma.square().log())
    reconstruction = m * (1 + LOG_2PI + first.gamma)
    return -0.5 * (diffusion + prior + reconstruction)


NO_CODES = (
    "Diffusion of columns that have levels has no codes: numbers flow to noise, and "
    "levels do not. Use a VAE for codes of such rows."
)


def _without_codes(model: Any) -> str | None:
    """Return why rows have no codes; None where they have."""
    is_fitted = hasattr(model, "module_")
    return NO_CODES if is_fitted and model.module_.shares is not None else None


@estimator
class Diffusion(OptionallyConditioned):
    """Diffusion model: a network that takes noise out of rows, in steps.

    Noise is added to rows until nothing else is left, and a network learns to take it
    out (Ho et al. 2020). ``score_samples`` is the variational bound on log p(x) in
    continuous time (Kingma et al. 2021); ``log_likelihood`` the exact density of the
    probability-flow ODE (Song et al. 2021), which also gives ``transform`` to standard
    normal codes, one to one, and its inverse. Given labels or numbers, ``sample`` has
    ``y`` and classifier-free guidance. Cells of a fitted model may be missing: they are
    integrated out, filled in, and drawn given the others.

    Parameters
    ----------
    kinds : sequence of str, int or tuple, or None, default=None
        The kind of each column, as :class:`skgen.likelihoods.Mixed` has them; None: all
        are real numbers. Levels are noised by drawing them anew (multinomial diffusion,
        Hoogeboom et al. 2021). :class:`MixedDensity` gives the kinds of a table.
    condition : {"auto", "classes", "numbers"} or None, default=None
        Kind of y that rows are conditioned on; None ignores y. "auto" takes one column
        for classes, unless it holds numbers with fractions; and several columns for
        numbers.
    hidden_layer_sizes : sequence of int or int, default=(128, 128, 128)
        Widths of the hidden layers of the network.
    activation : str, default="gelu"
        Activation of the hidden layers: "relu", "tanh", "logistic", "identity", "gelu",
        "silu" or "softplus".
    architecture : {"mlp", "conv"}, default="mlp"
        Kind of the network: fully connected layers for tables; a U-Net for images,
        which need ``image_shape``, and have no ``hidden_layer_sizes``.
    image_shape : (height, width) or (height, width, channels), default=None
        Shape of the image that a row holds, channels last; each side from 8 to 128
        for "conv", with 1 to 4 channels.
    channels : int, default=32
        Channels of the first layers of "conv"; each halving of the image doubles
        them, up to four times.
    condition_dropout : float, default=0.1
        Part of the training rows whose condition is hidden, so that the network also
        knows rows without one: what guidance moves away from.
    standardize : bool, default=True
        Whether rows are shifted and scaled inside the model by the mean and standard
        deviation of the training rows. Densities are those of the rows as given,
        either way. Noise levels are for rows with a standard deviation near 1.
    n_times : int, default=64
        Noise levels at which ``score_samples`` looks at a row; and particles that stand
        for the missing cells of one.
    n_steps : int, default=64
        Steps of the ODE, and of ``sample`` where no other number is given.
    batch_size : int or "auto", default="auto"
        Rows of a step; "auto" is a tenth of the rows, between 16 and 128.
    learning_rate : {"constant", "cosine", "stages"}, default="cosine"
        Schedule of the step size over ``max_iter`` epochs: constant; falling to zero
        as half a cosine; or falling to a tenth in eight stages, each three times as
        long as the one before (Burda et al. 2016).
    learning_rate_init : float, default=5e-3
        Step size of Adam, at the start.
    weight_decay : float, default=0.0
        Decoupled decay of the weight matrices, as in AdamW.
    max_grad_norm : float or None, default=None
        Norm that longer gradients are cut to; 100 is the default of IWAE.
    weight_averaging : float, default=0.995
        Decay, a step, of the exponential moving average of the weights that is judged
        and kept; 0 keeps the weights themselves.
    max_iter : int, default=200
        Most epochs.
    tol : float, default=1e-4
        Improvement, in nats per row, below which an epoch counts as none.
    early_stopping : bool, default=True
        Whether a part of the rows is held out and decides when to stop; otherwise the
        training loss does. Either way the weights of the best epoch come back.
    validation_fraction : float, default=0.1
        Part of the rows that is held out.
    n_iter_no_change : int or "auto", default=100
        Epochs without improvement after which training stops; "auto" is as many as
        make up 300 steps, and at least 10.
    warm_start : bool, default=False
        Whether ``fit`` continues from the present weights, with the standardisation
        and the architecture that they were built with. Curves and ``n_iter_`` then
        extend those of the earlier fits, and a warm-up continues where it was.
    random_state : int, RandomState, Generator or None, default=None
        Source of initial weights, held-out rows, shuffles and noise.
    device : str or torch.device, default="cpu"
        "cpu", "cuda", "cuda:<index>", "mps" or "auto".
    execution : {"eager", "compiled", "captured"}, default="eager"
        How a step of training runs: as it is written; as one program that
        ``torch.compile`` makes, in some ten seconds for each size of batches (a fit
        has two), once a process for all models of a structure (on a CPU it needs a C++
        compiler); or as a CUDA graph. For long fits of small networks. Where it fails,
        a warning says so and steps run as written.
    verbose : bool or int, default=False
        Whether to print a line per epoch.
    checkpoint : path-like or None, default=None
        File that has the state of a fit that runs, after each epoch, or a folder for
        the files of many fits, such as those of a search. Called again with the same
        parameters and rows, a fit that was killed goes on from there, says so, and
        ends where it would have ended, to the bit. Other parameters or rows are an
        error. A fit that ends removes its file; in a folder it stays, so that a search
        that is called again has the result at once.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels, sorted. Only where conditions are classes.
    n_conditions_ : int
        Number of classes, or columns of y. Only where there is a condition.
    module_ : torch.nn.Module
        The trained model, in float32: ``network`` and ``standardizer``.
    loss_curve_ : list of float
        Mean training loss of each epoch, in nats per row.
    loss_terms_ : dict of str to list of float
        The loss and its parts, an epoch each.
    validation_curve_ : list of float
        What the held-out rows were watched for, an epoch each: the loss (for VQVAE
        minus the reconstruction), the lower the better, unlike ``validation_scores_``
        of scikit-learn's networks. Empty without early stopping.
    n_iter_ : int
        Epochs that were run, with those of earlier fits under ``warm_start`` and of
        ``partial_fit``.
    best_epoch_ : int
        Epoch whose weights were kept, counted from 1; 0 where no epoch was better
        than the start.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during fit, when they are all strings.
    device_ : str
        Where the model is evaluated.

    See Also
    --------
    FlowDensity : An exact density without an ODE.
    VAE : A code of fewer coordinates.

    Notes
    -----
    Rows are seen through noise of at least 0.007 of their standard deviation, so
    details that are finer are lost. Training starts at a normal density of independent
    columns, and "gain" in ``loss_terms_`` is the bound's distance from it.

    Noise at scoring is a function of the row, at ``n_times`` levels, one in each part
    of the range. The bound's error is that of the gain alone: it is zero at the start.

    ``fit`` takes complete rows. Later, the density of the known cells of a row, and the
    other cells given these, come from ``n_times`` particles that are drawn towards what
    is known on their way from noise, and weighted (Wu et al. 2023); the estimate of the
    density is unbiased, so that of its logarithm is from below.

    References
    ----------
    Ho, Jain & Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020.

    Kingma, Salimans, Poole & Ho, "Variational diffusion models", NeurIPS 2021.

    Song et al., "Score-based generative modeling through stochastic differential
    equations", ICLR 2021.

    Song, Meng & Ermon, "Denoising diffusion implicit models", ICLR 2021.

    Salimans & Ho, "Progressive distillation for fast sampling of diffusion models",
    ICLR 2022 (what the network predicts).

    Ho & Salimans, "Classifier-free diffusion guidance", 2022.

    Hoogeboom et al., "Argmax flows and multinomial diffusion", NeurIPS 2021.

    Kotelnikov et al., "TabDDPM: modelling tabular data with diffusion models", ICML
    2023.

    Wu et al., "Practical and asymptotically exact conditional sampling in diffusion
    models", NeurIPS 2023.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from skgen import Diffusion
    >>> X, y = make_moons(200, noise=0.1, random_state=0)
    >>> model = Diffusion(hidden_layer_sizes=32, max_iter=5, n_iter_no_change=2)
    >>> model = model.set_params(condition="auto", random_state=0).fit(X, y)
    >>> model.sample(3, y=1, sampler="ddpm", n_steps=20).shape
    (3, 2)
    >>> model.log_likelihood(X[:5], y=y[:5]).log_prob.shape
    (5,)
    >>> model.impute([[0.5, float("nan")]], y=1).shape
    (1, 2)
    """

    classes_: NDArray[Any] = attribute()
    n_conditions_: int = attribute()

    _: KW_ONLY
    kinds: Any = parameter(kinds_rule, none, default=None, builds=True)
    hidden_layer_sizes: Sequence[int] | int = parameter(
        sequence(integer(1), 0, MOST_LAYERS),
        integer(1),
        default=(128, 128, 128),
        builds=True,
    )
    activation: Activation = parameter(
        options(*ACTIVATIONS), default="gelu", builds=True
    )
    architecture: Literal["mlp", "conv"] = parameter(
        options("mlp", "conv"), default="mlp", builds=True
    )
    image_shape: Sequence[int] | None = parameter(
        sequence(integer(1), 2, 3), none, default=None, builds=True
    )
    channels: int = parameter(integer(1), default=32, builds=True)
    condition_dropout: float = parameter(real(0, 1), default=0.1, builds=True)
    standardize: bool = parameter(boolean, default=True, builds=True)
    n_times: int = parameter(integer(1), default=64, builds=True)
    n_steps: int = parameter(integer(1), default=64, builds=True)
    learning_rate: Literal["constant", "cosine", "stages"] = parameter(
        options(*SCHEDULES), default="cosine"
    )
    learning_rate_init: float = parameter(
        real(0, LARGEST_STEP, closed="right"), default=5e-3
    )
    weight_averaging: float = parameter(real(0, 1), default=0.995)
    n_iter_no_change: int | Literal["auto"] = parameter(
        options("auto"), integer(1), default=100
    )

    # Fitting.

    @property
    def _new_likelihood(self) -> Noised:
        return Noised(self.kinds)

    def _check_features(self, n_features: int) -> None:
        settings: Any = self
        check_image(settings, n_features)

    def _check_rows(self, X: NDArray[Any]) -> None:
        Noised(self._fitted("kinds")).check_rows(X, type(self).__name__)

    def _place(self, X: NDArray[Any], device: torch.device) -> Any:
        parts = () if issparse(X) else slices(len(X), max(1, 2**20 // X.shape[1]))
        for part in parts:
            if np.isnan(X[part]).any():
                raise ValueError(
                    "Diffusion learns from complete rows, and X has missing cells "
                    "(NaN), which only a fitted model takes. Leave such rows out, fill "
                    "them by GaussianMixtureEM.impute, or fit a VAE by MixedDensity."
                )
        return super()._place(X, device)

    def _build(
        self, n_features: int, likelihood: Likelihood, standardizer: Standardizer
    ) -> DiffusionModel:
        assert isinstance(likelihood, Noised)
        condition = self._new_condition
        c = 0 if condition is None else condition.width + 1
        network = self._network(n_features, likelihood, 2 * N_FREQUENCIES + 1 + c)
        return DiffusionModel(
            network,
            likelihood,
            standardizer,
            condition,
            self.n_times,
            self.n_steps,
            self.condition_dropout,
        )

    def _network(self, d: int, likelihood: Noised, n_told: int) -> nn.Module:
        """Make the network of rows of d columns, and what it is told of their noise."""
        if self.architecture == "mlp":
            m = likelihood.n_numbers(d) + likelihood.share.numel()
            return mlp(m + n_told, m, self._layer_sizes[0], self.activation)
        if self.kinds is not None:
            raise ValueError(
                "architecture='conv' of Diffusion is for images of numbers, and kinds="
                f"{self.kinds!r} is that of a table. Leave one of them out."
            )
        settings: Any = self
        images = image_networks(settings, d)
        size = images.height, images.width
        return UNet(*size, d, n_told, self.channels, self.activation)

    @property
    def _objective(self) -> DiffusionLoss:
        return DiffusionLoss()

    def _noise(self, module: Any, n: int, generator: torch.Generator) -> Tensor:
        noise: Tensor = module.spread_noise(n, generator)
        return noise

    # Evaluating.

    def sample(
        self,
        n_samples: int = 1,
        random_state: Any = None,
        *,
        y: Any = None,
        noise: bool = True,
        sampler: str = "ddim",
        n_steps: int | None = None,
        guidance: float = 1.0,
        given: Any = None,
    ) -> Any:
        """Draw rows, of given conditions or of random classes.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.
        y : scalar or array-like of shape (n_samples, ...), default=None
            Condition of all rows, or of each. Where a label is missing, it is drawn
            from p(y).
        noise : bool, default=True
            Whether to add the noise of the first level, 0.007 of a standard deviation.
        sampler : {"ddim", "ddpm"}, default="ddim"
            Way from noise to rows: "ddim" adds no noise on it, and needs few steps;
            "ddpm" draws each step.
        given : dict, array-like or DataFrame, default=None
            Cells that are known: a dict has a value by column, a name or a number; an
            array (n_features,) is a row, NaN where nothing is known; an array
            (r, n_features) or a DataFrame are r rows that are each completed. Draws are
            then by particles, which need no ``sampler``, ``n_steps`` or ``guidance``.
        n_steps : int, default=None
            Steps; None is the parameter ``n_steps``.
        guidance : float, default=1.0
            Weight of the condition: above 1, rows are more typical of it, and vary
            less.

        Returns
        -------
        X : array or DataFrame of shape (n_samples, n_features)
            Rows; in the order of ``y`` where it is given.

        Raises
        ------
        ValueError
            If an argument is out of its range.
        """
        self._check_n_samples(n_samples)
        rules = {
            "sampler": (sampler, options(*SAMPLERS)),
            "n_steps": (1 if n_steps is None else n_steps, integer(1)),
            "guidance": (guidance, real(0)),
        }
        for name, (value, rule) in rules.items():
            if not rule.accepts(value):
                raise ValueError(
                    f"The {name!r} parameter of Diffusion.sample must be {rule.words}. "
                    f"Got {value!r} instead."
                )
        if given is not None:
            rows = self._given_rows(given).repeat(n_samples, axis=0)
            return self._as_container(self._completed(rows, y, random_state))
        known = self._known(y, n_samples)

        def draw(model: Any, rows: slice, generator: torch.Generator) -> Any:
            like = model.standardizer.shift
            return model.draw(
                rows.stop - rows.start,
                noise,
                generator,
                *(torch.from_numpy(each[rows]).to(like) for each in known),
                sampler=sampler,
                n_steps=n_steps,
                guidance=guidance,
            )

        return self._draw(draw, n_samples, random_state)

    def _given_rows(self, given: Any) -> NDArray[Any]:
        """Return what is known of rows, (r, d), NaN for what is not."""
        names = getattr(self, "feature_names_in_", None)
        conditions = read_conditions(given, names, self.n_features_in_, "Diffusion")
        if not conditions.are_values:
            raise ValueError(
                "'given' of Diffusion.sample is a value for a column, not an interval "
                f"or several values. Got {given!r}. Give values, or use "
                "GaussianMixtureEM, which takes intervals."
            )
        rows = conditions.rows.astype(self._dtype)
        self._check_finite(rows)
        self._check_rows(rows)
        return rows

    def _completed(self, rows: NDArray[Any], y: Any, random_state: Any) -> NDArray[Any]:
        """Draw the cells (n, d) that are missing, given the others."""
        seed = draw_seed(fresh_random_state(random_state))
        generator = make_generator(seed, torch.device(self.device_))
        return self._map(
            lambda model, x, *known: model.impute(x, generator, *known),
            rows,
            *self._known(y, len(rows)),
            scores=True,
        )

    @available_unless(_without_codes)
    def reconstruct(self, X: ArrayLike, y: Any = None) -> Any:
        """Encode rows and decode the codes: rows come back, but for the solver's error.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Condition of each row, or one for all.

        Returns
        -------
        X_decoded : array or DataFrame of shape (n_samples, n_features)
            ``inverse_transform(transform(X, y), y)``.
        """
        return super().reconstruct(X, y)

    def impute(
        self,
        X: ArrayLike,
        y: Any = None,
        *,
        noise: bool = False,
        random_state: Any = None,
    ) -> Any:
        """Fill cells that are missing, given the rest of their row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows with NaN in the place of what is missing.
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Condition of each row, or one for all, where there is a condition.
        noise : bool, default=False
            Whether to draw missing cells from their density given the rest of the row,
            for multiple imputation. Without it they are the mean of that density, or
            the most probable level.
        random_state : int, RandomState, Generator or None, default=None
            Source of the draws; ``None`` is fresh entropy at each call.

        Returns
        -------
        X_filled : array or DataFrame of shape (n_samples, n_features)
            The rows; cells that were there are as they were.

        References
        ----------
        Wu et al., "Practical and asymptotically exact conditional sampling in diffusion
        models", NeurIPS 2023.
        """
        check_is_fitted(self)
        if noise:
            rows = self._validate_rows(X, reset=False)
            return self._as_container(self._completed(rows, y, random_state), X)
        rows = self._apply_given(
            lambda model, x, *known: model.impute(x, None, *known), X, y, scores=True
        )
        return self._as_container(rows, X)

    def score_samples(
        self, X: ArrayLike, y: Any = None, *, given: Iterable[Any] | None = None
    ) -> NDArray[Any]:
        """Evaluate the bound on the log-density of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; missing cells, NaN, are integrated out.
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Condition of each row, or one for all.
        given : list of column names or numbers, default=None
            Columns to condition on.

        Returns
        -------
        log_prob : ndarray of shape (n_samples,)
            Bound on log p(x|y) in nats; on log p(x) where a label is missing. With
            ``given``, log p(rest of x given those columns), a difference of two bounds.
        """
        scores = super().score_samples(X, y)
        if given is None:
            return scores
        names = getattr(self, "feature_names_in_", None)
        columns = column_numbers(given, names, self.n_features_in_, "Diffusion")
        rows = self._validate_rows(X, reset=False)
        known = np.full_like(rows, np.nan)
        known[:, columns] = rows[:, columns]
        marginal = self._apply_given(
            lambda model, *each: model.log_prob(*each), known, y, scores=True
        )
        found: NDArray[Any] = scores - marginal
        return found

    def log_likelihood(
        self,
        X: ArrayLike,
        n_samples: int = 32,
        *,
        y: Any = None,
        random_state: Any = 0,
    ) -> LogLikelihood:
        """Evaluate log p(x|y) or log p(x) by the probability-flow ODE.

        Of rows with missing cells, by eight sets of particles. Levels do not flow:
        where a column has some, it is the bound of ``score_samples`` from more draws.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; missing cells, NaN, are integrated out.
        n_samples : int, default=32
            Random directions that the divergence is estimated from; with at least as
            many as there are columns it is exact. Of rows with levels, draws of the
            bound.
        y : array-like of shape (n_samples,) or (n_samples, n_conditions), default=None
            Condition of each row, or one for all.
        random_state : int, RandomState, Generator or None, default=0
            Source of the directions; ``None`` is fresh entropy at each call.

        Returns
        -------
        estimate : LogLikelihood
            ``log_prob`` and its Monte Carlo ``standard_error``, in nats; 0 where the
            divergence is exact.
        """
        return super().log_likelihood(X, n_samples, y=y, random_state=random_state)

    @property
    def _n_features_out(self) -> int:
        return self.n_features_in_

    @property
    def _code_variances(self) -> NDArray[Any] | None:
        if self.module_.shares is not None:
            return None
        return np.ones(self.n_features_in_)  # codes are standard normal

    @property
    def _allows_missing(self) -> bool:
        return True

    @property
    def _column_kinds(self) -> Any:
        """Kind of each column, where they were given."""
        return self.module_.likelihood.kinds
