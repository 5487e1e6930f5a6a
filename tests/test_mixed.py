"""Mixed likelihoods, and tables with columns of several kinds and missing cells."""

import pickle
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import Tensor

import skgen
from skgen import IWAE, VAE, VQVAE, MixedDensity
from skgen._training.data import Rows
from skgen._utils.tensors import make_generator
from skgen.likelihoods import Gaussian, Mixed
from skgen.model_selection import BatchedGridSearchCV
from tests.estimators import EXPECTED_FAILED_CHECKS

# Few iterations, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TINY: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}
KINDS: list[Any] = ["real", "positive", "count", 3]
NAN = np.nan


def rows_of_all_kinds(n: int = 60, seed: int = 0) -> Any:
    rng = np.random.RandomState(seed)
    u = rng.randn(n)
    X = np.column_stack(
        [
            5 + 3 * u + rng.randn(n),
            np.exp(7 + u),
            rng.poisson(np.exp(1 + u / 2)),
            np.digitize(u + rng.randn(n) / 3, [0, 1]),
        ]
    )
    X[rng.rand(*X.shape) < 0.2] = NAN
    return X


X = rows_of_all_kinds()


def started(
    kinds: list[Any] = KINDS, rows: NDArray[Any] = X, dtype: Any = torch.float64
) -> tuple[Any, ...]:
    """A likelihood that has seen rows, its standardiser, and its best outputs."""
    likelihood, x = Mixed(kinds), torch.tensor(rows, dtype=dtype)
    standardizer = likelihood.standardizer(Rows(x, None), True)
    likelihood.set_rows(standardizer(x))
    outputs = likelihood.initial_outputs(standardizer(x))
    likelihood.see_rows([standardizer(x)])
    return likelihood.to(dtype), standardizer, outputs.to(dtype)


def log_prob(
    likelihood: Any, standardizer: Any, outputs: Tensor, rows: NDArray[Any]
) -> Any:
    x = standardizer(torch.tensor(rows, dtype=torch.float64))
    with torch.no_grad():
        found = likelihood.log_prob(outputs.expand(len(x), -1), x)
    return (found - standardizer.log_scale).numpy()


# The likelihood.


def test_a_constant_decoder_has_the_densities_of_its_kinds() -> None:
    likelihood, standardizer, outputs = started()
    real, positive, count, level = X.T
    full = np.array([[4.0, 900.0, 3.0, 2.0]])
    found = [
        log_prob(
            likelihood, standardizer, outputs, np.where(np.arange(4) == j, full, NAN)
        )
        for j in range(4)
    ]
    log_positive = np.log(positive)
    # Sigma starts from the spread of all rows, missing ones at the mean; its square
    # has the floor added.
    expected = []
    for values, value, log_det in [
        (real, 4.0, 0.0),
        (log_positive, log(900), -log(900)),
    ]:
        sigma = np.nanstd(values) * np.sqrt(np.isfinite(values).mean() + 1e-6)
        density = scipy.stats.norm(np.nanmean(values), sigma)
        expected.append(density.logpdf(value) + log_det)
    n_counts = np.isfinite(count).sum()
    mean = np.nanmean(count) + 0.5 / n_counts
    r = np.nanmean(count) ** 2 / (np.nanvar(count) - np.nanmean(count))
    expected.append(scipy.stats.nbinom(r, r / (r + mean)).logpmf(3))
    n_levels = np.isfinite(level).sum()
    expected.append(np.log(((level == 2).sum() + 1 / 3) / (n_levels + 1)))
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-5)


