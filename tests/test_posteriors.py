"""Families of posteriors: densities, and how close bounds come to the evidence."""

import math
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

import skgen
from skgen import IWAE, TCVAE, VAE, BetaVAE, ConditionalVAE, MixedDensity
from skgen._networks.dense import Standardizer
from skgen._networks.posteriors import (
    Committed,
    Diagonal,
    Flow,
    Full,
    Mixture,
    family_of,
    normal_points,
)
from skgen._networks.proposals import CoupledNormal
from skgen._training.batches import Batch
from skgen.models.vae import VariationalAutoencoder
from skgen.objectives import ImportanceWeightedLoss, elbo, log_weights
from skgen.priors import Normal, StandardNormal, kl_at_draws
from tests.toys import (
    D,
    Free,
    K,
    draws_of,
    gaussian,
    leaves_generators,
    linear,
    normal,
)

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

N, SIGMA = 40, 0.6
# Columns are not orthogonal: coordinates of the code are correlated.
W = 0.4 * normal(D, K) + 1.5
PRECISION = W.T @ W / SIGMA**2 + torch.eye(K).double()  # of z given x
GAP = 0.5 * (PRECISION.diagonal().log().sum() - PRECISION.logdet())  # of the diagonal
MARGINAL = MultivariateNormal(
    torch.zeros(D).double(), W @ W.T + SIGMA**2 * torch.eye(D).double()
)
X = normal(80, 5, seed=3).numpy() @ normal(5, 5, seed=4).numpy()


def model_of(family: Any, encoder: Any) -> Any:
    decoder = linear(W, torch.zeros(D).double()).requires_grad_(False)
    likelihood = gaussian(SIGMA).requires_grad_(False)
    scale, prior = Standardizer.identity(D), StandardNormal(K)
    return VariationalAutoencoder(encoder, decoder, likelihood, scale, prior, 8, family)


@leaves_generators
def exact(family: Any) -> Any:
    """The best posterior of a family of normal densities."""
    to_mean = PRECISION.inverse() @ W.T / SIGMA**2
    log_scale = -0.5 * PRECISION.diagonal().log()
    constants = log_scale
    if isinstance(family, Full):
        whole = CoupledNormal.of_precision(torch.zeros(1, K).double(), PRECISION[None])
        coupling: Any = whole.coupling
        constants = torch.cat([whole.log_scale[0], coupling[0, 1:, 0]])
    weight = torch.cat([to_mean, torch.zeros(len(constants), D).double()])
    return model_of(family, linear(weight, torch.cat([0 * log_scale, constants])))


def test_the_full_covariance_reaches_the_evidence() -> None:
    x = draws_of(MARGINAL, N)
    log_w = log_weights(exact(Full(K)), Batch(x, normal(3, N, K)))
    torch.testing.assert_close(log_w, MARGINAL.log_prob(x).expand(3, N))


def test_the_diagonal_stays_below_by_the_correlation() -> None:
    x = draws_of(MARGINAL, N)
    log_w = log_weights(exact(Diagonal()), Batch(x, normal(4_000, N, K)))
    assert GAP > 0.1
    gap = MARGINAL.log_prob(x).mean() - log_w.mean()
    torch.testing.assert_close(gap, GAP, rtol=0.05, atol=0)


def test_the_kl_of_a_full_covariance_is_that_of_normal_densities() -> None:
    x = draws_of(MARGINAL, N)
    model = exact(Full(K))
    kl = elbo(model, Batch(x, normal(1, N, K)))[1]
    q = MultivariateNormal(model.posterior(Batch(x)).mean, precision_matrix=PRECISION)
    prior = MultivariateNormal(torch.zeros(K).double(), torch.eye(K).double())
    torch.testing.assert_close(kl.sum(-1), kl_divergence(q, prior))


