"""Training losses and reported terms: ELBO, importance-weighted bound, VQ loss.

An objective is a pure function of a model and a batch; its parts come back per row, in
nats. Rows ``batch.x`` are (n, d), standardised where the model standardises;
``batch.noise`` is standard noise, (S, n, ...), one slice per draw from the posterior.

Several models that are trained as one have a dimension more, before the rows: x is
(C, n, d), noise (S, C, n, ...), the parts of a loss (C, n), and numbers that differ
between them are (C, 1). So dimensions are counted from the last where rows matter.
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from skgen._networks.codebooks import straight_through
from skgen._training.batches import Batch
from skgen._training.contracts import (
    AdversarialModel,
    CodeModel,
    DensityModel,
    LatentModel,
    NoisedModel,
    Posterior,
    Prior,
    TokenModel,
)
from skgen._utils.tensors import LOG_2PI
from skgen.priors import Normal

# Under the root of a squared norm, whose gradient has a pole at 0.
TINY = 1e-12


class LatentTerms(NamedTuple):
    """Loss of each row (n,) of a model with a continuous code, and its parts."""

    loss: Tensor
    reconstruction: Tensor  # E_q[log p(x|z)]
    kl: Tensor  # KL(q(z|x) || p(z))

    @property
    def watched(self) -> Tensor:
        """Held-out quantity of early stopping: the loss."""
        return self.loss


@cache
def layered_terms(n_layers: int) -> Any:
    """Return a class of terms as `LatentTerms`, with ``kl_1`` and so on of each layer.

    Stochastic layers are counted from the data upwards.
    """
    names = [*LatentTerms._fields, *(f"kl_{i + 1}" for i in range(n_layers))]
    watched = {"watched": LatentTerms.watched, "__slots__": ()}
    return type("LayeredTerms", (namedtuple("Layered", names),), watched)


def latent_terms(
    loss: Tensor, reconstruction: Tensor, kl: Tensor, prior: Any
) -> LatentTerms:
    """Return terms of rows, from the KL of coordinates (..., k) of all layers."""
    total, sizes = kl.sum(-1), prior.layer_sizes
    if len(sizes) == 1:
        return LatentTerms(loss, reconstruction, total)
    *below, last = kl.tensor_split(list(accumulate(sizes[:-1])), dim=-1)
    layers = [each.sum(-1) for each in (*below, last)]
    terms: LatentTerms = layered_terms(len(sizes))(loss, reconstruction, total, *layers)
    return terms


class TokenTerms(NamedTuple):
    """Loss of each row (n,) of a model with tokens, and its parts."""

    loss: Tensor
    reconstruction: Tensor  # log p(x|z_q)
    codebook: Tensor  # ||sg[z_e] - e||^2
    commitment: Tensor  # ||z_e - sg[e]||^2

    @property
    def watched(self) -> Tensor:
        """Held-out quantity of early stopping: the other terms have no fixed scale."""
        return -self.reconstruction


class ReconstructionTerms(NamedTuple):
    """Loss of each row (n,) of a model whose code has no density in training."""

    loss: Tensor

    @property
    def watched(self) -> Tensor:
        """Held-out quantity of early stopping: the loss."""
        return self.loss


class EncodedTerms(TokenTerms):
    """The terms of rows, and the vectors z_e that they were encoded to."""

    z_e: Tensor  # (n, T, c), without a gradient


class DensityTerms(NamedTuple):
    """Loss of each row (n,) of a model whose log-density is exact."""

    loss: Tensor

    @property
    def watched(self) -> Tensor:
        """Held-out quantity of early stopping: the loss."""
        return self.loss


class KLWeight(NamedTuple):
    """Cost of the KL of each coordinate: ``beta |sum_j max(lambda, KL_j) - C|``.

    ``KL_j`` is the mean over the rows, (k,). With ``free_bits`` (lambda) a coordinate
    pays nothing for its first nats (Kingma et al. 2016); a ``capacity`` C keeps the
    KL near C nats (Burgess et al. 2018, whose gamma is beta).
    """

    beta: float = 1.0
    free_bits: float | None = None
    capacity: float | None = None

    def warmed(self, annealing: float) -> KLWeight:
        """Part of the way from nothing: the capacity rises, or else the weight."""
        if self.capacity is not None:
            return self._replace(capacity=annealing * self.capacity)
        return self._replace(beta=annealing * self.beta)

    def __call__(self, kl: Tensor) -> Tensor:
        """Cost (n,) of a KL (n, k), whose mean over the rows is the above."""
        if self.free_bits is not None:
            used = kl.mean(-2, keepdim=True) >= self.free_bits
            kl = torch.where(used, kl, self.free_bits)
        cost = kl.sum(-1)
        if self.capacity is not None:
            excess = cost - self.capacity
            cost = torch.where(excess.mean(-1, keepdim=True) < 0, -excess, excess)
        return self.beta * cost


def elbo(model: LatentModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """E_q[log p(x|z)], (n,), and KL(q(z|x) || p(z)) of each coordinate, (n, k).

    The ELBO is the first less the sum of the second.
    """
    q: Posterior = model.posterior(batch)
    prior: Prior = model.prior
    noise = batch.draws
    if len(noise) == 1:  # without its dimension: it would cost a step ten operations
        z = q.draw(noise[0])
        return model.log_likelihood(batch, z), prior.kl(q, z)
    z = q.draw(noise)
    return model.log_likelihood(batch, z).mean(0), prior.kl(q, z)


def log_weights(model: LatentModel, batch: Batch, q: Posterior | None = None) -> Tensor:
    """Log p(x, z) - log q(z|x) at draws from q, (S, n)."""
    q = model.posterior(batch) if q is None else q
    assert q is not None
    z, prior = q.draw(batch.draws), model.prior
    log_prior: Tensor = prior.log_prob(z)
    return model.log_likelihood(batch, z) + log_prior - q.log_prob(z)


def importance_weighted_bound(log_w: Tensor) -> Tensor:
    """L_S = log 1/S sum_s w_s, (n,), from log-weights (S, n) (Burda et al. 2016)."""
    return log_w.logsumexp(0) - math.log(len(log_w))


class BetaLoss(NamedTuple):
    """-(E_q[log p(x|z)] - beta KL); with ``KLWeight()`` the negative ELBO."""

    weight: KLWeight = KLWeight()

    def __call__(
        self, model: LatentModel, batch: Batch, annealing: float = 1.0
    ) -> LatentTerms:
        """Terms of rows, a part ``annealing`` of the way through the warm-up."""
        reconstruction, kl = elbo(model, batch)
        cost = self.weight.warmed(annealing)(kl)
        loss = cost - reconstruction
        return latent_terms(loss, reconstruction, kl, model.prior)


class ImportanceWeightedLoss(NamedTuple):
    """-L_S(x), the bound itself, whatever estimates its gradient.

    The gradient is "standard": of the bound as it stands; "stl": without the score of
    q, whose mean over draws would be zero at the exact posterior (Roeder et al.
    2017); or "dreg": without it and doubly reparameterised, unbiased, and with a
    signal that grows with S (Tucker et al. 2019). In a warm-up, with beta < 1, the
    bound is that of ``p(x|z) (p(z) / q(z|x))^beta``.
    """

    gradient: str = "standard"

    def __call__(
        self, model: LatentModel, batch: Batch, beta: float = 1.0
    ) -> LatentTerms:
        """Terms of rows, a part ``beta`` of the way through the warm-up."""
        q: Posterior = model.posterior(batch)
        prior: Prior = model.prior
        z = q.draw(batch.draws)  # (S, n, k)
        with torch.no_grad():  # reported only
            kl = prior.kl(q, z)
        if self.gradient != "standard":
            q, z = q.frozen(), z.view_as(z)  # a node of its own: for log w only
        log_likelihood = model.log_likelihood(batch, z)
        log_w = log_likelihood + beta * (prior.log_prob(z) - q.log_prob(z))
        if self.gradient == "dreg" and z.requires_grad:
            # dL/dz_s is w_s dlog w_s/dz_s, w normalised; the encoder gets w_s^2 of
            # it. At beta < 1 only that part of the score can be reparameterised.
            scale = 1 - beta + beta * log_w.detach().softmax(0)
            z.register_hook(lambda slope: slope * scale[..., None])
        loss = -importance_weighted_bound(log_w)
        return latent_terms(loss, log_likelihood.mean(0), kl, prior)


# Bounds over discrete codes, whose gradient is that of an estimator.


def leave_one_out(values: Tensor) -> Tensor:
    """Mean (S, n) over the draws but one, for each of draws (S, n)."""
    return (values.sum(0) - values) / (len(values) - 1)


def with_score(value: Tensor, signal: Tensor, log_q: Tensor) -> Tensor:
    """Return a value (n,) with ``sum_s signal_s grad log q(z_s)`` in its gradient.

    Signals and log-masses of draws are (S, n).
    """
    score = (signal.detach() * log_q).sum(0)
    return value + score - score.detach()


class DiscreteBound(NamedTuple):
    """Bound on log p(x) of each row (n,), and its parts."""

    value: Tensor
    reconstruction: Tensor
    kl: Tensor


def score_bound(
    model: LatentModel, batch: Batch, beta: float, temperature: float
) -> DiscreteBound:
    """ELBO, whose gradient is the likelihood ratio with a leave-one-out baseline.

    Only the reconstruction is at draws: the KL is exact.
    """
    q = model.posterior(batch)
    tokens = q.draw(batch.draws)
    log_likelihood = model.log_likelihood(batch, tokens)  # (S, n)
    kl = model.prior.kl(q, tokens).sum(-1)
    signal = (log_likelihood - leave_one_out(log_likelihood)) / len(log_likelihood)
    reconstruction = log_likelihood.mean(0)
    value = with_score(reconstruction - beta * kl, signal, q.log_prob(tokens))
    return DiscreteBound(value, reconstruction, kl)


def vimco_bound(
    model: LatentModel, batch: Batch, beta: float, temperature: float
) -> DiscreteBound:
    """L_S, whose gradient is the likelihood ratio with a baseline for each draw.

    What the bound would be with the geometric mean of the other weights in the place of
    its own (Mnih & Rezende 2016, equation 8).
    """
    q = model.posterior(batch)
    tokens = q.draw(batch.draws)
    log_likelihood, log_q = model.log_likelihood(batch, tokens), q.log_prob(tokens)
    log_w = log_likelihood + beta * (model.prior.log_prob(tokens) - log_q)
    own = torch.eye(len(log_w), dtype=torch.bool, device=log_w.device)[..., None]
    without = torch.where(own, leave_one_out(log_w)[:, None], log_w)  # (S, S, n)
    bound = importance_weighted_bound(log_w)
    signal = bound - importance_weighted_bound(without.transpose(0, 1))
    kl = model.prior.kl(q, tokens).sum(-1)
    value = with_score(bound, signal, log_q)
    return DiscreteBound(value, log_likelihood.mean(0), kl)


def gumbel_bound(
    model: Any, batch: Batch, beta: float, temperature: float
) -> DiscreteBound:
    """ELBO at codes between levels, through which the gradient goes.

    ``softmax((log q + g) / temperature)``, with Gumbel noise g (S, n, T, K). Where no
    gradient is asked for, it is at the levels themselves.
    """
    q = model.posterior(batch)
    noisy = q.log_probs + batch.draws
    if torch.is_grad_enabled():
        shares = (noisy / temperature).softmax(-1)
        reconstruction = model.log_likelihood_at(batch, shares).mean(0)
    else:
        reconstruction = model.log_likelihood(batch, noisy.argmax(-1)).mean(0)
    kl = model.prior.kl(q, noisy).sum(-1)
    return DiscreteBound(reconstruction - beta * kl, reconstruction, kl)


DISCRETE_BOUNDS: dict[str, Callable[[Any, Batch, float, float], DiscreteBound]] = {
    "score": score_bound,
    "vimco": vimco_bound,
    "gumbel": gumbel_bound,
}


class DiscreteLoss(NamedTuple):
    """Minus a bound over discrete codes, whose gradient is estimated in some way."""

    gradient: str = "score"  # of DISCRETE_BOUNDS
    temperature: float = 0.5  # of "gumbel"

    def __call__(
        self, model: LatentModel, batch: Batch, beta: float = 1.0
    ) -> LatentTerms:
        """Terms of rows, a part ``beta`` of the way through the warm-up."""
        bound = DISCRETE_BOUNDS[self.gradient]
        value, reconstruction, kl = bound(model, batch, beta, self.temperature)
        return LatentTerms(-value, reconstruction, kl.detach())


class AdversarialTerms(NamedTuple):
    """Losses of each row (n,) of a critic and a generator, and what is watched."""

    loss: Tensor  # the sum of the next three
    critic: Tensor
    generator: Tensor
    penalty: Tensor  # of the critic's slope
    mmd: Tensor  # its mean is the squared discrepancy of rows and draws

    @property
    def watched(self) -> Tensor:
        """Held-out quantity of early stopping: losses of a game do not fall."""
        return self.mmd


class AdversarialLoss(NamedTuple):
    """Loss of a critic D plus that of a generator G, each of which moves its own.

    "non-saturating": ``softplus(-D(x)) + softplus(D(G(z)))`` and ``softplus(-D(G(z)))``
    (Goodfellow et al. 2014), with the penalty ``gamma / 2 |grad D(x)|^2`` (Mescheder,
    Geiger & Nowozin 2018); "wasserstein": ``D(G(z)) - D(x)`` and ``-D(G(z))``, with
    ``gamma (|grad D| - 1)^2`` between rows and draws (Gulrajani et al. 2017). One
    gradient of the sum is a simultaneous step of both: draws reach the critic's loss
    without a gradient, and the generator's through a frozen critic.
    """

    kind: str
    gamma: float

    def __call__(
        self, model: AdversarialModel, batch: Batch, annealing: float = 1.0
    ) -> AdversarialTerms:
        """Terms of rows; there is no warm-up."""
        trains, x = torch.is_grad_enabled(), batch.x.detach()
        fake = model.generated(batch)
        real = model.judged(x.requires_grad_(trains), batch)
        critic, generator = self.losses(
            real,
            model.judged(fake.detach(), batch),
            model.judged(fake, batch, frozen=True),
        )
        penalty = torch.zeros_like(real)
        if trains and self.gamma > 0:
            penalty = self.penalty(model, batch, x, real, fake.detach())
        mmd = model.discrepancies(batch, fake.detach(), quick=trains)
        loss = critic + generator + penalty
        return AdversarialTerms(loss, critic, generator, penalty, mmd)

    def losses(self, real: Tensor, fake: Tensor, fooled: Tensor) -> tuple[Tensor, ...]:
        """Loss of the critic and of the generator, from judgements (n,)."""
        if self.kind == "wasserstein":
            return fake - real, -fooled
        return F.softplus(-real) + F.softplus(fake), F.softplus(-fooled)

    def penalty(
        self,
        model: AdversarialModel,
        batch: Batch,
        x: Tensor,
        real: Tensor,
        fake: Tensor,
    ) -> Tensor:
        """Penalty (n,) of the critic's slope: at rows x that are judged, or between."""
        if self.kind != "wasserstein":
            return 0.5 * self.gamma * squared_slope(real, x)
        mixed = model.mixed(batch, fake).detach().requires_grad_()
        squared = squared_slope(model.judged(mixed, batch), mixed)
        return self.gamma * ((squared + TINY).sqrt() - 1).square()


