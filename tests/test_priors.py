"""Priors and posteriors against torch.distributions, Monte Carlo and enumeration."""

from typing import Any, cast

import pytest
import torch
from scipy import stats
from torch import distributions

from skgen.priors import (
    Categorical,
    MixturePrior,
    Normal,
    StandardNormal,
    VampPrior,
)
from tests.toys import normal, uniform

pytestmark = pytest.mark.usefixtures("guarded_generators")

POSTERIOR = Normal(normal(6, 3, seed=1), normal(6, 3, seed=2).exp())


# Continuous codes.


def test_normal_is_the_normal_density() -> None:
    z = POSTERIOR.draw(normal(4, 6, 3, seed=3))
    expected = distributions.Normal(*POSTERIOR).log_prob(z).sum(-1)
    torch.testing.assert_close(POSTERIOR.log_prob(z), expected)


def test_standard_normal_is_the_standard_normal_density() -> None:
    z = normal(4, 6, 3, seed=3)
    expected = distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(StandardNormal(3).log_prob(z), expected)


def test_normal_draws_are_the_noise_scaled_and_shifted() -> None:
    eps = normal(2, 6, 3, seed=4)
    z = POSTERIOR.draw(eps)
    torch.testing.assert_close((z - POSTERIOR.mean) / POSTERIOR.sigma, eps)


def test_kl_is_that_of_torch() -> None:
    expected = distributions.kl_divergence(
        distributions.Normal(*POSTERIOR), distributions.Normal(0.0, 1.0)
    )
    kl = StandardNormal(3).kl(POSTERIOR, cast(Any, None))
    torch.testing.assert_close(kl, expected.double())
    assert (kl > 0).all()


def test_kl_is_the_mean_log_ratio() -> None:
    z = POSTERIOR.draw(normal(40_000, 6, 3, seed=5))
    ratio = POSTERIOR.log_prob(z) - StandardNormal(3).log_prob(z)
    error = (ratio.mean(0) - StandardNormal(3).kl(POSTERIOR, z).sum(-1)).abs()
    assert (error < 4 * ratio.std(0) / 200).all()


def test_kl_vanishes_at_the_prior() -> None:
    q = Normal(torch.zeros(2, 3), torch.ones(2, 3))
    assert not StandardNormal(3).kl(q, cast(Any, None)).any()


# Tokens.


def categorical(*probs: Any) -> Any:
    return Categorical(torch.tensor(probs, dtype=torch.float64).log()[None, None])


def test_categorical_draws_have_its_frequencies() -> None:
    q = Categorical(normal(2, 3, 5, seed=6).log_softmax(-1))
    tokens = q.draw(uniform(20_000, 2, 3, seed=7))
    assert tokens.shape == (20_000, 2, 3)
    expected = 20_000 * q.log_probs.exp().flatten(0, 1)
    for column, frequencies in zip(tokens.flatten(1).T, expected):
        counts = torch.bincount(column, minlength=5)
        assert stats.chisquare(counts, frequencies).pvalue > 1e-3


