"""Columns of every kind and dtype: densities, guesses, ranges, and the way back."""

import datetime
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats
import torch
from numpy.typing import NDArray
from sklearn.datasets import (
    load_breast_cancer,
    load_diabetes,
    load_iris,
    load_wine,
)
from torch.utils._python_dispatch import TorchDispatchMode

import skgen
from skgen import VAE, MixedDensity, MixtureEM
from skgen._tables.frames import Columns, saturated
from skgen._tables.kinds import guessed
from skgen._training.data import Rows
from skgen._utils.tensors import make_generator
from skgen.likelihoods import Mixed
from skgen.likelihoods.kinds import Levels, negative_binomial_log_prob
from skgen.likelihoods.specs import limits

# Few iterations, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TINY: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
INF = math.inf


def table_model(**params: Any) -> Any:
    return MixedDensity(VAE(1, **TINY), **params)


def constant_decoder(kind: Any, values: NDArray[Any]) -> tuple[Any, ...]:
    """Return a likelihood of one column, its standardiser, and its best outputs."""
    likelihood = Mixed([kind])
    x = torch.tensor(values, dtype=torch.float64)[:, None]
    standardizer = likelihood.standardizer(Rows(x, None), True)
    outputs = likelihood.initial_outputs(standardizer(x))
    likelihood.see_rows([standardizer(x)])
    return likelihood.double(), standardizer, outputs.double()


def log_prob(kind: tuple[Any, ...], values: NDArray[Any], at: Any) -> Any:
    likelihood, standardizer, outputs = constant_decoder(kind, values)
    x = standardizer(torch.tensor(at, dtype=torch.float64)[:, None])
    with torch.no_grad():
        found = likelihood.log_prob(outputs.expand(len(x), -1), x)
    return (found - standardizer.log_scale).numpy()


def draws(kind: Any, values: NDArray[Any], n: int = 4000) -> tuple[Any, ...]:
    likelihood, standardizer, outputs = constant_decoder(kind, values)
    generator = make_generator(0, torch.device("cpu"))
    with torch.no_grad():
        x = likelihood.draw(outputs.expand(n, -1), generator)
        mean = standardizer.inverse(likelihood.mean(outputs[None]))
    return standardizer.inverse(x).numpy()[:, 0], mean.item()


# Counts.


def wide(*numbers: Any) -> Any:
    return (torch.tensor(number, dtype=torch.float64) for number in numbers)


@pytest.mark.parametrize("mean", [1e-3, 2.5, 1e5, 1.7e9])
def test_counts_without_dispersion_are_poisson(mean: float) -> None:
    x = np.unique(scipy.stats.poisson(mean).ppf([1e-4, 0.1, 0.5, 0.9, 1 - 1e-4]))
    found = negative_binomial_log_prob(*wide(x, mean, 1e34))
    expected = scipy.stats.poisson(mean).logpmf(x)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("r", [1e-2, 1.0, 50.0, 1e6])
@pytest.mark.parametrize("mean", [0.1, 30.0, 1e4])
def test_counts_are_negative_binomial(mean: float, r: float) -> None:
    x = np.array([0.0, 1.0, 17.0, 1e4])
    found = negative_binomial_log_prob(*wide(x, mean, r))
    expected = scipy.stats.nbinom(r, r / (r + mean)).logpmf(x)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


def test_large_counts_sum_to_one() -> None:
    mean, r = 1.7e9, 5e8  # far from Poisson, and narrow
    sigma = math.sqrt(mean + mean**2 / r)
    x = np.round(np.linspace(mean - 9 * sigma, mean + 9 * sigma, 20001))
    mass = negative_binomial_log_prob(*wide(x, mean, r)).exp().numpy()
    assert np.trapezoid(mass, x) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ["Poisson", "Unix seconds", "dates as YYYYMMDD"])
