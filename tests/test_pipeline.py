"""A pipeline that samples and scores in the units of the data."""

import pickle
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import stats
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import PCA, FastICA, IncrementalPCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.estimator_checks import parametrize_with_checks

import skgen
from skgen import (
    IWAE,
    VAE,
    VQVAE,
    GaussianDensity,
    GaussianMixtureEM,
    GenerativePipeline,
    KMeansAutoencoder,
    make_generative_pipeline,
)
from skgen.metrics import two_sample_test
from skgen.pipeline import InvertibleFunction, inverse, log_det

# Few epochs, on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # Some tables have columns of small variance.
    pytest.mark.filterwarnings("ignore:reg_covar=1e-06 of GaussianDensity:UserWarning"),
]

SMALL: dict[str, Any] = {
    "hidden_layer_sizes": (8,),
    "max_iter": 3,
    "n_importance_samples": 8,
}


# Tables.


@cache
def california(n: int = 600) -> Any:
    """Eight columns like those of California's housing: skewed, far apart in scale."""
    rng = np.random.RandomState(0)
    place = rng.randn(n, 2) @ [[2.0, -1.9], [0.0, 0.6]] + [-119.6, 35.6]
    income, rooms, occupants = np.exp(0.4 * rng.randn(3, n))
    population = 1100 * np.exp(0.7 * rng.randn(n))
    age = rng.gamma(5.0, 6.0, n)
    columns = [3.5 * income, age, 5 * rooms, rooms**0.5, population, 3 * occupants]
    return np.column_stack([*columns, place])


@cache
def table(name: Any) -> Any:
    """Rows to fit and rows to score."""
    tables: dict[str, Any] = {"wine": load_wine, "cancer": load_breast_cancer}
    X = tables[name]().data if name in tables else california()
    return train_test_split(X, random_state=0)


TABLES = ["wine", "cancer", "california"]
every_table = pytest.mark.parametrize("name", TABLES)


def positive(X: NDArray[Any]) -> Any:
    """Rows above zero, for what takes logs of them."""
    return X - np.minimum(X.min(axis=0), 0) + 0.1


def inverse_sinh(X: NDArray[Any]) -> Any:
    return np.arcsinh(X)


class MinusLogCosh:
    """A function whose name has no address in it: two processes collect one test."""

    def __call__(self, X: NDArray[Any]) -> Any:
        return -0.5 * np.log1p(X**2)

    def __repr__(self) -> str:
        return "minus_log_cosh"


minus_log_cosh = MinusLogCosh()


def minus_log(X: Any) -> Any:
    return -np.log(X)


def shear(X: Any) -> Any:
    """Not cell by cell: the first column bends with the last."""
    return np.column_stack([X[:, 0] * np.exp(np.tanh(X[:, -1])), X[:, 1:]])


def unshear(Z: Any) -> Any:
    return np.column_stack([Z[:, 0] / np.exp(np.tanh(Z[:, -1])), Z[:, 1:]])


def shear_log_det(X: Any) -> Any:
    return np.tanh(X[:, -1])


def by_columns() -> Any:
    return ColumnTransformer(
        [("b", PowerTransformer(), [3, 1]), ("a", MinMaxScaler(), slice(4, 6))],
        remainder=make_pipeline(StandardScaler(), PCA(whiten=True)),
    )


STEPS: dict[str, Any] = {
    "standard": StandardScaler(),
    "only divided": StandardScaler(with_mean=False),
    "only centred": StandardScaler(with_std=False),
    "minmax": MinMaxScaler((-1, 2)),
    "maxabs": MaxAbsScaler(),
    "robust": RobustScaler(quantile_range=(10, 80)),
    "robust, unit variance": RobustScaler(unit_variance=True),
    "robust, unscaled": RobustScaler(with_scaling=False),
    "yeo-johnson": PowerTransformer(),
    "yeo-johnson, as it is": PowerTransformer(standardize=False),
    "box-cox": PowerTransformer("box-cox"),
    "box-cox, as it is": PowerTransformer("box-cox", standardize=False),
    "quantile, normal": QuantileTransformer(
        n_quantiles=20, output_distribution="normal"
    ),
    "quantile, uniform": QuantileTransformer(n_quantiles=20),
    "pca": PCA(),
    "pca, whitened": PCA(whiten=True),
    "incremental pca": IncrementalPCA(whiten=True),
    "cells": InvertibleFunction(inverse_sinh, np.sinh, minus_log_cosh),
    "shear": InvertibleFunction(shear, unshear, shear_log_det),
    "identity": FunctionTransformer(),
    "nested": Pipeline([("scale", StandardScaler()), ("none", None), ("pca", PCA())]),
    "columns": by_columns(),
}
every_step = pytest.mark.parametrize("kind", STEPS)


def rows_for(kind: str, name: str) -> tuple[Any, ...]:
    """Rows to fit and to score, at which the step is invertible."""
    train, test = table(name)
    return (positive(train), positive(test)) if "box-cox" in kind else (train, test)


@cache
def fitted(kind: Any, name: Any) -> Any:
    """Fit a step with a Gaussian behind it, once: do not change it."""
    model = make_generative_pipeline(clone(STEPS[kind]), GaussianDensity())
    return model.fit(rows_for(kind, name)[0])


def numerical_log_det(step: Any, X: NDArray[Any]) -> Any:
    """Log abs det of central differences, at each row of X."""
    h = 1e-5 * X.std(axis=0) + 1e-9
    shifts = np.diag(h)
    ends = [(X[:, None] + sign * shifts).reshape(-1, X.shape[1]) for sign in (1, -1)]
    high, low = (step.transform(end).reshape(*X.shape, -1) for end in ends)
    jacobians = (high - low) / (2 * h)[:, None]  # (n, d in, d out)
    return np.linalg.slogdet(jacobians).logabsdet


