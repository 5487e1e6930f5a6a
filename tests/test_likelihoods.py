"""Likelihoods against torch.distributions, and against the laws of a density."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import distributions, nn
from torch.nn import functional as F
from toys import generator, normal

from skgen import VAE
from skgen.likelihoods import Bernoulli, Gaussian, Likelihood, as_likelihood

pytestmark = pytest.mark.usefixtures("guarded_generators")

ROWS = normal(5, 3, seed=1)
OUTPUTS = normal(4, 5, 3, seed=2)  # four draws a row
BINARY = (ROWS > 0).double()


def with_log_sigma(kind, log_sigma):
    likelihood = Gaussian(kind)
    likelihood.log_sigma.data = log_sigma
    return likelihood


GAUSSIANS = {
    "fixed": lambda: Gaussian(0.7).double(),
    "shared": lambda: with_log_sigma("shared", torch.tensor(-0.3).double()),
    "feature": lambda: with_log_sigma("feature", normal(3, seed=3)),
}
every_gaussian = pytest.mark.parametrize("kind", GAUSSIANS)


@every_gaussian
def test_gaussian_is_the_normal_density(kind):
    likelihood = GAUSSIANS[kind]()
    expected = distributions.Normal(OUTPUTS, likelihood.sigma).log_prob(ROWS).sum(-1)
    torch.testing.assert_close(likelihood.log_prob(OUTPUTS, ROWS), expected)
    assert likelihood.log_prob(OUTPUTS, ROWS).shape == (4, 5)


@every_gaussian
def test_gaussian_draws_have_its_mean_and_spread(kind):
    likelihood = GAUSSIANS[kind]()
    outputs = OUTPUTS[0, :1].expand(40_000, 3)
    drawn = likelihood.draw(outputs, generator())
    torch.testing.assert_close(likelihood.mean(outputs), outputs)
    # Five standard errors of a mean, and of a standard deviation.
    sigma = likelihood.sigma.expand(3)
    assert ((drawn.mean(0) - outputs[0]).abs() < 5 * sigma / 200).all()
    assert ((drawn.std(0) / sigma - 1).abs() < 5 / 200 / math.sqrt(2)).all()


@pytest.mark.parametrize("kind", ["shared", "feature"])
def test_a_learned_sigma_has_a_floor(kind):
    likelihood = Gaussian(kind, min_sigma=0.01)
    likelihood.log_sigma.data = torch.full((3,), -200.0, dtype=torch.float64)
    torch.testing.assert_close(likelihood.sigma, torch.full((3,), 0.01).double())
    # A row that is reconstructed perfectly has no more than the floor's density.
    peak = -3 * (math.log(0.01) + 0.5 * math.log(2 * math.pi))
    assert likelihood.log_prob(ROWS, ROWS).tolist() == pytest.approx([peak] * 5)


def test_the_floor_changes_a_wide_sigma_little():
    likelihood = with_log_sigma("shared", torch.tensor(0.0).double())
    assert 0 < likelihood.sigma.item() - 1 < 1e-6


def test_a_fixed_sigma_is_what_it_says_and_is_not_learned():
    likelihood = Gaussian(1e-5)
    assert likelihood.sigma.item() == pytest.approx(1e-5)
    assert not any(p.requires_grad for p in likelihood.parameters())


def test_a_learned_sigma_starts_at_the_spread_of_the_rows():
    feature, shared = Gaussian(min_sigma=0.0), Gaussian("shared", min_sigma=0.0)
    feature.set_rows(ROWS)
    shared.set_rows(ROWS)
    spread = ROWS.std(0, correction=0)
    torch.testing.assert_close(feature.sigma, spread)
    torch.testing.assert_close(shared.sigma**2, (spread**2).mean())


@pytest.mark.parametrize("sigma", ["feature", "shared", 0.5])
def test_a_constant_column_has_its_constant_for_mean(sigma):
    likelihood, x = Gaussian(sigma), torch.cat([ROWS, torch.full((5, 1), 7.0)], dim=1)
    likelihood.set_rows(x)
    outputs = normal(4, 5, 4, seed=2)
    assert likelihood.mean(outputs)[..., :3].equal(outputs[..., :3])
    assert (likelihood.mean(outputs)[..., 3] == 7).all()
    drawn = likelihood.draw(outputs, generator())
    noise = (drawn - likelihood.mean(outputs)) / likelihood.sigma
    assert noise[..., 3].abs().max() < 4
    expected = distributions.Normal(likelihood.mean(outputs), likelihood.sigma)
    log_prob = expected.log_prob(x).sum(-1)
    torch.testing.assert_close(likelihood.log_prob(outputs, x), log_prob)


def test_a_constant_column_weighs_as_the_square_of_the_floor():
    likelihood = Gaussian(min_sigma=1e-3)
    likelihood.set_rows(torch.full((5, 1), 7.0))
    assert likelihood.sigma.item() == pytest.approx(1e-3, rel=1e-3)


def test_bernoulli_is_the_bernoulli_mass():
    expected = distributions.Bernoulli(logits=OUTPUTS).log_prob(BINARY).sum(-1)
    torch.testing.assert_close(Bernoulli().log_prob(OUTPUTS, BINARY), expected)


def test_bernoulli_sums_to_one():
    rows = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3))).double()
    log_mass = Bernoulli().log_prob(OUTPUTS[0, :1].expand(8, 3), rows)
    assert log_mass.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_bernoulli_stays_finite_at_extreme_logits():
    log_mass = Bernoulli().log_prob(torch.tensor([[500.0, -500.0]]), torch.ones(1, 2))
    assert log_mass.item() == -500


def test_bernoulli_draws_have_its_mean():
    outputs = OUTPUTS[0, :1].expand(40_000, 3)
    drawn = Bernoulli().draw(outputs, generator())
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    p = Bernoulli().mean(outputs)[0]
    torch.testing.assert_close(p, outputs[0].sigmoid())
    assert ((drawn.mean(0) - p).abs() < 5 * (p * (1 - p)).sqrt() / 200).all()


@pytest.mark.parametrize("likelihood", [Gaussian(0.5), Bernoulli()])
def test_a_seed_repeats_a_draw(likelihood):
    first, second, other = (likelihood.draw(OUTPUTS, generator(s)) for s in (1, 1, 2))
    assert first.equal(second)
    assert not first.equal(other)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, "row", None, True])
def test_sigma_must_be_a_name_or_positive(sigma):
    with pytest.raises(ValueError, match="'sigma' parameter of Gaussian must be"):
        Gaussian(sigma)


@pytest.mark.parametrize("min_sigma", [-1e-3, math.nan, "small", None])
def test_min_sigma_must_not_be_negative(min_sigma):
    with pytest.raises(ValueError, match="'min_sigma' parameter of Gaussian must be"):
        Gaussian(min_sigma=min_sigma)


@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_bernoulli_refuses_rows_outside_its_support(value):
    X = BINARY.numpy().copy()
    X[0, 0] = value
    with pytest.raises(ValueError, match=r"needs X in the range \[0, 1\]"):
        VAE(likelihood="bernoulli").fit(X)


def test_bernoulli_warns_of_rows_without_probability():
    with pytest.warns(UserWarning, match="strictly between 0 and 1"):
        Bernoulli().set_rows(torch.tensor([[0.0, 0.5]]))
    Bernoulli().set_rows(torch.tensor([[0.0, 1.0]]))


def test_names_and_objects_are_likelihoods():
    mine = Gaussian(0.3)
    assert as_likelihood(mine) is mine
    assert isinstance(as_likelihood("gaussian"), Gaussian)
    assert isinstance(as_likelihood("bernoulli"), Bernoulli)


class NormalOfEachRow(Likelihood):
    """A likelihood of the user: the decoder gives mean and spread."""

    n_outputs = 2

    def log_prob(self, outputs, x):
        mean, raw = outputs.chunk(2, dim=-1)
        return distributions.Normal(mean, F.softplus(raw) + 0.1).log_prob(x).sum(-1)

    def mean(self, outputs):
        return outputs.chunk(2, dim=-1)[0]

    def draw(self, outputs, generator):
        mean, raw = outputs.chunk(2, dim=-1)
        noise = torch.empty_like(mean).normal_(generator=generator)
        return mean + (F.softplus(raw) + 0.1) * noise


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_likelihood_of_the_user_may_have_two_outputs_a_feature():
    X = normal(60, 3, seed=4).numpy()
    model = VAE(2, likelihood=NormalOfEachRow(), max_iter=3, random_state=0).fit(X)
    assert model.module_.decoder[-1].out_features == 6
    assert np.isfinite(model.score_samples(X)).all()
    assert model.reconstruct(X).shape == model.sample(60).shape == X.shape


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_likelihood_object_is_copied_at_fit():
    likelihood = Gaussian("shared")
    before = nn.utils.parameters_to_vector(likelihood.parameters()).clone()
    model = VAE(2, likelihood=likelihood, max_iter=3, random_state=0)
    model.fit(normal(40, 3, seed=4).numpy())
    after = nn.utils.parameters_to_vector(likelihood.parameters())
    assert before.equal(after)
    assert model.module_.likelihood.sigma.item() != likelihood.sigma.item()
