"""Numbers as normal quantiles: the map, and densities of tables behind it."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import kstest

import skgen
from skgen import MixedDensity, MixtureEM
from skgen._tables.curves import Curve

RNG = np.random.RandomState(0)
BUMPS = np.r_[RNG.randn(200) - 9, 0.1 * RNG.randn(200) + 4]
SAMPLES: dict[Any, Any] = {
    "real": BUMPS,
    "positive": np.exp(BUMPS),
    ("bounded", 0.0, 1.0): RNG.beta(0.3, 0.3, 400),
}
each_kind = pytest.mark.parametrize("spec", SAMPLES, ids=str)
GRIDS = {
    "real": np.linspace(-60, 60, 400_001),
    "positive": np.exp(np.linspace(-60, 60, 400_001)),
    ("bounded", 0.0, 1.0): np.linspace(0, 1, 400_001)[1:-1],
}


def curve(spec: Any) -> Curve:
    found = Curve.of(SAMPLES[spec], spec)
    assert found is not None
    return found


def found_t(found: Curve, x: Any) -> Any:
    return np.log(x) if found.is_log else x


@each_kind
def test_numbers_come_back(spec: Any) -> None:
    found = curve(spec)
    assert_allclose(found.inverse(found(SAMPLES[spec])), SAMPLES[spec], 1e-9, 1e-12)


@each_kind
def test_quantiles_of_the_training_cells_are_normal(spec: Any) -> None:
    assert kstest(curve(spec)(SAMPLES[spec]), "norm").statistic < 0.06


@each_kind
def test_slopes_are_derivatives(spec: Any) -> None:
    found, x = curve(spec), SAMPLES[spec]
    x = x[found_t(found, x) > found.t[3]]
    h = 1e-7 * np.abs(x)
    slope = (found(x + h) - found(x - h)) / (2 * h)
    is_off = np.searchsorted(found.t, found_t(found, x - h)) == np.searchsorted(
        found.t, found_t(found, x + h)
    )
    assert is_off.mean() > 0.8
    assert_allclose(np.exp(found.log_slope(x))[is_off], slope[is_off], rtol=1e-6)


def test_cells_that_repeat_make_no_steep_pieces() -> None:
    x = np.repeat([0.0, 1.0, 2.0, 7.0], 100) + 1e-9 * RNG.randn(400)
    found = Curve.of(np.round(x), "real")
    assert found is not None
    assert np.exp(found.log_slope(x)).max() < 3


@pytest.mark.parametrize("x", [np.ones(300), np.arange(9.0)])
def test_few_or_constant_cells_stay_as_they_are(x: Any) -> None:
    assert Curve.of(x, "real") is None


@pytest.mark.parametrize("spec", ["count", 3, ("ordinal", 4), ("whole", 0.0, 9.0)])
def test_masses_stay_as_they_are(spec: Any) -> None:
    assert Curve.of(np.arange(400.0) % 4, spec) is None


@each_kind
def test_the_density_of_a_column_integrates_to_one(spec: Any) -> None:
    X, grid = pd.DataFrame({"x": SAMPLES[spec]}), GRIDS[spec]
    model = MixedDensity(MixtureEM(2, random_state=0), kinds={"x": spec}).fit(X)
    bent = MixedDensity(model.estimator, kinds=model.kinds, numbers="quantile").fit(X)
    for each in (model, bent):
        p = np.exp(each.score_samples(pd.DataFrame({"x": grid})))
        assert_allclose(np.trapezoid(p, grid), 1, atol=2e-3)
    assert bent.score(X) > model.score(X) - 0.1


TABLE = pd.DataFrame(
    {"a": BUMPS, "b": np.exp(BUMPS / 9), "c": RNG.choice(["u", "v"], 400)}
)
TABLE.loc[::7, "a"] = np.nan


@pytest.fixture(scope="module")
def model() -> Any:
    return MixedDensity(MixtureEM(3, random_state=0), numbers="quantile").fit(TABLE)


def test_a_table_gains_by_quantiles(model: Any) -> None:
    plain = MixedDensity(MixtureEM(1, random_state=0)).fit(TABLE)
    bent = MixedDensity(MixtureEM(1, random_state=0), numbers="quantile").fit(TABLE)
    assert bent.score(TABLE) > plain.score(TABLE) + 0.5


def test_samples_have_the_quantiles_of_the_rows(model: Any) -> None:
    drawn = model.sample(4000, 0)
    for name in ("a", "b"):
        q = [0.1, 0.3, 0.7, 0.9]
        spread = TABLE[name].std()
        assert_allclose(drawn[name].quantile(q), TABLE[name].quantile(q), atol=spread)
    assert (drawn["b"] > 0).all()


def test_intervals_and_values_are_those_of_the_column(model: Any) -> None:
    drawn = model.sample(200, 0, given={"a": (0, None), "b": 1.5})
    assert (drawn["a"] >= 0).all()
    assert_allclose(drawn["b"], 1.5)


def test_conditional_scores_are_differences(model: Any) -> None:
    known = TABLE[:20].assign(a=np.nan, c=None)
    expected = model.score_samples(TABLE[:20]) - model.score_samples(known)
    assert_allclose(model.score_samples(TABLE[:20], given=["b"]), expected)


def test_files_and_pickles_hold_the_curves(model: Any, tmp_path: Any) -> None:
    skgen.save(model, tmp_path / "model.skgen")
    scores = model.score_samples(TABLE)
    for other in (
        skgen.load(tmp_path / "model.skgen"),
        pickle.loads(pickle.dumps(model)),
    ):
        assert_array_equal(other.score_samples(TABLE), scores)


@pytest.mark.parametrize(
    "plain",
    [
        ((0.0, 1.0), (0.0,), False),
        ((0.0, 1.0), (1.0, 0.0), False),
        ((0.0,), (0.0,), False),
        ((0.0, 1.0), (0.0, np.inf), False),
        ((0.0, 1.0), (0.0, 1.0), 1),
    ],
)
def test_forged_curves_are_refused(plain: Any) -> None:
    with pytest.raises(ValueError, match="quantiles of a column"):
        Curve.checked(plain)
