"""Layers inferred from the top down: a linear chain whose evidence is known."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

import skgen
from skgen import IWAE, TCVAE, VAE, BetaVAE, ConditionalVAE
from skgen._networks.dense import Standardizer
from skgen._networks.ladders import LadderPrior, product
from skgen._training.batches import Batch
from skgen.models.vae import VariationalAutoencoder
from skgen.objectives import BetaLoss, ImportanceWeightedLoss, elbo, log_weights
from skgen.priors import DeepPrior, StandardNormal
from skgen.priors import Normal as Density
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
SIGMA = 1.2
A = torch.tensor([[1.2], [2.0]], dtype=torch.float64)  # z = A u + S eps
S = torch.tensor([0.4, 0.6], dtype=torch.float64)
W = torch.linalg.qr(normal(D, K)).Q * torch.tensor([2.0, 0.8], dtype=torch.float64)
R = SIGMA**2 / (W**2).sum(0)  # variance of what x says of z
TO_Z = W.T / SIGMA**2 * R[:, None]  # and its mean
COVARIANCE = A @ A.T + torch.diag(S**2)  # of z
MARGINAL = MultivariateNormal(
    torch.zeros(D).double(), W @ COVARIANCE @ W.T + SIGMA**2 * torch.eye(D).double()
)
PRECISION = W.T @ W / SIGMA**2 + COVARIANCE.inverse()  # of z given x


def to_normal(to_mean: Tensor, variance: Tensor, shift: float = 0.0) -> Any:
    """A linear network to means and constant log sigmas."""
    k = len(variance)
    bias = torch.cat([torch.full((k,), shift).double(), 0.5 * variance.log()])
    return linear(torch.cat([to_mean, torch.zeros_like(to_mean)]), bias)


def model_of(encoder: Any, prior: Any) -> Any:
    decoder = linear(W, torch.zeros(D).double())
    return VariationalAutoencoder(
        encoder, decoder, gaussian(SIGMA), Standardizer.identity(D), prior, 8
    )


@leaves_generators
def top_down(shift: float = 0.0) -> Any:
    """The exact posterior, where the shift of the evidence is zero."""
    weight = A[:, 0] / (S**2 + R)
    precision = 1 + weight @ A
    to_u = weight @ TO_Z / precision
    variance = torch.cat([R, 1 / precision])
    prior = LadderPrior(to_normal(A, S**2), K, StandardNormal(1))
    encoder = to_normal(torch.cat([TO_Z, to_u[None]]), variance, shift)
    return model_of(encoder, prior)


@leaves_generators
def bottom_up() -> Any:
    """The best posterior whose first layer has independent coordinates."""
    encoder = to_normal(PRECISION.inverse() @ W.T / SIGMA**2, 1 / PRECISION.diagonal())
    weight = A[:, 0] / S**2
    above = 1 + weight @ A
    prior = DeepPrior(
        to_normal(weight[None] / above, 1 / above),
        to_normal(A, S**2),
        K,
        StandardNormal(1),
    )
    return model_of(encoder, prior)


def test_the_top_down_bound_reaches_the_evidence_of_a_chain() -> None:
    x = draws_of(MARGINAL, N)
    log_w = log_weights(top_down(), Batch(x, normal(3, N, K + 1)))
    torch.testing.assert_close(log_w, MARGINAL.log_prob(x).expand(3, N))


def test_the_bottom_up_bound_stays_below_by_the_correlation_of_codes() -> None:
    x = draws_of(MARGINAL, N)
    with torch.no_grad():
        log_w = log_weights(bottom_up(), Batch(x, normal(4_000, N, K + 1)))
    gap = MARGINAL.log_prob(x).mean() - log_w.mean()
    expected = 0.5 * (PRECISION.diagonal().log().sum() - PRECISION.logdet())
    assert expected > 0.05
    torch.testing.assert_close(gap, expected, rtol=0.05, atol=0)


def test_the_elbo_has_exact_kl_of_each_layer_given_those_above() -> None:
    x = draws_of(MARGINAL, N)
    reconstruction, kl = elbo(top_down(), Batch(x, normal(4_000, N, K + 1)))
    assert kl.shape == (N, K + 1)
    bound = (reconstruction - kl.sum(-1)).mean()
    torch.testing.assert_close(bound, MARGINAL.log_prob(x).mean(), rtol=0, atol=0.03)


def test_one_draw_and_several_have_the_same_parts() -> None:
    x, noise, model = draws_of(MARGINAL, N), normal(1, N, K + 1), top_down()
    reconstruction, kl = elbo(model, Batch(x, noise))
    both, kl_both = elbo(model, Batch(x, noise.repeat(2, 1, 1)))
    torch.testing.assert_close(both, reconstruction)
    torch.testing.assert_close(kl_both, kl)


def test_a_product_has_the_precisions_of_both() -> None:
    one = Density(normal(N, K), normal(N, K, seed=1).exp())
    other = Density(normal(N, K, seed=2), normal(N, K, seed=3).exp())
    found = product(one, other)
    precision = one.sigma**-2 + other.sigma**-2
    torch.testing.assert_close(found.sigma**-2, precision)
    mean = (one.mean / one.sigma**2 + other.mean / other.sigma**2) / precision
    torch.testing.assert_close(found.mean, mean)
    expected = kl_divergence(Normal(*one), Normal(*other))
    torch.testing.assert_close(one.kl_to(other), expected)


@pytest.mark.parametrize("gradient", ["stl", "dreg"])
def test_gradients_without_the_score_vanish_at_the_exact_posterior(
    gradient: str,
) -> None:
    model, x = top_down(), draws_of(MARGINAL, N)
    batch = Batch(x, normal(4, N, K + 1))
    ImportanceWeightedLoss(gradient)(model, batch).loss.mean().backward()
    for p in model.encoder.parameters():
        torch.testing.assert_close(p.grad, torch.zeros_like(p), atol=1e-12, rtol=0)
    assert model.prior.decoder.weight.grad.abs().max() > 1e-3


def gradient_of_shared(gradient: str, n: int = 40_000) -> Tensor:
    """Gradient (n, 2 k) of the bias of p(z|u), which q(z|u, x) has, too."""
    model, x = top_down(shift=0.3), draws_of(MARGINAL, 1).expand(n, D)
    layer = model.prior.decoder
    rows = layer.bias.detach().expand(n, -1).clone().requires_grad_()

    def replace(module: Any, args: tuple[Any, ...], outputs: Tensor) -> Tensor:
        own = rows if layer.bias.requires_grad else rows.detach()
        replaced: Tensor = outputs - layer.bias.detach() + own
        return replaced

    layer.register_forward_hook(replace)
    noise = normal(3, n, K + 1, seed=4)
    loss = ImportanceWeightedLoss(gradient)(model, Batch(x, noise)).loss
    found: Tensor = torch.autograd.grad(loss.sum(), rows)[0]
    return found


def test_gradients_of_what_prior_and_posterior_share_agree_in_the_mean() -> None:
    plain, doubly = gradient_of_shared("standard"), gradient_of_shared("dreg")
    error = (plain.var(0) / len(plain) + doubly.var(0) / len(doubly)).sqrt()
    assert ((plain.mean(0) - doubly.mean(0)).abs() < 4 * error).all()
    assert (plain.mean(0).abs() > 4 * error).any()


def test_draws_have_the_marginal_covariance() -> None:
    with torch.no_grad():
        x = top_down().draw(50_000, True, generator())
    torch.testing.assert_close(
        torch.cov(x.T), MARGINAL.covariance_matrix, rtol=0.05, atol=0.05
    )


def test_codes_of_the_user_are_posterior_means_of_the_first_layer() -> None:
    model, x = top_down(), draws_of(MARGINAL, N)
    exact = x @ (PRECISION.inverse() @ W.T / SIGMA**2).T
    torch.testing.assert_close(model.encode(x), exact)


def test_losses_have_the_kl_of_each_layer() -> None:
    model, x = top_down(), draws_of(MARGINAL, N)
    terms: Any = BetaLoss()(model, Batch(x, normal(1, N, K + 1)))
    assert terms._fields == ("loss", "reconstruction", "kl", "kl_1", "kl_2")
    torch.testing.assert_close(terms.kl_1 + terms.kl_2, terms.kl)
    torch.testing.assert_close(terms.watched, terms.loss)


# Estimators.

SMALL: dict[str, Any] = {"max_iter": 4, "n_importance_samples": 4, "random_state": 0}
X = normal(80, 6, seed=3).numpy()
few_epochs = pytest.mark.filterwarnings(
    "ignore:.*maximum iterations:sklearn.exceptions.ConvergenceWarning"
)


def ladder(cls: Any = VAE, k: Any = (4, 3, 2), **params: Any) -> Any:
    return cls(k, **{"inference": "top-down", **SMALL, **params})


@few_epochs
@pytest.mark.parametrize("cls", [VAE, BetaVAE, IWAE])
@pytest.mark.parametrize("prior", ["normal", "mixture"])
def test_an_estimator_of_three_layers(cls: type[Any], prior: str) -> None:
    widths = ((8, 7), (5,), ())
    model = ladder(cls, hidden_layer_sizes=widths, prior=prior).fit(X)
    assert model.transform(X).shape == model.posterior(X).std.shape == (80, 4)
    assert_allclose(model.transform(X), model.posterior(X).mean, rtol=1e-6)
    assert model.reconstruct(X).shape == model.sample(80, random_state=0).shape
    assert model.latent_variances_.shape == (9,)
    assert len(model.active_units_) == 3
    curves = model.loss_terms_
    layers = np.sum([curves[f"kl_{i}"] for i in (1, 2, 3)], axis=0)
    assert_allclose(layers, curves["kl"], rtol=1e-4)
    gap = model.log_likelihood(X, n_samples=256).log_prob - model.score_samples(X)
    assert gap.mean() > 0


@few_epochs
def test_files_and_pickles_have_it(tmp_path: Path) -> None:
    model = ladder().fit(X)
    skgen.save(model, tmp_path / "model.safetensors")
    for same in (
        skgen.load(tmp_path / "model.safetensors"),
        pickle.loads(pickle.dumps(model)),
    ):
        assert_array_equal(same.score_samples(X), model.score_samples(X))


@few_epochs
@pytest.mark.parametrize("k", [(32, 3), (5, 16), (16, 16)])
def test_layers_of_images_are_grids_where_places_divide_them(k: Any) -> None:
    rows = load_digits().data[:40]
    images = {"architecture": "conv", "image_shape": (8, 8), "channels": 4}
    model = ladder(k=k, **images).fit(rows)
    kinds = [type(head).__name__ for head in model.module_.encoder.heads]
    assert kinds == ["Sequential" if size % 16 else "GridHead" for size in k]
    assert model.transform(rows).shape == (40, k[0])
    assert np.isfinite(model.log_likelihood(rows[:5], 20).log_prob).all()
    assert model.sample(3, random_state=0).shape == (3, 64)


@few_epochs
def test_of_one_layer_both_ways_are_the_same() -> None:
    one = ladder(k=3, hidden_layer_sizes=(5,)).fit(X)
    other = VAE(3, hidden_layer_sizes=(5,), **SMALL).fit(X)
    assert_array_equal(one.score_samples(X), other.score_samples(X))


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match=r"linear_path=True .*'top-down'"):
        ladder(linear_path=True).fit(X)
    with pytest.raises(ValueError, match="'prior' parameter of VAE"):
        ladder(prior="vamp").fit(X)
    with pytest.raises(ValueError, match="'inference' parameter of ConditionalVAE"):
        ladder(ConditionalVAE, k=(3, 2)).fit(X, X[:, 0] > 0)
    with pytest.raises(ValueError, match="'n_components' parameter of TCVAE"):
        ladder(TCVAE).fit(X)
