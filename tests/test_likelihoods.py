"""Likelihoods against torch.distributions, and against the laws of a density."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, distributions, nn
from torch.nn import functional as F

from skgen import VAE
from skgen._training.data import Rows
from skgen.likelihoods import (
    NAMES,
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    Laplace,
    Likelihood,
    StudentT,
    as_likelihood,
)
from tests.toys import generator, normal, uniform

pytestmark = pytest.mark.usefixtures("guarded_generators")

ROWS = normal(5, 3, seed=1)
OUTPUTS = normal(4, 5, 3, seed=2)  # four draws per row
BINARY = (ROWS > 0).double()
GREY = uniform(5, 3, seed=1)


def spread_over(n: int, outputs: Tensor) -> Tensor:
    """Repeat outputs (p,) for n rows."""
    return outputs.expand(n, len(outputs))


def levels_of(likelihood: Any, dtype: torch.dtype = torch.float64) -> Any:
    """Every level of one feature, as the networks see it, (n_levels, 1)."""
    levels = torch.arange(likelihood.n_levels, dtype=dtype)[:, None]
    return likelihood.standardizer(Rows(levels, None), True)(levels)


def with_log_sigma(kind: Any, log_sigma: Tensor) -> Any:
    likelihood = Gaussian(kind)
    likelihood.log_sigma.data = log_sigma
    return likelihood


GAUSSIANS: dict[str, Any] = {
    "fixed": lambda: Gaussian(0.7).double(),
    "shared": lambda: with_log_sigma("shared", torch.tensor(-0.3).double()),
    "feature": lambda: with_log_sigma("feature", normal(3, seed=3)),
}
every_gaussian = pytest.mark.parametrize("kind", GAUSSIANS)


@every_gaussian
def test_gaussian_is_the_normal_density(kind: str) -> None:
    likelihood = GAUSSIANS[kind]()
    expected = distributions.Normal(OUTPUTS, likelihood.sigma).log_prob(ROWS).sum(-1)
    torch.testing.assert_close(likelihood.log_prob(OUTPUTS, ROWS), expected)
    assert likelihood.log_prob(OUTPUTS, ROWS).shape == (4, 5)


@every_gaussian
def test_gaussian_draws_have_its_mean_and_spread(kind: str) -> None:
    likelihood = GAUSSIANS[kind]()
    outputs = OUTPUTS[0, :1].expand(40_000, 3)
    drawn = likelihood.draw(outputs, generator())
    torch.testing.assert_close(likelihood.mean(outputs), outputs)
    # Five standard errors of a mean, and of a standard deviation.
    sigma = likelihood.sigma.expand(3)
    assert ((drawn.mean(0) - outputs[0]).abs() < 5 * sigma / 200).all()
    assert ((drawn.std(0) / sigma - 1).abs() < 5 / 200 / math.sqrt(2)).all()


@pytest.mark.parametrize("kind", ["shared", "feature"])
def test_a_learned_sigma_has_a_floor(kind: Any) -> None:
    likelihood = Gaussian(kind, min_sigma=0.01)
    likelihood.log_sigma.data = torch.full((3,), -200.0, dtype=torch.float64)
    torch.testing.assert_close(likelihood.sigma, torch.full((3,), 0.01).double())
    # A row that is reconstructed perfectly has no more than the floor's density.
    peak = -3 * (math.log(0.01) + 0.5 * math.log(2 * math.pi))
    assert likelihood.log_prob(ROWS, ROWS).tolist() == pytest.approx([peak] * 5)


def test_the_floor_changes_a_wide_sigma_little() -> None:
    likelihood = with_log_sigma("shared", torch.tensor(0.0).double())
    assert 0 < likelihood.sigma.item() - 1 < 1e-6


def test_a_fixed_sigma_is_what_it_says_and_is_not_learned() -> None:
    likelihood = Gaussian(1e-5)
    assert likelihood.sigma.item() == pytest.approx(1e-5)
    assert not any(p.requires_grad for p in likelihood.parameters())


def test_a_learned_sigma_starts_at_the_spread_of_the_rows() -> None:
    feature, shared = Gaussian(min_sigma=0.0), Gaussian("shared", min_sigma=0.0)
    feature.set_rows(ROWS)
    shared.set_rows(ROWS)
    spread = ROWS.std(0, correction=0)
    torch.testing.assert_close(feature.sigma, spread)
    torch.testing.assert_close(shared.sigma**2, (spread**2).mean())


@pytest.mark.parametrize("sigma", ["feature", "shared", 0.5])
def test_a_constant_column_has_its_constant_for_mean(sigma: Any) -> None:
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


def test_a_constant_column_weighs_as_the_square_of_the_floor() -> None:
    likelihood = Gaussian(min_sigma=1e-3)
    likelihood.set_rows(torch.full((5, 1), 7.0))
    assert likelihood.sigma.item() == pytest.approx(1e-3, rel=1e-3)


# Sigma from the decoder.

PAIRS = normal(4, 5, 6, seed=2)  # mean and log sigma of three features


def test_gaussian_with_decoded_sigma_is_the_normal_density() -> None:
    mean, log_sigma = PAIRS[..., ::2], PAIRS[..., 1::2]
    expected = distributions.Normal(mean, log_sigma.exp()).log_prob(ROWS).sum(-1)
    likelihood = Gaussian("row", min_sigma=0.0)
    torch.testing.assert_close(likelihood.log_prob(PAIRS, ROWS), expected)
    assert likelihood.mean(PAIRS).equal(mean)
    assert not list(likelihood.parameters())


def test_a_decoded_sigma_has_a_floor() -> None:
    outputs = torch.tensor([[0.0, -200.0]]).double()
    peak = Gaussian("row", min_sigma=0.01).log_prob(outputs, torch.zeros(1, 1))
    assert peak.item() == pytest.approx(-math.log(0.01) - 0.5 * math.log(2 * math.pi))


def test_draws_with_decoded_sigma_have_its_mean_and_spread() -> None:
    outputs = PAIRS[0, 0]
    drawn = Gaussian("row", min_sigma=0.0).draw(
        spread_over(40_000, outputs), generator()
    )
    mean, sigma = outputs[::2], outputs[1::2].exp()
    assert ((drawn.mean(0) - mean).abs() < 5 * sigma / 200).all()
    assert ((drawn.std(0) / sigma - 1).abs() < 5 / 200 / math.sqrt(2)).all()


# Rows in [0, 1].


def test_bernoulli_is_the_bernoulli_mass() -> None:
    expected = distributions.Bernoulli(logits=OUTPUTS).log_prob(BINARY).sum(-1)
    torch.testing.assert_close(Bernoulli().log_prob(OUTPUTS, BINARY), expected)


def test_bernoulli_sums_to_one() -> None:
    rows = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3))).double()
    log_mass = Bernoulli().log_prob(OUTPUTS[0, :1].expand(8, 3), rows)
    assert log_mass.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_bernoulli_stays_finite_at_extreme_logits() -> None:
    log_mass = Bernoulli().log_prob(torch.tensor([[500.0, -500.0]]), torch.ones(1, 2))
    assert log_mass.item() == -500


def test_bernoulli_draws_have_its_mean() -> None:
    outputs = OUTPUTS[0, :1].expand(40_000, 3)
    drawn = Bernoulli().draw(outputs, generator())
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    p = Bernoulli().mean(outputs)[0]
    torch.testing.assert_close(p, outputs[0].sigmoid())
    assert ((drawn.mean(0) - p).abs() < 5 * (p * (1 - p)).sqrt() / 200).all()


def test_dynamic_rows_are_ones_with_the_probability_that_they_say() -> None:
    likelihood, grey = Bernoulli(binarize="dynamic"), GREY[0]
    drawn = likelihood.observe(spread_over(40_000, grey), uniform(40_000, 3))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert ((drawn.mean(0) - grey).abs() < 5 * (grey * (1 - grey)).sqrt() / 200).all()


def test_binary_rows_are_observed_as_they_are() -> None:
    likelihood, noise = Bernoulli(binarize="dynamic"), torch.zeros(5, 3)
    noise[:, 0] = 1 - 2**-24  # the largest uniform number in float32
    assert likelihood.observe(BINARY, noise).equal(BINARY)
    assert likelihood.draws_rows


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(), Categorical()])
def test_other_rows_are_observed_as_they_are(likelihood: Any) -> None:
    assert likelihood.observe(GREY, uniform(5, 3, seed=2)).equal(GREY)
    assert not likelihood.draws_rows


def test_dynamic_rows_do_not_warn() -> None:
    Bernoulli(binarize="dynamic").set_rows(GREY)


# Logits on both sides of the series, and far out.
LOGITS = torch.tensor([0.0, 1e-9, 1e-3, 0.4999, 0.5001, 3.0, 30.0, 300.0]).double()
LOGITS = torch.cat([-LOGITS.flip(0), LOGITS])


def quadrature(n: int = 400) -> tuple[Any, ...]:
    """Nodes (n, 1) and weights (n,) on [0, 1], dense at both ends."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    u, w = torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    return (u * u * (3 - 2 * u))[:, None], w * 6 * u * (1 - u)


