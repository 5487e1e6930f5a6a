"""Bounds, losses and their gradients, on models where all is known exactly."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from skgen import IWAE, VAE, BetaVAE
from skgen._networks.codebooks import rotated
from skgen._networks.dense import Standardizer
from skgen._training.batches import Batch
from skgen._utils.tensors import forked_rng
from skgen.models.vqvae import VectorQuantizedAutoencoder
from skgen.objectives import (
    BetaLoss,
    ImportanceWeightedLoss,
    KLWeight,
    TokenLoss,
    elbo,
    importance_weighted_bound,
    log_weights,
)
from skgen.priors import Normal
from tests.toys import (
    Free,
    K,
    draws_of,
    gaussian,
    linear,
    linear_gaussian,
    normal,
    token_model,
)

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    # Few epochs, on purpose.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

N = 200


def model_and_rows(**inexact: Any) -> tuple[Any, ...]:
    model, marginal = linear_gaussian(**inexact)
    x = draws_of(marginal, N)
    return model, x, marginal.log_prob(x)


def bound(model: Any, x: Tensor, noise: Tensor) -> Tensor:
    return importance_weighted_bound(log_weights(model, Batch(x, noise)))


# The bounds.


def test_weights_are_the_exact_density_under_the_exact_posterior() -> None:
    model, x, exact = model_and_rows()
    log_w = log_weights(model, Batch(x, normal(3, N, K)))
    torch.testing.assert_close(log_w, exact.expand(3, N))


def test_the_elbo_is_tight_under_the_exact_posterior() -> None:
    model, x, exact = model_and_rows()
    reconstruction, kl = elbo(model, Batch(x, normal(5_000, N, K)))
    gap = (exact - (reconstruction - kl.sum(-1))).mean()
    assert abs(gap) < 4 * math.sqrt(K) / math.sqrt(5_000 * N)


def test_the_elbo_falls_short_by_the_divergence_from_the_posterior() -> None:
    model, x, exact = model_and_rows(shift=0.3, widen=0.4)
    truth = linear_gaussian()[0].posterior(Batch(x))
    wrong = torch.distributions.Normal(*model.posterior(Batch(x)))
    gap = torch.distributions.kl_divergence(wrong, torch.distributions.Normal(*truth))
    q = model.posterior(Batch(x))
    z = q.draw(normal(5_000, N, K))
    each = (model.log_likelihood(Batch(x), z) - model.prior.kl(q, z).sum(-1)).detach()
    error = each.std(0).mean() / math.sqrt(each.numel())
    assert abs((exact - gap.sum(-1) - each.mean(0)).mean()) < 4 * error
    assert (gap.sum(-1) > 0.1).all()


@pytest.fixture(scope="module")
def bounds_by_draws() -> Any:
    """Mean bound and its standard error for each number of draws, over repeats."""
    model, x, exact = model_and_rows(shift=0.5, widen=0.5)
    log_w = log_weights(model, Batch(x, normal(2**9, N, K))).detach()
    means = {}
    for n_draws in (1, 2, 4, 16, 64):
        parts = torch.stack([*map(importance_weighted_bound, log_w.split(n_draws))])
        means[n_draws] = (exact - parts).mean().item()
    return means


def test_the_bound_rises_with_the_draws_and_stays_below(
    bounds_by_draws: dict[str, Any],
) -> None:
    gaps = list(bounds_by_draws.values())
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.5
    assert 0 < gaps[-1] < 0.03


def test_the_gap_falls_as_one_over_the_draws(bounds_by_draws: Any) -> None:
    # Var(w) / (2 K E[w]^2) to first order.
    assert bounds_by_draws[16] / bounds_by_draws[64] == pytest.approx(4, rel=0.25)


def test_one_draw_is_the_elbo_in_the_mean() -> None:
    model, x, _ = model_and_rows(shift=0.3, widen=0.4)
    noise = normal(2_000, N, K)
    reconstruction, kl = elbo(model, Batch(x, noise))
    single = log_weights(model, Batch(x, noise)).detach()
    difference = single - (reconstruction - kl.sum(-1)).detach()
    assert abs(difference.mean()) < 4 * difference.std() / math.sqrt(2_000 * N)


def test_the_bound_is_the_log_of_the_mean_weight() -> None:
    log_w = normal(7, 3)
    expected = log_w.exp().mean(0).log()
    torch.testing.assert_close(importance_weighted_bound(log_w), expected)
    shifted = importance_weighted_bound(log_w - 2_000)  # where exp underflows
    torch.testing.assert_close(shifted, expected - 2_000)


@pytest.mark.parametrize("n_draws", [4, 64])
def test_drawing_from_the_encoder_beats_drawing_from_the_prior(n_draws: int) -> None:
    model, x, exact = model_and_rows(shift=0.2, widen=0.2)
    noise = normal(n_draws, N, K)
    prior = Normal(torch.zeros(N, K).double(), torch.ones(N, K).double())
    from_prior = importance_weighted_bound(log_weights(model, Batch(x, noise), prior))
    from_encoder = bound(model, x, noise)
    assert from_encoder.mean() > from_prior.mean()
    errors = [(b - exact).std() for b in (from_encoder, from_prior)]
    assert errors[0] < errors[1] / 2


# The losses.


def test_the_beta_loss_is_minus_the_weighed_bound() -> None:
    model, x, _ = model_and_rows(shift=0.3)
    noise = normal(3, N, K)
    reconstruction, kl = elbo(model, Batch(x, noise))
    kl = kl.sum(-1)
    for beta in (0.0, 1.0, 4.0):
        terms = BetaLoss(KLWeight(beta))(model, Batch(x, noise))
        assert terms.loss.equal(beta * kl - reconstruction)
        assert terms.reconstruction.equal(reconstruction)
        assert terms.kl.equal(kl)
        assert terms.watched is terms.loss


def test_the_importance_weighted_loss_is_minus_the_bound() -> None:
    model, x, _ = model_and_rows(shift=0.3)
    noise = normal(5, N, K)
    terms = ImportanceWeightedLoss()(model, Batch(x, noise))
    torch.testing.assert_close(terms.loss, -bound(model, x, noise))
    reconstruction, kl = elbo(model, Batch(x, noise))
    torch.testing.assert_close(terms.reconstruction, reconstruction)
    torch.testing.assert_close(terms.kl, kl.sum(-1))


def test_losses_are_a_row_apart() -> None:
    model, x, _ = model_and_rows(shift=0.3)
    noise = normal(5, N, K)
    for loss in (ImportanceWeightedLoss(), BetaLoss(KLWeight(2.0))):
        whole = loss(model, Batch(x, noise)).loss
        alone = loss(model, Batch(x, noise).part(slice(3, 4))).loss
        torch.testing.assert_close(alone, whole[3:4])


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_the_kl_term_has_a_gradient(beta: float) -> None:
    model, x, _ = model_and_rows(shift=0.3)
    model.decoder.weight.data.zero_()  # the reconstruction tells the encoder nothing
    BetaLoss(KLWeight(beta))(model, Batch(x, normal(1, N, K))).loss.mean().backward()
    through_kl = [p.grad for p in model.encoder.parameters()]
    assert all(grad.norm() > 0.1 for grad in through_kl)
    model.zero_grad()
    (beta * model.prior.kl(model.posterior(Batch(x)), None).sum(-1)).mean().backward()
    expected = [p.grad for p in model.encoder.parameters()]
    torch.testing.assert_close(through_kl, expected)


# Gradients, two ways.


def test_both_gradients_of_a_quadratic_agree_and_one_is_noisier() -> None:
    # The toy of the lecture: min E ||x - (5, 5)||^2, x ~ N(mu, I).
    n, target = 50_000, torch.tensor([5.0, 5.0], dtype=torch.float64)
    mu = torch.zeros(n, 2, dtype=torch.float64, requires_grad=True)
    q, eps = Normal(mu, torch.ones_like(mu)), normal(n, 2)

    def cost(x: Any) -> Any:
        return ((x - target) ** 2).sum(-1)

    (pathwise,) = torch.autograd.grad(cost(q.draw(eps)).sum(), mu)
    x = q.draw(eps).detach()
    (ratio,) = torch.autograd.grad((cost(x) * q.log_prob(x)).sum(), mu)
    _assert_means_agree(pathwise, torch.full((2,), -10.0).double())
    _assert_means_agree(ratio, torch.full((2,), -10.0).double())
    # 2 eps has variance 4; the other's is E[c^2 eps_1^2] - 100 = 3224.
    assert pathwise.var(0).tolist() == pytest.approx([4, 4], rel=0.05)
    assert ratio.var(0).tolist() == pytest.approx([3224, 3224], rel=0.05)


def test_both_gradients_of_an_elbo_agree_and_one_is_noisier() -> None:
    n = 40_000
    model, x, _ = model_and_rows()
    x = x[:1].expand(n, -1)
    outputs = torch.tensor([0.4, -0.6, -0.5, -0.2]).double()  # mean, log sigma
    model.encoder = Free(outputs.repeat(n, 1))
    noise = normal(1, n, K)
    pathwise = _gradient(-BetaLoss(KLWeight())(model, Batch(x, noise)).loss, model)
    q = model.posterior(Batch(x))
    z = q.draw(noise).detach()
    log_w = log_weights(model, Batch(x, noise), q).detach()
    ratio = _gradient(log_w * q.log_prob(z), model)
    _assert_means_agree(ratio, pathwise.mean(0), pathwise.std(0) / math.sqrt(n))
    assert (ratio.var(0) > 10 * pathwise.var(0)).all()


def _gradient(values: Tensor, model: Any) -> Any:
    model.zero_grad()
    values.sum().backward()
    return model.encoder.value.grad.clone()


def _assert_means_agree(draws: Any, expected: Any, error: Any = 0.0) -> None:
    error = (draws.var(0) / len(draws) + error**2) ** 0.5
    assert ((draws.mean(0) - expected).abs() < 4 * error).all()


# The tokens' loss.


def vq_parts(model: Any, x: Tensor, cost: Any = 0.25) -> Tensor:
    return torch.stack(tuple(TokenLoss(cost)(model, Batch(x))))


def test_the_tokens_loss_is_the_sum_of_its_parts() -> None:
    model, x = token_model(), normal(9, 3, seed=2)
    terms = TokenLoss(0.25)(model, Batch(x))
    expected = -terms.reconstruction + terms.codebook + 0.25 * terms.commitment
    torch.testing.assert_close(terms.loss, expected)
    torch.testing.assert_close(terms.codebook, terms.commitment)
    torch.testing.assert_close(terms.watched, -terms.reconstruction)


def test_the_tokens_loss_is_a_sum_over_features_and_tokens() -> None:
    model, x = token_model(), normal(9, 3, seed=2)
    z_e = model.latents(Batch(x))
    codes = model.codebook.vectors
    tokens = torch.cdist(z_e, codes.expand(9, -1, -1)).argmin(-1)
    assert model.codebook.nearest(z_e).equal(tokens)
    e = codes[tokens]
    terms = TokenLoss(0.25)(model, Batch(x))
    torch.testing.assert_close(terms.commitment, ((z_e - e) ** 2).sum((1, 2)))
    expected = model.log_likelihood(Batch(x), tokens[None])[0]
    torch.testing.assert_close(terms.reconstruction, expected)


@pytest.mark.parametrize("size", [1, 3, 9])
def test_the_balance_of_the_loss_does_not_change_with_the_batch(size: int) -> None:
    model, x = token_model(), normal(9, 3, seed=2)
    whole = vq_parts(model, x)
    parts = torch.cat([vq_parts(model, part) for part in x.split(size)], dim=1)
    torch.testing.assert_close(parts, whole)


@pytest.mark.parametrize("copies", [2, 5])
def test_the_gradient_a_row_does_not_change_with_the_batch(copies: int) -> None:
    gradients = []
    for times in (1, copies):
        model = token_model()
        x = normal(9, 3, seed=2).repeat(times, 1)
        TokenLoss(0.25)(model, Batch(x)).loss.mean().backward()
        gradients.append([p.grad for p in _trained(model)])
    torch.testing.assert_close(*gradients)


def _trained(model: Any) -> list[Any]:
    return [
        *model.codebook.parameters(),
        *model.encoder.parameters(),
        *model.decoder.parameters(),
    ]


def test_the_balance_of_the_loss_does_not_change_with_the_number_of_tokens() -> None:
    # Two copies of a model side by side: every part is twice what it was.
    model, x = token_model(), normal(9, 3, seed=2)

    def twice(layer: Any) -> Any:
        return linear(
            torch.block_diag(layer.weight, layer.weight), layer.bias.repeat(2)
        )

    with forked_rng(0):
        wide = VectorQuantizedAutoencoder(
            twice(model.encoder),
            twice(model.decoder),
            gaussian(0.8),
            Standardizer.identity(6),
            token_model(T=4).prior,
            model.codebook,
            1,
        )
    torch.testing.assert_close(vq_parts(wide, x.repeat(1, 2)), 2 * vq_parts(model, x))


def test_gradients_go_straight_through_the_codes() -> None:
    model, x = token_model(), normal(9, 3, seed=2)
    model.encoder = Free(model.encoder(x).detach())
    z_e = model.latents(Batch(x))
    tokens = model.codebook.nearest(z_e)
    e = model.codebook(tokens).detach().requires_grad_()
    (at_codes,) = torch.autograd.grad(model.log_likelihood_at(Batch(x), e).sum(), e)
    TokenLoss(0.25)(model, Batch(x)).loss.sum().backward()
    # The encoder: the decoder's gradient at the codes, and its commitment.
    expected = -at_codes + 0.25 * 2 * (z_e - e).detach()
    torch.testing.assert_close(model.encoder.value.grad, expected.flatten(1))
    # The codebook: its own term, and nothing from the decoder.
    expected = torch.zeros_like(model.codebook.vectors).index_add(
        0, tokens.flatten(), 2 * (e - z_e).detach().flatten(0, 1)
    )
    torch.testing.assert_close(model.codebook.vectors.grad, expected)


def test_without_commitment_the_encoder_has_the_decoders_gradient_alone() -> None:
    model, x = token_model(), normal(9, 3, seed=2)
    model.encoder = Free(model.encoder(x).detach())
    TokenLoss(0.0)(model, Batch(x)).loss.sum().backward()
    without = model.encoder.value.grad.clone()
    model.zero_grad()
    (-TokenLoss(0.0)(model, Batch(x)).reconstruction).sum().backward()
    torch.testing.assert_close(without, model.encoder.value.grad)
    assert model.codebook.vectors.grad is None


def test_codes_that_follow_averages_have_no_gradient() -> None:
    model, x = token_model(), normal(9, 3, seed=2)
    terms = TokenLoss(0.25, codebook_cost=0.0)(model, Batch(x))
    expected = -terms.reconstruction + 0.25 * terms.commitment
    torch.testing.assert_close(terms.loss, expected)
    terms.loss.sum().backward()
    assert not model.codebook.vectors.grad.any()


def test_gradients_may_be_turned_on_their_way_through_the_codes() -> None:
    model, x = token_model(), normal(9, 3, seed=2)
    model.encoder = Free(model.encoder(x).detach())
    z_e = model.latents(Batch(x)).requires_grad_()
    e = model.codebook(model.codebook.nearest(z_e)).detach().requires_grad_()
    (at_codes,) = torch.autograd.grad(model.log_likelihood_at(Batch(x), e).sum(), e)
    (expected,) = torch.autograd.grad(rotated(z_e, e), z_e, -at_codes)
    terms = TokenLoss(0.0, through=rotated)(model, Batch(x))
    terms.loss.sum().backward()
    torch.testing.assert_close(model.encoder.value.grad, expected.flatten(1))
    straight = TokenLoss(0.0)(model, Batch(x))
    torch.testing.assert_close(terms.loss, straight.loss)


# The estimators' objectives.

X = normal(80, 4, seed=9).numpy() @ normal(4, 4, seed=10).numpy()
SMALL: dict[str, Any] = {
    "hidden_layer_sizes": (8,),
    "max_iter": 5,
    "n_importance_samples": 8,
    "random_state": 0,
}


def weights_of(model: Any) -> Tensor:
    return torch.nn.utils.parameters_to_vector(model.module_.parameters())


def test_a_beta_of_one_is_the_vae_to_the_bit() -> None:
    plain, beta = VAE(2, **SMALL).fit(X), BetaVAE(2, beta=1.0, **SMALL).fit(X)
    assert weights_of(plain).equal(weights_of(beta))
    assert np.array_equal(plain.score_samples(X), beta.score_samples(X))
    assert plain.loss_terms_ == beta.loss_terms_
    assert plain.validation_curve_ == beta.validation_curve_


def test_beta_weighs_the_divergence() -> None:
    settings: dict[str, Any] = {
        **SMALL,
        "max_iter": 40,
        "learning_rate_init": 1e-2,
        "kl_warmup": 0,
    }
    kls = []
    for beta in (0.0, 1.0, 4.0, 50.0):
        model = BetaVAE(2, beta=beta, **settings).fit(X)
        terms = {name: np.array(curve) for name, curve in model.loss_terms_.items()}
        expected = beta * terms["kl"] - terms["reconstruction"]
        np.testing.assert_allclose(terms["loss"], expected, rtol=1e-5)
        kls.append(model.elbo(X).kl.mean())
    assert kls == sorted(kls, reverse=True)
    assert kls[-1] < 0.1  # nothing is worth its rate: the posterior is the prior


def test_one_draw_of_an_iwae_is_a_vae() -> None:
    # One has the KL in closed form, the other a draw of it: equal in the mean.
    settings: dict[str, Any] = {
        **SMALL,
        "max_iter": 30,
        "early_stopping": False,
        "tol": 0.0,
    }
    frozen: dict[str, Any] = {
        **settings,
        "learning_rate_init": 1e-9,
        "n_iter_no_change": 30,
    }
    vae, iwae = VAE(2, **frozen).fit(X), IWAE(2, n_draws=1, **frozen).fit(X)
    curves = np.array([vae.loss_curve_, iwae.loss_curve_])
    error = curves.std(1) / math.sqrt(30)
    assert abs(np.diff(curves.mean(1))[0]) < 4 * np.hypot(*error)
    for name in ("reconstruction", "kl"):
        np.testing.assert_allclose(
            vae.loss_terms_[name], iwae.loss_terms_[name], rtol=1e-5
        )
    trained: dict[str, Any] = {**settings, "learning_rate_init": 1e-2}
    scores = [
        m.fit(X).score(X) for m in (VAE(2, **trained), IWAE(2, n_draws=1, **trained))
    ]
    assert abs(scores[0] - scores[1]) < 0.2


def test_more_draws_train_on_a_tighter_bound() -> None:
    # From a factor analysis, whose encoder is exact, all bounds are one.
    frozen: dict[str, Any] = {
        **SMALL,
        "linear_path": False,
        "learning_rate_init": 1e-9,
        "early_stopping": False,
        "max_iter": 10,
    }
    losses = [
        np.mean(IWAE(2, n_draws=n, **frozen).fit(X).loss_curve_) for n in (1, 4, 32)
    ]
    assert losses == sorted(losses, reverse=True)


# Gradient estimators of the importance-weighted bound.


def row_gradients(gradient: str, draws: int, beta: float = 1.0, n: int = 20_000) -> Any:
    """Gradients (n, 2K) of the loss by the outputs of an encoder, a row each."""
    model, marginal = linear_gaussian(shift=0.3, widen=0.3)
    x = draws_of(marginal, 1)
    outputs = model.encoder(x).detach()
    model.encoder = Free(outputs.repeat(n, 1))
    noise = normal(draws, n, K, seed=draws)
    loss = ImportanceWeightedLoss(gradient)(
        model, Batch(x.expand(n, -1), noise), beta
    ).loss
    (slopes,) = torch.autograd.grad(loss.sum(), model.encoder.value)
    return slopes


def signal_to_noise(slopes: Tensor) -> float:
    return (slopes.mean(0).abs() / slopes.std(0)).mean().item()


@pytest.mark.parametrize("beta", [1.0, 0.4])
@pytest.mark.parametrize("draws", [1, 8])
def test_doubly_reparameterised_gradients_are_unbiased(draws: int, beta: float) -> None:
    plain = row_gradients("standard", draws, beta)
    doubly = row_gradients("dreg", draws, beta)
    error = ((plain.var(0) + doubly.var(0)) / len(plain)).sqrt()
    assert ((plain.mean(0) - doubly.mean(0)).abs() < 4 * error).all()
    assert (doubly.mean(0).abs() > 4 * error).any()


def test_signal_to_noise_falls_with_draws_and_grows_if_reparameterised_twice() -> None:
    # As 1 / sqrt(K) (Rainforth et al. 2018), as sqrt(K) (Tucker et al. 2019).
    plain, doubly = (
        [signal_to_noise(row_gradients(gradient, draws)) for draws in (4, 16, 64)]
        for gradient in ("standard", "dreg")
    )
    assert plain == sorted(plain, reverse=True)
    assert doubly == sorted(doubly)
    assert doubly[-1] / doubly[0] == pytest.approx(4, rel=0.25)
    assert plain[0] / plain[-1] == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize("gradient", ["stl", "dreg"])
def test_gradients_without_the_score_vanish_at_the_exact_posterior(
    gradient: str,
) -> None:
    model, x, _ = model_and_rows()
    noise = normal(5, N, K)
    ImportanceWeightedLoss(gradient)(model, Batch(x, noise)).loss.mean().backward()
    for p in model.encoder.parameters():
        torch.testing.assert_close(p.grad, torch.zeros_like(p), atol=1e-12, rtol=0)


@pytest.mark.parametrize("gradient", ["stl", "dreg"])
def test_no_estimator_changes_the_bound_or_the_gradient_of_the_decoder(
    gradient: str,
) -> None:
    model, x, _ = model_and_rows(shift=0.3, widen=0.3)
    noise, seen = normal(5, N, K), []
    for each in ("standard", gradient):
        model.zero_grad()
        terms = ImportanceWeightedLoss(each)(model, Batch(x, noise))
        terms.loss.mean().backward()
        seen.append((terms.loss.detach(), [p.grad for p in model.decoder.parameters()]))
    torch.testing.assert_close(*seen)


# Weights of the KL term.


def test_free_bits_are_a_floor_under_the_mean_kl_of_a_coordinate() -> None:
    kl = normal(30, 4).exp() * torch.tensor([0.1, 0.3, 1.0, 3.0]).double()
    kl.requires_grad_()
    cost = KLWeight(beta=2.0, free_bits=0.5)(kl).mean()
    torch.testing.assert_close(cost, 2 * kl.mean(0).clamp(min=0.5).sum())
    (slope,) = torch.autograd.grad(cost, kl)
    expected = torch.where(kl.mean(0) < 0.5, 0.0, 2 / 30).double()
    torch.testing.assert_close(slope, expected.expand(30, 4))


@pytest.mark.parametrize("capacity", [0.5, 50.0])
def test_a_capacity_is_where_the_mean_kl_costs_nothing(capacity: float) -> None:
    kl = normal(30, 4).exp()
    cost = KLWeight(beta=3.0, capacity=capacity)(kl)
    torch.testing.assert_close(cost.mean(), 3 * (kl.sum(1).mean() - capacity).abs())


def test_a_warm_up_raises_the_weight_or_else_the_capacity() -> None:
    assert KLWeight(4.0, 0.5).warmed(0.25) == KLWeight(1.0, 0.5)
    assert KLWeight(4.0, 0.5, 8.0).warmed(0.25) == KLWeight(4.0, 0.5, 2.0)
    assert KLWeight(4.0, 0.5, 8.0).warmed(1.0) == KLWeight(4.0, 0.5, 8.0)


def test_a_capacity_holds_the_kl_of_a_fit() -> None:
    settings: dict[str, Any] = {
        **SMALL,
        "max_iter": 60,
        "learning_rate_init": 1e-2,
        "kl_warmup": 10,
    }
    for capacity in (0.5, 2.0):
        model = BetaVAE(2, beta=100.0, capacity=capacity, **settings).fit(X)
        assert model.elbo(X).kl.mean() == pytest.approx(capacity, abs=0.3)


def test_free_bits_keep_coordinates_in_use() -> None:
    settings: dict[str, Any] = {**SMALL, "max_iter": 40, "learning_rate_init": 1e-2}
    plain = BetaVAE(2, beta=50.0, **settings).fit(X)
    free = BetaVAE(2, beta=50.0, free_bits=0.5, **settings).fit(X)
    assert plain.elbo(X).kl.mean() < 0.1
    assert free.elbo(X).kl.mean() > 0.4
