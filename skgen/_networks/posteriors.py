"""Families of posteriors q(z|x): what the outputs of an encoder are parameters of.

A family says how many outputs the encoder has (``width``), and makes a density of them
(``of``).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch
from scipy.special import lambertw
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.quasirandom import SobolEngine

from skgen._networks.flows import invertible_map
from skgen._networks.proposals import CoupledNormal
from skgen._utils.tensors import LOG_2PI
from skgen.priors import LOG_SIGMA_MAX, LOG_SIGMA_MIN, Normal, picked

# Of the flow of a posterior: layers, bins of their splines, hidden widths, and outputs
# of the encoder that it sees beside a normal density's.
N_LAYERS, N_BINS, WIDTHS, N_CONTEXT = 4, 6, (64,), 32
# Components of a mixture of a posterior, and how far apart they start: the part of a
# standard deviation between a component and the middle, in few and in many coordinates.
N_MODES, MOST_APART, ALL_APART = 4, 0.5, 1.0
# Points that the moments of a posterior without closed forms are a mean over.
N_POINTS = 64
# Nats that a coordinate may commit itself to: its sigma stays above that of exp(-11).
MOST_RATE = 10.0


class Family(Protocol):
    """Family of posteriors of k coordinates."""

    #: Whether the first k outputs are the mean.
    gives_mean: bool
    #: Whether its densities are normal.
    is_normal: bool

    def width(self, k: int) -> int:
        """Return the number of outputs of an encoder."""

    def of(self, outputs: Tensor) -> Any:
        """Return the posterior of outputs (..., n, width)."""


class Diagonal:
    """N(mu, diag sigma^2): independent coordinates."""

    gives_mean = is_normal = True

    # Modules are stacked where what they hold is equal.

    def __eq__(self, other: object) -> bool:
        """Return whether the other has the same densities."""
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        """Return a hash of its class and options."""
        return hash((type(self), *vars(self).items()))

    def width(self, k: int) -> int:
        """Return 2k: means and log sigmas."""
        return 2 * k

    def of(self, outputs: Tensor) -> Normal:
        """Return the density of outputs (..., n, 2k)."""
        return Normal.of(outputs)


class Committed(Diagonal):
    """N(mu, diag sigma^2), whose KL to N(0, I) is never below a rate.

    ``KL = (mu^2 + sigma^2 - 1 - log sigma^2) / 2`` of a coordinate is at least that of
    mu = 0 and the largest sigma below 1. So a bound on sigma is one on the KL, whatever
    the networks learn.

    Parameters
    ----------
    rate : float
        Nats of a coordinate.

    References
    ----------
    Razavi, van den Oord, Poole & Vinyals, "Preventing posterior collapse with
    delta-VAEs", ICLR 2019.
    """

    def __init__(self, rate: float) -> None:
        # s = sigma^2 solves (s - 1 - log s) / 2 = rate.
        squared = float(-lambertw(-math.exp(-1 - 2 * rate)).real)
        self.log_limit = 0.5 * math.log(squared)

    def of(self, outputs: Tensor) -> Normal:
        """Return the density of outputs (..., n, 2k)."""
        mean, log_sigma = outputs.chunk(2, dim=-1)
        log_sigma = F.hardtanh(log_sigma, LOG_SIGMA_MIN, LOG_SIGMA_MAX)
        # A smooth minimum of the two, whose gradient nowhere vanishes.
        below = self.log_limit - F.softplus(self.log_limit - log_sigma)
        return Normal(mean, below.exp())


class Full:
    """N(mu, C): each coordinate regresses on those before it.

    Parameters
    ----------
    n_components : int
        k.
    """

    gives_mean = is_normal = True

    def __init__(self, n_components: int) -> None:
        self.n_components = n_components

    def width(self, k: int) -> int:
        """Return the number of means, log scales and coefficients."""
        return 2 * k + k * (k - 1) // 2

    def of(self, outputs: Tensor) -> CoupledNormal:
        """Return the density of outputs (n, width)."""
        return CoupledNormal.of(outputs, self.n_components)


class Flow(nn.Module):
    """q(z|x) = N(f(u; x); 0, I) |det df/du| / prod sigma, u = (z - mu) / sigma.

    With f invertible in u: coupling layers of splines, whose parameters depend on x.
    They go either way in two passes, so that draws and densities of any codes are fast.

    Parameters
    ----------
    n_components : int
        k, latent coordinates.
    owner : str
        What is named where zuko is missing.

    References
    ----------
    Rezende & Mohamed, "Variational inference with normalizing flows", ICML 2015.
    Durkan, Bekasov, Murray & Papamakarios, "Neural spline flows", NeurIPS 2019.
    """

    gives_mean = is_normal = False

    def __init__(self, n_components: int, owner: str) -> None:
        super().__init__()
        self.n_components = n_components
        self.transform = invertible_map(
            owner,
            n_components,
            N_LAYERS,
            WIDTHS,
            "relu",
            n_bins=N_BINS,
            structure="coupling",
            n_conditions=N_CONTEXT,
        )

    @property
    def row_elements(self) -> int:
        """Numbers that a pass of a code holds: widths of layers, or of splines."""
        return max(*WIDTHS, 3 * N_BINS * self.n_components)

    def width(self, k: int) -> int:
        """Return the number of means, log sigmas, and numbers that f sees."""
        return 2 * k + N_CONTEXT

    def of(self, outputs: Tensor) -> FlowPosterior:
        """Return the density of outputs (n, width)."""
        normal, context = outputs.split([2 * self.n_components, N_CONTEXT], dim=-1)
        return FlowPosterior(Normal.of(normal), context, self)

    def forward(self, u: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Map u (..., n, k) to noise, with the log-determinants (..., n)."""
        noise, log_det = self.transform(context).call_and_ladj(u)
        return noise, log_det

    def inverse(self, eps: Tensor, context: Tensor) -> Tensor:
        """Map noise (..., n, k) to u."""
        u: Tensor = self.transform(context).inv(eps)
        return u