# Log-determinants.


@every_table
@every_step
def test_a_log_determinant_is_that_of_the_numerical_jacobian(
    kind: str, name: str
) -> None:
    train, test = rows_for(kind, name)
    step, rows = fitted(kind, name)[0], test[:: len(test) // 5]
    if "quantile" in kind:  # off the quantiles, where two slopes meet
        rows = rows + 1e-3 * train.std(axis=0) * np.random.RandomState(0).rand(
            *rows.shape
        )
    exact = np.broadcast_to(log_det(step, rows), len(rows))
    inside = np.isfinite(exact)
    assert inside.all() or "quantile" in kind
    numerical = numerical_log_det(step, rows[inside])
    # Differences across a quantile are between two slopes.
    close = np.isclose(exact[inside], numerical, rtol=1e-5, atol=1e-4)
    assert close.mean() >= (0.8 if "quantile" in kind else 1)


def by_hand(kind: str, step: Any, X: NDArray[Any], train: NDArray[Any]) -> Any:
    """Sums of log-derivatives, from what the step says of itself."""
    match kind:
        case "standard" | "only divided" | "robust" | "robust, unit variance":
            return np.full(len(X), -np.log(step.scale_).sum())
        case "only centred" | "robust, unscaled" | "identity" | "pca":
            return np.zeros(len(X))
        case "minmax":
            return np.full(len(X), np.log(3 / np.ptp(train, axis=0)).sum())
        case "maxabs":
            return np.full(len(X), -np.log(np.abs(train).max(axis=0)).sum())
        case "pca, whitened" | "incremental pca":
            whitening = step.components_ / np.sqrt(step.explained_variance_)[:, None]
            return np.full(len(X), np.linalg.slogdet(whitening).logabsdet)
        case "nested":
            return np.full(len(X), -np.log(step[0].scale_).sum())
        case "cells":
            return -np.log(np.sqrt(1 + X**2)).sum(axis=1)
        case "shear":
            return np.tanh(X[:, -1])
    return by_hand_of_power(step, X, train)


def by_hand_of_power(step: Any, X: NDArray[Any], train: NDArray[Any]) -> NDArray[Any]:
    total = np.zeros(len(X))
    for i, power in enumerate(step.lambdas_):
        x = X[:, i]
        if step.method == "box-cox":
            slope, transformed = x ** (power - 1), stats.boxcox
        else:
            slope = np.where(
                x >= 0, (1 + np.abs(x)) ** (power - 1), (1 + np.abs(x)) ** (1 - power)
            )
            transformed = stats.yeojohnson
        if step.standardize:
            slope = slope / transformed(train[:, i], power).std()
        total += np.log(slope)
    return total


@every_table
@pytest.mark.parametrize(
    "kind", [kind for kind in STEPS if kind != "columns" and "quantile" not in kind]
)
def test_a_score_is_the_change_of_variables_by_hand(kind: str, name: str) -> None:
    train, test = rows_for(kind, name)
    model = fitted(kind, name)
    step, density = model
    terms = by_hand(kind, step, test, train)
    expected = density.score_samples(step.transform(test)) + terms
    assert_allclose(model.score_samples(test), expected, rtol=1e-10, atol=1e-8)
    assert model.score(test) == pytest.approx(np.mean(expected), abs=1e-8)


@pytest.mark.parametrize("kind", ["quantile, normal", "quantile, uniform"])
@every_table
def test_a_quantile_transformer_is_scored_by_its_pieces(kind: str, name: str) -> None:
    _, test = table(name)
    model = fitted(kind, name)
    step, density = model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scores = model.score_samples(test)
    for row, score in zip(test[:20], scores[:20], strict=True):
        terms = [
            piece_log_slope(x, quantiles, step)
            for x, quantiles in zip(row, step.quantiles_.T, strict=True)
        ]
        expected = density.score_samples(step.transform(row[None])) + np.sum(terms)
        assert_allclose(score, expected[0], rtol=1e-10, atol=1e-8)


def piece_log_slope(x: float, quantiles: NDArray[Any], step: Any) -> Any:
    """Slope of the piece that holds x, and of the normal quantile function there."""
    to_normal = step.output_distribution == "normal"
    if x in (quantiles[0], quantiles[-1]) and to_normal:
        return -np.inf
    if not quantiles[0] <= x <= quantiles[-1] or (quantiles == x).sum() > 1:
        return -np.inf
    i = np.flatnonzero(quantiles[:-1] <= x)[-1]
    rise = step.references_[i + 1] - step.references_[i]
    slope = rise / (quantiles[i + 1] - quantiles[i])
    if to_normal:
        u = step.references_[i] + slope * (x - quantiles[i])
        return np.log(slope) - stats.norm.logpdf(stats.norm.ppf(u))
    return np.log(slope)


@every_table
def test_maps_side_by_side_add_up(name: str) -> None:
    train, test = table(name)
    step = fitted("columns", name)[0]
    rest = [i for i in range(train.shape[1]) if i not in (1, 3, 4, 5)]
    apart = [
        (PowerTransformer(), [3, 1]),
        (MinMaxScaler(), [4, 5]),
        (make_pipeline(StandardScaler(), PCA(whiten=True)), rest),
    ]
    expected = sum(
        log_det(alone.fit(train[:, columns]), test[:, columns])
        for alone, columns in apart
    )
    assert_allclose(log_det(step, test), expected, rtol=1e-12)


@every_table
def test_scalers_that_are_linear_change_no_likelihood(name: str) -> None:
    train, test = table(name)
    plain = GaussianDensity(reg_covar=0).fit(train).score_samples(test)
    for kind in ["standard", "minmax", "maxabs", "robust", "pca, whitened", "nested"]:
        model = make_generative_pipeline(
            clone(STEPS[kind]), GaussianDensity(reg_covar=0)
        )
        assert_allclose(model.fit(train).score_samples(test), plain, rtol=1e-6)


def test_a_constant_column_keeps_its_unit() -> None:
    X = np.column_stack([np.full(50, 7.0), np.linspace(1, 5, 50) ** 2])
    for scaler in (StandardScaler(), RobustScaler(), PowerTransformer()):
        both = clone(scaler).fit(X)
        alone = clone(scaler).fit(X[:, 1:])
        assert_allclose(log_det(both, X), log_det(alone, X[:, 1:]), rtol=1e-12)


def test_without_earlier_steps_nothing_changes() -> None:
    train, test = table("wine")
    density = GaussianDensity().fit(train)
    for steps in ([], ["passthrough"], [None, FunctionTransformer()]):
        names = [f"s{i}" for i in range(len(steps))]
        model = GenerativePipeline([*zip(names, steps), ("density", GaussianDensity())])
        model.fit(train)
        assert_array_equal(model.score_samples(test), density.score_samples(test))
        assert_array_equal(
            model.sample(5, random_state=0), density.sample(5, random_state=0)
        )
        assert_array_equal(model.reconstruct(test), density.reconstruct(test))


def test_a_class_of_the_users_own_is_registered() -> None:
    @log_det.register(FastICA)
    def _(step: Any, X: Any) -> Any:
        return np.linalg.slogdet(step.components_).logabsdet

    train, test = table("california")
    ica = FastICA(random_state=0, whiten="unit-variance", max_iter=1000)
    model = make_generative_pipeline(
        StandardScaler(), ica, GaussianDensity(reg_covar=0)
    )
    plain = GaussianDensity(reg_covar=0).fit(train).score_samples(test)
    assert_allclose(model.fit(train).score_samples(test), plain, rtol=1e-6)


# Densities of one column integrate to one, over the units of the data.

ONE_COLUMN: dict[str, Any] = {
    "standard": StandardScaler(),
    "minmax": MinMaxScaler(),
    "box-cox": PowerTransformer("box-cox"),
    "log": InvertibleFunction(np.log, np.exp, minus_log),
    "sinh": InvertibleFunction(inverse_sinh, np.sinh, minus_log_cosh),
    "quantile": QuantileTransformer(n_quantiles=20, output_distribution="normal"),
    "nested": make_pipeline(StandardScaler(), PowerTransformer()),
}


def one_column(n: int = 300) -> NDArray[Any]:
    return np.random.RandomState(0).lognormal(1.0, 0.5, (n, 1))


def mass(model: Any, low: int, high: int, n: int = 400_001) -> Any:
    """Integral of the density between two ends, by the midpoint rule."""
    x = np.linspace(low, high, n)
    middle = (x[1:] + x[:-1]) / 2
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*score -inf")
        return np.exp(model.score_samples(middle[:, None])).mean() * (high - low)


@pytest.mark.parametrize("kind", ONE_COLUMN)
def test_a_density_integrates_to_one_over_the_units_of_the_data(kind: str) -> None:
    model = make_generative_pipeline(
        clone(ONE_COLUMN[kind]), GaussianMixtureEM(2, random_state=0)
    ).fit(one_column())
    assert mass(model, -60, 160) == pytest.approx(1, abs=2e-4)


def test_a_range_that_ends_costs_mass_and_draws_are_replaced() -> None:
    X = np.random.RandomState(0).pareto(1.5, (300, 1))
    model: Any = make_generative_pipeline(PowerTransformer(), GaussianDensity()).fit(X)
    power, density = model
    (limit,) = -1 / power.lambdas_  # Yeo-Johnson with a negative power stays below
    end = (limit - power._scaler.mean_) / power._scaler.scale_
    within = stats.norm.cdf(end, density.mean_, density.covariance_[0] ** 0.5).item()
    assert 0.98 < within < 0.99
    with pytest.warns(UserWarning, match=r"(\d+) of (\d+) draws have no way back"):
        drawn = model.sample(20_000, random_state=0)
    assert np.isfinite(drawn).all()
    assert drawn.shape == (20_000, 1)
    # Density and draws are those within the range: below 30 there is this much of both.
    inside = mass(model, -2, 30)
    assert inside < within
    assert inside / within == pytest.approx((drawn < 30).mean(), abs=3e-3)


# There and back.


@every_step
@every_table
def test_rows_come_back(kind: str, name: str) -> None:
    if kind == "box-cox, as it is" and name == "cancer":
        pytest.skip("spreads from 1e-2 to 1e27: no covariance has that many digits")
    train, test = rows_for(kind, name)
    model = fitted(kind, name)
    # What lies beyond the quantiles comes back at the ends.
    test = np.clip(test, train.min(axis=0), train.max(axis=0))
    scale = train.std(axis=0)
    for back in (
        model.reconstruct(test),
        model.inverse_transform(model.transform(test)),
        inverse(model[:-1], model[0].transform(test)),
    ):
        assert_allclose(back / scale, test / scale, atol=1e-6, rtol=1e-6)


@every_step
@pytest.mark.filterwarnings("ignore:.*draws have no way back")
@pytest.mark.filterwarnings("ignore:invalid value encountered in power")
def test_draws_come_back_through_the_steps(kind: str) -> None:
    model = fitted(kind, "california")
    drawn = model[-1].sample(50, random_state=0)
    back = inverse(model[0], drawn)
    back = back[np.isfinite(back).all(axis=1)]
    rows = model.sample(50, random_state=0)
    assert_array_equal(rows[: len(back)], back)
    assert rows.shape == (50, 8)


@pytest.mark.filterwarnings("ignore:invalid value encountered in power")
def test_what_is_lost_in_the_middle_stops_no_other_row() -> None:
    X = np.random.RandomState(0).pareto(1.5, (300, 1))
    doubled = InvertibleFunction(lambda X: 2 * X, lambda Z: Z / 2, np.ones_like)
    nested = Pipeline([("doubled", doubled), ("power", PowerTransformer())])
    flat = make_generative_pipeline(doubled, PowerTransformer(), GaussianDensity())
    for model in (flat, make_generative_pipeline(nested, GaussianDensity())):
        model.fit(X)
        back = model.inverse_transform([[0.5], [30.0], [-0.5]])  # deviations
        assert_array_equal(np.isnan(back).ravel(), [False, True, False])
        with pytest.warns(UserWarning, match="draws have no way back"):
            assert np.isfinite(model.sample(2000, random_state=0)).all()


def test_means_are_drawn_without_noise() -> None:
    train, _ = table("wine")
    model = make_generative_pipeline(StandardScaler(), KMeansAutoencoder(2)).fit(train)
    centres = model[0].inverse_transform(model[-1].cluster_centers_)
    rows = model.sample(50, noise=False, random_state=0)
    assert_allclose(np.unique(rows, axis=0), np.unique(centres, axis=0), rtol=1e-12)
    assert len(np.unique(model.sample(50, random_state=0), axis=0)) == 50


def test_samples_of_a_well_specified_model_pass_a_two_sample_test() -> None:
    """Exponentials of a Gaussian, beside a rotated mixture: box-cox, and two peaks."""
    rng = np.random.RandomState(0)
    gaussian = rng.randn(1600, 2) @ [[0.6, 0.3], [0.0, 0.4]] + [2, 1]
    peaks = rng.randn(1600, 1) + 8 * rng.randint(2, size=(1600, 1))
    X = np.hstack([np.exp(gaussian), 100 + 5 * peaks])
    train, test = X[:1200], X[1200:]
    columns = ColumnTransformer(
        [
            ("peaks", StandardScaler(), [2]),
            ("skewed", PowerTransformer("box-cox"), [0, 1]),
        ]
    )
    # Of ten starts one splits the peaks.
    mixture = GaussianMixtureEM(2, n_init=10, random_state=0)
    right = make_generative_pipeline(columns, mixture)
    wrong = make_generative_pipeline(StandardScaler(), GaussianDensity())
    units = train.std(axis=0)
    p_values = [
        two_sample_test(
            test / units,
            model.fit(train).sample(400, random_state=1) / units,
            statistic=statistic,
            random_state=0,
        ).p_value
        for model in (right, wrong)
        for statistic in ("energy", "mmd")
    ]
    assert min(p_values[:2]) > 0.05
    assert max(p_values[2:]) < 0.01


# Rows at which a step is not invertible.


def scores_with_warning(model: Any, X: Any, count: int, why: str = "") -> Any:
    message = f"{count} of {len(X)} rows score -inf.*{why}"
    with pytest.warns(UserWarning, match=message) as caught:
        scores = model.score_samples(X)
    assert len(caught) == 1
    return scores


OUTSIDE: dict[str, Any] = {
    "box-cox": (PowerTransformer("box-cox"), [-3.0, 0.0]),
    "quantile": (QuantileTransformer(n_quantiles=20), [-1e3, 1e3]),
    "normal": (
        QuantileTransformer(n_quantiles=20, output_distribution="normal"),
        [-1e3, 1e3],
    ),
    "clipped range": (MinMaxScaler(clip=True), [-1e3, 1e3]),
    "clipped magnitude": (MaxAbsScaler(clip=True), [-1e3, 1e3]),
    "log": (InvertibleFunction(np.log, np.exp, minus_log), [-3.0, 0.0]),
}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_rows_outside_a_range_score_minus_infinity_and_are_counted(kind: str) -> None:
    step, (low, high) = OUTSIDE[kind]
    train = np.random.RandomState(0).lognormal(size=(200, 3))
    inside = np.quantile(train, np.linspace(0.11, 0.87, 9), axis=0)
    model = make_generative_pipeline(clone(step), GaussianDensity()).fit(train)
    alone = model.score_samples(inside)
    assert np.isfinite(alone).all()
    rows = inside.copy()
    rows[2, 0], rows[5, 1:] = low, high
    name = type(step).__name__
    scores = scores_with_warning(model, rows, 2, f"range in which {name} is inv")
    assert_array_equal(np.flatnonzero(np.isneginf(scores)), [2, 5])
    assert_allclose(np.delete(scores, [2, 5]), np.delete(alone, [2, 5]), rtol=1e-12)
    with pytest.warns(UserWarning, match="2 of 9 rows"):
        assert model.score(rows) == -np.inf


@pytest.mark.parametrize("kind", OUTSIDE)
def test_no_row_may_be_inside(kind: str) -> None:
    step, ends = OUTSIDE[kind]
    train = np.random.RandomState(0).lognormal(size=(200, 3))
    model = make_generative_pipeline(clone(step), StandardScaler(), VAE(2, **SMALL))
    model.fit(train)
    rows = np.repeat(ends, 3).reshape(2, 3)
    assert_array_equal(scores_with_warning(model, rows, 2), [-np.inf, -np.inf])
    with pytest.warns(UserWarning, match="2 of 2 rows"):
        estimate = model.log_likelihood(rows, n_samples=5)
    assert_array_equal(estimate.log_prob, [-np.inf, -np.inf])


def test_rows_are_lost_one_step_after_the_other_and_inside_nests() -> None:
    train = np.random.RandomState(0).lognormal(size=(200, 3))
    nested = make_pipeline("passthrough", MinMaxScaler(clip=True))
    columns = ColumnTransformer(
        [("box", PowerTransformer("box-cox"), [2])], remainder=nested
    )
    model = make_generative_pipeline(columns, PowerTransformer(), VAE(2, **SMALL))
    rows = train[:6].copy()
    rows[1, 2], rows[3, 0], rows[4] = -1, 1e3, [1e3, 1, -1]
    scores = scores_with_warning(model.fit(train), rows, 3)
    assert_array_equal(np.flatnonzero(np.isneginf(scores)), [1, 3, 4])
    kept = rows[[0, 2, 5]]
    assert_allclose(scores[[0, 2, 5]], model.score_samples(kept), rtol=1e-9)
    with pytest.warns(UserWarning, match="MinMaxScaler|Column.* is invertible"):
        log_prob, error = model.log_likelihood(rows, 10)
    alone = model.log_likelihood(kept, 10)
    assert_allclose(log_prob[[0, 2, 5]], alone.log_prob, rtol=1e-9)
    assert_allclose(error, np.insert(alone.standard_error, [1, 2, 2], 0), rtol=1e-6)


def test_ends_of_a_range_are_inside() -> None:
    train = np.random.RandomState(0).lognormal(size=(50, 2))
    for step in (MinMaxScaler(clip=True), QuantileTransformer(n_quantiles=20)):
        model = make_generative_pipeline(step, GaussianDensity()).fit(train)
        assert np.isfinite(model.score_samples(train)).all()


def test_a_quantile_that_repeats_is_a_jump() -> None:
    train = np.random.RandomState(0).exponential(size=(300, 1))
    train[:100] = 0.5
    step = QuantileTransformer(n_quantiles=20).fit(train)
    assert_array_equal(np.isneginf(log_det(step, [[0.5], [0.4], [0.6]])), [1, 0, 0])
    constant = QuantileTransformer(n_quantiles=1).fit(train)
    assert np.isneginf(log_det(constant, train)).all()


def test_box_cox_still_refuses_to_be_fitted_below_zero() -> None:
    model = make_generative_pipeline(PowerTransformer("box-cox"), GaussianDensity())
    with pytest.raises(ValueError, match="strictly positive"):
        model.fit(np.random.RandomState(0).randn(20, 2))


def test_missing_values_are_no_rows_outside() -> None:
    X = np.full((2, 13), np.nan)
    for step in (PowerTransformer(), StandardScaler()):
        model = make_generative_pipeline(step, GaussianDensity())
        model.fit(table("wine")[0])
        for rows in (X, pd.DataFrame(X)):
            with pytest.raises(ValueError, match="X contains NaN"):
                model.score_samples(rows)


# Steps that have no log-determinant.

UNKNOWN: dict[str, Any] = {
    "PolynomialFeatures": (PolynomialFeatures(2), r"log_det\.register\(Poly"),
    "KBinsDiscretizer": (
        KBinsDiscretizer(3, encode="ordinal", quantile_method="averaged_inverted_cdf"),
        r"Take the step out.*log_det\.register\(KBins",
    ),
    "projection": (PCA(3), "PCA keeps 3 of 13.*GaussianDensity.n_components=3"),
    "function": (
        FunctionTransformer(np.arcsinh, np.sinh),
        "func=<ufunc 'arcsinh'>.*InvertibleFunction",
    ),
    "dropped columns": (
        ColumnTransformer([("a", StandardScaler(), [0, 3])]),
        r"\[1, 2, 4.*remainder='passthrough'",
    ),
    "repeated columns": (
        ColumnTransformer(
            [("a", StandardScaler(), [0, 3]), ("b", MinMaxScaler(), [3])],
            remainder="passthrough",
        ),
        r"repeats the columns \[3\]",
    ),
    "weights": (
        ColumnTransformer(
            [("a", StandardScaler(), slice(0, 13))], transformer_weights={"a": 2.0}
        ),
        "transformer_weights=None",
    ),
    "nested": (make_pipeline(StandardScaler(), PCA(3)), "PCA keeps 3 of 13"),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_step_without_log_determinant_says_so_when_scored(kind: str) -> None:
    step, message = UNKNOWN[kind]
    train, test = table("wine")
    model = make_generative_pipeline(clone(step), GaussianDensity()).fit(train)
    assert len(model.transform(test)) == len(test)
    for method in (model.score_samples, model.score):
        with pytest.raises(ValueError, match=message):
            method(test)


@pytest.mark.parametrize("kind", ["projection", "function", "KBinsDiscretizer"])
def test_a_step_without_log_determinant_may_sample(kind: str) -> None:
    train, _ = table("wine")
    model = make_generative_pipeline(clone(UNKNOWN[kind][0]), GaussianDensity())
    assert np.isfinite(model.fit(train).sample(10, random_state=0)).all()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (PolynomialFeatures(2), r"no inverse_transform.*inverse\.register"),
        (FunctionTransformer(np.arcsinh), "inverse_func=None"),
        (UNKNOWN["dropped columns"][0], "drops or repeats"),
        (UNKNOWN["weights"][0], "transformer_weights"),
    ],
)
def test_a_step_without_inverse_says_so_when_sampled(step: Any, message: str) -> None:
    train, _ = table("wine")
    model = make_generative_pipeline(clone(step), GaussianDensity()).fit(train)
    with pytest.raises(ValueError, match=message):
        model.sample(3)