def test_counts_with_a_large_mean_keep_their_width(name: str) -> None:
    rng = np.random.RandomState(0)
    values = {
        "Poisson": rng.poisson(1e5, 1000),
        "Unix seconds": 1_700_000_000 + rng.randint(0, 30 * 86400, 1000),
        "dates as YYYYMMDD": rng.choice([20220000, 20230000], 1000)
        + 100 * rng.randint(1, 13, 1000)
        + rng.randint(1, 29, 1000),
    }[name]
    x, _ = draws("count", values.astype(float))
    assert x.std() == pytest.approx(values.std(), rel=0.05)


# Densities of the other kinds.

ENDS = np.linspace(0, 1, 4001)
RNG = np.random.RandomState(0)
KINDS: dict[str, Any] = {
    "share": (("bounded", 0, 1), RNG.beta(0.6, 0.6, 500), ENDS),
    "far from zero": (
        ("bounded", 1e9, 1e9 + 9),
        1e9 + 9 * RNG.rand(500),
        1e9 + 9 * ENDS,
    ),
    "above an end": (("bounded", 2, INF), 2 + RNG.exponential(3, 500), 2 + 200 * ENDS),
    "below an end": (("bounded", -INF, 0), -RNG.rand(500), -50 * (1 - ENDS)),
    "month": (("whole", 1, 12), RNG.randint(1, 13, 500), np.arange(1, 13)),
    "constant": (("whole", 0, 9), np.full(500, 4), np.arange(10)),
    "whole from 0": (("whole", 0, INF), RNG.randint(0, 30, 500), np.arange(3000)),
    "marks": (
        ("ordinal", 5),
        RNG.choice(5, 500, p=[0.2, 0, 0.2, 0.1, 0.5]),
        np.arange(5),
    ),
    "one level": (("ordinal", 1), np.zeros(9), np.zeros(1)),
    "counts with a code": (
        ("inflated", "count", (-9, 0)),
        np.where(RNG.rand(500) < 0.5, RNG.choice([-9, 0], 500), RNG.poisson(2, 500)),
        np.append(-9, np.arange(300)),
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_has_a_mass_of_one_within_its_range(name: str) -> None:
    kind, values, at = KINDS[name]
    values, at = values.astype(float), at.astype(float)
    mass = np.exp(log_prob(kind, values, at))
    total = np.trapezoid(mass, at) if kind[0] == "bounded" else mass.sum()
    assert total == pytest.approx(1, abs=2e-3)
    x, mean = draws(kind, values)
    assert at[0] <= x.min()
    assert x.max() <= at[-1]
    assert x.mean() == pytest.approx(mean, abs=0.5 + 4 * x.std() / 60)
    if kind[0] != "bounded":
        assert set(x) <= set(at)


def test_an_atom_has_a_mass_and_the_rest_a_density() -> None:
    rng = np.random.RandomState(1)
    rain = np.where(rng.rand(2000) < 0.6, 0.0, rng.gamma(2, 3, 2000))
    kind = ("inflated", "positive", (0.0,))
    dry = np.exp(log_prob(kind, rain, [0.0]))[0]
    assert dry == pytest.approx((rain == 0).mean(), abs=1e-3)
    at = np.exp(np.linspace(-12, 9, 20001))
    assert np.trapezoid(np.exp(log_prob(kind, rain, at)), at) == pytest.approx(
        1 - dry, abs=1e-3
    )
    x, mean = draws(kind, rain)
    assert (x == 0).mean() == pytest.approx(dry, abs=0.03)
    assert mean == pytest.approx(x.mean(), rel=0.1)
    # In other units the mass stays, and densities change.
    np.testing.assert_allclose(
        log_prob(kind, 1000.0 * rain, [0.0, 5000.0]),
        log_prob(kind, rain, [0.0, 5.0]) - np.array([0, math.log(1000.0)]),
        rtol=1e-6,
    )


def test_atoms_off_zero_keep_their_mass() -> None:
    rng = np.random.RandomState(2)
    values = np.where(
        rng.rand(800) < 0.5, rng.choice([0.1, 3.3], 800), 7 + rng.randn(800)
    )
    kind = ("inflated", "real", (0.1, 3.3))
    shares = np.exp(log_prob(kind, values, [0.1, 3.3]))
    np.testing.assert_allclose(
        shares, [(values == a).mean() for a in (0.1, 3.3)], atol=2e-3
    )
    model = VAE(1, likelihood=Mixed([kind]), **TINY).fit(values[:, None])
    narrow = model.sample(200, random_state=0)[:, 0]
    assert set(np.abs(narrow[narrow < 3.4] - 0.1).round(6)) <= {0.0, 3.2}


@pytest.mark.parametrize(
    "kind",
    [
        ("bounded", 1, 1),
        ("bounded", -INF, INF),
        ("bounded", 0),
        ("whole", 0.5, 3),
        ("ordinal", 0),
        ("inflated", 3, (0,)),
        ("inflated", "real", ()),
        ("inflated", "real", (0, 0)),
        ("inflated", "real", (INF,)),
    ],
)
def test_kinds_that_cannot_be(kind: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="'kinds' parameter of Mixed must be"):
        Mixed([kind])


def test_starting_from_many_levels_makes_no_one_hot_rows() -> None:
    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            made = function(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                self.size = max(self.size, made.numel())
            return made

    n, K = 300, 4000
    x = torch.arange(n, dtype=torch.float32)[:, None] % K
    with Largest() as largest:
        shares = Levels(1, K).start(x, torch.ones_like(x, dtype=torch.bool)).exp()
    assert largest.size <= n + 2 * K
    assert shares.sum() == pytest.approx(1)


# What a column is taken for.


def random_columns(n: int, seed: int) -> dict[str, Any]:
    rng = np.random.RandomState(seed)
    return {
        "month": rng.randint(1, 13, n),
        "day": rng.randint(1, 32, n),
        "stars": rng.choice([1, 2, 3, 4, 5], n, p=[0.1, 0.05, 0.1, 0.25, 0.5]),
        "age": rng.randint(18, 90, n),
        "gain": np.where(rng.rand(n) < 0.9, 0, rng.exponential(5000, n)),
        "hours": np.where(rng.rand(n) < 0.5, 40, rng.randint(1, 100, n)),
        "capped": np.minimum(np.exp(3 + 0.5 * rng.randn(n)), 50.0),
        "share": rng.beta(0.6, 0.6, n),
        "rate": np.where(rng.rand(n) < 0.3, rng.choice([0.0, 1.0], n), rng.rand(n)),
        "rain": np.where(rng.rand(n) < 0.5, 0.0, rng.gamma(2, 3, n)),
        "half stars": rng.choice(np.arange(1, 5.5, 0.5), n),
        "doses": rng.choice([1, 5, 25, 125], n),
        "visits": rng.poisson(2, n),
        "many": rng.poisson(rng.gamma(2, 300, n)),
        "seconds": 1_700_000_000 + rng.randint(0, 30 * 86400, n),
        "error": rng.randn(n),
        "rounded": np.round(170 + 5 * rng.randn(n), 1),
        "flag": rng.randint(0, 2, n),
        "sentinel": np.where(rng.rand(n) < 0.3, -999.0, np.exp(2 + rng.randn(n))),
        "debt": -rng.exponential(3, n),
        "losses": -rng.randint(0, 3000, n),
    }


EXPECTED = {
    "month": {"bounded", "ordinal"},
    "day": {"bounded", "ordinal"},
    "stars": {"ordinal"},
    "age": {"bounded"},
    "gain": {"inflated"},
    "hours": {"inflated", "ordinal"},
    "capped": {"inflated"},
    "share": {"bounded"},
    "rate": {"inflated"},
    "rain": {"inflated"},
    "half stars": {"ordinal"},
    "doses": {"ordinal"},
    "visits": {"count"},
    "many": {"count"},
    "seconds": {"real", "positive", "count"},
    "error": {"real"},
    "rounded": {"real", "positive"},
    "flag": {"binary"},
    "sentinel": {"inflated"},
    "debt": {"bounded"},
    "losses": {"bounded"},
}


@pytest.mark.parametrize("seed", range(3))
def test_kinds_are_those_that_score_best(seed: int) -> None:
    for name, x in random_columns(800, seed).items():
        found = guessed(x.astype(float), is_whole=x.dtype.kind == "i")
        assert found.kind in EXPECTED[name], (name, found)


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-9, 1e9, 1e148, 1e300])
def test_a_guess_holds_at_any_scale(scale: float) -> None:
    x = scale * (1 + np.random.RandomState(0).rand(50))
    for each in (x, -x):
        found = guessed(each, is_whole=False)
        assert found.kind in ("real", "positive", "bounded")


@pytest.fixture(scope="module")
def guesses() -> tuple[Any, ...]:
    table = pd.DataFrame(random_columns(400, seed=7))
    return table, table_model().fit(table)


def test_samples_stay_in_the_range_of_their_kind(guesses: tuple[Any, ...]) -> None:
    table, model = guesses
    drawn = model.sample(1500, random_state=0)
    assert (drawn.dtypes == table.dtypes).all()
    for name in ("month", "day", "stars", "age", "half stars", "doses"):
        steps = np.arange(table[name].min(), table[name].max() + 1)
        assert set(drawn[name]) <= {*steps, *table[name]}, name
    for name in ("gain", "rain", "rate", "share", "capped", "hours", "visits"):
        assert drawn[name].min() >= 0, name
    assert drawn[["debt", "losses"]].max().max() <= 0
    assert drawn[["share", "rate"]].max().max() <= 1
    assert drawn["capped"].max() <= 50
    assert (drawn["gain"] == 0).mean() == pytest.approx(0.9, abs=0.1)
    assert drawn["seconds"].std() == pytest.approx(table["seconds"].std(), rel=0.2)


def test_a_file_holds_every_kind(guesses: tuple[Any, ...], tmp_path: Path) -> None:
    table, model = guesses
    skgen.save(model, tmp_path / "model")
    same = skgen.load(tmp_path / "model")
    np.testing.assert_array_equal(same.score_samples(table), model.score_samples(table))
    drawn = [each.sample(20, random_state=0) for each in (model, same)]
    pd.testing.assert_frame_equal(*drawn)


def test_imputed_cells_stay_in_their_range(guesses: tuple[Any, ...]) -> None:
    table, model = guesses
    holes = table[:20].astype(object)
    holes.loc[::2, ["month", "gain", "share", "stars"]] = None
    for noise in (False, True):
        filled = model.impute(holes, noise=noise, random_state=0)
        assert filled["month"].isin(range(1, 13)).all()
        assert filled["stars"].isin(range(1, 6)).all()
        assert (filled["gain"] >= 0).all()
        assert filled["share"].between(0, 1).all()


def test_bounds_may_be_given() -> None:
    rng = np.random.RandomState(0)
    table = pd.DataFrame({"grade": rng.randint(3, 9, 80), "x": 2 + rng.rand(80)})
    kinds: dict[str, Any] = {"grade": ("bounded", 0, 10), "x": ("bounded", 0, None)}
    model = table_model(kinds=kinds).fit(table)
    assert model.kinds_ == {"grade": "bounded", "x": "bounded"}
    assert np.isfinite(model.score(pd.DataFrame({"grade": [0, 10], "x": [0.0, 99.0]})))
    with pytest.raises(ValueError, match=r"from 0 to 10, but .* value 11"):
        model.score(table.assign(grade=11))
    drawn = model.sample(300, random_state=0)
    assert drawn["grade"].between(0, 10).all()
    assert drawn["x"].min() >= 0


def test_ordered_levels_and_atoms_may_be_given() -> None:
    rng = np.random.RandomState(0)
    table = pd.DataFrame(
        {
            "size": rng.choice(["S", "M", "L"], 90),
            "score": rng.choice([1, 2, 4], 90),
            "gain": np.where(rng.rand(90) < 0.1, 0.0, 5 + rng.rand(90)),
        }
    )
    kinds: dict[str, Any] = {
        "size": ("ordinal", ["S", "M", "L", "XL"]),
        "score": "ordinal",
        "gain": ("inflated", [0.0], ("bounded", 5, 6)),
    }
    model = table_model(kinds=kinds).fit(table)
    assert model.levels_ == {"size": ["S", "M", "L", "XL"], "score": [1, 2, 4]}
    drawn = model.sample(200, random_state=0)
    assert drawn["score"].isin([1, 2, 4]).all()
    assert ((drawn["gain"] == 0) | drawn["gain"].between(5, 6)).all()
    assert np.isfinite(model.score(table.assign(size="XL")))


@pytest.mark.parametrize(
    "kind",
    [
        ("bounded", 1, 0),
        ("bounded", None, None),
        ("bounded", 0),
        ("ordinal", ["a", "a"]),
        ("inflated", []),
        ("inflated", [0.0], "binary"),
        ("inflated", ["a"]),
    ],
)
def test_kinds_with_options_that_cannot_be(kind: tuple[Any, ...]) -> None:
    table = pd.DataFrame({"x": np.arange(20.0)})
    with pytest.raises(ValueError, match="'kinds' parameter of MixedDensity has"):
        table_model(kinds={"x": kind}).fit(table)


# Parts of a column.


def test_a_kind_that_was_given_keeps_its_name() -> None:
    table = pd.DataFrame({"a": [1, 2] * 10, "b": ["x"] * 20, "c": np.arange(20.0)})
    kinds: dict[str, Any] = {"a": "categorical", "b": "binary"}
    assert table_model(kinds=kinds).fit(table).kinds_ == {**kinds, "c": "real"}


def test_a_guess_names_the_kind_that_would_do() -> None:
    table = pd.DataFrame({"n": [0, 1] * 20, "x": np.arange(40.0)})
    model = table_model().fit(table)
    assert model.kinds_["n"] == "binary"
    with pytest.warns(UserWarning, match=r"taken for 'binary'.*kinds={'n': 'count'}"):
        model.score(table.assign(n=2))
    with pytest.warns(UserWarning, match=r"taken for 'binary'.*kinds={'n': 'real'}"):
        model.score(table.assign(n=0.5))


BEYOND = {"debt": 1e6, "losses": 1e6, "sentinel": -1e3}  # others: a negative value


@pytest.mark.filterwarnings("ignore:Column:UserWarning")
def test_later_values_beyond_a_guess_are_missing_at_a_price(tmp_path: Path) -> None:
    table = pd.DataFrame(random_columns(400, seed=7))
    model = MixedDensity(MixtureEM(2, random_state=0)).fit(table)
    skgen.save(model, tmp_path / "model")
    row, price = table[:1].astype(object), math.log(len(table) + 1)
    for each in (model, skgen.load(tmp_path / "model")):
        for name in (name for name, kind in each.kinds_.items() if kind != "real"):
            score = each.score(row.assign(**{name: BEYOND.get(name, -1e6)}))
            lost = score - each.score(row.assign(**{name: None}))
            if name in each.levels_:
                assert lost == pytest.approx(-price)
            else:
                assert -price - 40 < lost < -price, name
            assert score < each.score(table[:1])


def test_a_price_beyond_is_due_where_the_cell_is_not_given() -> None:
    rng = np.random.RandomState(0)
    table = pd.DataFrame({"n": rng.randint(0, 2, 99), "x": rng.randn(99)})
    model = MixedDensity(MixtureEM(1)).fit(table)
    row = table[:1].assign(n=7)
    scores = []
    for given in (["n"], ["x"], None):
        with pytest.warns(UserWarning, match="none of 99 cells has"):
            scores.append(model.score_samples(row, given=given))
    of_x, of_n, whole = scores
    assert of_n == pytest.approx([-math.log(100)])
    assert whole == pytest.approx(of_x + of_n)
    with pytest.raises(ValueError, match="taken for 'binary'"):
        model.sample(3, given={"n": 7})
    with pytest.raises(ValueError, match="unknown categories"):
        table_model(kinds={"n": [0, 1]}).fit(table).score(row)


def test_a_constant_that_changes_has_a_price() -> None:
    table = pd.DataFrame(
        {"c": np.full(60, 0.1), "x": np.random.RandomState(0).randn(60)}
    )
    model = MixedDensity(MixtureEM(1)).fit(table)
    assert np.isfinite(model.score(table.assign(c=np.nextafter(0.1, 1.0))))
    with pytest.warns(UserWarning, match="Column 'c' has one value, 0.1, in the rows"):
        lost = model.score(table.assign(c=0.3)) - model.score(table.assign(c=None))
    assert -math.log(61) - 10 < lost < -math.log(61)


LOADERS: dict[str, Any] = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "diabetes": load_diabetes,
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.filterwarnings("ignore:Column:UserWarning")
def test_kinds_guessed_from_half_a_table_suit_the_other(name: str, seed: int) -> None:
    table = LOADERS[name](as_frame=True).frame
    order = np.random.RandomState(seed).permutation(len(table))
    first, second = (table.iloc[half] for half in np.array_split(order, 2))
    model = MixedDensity(MixtureEM(2, random_state=0)).fit(first)
    fitted, later = model.score_samples(first), model.score_samples(second)
    # A few nats a row are what the half has of its own.
    assert later.mean() > fitted.mean() - 2.5 - 0.1 * table.shape[1]
    assert later.min() > fitted.min() - 60


def test_guesses_need_evidence() -> None:
    rng = np.random.RandomState(0)
    ratio = rng.gamma(1.5, 0.2, 300)
    ratio = ratio[ratio < 0.95]  # which ends below 1 by accident
    found = guessed(ratio, is_whole=False)
    assert limits(found.spec)[1] == INF
    # Amounts of which there are few are levels, though some, and the ends, are rare.
    few = rng.choice([1876, 1902, 1977, 2415, 5178], 5000)
    amounts = np.where(rng.rand(5000) < 0.9, 0.0, few)
    amounts[:3] = 41, 3900, 4356
    found = guessed(amounts, is_whole=True)
    assert set(found.levels) == {*np.unique(amounts)}
    shares = np.where(rng.rand(900) < 0.9, 0.0, rng.choice([0.2, 0.4, 0.6, 0.8], 900))
    assert guessed(shares, is_whole=False).kind == "ordinal"
    # Levels of a scale may be rare.
    scale = np.repeat([0.79, 1.17, 1.5, 4.3], [33, 26, 14, 1])
    assert guessed(scale, is_whole=False).kind == "ordinal"
    # Values that repeat inside a column are no sign that it is cut off at the least.
    steps = np.where(rng.rand(300) < 0.4, rng.randint(2, 6, 300), 2 + 4 * rng.rand(300))
    found = guessed(steps[steps > 1.99], is_whole=False)
    assert found.kind != "inflated" or limits(found.spec)[0] <= 0


def test_two_values_of_which_one_is_rare_are_numbers() -> None:
    x = np.full(40, 2.5)
    x[7] = 3.1
    kind = table_model().fit(pd.DataFrame({"x": x})).kinds_["x"]
    assert kind in ("real", "positive")


def test_booleans_of_numpy_are_booleans() -> None:
    flags = np.empty(30, dtype=object)
    flags[:] = [np.bool_(i % 2) for i in range(30)]
    model = table_model().fit(pd.DataFrame({"flag": flags, "x": np.arange(30.0)}))
    assert (model.kinds_["flag"], model.levels_["flag"]) == ("binary", [False, True])


@pytest.mark.parametrize("dtype", [float, int])
def test_masked_cells_are_missing(dtype: type[Any]) -> None:
    rows = np.random.RandomState(0).randint(0, 9, (60, 2)).astype(dtype)
    masked = np.ma.masked_array(rows, np.arange(120).reshape(60, 2) % 5 == 0)
    model = table_model(kinds={0: "real", 1: "real"}).fit(masked)
    holes = np.where(masked.mask, np.nan, rows)
    np.testing.assert_array_equal(
        model.score_samples(masked), model.score_samples(holes)
    )
    filled = model.impute(masked)
    assert (filled[~masked.mask] == rows[~masked.mask]).all()
    assert np.isfinite(filled.astype(float)).all()


# Integers.

IDS = [120207123456789011, 120207123456789012, 2**62 + 1]


@pytest.mark.parametrize("levels", [IDS, IDS[:2], [2**63 + 3, 2**64 - 1]])
@pytest.mark.parametrize("container", ["pandas", "polars", "array", "objects", "list"])
def test_large_levels_stay_as_they_are(levels: list[Any], container: str) -> None:
    ids = np.array(levels)[np.arange(40) % len(levels)]
    rows = {
        "pandas": lambda: pd.DataFrame({0: ids, 1: np.arange(40) % 7}),
        "polars": lambda: pl.DataFrame({"0": ids, "1": np.arange(40) % 7}),
        "array": lambda: np.column_stack([ids, (np.arange(40) % 7).astype(ids.dtype)]),
        "objects": lambda: np.column_stack([ids.astype(object), np.arange(40) % 7]),
        "list": lambda: [[int(i), j % 7] for j, i in enumerate(ids)],
    }[container]()
    name = "0" if container == "polars" else 0
    for kind in ("categorical", levels):
        model = table_model(kinds={name: kind}).fit(rows)
        assert model.levels_[name] == levels
        drawn = model.sample(50, random_state=0)
        first = drawn[name] if hasattr(drawn, "columns") else drawn[:, 0]
        assert {int(value) for value in first} <= set(levels)


def test_rounding_saturates_at_the_ends_of_a_dtype() -> None:
    for name in ("int8", "uint8", "int32", "int64", "uint64"):
        low, high = int(np.iinfo(name).min), int(np.iinfo(name).max)
        found = saturated(np.array([-1e30, low, 0.4, high, 1e30]), low, high)
        assert found.tolist() == [low, low, 0, high, high]
    columns = Columns("pandas", ["n"], ["int64"])
    assert columns.table([np.array([1e19])], "pandas")["n"].item() == 2**63 - 1


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_integers_at_the_ends_of_their_dtype(dtype: type[Any]) -> None:
    limits = np.iinfo(dtype)
    rng = np.random.RandomState(0)
    near = rng.randint(0, 1000, 60)
    for ids in (limits.max - near.astype(dtype), limits.min + near.astype(dtype)):
        table = pd.DataFrame({"id": ids, "x": rng.randn(60)})
        model = table_model(kinds={"id": "real"}).fit(table)
        drawn = model.sample(200, random_state=0)["id"]
        assert drawn.dtype == dtype
        away = np.array([abs(int(value) - int(ids[0])) for value in drawn])
        assert away.max() < 1e4
        assert away.std() > 100
        assert (model.impute(table)["id"] == ids).all()


def test_an_array_of_integers_comes_back() -> None:
    rows = np.random.RandomState(0).randint(0, 1000, (60, 2)).astype(np.int16)
    drawn = table_model(kinds={0: "real"}).fit(rows).sample(30, random_state=0)
    assert drawn.dtype == np.int16


# Dates, times, intervals, decimals.

STEPS = np.random.RandomState(0).randint(0, 700, 60)
DAYS = pd.Series(pd.Timestamp("2021-03-01") + pd.to_timedelta(STEPS, "D"))
TIMES = DAYS + pd.to_timedelta(STEPS * 61, "s")
PANDAS: dict[str, Any] = {
    "days": DAYS,
    "nanoseconds": TIMES.astype("datetime64[ns]"),
    "zone": TIMES.dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin"),
    "seconds": TIMES.astype("datetime64[s]"),
    "durations": pd.Series(pd.to_timedelta(STEPS + 0.5, "s")),
    "months": pd.Series(pd.PeriodIndex(DAYS, freq="M")),
    "quarters": pd.Series(pd.PeriodIndex(DAYS, freq="Q")),
    "intervals": pd.Series(pd.cut(STEPS, 4)),
    "intervals of dates": pd.cut(DAYS, 3),
    "interval dtype": pd.Series(
        pd.arrays.IntervalArray.from_breaks(range(4))[STEPS % 3]
    ),
    "decimals": pd.Series([Decimal(int(n)).scaleb(-2) for n in STEPS]),
    "date objects": pd.Series([day.date() for day in DAYS], dtype=object),
    "few dates": DAYS[:1].repeat(60).reset_index(drop=True)
    + pd.to_timedelta(np.arange(60) % 3 * 31, "D"),
    "arrow": pd.Series(pd.array(TIMES.to_list(), dtype="timestamp[us][pyarrow]")),
    "arrow date": pd.Series(
        pd.array([day.date() for day in DAYS], dtype="date32[day][pyarrow]")
    ),
}
OBJECTS = [time.to_pydatetime() for time in TIMES]
POLARS: dict[str, Any] = {
    "date": pl.Series([day.date() for day in DAYS]),
    "ms": pl.Series(OBJECTS).cast(pl.Datetime("ms")),
    "zone": pl.Series(OBJECTS)
    .dt.replace_time_zone("UTC")
    .dt.convert_time_zone("Europe/Berlin"),
    "duration": pl.Series(STEPS * 10**6).cast(pl.Duration("us")),
    "time": pl.Series(STEPS * 10**11).cast(pl.Time),
    "decimal": pl.Series(
        [Decimal(int(n)).scaleb(-2) for n in STEPS], dtype=pl.Decimal(12, 2)
    ),
}
TIMED = [
    *(pytest.param(pd.DataFrame({"t": x}), id=name) for name, x in PANDAS.items()),
    *(pytest.param(pl.DataFrame({"t": x}), id=f"pl {n}") for n, x in POLARS.items()),
]


@pytest.mark.parametrize("table", TIMED)
def test_dates_and_their_kind_come_back(table: Any, tmp_path: Path) -> None:
    model = table_model().fit(table)
    drawn = model.sample(40, random_state=0)
    assert type(drawn) is type(table)
    assert list(drawn.dtypes) == list(table.dtypes)
    kept = model.impute(table)
    assert kept["t"].to_list() == table["t"].to_list()
    skgen.save(model, tmp_path / "model")
    same = skgen.load(tmp_path / "model")
    assert same.levels_ == model.levels_
    assert same.sample(40, random_state=0).equals(drawn)
    assert same.score(table) == model.score(table)


def test_days_are_whole_and_near_those_of_the_table() -> None:
    drawn = (
        table_model().fit(pd.DataFrame({"t": DAYS})).sample(200, random_state=0)["t"]
    )
    assert (drawn == drawn.dt.normalize()).all()
    assert drawn.std() / DAYS.std() == pytest.approx(1, abs=0.3)
    assert abs(drawn.mean() - DAYS.mean()) < DAYS.std() / 2


def test_dates_are_imputed_and_bounded() -> None:
    table = pd.DataFrame({"t": DAYS, "x": STEPS.astype(float)})
    holes = table.copy()
    holes.loc[::4, "t"] = pd.NaT
    low, high = DAYS.min(), DAYS.max() + pd.Timedelta(days=9)
    model = table_model(kinds={"t": ("bounded", low, high)}).fit(holes)
    for filled in (
        model.impute(holes),
        model.impute(holes, noise=True, random_state=0),
    ):
        assert filled["t"].dtype == DAYS.dtype
        assert filled["t"].between(low, high).all()
        assert (filled["t"] == DAYS)[holes["t"].notna()].all()
    assert model.sample(200, random_state=0)["t"].between(low, high).all()


def test_the_score_of_dates_is_a_density_of_days() -> None:
    table = pd.DataFrame({"t": DAYS})
    days = pd.DataFrame({"t": (DAYS - DAYS.min()) / pd.Timedelta(days=1)})
    kinds: dict[str, Any] = {"t": "real"}
    scores = [table_model(kinds=kinds).fit(each).score(each) for each in (table, days)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)


def test_an_array_of_dates_comes_back() -> None:
    rows = DAYS.to_numpy().astype("datetime64[D]")[:, None]
    drawn = table_model().fit(rows).sample(20, random_state=0)
    assert drawn.dtype == rows.dtype
    objects = np.array([[day.date(), "a"] for day in DAYS], dtype=object)
    drawn = table_model().fit(objects).sample(20, random_state=0)
    assert {type(day) for day in drawn[:, 0]} == {datetime.date}


def test_dates_are_not_taken_for_numbers() -> None:
    model = table_model().fit(pd.DataFrame({"t": DAYS}))
    with pytest.raises(ValueError, match="of dates or times, but: its values are of"):
        model.score(pd.DataFrame({"t": STEPS}))