def test_continuous_bernoulli_is_the_density_of_torch() -> None:
    # torch clamps probabilities, and so far logits.
    logits = LOGITS[LOGITS.abs() < 10, None]
    x = torch.full_like(logits, 0.3)
    expected = distributions.ContinuousBernoulli(logits=logits).log_prob(x).sum(-1)
    torch.testing.assert_close(
        ContinuousBernoulli().log_prob(logits, x), expected, rtol=1e-8, atol=1e-8
    )


def test_continuous_bernoulli_integrates_to_one_and_to_its_mean() -> None:
    x, weights = quadrature()
    likelihood = ContinuousBernoulli()
    p = likelihood.log_prob(LOGITS[:, None, None].expand(-1, len(x), 1), x).exp()
    assert (p @ weights - 1).abs().max() < 1e-13
    mean = likelihood.mean(LOGITS)
    assert (p @ (weights * x[:, 0]) - mean).abs().max() < 1e-13


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_mean_of_continuous_bernoulli_is_the_slope_of_its_normaliser(
    dtype: torch.dtype,
) -> None:
    logits = LOGITS.to(dtype).requires_grad_()
    zeros = torch.zeros(len(logits), 1, dtype=dtype)
    total = ContinuousBernoulli().log_prob(logits[:, None], zeros).sum()
    slope = -torch.autograd.grad(total, logits)[0]
    torch.testing.assert_close(
        ContinuousBernoulli().mean(logits),
        slope,
        rtol=0,
        atol=torch.finfo(dtype).eps * 8,
    )


