"""What is descended and what is reported: ELBO, importance-weighted bound, VQ loss.

An objective is a pure function of a model, rows and noise; its parts come back one
a row, in nats. Rows ``x`` are (n, d), standardised where the model standardises;
``noise`` is standard noise, (S, n, ...), one slice a draw from the posterior.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor


class LatentTerms(NamedTuple):
    """Loss of each row (n,) of a model with a continuous code, and its parts."""

    loss: Tensor
    reconstruction: Tensor  # E_q[log p(x|z)]
    kl: Tensor  # KL(q(z|x) || p(z))

    @property
    def watched(self) -> Tensor:
        """What held-out rows are watched for: the loss."""
        return self.loss


class TokenTerms(NamedTuple):
    """Loss of each row (n,) of a model with tokens, and its parts."""

    loss: Tensor
    reconstruction: Tensor  # log p(x|z_q)
    codebook: Tensor  # ||sg[z_e] - e||^2
    commitment: Tensor  # ||z_e - sg[e]||^2

    @property
    def watched(self) -> Tensor:
        """What held-out rows are watched for: the other terms have no fixed scale."""
        return -self.reconstruction


def elbo(model: Any, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """E_q[log p(x|z)] and KL(q(z|x) || p(z)); their difference is the ELBO."""
    q = model.posterior(x)
    z = q.draw(noise)
    return model.log_likelihood(x, z).mean(0), model.prior.kl(q)


def log_weights(model: Any, x: Tensor, noise: Tensor, q: Any = None) -> Tensor:
    """Log p(x, z) - log q(z|x) at draws from q, (S, n)."""
    q = model.posterior(x) if q is None else q
    z = q.draw(noise)
    return model.log_likelihood(x, z) + model.prior.log_prob(z) - q.log_prob(z)


def importance_weighted_bound(log_w: Tensor) -> Tensor:
    """L_S = log 1/S sum_s w_s, (n,), from log-weights (S, n) (Burda et al. 2016)."""
    return log_w.logsumexp(0) - math.log(len(log_w))


def beta_loss(model: Any, x: Tensor, noise: Tensor, beta: float) -> LatentTerms:
    """-(E_q[log p(x|z)] - beta KL); at beta = 1 the negative ELBO."""
    reconstruction, kl = elbo(model, x, noise)
    return LatentTerms(beta * kl - reconstruction, reconstruction, kl)


def importance_weighted_loss(model: Any, x: Tensor, noise: Tensor) -> LatentTerms:
    """-L_S(x), the bound itself, differentiated as it stands."""
    q = model.posterior(x)
    z = q.draw(noise)
    log_likelihood = model.log_likelihood(x, z)
    log_w = log_likelihood + model.prior.log_prob(z) - q.log_prob(z)
    loss = -importance_weighted_bound(log_w)
    return LatentTerms(loss, log_likelihood.mean(0), model.prior.kl(q))


def vq_loss(model: Any, x: Tensor, commitment_cost: float) -> TokenTerms:
    """-log p(x|z_q) + ||sg[z_e] - e||^2 + beta ||z_e - sg[e]||^2.

    Sums over a row's tokens and features: neither the batch size nor the number of
    tokens changes the balance (van den Oord et al. 2017, equation 3).
    """
    z_e = model.latents(x)  # (n, T, c)
    e = model.codebook[model.nearest(z_e)]
    # Straight through: the value is e, the gradient goes to z_e.
    z_q = z_e + (e - z_e).detach()
    reconstruction = model.log_likelihood_at(x, z_q)
    codebook = ((z_e.detach() - e) ** 2).sum((1, 2))
    commitment = ((z_e - e.detach()) ** 2).sum((1, 2))
    loss = codebook + commitment_cost * commitment - reconstruction
    return TokenTerms(loss, reconstruction, codebook, commitment)