@leaves_generators
def fitted_gap(make: Any, n_steps: int = 60) -> float:
    """Gap of the best bound that a descent finds, from the best diagonal."""
    family, x = make(), draws_of(MARGINAL, 8)
    outputs = torch.zeros(len(x), family.width(K)).double()
    outputs[:, : 2 * K] = exact(Diagonal()).encoder(x).detach()
    model = model_of(family, Free(outputs)).double()
    learned = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.Adam(learned, 3e-2)
    for i in range(n_steps):
        reconstruction, kl = elbo(model, Batch(x, normal(16, 8, K, seed=i)))
        adam.zero_grad()
        (kl.sum(-1) - reconstruction).mean().backward()
        adam.step()
    with torch.no_grad():
        log_w = log_weights(model, Batch(x, normal(2_000, 8, K, seed=n_steps)))
    return float(MARGINAL.log_prob(x).mean() - log_w.mean())


def test_flows_and_mixtures_close_the_gap_that_the_diagonal_leaves() -> None:
    assert fitted_gap(Diagonal, 10) > 0.9 * GAP
    assert fitted_gap(lambda: Flow(K, "VAE")) < 0.3 * GAP
    assert fitted_gap(lambda: Mixture(K)) < 0.6 * GAP


# Densities.


def mixture_posterior(n: int = 3, k: int = 2, scale: float = 1.0) -> Any:
    family = Mixture(k).double()
    return family.of(scale * normal(n, family.width(k), seed=1))


@leaves_generators
def flow_posterior(n: int = 3, k: int = 2) -> Any:
    family = Flow(k, "VAE").double().requires_grad_(False)
    for weight in family.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    return family.of(normal(n, family.width(k), seed=1))


@pytest.mark.parametrize(("k", "n"), [(1, 4_001), (2, 401)])
def test_the_density_of_a_mixture_integrates_to_one(k: int, n: int) -> None:
    q = mixture_posterior(1, k, scale=0.4)
    ticks = torch.linspace(-30, 30, n).double()
    z = q.mean + q.sigma.amin() * torch.cartesian_prod(*[ticks] * k).view(-1, 1, k)
    mass = q.log_prob(z).exp().sum() * (q.sigma.amin() * 60 / (n - 1)) ** k
    assert mass == pytest.approx(1, abs=1e-4)


def test_draws_of_a_mixture_have_its_moments_and_density() -> None:
    q = mixture_posterior()
    z = q.draw(normal(100_000, 3, 2, seed=5))
    error = z.std(0) / math.sqrt(len(z))
    assert ((z.mean(0) - q.mean).abs() < 4 * error).all()
    torch.testing.assert_close(q.sigma, z.std(0), rtol=0.02, atol=0)
    # E_q[N(z) / q(z)] = 1 of a narrower density N.
    narrow = Normal(q.modes.mean[:, 0], 0.7 * q.modes.sigma[:, 0])
    ratio = (narrow.log_prob(z) - q.log_prob(z)).exp()
    assert ((ratio.mean(0) - 1).abs() < 5 * ratio.std(0) / math.sqrt(len(z))).all()
    eps = normal(4, 3, 2, seed=6)
    torch.testing.assert_close(q.draw(eps[0]), q.draw(eps)[0])