def test_continuous_bernoulli_draws_have_its_distribution() -> None:
    drawn = ContinuousBernoulli().draw(spread_over(40_000, LOGITS), generator())
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    # The distribution function makes draws uniform; five standard errors.
    t = LOGITS.abs().clamp(min=1e-12)
    mirrored = torch.where(LOGITS > 0, 1 - drawn, drawn)
    u = torch.expm1(-t * mirrored) / torch.expm1(-t)
    assert ((u.mean(0) - 1 / 2).abs() < 5 / 200 / math.sqrt(12)).all()
    assert (((u**2).mean(0) - 1 / 3).abs() < 5 / 200 * math.sqrt(4 / 45)).all()


def test_continuous_bernoulli_warns_of_binary_rows() -> None:
    with pytest.warns(UserWarning, match="no ceiling"):
        ContinuousBernoulli().see_rows([(normal(30, 3) > 0).double()])
    ContinuousBernoulli().see_rows([uniform(30, 3)])


# Rows with heavy tails.


def with_df(kind: Any, df: Any) -> Any:
    likelihood = StudentT("feature", df=kind).double()
    likelihood.log_sigma.data = normal(3, seed=3)
    if kind == "feature":
        likelihood.log_df.data = df.log()
    return likelihood


def laplace() -> Any:
    likelihood = Laplace("feature").double()
    likelihood.log_sigma.data = normal(3, seed=3)
    return likelihood


TAILED: dict[str, Any] = {
    "laplace": laplace,
    "tails each": lambda: with_df("feature", 3 + uniform(3, seed=4)),
    "one tail": lambda: with_df("shared", None),
    "given tail": lambda: with_df(5.0, None),
}
every_tail = pytest.mark.parametrize("kind", TAILED)


