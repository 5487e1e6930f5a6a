"""Priors and posteriors against torch.distributions, Monte Carlo and enumeration."""

import math

import pytest
import torch
from scipy import stats
from torch import distributions
from toys import all_sequences, generator, normal, token_model, uniform

from skgen.priors import AutoregressivePrior, Categorical, Normal, StandardNormal
from skgen.tensors import forked_rng

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


# The autoregressive prior.

SEQUENCES = all_sequences(3, 3)
mixings = pytest.mark.parametrize("mixing", [0.0, 0.5, 1.0])


def prior_of(mixing, T=3, K=3):
    return token_model(T, K, mixing=mixing).prior


@mixings
def test_prior_sums_to_one(mixing):
    total = prior_of(mixing).log_prob(SEQUENCES).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-12)


@mixings
def test_prior_draws_have_its_frequencies(mixing):
    prior, n = prior_of(mixing), 20_000
    tokens = prior.draw(n, generator())
    assert tokens.shape == (n, 3)
    counts = torch.bincount((tokens * torch.tensor([9, 3, 1])).sum(1), minlength=27)
    expected = prior.log_prob(SEQUENCES).exp()
    keep = n * expected > 5  # rarer cells together
    counts = [*counts[keep].tolist(), counts[~keep].sum().item()]
    expected = [*(n * expected[keep]).tolist(), n * expected[~keep].sum().item()]
    cells = [(c, e) for c, e in zip(counts, expected) if e > 0]
    assert stats.chisquare(*zip(*cells)).pvalue > 1e-3


def test_prior_starts_as_smoothed_unigrams():
    with forked_rng(0):
        prior = AutoregressivePrior(2, 3)
    prior.counts.copy_(torch.tensor([[3.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    expected = [math.log(4 / 7 / 3), math.log(1 / 7 / 3)]
    tokens = torch.tensor([[0, 1], [1, 2]])
    for mixing in (0.0, 0.4, 1.0):
        prior.mixing.fill_(mixing)
        assert prior.log_prob(tokens).tolist() == pytest.approx(expected)


@mixings
def test_places_are_conditioned_on_those_before_only(mixing):
    prior = prior_of(mixing)
    for place in range(3):
        # Sums over the token at a place: one, whatever comes before.
        tokens = SEQUENCES.view(*[3] * 3, 3)
        masses = prior.mixed(*prior.token_log_probs(tokens)).exp()[..., place]
        torch.testing.assert_close(masses.sum(place), torch.full((3, 3), 1.0).double())
        # And whatever comes after makes no difference.
        for later in range(place + 1, 3):
            first = masses.select(later, 0).unsqueeze(later)
            assert masses.equal(first.expand_as(masses))


def test_tokens_before_make_a_difference_to_the_network_alone():
    network, unigrams = prior_of(0.5).token_log_probs(SEQUENCES)
    last = SEQUENCES[:, 2] == 0
    assert len(network[last, 2].unique()) == 9
    assert len(unigrams[last, 2].unique()) == 1


def test_mixing_mixes_each_token():
    network, unigrams = prior_of(0.3).token_log_probs(SEQUENCES)
    expected = (0.3 * network.exp() + 0.7 * unigrams.exp()).log().sum(-1)
    torch.testing.assert_close(prior_of(0.3).log_prob(SEQUENCES), expected)


def test_one_token_has_no_one_before():
    prior = prior_of(1.0, T=1, K=4)
    total = prior.log_prob(torch.arange(4)[:, None]).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-12)
    assert prior.draw(5, generator()).shape == (5, 1)
