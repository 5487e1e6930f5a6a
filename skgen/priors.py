"""Densities of latent codes: priors p(z), and the posteriors q(z|x) of encoders.

A posterior turns standard noise into draws, so that its noise can be an argument:
``draw(noise)``. Leading dimensions are draws, then rows.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from skgen._utils.tensors import LOG_2PI

# Bounds on log sigma(x): beyond them exp leaves the range where training is stable.
LOG_SIGMA_MIN, LOG_SIGMA_MAX = -12.0, 6.0
# Standard deviation of the means that components of a mixture prior start with.
MOST_SPREAD = math.sqrt(0.75)


class Normal(NamedTuple):
    """N(mean, diag sigma^2): a posterior q(z|x) of rows, or a layer p(z|u)."""

    mean: Tensor  # (..., n, k)
    sigma: Tensor  # (..., n, k)

    @classmethod
    def of(cls, outputs: Tensor) -> Normal:
        """From the outputs (..., n, 2k) of a network: means and log sigmas."""
        mean, log_sigma = outputs.chunk(2, dim=-1)
        # A clamp, whose gradient is one operation instead of five.
        log_sigma = F.hardtanh(log_sigma, LOG_SIGMA_MIN, LOG_SIGMA_MAX)
        return cls(mean, log_sigma.exp())

    @property
    def log_scale(self) -> Tensor:
        """Log-sigma (..., n, k)."""
        return self.sigma.log()

    @property
    def n_dims(self) -> int:
        """Dimensions of the parameters; draws may have one more."""
        return self.mean.ndim

    def draw(self, eps: Tensor) -> Tensor:
        """Reparameterised draws z = mean + sigma * eps, (..., n, k)."""
        return self.mean + self.sigma * eps

    def coordinate_log_probs(self, z: Tensor) -> Tensor:
        """Log-density of each coordinate of draws (..., n, k)."""
        squared = ((z - self.mean) / self.sigma) ** 2
        return -(0.5 * (squared + LOG_2PI) + self.sigma.log())

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density (..., n) of draws (..., n, k)."""
        return self.coordinate_log_probs(z).sum(-1)

    def kl_to(self, other: Normal) -> Tensor:
        """KL to another normal density, of each coordinate (..., n, k)."""
        ratio = (self.sigma / other.sigma) ** 2
        distance = ((self.mean - other.mean) / other.sigma) ** 2
        return 0.5 * (distance + ratio - 1 - ratio.log())

    def frozen(self) -> Normal:
        """Return the same density, which passes no gradient to its parameters."""
        return Normal(self.mean.detach(), self.sigma.detach())


def kl_at_draws(q: Any, p: Any, z: Tensor) -> Tensor:
    """KL(q || p) of all coordinates together, (n, 1), at draws z (S?, n, k) from q.

    Its gradient comes through the draws alone: the score of q, whose mean is zero, is
    left out, so that nothing is left of the noise where q is p (Roeder, Wu & Duvenaud
    2017).
    """
    each: Tensor = (q.frozen().log_prob(z) - p.log_prob(z))[..., None]
    return each if each.ndim == q.n_dims else each.mean(0)


class StandardNormal(nn.Module):
    """p(z) = N(0, I), z of k coordinates."""

    def __init__(self, n_components: int) -> None:
        super().__init__()
        self.layer_sizes: tuple[int, ...] = (n_components,)

    def posterior(self, q: Normal) -> Normal:
        """q(z|x) of all layers, given that of the first: there is no other."""
        return q

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density (..., n) of codes (..., n, k)."""
        return -0.5 * (z**2 + LOG_2PI).sum(-1)

    def kl(self, q: Any, z: Tensor) -> Tensor:
        """KL(q || p) of each coordinate, (n, k), in closed form: draws z are unused.

        Of correlated coordinates, each given those before it. Where q is not normal,
        it is that of all together, (n, 1), at draws.
        """
        if isinstance(q, Normal):
            m2, s2 = q.mean**2, q.sigma**2
            return 0.5 * (m2 + s2 - 1 - s2.log())
        if not hasattr(q, "log_scale"):
            return kl_at_draws(q, self, z)
        m2, s2 = q.mean**2, q.sigma**2
        found: Tensor = 0.5 * (m2 + s2 - 1) - q.log_scale
        return found

    def draw_layers(self, eps: Tensor) -> Tensor:
        """Draw codes of all layers (..., k) from standard noise (..., k)."""
        return eps

    def draw(self, eps: Tensor) -> Tensor:
        """Draw codes of the first layer (n, k) from standard noise (n, k)."""
        return eps


class LearnedPrior(nn.Module):
    """Base of p(z) that are trained with the networks.

    Their KL has no closed form, and no part for each coordinate: it is estimated, by
    ``log q(z|x) - log p(z)`` at draws.
    """

    layer_sizes: tuple[int, ...]  # latent coordinates, of one layer
    row_elements: int  # numbers that a row takes in between

    def posterior(self, q: Any) -> Any:
        """q(z|x) of all layers, given that of the first: there is no other."""
        return q

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density (..., n) of codes (..., n, k)."""

    def kl(self, q: Any, z: Tensor) -> Tensor:
        """KL(q || p) of all coordinates together, (n, 1), at draws z (S?, n, k)."""
        return kl_at_draws(q, self, z)

    @abstractmethod
    def draw_layers(self, eps: Tensor) -> Tensor:
        """Draw codes (..., k) from standard noise (..., k)."""

    def draw(self, eps: Tensor) -> Tensor:
        """Draw codes of the first layer (n, k) from standard noise (n, k)."""
        return self.draw_layers(eps)


