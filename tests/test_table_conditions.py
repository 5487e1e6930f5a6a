"""Rows of tables and behind pipelines, drawn and scored given some of their cells."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from skgen import (
    VAE,
    VQVAE,
    Autoencoder,
    Diffusion,
    DiscreteVAE,
    GaussianDensity,
    GaussianMixtureEM,
    KMeansAutoencoder,
    MixedDensity,
    MixtureEM,
    make_generative_pipeline,
)
from skgen.exceptions import DegenerateWeightsWarning
from skgen.likelihoods import Mixed
from skgen.pipeline import InvertibleFunction

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NAN = np.nan
N = 400
KINDS = {
    "size": "real",
    "price": "positive",
    "rooms": "count",
    "city": ["Bern", "Rome", "Oslo"],
    "grade": ("ordinal", ["low", "mid", "high"]),
    "sold": "real",
    "yes": "binary",
}


def table(n: int = 150) -> pd.DataFrame:
    rng = np.random.RandomState(0)
    u = rng.randn(n)
    found = pd.DataFrame(
        {
            "size": 50 + 10 * u + rng.randn(n),
            "price": np.exp(3 + u / 2),
            "rooms": rng.poisson(np.exp(1 + u / 2)),
            "city": np.array(["Bern", "Rome", "Oslo"])[np.digitize(u, [-0.5, 0.5])],
            "grade": np.array(["low", "mid", "high"])[rng.randint(3, size=n)],
            "sold": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(rng.randint(90, size=n), "D"),
            "yes": u + rng.randn(n) > 0,
        }
    )
    return found


TABLE = table()
MODELS: dict[str, Any] = {
    "mixture": MixtureEM(4, random_state=0),
    "vae": VAE(2, hidden_layer_sizes=(8,), max_iter=3, random_state=0),
    "diffusion": Diffusion(hidden_layer_sizes=(8,), max_iter=2, random_state=0),
}


@pytest.fixture(scope="module", params=[*MODELS, "quantile"])
def any_model(request: Any) -> Any:
    numbers: Any = "quantile" if request.param == "quantile" else "as-is"
    model = MODELS.get(request.param, MODELS["mixture"])
    return MixedDensity(model, kinds=KINDS, numbers=numbers).fit(TABLE)


@pytest.fixture(scope="module")
def mixture() -> Any:
    return MixedDensity(MODELS["mixture"], kinds=KINDS).fit(TABLE)


@pytest.fixture(scope="module")
def vae() -> Any:
    return MixedDensity(MODELS["vae"], kinds=KINDS).fit(TABLE)


# Values.


def test_values_are_kept_and_dtypes_are_those_of_the_table(any_model: Any) -> None:
    given = {"city": "Rome", "rooms": 3, "sold": "2024-02-01", "price": None}
    drawn = any_model.sample(5, 0, given=given)
    assert drawn.dtypes.equals(TABLE.dtypes)
    assert (drawn["city"] == "Rome").all()
    assert (drawn["rooms"] == 3).all()
    assert (drawn["sold"] == pd.Timestamp("2024-02-01")).all()
    assert not drawn.isna().any(axis=None)
    again = any_model.sample(5, 0, given=pd.Series(given))
    pd.testing.assert_frame_equal(drawn, again)


def test_rows_of_a_table_are_each_completed(any_model: Any) -> None:
    known = TABLE.loc[:1, ["yes", "size"]].assign(city=[None, "Oslo"])
    drawn = any_model.sample(3, 0, given=known)
    assert len(drawn) == 6
    assert_array_equal(drawn["size"], known["size"].repeat(3))
    assert_array_equal(drawn["yes"], known["yes"].repeat(3))
    assert (drawn["city"][3:] == "Oslo").all()


def test_conditional_scores_are_differences(any_model: Any) -> None:
    rows = TABLE[:3]
    known = rows.assign(**dict.fromkeys(set(TABLE) - {"city", "rooms"}))
    expected = any_model.score_samples(rows) - any_model.score_samples(known)
    found = any_model.score_samples(rows, given=["city", 2])
    assert_allclose(found, expected, rtol=1e-6)


def test_arrays_are_taken_and_given_back(mixture: Any) -> None:
    names = list(TABLE)
    kinds = {names.index(name): kind for name, kind in KINDS.items()}
    rows = TABLE.to_numpy(dtype=object)
    model = MixedDensity(MODELS["mixture"], kinds=kinds).fit(rows)
    row = [NAN, None, 2, "Bern", None, None, True]
    drawn = model.sample(4, 0, given=row)
    assert drawn.dtype == object
    assert drawn.shape == (4, 7)
    assert_array_equal(drawn, model.sample(4, 0, given={2: 2, 3: "Bern", 6: True}))
    assert_array_equal(drawn, model.sample(4, 0, given=[row]))
    framed = mixture.sample(4, 0, given={"rooms": 2, "city": "Bern", "yes": True})
    assert_array_equal(framed["grade"], drawn[:, 4])


def test_polars_comes_back() -> None:
    rows = pl.from_pandas(TABLE)
    model = MixedDensity(MODELS["mixture"], kinds=KINDS).fit(rows)
    drawn = model.sample(2, 0, given=pl.DataFrame({"city": ["Rome", "Oslo"]}))
    assert drawn.schema == rows.schema
    assert drawn["city"].to_list() == ["Rome"] * 2 + ["Oslo"] * 2


# Levels and intervals.


@pytest.mark.parametrize("name", ["mixture", "vae"])
def test_intervals_and_levels_are_met(name: str, request: Any) -> None:
    model = request.getfixturevalue(name)
    given = {
        "size": (None, 60),
        "rooms": (1, 6),
        "city": ["Rome", "Oslo"],
        "grade": ("mid", None),
        "sold": ("2024-01-10", pd.Timestamp("2024-03-20")),
    }
    drawn = model.sample(30, 0, given=given)
    assert drawn["size"].max() <= 60
    assert drawn["rooms"].between(1, 6).all()
    assert set(drawn["city"]) <= {"Rome", "Oslo"}
    assert set(drawn["grade"]) <= {"mid", "high"}
    assert drawn["sold"].between("2024-01-10", "2024-03-20").all()


def test_levels_of_numbers_and_dates_have_intervals() -> None:
    rng = np.random.RandomState(0)
    days = pd.to_datetime(["2024-01-01", "2024-02-01", "2024-03-01"])
    rows = pd.DataFrame(
        {"k": rng.randint(1, 4, 60), "day": days[rng.randint(3, size=60)]}
    )
    model = MixedDensity(MixtureEM(2, random_state=0)).fit(rows)
    assert set(model.kinds_.values()) == {"ordinal"}
    drawn = model.sample(40, 0, given={"k": (2, None), "day": (None, "2024-02-15")})
    assert set(drawn["k"]) == {2, 3}
    assert set(drawn["day"]) == set(days[:2])
    assert (model.sample(5, 0, given={"day": days[2]})["day"] == days[2]).all()


def test_draws_of_a_network_have_the_frequencies_of_its_scores(vae: Any) -> None:
    drawn = vae.sample(N, 0, given={"city": ["Bern", "Oslo"], "size": 58.0})
    rows = pd.DataFrame({name: [None, None] for name in TABLE})
    rows = rows.assign(city=["Bern", "Oslo"], size=58.0)
    p = np.exp(np.diff(-vae.score_samples(rows)))[0]
    share = p / (1 + p)
    error = (share * (1 - share) / N) ** 0.5
    assert abs((drawn["city"] == "Bern").mean() - share) < 4 * error


def test_rare_intervals_of_a_network_warn_or_have_no_mass(vae: Any) -> None:
    low = np.sort(vae.sample(2000, 0)["size"])[-3]
    with pytest.warns(DegenerateWeightsWarning, match="stand for"):
        drawn = vae.sample(300, 0, given={"size": (low + 4, None), "rooms": (6, None)})
    assert len(drawn) == 300
    assert (drawn["size"] > low + 4).all()
    with pytest.raises(ValueError, match="no mass that was found"):
        vae.sample(1, 0, given={"size": (1e6, None)})


# Errors.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"town": "Rome"}, "'town', which is not among"),
        ({"city": "Paris"}, "'Paris' for the column 'city'.*unknown categories"),
        ({"city": ["Rome", None]}, "stands for nothing"),
        ({"city": ("Bern", None)}, "no order. Give a list"),
        ({"grade": ("high", "low")}, "none of its levels"),
        ({"rooms": (3, 2)}, "low < high"),
        ({"rooms": (1, 2, 3)}, "an interval is"),
        ({"rooms": 2.5}, "2.5 for the column 'rooms'"),
        ({"size": "big"}, "'big' for the column 'size'"),
        ({"size": np.inf}, "infinity"),
        ({"city": []}, "0 combinations"),
        ([1.0, 2.0], "rows of 7 columns"),
        (pd.DataFrame({"town": ["Rome"]}), "'town', which is not among"),
        (pd.DataFrame({"city": ["Paris"]}), "unknown categories.*'given'"),
    ],
)
def test_bad_conditions_are_named(mixture: Any, given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        mixture.sample(2, 0, given=given)


def test_what_cannot_be_drawn_is_said(vae: Any) -> None:
    with pytest.raises(ValueError, match="noise=False needs a MixtureEM"):
        vae.sample(2, 0, noise=False, given={"city": "Rome"})
    with pytest.raises(ValueError, match="n_samples"):
        vae.sample(0, 0, given={"city": "Rome"})


# Networks by themselves.

NETWORKS = [
    VAE(2, hidden_layer_sizes=(8,), max_iter=3, random_state=0),
    VAE((3, 2), hidden_layer_sizes=(8,), max_iter=3, random_state=0),
    VAE((3, 2), inference="top-down", max_iter=2, random_state=0),
    VAE(2, prior="mixture", hidden_layer_sizes=(8,), max_iter=3, random_state=0),
    DiscreteVAE(3, hidden_layer_sizes=(8,), max_iter=3, random_state=0),
    VQVAE(4, hidden_layer_sizes=(8,), max_iter=3, random_state=0),
    Autoencoder(1, latent_density=GaussianDensity(), max_iter=3, random_state=0),
]


@pytest.mark.parametrize("model", NETWORKS, ids=str)
def test_codes_of_draws_are_those_that_were_decoded(model: Any) -> None:
    model = clone(model).fit(ROWS)
    X, code = model.sample(6, 0, noise=False, return_code=True)
    assert_allclose(model.inverse_transform(code), X, rtol=1e-5)
    noisy, same = model.sample(6, 0, return_code=True)
    assert_array_equal(code, same)
    assert noisy.shape == X.shape
    assert (noisy != X).any()


def test_a_network_is_drawn_and_scored_given_columns() -> None:
    X = pd.DataFrame(np.log(ROWS), columns=list("abc"))
    likelihood = Mixed(["real"] * 3)
    params: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 40}
    model = VAE(1, likelihood=likelihood, random_state=0, **params).fit(X)
    drawn = model.sample(400, 0, given={"a": 1.5})
    assert (drawn[:, 0] == 1.5).all()
    exact = GaussianDensity(1).fit(X)
    expected = exact.sample(400, 0, given={"a": 1.5})
    assert_allclose(drawn.mean(0), expected.mean(0), atol=0.3)
    assert (model.sample(50, 0, given={"b": (0, 1)})[:, 1] >= 0).all()
    known = X.assign(b=NAN, c=NAN)
    found = model.score_samples(X, given=["a"])
    assert_allclose(
        found, model.score_samples(X) - model.score_samples(known), rtol=1e-5
    )


def test_networks_say_what_they_cannot_condition_on() -> None:
    plain = clone(NETWORKS[0]).fit(ROWS)
    with pytest.raises(ValueError, match=r"missing cells\. Use skgen\.MixedDensity"):
        plain.sample(2, given={0: 1.0})
    with pytest.raises(ValueError, match=r"missing cells\. Use skgen\.MixedDensity"):
        plain.score_samples(ROWS, given=[0])
    mixed = clone(plain).set_params(likelihood=Mixed(["real"] * 3)).fit(ROWS)
    with pytest.raises(ValueError, match="return_code"):
        mixed.sample(2, given={0: 1.0}, return_code=True)


# Pipelines.

MATRIX = np.array([[1.0, 0.6, 0.2], [0.0, 0.8, 0.3], [0.0, 0.0, 0.5]])
ROWS = np.exp(np.random.RandomState(1).randn(300, 3) @ MATRIX)
LOG = InvertibleFunction(np.log, np.exp, lambda X: -np.log(X))
FALLING = InvertibleFunction(
    lambda X: -np.log(X), lambda X: np.exp(-X), lambda X: -np.log(X)
)


@pytest.mark.parametrize("step", [LOG, FALLING], ids=["rising", "falling"])
def test_behind_logs_draws_are_log_normal_given_values(step: Any) -> None:
    model = make_generative_pipeline(step, GaussianDensity(reg_covar=0)).fit(ROWS)
    given = {0: 2.0, 2: (1.5, None)}
    drawn = model.sample(2000, 0, given=given)
    assert (drawn[:, 0] == 2).all()
    assert (drawn[:, 2] >= 1.5).all()
    logs = np.log(ROWS)
    m, S = logs.mean(0), np.cov(logs.T, bias=True)
    slope = S[0, 2] / S[0, 0]
    spread = (S[2, 2] - slope * S[0, 2]) ** 0.5
    law = norm(m[2] + slope * (np.log(2) - m[0]), spread)
    # The distribution function, between that of the end and one.
    u = (law.cdf(np.log(drawn[:, 2])) - law.cdf(np.log(1.5))) / law.sf(np.log(1.5))
    assert abs(u.mean() - 0.5) < 4 / (12 * 2000) ** 0.5
    assert (model.sample(50, 0, given={2: (None, 1.5)})[:, 2] <= 1.5).all()


def test_frames_go_through_pipelines() -> None:
    frame = pd.DataFrame(ROWS, columns=list("abc"))
    mixture = GaussianMixtureEM(2, random_state=0)
    model = make_generative_pipeline(PowerTransformer(), mixture).fit(frame)
    model.set_output(transform="pandas")
    known = pd.DataFrame({"c": [1.0, 2.0, 0.5]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # draws without a way back
        drawn = model.sample(2, 0, given=known)
        row = model.sample(2, 0, given={"c": 1.0})
    assert list(drawn) == list("abc")
    assert_array_equal(drawn["c"], known["c"].repeat(2))
    assert np.isfinite(drawn.to_numpy()).all()
    assert (row["c"] == 1).all()


def test_a_scaler_changes_no_conditional() -> None:
    alone = GaussianDensity(reg_covar=0).fit(ROWS)
    scaled = make_generative_pipeline(StandardScaler(), GaussianDensity(reg_covar=0))
    row = np.array([NAN, 1.0, NAN])
    found = scaled.fit(ROWS).sample(3, 0, given=row, noise=True)
    assert found.shape == (3, 3)
    assert (found[:, 1] == 1).all()
    m, S = alone.mean_, alone.get_covariance()
    expected = m[0] + S[0, 1] / S[1, 1] * (1 - m[1])
    drawn = scaled.sample(4000, 0, given=row)[:, 0]
    assert abs(drawn.mean() - expected) < 5 * drawn.std() / 4000**0.5


@pytest.mark.parametrize(
    "steps",
    [
        [StandardScaler()],
        [LOG, StandardScaler()],
        [PowerTransformer("box-cox"), MinMaxScaler()],
        [QuantileTransformer(n_quantiles=50, output_distribution="normal")],
        [ColumnTransformer([("log", LOG, [0, 1])], remainder=RobustScaler())],
        [make_pipeline(MaxAbsScaler(), LOG)],
    ],
    ids=["scaler", "log and scaler", "power", "quantiles", "columns", "nested"],
)
def test_scores_of_pipelines_given_columns_integrate_to_one(steps: Any) -> None:
    inner = GaussianMixtureEM(2, reg_covar=1e-3, random_state=0)
    model = make_generative_pipeline(*steps, inner).fit(ROWS)
    # The density of the first column, given the others of a row.
    low = -20.0 if isinstance(steps[0], StandardScaler) else 1e-6
    grid = np.linspace(low, 60, 60_001)
    rows = np.tile(ROWS[7], (len(grid), 1))
    rows[:, 0] = grid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # rows without a place
        p = np.exp(model.score_samples(rows, given=[1, 2]))
    assert_allclose(np.trapezoid(p, grid), 1, atol=0.01)


def test_a_score_given_columns_needs_maps_of_columns() -> None:
    model = make_generative_pipeline(PCA(), GaussianDensity()).fit(ROWS)
    with pytest.raises(ValueError, match="by themselves"):
        model.score_samples(ROWS, given=[0])
    rows = InvertibleFunction(np.log, np.exp, lambda X: -np.log(X).sum(1))
    model = make_generative_pipeline(rows, GaussianDensity()).fit(ROWS)
    with pytest.raises(ValueError, match="one per cell"):
        model.score_samples(ROWS, given=[0])


def test_a_pipeline_of_one_step_asks_it_as_it_is() -> None:
    model = MixedDensity(MODELS["mixture"], kinds=KINDS)
    drawn = (
        make_generative_pipeline(model).fit(TABLE).sample(4, 0, given={"city": "Rome"})
    )
    assert (np.asarray(drawn)[:, 3] == "Rome").all()


@pytest.mark.parametrize(
    ("steps", "given", "message"),
    [
        ([PCA(), GaussianDensity()], {0: 1.0}, "map the columns.*by themselves"),
        ([LOG, GaussianDensity()], {0: -1.0}, "to finite numbers"),
        ([LOG, GaussianDensity()], {0: [1.0, 2.0]}, "not a list of values"),
        ([LOG, GaussianDensity()], {0: np.inf}, "finite number"),
        ([LOG, KMeansAutoencoder(2)], [NAN, np.inf, NAN], "infinity"),
        ([LOG, VAE(1, hidden_layer_sizes=(2,), max_iter=1)], {0: 1.0}, "no missing"),
    ],
)
def test_pipelines_say_what_they_cannot(steps: Any, given: Any, message: str) -> None:
    model = make_generative_pipeline(*steps).fit(ROWS)
    with pytest.raises(ValueError, match=f"(?s){message}"):
        model.sample(2, 0, given=given)
