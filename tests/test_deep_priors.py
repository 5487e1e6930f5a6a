"""Stochastic layers stacked: a linear model of two layers whose density is known."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from skgen import IWAE, VAE, BetaVAE
from skgen._networks.dense import Standardizer
from skgen._training.batches import Batch
from skgen.models.vae import VariationalAutoencoder
from skgen.objectives import (
    ImportanceWeightedLoss,
    elbo,
    importance_weighted_bound,
    log_weights,
)
from skgen.priors import DeepPrior, Normal, StandardNormal
from tests.toys import (
    D,
    K,
    draws_of,
    gaussian,
    generator,
    leaves_generators,
    linear,
    normal,
)

pytestmark = pytest.mark.usefixtures("guarded_generators")

N = 50
A = torch.tensor([0.9, 0.5], dtype=torch.float64)  # z = A u + S eps, a coordinate each
S = torch.tensor([0.5, 0.8], dtype=torch.float64)
ABOVE = A**2 + S**2  # variance of z


def diagonal(mean: Tensor, log_sigma: Tensor, shift: float = 0.0) -> Any:
    """A linear network to (mean * input + shift, log_sigma)."""
    weight = torch.cat([torch.diag(mean), torch.zeros(K, K).double()])
    return linear(weight, torch.cat([torch.full_like(mean, shift), log_sigma]))


@leaves_generators
def two_layers(shift: Any = 0.0, above_shift: Any = 0.0) -> Any:
    """Model, marginal p(x); exact posteriors where the shifts are zero."""
    Q = torch.linalg.qr(normal(D, K)).Q
    W, sigma = Q * torch.tensor([2.0, 0.8], dtype=torch.float64), 0.6
    precision = (W**2).sum(0) / sigma**2 + 1 / ABOVE
    to_mean = W.T / sigma**2 / precision[:, None]
    encoder = linear(
        torch.cat([to_mean, torch.zeros_like(to_mean)]),
        torch.cat([torch.full((K,), shift).double(), -0.5 * precision.log()]),
    )
    above = 1 + A**2 / S**2  # precision of u given z
    prior = DeepPrior(
        diagonal(A / S**2 / above, -0.5 * above.log(), above_shift),
        diagonal(A, S.log()),
        K,
        StandardNormal(K),
    )
    model = VariationalAutoencoder(
        encoder,
        linear(W, torch.zeros(D).double()),
        gaussian(sigma),
        Standardizer.identity(D),
        prior,
        8,
    )
    covariance = W @ torch.diag(ABOVE) @ W.T + sigma**2 * torch.eye(D).double()
    return model, MultivariateNormal(torch.zeros(D).double(), covariance)


def test_weights_are_the_exact_density_under_the_exact_posteriors() -> None:
    model, marginal = two_layers()
    x = draws_of(marginal, N)
    log_w = log_weights(model, Batch(x, normal(3, N, 2 * K)))
    torch.testing.assert_close(log_w, marginal.log_prob(x).expand(3, N))


def test_the_bound_of_wrong_posteriors_is_below_and_closes() -> None:
    model, marginal = two_layers(shift=0.2, above_shift=0.5)
    x = draws_of(marginal, N)
    with torch.no_grad():
        log_w = log_weights(model, Batch(x, normal(1_024, N, 2 * K)))
    exact = marginal.log_prob(x)
    gaps = [
        (exact - torch.stack([*map(importance_weighted_bound, log_w.split(k))])).mean()
        for k in (1, 8, 64, 1_024)
    ]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.1
    assert abs(gaps[-1]) < 5e-3


def test_the_kl_of_each_coordinate_is_that_of_both_layers() -> None:
    # Of independent coordinates: KL(q(z|x) || p(z)) + E_q KL(q(u|z) || p(u|z)).
    model, marginal = two_layers(shift=0.2)
    x = draws_of(marginal, N)
    reconstruction, kl = elbo(model, Batch(x, normal(4_000, N, 2 * K)))
    assert kl.shape == (N, 2 * K)
    q = model.first_posterior(Batch(x))
    q_z = MultivariateNormal(q.mean, scale_tril=torch.diag_embed(q.sigma))
    p_z = MultivariateNormal(torch.zeros(K).double(), torch.diag(ABOVE))
    torch.testing.assert_close(kl.sum(-1), kl_divergence(q_z, p_z), rtol=0.05, atol=0.1)
    assert (reconstruction - kl.sum(-1)).mean() < marginal.log_prob(x).mean()


def test_draws_have_the_marginal_covariance() -> None:
    model, marginal = two_layers()
    with torch.no_grad():
        x = model.draw(50_000, True, generator())
    torch.testing.assert_close(
        torch.cov(x.T), marginal.covariance_matrix, rtol=0.05, atol=0.05
    )


def test_codes_of_the_user_are_those_of_the_first_layer() -> None:
    model, marginal = two_layers()
    x = draws_of(marginal, N)
    z = model.encode(x)
    assert z.shape == (N, K)
    torch.testing.assert_close(model.posterior(Batch(x)).mean[:, :K], z)
    torch.testing.assert_close(
        model.posterior(Batch(x)).mean[:, K:], model.prior._above(z).mean
    )


def _replace_bias(
    rows: Tensor, layer: Any, args: tuple[Any, ...], outputs: Tensor
) -> Any:
    """Give each row a bias of its own, frozen where that of the layer is."""
    rows = rows if layer.bias.requires_grad else rows.detach()
    return outputs - layer.bias.detach() + rows


def _encoder_gradients(
    gradient: str, n: int = 20_000, draws: Any = 4
) -> tuple[Any, ...]:
    """Mean over n rows and its error: of the gradient of each encoder's bias."""
    model, marginal = two_layers(shift=0.2, above_shift=0.4)
    x = draws_of(marginal, 1).expand(n, D)
    biases = [model.encoder.bias, model.prior.encoder.bias]
    # A bias a row, so that gradients come a row each.
    rows = [b.detach().expand(n, -1).clone().requires_grad_() for b in biases]
    for layer, each in zip((model.encoder, model.prior.encoder), rows):
        layer.register_forward_hook(partial(_replace_bias, each))
    noise = normal(draws, n, 2 * K, seed=4)
    terms = ImportanceWeightedLoss(gradient)(model, Batch(x, noise))
    return torch.autograd.grad(terms.loss.sum(), rows)