def test_columns_that_depend_on_each_other_cannot_be_whitened() -> None:
    X = np.random.RandomState(0).randn(50, 3)
    X[:, 2] = X[:, 0] - X[:, 1]
    model = make_generative_pipeline(PCA(whiten=True), GaussianDensity()).fit(X)
    with pytest.raises(ValueError, match="whiten=False"):
        model.score(X)
    model.set_params(pca__whiten=False).fit(X).score(X)


def test_a_last_step_that_is_no_density_has_no_score_and_no_sample() -> None:
    model = make_generative_pipeline(StandardScaler(), LogisticRegression())
    X, y = load_wine(return_X_y=True)
    model.fit(X, y)
    assert model.predict(X).shape == y.shape
    for name in ("sample", "score", "score_samples", "reconstruct", "log_likelihood"):
        assert not hasattr(model, name)
    with pytest.raises(AttributeError, match="log_likelihood"):
        make_generative_pipeline(GaussianDensity()).log_likelihood(X)


def test_words_in_a_table_do_not_hide_the_step_that_is_in_the_way() -> None:
    X = pd.DataFrame({"kind": list("ababab"), "size": [1.0, 2, 4, 3, 5, 9]})
    encode = ColumnTransformer(
        [("code", OrdinalEncoder(), ["kind"])], remainder=MinMaxScaler()
    )
    model = make_generative_pipeline(encode, GaussianDensity()).fit(X)
    assert model.transform(X).shape == (6, 2)
    with pytest.raises(ValueError, match="OrdinalEncoder makes numbers of levels"):
        model.score(X)


