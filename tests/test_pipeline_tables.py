"""Pipelines of tables: words, holes and functions of DataFrames, there and back."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_iris
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)

from skgen import VAE, GaussianDensity, MixedDensity, make_generative_pipeline

IRIS = load_iris(as_frame=True)
TABLE = IRIS.data.iloc[:, :2].assign(species=IRIS.target_names[IRIS.target])
NUMBERS = list(TABLE.columns[:2])
WORDS = set(IRIS.target_names)
ENCODERS = [OneHotEncoder(), OneHotEncoder(drop="first"), OrdinalEncoder()]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def pipeline(encoder: Any, model: Any = None, output: str | None = None) -> Any:
    columns = make_column_transformer(
        (StandardScaler(), NUMBERS), (clone(encoder), ["species"])
    )
    model = GaussianDensity(reg_covar=1e-3) if model is None else model
    fitted = make_generative_pipeline(columns, model)
    if output is not None:
        fitted.set_output(transform=output)
    return fitted.fit(TABLE)


@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
@pytest.mark.parametrize("model", [None, VAE(2, max_iter=3, random_state=0)], ids=str)
def test_rows_with_words_are_drawn_and_reconstructed(encoder: Any, model: Any) -> None:
    fitted = pipeline(encoder, model)
    drawn = fitted.sample(50, random_state=0)
    assert drawn.shape == (50, 3)
    assert set(drawn[:, 2]) <= WORDS
    assert all(isinstance(cell, float) for cell in drawn[:, :2].ravel())
    assert set(fitted.reconstruct(TABLE)[:, 2]) <= WORDS
    assert set(fitted.inverse_transform(fitted.transform(TABLE))[:, 2]) <= WORDS


@pytest.mark.parametrize(
    "encoder", [OneHotEncoder(sparse_output=False), OrdinalEncoder()], ids=str
)
def test_a_code_of_all_comes_back_as_the_row(encoder: Any) -> None:
    fitted = pipeline(encoder, output="pandas")
    # Whitening loses nothing: the way there and back is the identity.
    rows = fitted.reconstruct(TABLE)
    assert_array_equal(rows["species"], TABLE["species"])
    assert_allclose(rows[NUMBERS], TABLE[NUMBERS])
    assert rows.dtypes.equals(TABLE.dtypes)
    assert fitted.sample(3, random_state=0).dtypes.equals(TABLE.dtypes)


@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
def test_the_score_of_words_points_to_mixed_density(encoder: Any) -> None:
    with pytest.raises(ValueError, match="MixedDensity"):
        pipeline(encoder).score(TABLE)


def test_a_number_that_is_no_place_of_a_level_is_the_nearest() -> None:
    step = OrdinalEncoder().fit([["a"], ["b"], ["c"]])
    from skgen.pipeline import inverse

    found = inverse(step, [[-3.0], [0.4], [0.6], [1.2], [9.0]])
    assert found[:, 0].tolist() == ["a", "a", "b", "b", "c"]


def test_mixed_density_may_be_the_last_step() -> None:
    inner = VAE(1, max_iter=2, random_state=0)
    fitted = make_generative_pipeline(MixedDensity(inner)).fit(TABLE)
    drawn = fitted.sample(5, random_state=0)
    assert drawn.dtypes.equals(TABLE.dtypes)
    assert np.isfinite(fitted.score(TABLE))


def test_a_function_of_frames_gets_frames_on_the_way_back() -> None:
    step = FunctionTransformer(
        lambda frame: frame.assign(**{NUMBERS[0]: np.log(frame[NUMBERS[0]])}),
        lambda frame: frame.assign(**{NUMBERS[0]: np.exp(frame[NUMBERS[0]])}),
    )
    X = TABLE[NUMBERS]
    fitted = make_generative_pipeline(step, GaussianDensity(reg_covar=0)).fit(X)
    assert_allclose(fitted.reconstruct(X), X)
    fitted.set_output(transform="pandas")
    drawn = fitted.sample(20, random_state=0)
    assert (drawn[NUMBERS[0]] > 0).all()
    assert list(drawn.columns) == NUMBERS


def test_an_imputer_has_a_way_back_and_a_score_of_complete_rows() -> None:
    X = TABLE[NUMBERS].copy()
    X.iloc[::5, 0] = np.nan
    density = GaussianDensity(reg_covar=0)
    fitted = make_generative_pipeline(SimpleImputer(), density).fit(X)
    whole = X.dropna()
    filled = SimpleImputer().fit(X).transform(X)
    alone = GaussianDensity(reg_covar=0).fit(filled)
    assert_allclose(fitted.score_samples(whole), alone.score_samples(whole.to_numpy()))
    assert fitted.sample(4, random_state=0).shape == (4, 2)
    with pytest.raises(ValueError, match="integrate them out"):
        fitted.score(X)


def test_an_imputer_that_adds_columns_has_no_inverse() -> None:
    X = TABLE[NUMBERS].copy()
    X.iloc[::5, 0] = np.nan
    step = SimpleImputer(add_indicator=True)
    fitted = make_generative_pipeline(step, GaussianDensity(reg_covar=1e-3)).fit(X)
    with pytest.raises(ValueError, match="add_indicator=False"):
        fitted.sample(3)


def test_encoders_inside_a_pipeline_of_columns_come_back() -> None:
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    columns = make_column_transformer((StandardScaler(), NUMBERS), (words, ["species"]))
    density = GaussianDensity(reg_covar=1e-3)
    fitted = make_generative_pipeline(columns, density).fit(TABLE)
    assert set(fitted.sample(20, random_state=0)[:, 2]) <= WORDS


# Levels of every kind.

HOLED = TABLE.assign(species=TABLE["species"].where(TABLE.index % 3 > 0, np.nan))
MISSING_AS = [
    OneHotEncoder(sparse_output=False),
    OrdinalEncoder(encoded_missing_value=-1),
    OrdinalEncoder(encoded_missing_value=9),
]


@pytest.mark.parametrize("encoder", MISSING_AS, ids=str)
@pytest.mark.parametrize("output", ["default", "pandas"])
def test_a_missing_level_is_a_level(encoder: Any, output: Any) -> None:
    columns = make_column_transformer(
        (StandardScaler(), NUMBERS), (clone(encoder), ["species"])
    )
    fitted = make_generative_pipeline(columns, GaussianDensity(reg_covar=1e-6))
    fitted.set_output(transform=output).fit(HOLED)
    # Whitening loses nothing, and no draw is taken for lost: a warning is an error.
    rows = fitted.reconstruct(HOLED)
    found = np.asarray(rows, dtype=object)[:, 2]
    missing = HOLED["species"].isna().to_numpy()
    assert_array_equal(pd.isna(found), missing)
    assert_array_equal(found[~missing], HOLED["species"][~missing])
    drawn = np.asarray(fitted.sample(60, random_state=0), dtype=object)[:, 2]
    assert 0 < pd.isna(drawn).sum() < 60
    assert all(type(cell) is float for cell in drawn[pd.isna(drawn)])


def test_missing_levels_of_numbers_come_back_as_numbers() -> None:
    X = np.column_stack([IRIS.data.iloc[:, 0], IRIS.target.where(IRIS.target > 0)])
    columns = make_column_transformer(
        (StandardScaler(), [0]), (OneHotEncoder(sparse_output=False), [1])
    )
    fitted = make_generative_pipeline(columns, GaussianDensity(reg_covar=1e-6)).fit(X)
    rows = fitted.reconstruct(X)
    assert rows.dtype == np.float64
    assert_allclose(rows, X)


COUNTED = TABLE[NUMBERS].assign(k=np.arange(len(TABLE)) % 13)


@pytest.mark.parametrize("kind", [OneHotEncoder, OrdinalEncoder])
def test_infrequent_levels_are_one_word_and_no_number(kind: Any) -> None:
    columns = make_column_transformer(
        (StandardScaler(), NUMBERS), (kind(max_categories=3), ["k"])
    )
    fitted = make_generative_pipeline(columns, GaussianDensity(reg_covar=1e-3))
    with pytest.raises(ValueError, match="Leave max_categories and min_frequency out"):
        fitted.fit(COUNTED).sample(3, random_state=0)
    words = COUNTED.assign(k=("level " + COUNTED["k"].astype(str)).astype("category"))
    drawn = np.asarray(fitted.fit(words).sample(300, random_state=0))[:, 2]
    assert len(set(drawn)) == 3
    assert "infrequent_sklearn" in drawn
    if kind is OrdinalEncoder:
        table = fitted.set_output(transform="pandas").fit(words).sample(40, 0)
        assert table["k"].notna().all()
        assert set(table["k"].cat.categories) == {*words["k"], "infrequent_sklearn"}


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_dtype_that_lists_levels_keeps_them(library: str) -> None:
    module: Any = pytest.importorskip(library)
    levels = ["virginica", "versicolor", "setosa"]
    if library == "pandas":
        dtype = pd.CategoricalDtype(levels, ordered=True)
        table: Any = TABLE.assign(species=TABLE["species"].astype(dtype))
    else:
        dtype = module.Enum(levels)
        table = module.from_pandas(TABLE)
        table = table.with_columns(module.col("species").cast(dtype))
    columns = make_column_transformer(
        (StandardScaler(), NUMBERS), (OneHotEncoder(sparse_output=False), ["species"])
    )
    fitted = make_generative_pipeline(columns, GaussianDensity(reg_covar=1e-3))
    fitted.set_output(transform=library).fit(table)
    assert fitted.sample(2, random_state=0)["species"].dtype == dtype


def test_given_points_from_tables_of_words_to_mixed_density() -> None:
    fitted = pipeline(OneHotEncoder())
    for given in ({NUMBERS[0]: 5.0}, {"species": "setosa"}):
        with pytest.raises(ValueError, match="MixedDensity takes"):
            fitted.sample(3, given=given)


def with_ratio(names: Any = None) -> Any:
    return FunctionTransformer(
        lambda frame: frame.assign(ratio=frame[NUMBERS[0]] / frame[NUMBERS[1]]),
        lambda frame: frame.drop(columns="ratio"),
        feature_names_out=names,
    )


def test_a_function_that_adds_columns_says_their_names() -> None:
    X = TABLE[NUMBERS]
    density = GaussianDensity(reg_covar=1e-6)
    fitted = make_generative_pipeline(with_ratio(), density).fit(X)
    with pytest.raises(ValueError, match="Give feature_names_out="):
        fitted.sample(3)
    named = with_ratio(lambda step, names: [*names, "ratio"])
    fitted = make_generative_pipeline(named, density).fit(X)
    assert_allclose(fitted.reconstruct(X), X, rtol=1e-6)
