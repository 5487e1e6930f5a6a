"""Priors over tokens, by enumeration of all sequences."""

import itertools
import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from skgen._networks.token_priors import (
    AnyOrderPrior,
    AutoregressivePrior,
    MaskedPrior,
    TransformerPrior,
    schedule,
)
from tests.toys import (
    all_orders,
    all_sequences,
    generator,
    leaves_generators,
    normal,
    token_log_mass,
)

pytestmark = pytest.mark.usefixtures("guarded_generators")

SEQUENCES = all_sequences(3, 3)
mixings = pytest.mark.parametrize("mixing", [0.0, 0.5, 1.0])
families = pytest.mark.parametrize("family", [AutoregressivePrior, TransformerPrior])
SMALL: dict[Any, Any] = {
    AutoregressivePrior: {"n_hidden": 5},
    TransformerPrior: {"width": 8, "n_heads": 2},
    MaskedPrior: {"width": 8, "n_heads": 2},
    AnyOrderPrior: {"n_hidden": 5},
}


@leaves_generators
def start(family: Any, T: Any = 3, K: int = 3, **about: Any) -> Any:
    return family(T, K, **SMALL[family], **about)


def prior_of(
    family: type[Any],
    mixing: float = 0.5,
    T: int = 3,
    K: int = 3,
    dtype: torch.dtype = torch.float64,
    **about: Any,
) -> Any:
    """Weights are large: every token before makes a difference."""
    prior = start(family, T, K, **about).to(dtype)
    for seed, p in enumerate(prior.parameters()):
        p.data = normal(*p.shape, seed=seed + 20, dtype=dtype)
    prior.counts = 20 * torch.rand(T, K, generator=generator(30)).to(dtype)
    prior.mixing.fill_(mixing)
    return prior


def some_tokens(n: int, T: int, K: int) -> Tensor:
    return torch.randint(K, (n, T), generator=generator())


@families
@mixings
def test_it_sums_to_one(family: type[Any], mixing: float) -> None:
    total = prior_of(family, mixing).log_prob(SEQUENCES).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-12)


@families
def test_places_are_conditioned_on_those_before_only(family: type[Any]) -> None:
    prior, tokens = prior_of(family, T=6, K=5), some_tokens(4, 6, 5)
    outputs = prior.changes(tokens)
    for place in range(6):
        other = tokens.clone()
        other[:, place] = (other[:, place] + 1) % 5
        change = (prior.changes(other) - outputs).abs().amax((0, 2))
        assert (change[: place + 1] < 1e-12).all()
        assert (change[place + 1 :] > 1e-3).all()


@families
def test_tokens_before_make_a_difference_to_the_network_alone(
    family: type[Any],
) -> None:
    network, unigrams = prior_of(family).token_log_probs(SEQUENCES)
    last = SEQUENCES[:, 2] == 0
    assert len(network[last, 2].unique()) == 9
    assert len(unigrams[last, 2].unique()) == 1


@families
@mixings
def test_draws_have_its_frequencies(family: Any, mixing: Any) -> None:
    prior, n = prior_of(family, mixing), 20_000
    tokens = prior.draw(n, generator())
    assert tokens.shape == (n, 3)
    counts: Any = torch.bincount(
        (tokens * torch.tensor([9, 3, 1])).sum(1), minlength=27
    )
    expected: Any = n * prior.log_prob(SEQUENCES).exp()
    keep = expected > 5  # rarer cells together
    counts = [*counts[keep].tolist(), counts[~keep].sum().item()]
    expected = [*expected[keep].tolist(), expected[~keep].sum().item()]
    cells = [(c, e) for c, e in zip(counts, expected) if e > 0]
    assert stats.chisquare(*zip(*cells)).pvalue > 1e-3