def squared_slope(values: Tensor, x: Tensor) -> Tensor:
    """Squared gradient (n,) of the value (n,) of each row (n, d), with a graph."""
    (slope,) = torch.autograd.grad(values.sum(), x, create_graph=True)
    return slope.square().sum(-1)


class DiffusionTerms(NamedTuple):
    """Loss of each row (n,) of a diffusion model, and the gain over a normal."""

    loss: Tensor
    gain: Tensor

    @property
    def watched(self) -> Tensor:
        """Held-out quantity of early stopping: the loss."""
        return self.loss


class DiffusionLoss(NamedTuple):
    """Minus the variational bound on log p(x) in continuous time (Kingma et al. 2021).

    ``KL(q(z_1|x) || N(0, I)) + E_t [gamma'(t) / 2 |eps - eps_hat(z, gamma(t))|^2] -
    E log p(x|z_0)``, with noise levels gamma(t) and t uniform: but for a weight, the
    squared error of the noise (Ho et al. 2020). Models say how far it is below that of
    a standard normal density, whose mean is known, so that it varies less.
    """

    def __call__(
        self, model: NoisedModel, batch: Batch, annealing: float = 1.0
    ) -> DiffusionTerms:
        """Terms of rows; there is no warm-up."""
        gain = model.gains(batch).mean(0)
        return DiffusionTerms(-(model.baseline(batch.x) + gain), gain)