def test_missing_cells_are_summed_over() -> None:
    likelihood, standardizer, outputs = started()

    def total(rows: Any) -> Any:
        return log_prob(likelihood, standardizer, outputs, rows)

    full = np.array([[4.0, 900.0, 3.0, 2.0]])
    levels = np.repeat(full, 3, axis=0)
    levels[:, 3] = range(3)
    counts = np.repeat(full, 500, axis=0)
    counts[:, 2] = range(500)
    grid = np.linspace(-40, 50, 20001)
    reals = np.repeat(full, len(grid), axis=0)
    reals[:, 0] = grid
    amounts = np.repeat(full, len(grid), axis=0)
    amounts[:, 1] = np.exp(np.linspace(-3, 17, len(grid)))
    for j, rows, cell in [
        (3, levels, 1.0),
        (2, counts, 1.0),
        (0, reals, np.gradient(grid)),
        (1, amounts, np.gradient(amounts[:, 1])),
    ]:
        without = full.copy()
        without[0, j] = NAN
        mass = (np.exp(total(rows)) * cell).sum()
        np.testing.assert_allclose(mass, np.exp(total(without))[0], rtol=1e-5)


def test_gradients_do_not_see_what_is_missing() -> None:
    likelihood, standardizer, outputs = started()
    x = standardizer(torch.tensor([[4.0, NAN, 3.0, NAN]], dtype=torch.float64))
    outputs = outputs[None].clone().requires_grad_()
    likelihood.log_prob(outputs, x).sum().backward()
    seen = torch.tensor([True, False, True, False, False, False])
    assert (outputs.grad[0] != 0).tolist() == seen.tolist()
    for parameter in likelihood.parameters():
        assert torch.isfinite(parameter.grad).all()


def test_draws_have_the_moments_of_the_density() -> None:
    likelihood, _, outputs = started()
    with torch.no_grad():
        many = outputs.expand(30_000, -1)
        drawn = likelihood.draw(many, make_generator(0, torch.device("cpu")))
        mean = likelihood.mean(outputs[None])[0]
        levels = outputs[-3:].softmax(0)
    error = drawn.std(0) / 30_000**0.5
    assert ((drawn.mean(0) - mean)[:3].abs() < 4 * error[:3]).all()
    shares = drawn[:, 3].long().bincount(minlength=3) / 30_000
    np.testing.assert_allclose(shares, levels, atol=0.02)
    assert (drawn[:, 1] > 0).all()
    assert (drawn[:, 2] == drawn[:, 2].round()).all()


def test_an_encoder_sees_zeros_for_what_is_missing_and_that_it_is() -> None:
    likelihood, standardizer, _ = started()
    x = standardizer(torch.tensor([[NAN, 900.0, NAN, 1.0]], dtype=torch.float64))
    inputs = likelihood.inputs(x)[0].tolist()
    assert len(inputs) == likelihood.encoder_width(4) == 1 + 1 + 1 + 3 + 4
    assert (inputs[0], inputs[2]) == (0, 0)
    assert inputs[3:6] == [0, 1, 0]
    assert inputs[6:] == [0, 1, 0, 1]


def test_real_columns_alone_are_a_gaussian_likelihood() -> None:
    rows = np.random.RandomState(0).randn(50, 3) * [1, 10, 100]
    likelihood, standardizer, outputs = started(["real"] * 3, rows)
    other = Gaussian()
    x = torch.tensor(rows)
    assert standardizer.log_scale == other.standardizer(Rows(x, None), True).log_scale
    other.set_rows(standardizer(x))
    np.testing.assert_allclose(
        likelihood.log_prob(outputs.expand(50, -1), standardizer(x)).detach(),
        other.log_prob(outputs.expand(50, -1), standardizer(x)).detach(),
    )


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ([], "'kinds' parameter of Mixed has no column"),
        (["real", "imaginary"], "Got 'imaginary' in it"),
        ([0], "Got 0 in it"),
        ([True], "Got True in it"),
    ],
)
def test_kinds_that_are_none(kinds: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixed(kinds)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (1, 0.0, "Column 1 of X is of the kind 'positive' for VAE, .* the value 0"),
        (2, 1.5, "whole numbers from 0 to 1e12, but it has the value 1.5"),
        (2, -1.0, "whole numbers from 0 to 1e12, but it has the value -1"),
        (3, 3.0, "the levels 0 to 2, but it has the value 3"),
    ],
)
def test_cells_outside_their_support(column: int, value: Any, message: str) -> None:
    rows = X.copy()
    rows[5, column] = value
    with pytest.raises(ValueError, match=message):
        VAE(1, likelihood=Mixed(KINDS), **TINY).fit(rows)