def known_density(likelihood: Any, mean: Any) -> Any:
    """The density as torch has it."""
    if isinstance(likelihood, Laplace):
        return distributions.Laplace(mean, likelihood.sigma / math.sqrt(2))
    return distributions.StudentT(likelihood.df, mean, likelihood.sigma)


@every_tail
def test_heavy_tails_are_those_of_the_density_of_that_name(kind: Any) -> None:
    likelihood = TAILED[kind]()
    expected = known_density(likelihood, OUTPUTS).log_prob(ROWS).sum(-1)
    torch.testing.assert_close(likelihood.log_prob(OUTPUTS, ROWS), expected)


@every_tail
def test_draws_with_heavy_tails_have_their_distribution(kind: Any) -> None:
    likelihood, n = TAILED[kind]().requires_grad_(False), 20_000
    outputs = OUTPUTS[0, :1].expand(n, 3)
    drawn = likelihood.draw(outputs, generator()).numpy()
    for column, (scale, mean) in enumerate(zip(likelihood.sigma, outputs[0])):
        if kind == "laplace":
            law = stats.laplace(float(mean), float(scale) / math.sqrt(2))
        else:
            df = likelihood.df.expand(3)[column]
            law = stats.t(float(df), float(mean), float(scale))
        assert stats.kstest(drawn[:, column], law.cdf).pvalue > 1e-3


def test_many_degrees_of_freedom_are_a_normal_density() -> None:
    student, gaussian = StudentT(0.7, df=1e7).double(), Gaussian(0.7).double()
    torch.testing.assert_close(
        student.log_prob(OUTPUTS, ROWS),
        gaussian.log_prob(OUTPUTS, ROWS),
        rtol=1e-5,
        atol=1e-4,
    )


@pytest.mark.parametrize("df", [1.0, 0.5, math.inf, "row", None, True])
def test_degrees_of_freedom_without_a_mean_are_refused(df: Any) -> None:
    with pytest.raises(ValueError, match="The 'df' parameter of StudentT"):
        StudentT(df=df)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_learned_tails_are_those_of_the_rows() -> None:
    rng = np.random.RandomState(0)
    X = np.column_stack([rng.standard_t(3, 4000), rng.randn(4000)])
    settings: dict[str, Any] = {
        "hidden_layer_sizes": (),
        "max_iter": 60,
        "random_state": 0,
    }
    student = VAE(1, likelihood="student_t", **settings).fit(X)
    heavy, light = student.module_.likelihood.df.tolist()
    assert 2 < heavy < 4.5 < 8 < light
    normal_rows = VAE(1, **settings).fit(X)
    far = np.array([[25.0, 0.0]])
    assert student.score(X) > normal_rows.score(X) + 0.05
    assert student.score(far) > normal_rows.score(far) + 20


# Rows of levels.

LEVELLED: dict[str, Any] = {
    "logistic": DiscretizedLogistic,
    "categorical": Categorical,
}
both_levelled = pytest.mark.parametrize("kind", LEVELLED)
every_count = pytest.mark.parametrize("n_levels", [2, 3, 17, 256])


def outputs_for(likelihood: Any, seed: int, spread: Any = 3.0) -> Any:
    """Outputs (50, n_outputs) for one feature."""
    return spread * normal(50, likelihood.n_outputs, seed=seed)


@both_levelled
@every_count
@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float64, 1e-13), (torch.float32, 2e-6)]
)
def test_the_masses_of_all_levels_sum_to_one(
    kind: str, n_levels: int, dtype: torch.dtype, error: float
) -> None:
    likelihood = LEVELLED[kind](n_levels)
    outputs = outputs_for(likelihood, seed=5).to(dtype)[:, None]
    x = levels_of(likelihood, dtype)
    log_mass = likelihood.log_prob(outputs.expand(-1, n_levels, -1), x)
    assert log_mass.dtype == dtype
    assert (log_mass.exp().sum(1) - 1).abs().max() < error
    assert log_mass.max() <= error