class NegativeLogLikelihood(NamedTuple):
    """-log p(x), or -log p(x|y) where the model has a condition: maximum likelihood."""

    def __call__(
        self, model: DensityModel, batch: Batch, annealing: float = 1.0
    ) -> DensityTerms:
        """Terms of rows; there is no warm-up."""
        return DensityTerms(-model.log_density(batch))


class TokenLoss(NamedTuple):
    """-log p(x|z_q) + alpha ||sg[z_e] - e||^2 + beta ||z_e - sg[e]||^2.

    Sums over a row's tokens and features: neither the batch size nor the number of
    tokens changes the balance (van den Oord et al. 2017, equation 3). A codebook
    that follows its vectors by averages needs no cost, alpha = 0. ``through`` says
    how the gradient comes from z_q to z_e.
    """

    commitment_cost: float
    codebook_cost: float = 1.0
    through: Callable[[Tensor, Tensor], Tensor] = straight_through

    def __call__(
        self, model: TokenModel, batch: Batch, annealing: float = 1.0
    ) -> EncodedTerms:
        """Terms of rows; there is neither noise nor a warm-up."""
        z_e = model.latents(batch)  # (n, T, c)
        e = model.quantise(z_e)
        reconstruction = model.log_likelihood_at(batch, self.through(z_e, e))
        codebook = ((z_e.detach() - e) ** 2).sum((-2, -1))
        commitment = ((z_e - e.detach()) ** 2).sum((-2, -1))
        costs = self.codebook_cost * codebook + self.commitment_cost * commitment
        loss = costs - reconstruction
        terms = EncodedTerms(loss, reconstruction, codebook, commitment)
        terms.z_e = z_e.detach()
        return terms