def test_only_a_likelihood_of_missing_cells_takes_them() -> None:
    with pytest.raises(ValueError, match="Input X contains NaN"):
        VAE(1, **TINY).fit(X)
    assert not hasattr(VAE(1), "impute")


# What is missing, filled.


@pytest.fixture(scope="module", params=["VAE", "IWAE", "VQVAE"])
def fitted(request: pytest.FixtureRequest) -> Any:
    model = {
        "VAE": VAE((2, 1), **TINY),
        "IWAE": IWAE(2, **TINY),
        "VQVAE": VQVAE(4, code_size=2, n_tokens=2, **TINY),
    }[request.param]
    return model.set_params(likelihood=Mixed(KINDS)).fit(X)


def test_scores_are_finite_and_those_of_a_row(fitted: Any) -> None:
    scores = fitted.score_samples(X)
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(fitted.score_samples(X[7:9]), scores[7:9], rtol=1e-9)
    assert fitted.log_likelihood(X[:5], 100).log_prob.shape == (5,)
    assert np.isfinite(fitted.transform(X)).all()


def test_imputing_fills_what_is_missing_and_nothing_else(fitted: Any) -> None:
    for noise in (False, True):
        filled = fitted.impute(X, noise=noise, random_state=0)
        assert np.isfinite(filled).all()
        there = ~np.isnan(X)
        assert (filled[there] == X[there]).all()
        again = fitted.impute(X, noise=noise, random_state=0)
        np.testing.assert_array_equal(filled, again)
    assert (fitted.impute(X, noise=True, random_state=1) != filled).any()
    assert (filled[:, 1] > 0).all()
    assert set(filled[:, 3]) <= {0, 1, 2}


def test_a_normal_cell_is_imputed_by_regression() -> None:
    rng = np.random.RandomState(0)
    rows = rng.multivariate_normal([10, -5], [[4, 3], [3, 4]], 400)
    left = rows.copy()
    left[:100, 1] = NAN
    model = VAE(
        1,
        hidden_layer_sizes=(),
        likelihood=Mixed(["real", "real"]),
        learning_rate_init=0.01,
        max_iter=60,
        random_state=0,
    ).fit(left)
    regression = -5 + 3 / 4 * (left[:100, 0] - 10)
    assert abs(model.impute(left)[:100, 1] - regression).mean() < 0.15
    draws = [model.impute(left, noise=True, random_state=i)[:100, 1] for i in range(10)]
    # The variance of the second given the first is 4 - 9 / 4.
    assert np.var(draws, axis=0, ddof=1).mean() == pytest.approx(1.75, rel=0.2)


def test_models_of_missing_cells_train_as_one() -> None:
    grid = {"learning_rate_init": [1e-3, 1e-2]}
    model = VAE(1, likelihood=Mixed(KINDS), **TINY)
    ours = BatchedGridSearchCV(model, grid, cv=2).fit(X)
    theirs = GridSearchCV(model, grid, cv=2).fit(X)
    np.testing.assert_allclose(
        ours.cv_results_["mean_test_score"],
        theirs.cv_results_["mean_test_score"],
        rtol=1e-4,
    )


# Tables.


def frame() -> Any:
    grade = pd.CategoricalDtype(["low", "middle", "high", "never seen"], ordered=True)
    table = pd.DataFrame(
        {
            "height": X[:, 0],
            "income": X[:, 1],
            "visits": pd.array(X[:, 2], dtype="Int64"),
            "grade": np.array(["low", "middle", "high", None], dtype=object)[
                np.nan_to_num(X[:, 3], nan=3).astype(int)
            ],
            "year": np.arange(2000, 2060),
            "member": X[:, 0] > 5,
            "town": ["Ulm", "Pisa", "Brno"] * 20,
        },
        index=np.arange(100, 160),
    )
    return table.astype({"grade": grade})


def table_model(**params: Any) -> Any:
    return MixedDensity(VAE(2, **TINY), **params)