class FlowPrior(LearnedPrior):
    """p(z) = N(f(z); 0, I) |det df/dz|, f invertible.

    Parameters
    ----------
    n_components : int
        k, latent coordinates.
    transform : Module
        A lazy transformation of zuko: called with None, it gives f, a
        ``torch.distributions.Transform``.

    References
    ----------
    Chen et al., "Variational lossy autoencoder", ICLR 2017.
    """

    def __init__(self, n_components: int, transform: nn.Module) -> None:
        super().__init__()
        self.layer_sizes = (n_components,)
        shapes = [each.shape for each in transform.parameters()]
        self.row_elements = max((shape[0] for shape in shapes), default=n_components)
        self.transform = transform

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density (..., n) of codes (..., n, k)."""
        noise, log_det = self.transform(None).call_and_ladj(z)
        found: Tensor = log_det - 0.5 * (noise**2 + LOG_2PI).sum(-1)
        return found

    def draw_layers(self, eps: Tensor) -> Tensor:
        """Draw codes (..., k) from standard noise (..., k)."""
        codes: Tensor = self.transform(None).inv(eps)
        return codes


def picked(logits: Tensor, eps: Tensor) -> tuple[Tensor, Tensor]:
    """Return a component for each row (...), and noise (..., k) that is left.

    The first number of standard normal noise (..., k) picks the component, by the
    distribution function of the normal density; what is left of it is uniform, and
    made normal again. Weights have the logits (C,), or those (..., C) of each row.
    """
    ends = logits.double().softmax(-1).cumsum(-1)
    uniform = torch.special.ndtr(eps[..., :1].double())
    ends = ends.expand(*uniform.shape[:-1], -1)
    mode = (uniform >= ends[..., :-1]).sum(-1, keepdim=True)
    starts = F.pad(ends[..., :-1], (1, 0)).gather(-1, mode)
    within = (uniform - starts) / (ends.gather(-1, mode) - starts)
    tiny = torch.finfo(torch.float32).eps
    first = torch.special.ndtri(within.clamp(tiny, 1 - tiny)).to(eps)
    return mode.squeeze(-1), torch.cat([first, eps[..., 1:]], -1)


class ModesPrior(LearnedPrior):
    """p(z) = sum_c w_c N(z; mean_c, diag sigma_c^2).

    Parameters
    ----------
    n_components : int
        k, latent coordinates.
    n_modes : int
        C, components of the mixture.
    """

    def __init__(self, n_components: int, n_modes: int) -> None:
        super().__init__()
        self.layer_sizes = (n_components,)
        self.row_elements = n_components * n_modes
        self.logits = nn.Parameter(torch.zeros(n_modes))  # log w_c, up to a constant

    @abstractmethod
    def modes(self) -> Normal:
        """Components, (C, k)."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density (..., n) of codes (..., n, k)."""
        each = self.modes().log_prob(z[..., None, :])  # (..., n, C)
        return (each + self.logits.log_softmax(0)).logsumexp(-1)

    def draw_layers(self, eps: Tensor) -> Tensor:
        """Draw codes (..., k) from standard noise (..., k)."""
        mode, noise = picked(self.logits, eps)
        mean, sigma = self.modes()
        return mean[mode] + sigma[mode] * noise