@families
@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float32, 1e-5), (torch.float64, 1e-12)]
)
def test_drawing_goes_through_the_same_outputs(
    family: type[Any], dtype: torch.dtype, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What it draws each token from is what it gives that token afterwards.
    prior, seen = prior_of(family, T=7, K=5, dtype=dtype), []
    draw_token = prior.draw_token

    def watched(t: Any, change: Any, generator: Any) -> Any:
        seen.append(change)
        return draw_token(t, change, generator)

    monkeypatch.setattr(prior, "draw_token", watched)
    tokens = prior.draw(20, generator())
    drawn_from = torch.stack(seen, dim=1)
    torch.testing.assert_close(
        drawn_from, prior.changes(tokens), atol=error, rtol=error
    )


@families
def test_it_starts_as_smoothed_unigrams(family: type[Any]) -> None:
    prior = start(family, 2, 3)
    prior.counts.copy_(torch.tensor([[3.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    expected = [math.log(4 / 7 / 3), math.log(1 / 7 / 3)]
    for mixing in (0.0, 0.4, 1.0):
        prior.mixing.fill_(mixing)
        log_prob = prior.log_prob(torch.tensor([[0, 1], [1, 2]]))
        assert log_prob.tolist() == pytest.approx(expected)


@families
def test_mixing_mixes_each_token(family: type[Any]) -> None:
    prior = prior_of(family, 0.3)
    network, unigrams = prior.token_log_probs(SEQUENCES)
    expected = (0.3 * network.exp() + 0.7 * unigrams.exp()).log().sum(-1)
    torch.testing.assert_close(prior.log_prob(SEQUENCES), expected)


@families
def test_leading_dimensions_are_free(family: type[Any]) -> None:
    prior = prior_of(family)
    log_prob = prior.log_prob(SEQUENCES.view(3, 9, 3))
    torch.testing.assert_close(log_prob.flatten(), prior.log_prob(SEQUENCES))


@families
def test_one_token_has_no_one_before(family: type[Any]) -> None:
    prior = prior_of(family, 1.0, T=1, K=4)
    total = prior.log_prob(torch.arange(4)[:, None]).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-12)
    assert prior.draw(5, generator()).shape == (5, 1)


@families
def test_it_learns_that_tokens_repeat(family: type[Any]) -> None:
    # Rows of a grid of 2 x 2: the second line repeats the first.
    tokens = some_tokens(64, 2, 3).repeat(1, 2)
    prior = start(family, 4, 3)
    optimizer = torch.optim.Adam(prior.parameters(), lr=2e-2)
    for _ in range(80):
        loss = -prior.token_log_probs(tokens)[0].sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 2 * math.log(3) + 0.1


# Levels, and conditions.

every_family = pytest.mark.parametrize(
    "family", [AutoregressivePrior, TransformerPrior, MaskedPrior, AnyOrderPrior]
)
random_orders = pytest.mark.parametrize("family", [MaskedPrior, AnyOrderPrior])


def in_orders(tokens: Tensor) -> list[Tensor]:
    """Put every order behind tokens (m, 3)."""
    orders = all_orders([3])
    return [torch.cat([tokens, ranks.expand_as(tokens)], 1) for ranks in orders]


@every_family
@mixings
def test_levels_given_conditions_sum_to_one(family: Any, mixing: float) -> None:
    prior = prior_of(family, mixing, levels=(1, 2), n_conditions=2)
    totals = []
    for condition in ([1.0, 0.0], [0.0, 1.0]):
        given = torch.tensor([condition]).double().expand(27, -1)
        log_mass = token_log_mass(prior, SEQUENCES, given)
        assert log_mass.exp().sum().item() == pytest.approx(1, abs=1e-12)
        totals.append(log_mass)
    apart = (totals[0] - totals[1]).abs().max()
    assert (apart > 0.1) == (mixing > 0)


@every_family
def test_draws_given_conditions_have_its_frequencies(family: Any) -> None:
    prior, n = prior_of(family, levels=(1, 2), n_conditions=1), 20_000
    condition = torch.ones(n, 1).double()
    tokens = prior.draw(n, generator(), condition)
    index = (tokens * torch.tensor([9, 3, 1])).sum(1)
    found = torch.bincount(index, minlength=27) / n
    expected = token_log_mass(prior, SEQUENCES, condition[:27]).exp()
    error = (expected * (1 - expected) / n).sqrt()
    assert ((found - expected).abs() < 5 * error + 1e-4).all()


# Random orders.


@random_orders
@mixings
def test_each_order_sums_to_one(family: Any, mixing: float) -> None:
    prior = prior_of(family, mixing)
    for tokens in in_orders(SEQUENCES):
        assert prior.log_prob(tokens).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_tokens_of_one_step_are_independent_given_those_before() -> None:
    prior = prior_of(MaskedPrior, 1.0, T=4, n_steps=2)
    assert [tuple(step[:2]) for step in prior.steps] == [(0, 1), (1, 4)]
    tokens = torch.tensor([[1, 0, 2, 1], [1, 1, 0, 2], [2, 0, 2, 1]])
    ranks = torch.arange(4).expand_as(tokens)
    network, _ = prior.token_log_probs(torch.cat([tokens, ranks], 1))
    mixed = torch.tensor([[1, 0, 0, 1]])  # of the first two rows
    found, _ = prior.token_log_probs(torch.cat([mixed, ranks[:1]], 1))
    expected = torch.stack([network[0, 0], network[0, 1], network[1, 2], network[0, 3]])
    torch.testing.assert_close(found[0], expected)
    assert (network[0] - network[2]).abs()[1:].min() > 1e-3


def test_one_step_estimates_the_bound_over_orders() -> None:
    prior, tokens = prior_of(MaskedPrior, 1.0, n_steps=2), SEQUENCES[:5]
    orders = in_orders(tokens)
    exact = torch.stack([prior.token_log_probs(t)[0].sum(-1) for t in orders]).mean(0)
    steps = (torch.arange(len(prior.steps)) + 0.5) / len(prior.steps)
    noise = [torch.full((5, 7), step.item()).double() for step in steps]
    found = [prior.learned_log_prob(t, u) for t in orders for u in noise]
    torch.testing.assert_close(torch.stack(found).mean(0), exact)
    # Jensen: the mean of the logarithms is below the logarithm of the mean.
    assert (exact <= token_log_mass(prior, tokens) + 1e-12).all()


@pytest.mark.parametrize("levels", [(1,), (3,), (49,), (16, 49), (1, 4, 16)])
def test_steps_fill_every_place_once_and_level_by_level(
    levels: tuple[int, ...],
) -> None:
    steps = schedule(levels, 8)
    assert steps[0].start == 0
    assert steps[-1].end == sum(levels)
    assert all(one.end == two.start for one, two in itertools.pairwise(steps))
    assert len(steps) == sum(min(size, 8) for size in levels)
    ends, level = [sum(levels[: i + 1]) for i in range(len(levels))], 0
    for step in steps:
        level += step.start == ends[level]
        assert step.start < step.end <= step.level_end == ends[level]
        assert step.level == level


@random_orders
def test_ranks_are_orders_that_begin_at_the_top(family: Any) -> None:
    prior = start(family, 5, 3, levels=(2, 3))
    ranks = prior.ranks(torch.rand(100, 5, generator=generator()))
    assert (ranks.sort(-1).values == torch.arange(5)).all()
    assert (ranks[:, :2] < 2).all()
    assert len(ranks.unique(dim=0)) == 12


def test_in_the_order_of_the_places_it_is_the_autoregressive_prior() -> None:
    plain, prior = prior_of(AutoregressivePrior), prior_of(AnyOrderPrior)
    ranks = torch.arange(3).expand_as(SEQUENCES)
    found = prior.log_prob(torch.cat([SEQUENCES, ranks], 1))
    torch.testing.assert_close(found, plain.log_prob(SEQUENCES))


def test_tokens_depend_on_those_before_in_the_order_only() -> None:
    prior, tokens = prior_of(AnyOrderPrior, T=6, K=5), some_tokens(4, 6, 5)
    ranks = prior.ranks(torch.rand(4, 6, generator=generator(1)))
    outputs = prior.changes(torch.cat([tokens, ranks], 1))
    for place in range(6):
        other = tokens.clone()
        other[:, place] = (other[:, place] + 1) % 5
        change = (prior.changes(torch.cat([other, ranks], 1)) - outputs).abs().amax(2)
        assert ((change > 1e-3) == (ranks > ranks[:, place, None])).all()


@random_orders
def test_it_learns_from_one_step_or_order_at_a_time(family: Any) -> None:
    tokens = some_tokens(64, 2, 3).repeat(1, 2)
    prior, random = start(family, 4, 3), generator()
    optimizer = torch.optim.Adam(prior.parameters(), lr=2e-2)
    for _ in range(150):
        noise = torch.rand(64, prior.n_noise, generator=random)
        order = torch.cat([tokens, prior.ranks(noise[:, 4:8])], 1)
        loss = -prior.learned_log_prob(order, noise).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    log_prob = prior.token_log_probs(order)[0].sum(-1)
    assert -log_prob.mean().item() < 2 * math.log(3) + 0.3