def test_before_fit_it_says_so() -> None:
    model = make_generative_pipeline(StandardScaler(), GaussianDensity())
    for call in (lambda: model.sample(), lambda: model.score(np.ones((2, 2)))):
        with pytest.raises(sklearn.exceptions.NotFittedError):
            call()


def test_other_columns_are_refused() -> None:
    train, test = table("wine")
    for step in (StandardScaler(), PowerTransformer(), PCA()):
        model = make_generative_pipeline(clone(step), GaussianDensity()).fit(train)
        with pytest.raises(ValueError, match=r"X has 12 features, but .* 13"):
            model.score(test[:, 1:])


def test_a_number_of_rows_is_checked() -> None:
    model = make_generative_pipeline(StandardScaler(), GaussianDensity())
    model.fit(table("wine")[0])
    n: Any
    for n in (0, -1, 2.5, "3"):
        with pytest.raises(ValueError, match="n_samples"):
            model.sample(n)


def test_draws_that_almost_never_come_back_raise() -> None:
    X = one_column()
    model = make_generative_pipeline(PowerTransformer(), GaussianDensity()).fit(X)
    model[-1].mean_ = model[-1].mean_ + 100
    with pytest.raises(ValueError, match=r"0 have a way back.*StandardScaler"):
        model.sample(3, random_state=0)