@pytest.fixture(scope="module")
def table() -> Any:
    return table_model().fit(frame())


def test_kinds_are_guessed(table: Any) -> None:
    assert table.kinds_ == {
        "height": "real",
        "income": "positive",
        "visits": "count",
        "grade": "categorical",
        "year": "real",
        "member": "binary",
        "town": "categorical",
    }
    assert table.levels_["grade"] == ["low", "middle", "high", "never seen"]
    assert table.levels_["member"] == [False, True]


def test_kinds_may_be_given() -> None:
    kinds: dict[str, Any] = {
        "year": "count",
        "town": ["Ulm", "Pisa", "Brno", "Bath"],
        "visits": "real",
    }
    model = table_model(kinds=kinds).fit(frame())
    assert (model.kinds_["year"], model.kinds_["visits"]) == ("count", "real")
    assert model.levels_["town"] == kinds["town"]
    assert np.isfinite(model.score(frame().assign(town="Bath")))


def in_polars(grade: Any) -> Any:
    return pl.from_pandas(frame()).with_columns(pl.col("grade").cast(grade))


@pytest.mark.parametrize(
    "rows",
    [
        frame(),
        in_polars(pl.Categorical()),
        in_polars(pl.Enum(["low", "middle", "high"])),
    ],
    ids=["pandas", "polars", "polars with an enum"],
)
def test_rows_come_back_as_they_went_in(rows: Any) -> None:
    model = table_model().fit(rows)
    for made in (
        model.sample(4, random_state=0),
        model.reconstruct(rows),
        model.impute(rows),
        model.inverse_transform(model.transform(rows)),
    ):
        assert type(made) is type(rows)
        assert list(made.columns) == list(rows.columns)
        assert list(made.dtypes) == list(rows.dtypes)
    if isinstance(rows, pd.DataFrame):
        assert (model.impute(rows).index == rows.index).all()
        assert not model.impute(rows).isna().any().any()


def test_cells_that_were_there_are_as_they_were(table: Any) -> None:
    rows = frame()
    filled = table.impute(rows)
    for name in rows:
        there = rows[name].notna()
        assert (filled[name][there] == rows[name][there]).all(), name


def test_other_containers_where_they_are_asked_for(table: Any) -> None:
    model = pickle.loads(pickle.dumps(table)).set_output(transform="polars")
    assert isinstance(model.sample(2), pl.DataFrame)
    assert isinstance(model.transform(frame()), pl.DataFrame)
    array = table_model().fit(X).sample(3)
    assert isinstance(array, np.ndarray)
    assert array.dtype == float
    objects = table_model().fit(frame().to_numpy(dtype=object)).sample(3)
    assert objects.dtype == object
    assert set(objects[:, 6]) <= {"Ulm", "Pisa", "Brno"}


def test_a_table_scores_as_its_numbers_do(table: Any) -> None:
    rows = frame()
    numbers = np.column_stack(
        [
            rows["height"],
            rows["income"],
            rows["visits"].to_numpy(dtype=float, na_value=NAN),
            X[:, 3],
            rows["year"],
            rows["member"],
            rows["town"].map({"Brno": 0, "Pisa": 1, "Ulm": 2}),
        ]
    ).astype(float)
    kinds = Mixed(["real", "positive", "count", 4, "real", 2, 3])
    model = VAE(2, likelihood=kinds, **TINY).fit(numbers)
    np.testing.assert_array_equal(
        model.score_samples(numbers), table.score_samples(rows)
    )
    assert table.score(rows) == pytest.approx(table.score_samples(rows).mean())
    assert table.posterior(rows).std.shape == (60, 2)
    bound = table.elbo(rows)
    assert (bound.reconstruction - bound.kl).mean() < table.score(rows)
    assert table.log_likelihood(rows, 50).log_prob.shape == (60,)
    assert not hasattr(MixedDensity(VQVAE()), "elbo")


