"""Discrete codes: a model that is enumerated, and gradients that agree with its own."""

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import Tensor

import skgen
from skgen import DiscreteVAE, GaussianDensity
from skgen._networks.dense import Standardizer
from skgen._training.batches import Batch
from skgen.models.discrete import DiscreteAutoencoder, LevelsPrior
from skgen.objectives import (
    DISCRETE_BOUNDS,
    DiscreteLoss,
    elbo,
    importance_weighted_bound,
    log_weights,
)
from tests.toys import gaussian, generator, leaves_generators, linear, normal, uniform

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

T, D = 2, 3  # coordinates and features
levels = pytest.mark.parametrize("K", [2, 3])


@leaves_generators
def toy(K: int) -> Any:
    """A linear model of T coordinates of K levels."""
    k = T if K == 2 else T * K
    prior = LevelsPrior(T, K).double()
    prior.logits.data = normal(T, K, seed=3)
    return DiscreteAutoencoder(
        linear(0.4 * normal(k, D, seed=1), 0.4 * normal(k, seed=2)),
        linear(normal(D, k, seed=4), normal(D, seed=5)),
        gaussian(0.9),
        Standardizer.identity(D),
        prior,
        8,
    )


def every_code(K: int) -> Tensor:
    """All codes, (K^T, T)."""
    return torch.tensor(list(itertools.product(range(K), repeat=T)))


def exact_log_prob(model: Any, x: Tensor) -> Tensor:
    tokens = every_code(model.n_categories)[:, None].expand(-1, len(x), -1)
    each = model.log_likelihood(Batch(x), tokens) + model.prior.log_prob(tokens)
    found: Tensor = each.logsumexp(0)
    return found


def exact_bound(model: Any, x: Tensor, n_draws: int) -> Tensor:
    """E[L_S] of S independent draws from q(z|x), (n,), over all of them."""
    codes = every_code(model.n_categories)[:, None].expand(-1, len(x), -1)
    q = model.posterior(Batch(x))
    log_q = q.log_prob(codes)  # (K^T, n)
    log_w = model.log_likelihood(Batch(x), codes) + model.prior.log_prob(codes) - log_q
    total = torch.zeros(len(x)).double()
    for picked in itertools.product(range(len(codes)), repeat=n_draws):
        index = torch.tensor(picked)
        bound = importance_weighted_bound(log_w[index])
        total = total + log_q[index].sum(0).exp() * bound
    return total


@levels
def test_masses_of_prior_and_posterior_sum_to_one(K: int) -> None:
    model, x = toy(K), normal(5, D, seed=6)
    codes = every_code(K)[:, None].expand(-1, 5, -1)
    one = torch.ones(5).double()
    for density in (model.prior, model.posterior(Batch(x))):
        torch.testing.assert_close(density.log_prob(codes).exp().sum(0), one)


@levels
def test_the_bound_stays_below_the_evidence_and_reaches_it(K: int) -> None:
    model, x = toy(K), 0.3 * normal(5, D, seed=6)
    exact = exact_log_prob(model, x)
    with torch.no_grad():
        log_w = log_weights(model, Batch(x, uniform(20_000, 5, T, seed=7)))
    reached = importance_weighted_bound(log_w)
    torch.testing.assert_close(reached, exact, rtol=0, atol=0.1)
    assert (exact_bound(model, x, 1) < exact_bound(model, x, 2)).all()
    assert (exact_bound(model, x, 2) < exact).all()


@levels
def test_the_elbo_is_that_over_all_codes(K: int) -> None:
    model, x = toy(K), normal(5, D, seed=6)
    reconstruction, kl = elbo(model, Batch(x, uniform(40_000, 5, T, seed=7)))
    torch.testing.assert_close(
        reconstruction - kl.sum(-1), exact_bound(model, x, 1), rtol=0.02, atol=0.02
    )


@levels
def test_draws_of_the_prior_have_its_frequencies(K: int) -> None:
    model = toy(K)
    code = model.draw_codes(50_000, generator())
    expected = model.embedded(model.prior.logits.softmax(-1))
    torch.testing.assert_close(code.mean(0), expected, rtol=0, atol=0.01)


def per_row_gradients(
    model: Any, gradient: str, temperature: float = 0.5, n: int = 40_000, S: int = 2
) -> Tensor:
    """Gradient (n, k) of the encoder's bias, a row each, of the same x."""
    x = normal(1, D, seed=6).expand(n, D)
    layer = model.encoder
    rows = layer.bias.detach().expand(n, -1).clone().requires_grad_()
    hook = layer.register_forward_hook(
        lambda *call: call[2] - layer.bias.detach() + rows
    )
    noise = uniform(S, n, T, seed=8)
    if gradient == "gumbel":
        noise = -(-uniform(S, n, T, model.n_categories, seed=8).log()).log()
    terms = DiscreteLoss(gradient, temperature)(model, Batch(x, noise))
    found: Tensor = torch.autograd.grad(-terms.loss.sum(), rows)[0]
    hook.remove()
    return found


def exact_gradient(model: Any, n_draws: int) -> Tensor:
    x = normal(1, D, seed=6)
    bound = exact_bound(model, x, n_draws).sum()
    found: Tensor = torch.autograd.grad(bound, model.encoder.bias)[0]
    return found