def blurred(x: Tensor, noise: Tensor, amount: float) -> Tensor:
    """Add normal noise of a standard deviation to rows."""
    return x + amount * noise


def masked(x: Tensor, noise: Tensor, amount: float) -> Tensor:
    """Set a part of the cells to zero, by uniform noise."""
    return torch.where(noise < amount, 0.0, x)


CORRUPTIONS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "gaussian": blurred,
    "masking": masked,
}


class ReconstructionLoss(NamedTuple):
    """Distance of a row from the reconstruction of a corrupted copy of it.

    Half the squared error, ``||x - g(f(x + noise))||^2 / 2``, or ``-log p(x|z)`` at the
    code z of the corrupted row. ``noise`` is the standard deviation of "gaussian"
    noise, or the part of the cells that "masking" sets to zero; 0 leaves rows as they
    are (Vincent et al. 2008).
    """

    noise: float = 0.0
    corruption: str = "gaussian"
    squared: bool = True

    def __call__(
        self, model: CodeModel, batch: Batch, annealing: float = 1.0
    ) -> ReconstructionTerms:
        """Terms of rows; there is no warm-up."""
        x = batch.x
        if batch.noise is not None:
            x = CORRUPTIONS[self.corruption](x, batch.noise[0], self.noise)
        outputs = model.reconstructed(x)
        if not self.squared:
            return ReconstructionTerms(-model.likelihood.log_prob(outputs, batch.x))
        error = batch.x - model.likelihood.mean(outputs)
        return ReconstructionTerms(0.5 * (error**2).sum(-1))