@both_levelled
@every_count
def test_the_mean_of_levels_is_their_expectation(kind: str, n_levels: int) -> None:
    likelihood = LEVELLED[kind](n_levels)
    outputs, x = outputs_for(likelihood, seed=6)[:, None], levels_of(likelihood)
    mass = likelihood.log_prob(outputs.expand(-1, n_levels, -1), x).exp()
    torch.testing.assert_close(likelihood.mean(outputs)[:, 0], mass @ x)


@both_levelled
def test_draws_of_levels_have_their_masses(kind: str) -> None:
    likelihood = LEVELLED[kind](4)
    outputs, x = outputs_for(likelihood, seed=8)[0], levels_of(likelihood)
    drawn = likelihood.draw(spread_over(40_000, outputs), generator())
    frequencies = (drawn == x.T).double().mean(0)
    mass = likelihood.log_prob(spread_over(4, outputs), x).exp()
    assert frequencies.sum() == 1
    assert ((frequencies - mass).abs() <= 5 * (mass * (1 - mass)).sqrt() / 200).all()


def test_the_discretised_logistic_is_a_difference_of_the_distribution_function() -> (
    None
):
    likelihood = DiscretizedLogistic(5)  # levels are 1/2 apart
    outputs = torch.tensor([[0.1, -1.0]]).double()

    def up_to(edge: Any) -> Any:
        return torch.sigmoid((torch.tensor(edge).double() - 0.1) / math.exp(-1))

    between = [up_to(edge) for edge in (-0.75, -0.25, 0.25, 0.75)]
    expected = torch.stack([*between, torch.tensor(1.0)]).diff(prepend=torch.zeros(1))
    mass = likelihood.log_prob(outputs.expand(5, 2), levels_of(likelihood)).exp()
    torch.testing.assert_close(mass, expected)


def test_the_categorical_is_that_of_torch() -> None:
    outputs, levels = normal(4, 5, 3 * 7, seed=2), torch.arange(15).view(5, 3) % 7
    x = levels_of(Categorical(7))[levels, 0]
    logits = outputs.unflatten(-1, (3, 7))
    expected = distributions.Categorical(logits=logits).log_prob(levels).sum(-1)
    torch.testing.assert_close(Categorical(7).log_prob(outputs, x), expected)


@both_levelled
@pytest.mark.parametrize("n_levels", [2, 3, 17, 100, 256, 65536])
def test_levels_come_back_exactly_and_are_seen_within_minus_one_and_one(
    kind: str, n_levels: int
) -> None:
    likelihood = LEVELLED[kind](n_levels)
    levels = torch.arange(n_levels, dtype=torch.float32)[:, None]
    standardizer = likelihood.standardizer(Rows(levels, None), False)
    seen = standardizer(levels)
    assert standardizer.inverse(seen).equal(levels)
    assert seen.abs().max() <= 1
    assert standardizer.log_scale == 0


@both_levelled
def test_draws_of_levels_are_levels_in_float32(kind: str) -> None:
    likelihood = LEVELLED[kind](100)
    outputs = outputs_for(likelihood, seed=9).float()
    drawn = likelihood.draw(outputs, generator())
    rows = likelihood.standardizer(Rows(drawn, None), True).inverse(drawn)
    assert rows.frac().abs().max() == 0
    assert rows.min() >= 0
    assert rows.max() <= 99


# All of them.

EVERY: dict[str, Any] = {
    **GAUSSIANS,
    **TAILED,
    "row": lambda: Gaussian("row"),
    "bernoulli": Bernoulli,
    "continuous": ContinuousBernoulli,
    "logistic": DiscretizedLogistic,
    "categorical": Categorical,
}
every_likelihood = pytest.mark.parametrize("kind", EVERY)


def rows_for(likelihood: Any, n: int = 5) -> Any:
    """Rows (n, 3) in the support, as the networks see them."""
    if isinstance(likelihood, (Gaussian, Laplace, StudentT)):
        return normal(n, 3, seed=1)
    if isinstance(likelihood, (DiscretizedLogistic, Categorical)):
        levels = likelihood.n_levels * uniform(n, 3, seed=1)
        return levels_of(likelihood)[levels.long(), 0]
    x = uniform(n, 3, seed=1)
    return x if isinstance(likelihood, ContinuousBernoulli) else x.round()