class MixturePrior(ModesPrior):
    """Mixture of normal densities with means, scales and weights of its own.

    It starts near N(0, I): one component is that, and more are narrower and spread, the
    less so the more coordinates there are.

    Parameters
    ----------
    n_components : int
        k, latent coordinates.
    n_modes : int
        C, components of the mixture.
    """

    def __init__(self, n_components: int, n_modes: int) -> None:
        super().__init__(n_components, n_modes)
        # Squared distances of modes stay at 8: farther apart, in many coordinates, each
        # would keep the rows that begin near it.
        spread = 0.0 if n_modes == 1 else min(MOST_SPREAD, 2 / math.sqrt(n_components))
        width = math.sqrt(1 - spread**2)
        self.means = nn.Parameter(spread * torch.randn(n_modes, n_components))
        log_scales = torch.full((n_modes, n_components), math.log(width))
        self.log_scales = nn.Parameter(log_scales)

    def modes(self) -> Normal:
        """Components, (C, k)."""
        return Normal.of(torch.cat([self.means, self.log_scales], -1))


class VampPrior(ModesPrior):
    """Mixture of the posteriors of pseudo-inputs, which are learned.

    Parameters
    ----------
    n_components : int
        k, latent coordinates.
    n_modes : int
        C, number of pseudo-inputs.
    n_inputs : int
        Width of what the encoder takes.

    References
    ----------
    Tomczak & Welling, "VAE with a VampPrior", AISTATS 2018.
    """

    def __init__(self, n_components: int, n_modes: int, n_inputs: int) -> None:
        super().__init__(n_components, n_modes)
        self.inputs = nn.Parameter(torch.randn(n_modes, n_inputs))

    def bind(self, encode: Encode) -> None:
        """Take the encoder of a model: a function of inputs (C, p)."""
        self.encode = encode

    def start_from(self, inputs: Tensor) -> None:
        """Start pseudo-inputs at random rows, as the encoder gets them (n, p)."""
        n, n_modes = len(inputs), len(self.inputs)
        picks = torch.cat([torch.randperm(n) for _ in range(math.ceil(n_modes / n))])
        self.inputs.data.copy_(inputs[picks[:n_modes].to(inputs.device)])

    def modes(self) -> Normal:
        """Components, (C, k)."""
        return Normal.of(self.encode(self.inputs))