# Losses that look at the codes of a batch together: q(z) = E_x[q(z|x)].

# Rows that are compared with each other at a time: a chunk of held-out rows is parted.
BLOCK_ROWS = 256


def shares(weight: Tensor | None, z: Tensor) -> Tensor:
    """Return weights (n,) of the rows of codes (n, k), as parts of their sum.

    Rows whose weights all vanish in the dtype of the codes count alike.
    """
    weight = torch.ones(len(z)).to(z) if weight is None else weight.to(z)
    largest = weight.amax()
    least = torch.finfo(weight.dtype).tiny
    relative = torch.where(largest > least, weight / largest.clamp(min=least), 1.0)
    return relative / relative.sum()


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (..., n, m) of codes (..., n, k) from codes (..., m, k)."""
    return ((a[..., :, None, :] - b[..., None, :, :]) ** 2).sum(-1)


def rbf(squared: Tensor, n_components: int) -> Tensor:
    """Kernel exp(-d^2 / 2k), at squared distances of codes of k coordinates."""
    return (-squared / (2 * n_components)).exp()


def inverse_multiquadratic(squared: Tensor, n_components: int) -> Tensor:
    """Kernel, the mean over scales s of 2ks / (2ks + d^2), at squared distances."""
    widths = [2 * n_components * scale for scale in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10)]
    kernels = [width / (width + squared) for width in widths]
    return torch.stack(kernels).mean(0)


KERNELS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "imq": inverse_multiquadratic,
    "rbf": rbf,
}


def mean_of_pairs(kernel: Tensor, a: Tensor, b: Tensor | None = None) -> Tensor:
    """Mean (...) of a kernel (..., n, m) under weights (..., n) and (..., m).

    Without the second weights, it is that over pairs of different rows of one sample.
    """
    pairs = a[..., :, None] * (a if b is None else b)[..., None, :]
    if b is None:
        pairs = pairs * (1 - torch.eye(pairs.shape[-1]).to(pairs))
    total = pairs.sum((-2, -1)).clamp(min=torch.finfo(pairs.dtype).tiny)
    return (pairs * kernel).sum((-2, -1)) / total


def squared_mmd(
    z: Tensor, prior: Tensor, weight: Tensor | None = None, kernel: str = "imq"
) -> Tensor:
    """Unbiased estimate of MMD^2 between codes and draws from the prior, ().

    Parameters
    ----------
    z : Tensor of shape (n, k)
        Draws from q(z|x) of some rows.
    prior : Tensor of shape (n, k)
        Draws from p(z).
    weight : Tensor of shape (n,), default=None
        Weights of the rows.
    kernel : {"imq", "rbf"}, default="imq"
        Inverse multiquadratic, a mean over scales; or normal, of variance k.

    References
    ----------
    Gretton et al., "A kernel two-sample test", JMLR 13, 2012.
    """
    weight = len(z) * shares(weight, z)
    n_blocks = math.ceil(len(z) / BLOCK_ROWS)
    n = n_blocks * (len(z) // n_blocks)
    z, prior, weight = (
        part[:n].unflatten(0, (n_blocks, -1)) for part in (z, prior, weight)
    )
    of_prior = torch.ones_like(weight)
    k, of = z.shape[-1], KERNELS[kernel]
    within = mean_of_pairs(of(squared_distances(z, z), k), weight)
    beside = mean_of_pairs(of(squared_distances(prior, prior), k), of_prior)
    across = mean_of_pairs(of(squared_distances(z, prior), k), weight, of_prior)
    return (within + beside - 2 * across).mean()


class InfoTerms(NamedTuple):
    """Loss of each row (n,) of an InfoVAE, and its parts."""

    loss: Tensor
    reconstruction: Tensor  # E_q[log p(x|z)]
    kl: Tensor  # KL(q(z|x) || p(z))
    mmd: Tensor  # squared MMD of q(z) to p(z), the same for all rows

    @property
    def watched(self) -> Tensor:
        """Held-out quantity of early stopping: the loss."""
        return self.loss


class InfoLoss(NamedTuple):
    """-E_q[log p(x|z)] + (1 - alpha) KL(q(z|x) || p(z)) + c MMD^2(q(z), p(z)).

    With ``alpha`` the weight of the mutual information of row and code, and ``c =
    alpha + lambda - 1`` in the terms of Zhao et al. (2019), equation 6.
    """

    alpha: float
    mmd_weight: float
    kernel: str = "imq"

    def __call__(
        self, model: LatentModel, batch: Batch, annealing: float = 1.0
    ) -> InfoTerms:
        """Terms of rows, a part ``annealing`` of the way through the warm-up.

        The first slice of the noise is that of the code, and the second, where MMD has
        a weight, that of the prior.
        """
        q, prior = model.posterior(batch), model.prior
        z = q.draw(batch.draws[0])
        reconstruction = model.log_likelihood(batch, z)
        kl = prior.kl(q, z).sum(-1)
        loss = annealing * (1 - self.alpha) * kl - reconstruction
        if len(batch.draws) == 1:
            return InfoTerms(loss, reconstruction, kl, torch.zeros_like(kl))
        other = prior.draw_layers(batch.draws[1])
        mmd = squared_mmd(z, other, batch.weight, self.kernel).expand_as(kl)
        return InfoTerms(loss + self.mmd_weight * mmd, reconstruction, kl, mmd)


def aggregate_log_probs(
    q: Posterior, z: Tensor, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Log q(z), (n,), and log q(z_j) of each coordinate, (n, k), at draws (n, k).

    q(z) is the mean of q(z|x) over the rows of a batch. It differs from minibatch
    weighted sampling (Chen et al. 2018) by the log of the number of all rows, which has
    no gradient; where the batch is all rows, it is exact.
    """
    normal: Any = q
    squared = ((z[:, None] - normal.mean) / normal.sigma) ** 2  # (n, n, k)
    each = -0.5 * (squared + LOG_2PI) - normal.sigma.log()
    log_share = shares(weight, z).log()
    joint = (each.sum(-1) + log_share).logsumexp(1)
    return joint, (each + log_share[:, None]).logsumexp(1)