# A function of the user's own.


def test_functions_that_are_no_inverses_are_refused() -> None:
    X = np.random.RandomState(0).randn(30, 2)
    step = InvertibleFunction(np.exp, np.log10, np.abs)
    with pytest.raises(ValueError, match=r"<ufunc 'log10'>.*check_inverse"):
        step.fit(X)
    step.set_params(check_inverse=False).fit(X)


@pytest.mark.parametrize(
    ("name", "value"),
    [("func", None), ("inverse_func", 3), ("log_det", "log"), ("check_inverse", 1)],
)
def test_parameters_of_a_function_are_checked(name: str, value: Any) -> None:
    step = InvertibleFunction(np.arcsinh, np.sinh, minus_log_cosh)
    with pytest.raises(ValueError, match=f"'{name}' parameter of InvertibleFunction"):
        step.set_params(**{name: value}).fit(np.ones((3, 1)))


def test_a_function_keeps_names_and_dtypes() -> None:
    X = pd.DataFrame(california()[:20].astype(np.float32), columns=list("abcdefgh"))
    step = InvertibleFunction(np.arcsinh, np.sinh, minus_log_cosh)
    out = step.set_output(transform="pandas").fit_transform(X)
    assert list(out.columns) == list("abcdefgh")
    assert set(out.dtypes) == {np.dtype(np.float32)}


