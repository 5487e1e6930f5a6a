"""Columns one after the other: an exact density, in the order that is asked for."""

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from torch import Tensor

import skgen
from skgen import VAE, VQVAE, GaussianDensity
from skgen.likelihoods import (
    Autoregressive,
    Bernoulli,
    Categorical,
    Gaussian,
    Likelihood,
    Mixed,
)
from tests.toys import generator, leaves_generators, normal

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    # Few epochs, on purpose.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

ORDERS: list[Any] = ["given", "random", (2, 0, 3, 1)]
every_order = pytest.mark.parametrize("order", ORDERS, ids=str)
BINARY = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4))).double()
SMALL: dict[str, Any] = {
    "hidden_layer_sizes": (16,),
    "learning_rate_init": 1e-2,
    "max_iter": 30,
    "random_state": 0,
}
PAIRS = np.repeat(np.random.RandomState(0).randint(2, size=(400, 2)), 2, axis=1)


@leaves_generators
def toy(base: Likelihood, rows: Tensor, order: Any = "given", n: int = 6) -> Any:
    """A likelihood in float64 whose weights are large."""
    likelihood = Autoregressive(base, order, n).as_part().double()
    likelihood.set_rows(rows)
    weights = (likelihood.first, likelihood.last, likelihood.linear)
    for seed, p in enumerate(weights):
        p.data = normal(*p.shape, seed=seed + 5)
    return likelihood


def outputs_for(likelihood: Any, n: int, d: int = 4) -> Tensor:
    """One row of outputs, n times."""
    return normal(1, likelihood.decoder_width(d), seed=3).expand(n, -1)


# The density.


@every_order
@pytest.mark.parametrize("n_hidden", [1, 6, 40])
def test_it_sums_to_one_over_binary_rows(order: Any, n_hidden: int) -> None:
    likelihood = toy(Bernoulli(), BINARY, order, n_hidden)
    log_prob = likelihood.log_prob(outputs_for(likelihood, 16), BINARY)
    assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert likelihood.is_mass


def test_levels_and_counts_sum_to_one() -> None:
    rows = torch.tensor(list(itertools.product(range(3), repeat=3))).double()
    likelihood = toy(Mixed([3, ("ordinal", 3), 3]), rows, (1, 2, 0))
    outputs = outputs_for(likelihood, 27, d=3)
    total = likelihood.log_prob(outputs, rows).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-12)


def test_numbers_integrate_to_one() -> None:
    likelihood = toy(Gaussian(0.5).double(), normal(9, 2))
    line = torch.linspace(-12, 12, 601).double()
    grid = torch.cartesian_prod(line, line)
    log_prob = likelihood.log_prob(outputs_for(likelihood, len(grid), d=2), grid)
    assert log_prob.exp().sum().item() * 0.04**2 == pytest.approx(1, abs=1e-6)


@every_order
def test_a_column_knows_those_before_it_and_no_other(order: Any) -> None:
    likelihood = toy(Bernoulli(), BINARY, order, 30)
    outputs = outputs_for(likelihood, 1)
    x = torch.full((1, 4), 0.5).double()
    slopes = torch.autograd.functional.jacobian(
        lambda inputs: likelihood.outputs_given(outputs, inputs)[0], x
    )[:, 0]
    ranks = likelihood.ranks
    before = ranks[:, None] > ranks
    assert (slopes[~before] == 0).all()
    assert (slopes[before].abs() > 1e-6).all()
    if isinstance(order, tuple):
        assert ranks[list(order)].tolist() == [0, 1, 2, 3]


def test_a_random_order_is_one_of_a_fit() -> None:
    ranks = [toy(Bernoulli(), BINARY.repeat(1, 5), "random").ranks for _ in range(2)]
    assert ranks[0].sort().values.tolist() == [*range(20)]
    assert ranks[0].tolist() != [*range(20)]


@every_order
def test_draws_have_its_frequencies(order: Any) -> None:
    likelihood, n = toy(Bernoulli(), BINARY, order), 20_000
    drawn = likelihood.draw(outputs_for(likelihood, n), generator())
    index = (drawn @ torch.tensor([8.0, 4, 2, 1]).double()).long()
    found = torch.bincount(index, minlength=16) / n
    expected = likelihood.log_prob(outputs_for(likelihood, 16), BINARY).exp()
    error = (expected * (1 - expected) / n).sqrt()
    assert ((found - expected).abs() < 5 * error + 1e-4).all()


@leaves_generators
def test_without_weights_it_is_the_base() -> None:
    x = normal(5, 3)
    likelihood = Autoregressive(Gaussian(0.7), n_hidden=4).as_part().double()
    likelihood.set_rows(x)
    outputs = normal(2, 5, 7, seed=2)
    expected = Gaussian(0.7).double()
    torch.testing.assert_close(
        likelihood.log_prob(outputs, x), expected.log_prob(outputs[..., :3], x)
    )
    torch.testing.assert_close(likelihood.mean(outputs), outputs[..., :3])
    start: Any = likelihood.initial_outputs(x)
    torch.testing.assert_close(start[:3], x.mean(0))
    assert (start[3:] == 0).all()