@levels
@pytest.mark.parametrize(("gradient", "n_draws"), [("score", 1), ("vimco", 2)])
def test_unbiased_gradients_have_the_mean_of_the_exact_one(
    K: int, gradient: str, n_draws: int
) -> None:
    model = toy(K)
    found, exact = per_row_gradients(model, gradient), exact_gradient(model, n_draws)
    error = (found.var(0) / len(found)).sqrt()
    assert ((found.mean(0) - exact).abs() < 4 * error).all()
    assert (exact.abs() > 10 * error).any()


@levels
def test_the_gradient_of_a_relaxation_comes_near_as_its_temperature_falls(
    K: int,
) -> None:
    model = toy(K)
    exact = exact_gradient(model, 1)
    warm, cold = (
        (per_row_gradients(model, "gumbel", temperature).mean(0) - exact).norm()
        for temperature in (2.0, 0.1)
    )
    assert cold < 0.25 * warm
    assert cold < 0.15 * exact.norm()


@levels
def test_a_relaxation_varies_less(K: int) -> None:
    model = toy(K)
    score, relaxed = (per_row_gradients(model, name) for name in ("score", "gumbel"))
    assert relaxed.var(0).sum() < score.var(0).sum()


@pytest.mark.parametrize("gradient", list(DISCRETE_BOUNDS))
def test_gradients_of_the_decoder_and_the_prior_are_exact_in_the_mean(
    gradient: str,
) -> None:
    model, x = toy(2), normal(1, D, seed=6)
    n_draws = 2 if gradient == "vimco" else 1
    parts = [model.prior.logits, model.decoder.bias]
    exact = torch.autograd.grad(exact_bound(model, x, n_draws).sum(), parts)
    noise = uniform(2, 40_000, T, seed=8)
    if gradient == "gumbel":
        noise = -(-uniform(2, 40_000, T, 2, seed=8).log()).log()
    loss = DiscreteLoss(gradient, 0.05)(model, Batch(x.expand(40_000, D), noise)).loss
    for found, expected in zip(torch.autograd.grad(-loss.mean(), parts), exact):
        torch.testing.assert_close(found, expected, rtol=0.1, atol=0.02)


def test_held_out_losses_are_at_the_levels() -> None:
    model, x = toy(3), normal(5, D, seed=6)
    noise = -(-uniform(20_000, 5, T, 3, seed=8).log()).log()
    with torch.no_grad():
        terms = DiscreteLoss("gumbel", 1.0)(model, Batch(x, noise))
    expected = -exact_bound(model, x, 1)
    torch.testing.assert_close(terms.loss, expected, rtol=0.02, atol=0.02)


# The estimator.

SMALL: dict[str, Any] = {
    "hidden_layer_sizes": (16,),
    "max_iter": 4,
    "n_importance_samples": 8,
    "random_state": 0,
}
X = normal(80, 6, seed=3).numpy()
ways = pytest.mark.parametrize("gradient", list(DISCRETE_BOUNDS))


@ways
@levels
def test_an_estimator_of_each_kind(gradient: Any, K: int, tmp_path: Path) -> None:
    model = DiscreteVAE(3, n_categories=K, gradient=gradient, **SMALL).fit(X)
    code = model.transform(X)
    assert code.shape == (80, 3 if K == 2 else 3 * K)
    assert ((code >= 0) & (code <= 1)).all()
    if K > 2:
        assert_allclose(code.reshape(80, 3, K).sum(-1), 1, rtol=1e-5)
    assert model.sample(9, random_state=0).shape == (9, 6)
    drawn = model.module_.draw_codes(9, generator())
    assert set(drawn.unique().tolist()) <= {0.0, 1.0}
    reconstruction, kl = model.elbo(X)
    assert (kl >= -1e-6).all()
    careful = model.log_likelihood(X, 500)
    assert (reconstruction - kl).mean() < careful.mean_log_prob
    assert 0 <= model.active_units_ <= 3
    skgen.save(model, tmp_path / "model.safetensors")
    for same in (
        skgen.load(tmp_path / "model.safetensors"),
        pickle.loads(pickle.dumps(model)),
    ):
        assert_array_equal(same.score_samples(X), model.score_samples(X))


def test_one_importance_sample_will_do() -> None:
    model = DiscreteVAE(3, **{**SMALL, "n_importance_samples": 1}).fit(X)
    reconstruction, kl = model.elbo(X)
    assert reconstruction.shape == kl.shape == model.score_samples(X).shape == (80,)


@ways
def test_clusters_become_bits(gradient: Any) -> None:
    # Four clusters at the corners of a square, which one normal density does not see.
    rng = np.random.RandomState(0)
    rows = 6.0 * rng.randint(2, size=(300, 2)) + rng.normal(size=(300, 2))
    model = DiscreteVAE(
        2,
        gradient=gradient,
        hidden_layer_sizes=(),
        n_draws=8,
        kl_warmup=20,
        learning_rate_init=0.1,
        max_iter=40,
        early_stopping=False,
        random_state=0,
    ).fit(rows)
    assert model.active_units_ == 2
    assert model.score(rows) > GaussianDensity().fit(rows).score(rows) + 0.5


def test_one_draw_has_no_others_for_a_baseline() -> None:
    with pytest.raises(ValueError, match=r"n_draws=1 of DiscreteVAE must be at least"):
        DiscreteVAE(2, n_draws=1, **SMALL).fit(X)
    DiscreteVAE(2, n_draws=1, gradient="gumbel", **SMALL).fit(X)