def total_correlation(q: Posterior, z: Tensor, weight: Tensor | None = None) -> Tensor:
    """Estimate KL(q(z) || prod_j q(z_j)), (), at draws (n, k) from q(z|x) of rows."""
    normal: Any = q
    share = shares(weight, z)
    total = z.new_zeros(())
    for i in range(0, len(z), BLOCK_ROWS):
        rows = slice(i, i + BLOCK_ROWS)
        part = Normal(normal.mean[rows], normal.sigma[rows])
        joint, each = aggregate_log_probs(part, z[rows], share[rows])
        total = total + share[rows] @ (joint - each.sum(-1))
    return total


class TotalCorrelationTerms(NamedTuple):
    """Loss of each row (n,) of a beta-TCVAE, and its parts."""

    loss: Tensor
    reconstruction: Tensor  # E_q[log p(x|z)]
    kl: Tensor  # KL(q(z|x) || p(z))
    total_correlation: Tensor  # KL(q(z) || prod_j q(z_j)), the same for all rows

    @property
    def watched(self) -> Tensor:
        """Held-out quantity of early stopping: the loss."""
        return self.loss


class TotalCorrelationLoss(NamedTuple):
    """-(E_q[log p(x|z)] - KL - (beta - 1) TC): beta weighs the total correlation.

    The KL, in the mean over rows, is the mutual information of row and code, the total
    correlation of the code, and the KL of each coordinate to the prior; this loss has a
    weight of beta on the second alone (Chen et al. 2018, equation 4 with alpha = gamma
    = 1).
    """

    beta: float

    def __call__(
        self, model: LatentModel, batch: Batch, annealing: float = 1.0
    ) -> TotalCorrelationTerms:
        """Terms of rows, a part ``annealing`` of the way through the warm-up."""
        q, prior = model.posterior(batch), model.prior
        z = q.draw(batch.draws[0])
        reconstruction = model.log_likelihood(batch, z)
        kl = prior.kl(q, z).sum(-1)
        found = total_correlation(q, z, batch.weight).expand_as(kl)
        cost = annealing * kl
        if self.beta != 1:
            cost = cost + annealing * (self.beta - 1) * found
        return TotalCorrelationTerms(cost - reconstruction, reconstruction, kl, found)