def test_search_over_the_model_inside() -> None:
    search = GridSearchCV(table_model(), {"estimator__n_components": [1, 2]}, cv=2)
    search.fit(frame())
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_a_clone_has_what_was_given_and_nothing_fitted(table: Any) -> None:
    copy = clone(table)
    assert copy.get_params()["estimator__n_components"] == 2
    with pytest.raises(NotFittedError):
        copy.sample()


@pytest.mark.parametrize(
    ("params", "change", "message"),
    [
        ({"kinds": "real"}, {}, "'kinds' parameter of MixedDensity must be a str"),
        ({"kinds": {"size": "real"}}, {}, "has the column 'size', which is not among"),
        ({"kinds": {"height": "long"}}, {}, "has 'long' for the column 'height'"),
        ({"kinds": {"town": "real"}}, {}, "Column 'town' is of the kind 'real'"),
        ({"kinds": {"town": "binary"}}, {}, "the levels 'Brno', 'Pisa', 'Ulm'. Give"),
        ({"kinds": {"town": ["Ulm", "Brno"]}}, {}, r"unknown categories \['Pisa'"),
        ({"kinds": {"height": "positive"}}, {"height": -1.0}, "values above 0"),
        ({"kinds": {"height": "count"}}, {}, "Column 'height' is of the kind 'count'"),
        ({}, {"height": None}, "Column 'height' has no value"),
        ({}, {"town": [1, "a"] * 30}, "levels of several types"),
        ({"estimator": VAE(likelihood="bernoulli")}, {}, "has likelihood='bernoulli'"),
        (
            {"estimator": 3},
            {},
            "must be a VAE, BetaVAE, IWAE or VQVAE or a MixtureEM or a Diffusion or",
        ),
    ],
)
def test_bad_tables(
    params: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        MixedDensity(**{"estimator": VAE(2, **TINY), **params}).fit(
            frame().assign(**change)
        )


def test_levels_that_were_not_seen(table: Any) -> None:
    with pytest.warns(UserWarning, match=r"unknown categories \['Rome'\] in column"):
        score = table.score(frame()[:1].assign(town="Rome"))
    assert np.isfinite(score)
    assert score < table.score(frame()[:1].assign(town=None))


@pytest.mark.parametrize("rows", [frame(), pl.from_pandas(frame()), X], ids=type)
def test_a_file_holds_a_table_model(rows: Any, tmp_path: Path) -> None:
    model = table_model().fit(rows)
    skgen.save(model, tmp_path / "model")
    same = skgen.load(tmp_path / "model")
    np.testing.assert_array_equal(same.score_samples(rows), model.score_samples(rows))
    assert (same.kinds_, same.levels_) == (model.kinds_, model.levels_)
    made = [each.sample(5, random_state=0) for each in (model, same)]
    assert type(made[0]) is type(made[1])
    assert np.array_equal(*cast(Any, (np.asarray(each) for each in made)))


@parametrize_with_checks(
    [MixedDensity(VAE(2, **TINY))],
    expected_failed_checks=lambda _: EXPECTED_FAILED_CHECKS(VAE()),
    xfail_strict=True,
)
def test_check_estimator(estimator: Any, check: Callable[..., Any]) -> None:
    check(estimator)


# What a table may hold.


def fits(**columns: Any) -> Any:
    return table_model().fit(pd.DataFrame(columns))


def test_cells_that_are_there_keep_every_digit() -> None:
    ids = 2**53 + 1 + 2 * np.arange(60)
    rows = pd.DataFrame({"id": ids, "x": X[:, 0].astype(np.float32)})
    filled = table_model(kinds={"id": "real"}).fit(rows).impute(rows)
    assert (filled["id"] == ids).all()
    there = rows["x"].notna()
    assert (filled["x"][there] == rows["x"][there]).all()


def test_large_counts_have_their_mass_in_float32_too() -> None:
    likelihood, _, outputs = started(
        ["count"], 1e7 * (1 + np.arange(50.0))[:, None] / 9
    )
    x = torch.tensor([[3e7]], dtype=torch.float64)
    wide = likelihood.log_prob(outputs[None], x)
    narrow = likelihood.float().log_prob(outputs[None].float(), x.float())
    assert abs(wide - narrow) < 1e-3


def test_a_constant_is_a_number_whatever_its_rounding() -> None:
    for constant in (0.1, 0.3, 5.0):
        model = fits(x=X[:, 0], constant=np.full(60, constant))
        assert model.kinds_["constant"] == "real"


def test_poisson_counts_are_counts() -> None:
    rng = np.random.RandomState(0)
    for rate in (0.5, 2, 20):
        for _ in range(5):
            drawn = rng.poisson(rate, 60)
            assert fits(n=drawn).kinds_["n"] in ("count", "binary")


def test_a_score_does_not_see_which_nan_it_is() -> None:
    negative = -np.abs(np.array([NAN]))  # the sign bit is another
    rows = X.copy()
    rows[np.isnan(X)] = negative
    model = VAE(1, likelihood=Mixed(KINDS), **TINY).fit(X)
    np.testing.assert_array_equal(model.score_samples(rows), model.score_samples(X))


def test_a_list_of_rows_keeps_numbers_and_words_apart() -> None:
    model = table_model().fit([[1.5, "x"], [2.5, "y"], [3.5, "x"]] * 5)
    assert model.kinds_ == {0: "real", 1: "binary"}
    assert model.impute([[2.5, None]])[0, 0] == 2.5


def test_a_weight_of_zero_is_no_row() -> None:
    rows = pd.DataFrame({"x": X[:40, 0], "town": ["Ulm", "Pisa"] * 20})
    more = pd.concat([rows, pd.DataFrame({"x": [9.0], "town": ["ghost"]})])
    weight = np.array([1.0] * 40 + [0.0])
    ours, theirs = table_model().fit(more, sample_weight=weight), table_model()
    theirs.fit(rows, sample_weight=weight[:40])
    assert ours.score(rows) == theirs.score(rows)


def test_a_failed_fit_leaves_what_was_there(table: Any) -> None:
    model, before = pickle.loads(pickle.dumps(table)), table.score(frame())
    with pytest.raises(ValueError, match="has no value"):
        model.fit(pd.DataFrame({"other": [None] * 5}))
    assert model.score(frame()) == before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([(1, 2), (3, 4)] * 30, "type tuple, which are neither"),
        ([np.inf] + [1.5, 2.5, 3.5] * 19 + [1.0, 2.0], "'x' given to .* infinity"),
    ],
)
def test_values_that_are_neither_numbers_nor_words(
    values: list[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fits(x=values)
    with pytest.raises(ValueError, match="too far for the kind 'positive'"):
        table_model(kinds={0: "positive"}).fit(np.logspace(-60, 0, 20)[:, None])


@pytest.mark.parametrize("levels", [["Ulm", "Ulm"], ["Ulm", None], 3, []])
def test_levels_that_are_none(levels: Any) -> None:
    with pytest.raises(ValueError, match="list of different levels, none of them"):
        table_model(kinds={"town": levels}).fit(frame())


def test_levels_may_come_in_any_sequence() -> None:
    towns = pd.Index(["Ulm", "Pisa", "Brno"])
    model = table_model(kinds={"town": towns}).fit(frame())
    assert model.levels_["town"] == list(towns)


def test_columns_in_another_order_or_twice() -> None:
    rows = pd.DataFrame(X[:, :2])
    model = table_model().fit(rows)
    with pytest.raises(ValueError, match="in their order"):
        model.score(rows[[1, 0]])
    with pytest.raises(ValueError, match="Two columns have the name 'a'"):
        table_model().fit(rows.set_axis(["a", "a"], axis=1))
    with pytest.raises(ValueError, match="Expected a 2-dimensional container"):
        model.score(rows[0])


def test_columns_of_arrow_come_back() -> None:
    rows = pd.DataFrame({"n": np.arange(60), "x": X[:, 1]}).fillna(1.0)
    rows = rows.astype({"n": "int64[pyarrow]", "x": "float[pyarrow]"})
    assert (table_model().fit(rows).sample(3).dtypes == rows.dtypes).all()