# Masses.


def binary(n: int = 100) -> NDArray[Any]:
    return (np.random.RandomState(0).rand(n, 4) < [0.2, 0.5, 0.6, 0.9]).astype(float)


def test_a_mass_does_not_depend_on_the_units() -> None:
    X = binary()
    vae = VAE(2, likelihood="bernoulli", random_state=0, **SMALL)
    plain = clone(vae).fit(X)
    model = make_generative_pipeline(MinMaxScaler(clip=True), vae).fit(10 * X - 3)
    assert_array_equal(model.score_samples(10 * X - 3), plain.score_samples(X))
    assert set(model.sample(50, random_state=0).ravel().round(12)) == {-3.0, 7.0}
    # As the last step of another pipeline it still is a mass.
    around = make_generative_pipeline(StandardScaler(), clone(model))
    assert_allclose(around.fit(X).score_samples(X), plain.score_samples(X), rtol=1e-4)
    rows = np.array([[0.0, 0, 1, 9], [0, 0, 1, 1]]) * 10 - 3
    assert scores_with_warning(model, rows, 1)[1] == plain.score_samples([[0, 0, 1, 1]])


@pytest.mark.parametrize("kind", ["discretized_logistic", "categorical"])
def test_a_mass_of_levels_does_not_depend_on_the_units(kind: Any) -> None:
    X = np.random.RandomState(0).randint(4, size=(60, 3)).astype(float)
    halves = InvertibleFunction(
        lambda X: 2 * X, lambda Z: Z / 2, lambda X: np.full(X.shape, np.log(2))
    )
    vae = VAE(2, likelihood=kind, random_state=0, **SMALL)
    model = make_generative_pipeline(halves, clone(vae)).fit(X / 2)
    assert_array_equal(model.score_samples(X / 2), vae.fit(X).score_samples(X))


def test_a_mass_of_bins_is_no_mass_of_rows() -> None:
    X = np.random.RandomState(0).randn(60, 3)
    vae = VAE(2, likelihood="bernoulli", random_state=0, **SMALL)
    model = make_generative_pipeline(Binarizer(), vae).fit(X)
    with pytest.raises(ValueError, match="Binarizer has no known log-determinant"):
        model.score(X)


# Every model, as the last step.

LAST = [
    GaussianMixtureEM(2, random_state=0),
    KMeansAutoencoder(3, random_state=0),
    KMeansAutoencoder(3, encode="onehot", random_state=0),
    KMeansAutoencoder(3, encode="ordinal", random_state=0),
    VAE(2, random_state=0, **SMALL),
    IWAE(2, random_state=0, **SMALL),
    VQVAE(codebook_size=4, code_size=2, n_tokens=2, random_state=0, **SMALL),
]