class FlowPosterior(NamedTuple):
    """q(z|x) of a ``Flow``, of rows (n, ...)."""

    base: Normal  # (n, k)
    context: Tensor  # (n, c)
    flow: Flow
    is_frozen: bool = False

    @property
    def n_dims(self) -> int:
        """Dimensions of the parameters; draws may have one more."""
        return self.base.n_dims

    def draw(self, eps: Tensor) -> Tensor:
        """Draw codes (..., n, k) from standard normal noise, with a gradient."""
        return self.base.draw(self.flow.inverse(eps, self.context))

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density (..., n) of codes (..., n, k)."""
        mean, sigma = self.base
        noise, log_det = self._noise_of((z - mean) / sigma)
        each = 0.5 * (noise**2 + LOG_2PI) + sigma.log()
        return log_det - each.sum(-1)

    def _noise_of(self, u: Tensor) -> tuple[Tensor, Tensor]:
        if not self.is_frozen:
            found: tuple[Tensor, Tensor] = self.flow(u, self.context)
            return found
        weights = {name: p.detach() for name, p in self.flow.named_parameters()}
        frozen: tuple[Tensor, Tensor] = functional_call(
            self.flow, weights, (u, self.context)
        )
        return frozen

    def frozen(self) -> FlowPosterior:
        """Return the same density, which passes no gradient to its parameters."""
        return FlowPosterior(
            self.base.frozen(), self.context.detach(), self.flow, is_frozen=True
        )

    def _points(self) -> Tensor:
        mean = self.base.mean
        points = normal_points(N_POINTS, mean.shape[-1]).to(mean)
        return self.draw(points[:, None].expand(-1, *mean.shape))

    @property
    def mean(self) -> Tensor:
        """Means (n, k), over points that are the same for all rows."""
        return self._points().mean(0)

    @property
    def sigma(self) -> Tensor:
        """Standard deviations (n, k), likewise."""
        return self._points().std(0)


class Mixture(nn.Module):
    """q(z|x) = sum_m w_m(x) N(mu_m(x), diag sigma_m(x)^2): several modes, or skewed.

    An encoder gives a normal density, and how each component differs from where it
    starts: all of them within that density, a little apart, with its moments.

    Parameters
    ----------
    n_components : int
        k, latent coordinates.
    n_modes : int, default=4
        M, components of the mixture.
    """

    gives_mean = is_normal = False
    places: Tensor  # (M, k), where components start, in units of the standard deviation
    log_width: Tensor  # (k,), and the logarithm of their own

    def __init__(self, n_components: int, n_modes: int = N_MODES) -> None:
        super().__init__()
        self.n_components, self.n_modes = n_components, n_modes
        apart = min(MOST_APART, ALL_APART / math.sqrt(n_components))
        places = apart * normal_points(n_modes, n_components)
        width = (1 - places.square().mean(0)).sqrt()
        for name, value in {"places": places, "log_width": width.log()}.items():
            default = value.to(torch.get_default_dtype())
            self.register_buffer(name, default, persistent=False)

    @property
    def row_elements(self) -> int:
        """Numbers that a pass of a code holds: a distance to every component."""
        return self.n_modes * self.n_components

    def width(self, k: int) -> int:
        """Return the number of means, log sigmas, differences from them and logits."""
        return 2 * k + self.n_modes * (2 * k + 1)

    def of(self, outputs: Tensor) -> MixturePosterior:
        """Return the density of outputs (..., n, width)."""
        k, n_modes = self.n_components, self.n_modes
        mean, log_sigma, each, logits = outputs.split(
            [k, k, 2 * k * n_modes, n_modes], -1
        )
        log_sigma = F.hardtanh(log_sigma, LOG_SIGMA_MIN, LOG_SIGMA_MAX)[..., None, :]
        shift, change = each.unflatten(-1, (n_modes, -1)).chunk(2, -1)  # (..., M, k)
        means = mean[..., None, :] + log_sigma.exp() * (self.places + shift)
        log_sigmas = log_sigma + self.log_width + change
        return MixturePosterior(Normal.of(torch.cat([means, log_sigmas], -1)), logits)


class MixturePosterior(NamedTuple):
    """q(z|x) of a ``Mixture``, of rows (n, ...)."""

    modes: Normal  # (n, M, k)
    logits: Tensor  # (n, M), log w up to constants

    @property
    def n_dims(self) -> int:
        """Dimensions of the parameters; draws may have one more."""
        return self.logits.ndim

    def draw(self, eps: Tensor) -> Tensor:
        """Draw codes (..., n, k) from standard normal noise, with a gradient."""
        with torch.no_grad():
            mode, noise = picked(self.logits, eps)
            index = mode[..., None, None].expand(*noise.shape[:-1], 1, noise.shape[-1])
            mean, sigma = (
                each.expand(*mode.shape, *each.shape[-2:]).gather(-2, index).squeeze(-2)
                for each in self.modes
            )
            z = mean + sigma * noise
        return self._moving(z) if torch.is_grad_enabled() else z

    def _moving(self, z: Tensor) -> Tensor:
        """Return draws z (..., n, k), with the gradient of implicit reparameterisation.

        Draws move so that theirs remains the density. As a component moves, a draw goes
        along by the part that it has in it. As weights change, the distribution
        function ``F_j = sum_m r_mj Phi_mj`` of each coordinate given those before it
        is to stay what it is, where ``r_mj`` is the part of component m given those:
        ``dF/dz dz = -dF/dlogits dlogits``, ``dF/dz`` lower triangular.
        """
        with torch.no_grad():
            eps = (z[..., None, :] - self.modes.mean) / self.modes.sigma  # (..., M, k)
            each = self.modes.coordinate_log_probs(z[..., None, :])
            log_joint = self.logits.log_softmax(-1)[..., None] + each.cumsum(-1)
            start = self.logits[..., None].expand(*z.shape[:-1], -1, -1)
            log_before = torch.cat([start, log_joint[..., :-1]], -1).log_softmax(-2)
            density = (log_before + each).logsumexp(-2)  # (..., k), log dF_j/dz_j
            before, cdf = log_before.exp(), torch.special.ndtr(eps)
            to_logits = before * (cdf - (before * cdf).sum(-2, keepdim=True))
            to_logits = (to_logits * (-density).exp()[..., None, :]).mT  # (..., k, M)
            to_z = (to_logits @ (-eps / self.modes.sigma)).tril(-1)
            part = log_joint[..., -1:].softmax(-2)  # (..., M, 1)
        along = (part * (self.modes.mean + self.modes.sigma * eps)).sum(-2)
        across = torch.linalg.solve_triangular(
            to_z, to_logits @ self.logits[..., None], upper=False, unitriangular=True
        )
        moved: Tensor = along - across.squeeze(-1)
        return z + (moved - moved.detach())

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density (..., n) of codes (..., n, k)."""
        each = self.modes.log_prob(z[..., None, :])  # (..., n, M)
        return (each + self.logits.log_softmax(-1)).logsumexp(-1)

    def frozen(self) -> MixturePosterior:
        """Return the same density, which passes no gradient to its parameters."""
        return MixturePosterior(self.modes.frozen(), self.logits.detach())

    @property
    def mean(self) -> Tensor:
        """Means (n, k)."""
        return (self.logits.softmax(-1)[..., None] * self.modes.mean).sum(-2)

    @property
    def sigma(self) -> Tensor:
        """Standard deviations (n, k): within components, and between them."""
        mean, sigma = self.modes
        squared = sigma**2 + (mean - self.mean[..., None, :]) ** 2
        return (self.logits.softmax(-1)[..., None] * squared).sum(-2).sqrt()


@cache
def normal_points(n: int, k: int) -> Tensor:
    """Return points (n, k) spread as standard normal draws are, in float64.

    By a Sobol sequence: each coordinate has one point in each of n equal parts.
    """
    uniform: Tensor = SobolEngine(k).draw(n, dtype=torch.float64)
    points: Tensor = torch.special.ndtri(uniform + 0.5 / n)
    return points


def family_of(kind: str, k: int, owner: str, rate: float = 0.0) -> Family:
    """Return the family "diag", "full", "mixture" or "flow" of k coordinates."""
    if kind == "flow":
        return Flow(k, owner)
    if kind == "full":
        return Full(k)
    if kind == "mixture":
        return Mixture(k)
    return Committed(rate / k) if rate else Diagonal()