def test_doubly_reparameterised_gradients_have_the_mean_of_the_standard_ones() -> None:
    for plain, doubly in zip(
        _encoder_gradients("standard"), _encoder_gradients("dreg")
    ):
        error = (plain.var(0) / len(plain) + doubly.var(0) / len(doubly)).sqrt()
        assert ((plain.mean(0) - doubly.mean(0)).abs() < 4 * error).all()
        assert (plain.mean(0).abs() > 4 * error).any()
        assert (doubly.var(0) < plain.var(0)).all()


@pytest.mark.parametrize("gradient", ["stl", "dreg"])
def test_gradients_without_the_score_vanish_at_the_exact_posteriors(
    gradient: str,
) -> None:
    model, marginal = two_layers()
    x, noise = draws_of(marginal, N), normal(4, N, 2 * K)
    ImportanceWeightedLoss(gradient)(model, Batch(x, noise)).loss.mean().backward()
    for layer in (model.encoder, model.prior.encoder):
        for p in layer.parameters():
            torch.testing.assert_close(p.grad, torch.zeros_like(p), atol=1e-12, rtol=0)
    assert model.prior.decoder.weight.grad.abs().max() > 1e-3


def test_three_layers_are_two_with_a_layer_above() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        top = StandardNormal(1)
        middle = DeepPrior(
            torch.nn.Linear(2, 2), torch.nn.Linear(1, 4), 2, top
        ).double()
        prior = DeepPrior(
            torch.nn.Linear(3, 4), torch.nn.Linear(2, 6), 3, middle
        ).double()
    assert prior.layer_sizes == (3, 2, 1)
    q = prior.posterior(Normal(normal(N, 3), normal(N, 3, seed=1).exp()))
    codes = q.draw(normal(7, N, 6, seed=2))
    assert codes.shape == (7, N, 6)
    assert q.log_prob(codes).shape == prior.log_prob(codes).shape == (7, N)
    assert prior.kl(q, codes).shape == (N, 6)
    frozen = q.frozen().log_prob(codes)
    torch.testing.assert_close(frozen, q.log_prob(codes))
    q.frozen().log_prob(codes.detach().requires_grad_()).sum().backward()
    assert all(p.grad is None for p in prior.parameters())


# Estimators.

SMALL: dict[str, Any] = {"max_iter": 4, "n_importance_samples": 4, "random_state": 0}
few_epochs = pytest.mark.filterwarnings(
    "ignore:.*maximum iterations:sklearn.exceptions.ConvergenceWarning"
)


@few_epochs
@pytest.mark.parametrize("cls", [VAE, BetaVAE, IWAE])
def test_an_estimator_of_two_layers(cls: type[Any]) -> None:
    X = normal(80, 6, seed=3).numpy()
    model = cls((4, 2), hidden_layer_sizes=((8, 7), (5,)), **SMALL).fit(X)
    assert model.transform(X).shape == (80, 4)
    assert model.posterior(X).std.shape == (80, 4)
    assert model.inverse_transform(model.transform(X)).shape == X.shape
    assert model.sample(3, random_state=0).shape == (3, 6)
    assert model.latent_variances_.shape == (6,)
    assert len(model.active_units_) == 2
    assert [m.out_features for m in model.module_.prior.encoder[::2]] == [5, 4]
    assert [m.out_features for m in model.module_.encoder[::2]] == [8, 7, 8]
    gap = model.log_likelihood(X, n_samples=256).log_prob - model.score_samples(X)
    assert gap.mean() > 0
    reconstruction, kl = model.elbo(X)
    assert (reconstruction - kl).mean() < model.score(X)


@few_epochs
def test_one_sequence_of_widths_serves_all_layers() -> None:
    X = normal(40, 5, seed=3).numpy()
    model = VAE((3, 2), hidden_layer_sizes=(7,), **SMALL).fit(X)
    assert [m.out_features for m in model.module_.prior.encoder[::2]] == [7, 4]
    single = VAE((3,), hidden_layer_sizes=(7,), **SMALL).fit(X)
    plain = VAE(3, hidden_layer_sizes=(7,), **SMALL).fit(X)
    np.testing.assert_array_equal(single.score_samples(X), plain.score_samples(X))


def test_widths_for_another_number_of_layers_are_refused() -> None:
    X = normal(40, 5, seed=3).numpy()
    model = VAE((3, 2), hidden_layer_sizes=((7,), (7,), (7,)), **SMALL)
    with pytest.raises(ValueError, match=r"3 stochastic layers.*n_components=\(3, 2\)"):
        model.fit(X)