@every_likelihood
def test_a_seed_repeats_a_draw(kind: str) -> None:
    likelihood = EVERY[kind]()
    outputs = normal(5, 3 * likelihood.n_outputs, seed=2)
    first, second, other = (likelihood.draw(outputs, generator(s)) for s in (1, 1, 2))
    assert first.shape == (5, 3)
    assert first.equal(second)
    assert not first.equal(other)


@every_likelihood
def test_narrow_numbers_agree_with_wide_ones(kind: str) -> None:
    likelihood = EVERY[kind]()
    outputs, x = normal(4, 5, 3 * likelihood.n_outputs, seed=2), rows_for(likelihood)
    wide, mean = likelihood.log_prob(outputs, x), likelihood.mean(outputs)
    likelihood.float()
    narrow = likelihood.log_prob(outputs.float(), x.float())
    assert narrow.dtype == torch.float32
    assert wide.shape == narrow.shape == (4, 5)
    torch.testing.assert_close(narrow.double(), wide, rtol=2e-6, atol=2e-6)
    narrow_mean = likelihood.mean(outputs.float()).double()
    torch.testing.assert_close(narrow_mean, mean, rtol=2e-6, atol=2e-6)


@every_likelihood
@pytest.mark.parametrize("size", [100.0, 1e6])
def test_extreme_outputs_have_finite_gradients(kind: str, size: float) -> None:
    likelihood = EVERY[kind]().float()
    x = rows_for(likelihood).float()
    signs = normal(4, 5, 3 * likelihood.n_outputs, seed=2).sign().float()
    outputs = (size * signs).requires_grad_()
    log_prob = likelihood.log_prob(outputs, x)
    gradient = torch.autograd.grad(log_prob.sum(), outputs)[0]
    assert log_prob.isfinite().all()
    assert gradient.isfinite().all()
    assert likelihood.mean(outputs).isfinite().all()
    assert likelihood.draw(outputs, generator()).isfinite().all()


def slope_at_the_start(likelihood: Any, x: Tensor) -> Any:
    """Gradient of the mean log p(x) at the outputs that a decoder starts from."""
    likelihood.set_rows(x)
    outputs = likelihood.initial_outputs(x).requires_grad_()
    log_prob = likelihood.log_prob(spread_over(len(x), outputs), x).mean()
    return torch.autograd.grad(log_prob, outputs)[0]


@pytest.mark.parametrize(
    "likelihood",
    [
        Gaussian(0.5),
        Gaussian("shared"),
        Gaussian("feature"),
        Gaussian("row", min_sigma=0.0),
        ContinuousBernoulli(),
    ],
)
def test_a_decoder_starts_from_the_best_constant(likelihood: Any) -> None:
    gradient = slope_at_the_start(likelihood, rows_for(likelihood, 40))
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("likelihood", [Bernoulli(), Categorical(3)])
def test_a_decoder_starts_from_the_best_constant_with_one_more_row(
    likelihood: Any,
) -> None:
    x = rows_for(likelihood, 40)
    outputs = likelihood.initial_outputs(x).requires_grad_()
    support = torch.tensor([0.0, 1.0]).double()[:, None]
    support = levels_of(likelihood) if isinstance(likelihood, Categorical) else support
    more = likelihood.log_prob(
        spread_over(len(support), outputs), support.expand(-1, 3)
    )
    total = likelihood.log_prob(spread_over(40, outputs), x).sum() + more.mean()
    assert torch.autograd.grad(total, outputs)[0].abs().max() < 1e-12


def test_a_discretised_logistic_starts_from_the_moments() -> None:
    likelihood, true = DiscretizedLogistic(), torch.tensor([0.1, -2.5]).double()
    x = likelihood.draw(spread_over(20_000, true), generator())
    start = likelihood.initial_outputs(x)
    torch.testing.assert_close(start, true, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    "likelihood",
    [
        Gaussian("row"),
        Bernoulli(),
        ContinuousBernoulli(),
        DiscretizedLogistic(3),
        Categorical(3),
    ],
)
@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_a_constant_column_starts_from_finite_outputs(
    likelihood: Any, value: float
) -> None:
    if isinstance(likelihood, (Bernoulli, ContinuousBernoulli)):
        value = max(value, 0.0)
    x = torch.full((30, 1), value)
    likelihood.set_rows(x)
    outputs = likelihood.initial_outputs(x)
    assert outputs.shape == (likelihood.n_outputs,)
    assert outputs.isfinite().all()