class Encode:
    """The encoder of a model, for a part of it that is no parent of the encoder.

    Parameters
    ----------
    model : Module
        The model: its encoder is looked up when it is used.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, inputs: Tensor) -> Tensor:
        """Encode inputs (C, p), to outputs (C, 2k)."""
        found: Tensor = self.model.encoder(inputs)
        return found


class DeepPosterior(NamedTuple):
    """q(z|x) q(u|z): the codes of all layers side by side, (..., n, k + k').

    Each layer above the first is encoded from a draw of the one below.
    """

    first: Normal
    above: Callable[..., Any]  # z, frozen -> q(u|z), a Normal or a DeepPosterior

    def split(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Part codes into those of the first layer and the rest."""
        k = self.first.mean.shape[-1]
        return codes[..., :k], codes[..., k:]

    @property
    def mean(self) -> Tensor:
        """Means of all layers, each given the mean of the one below."""
        return torch.cat([self.first.mean, self.above(self.first.mean).mean], -1)

    @property
    def sigma(self) -> Tensor:
        """Standard deviations of all layers, likewise."""
        return torch.cat([self.first.sigma, self.above(self.first.mean).sigma], -1)

    def draw(self, eps: Tensor) -> Tensor:
        """Reparameterised draws, layer by layer."""
        eps_z, eps_u = self.split(eps)
        z = self.first.draw(eps_z)
        return torch.cat([z, self.above(z).draw(eps_u)], -1)

    def log_prob(self, codes: Tensor) -> Tensor:
        """Log-density (..., n) of draws."""
        z, u = self.split(codes)
        found: Tensor = self.first.log_prob(z) + self.above(z).log_prob(u)
        return found

    def frozen(self) -> DeepPosterior:
        """Return the same density, which passes no gradient to its parameters."""
        return DeepPosterior(self.first.frozen(), partial(self.above, frozen=True))


class StackedPrior(nn.Module):
    """Base of p(z) = int p(z|u) p(u) du: a further stochastic layer above a code.

    Codes hold all layers side by side, (..., n, k + k').

    Parameters
    ----------
    decoder : Module
        Maps (..., k') to the outputs of p(z|u), (..., 2k).
    n_components : int
        k.
    prior : StandardNormal, LearnedPrior or StackedPrior
        p(u).
    encoder : Module, default=None
        Of q(u|z), where there is one.
    """

    def __init__(
        self,
        decoder: nn.Module,
        n_components: int,
        prior: StandardNormal | LearnedPrior | StackedPrior,
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if encoder is not None:  # first: files have moments of Adam in this order
            self.encoder = encoder
        self.decoder, self.prior = decoder, prior
        self.layer_sizes: tuple[int, ...] = (n_components, *prior.layer_sizes)

    @abstractmethod
    def posterior(self, q: Normal) -> Any:
        """q(z, u|x) of all layers, given what an encoder says of rows."""

    @abstractmethod
    def kl(self, q: Any, codes: Tensor) -> Tensor:
        """KL(q || p) of each coordinate, (n, k + k'), estimated at draws (S?, n, .)."""

    def given(self, u: Tensor, frozen: bool = False) -> Normal:
        """p(z|u) at codes u (..., k') of all layers above."""
        u = u[..., : self.layer_sizes[1]]
        if not frozen:
            return Normal.of(self.decoder(u))
        weights = {name: p.detach() for name, p in self.decoder.named_parameters()}
        # Gradients still reach u.
        return Normal.of(functional_call(self.decoder, weights, u))

    def _split(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        k = self.layer_sizes[0]
        return codes[..., :k], codes[..., k:]

    def log_prob(self, codes: Tensor) -> Tensor:
        """Log p(z|u) p(u), (..., n), of codes of all layers."""
        z, u = self._split(codes)
        return self.given(u).log_prob(z) + self.prior.log_prob(u)

    def draw_layers(self, eps: Tensor) -> Tensor:
        """Draw codes of all layers (..., k + k') from standard noise."""
        eps_z, eps_u = self._split(eps)
        u = self.prior.draw_layers(eps_u)
        return torch.cat([self.given(u).draw(eps_z), u], -1)

    def draw(self, eps: Tensor) -> Tensor:
        """Draw codes of the first layer (n, k) from standard noise of all."""
        return self.draw_layers(eps)[..., : self.layer_sizes[0]]


class DeepPrior(StackedPrior):
    """p(z) = int p(z|u) p(u) du, whose layers are inferred from the bottom up.

    With an encoder q(u|z) of its own, as in the two-layer models of Burda et al.
    (2016). Codes hold all layers side by side, (..., n, k + k').

    Parameters
    ----------
    encoder : Module
        Maps (..., k) to the outputs of q(u|z), (..., 2k').
    decoder : Module
        Maps (..., k') to the outputs of p(z|u), (..., 2k).
    n_components : int
        k.
    prior : StandardNormal, LearnedPrior or DeepPrior
        p(u).
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        n_components: int,
        prior: StandardNormal | LearnedPrior | StackedPrior,
    ) -> None:
        super().__init__(decoder, n_components, prior, encoder)

    def _above(self, z: Tensor, frozen: bool = False) -> Any:
        """q(u|z) of all layers above."""
        if not frozen:
            return self.prior.posterior(Normal.of(self.encoder(z)))
        weights = {name: p.detach() for name, p in self.encoder.named_parameters()}
        q = self.prior.posterior(Normal.of(functional_call(self.encoder, weights, z)))
        # Gradients still reach z, of which q is a function.
        if isinstance(q, DeepPosterior):
            return q._replace(above=partial(q.above, frozen=True))
        return q

    def posterior(self, q: Normal) -> DeepPosterior:
        """q(z|x) q(u|z) of all layers, given that of the first."""
        return DeepPosterior(q, self._above)

    def kl(self, q: DeepPosterior, codes: Tensor) -> Tensor:
        """KL(q || p) of each coordinate, (n, k + k'), estimated at draws (S?, n, .)."""
        z, u = self._split(codes)
        p = self.given(u)
        lower = q.first.coordinate_log_probs(z) - p.coordinate_log_probs(z)
        each = torch.cat([lower, self.prior.kl(q.above(z), u)], -1)
        return each if each.ndim == q.first.n_dims else each.mean(0)


class Categorical(NamedTuple):
    """Independent tokens: the posterior q(k|x) of a row's tokens."""

    log_probs: Tensor  # (n, T, K)

    def draw(self, uniform: Tensor) -> Tensor:
        """Tokens (S, n, T) from uniform noise (S, n, T), by the inverse of the CDF."""
        cdf = self.log_probs.exp().cumsum(-1)  # (n, T, K)
        if len(uniform) == 1:  # by counting: a search would cost more
            below = cdf <= uniform[0][..., None] * cdf[..., -1:]
            return below.sum(-1)[None].clamp(max=cdf.shape[-1] - 1)
        noise = uniform.permute(1, 2, 0).contiguous()  # (n, T, S)
        # From the right: noise of exactly 0 must not draw a first token of no mass.
        tokens = torch.searchsorted(cdf, noise * cdf[..., -1:], right=True)
        return tokens.clamp(max=cdf.shape[-1] - 1).permute(2, 0, 1)

    def log_prob(self, tokens: Tensor) -> Tensor:
        """Log-mass (S, n) of tokens (S, n, T)."""
        chosen = self.log_probs.gather(-1, tokens.permute(1, 2, 0))  # (n, T, S)
        return chosen.sum(1).T
