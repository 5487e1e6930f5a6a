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
import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from skgen._networks.dense import (
    ACTIVATIONS,
    Activation,
    PassSize,
    Standardizer,
    mlp,
)
from skgen._training.batches import Batch
from skgen._utils.parameters import (
    attribute,
    boolean,
    estimator,
    integer,
    options,
    parameter,
    real,
    sequence,
)
from skgen._utils.tensors import LOG_2PI
from skgen.likelihoods import Likelihood
from skgen.likelihoods.cells import Cells
from skgen.models.conditions import (
    Classes,
    ConditionedModel,
    Numbers,
    OptionallyConditioned,
    beside,
)
from skgen.models.evaluation import N_BLOCKS, LogLikelihood
from skgen.models.hyperparameters import MOST_LAYERS
from skgen.objectives import DiffusionLoss
from skgen.priors import StandardNormal

# Noise levels from rows, whose standard deviation is 1, with noise of 0.007, to noise
# with a part 0.03 of rows.
FIRST, LAST = -10.0, 7.0
# Slope of the schedule in the middle of the range, in parts of that of a straight line.
MIDDLE_SLOPE = 0.35
# Frequencies that the network sees a level by.
N_FREQUENCIES = 6
# Levels at which each held-out row is seen.
HELD_OUT_LEVELS = 8
SAMPLERS = ("ddim", "ddpm")


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