# The scale of rows.


@pytest.mark.parametrize("weight", [None, torch.arange(1.0, 6.0)])
def test_a_density_on_the_line_is_standardised_by_the_weighted_moments(
    weight: Tensor | None,
) -> None:
    standardizer = Gaussian().standardizer(Rows(3 * ROWS + 7, weight), True)
    z = standardizer(3 * ROWS + 7)
    w = torch.ones(5).double() if weight is None else weight.double()
    w = w / w.sum()
    torch.testing.assert_close(w @ z, torch.zeros(3).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(w @ z**2, torch.ones(3).double())


@pytest.mark.parametrize(
    ("likelihood", "standardize"),
    [(Gaussian(), False), (Bernoulli(), True), (ContinuousBernoulli(), True)],
)
def test_other_rows_are_seen_as_they_are(likelihood: Any, standardize: bool) -> None:
    standardizer = likelihood.standardizer(Rows(GREY, None), standardize)
    assert standardizer(GREY).equal(GREY)
    assert standardizer.log_scale == 0


# Errors.


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, "rows", None, True])
def test_sigma_must_be_a_name_or_positive(sigma: Any) -> None:
    with pytest.raises(ValueError, match="'sigma' parameter of Gaussian must be"):
        Gaussian(sigma)


@pytest.mark.parametrize("min_sigma", [-1e-3, math.nan, "small", None])
def test_min_sigma_must_not_be_negative(min_sigma: Any) -> None:
    with pytest.raises(ValueError, match="'min_sigma' parameter of Gaussian must be"):
        Gaussian(min_sigma=min_sigma)


@pytest.mark.parametrize("binarize", ["static", True, 0])
def test_binarize_must_be_dynamic_or_none(binarize: Any) -> None:
    with pytest.raises(ValueError, match="'binarize' parameter of Bernoulli must be"):
        Bernoulli(binarize)


@both_levelled
@pytest.mark.parametrize("n_levels", [1, 0, 2.0, "256", None, True, 2**16 + 1])
def test_there_must_be_two_levels(kind: str, n_levels: Any) -> None:
    with pytest.raises(ValueError, match=r"'n_levels' parameter of .* must be an int"):
        LEVELLED[kind](n_levels)


@pytest.mark.parametrize("value", [-0.1, 1.1])
@pytest.mark.parametrize(
    ("likelihood", "name"),
    [
        (Bernoulli(), "bernoulli"),
        (Bernoulli("dynamic"), "bernoulli"),
        (ContinuousBernoulli(), "continuous_bernoulli"),
    ],
)
def test_rows_outside_the_unit_interval_are_refused(
    likelihood: Any, name: str, value: float
) -> None:
    X = BINARY.numpy().copy()
    likelihood.check_rows(X, "VAE")
    X[0, 0] = value
    words = rf"VAE with likelihood='{name}' needs X in the range \[0, 1\]"
    with pytest.raises(ValueError, match=words):
        likelihood.check_rows(X, "VAE")


@both_levelled
@pytest.mark.parametrize("value", [-1, 9, 0.5])
def test_rows_that_are_no_levels_are_refused_by_column(kind: str, value: float) -> None:
    X = np.arange(9.0).reshape(3, 3)
    likelihood = LEVELLED[kind](9)
    likelihood.check_rows(X, "VAE")
    X[1, 2] = value
    words = rf"integers in the range \[0, 8\], but column 2 has the value {value}"
    with pytest.raises(ValueError, match=words):
        likelihood.check_rows(X, "VAE")


def test_an_estimator_checks_its_rows() -> None:
    with pytest.raises(ValueError, match="VAE with likelihood='bernoulli' needs X"):
        VAE(likelihood="bernoulli").fit(BINARY.numpy() + 1)