@pytest.mark.parametrize("last", LAST, ids=str)
def test_every_model_may_come_last(last: Any) -> None:
    train, test = table("wine")
    model: Any = make_generative_pipeline(RobustScaler(), clone(last)).fit(train)
    step, density = model
    scaled = step.transform(test)
    terms = -np.log(step.scale_).sum()
    assert_allclose(
        model.score_samples(test), density.score_samples(scaled) + terms, atol=1e-8
    )
    assert_allclose(
        model.reconstruct(test), step.inverse_transform(density.reconstruct(scaled))
    )
    back = model.inverse_transform(model.transform(test))
    assert_allclose(back, model.reconstruct(test), rtol=1e-5, atol=1e-5)
    if hasattr(density, "log_likelihood"):
        here, there = (
            m.log_likelihood(x, 20) for m, x in [(model, test), (density, scaled)]
        )
        assert_allclose(here.log_prob, there.log_prob + terms, atol=1e-8)
        assert_array_equal(here.standard_error, there.standard_error)


# Inside scikit-learn.

_STEPS = "scikit-learn's Pipeline puts the fitted steps in the place of the given ones"
EXPECTED_FAILED_CHECKS: dict[str, Any] = {
    "check_estimators_overwrite_params": _STEPS,
    "check_dont_overwrite_parameters": _STEPS,
}


@parametrize_with_checks(
    [
        make_generative_pipeline(PowerTransformer(), GaussianDensity()),
        InvertibleFunction(np.arcsinh, np.sinh, minus_log_cosh),
    ],
    expected_failed_checks=lambda estimator: (
        EXPECTED_FAILED_CHECKS if isinstance(estimator, GenerativePipeline) else {}
    ),
    xfail_strict=True,
)
def test_check_estimator(estimator: Any, check: Callable[..., Any]) -> None:
    check(estimator)


FOLDS = KFold(3, shuffle=True, random_state=0)


def test_a_search_compares_scalers_in_the_units_of_the_data() -> None:
    X = california()
    model = GenerativePipeline([("scale", None), ("density", GaussianDensity())])
    scalers = ["passthrough", StandardScaler(), MinMaxScaler(), PowerTransformer()]
    search = GridSearchCV(model, {"scale": scalers}, cv=FOLDS, error_score="raise")
    search.fit(X)
    plain, *linear, power = search.cv_results_["mean_test_score"]
    assert_allclose(linear, plain, atol=0.1)  # but for what reg_covar does
    assert power > plain + 1
    assert isinstance(search.best_params_["scale"], PowerTransformer)
    assert search.best_estimator_.sample(3).shape == (3, 8)
    for train, test in FOLDS.split(X):
        power -= clone(search.best_estimator_).fit(X[train]).score(X[test]) / 3
    assert power == pytest.approx(0, abs=1e-9)


def test_a_search_reaches_into_the_model() -> None:
    model = GenerativePipeline(
        [
            ("scale", StandardScaler()),
            ("vae", skgen.BetaVAE(2, random_state=0, **SMALL)),
        ]
    )
    grid = {"vae__beta": [0.5, 2.0], "scale__with_std": [True, False]}
    search = GridSearchCV(model, grid, cv=FOLDS, error_score="raise")
    search.fit(table("wine")[0])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_params_.keys() == grid.keys()


def test_it_clones_pickles_and_shows_itself() -> None:
    train, test = table("wine")
    step = InvertibleFunction(inverse_sinh, np.sinh, minus_log_cosh)
    model = make_generative_pipeline(step, by_columns(), GaussianDensity()).fit(train)
    other = pickle.loads(pickle.dumps(model))
    assert_array_equal(other.score_samples(test), model.score_samples(test))
    again = clone(model).fit(train)
    assert_array_equal(again.sample(5, random_state=0), model.sample(5, random_state=0))
    assert "GaussianDensity" in model._repr_html_()
    assert repr(model).startswith("GenerativePipeline(steps=[('invertiblefunction'")
    assert [name for name, _ in model.steps][-1] == "gaussiandensity"
    assert_allclose(model[:-1].inverse_transform(model[:-1].transform(test)), test)
    assert not hasattr(model[:0], "sample")
    assert isinstance(model["gaussiandensity"], GaussianDensity)


def test_pipelines_nest() -> None:
    train, test = table("california")
    inner = make_generative_pipeline(
        PowerTransformer(), KMeansAutoencoder(3, encode="onehot")
    )
    outer = make_generative_pipeline(StandardScaler(), inner).fit(train)
    flat = make_generative_pipeline(
        StandardScaler(), *[step for _, step in inner.steps]
    )
    flat.fit(train)
    assert_allclose(outer.score_samples(test), flat.score_samples(test), rtol=1e-9)
    assert_allclose(outer.reconstruct(test), flat.reconstruct(test))
    assert_allclose(
        outer.inverse_transform(outer.transform(test)), flat.reconstruct(test)
    )
    assert outer.sample(4).shape == (4, 8)


def test_a_progress_bar_shows_the_fit(capsys: pytest.CaptureFixture[str]) -> None:
    model = make_generative_pipeline(StandardScaler(), VAE(2, **SMALL))
    model.set_callbacks(ProgressBar()).fit(table("wine")[0])
    shown = capsys.readouterr().out
    assert "GenerativePipeline - fit" in shown
    assert "VAE - fit" in shown