def test_a_mixture_starts_with_the_moments_of_a_normal_density() -> None:
    family, k = Mixture(3).double(), 3
    outputs = torch.zeros(5, family.width(k)).double()
    outputs[:, : 2 * k] = normal(5, 2 * k)
    q, expected = family.of(outputs), Normal.of(outputs[:, : 2 * k])
    torch.testing.assert_close(q.mean, expected.mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(q.sigma, expected.sigma, atol=1e-6, rtol=1e-6)


def test_one_component_is_the_diagonal_density_with_its_gradient() -> None:
    one, k, x = Mixture(K, 1).double(), K, normal(7, K, seed=2)
    for family, width in ((one, one.width(k)), (Diagonal(), 2 * k)):
        outputs = torch.zeros(7, width).double()
        outputs[:, : 2 * k] = normal(7, 2 * k)
        q = family.of(outputs.requires_grad_())
        z = q.draw(normal(4, 7, k, seed=3))
        value = (z**3 * x).sum(-1) + q.log_prob(z)
        gradient = torch.autograd.grad(value.sum(), outputs)[0][:, : 2 * k]
        if family is one:
            found = z, value, gradient
    for each, same in zip(found, (z, value, gradient), strict=True):
        torch.testing.assert_close(each, same, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("k", [1, 3])
def test_gradients_of_draws_from_a_mixture_are_unbiased(k: int) -> None:
    # E[f] of f(z) = a z + z' B z is a function of the moments of each component.
    family, n = Mixture(k).double(), 60_000
    a, B = normal(k, seed=8), normal(k, k, seed=9)
    outputs = 0.5 * normal(1, family.width(k), seed=1)
    rows = outputs.expand(n, -1).clone().requires_grad_()
    z = family.of(rows).draw(normal(n, k, seed=10))
    gradients = torch.autograd.grad((z @ a + ((z @ B) * z).sum(-1)).sum(), rows)[0]
    q = family.of(outputs.requires_grad_())
    mean, sigma = q.modes
    each = mean @ a + ((mean @ B) * mean + sigma**2 * B.diagonal()).sum(-1)
    expected = torch.autograd.grad((q.logits.softmax(-1) * each).sum(), outputs)[0]
    error = gradients.std(0) / math.sqrt(n)
    assert ((gradients.mean(0) - expected[0]).abs() < 4 * error + 1e-9).all()
    logits = slice(-family.n_modes, None)
    assert (expected[0, logits].abs() > 4 * error[logits]).any()


def test_the_score_of_a_mixture_has_no_mean() -> None:
    # So gradients that leave it out have the same mean.
    family, n = Mixture(2).double(), 60_000
    rows = (0.5 * normal(1, family.width(2), seed=1)).expand(n, -1).clone()
    q = family.of(rows.requires_grad_())
    z = q.draw(normal(n, 2, seed=11))
    through = torch.autograd.grad(q.frozen().log_prob(z).sum(), rows, retain_graph=True)
    whole = torch.autograd.grad(q.log_prob(z).sum(), rows)[0]
    difference = through[0] - whole
    error = difference.std(0) / math.sqrt(n)
    assert (difference.mean(0).abs() < 4 * error + 1e-9).all()


def test_the_kl_at_draws_has_no_gradient_where_both_are_the_same() -> None:
    family = Mixture(2).double()
    outputs = (0.5 * normal(5, family.width(2), seed=1)).requires_grad_()
    q = family.of(outputs)
    kl = kl_at_draws(q, q.frozen(), q.draw(normal(3, 5, 2, seed=12)))
    assert (kl.abs() < 1e-12).all()
    gradient = torch.autograd.grad(kl.sum(), outputs)[0]
    assert (gradient.abs() < 1e-9).all()


def test_a_mixture_far_apart_has_finite_gradients() -> None:
    family = Mixture(20)
    outputs = 3 * normal(50, family.width(20), dtype=torch.float32)
    z = family.of(outputs.requires_grad_()).draw(
        normal(5, 50, 20, dtype=torch.float32, seed=2)
    )
    gradient = torch.autograd.grad(z.sum(), outputs)[0]
    assert z.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize(("k", "n"), [(1, 4_001), (2, 201)])
def test_the_density_of_a_flow_integrates_to_one(k: int, n: int) -> None:
    q = flow_posterior(1, k)
    ticks = torch.linspace(-12, 12, n).double()
    cells = torch.cartesian_prod(*[ticks] * k).view(-1, 1, k)
    z = q.base.mean + q.base.sigma * cells
    mass = q.log_prob(z).exp().sum() * q.base.sigma.prod() * (24 / (n - 1)) ** k
    assert mass == pytest.approx(1, abs=3e-3)


def test_draws_of_a_flow_have_its_density_and_moments() -> None:
    q, eps = flow_posterior(), normal(4_000, 3, 2, seed=5)
    z = q.draw(eps)
    noise, log_det = q.flow((z - q.base.mean) / q.base.sigma, q.context)
    torch.testing.assert_close(noise, eps, rtol=1e-5, atol=1e-5)
    assert log_det.shape == q.log_prob(z).shape == (4_000, 3)
    spread = z.std(0)
    assert ((q.mean - z.mean(0)).abs() < 0.1 * spread).all()
    assert ((q.sigma - spread).abs() < 0.15 * spread).all()
    torch.testing.assert_close(q.draw(eps[0]), z[0])


def test_frozen_flows_are_the_same_and_pass_no_gradient() -> None:
    q = flow_posterior()
    q.flow.requires_grad_(True)
    z = q.draw(normal(4, 3, 2, seed=5)).detach().requires_grad_()
    found = q.frozen().log_prob(z)
    torch.testing.assert_close(found, q.log_prob(z))
    found.sum().backward()
    assert z.grad is not None
    assert all(p.grad is None for p in q.flow.parameters())


def test_points_have_the_moments_of_normal_draws() -> None:
    points = normal_points(64, 5)
    assert points.isfinite().all()
    torch.testing.assert_close(
        points.mean(0), torch.zeros(5).double(), atol=1e-8, rtol=0
    )
    torch.testing.assert_close(points.std(0), torch.ones(5).double(), atol=0.03, rtol=0)


def per_row_gradients(gradient: str, n: int = 20_000) -> Tensor:
    """Gradient (n, width) of the encoder's bias, a row each, of full covariances."""
    model, x = exact(Full(K)), draws_of(MARGINAL, 1).expand(n, D)
    layer = model.encoder
    rows = (layer.bias.detach() + 0.3).expand(n, -1).clone().requires_grad_()
    layer.register_forward_hook(lambda *call: call[2] - layer.bias.detach() + rows)
    noise = normal(4, n, K, seed=4)
    loss = ImportanceWeightedLoss(gradient)(model, Batch(x, noise)).loss
    found: Tensor = torch.autograd.grad(loss.sum(), rows)[0]
    return found


def test_doubly_reparameterised_gradients_of_full_covariances_are_unbiased() -> None:
    plain, doubly = per_row_gradients("standard"), per_row_gradients("dreg")
    error = (plain.var(0) / len(plain) + doubly.var(0) / len(doubly)).sqrt()
    assert ((plain.mean(0) - doubly.mean(0)).abs() < 4 * error).all()
    assert (plain.mean(0).abs() > 4 * error).any()


# Rates that are committed to.


@pytest.mark.parametrize("rate", [0.01, 0.5, 8.0])
def test_no_output_has_less_than_the_committed_rate(rate: float) -> None:
    q = Committed(rate).of(5 * normal(1_000, 2 * K))
    prior: Any = StandardNormal(K)
    kl = prior.kl(q, None)
    assert kl.min() >= rate * (1 - 1e-9)
    least = Committed(rate).of(torch.tensor([[0.0, 50.0]]).double())
    torch.testing.assert_close(
        prior.kl(least, None), torch.full((1, 1), rate).double(), rtol=0.05, atol=0
    )


def test_far_below_the_limit_the_scale_is_as_the_network_says() -> None:
    outputs = torch.tensor([[0.3, -9.0]]).double()
    found, expected = Committed(0.1).of(outputs), Normal.of(outputs)
    torch.testing.assert_close(found.sigma, expected.sigma, rtol=1e-3, atol=0)


@pytest.mark.parametrize("cls", [VAE, BetaVAE, IWAE])
def test_the_kl_of_every_row_is_at_least_the_rate(cls: Any) -> None:
    model = cls(2, min_rate=3.0, **SMALL).fit(X)
    assert model.elbo(X).kl.min() >= 3 - 1e-4
    assert model.elbo(100 * X).kl.min() >= 3 - 1e-4
    gap = model.log_likelihood(X, 200).log_prob - model.score_samples(X)
    assert gap.mean() > 0


def test_the_family_is_the_usual_one_where_none_is_asked_for() -> None:
    assert type(family_of("diag", 3, "VAE")) is Diagonal
    committed: Any = family_of("diag", 3, "VAE", 1.5)
    limit = committed.log_limit
    assert 0.5 * (math.exp(2 * limit) - 1 - 2 * limit) == pytest.approx(0.5)


# Estimators.

SMALL: dict[str, Any] = {
    "hidden_layer_sizes": (8,),
    "max_iter": 3,
    "n_importance_samples": 8,
    "random_state": 0,
}
kinds = pytest.mark.parametrize("kind", ["full", "mixture", "flow"])


@kinds
@pytest.mark.parametrize(("cls", "prior"), [(VAE, "normal"), (IWAE, "mixture")])
def test_an_estimator_of_each_family(cls: Any, kind: Any, prior: Any) -> None:
    model = cls(3, posterior_type=kind, prior=prior, prior_components=2, **SMALL).fit(X)
    np.testing.assert_allclose(model.transform(X), model.posterior(X).mean, rtol=1e-5)
    assert (model.posterior(X).std > 0).all()
    np.testing.assert_allclose(model.transform(X)[:5], model.transform(X[:5]))
    assert model.sample(3, random_state=0).shape == (3, 5)
    reconstruction, kl = model.elbo(X)
    assert (reconstruction - kl).mean() < model.log_likelihood(X, 300).mean_log_prob
    assert len(model.latent_variances_) == 3


@pytest.mark.parametrize("k", [1, 3])
@kinds
def test_files_and_pickles_have_it(kind: Any, k: int, tmp_path: Path) -> None:
    model = BetaVAE(k, posterior_type=kind, free_bits=0.1, **SMALL).fit(X)
    skgen.save(model, tmp_path / "model.safetensors")
    for same in (
        skgen.load(tmp_path / "model.safetensors"),
        pickle.loads(pickle.dumps(model)),
    ):
        assert_array_equal(same.score_samples(X), model.score_samples(X))


@kinds
def test_rows_with_missing_cells_have_it(kind: Any) -> None:
    rows = X.copy()
    rows[::3, 1] = np.nan
    model = MixedDensity(VAE(2, posterior_type=kind, **SMALL)).fit(rows)
    assert np.isfinite(model.score_samples(rows)).all()
    assert np.isfinite(model.impute(rows)).all()


@pytest.mark.parametrize("kind", ["full", "mixture"])
def test_a_conditional_vae_has_other_posteriors(kind: Any) -> None:
    labels = X[:, 0] > 0
    model = ConditionalVAE(2, posterior_type=kind, **SMALL).fit(X, labels)
    assert np.isfinite(model.score_samples(X, labels)).all()
    assert model.predict_proba(X).shape == (80, 2)


def test_the_encoder_may_learn_faster() -> None:
    slow, usual, fast = (
        VAE(2, encoder_rate=rate, **{**SMALL, "max_iter": 1, "linear_path": False})
        for rate in (1e-6, 1.0, 3.0)
    )
    start = (
        VAE(
            2,
            **{
                **SMALL,
                "max_iter": 1,
                "learning_rate_init": 1e-12,
                "linear_path": False,
            },
        )
        .fit(X)
        .module_
    )
    moved = []
    for model in (slow, usual, fast):
        module = model.fit(X).module_
        pairs = zip(module.encoder.parameters(), start.encoder.parameters())
        moved.append(sum(float((p - q).detach().abs().sum()) for p, q in pairs))
        assert not torch.equal(module.decoder[0].weight, start.decoder[0].weight)
    assert moved[0] < 1e-3 * moved[1]
    assert moved[2] > 2 * moved[1]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_components": (3, 2), "posterior_type": "full"}, "posterior_type='full'"),
        ({"prior": "vamp", "posterior_type": "flow"}, "posterior_type='flow'"),
        ({"n_components": (3, 2), "min_rate": 1.0}, "min_rate=1.0"),
        ({"prior": "mixture", "min_rate": 1.0}, "min_rate=1.0"),
        ({"posterior_type": "full", "min_rate": 1.0}, "min_rate=1.0"),
        ({"n_components": 2, "min_rate": 21.0}, "min_rate=21.0"),
    ],
)
def test_what_does_not_go_together_is_refused(params: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"{message}.*must be"):
        VAE(**{**SMALL, **params}).fit(X)


def test_total_correlations_are_of_independent_posteriors() -> None:
    with pytest.raises(ValueError, match="'posterior_type' parameter of TCVAE"):
        TCVAE(2, posterior_type="full", **SMALL).fit(X)  # type: ignore[arg-type]


def test_a_flow_without_its_library_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    message = r"VAE\(posterior_type='flow'\) needs zuko.*\[flow\]"
    with pytest.raises(ImportError, match=message):
        VAE(2, posterior_type="flow", **SMALL).fit(X)