def test_bernoulli_warns_of_rows_without_probability() -> None:
    with pytest.warns(UserWarning, match="strictly between 0 and 1"):
        Bernoulli().set_rows(torch.tensor([[0.0, 0.5]]))
    Bernoulli().set_rows(torch.tensor([[0.0, 1.0]]))


def test_names_and_objects_are_likelihoods() -> None:
    mine = Gaussian(0.3)
    assert as_likelihood(mine) is mine
    kinds = [type(as_likelihood(name)) for name in NAMES]
    assert kinds == [
        Gaussian,
        Laplace,
        StudentT,
        Bernoulli,
        ContinuousBernoulli,
        DiscretizedLogistic,
        Categorical,
    ]


# Inside an estimator.

# Rows as a user gives them: 0, 1, ..., 4, and in [0, 1].
COUNTED = (5 * uniform(60, 3, seed=1)).floor().numpy()
IN_MODELS: dict[str, Any] = {
    "row": (Gaussian("row"), normal(60, 3, seed=1).numpy()),
    "laplace": (Laplace(), normal(60, 3, seed=1).numpy()),
    "student": (StudentT(), normal(60, 3, seed=1).numpy()),
    "bernoulli": (Bernoulli(), (COUNTED > 2).astype(float)),
    "dynamic": (Bernoulli("dynamic"), COUNTED / 4),
    "continuous": (ContinuousBernoulli(), COUNTED / 4),
    "logistic": (DiscretizedLogistic(5), COUNTED),
    "categorical": (Categorical(5), COUNTED),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", IN_MODELS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_model_draws_rows_that_it_can_score(kind: str, dtype: type[Any]) -> None:
    likelihood, X = IN_MODELS[kind]
    X = X.astype(dtype)
    model = VAE(2, likelihood=likelihood, max_iter=2, random_state=0).fit(X)
    drawn = model.sample(50, random_state=0)
    assert drawn.dtype == dtype
    assert np.isfinite(model.score_samples(drawn)).all()
    if kind not in ("row", "laplace", "student"):
        assert drawn.min() >= 0
        assert drawn.max() <= X.max()
        mean = model.reconstruct(X)
        assert mean.min() >= 0
        assert mean.max() <= X.max()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["logistic", "categorical"])
def test_a_score_of_levels_is_a_log_mass(kind: str) -> None:
    likelihood, X = IN_MODELS[kind]
    model = VAE(2, likelihood=likelihood, max_iter=2, random_state=0).fit(X)
    every = np.array(list(itertools.product(range(5), repeat=3)), dtype=float)
    total = np.exp(model.log_likelihood(every, 2000).log_prob).sum()
    assert total == pytest.approx(1, abs=0.005)


class NormalOfEachRow(Likelihood):
    """A likelihood of the user: the decoder gives mean and spread."""

    n_outputs = 2

    def log_prob(self, outputs: Tensor, x: Tensor) -> Any:
        mean, raw = outputs.chunk(2, dim=-1)
        return distributions.Normal(mean, F.softplus(raw) + 0.1).log_prob(x).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        return outputs.chunk(2, dim=-1)[0]

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        mean, raw = outputs.chunk(2, dim=-1)
        noise = torch.empty_like(mean).normal_(generator=generator)
        return mean + (F.softplus(raw) + 0.1) * noise


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_likelihood_of_the_user_may_have_two_outputs_a_feature() -> None:
    X = normal(60, 3, seed=4).numpy()
    model = VAE(2, likelihood=NormalOfEachRow(), max_iter=3, random_state=0).fit(X)
    assert model.module_.decoder[-1].out_features == 6
    assert np.isfinite(model.score_samples(X)).all()
    assert model.reconstruct(X).shape == model.sample(60).shape == X.shape


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_likelihood_object_is_copied_at_fit() -> None:
    likelihood = Gaussian("shared")
    before = nn.utils.parameters_to_vector(likelihood.parameters()).clone()
    model = VAE(2, likelihood=likelihood, max_iter=3, random_state=0)
    model.fit(normal(40, 3, seed=4).numpy())
    after = nn.utils.parameters_to_vector(likelihood.parameters())
    assert before.equal(after)
    assert model.module_.likelihood.sigma.item() != likelihood.sigma.item()
