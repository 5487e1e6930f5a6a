"""Priors and posteriors against torch.distributions, Monte Carlo and enumeration."""

import pytest
import torch
from scipy import stats
from torch import distributions
from toys import normal, uniform

from skgen.priors import Categorical, Normal, StandardNormal

pytestmark = pytest.mark.usefixtures("guarded_generators")

POSTERIOR = Normal(normal(6, 3, seed=1), normal(6, 3, seed=2).exp())


# Continuous codes.


def test_normal_is_the_normal_density():
    z = POSTERIOR.draw(normal(4, 6, 3, seed=3))
    expected = distributions.Normal(*POSTERIOR).log_prob(z).sum(-1)
    torch.testing.assert_close(POSTERIOR.log_prob(z), expected)


def test_standard_normal_is_the_standard_normal_density():
    z = normal(4, 6, 3, seed=3)
    expected = distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    torch.testing.assert_close(StandardNormal(3).log_prob(z), expected)


def test_normal_draws_are_the_noise_scaled_and_shifted():
    eps = normal(2, 6, 3, seed=4)
    z = POSTERIOR.draw(eps)
    torch.testing.assert_close((z - POSTERIOR.mean) / POSTERIOR.sigma, eps)


def test_kl_is_that_of_torch():
    expected = distributions.kl_divergence(
        distributions.Normal(*POSTERIOR), distributions.Normal(0.0, 1.0)
    )
    kl = StandardNormal(3).kl(POSTERIOR, None)
    torch.testing.assert_close(kl, expected.double())
    assert (kl > 0).all()


def test_kl_is_the_mean_log_ratio():
    z = POSTERIOR.draw(normal(40_000, 6, 3, seed=5))
    ratio = POSTERIOR.log_prob(z) - StandardNormal(3).log_prob(z)
    error = (ratio.mean(0) - StandardNormal(3).kl(POSTERIOR, z).sum(-1)).abs()
    assert (error < 4 * ratio.std(0) / 200).all()


def test_kl_vanishes_at_the_prior():
    q = Normal(torch.zeros(2, 3), torch.ones(2, 3))
    assert not StandardNormal(3).kl(q, None).any()


# Tokens.


def categorical(*probs):
    return Categorical(torch.tensor(probs, dtype=torch.float64).log()[None, None])


def test_categorical_draws_have_its_frequencies():
    q = Categorical(normal(2, 3, 5, seed=6).log_softmax(-1))
    tokens = q.draw(uniform(20_000, 2, 3, seed=7))
    assert tokens.shape == (20_000, 2, 3)
    expected = 20_000 * q.log_probs.exp().flatten(0, 1)
    for column, frequencies in zip(tokens.flatten(1).T, expected):
        counts = torch.bincount(column, minlength=5)
        assert stats.chisquare(counts, frequencies).pvalue > 1e-3


def test_categorical_log_prob_sums_over_tokens():
    q = Categorical(normal(2, 3, 5, seed=6).log_softmax(-1))
    tokens = q.draw(uniform(7, 2, 3, seed=7))
    expected = distributions.Categorical(logits=q.log_probs).log_prob(tokens).sum(-1)
    torch.testing.assert_close(q.log_prob(tokens), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_categorical_draws_are_in_range_at_the_ends(dtype):
    q = Categorical(normal(50, 2, 7, seed=6, dtype=dtype).log_softmax(-1))
    ends = torch.tensor([0.0, 1 - torch.finfo(dtype).eps / 2], dtype=dtype)
    tokens = q.draw(ends[:, None, None].expand(2, 50, 2))
    assert (tokens[0] == 0).all()
    assert (tokens[1] == 6).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_categorical_never_draws_what_has_no_mass(dtype):
    q = Categorical(categorical(0.0, 0.3, 0.0, 0.7, 0.0).log_probs.to(dtype))
    ends = [0.0, 0.3 - 1e-6, 0.3 + 1e-6, 1 - torch.finfo(dtype).eps / 2]
    tokens = q.draw(torch.tensor(ends, dtype=dtype)[:, None, None])
    assert tokens.flatten().tolist() == [1, 1, 3, 3]
    assert q.log_prob(tokens).isfinite().all()