def test_categorical_log_prob_sums_over_tokens() -> None:
    q = Categorical(normal(2, 3, 5, seed=6).log_softmax(-1))
    tokens = q.draw(uniform(7, 2, 3, seed=7))
    expected = distributions.Categorical(logits=q.log_probs).log_prob(tokens).sum(-1)
    torch.testing.assert_close(q.log_prob(tokens), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_categorical_draws_are_in_range_at_the_ends(dtype: torch.dtype) -> None:
    q = Categorical(normal(50, 2, 7, seed=6, dtype=dtype).log_softmax(-1))
    ends = torch.tensor([0.0, 1 - torch.finfo(dtype).eps / 2], dtype=dtype)
    tokens = q.draw(ends[:, None, None].expand(2, 50, 2))
    assert (tokens[0] == 0).all()
    assert (tokens[1] == 6).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_categorical_never_draws_what_has_no_mass(dtype: torch.dtype) -> None:
    q = Categorical(categorical(0.0, 0.3, 0.0, 0.7, 0.0).log_probs.to(dtype))
    ends = [0.0, 0.3 - 1e-6, 0.3 + 1e-6, 1 - torch.finfo(dtype).eps / 2]
    tokens = q.draw(torch.tensor(ends, dtype=dtype)[:, None, None])
    assert tokens.flatten().tolist() == [1, 1, 3, 3]
    assert q.log_prob(tokens).isfinite().all()


# Priors that are learned.


def mixture(n_modes: Any, k: Any = 2, seed: int = 0) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        prior = MixturePrior(k, n_modes).double()
    prior.logits.data = normal(n_modes, seed=seed + 1)
    return prior.requires_grad_(False)


def test_one_standard_component_is_the_standard_normal() -> None:
    prior, z = mixture(1), normal(4, 6, 2, seed=3)
    torch.testing.assert_close(prior.log_prob(z), StandardNormal(2).log_prob(z))
    torch.testing.assert_close(prior.draw(z[0]), z[0])


def test_a_mixture_is_that_of_torch() -> None:
    prior, z = mixture(4), normal(3, 6, 2, seed=3)
    expected = distributions.MixtureSameFamily(
        distributions.Categorical(logits=prior.logits),
        distributions.Independent(
            distributions.Normal(prior.means, prior.log_scales.exp()), 1
        ),
    )
    torch.testing.assert_close(prior.log_prob(z), expected.log_prob(z))
    drawn = prior.draw(normal(100_000, 2, seed=4))
    torch.testing.assert_close(drawn.mean(0), expected.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.var(0), expected.variance, atol=0.02, rtol=0)


def test_draws_of_a_mixture_have_its_distribution_function() -> None:
    prior = mixture(3, k=1)
    drawn = prior.draw(normal(20_000, 1, seed=4))[:, 0].numpy()
    weight = prior.logits.softmax(0).numpy()
    means, scales = prior.means[:, 0].numpy(), prior.log_scales[:, 0].exp().numpy()
    cdf = lambda x: (weight * stats.norm.cdf((x[:, None] - means) / scales)).sum(1)  # noqa: E731
    assert stats.kstest(drawn, cdf).pvalue > 1e-3


@pytest.mark.parametrize("shape", [(6, 2), (4, 6, 2)])
def test_the_kl_to_a_mixture_is_the_mean_log_ratio(shape: Any) -> None:
    prior, q = mixture(3), Normal(normal(6, 2, seed=1), normal(6, 2, seed=2).exp())
    z = q.draw(normal(*shape, seed=3))
    ratio = (q.log_prob(z) - prior.log_prob(z)).reshape(-1, 6).mean(0)
    torch.testing.assert_close(prior.kl(q, z), ratio[:, None])


def test_pseudo_inputs_are_the_modes_of_a_vamp_prior() -> None:
    with torch.random.fork_rng():
        model = torch.nn.ModuleDict({"encoder": torch.nn.Linear(5, 4)}).double()
        prior = VampPrior(2, 1, 5).double()
        prior.start_from(normal(9, 5, seed=1))
    encoder: Any = model["encoder"]
    prior.bind(encoder)
    assert (prior.inputs == normal(9, 5, seed=1)).all(1).sum() == 1
    component = Normal.of(encoder(prior.inputs))
    z = normal(7, 2, seed=2)
    torch.testing.assert_close(prior.log_prob(z), component.log_prob(z))
    # One component is a normal prior: its KL is that of two normal densities.
    q = Normal(normal(3, 2, seed=3), normal(3, 2, seed=4).exp())
    expected = distributions.kl_divergence(
        distributions.Normal(*q), distributions.Normal(*component)
    ).sum(-1)
    kl = prior.kl(q, q.draw(normal(40_000, 3, 2, seed=5)))[:, 0]
    torch.testing.assert_close(kl, expected, atol=0.1, rtol=0.02)
