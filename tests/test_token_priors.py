"""Priors over tokens, by enumeration of all sequences."""

import math

import pytest
import torch
from scipy import stats
from toys import all_sequences, generator, normal

from skgen.tensors import forked_rng
from skgen.token_priors import TransformerPrior

pytestmark = pytest.mark.usefixtures("guarded_generators")

SEQUENCES = all_sequences(3, 3)
mixings = pytest.mark.parametrize("mixing", [0.0, 0.5, 1.0])


def transformer(mixing=0.5, T=3, K=3, dtype=torch.float64):
    """Weights are large: every token before makes a difference."""
    with forked_rng(0):
        prior = TransformerPrior(T, K, width=8, n_heads=2).to(dtype)
    for seed, p in enumerate(prior.parameters()):
        p.data = normal(*p.shape, seed=seed, dtype=dtype)
    prior.counts = 20 * torch.rand(T, K, generator=generator(1)).to(dtype)
    prior.mixing.fill_(mixing)
    return prior


@mixings
def test_it_sums_to_one(mixing):
    total = transformer(mixing).log_prob(SEQUENCES).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-12)


def test_places_are_conditioned_on_those_before_only():
    prior, tokens = (
        transformer(T=6, K=5),
        torch.randint(5, (4, 6), generator=generator()),
    )
    outputs = prior.changes(tokens)
    for place in range(6):
        other = tokens.clone()
        other[:, place] = (other[:, place] + 1) % 5
        changed = (prior.changes(other) - outputs).abs().amax((0, 2)) > 1e-3
        assert changed.tolist() == [later > place for later in range(6)]


@mixings
def test_draws_have_its_frequencies(mixing):
    prior, n = transformer(mixing), 20_000
    tokens = prior.draw(n, generator())
    assert tokens.shape == (n, 3)
    counts = torch.bincount((tokens * torch.tensor([9, 3, 1])).sum(1), minlength=27)
    expected = n * prior.log_prob(SEQUENCES).exp()
    keep = expected > 5  # rarer cells together
    counts = [*counts[keep].tolist(), counts[~keep].sum().item()]
    expected = [*expected[keep].tolist(), expected[~keep].sum().item()]
    cells = [(c, e) for c, e in zip(counts, expected) if e > 0]
    assert stats.chisquare(*zip(*cells)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float32, 1e-5), (torch.float64, 1e-12)]
)
def test_drawing_steps_through_the_same_outputs(dtype, error):
    prior = transformer(T=7, K=5, dtype=dtype)
    tokens = torch.randint(5, (4, 7), generator=generator())
    expected, past = prior.changes(tokens), None
    before = torch.nn.functional.pad(tokens, (1, 0), value=prior.nothing)
    for t in range(7):
        inputs = prior.codes(before[:, t : t + 1]) + prior.places[t]
        outputs, past = prior.advance(inputs, past)
        torch.testing.assert_close(
            outputs[:, 0], expected[:, t], atol=error, rtol=error
        )


def test_it_starts_as_smoothed_unigrams():
    with forked_rng(0):
        prior = TransformerPrior(2, 3)
    prior.counts.copy_(torch.tensor([[3.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    expected = [math.log(4 / 7 / 3), math.log(1 / 7 / 3)]
    for mixing in (0.0, 0.4, 1.0):
        prior.mixing.fill_(mixing)
        log_prob = prior.log_prob(torch.tensor([[0, 1], [1, 2]]))
        assert log_prob.tolist() == pytest.approx(expected)


def test_mixing_mixes_each_token():
    prior = transformer(0.3)
    network, unigrams = prior.token_log_probs(SEQUENCES)
    expected = (0.3 * network.exp() + 0.7 * unigrams.exp()).log().sum(-1)
    torch.testing.assert_close(prior.log_prob(SEQUENCES), expected)
    assert len(unigrams.unique()) == 9
    assert len(network[:, 2].unique()) == 27


def test_leading_dimensions_are_free():
    prior = transformer()
    log_prob = prior.log_prob(SEQUENCES.view(3, 9, 3))
    torch.testing.assert_close(log_prob.flatten(), prior.log_prob(SEQUENCES))


def test_one_token_has_no_one_before():
    prior = transformer(T=1, K=4)
    total = prior.log_prob(torch.arange(4)[:, None]).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-12)
    assert prior.draw(5, generator()).shape == (5, 1)


def test_it_learns_that_tokens_repeat():
    # Rows of a grid of 2 x 2: the second line repeats the first.
    tokens = torch.randint(3, (64, 2), generator=generator()).repeat(1, 2)
    with forked_rng(0):
        prior = TransformerPrior(4, 3, width=16, n_heads=2)
    optimizer = torch.optim.Adam(prior.parameters(), lr=1e-2)
    for _ in range(60):
        loss = -prior.token_log_probs(tokens)[0].sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 2 * math.log(3) + 0.1