def test_weights_go_to_the_model() -> None:
    train, test = table("wine")
    weight = np.linspace(0.1, 3, len(train))
    pipe = GenerativePipeline(
        [("scale", StandardScaler()), ("model", GaussianDensity())]
    )
    by_name = clone(pipe).fit(train, model__sample_weight=weight)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = clone(pipe)
        routed["scale"].set_fit_request(sample_weight=False)
        routed["model"].set_fit_request(sample_weight=True)
        routed.fit(train, sample_weight=weight)
        assert_array_equal(routed.score_samples(test), by_name.score_samples(test))
        search = GridSearchCV(routed, {"model__reg_covar": [1e-6, 1e-3]}, cv=FOLDS)
        search.fit(train, sample_weight=weight)
        assert np.isfinite(search.best_score_)
    by_hand = GaussianDensity().fit(pipe[0].fit_transform(train), sample_weight=weight)
    assert_allclose(by_name[-1].mean_, by_hand.mean_)
    assert by_name.score(test) != clone(pipe).fit(train).score(test)


def test_the_dtype_of_rows_is_that_of_draws_and_codes() -> None:
    train, test = (part.astype(np.float32) for part in table("wine"))
    model = make_generative_pipeline(PowerTransformer(), GaussianDensity()).fit(train)
    for out in (model.sample(3), model.reconstruct(test), model.transform(test)):
        assert out.dtype == np.float32
    assert model.score_samples(test).dtype == np.float64  # as of the last step
    # Terms are float64: what is left is the rounding of the transformer.
    wide = clone(model).fit(train.astype(float)).score_samples(test.astype(float))
    assert_allclose(model.score_samples(test), wide, rtol=1e-2)


# Tables.

LIBRARIES = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
every_library = pytest.mark.parametrize("library", LIBRARIES)


def frame(library: str, n: int = 60) -> Any:
    rng = np.random.RandomState(0)
    columns: dict[str, Any] = {
        "price": rng.lognormal(size=n).astype(np.float32),
        "rooms": rng.randint(1, 9, n),
        "area": rng.lognormal(4, 1, n),
        "new": rng.rand(n) < 0.5,
    }
    return LIBRARIES[library](columns)


def frame_model() -> Any:
    columns = ColumnTransformer(
        [("log", PowerTransformer(), ["area", "price"])], remainder="passthrough"
    )
    return make_generative_pipeline(columns, StandardScaler(), GaussianDensity())


@every_library
def test_a_frame_is_scored_as_its_rows_are(library: str) -> None:
    X = frame(library)
    rows = np.column_stack([np.asarray(X[name], dtype=float) for name in X.columns])
    by_position = ColumnTransformer(
        [("log", PowerTransformer(), [2, 0])], remainder="passthrough"
    )
    plain = make_generative_pipeline(by_position, StandardScaler(), GaussianDensity())
    model = frame_model().fit(X)
    scores = plain.fit(rows).score_samples(rows)
    assert_allclose(model.score_samples(X), scores, rtol=1e-5)
    # A ColumnTransformer selects by name.
    turned = X[list(X.columns)[::-1]]
    assert_allclose(model.score_samples(turned), scores, rtol=1e-5)
    assert isinstance(model.sample(3), np.ndarray)


@every_library
def test_columns_and_their_dtypes_come_back(library: str) -> None:
    X = frame(library)
    model = clone(frame_model().set_output(transform=library)).fit(X)
    codes = model.transform(X)
    for out in (
        model.sample(7, random_state=0),
        model.reconstruct(X),
        model.inverse_transform(codes),
        clone(model).fit(X).sample(3),
    ):
        assert isinstance(out, LIBRARIES[library])
        assert list(out.columns) == list(X.columns)
        assert list(out.dtypes) == list(X.dtypes)
    assert list(codes.columns) == [f"gaussiandensity{i}" for i in range(4)]
    back = model.reconstruct(X)
    for name in X.columns:
        assert_allclose(
            np.asarray(back[name], dtype=float),
            np.asarray(X[name], dtype=float),
            rtol=1e-4,
        )


def test_an_index_comes_back() -> None:
    X = frame("pandas").set_index(pd.RangeIndex(100, 160))
    model = frame_model().set_output(transform="pandas").fit(X)
    assert_array_equal(model.reconstruct(X).index, X.index)
    assert_array_equal(model.inverse_transform(model.transform(X)).index, X.index)
    assert_array_equal(model.sample(3).index, range(3))


@every_library
def test_an_array_gets_numbered_columns(library: str) -> None:
    model = make_generative_pipeline(StandardScaler(), GaussianDensity())
    model.fit_transform(table("wine")[0])
    with sklearn.config_context(transform_output=library):
        out = model.sample(2)
    assert isinstance(out, LIBRARIES[library])
    assert list(out.columns) == [f"x{i}" for i in range(13)]


@every_library
def test_rows_of_a_frame_may_be_outside(library: str) -> None:
    X = frame(library)
    columns = ColumnTransformer(
        [("log", PowerTransformer("box-cox"), make_column_selector(pattern="area"))],
        remainder="passthrough",
    )
    model = make_generative_pipeline(columns, GaussianDensity())
    if library == "polars":  # make_column_selector is for pandas
        columns.set_params(
            transformers=[("log", PowerTransformer("box-cox"), ["area"])]
        )
    model.fit(X)
    area = np.asarray(X["area"]).copy()
    area[[3, 5]] = [-1.0, 0.0]
    bad = LIBRARIES[library]({**{n: X[n] for n in X.columns}, "area": area})
    scores = scores_with_warning(model, bad, 2)
    assert_array_equal(np.flatnonzero(np.isneginf(scores)), [3, 5])


def test_names_are_passed_on_and_checked() -> None:
    X = frame("pandas")
    model = make_generative_pipeline(StandardScaler(), GaussianDensity()).fit(X)
    assert list(model.feature_names_in_) == list(X.columns)
    assert model.n_features_in_ == 4
    assert list(model[:-1].get_feature_names_out()) == list(X.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        model.score(X[["rooms", "price", "area", "new"]])