def test_a_mean_is_that_given_the_means_before() -> None:
    likelihood = toy(Gaussian(0.7).double(), normal(9, 3), (2, 0, 1))
    outputs = outputs_for(likelihood, 2, d=3)
    mean = likelihood.mean(outputs)
    found = likelihood.outputs_given(outputs, mean)
    torch.testing.assert_close(mean, found)


# In a model.


def test_a_code_that_is_ignored_leaves_an_exact_density() -> None:
    likelihood = Autoregressive(Bernoulli(), n_hidden=8)
    model = VAE(1, likelihood=likelihood, **{**SMALL, "max_iter": 10}).fit(PAIRS)
    with torch.no_grad():
        for p in model.module_.encoder.parameters():
            p.zero_()  # q(z|x) is the prior
        model.module_.decoder[0].weight.zero_()
    scores = model.score_samples(BINARY.numpy())
    assert np.exp(scores).sum() == pytest.approx(1, abs=1e-9)


def test_it_learns_what_columns_say_of_each_other() -> None:
    plain = VAE(1, likelihood="bernoulli", **SMALL).fit(PAIRS)
    likelihood = Autoregressive(Bernoulli(), n_hidden=16)
    model = VAE(1, likelihood=likelihood, **SMALL).fit(PAIRS)
    assert model.score(PAIRS) > -2 * np.log(2) - 0.1
    assert model.score(PAIRS) > plain.score(PAIRS) + 0.1
    drawn = model.sample(500, random_state=0)
    assert (drawn[:, ::2] == drawn[:, 1::2]).mean() > 0.95


def test_linear_columns_reach_a_full_covariance() -> None:
    X = normal(600, 4, seed=1).numpy() @ normal(4, 4, seed=2).numpy()
    settings = {**SMALL, "max_iter": 60, "batch_size": 60}
    model = VAE(1, likelihood=Autoregressive(n_hidden=4), **settings).fit(X)
    assert model.score(X) > GaussianDensity().fit(X).score(X) - 0.1


def test_tokens_and_columns_go_together() -> None:
    likelihood = Autoregressive(Categorical(2), order="random", n_hidden=8)
    model = VQVAE(4, n_tokens=2, likelihood=likelihood, **{**SMALL, "max_iter": 5})
    model.fit(PAIRS)
    assert np.isfinite(model.score_samples(PAIRS)).all()
    assert set(np.unique(model.sample(50, random_state=0))) <= {0, 1}


def test_missing_cells_are_refused() -> None:
    likelihood = Autoregressive(Mixed(["real"] * 3))
    rows = normal(30, 3).numpy()
    rows[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        VAE(1, likelihood=likelihood, **SMALL).fit(rows)


@pytest.mark.parametrize(
    "base", [None, Gaussian("row"), Mixed(["real", "count", 2, 2])], ids=str
)
def test_a_fitted_model_comes_back(base: Any, tmp_path: Path) -> None:
    likelihood = Autoregressive(base, (3, 1, 0, 2), 5)
    model = VAE(1, likelihood=likelihood, **{**SMALL, "max_iter": 2})
    is_table = isinstance(base, Mixed)
    model.fit(PAIRS if is_table else normal(60, 4).numpy())
    rows = model.sample(20, random_state=0)
    skgen.save(model, tmp_path / "model.safetensors")
    for found in (
        skgen.load(tmp_path / "model.safetensors"),
        pickle.loads(pickle.dumps(model)),
    ):
        assert_array_equal(found.score_samples(rows), model.score_samples(rows))
        assert_array_equal(found.sample(5, random_state=1), model.sample(5, 1))
        assert found.likelihood == likelihood


# The parameter.


def test_options_are_parameters() -> None:
    likelihood = Autoregressive(Bernoulli(), "random", 7)
    assert likelihood == Autoregressive(Bernoulli(), "random", 7)
    assert hash(likelihood) == hash(Autoregressive(Bernoulli(), "random", 7))
    assert likelihood != Autoregressive(Gaussian(), "random", 7)
    assert clone(likelihood) == likelihood
    model = VAE(likelihood=likelihood).set_params(likelihood__order=[1, 0])
    assert model.likelihood == Autoregressive(Bernoulli(), (1, 0), 7)
    assert repr(Autoregressive(order="random")) == "Autoregressive(order='random')"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "bernoulli"}, "'base' parameter"),
        ({"order": "sorted"}, "'order' parameter"),
        ({"order": (0, 2)}, "'order' parameter"),
        ({"n_hidden": 0}, "'n_hidden' parameter"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Autoregressive(**options)


def test_an_order_of_other_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="'order' parameter of Autoregressive has 2"):
        VAE(1, likelihood=Autoregressive(order=(1, 0)), **SMALL).fit(normal(20, 3))


def test_scores_do_not_depend_on_draws_of_others() -> None:
    model = VAE(1, likelihood=Autoregressive(), **{**SMALL, "max_iter": 2})
    X = normal(50, 3).numpy()
    model.fit(X)
    assert_allclose(model.score_samples(X)[:7], model.score_samples(X[:7]), rtol=1e-9)