class DiffusionModel(ConditionedModel):
    """The network of a diffusion model, its bound, and its probability flow.

    Parameters
    ----------
    network : Module
        Of noisy rows, what it sees of their levels and conditions, side by side, to v.
    likelihood : Cells
        Says that what is drawn is a row as it is.
    standardizer : Standardizer
        Scale of the rows.
    condition : Classes, Numbers or None
        Makes of a context what the network sees.
    n_times : int
        Levels at which a score looks at a row.
    n_steps : int
        Steps of the flow.
    dropout : float
        Part of the training rows whose condition is hidden.
    """

    def __init__(
        self,
        network: nn.Module,
        likelihood: Likelihood,
        standardizer: Standardizer,
        condition: Classes | Numbers | None,
        n_times: int,
        n_steps: int,
        dropout: float,
    ) -> None:
        super().__init__(likelihood, standardizer)
        self.network, self.condition = network, condition
        self.n_steps, self.dropout = n_steps, dropout
        self.prior = StandardNormal(len(standardizer.shift))
        self.register_buffer("noise", self.standard_noise((N_BLOCKS, n_times)))
        # Of each block, a level is drawn from each of as many parts of the range.
        strata = torch.arange(n_times)[None, :]
        self.noise[..., -1] = (self.noise[..., -1] + strata) / n_times

    @property
    def n_features(self) -> int:
        """Return the number of columns, d."""
        return len(self.standardizer.shift)

    def standard_noise(
        self, shape: Sequence[int], generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw noise (..., d + 2): normal, and two uniform numbers.

        These say whether a condition is hidden, and which level a row has.
        """
        like = next(self.parameters())
        noise = like.new_empty(*shape, self.n_features + 2)
        noise.normal_(generator=generator)
        uniform = like.new_empty(*shape, 2).uniform_(generator=generator)
        noise[..., -2:] = uniform
        return noise

    def spread_noise(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw noise (S, n, d + 2) of which the levels are spread over the range.

        In training S is 1; rows that are held out are seen at more levels, since few of
        them judge each epoch.
        """
        S = 1 if self.training else HELD_OUT_LEVELS
        noise = self.standard_noise((S, n), generator)
        rows = torch.arange(n, device=noise.device) / n
        draws = torch.arange(S, device=noise.device)[:, None] / S
        noise[..., -1] = (noise[0, 0, -1].clone() + rows + draws) % 1
        return noise

    def set_rows(self, x: Tensor) -> None:
        """Adapt to training rows, standardised: start at the standard normal."""
        last: Any = list(self.network.children())[-1]
        last.weight.data.zero_()
        last.bias.data.zero_()
        self.count_outputs(x[:1])

    def count_outputs(self, x: Tensor) -> None:
        """Count the numbers that layers make of a row (1, d), and their work."""
        more = 2 * N_FREQUENCIES + 1
        more += 0 if self.condition is None else self.condition.width + 1
        inputs = x.new_zeros(1, x.shape[1] + more)
        self.widest, self.work = PassSize.of(self.network, inputs)

    # As objectives call it: rows are standardised.

    def seen(self, batch: Batch, hidden: Tensor | None = None) -> Tensor | None:
        """Return conditions (..., n, c + 1), 0 where ``hidden`` (..., n)."""
        if self.condition is None:
            return None
        known = self.conditions(batch)
        known = torch.cat([known, torch.ones_like(known[:, :1])], dim=-1)
        return known if hidden is None else known * ~hidden[..., None]

    def predicted(self, z: Tensor, gamma: Tensor, seen: Tensor | None) -> Tensor:
        """Return F (..., n, d) at noisy rows, levels (..., 1) and conditions."""
        inputs = beside(z, Level(gamma).features.expand(*z.shape[:-1], -1))
        found: Tensor = self.network(inputs if seen is None else beside(inputs, seen))
        return found

    def gains(self, batch: Batch) -> Tensor:
        """Draws of the bound's gain over a standard normal, (S, n).

        ``gamma' / 2 alpha^2 (2 F v - |F|^2)``: the loss |eps - eps_hat|^2 less
        that of the standard normal, whose mean is known.
        """
        d, x = self.n_features, batch.x
        eps, uniform = batch.draws[..., :d], batch.draws[..., d:]
        hidden = uniform[..., 0] < self.dropout if self.training else None
        level, slope = scheduled(uniform[..., 1:])
        alpha, sigma = level.alpha, level.sigma
        seen = self.seen(batch, hidden)
        F = self.predicted(alpha * x + sigma * eps, level.gamma, seen)
        v = alpha * eps - sigma * x
        gains: Tensor = (0.5 * slope * alpha.square() * F * (2 * v - F)).sum(-1)
        return gains

    def baseline(self, x: Tensor) -> Tensor:
        """Bound (n,) where F is zero: log N(x; 0, I), but for the ends of the range."""
        first, last = (Level(x.new_tensor(gamma)) for gamma in (FIRST, LAST))
        a, b = first.alpha.square(), last.alpha.square()
        squared = x.square().sum(-1)
        per_column = functional.softplus(-first.gamma) - functional.softplus(
            -last.gamma
        )
        diffusion = x.shape[-1] * (per_column - a + b) + squared * (a - b)
        prior = b * squared - x.shape[-1] * (b + last.sigma.square().log())
        reconstruction = x.shape[-1] * (1 + LOG_2PI + first.gamma)
        return -0.5 * (diffusion + prior + reconstruction)

    def bound(self, batch: Batch) -> Tensor:
        """Variational bound on log p(x|y), (n,)."""
        return self.baseline(batch.x) + self.gains(batch).mean(0)

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
        return half * self.predicted(z, level.gamma, seen)

    def careful_bound(
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

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Codes (n, d) of rows, standard normal where rows are of the density."""
        seen, grid = self._seen_given(x, context), levels(self.n_steps, x)
        start = Level(grid[:1]).alpha * self.view(x)
        return self.flow(lambda z, gamma: self.velocity(z, gamma, seen), start, grid)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Rows (n, d) of codes."""
        seen, grid = self._seen_given(z, context), levels(self.n_steps, z).flip(0)
        end = self.flow(lambda z, gamma: self.velocity(z, gamma, seen), z, grid)
        return self.standardizer.inverse(end / Level(grid[-1:]).alpha)

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
        z = self.noise.new_empty(n, self.n_features).normal_(generator=generator)
        seen = self._seen_given(z, self.drawn_labels(context, n, generator))
        grid = levels(n_steps or self.n_steps, z).flip(0)
        for t, s in zip(grid[:-1].split(1), grid[1:].split(1)):
            F = self.guided(z, t[None], seen, guidance)
            if sampler == "ddim":
                z = rotated(z, F, Level(t), Level(s))
            else:
                fresh = torch.empty_like(z).normal_(generator=generator)
                z = stepped_back(z, F, Level(t), Level(s), fresh)
        last = Level(grid[-1:])
        if noise:
            z = z + last.sigma * torch.empty_like(z).normal_(generator=generator)
        return self.standardizer.inverse(z / last.alpha)

    def guided(
        self, z: Tensor, gamma: Tensor, seen: Tensor | None, guidance: float
    ) -> Tensor:
        """Return F, moved away from what it is without a condition (Ho & Salimans)."""
        F = self.predicted(z, gamma, seen)
        if seen is None or guidance == 1:
            return F
        free = self.predicted(z, gamma, torch.zeros_like(seen))
        return free + guidance * (F - free)

    @property
    def score_elements(self) -> int:
        """Numbers that scoring a row holds at a time: its draws, in a layer."""
        return self.noise.shape[1] * self.row_elements


def rotated(z: Tensor, F: Tensor, t: Level, s: Level) -> Tensor:
    """Go from a level to one with less noise, without any (Song et al. 2021, DDIM)."""
    x, eps = t.alpha * z - t.sigma * F, t.sigma * z + t.alpha * F
    return s.alpha * x + s.sigma * eps


def stepped_back(z: Tensor, F: Tensor, t: Level, s: Level, noise: Tensor) -> Tensor:
    """Draw from p(z_s | z_t) of the diffusion (Ho et al. 2020, DDPM)."""
    eps = t.sigma * z + t.alpha * F
    part = -torch.expm1(s.gamma - t.gamma)
    mean = s.alpha / t.alpha * (z - part * t.sigma * eps)
    return mean + s.sigma * part.sqrt() * noise


@estimator
class Diffusion(OptionallyConditioned):
    """Diffusion model of tables: a network that takes noise out of rows, in steps.

    Noise is added to rows until nothing else is left, and a network learns to take it
    out (Ho et al. 2020). ``score_samples`` is the variational bound on log p(x) in
    continuous time (Kingma et al. 2021); ``log_likelihood`` the exact density of the
    probability-flow ODE (Song et al. 2021), which also gives ``transform`` to standard
    normal codes, one to one, and its inverse. Given labels or numbers, ``sample`` has
    ``y`` and classifier-free guidance.

    Parameters
    ----------
    condition : {"auto", "classes", "numbers"} or None, default=None
        Kind of y that rows are conditioned on; None ignores y. "auto" takes one column
        for classes, unless it holds numbers with fractions; and several columns for
        numbers.
    hidden_layer_sizes : sequence of int or int, default=(128, 128, 128)
        Widths of the hidden layers of the network.
    activation : str, default="silu"
        Activation of the hidden layers: "relu", "tanh", "logistic", "identity", "gelu",
        "silu" or "softplus".
    condition_dropout : float, default=0.1
        Part of the training rows whose condition is hidden, so that the network also
        knows rows without one: what guidance moves away from.
    standardize : bool, default=True
        Whether rows are shifted and scaled inside the model by the mean and standard
        deviation of the training rows. Densities are those of the rows as given,
        either way. Noise levels are for rows with a standard deviation near 1.
    n_times : int, default=64
        Noise levels at which ``score_samples`` looks at a row.
    n_steps : int, default=64
        Steps of the ODE, and of ``sample`` where no other number is given.
    batch_size : int or "auto", default="auto"
        Rows of a step; "auto" is a tenth of the rows, between 16 and 128.
    learning_rate : {"constant", "cosine", "stages"}, default="constant"
        Schedule of the step size over ``max_iter`` epochs: constant; falling to zero
        as half a cosine; or falling to a tenth in eight stages, each three times as
        long as the one before (Burda et al. 2016).
    learning_rate_init : float, default=1e-3
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
    n_iter_no_change : int or "auto", default="auto"
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
    """

    classes_: NDArray[Any] = attribute()
    n_conditions_: int = attribute()

    _: KW_ONLY
    hidden_layer_sizes: Sequence[int] | int = parameter(
        sequence(integer(1), 0, MOST_LAYERS),
        integer(1),
        default=(128, 128, 128),
        builds=True,
    )
    activation: Activation = parameter(
        options(*ACTIVATIONS), default="silu", builds=True
    )
    condition_dropout: float = parameter(real(0, 1), default=0.1, builds=True)
    standardize: bool = parameter(boolean, default=True, builds=True)
    n_times: int = parameter(integer(1), default=64, builds=True)
    n_steps: int = parameter(integer(1), default=64, builds=True)
    weight_averaging: float = parameter(real(0, 1), default=0.995)

    # Fitting.

    @property
    def _new_likelihood(self) -> Cells:
        return Cells(False)

    def _build(
        self, n_features: int, likelihood: Likelihood, standardizer: Standardizer
    ) -> DiffusionModel:
        condition = self._new_condition
        c = 0 if condition is None else condition.width + 1
        n_inputs = n_features + 2 * N_FREQUENCIES + 1 + c
        network = mlp(n_inputs, n_features, self._layer_sizes[0], self.activation)
        return DiffusionModel(
            network,
            likelihood,
            standardizer,
            condition,
            self.n_times,
            self.n_steps,
            self.condition_dropout,
        )

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

    def log_likelihood(
        self,
        X: ArrayLike,
        n_samples: int = 32,
        *,
        y: Any = None,
        random_state: Any = 0,
    ) -> LogLikelihood:
        """Evaluate log p(x|y) or log p(x) by the probability-flow ODE.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        n_samples : int, default=32
            Random directions that the divergence is estimated from; with at least as
            many as there are columns it is exact.
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
    def _code_variances(self) -> NDArray[Any]:
        return np.ones(self.n_features_in_)  # codes are standard normal
