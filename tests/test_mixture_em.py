"""Laws of MixtureEM: closed forms of each kind, holes, conditions, and EM."""

import itertools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.special import logsumexp

import skgen
from skgen import GaussianMixtureEM, MixedDensity, MixtureEM
from skgen._utils.scales import column_scale
from skgen.exceptions import DegenerateWeightsWarning

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NAN = np.nan
PLAIN: dict[str, Any] = {"level_prior": 0.0, "variance_prior": 0.0, "random_state": 0}
RNG = np.random.RandomState(0)
N = 400
Z = RNG.rand(N) < 0.4
ATOM = RNG.rand(N) < 0.3
# Kind -> a column of it, of two clusters.
COLUMNS = {
    "normal": RNG.randn(N) + 4 * Z,
    "lognormal": np.exp(RNG.randn(N) + Z),
    "poisson": RNG.poisson(1 + 5 * Z),
    "negative_binomial": RNG.negative_binomial(2, 0.3, N) + 3 * Z,
    "bernoulli": RNG.rand(N) < 0.2 + 0.6 * Z,
    4: RNG.randint(4, size=N) * Z,
    ("bounded", 0, 1): RNG.beta(2 + 3 * Z, 3),
    ("bounded", 0, np.inf): RNG.exponential(1 + 2 * Z),
    ("whole", 0, 999): RNG.randint(0, 1000, N),
    ("whole", 1, 31): RNG.randint(1, 32, N),
    ("inflated", "real", (0.0,)): np.where(ATOM, 0, RNG.randn(N) + 2 * Z),
    ("inflated", "count", (0.0, 9.0)): np.where(ATOM, 0, RNG.poisson(3 + 2 * Z)),
    ("inflated", ("bounded", 0, 1), (0.5,)): np.where(ATOM, 0.5, RNG.rand(N)),
}
KINDS = list(COLUMNS)
X = np.column_stack(list(COLUMNS.values())).astype(float)
HOLES = np.where(RNG.rand(*X.shape) < 0.2, NAN, X)
WEIGHT = RNG.randint(1, 4, N).astype(float)
each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


def column(kind: Any, rows: Any = X) -> Any:
    return rows[:, [KINDS.index(kind)]]


def mixed(K: int = 3, **params: Any) -> Any:
    return MixtureEM(K, kinds=KINDS, random_state=0, **params)


@pytest.fixture(scope="module")
def model() -> Any:
    return mixed(max_iter=20).fit(HOLES, sample_weight=WEIGHT)


# EM.


@each_kind
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_no_iteration_lowers_the_likelihood(kind: Any, weight: Any) -> None:
    model = MixtureEM(3, kinds=[kind], tol=0, max_iter=15, **PLAIN)
    model.fit(column(kind, HOLES), sample_weight=weight)
    assert np.diff(model.lower_bounds_).min() > -1e-12


def test_no_iteration_lowers_the_likelihood_of_all_kinds_together() -> None:
    model = MixtureEM(4, kinds=KINDS, tol=0, max_iter=15, **PLAIN)
    bounds = model.fit(HOLES, sample_weight=WEIGHT).lower_bounds_
    assert np.diff(bounds).min() > -1e-12
    last = model.score(HOLES, sample_weight=WEIGHT)
    assert last >= bounds[-1] - 1e-12


def test_normal_columns_are_a_gaussian_mixture_from_the_same_start() -> None:
    start: dict[str, Any] = {
        "init_params": "random",
        "random_state": 0,
        "tol": 0,
        "max_iter": 20,
    }
    rows = X[:, :2]
    theirs = GaussianMixtureEM(3, covariance_type="diag", reg_covar=0, **start)
    ours = MixtureEM(3, reg_covar=0, variance_prior=0, **start)
    theirs.fit(rows), ours.fit(rows)
    assert_allclose(ours.lower_bounds_, theirs.lower_bounds_, atol=1e-8)
    assert_allclose(ours.means_, theirs.means_, atol=1e-8)
    assert_allclose(ours.score_samples(rows), theirs.score_samples(rows), atol=1e-8)
    assert_allclose(ours.transform(rows), theirs.transform(rows), atol=1e-8)
    assert ours.bic(rows) == pytest.approx(theirs.bic(rows))


def closed_form(kind: Any, x: Any) -> Any:
    """Mean log-likelihood of a column at its maximum."""
    match kind:
        case "normal":
            return stats.norm(x.mean(), x.std()).logpdf(x).mean()
        case "lognormal":
            log_x = np.log(x)
            return stats.norm(log_x.mean(), log_x.std()).logpdf(log_x).mean() - (
                log_x.mean()
            )
        case "poisson":
            return stats.poisson(x.mean()).logpmf(x).mean()
        case "negative_binomial":
            m = x.mean()

            def loss(log_r: Any) -> Any:
                r = np.exp(log_r[0])
                return -stats.nbinom(r, r / (r + m)).logpmf(x).mean()

            return -minimize(loss, [0.0]).fun
        case ("bounded", low, high):

            def loss_within(p: Any) -> Any:
                s = np.exp(p[1])
                return (
                    -stats.truncnorm((low - p[0]) / s, (high - p[0]) / s, *(p[0], s))
                    .logpdf(x)
                    .mean()
                )

            return -minimize(loss_within, [x.mean(), np.log(x.std())], tol=1e-10).fun
    p = np.unique(x, return_counts=True)[1] / len(x)
    return p @ np.log(p)


@pytest.mark.parametrize(
    "kind", [*KINDS[:6], ("bounded", 0, 1), ("whole", 1, 31)], ids=str
)
def test_one_component_is_the_maximum_likelihood(kind: Any) -> None:
    x = column(kind)
    model = MixtureEM(1, kinds=[kind], tol=1e-12, max_iter=300, **PLAIN).fit(x)
    assert model.score(x) == pytest.approx(closed_form(kind, x[:, 0]), abs=1e-6)


def test_priors_leave_one_component_as_it_is() -> None:
    plain = MixtureEM(1, kinds=KINDS[:4], **PLAIN).fit(X[:, :4])
    prior = MixtureEM(1, kinds=KINDS[:4], level_prior=5, variance_prior=5)
    prior.set_params(random_state=0, tol=1e-12).fit(X[:, :4])
    assert_allclose(prior.score(X[:, :4]), plain.score(X[:, :4]), atol=1e-4)


@pytest.mark.parametrize("batch_size", [None, 100])
def test_integer_weights_are_rows_given_again(batch_size: Any) -> None:
    params: dict[str, Any] = {
        "max_iter": 5,
        "tol": 0,
        "level_prior": 0,
        "variance_prior": 0,
    }
    again = np.repeat(HOLES, WEIGHT.astype(int), axis=0)
    if batch_size is None:  # one start for both: hard labels of one component
        weighted = mixed(1, **params).fit(HOLES, sample_weight=WEIGHT)
        repeated = mixed(1, **params).fit(again)
        assert_allclose(weighted.score_samples(X), repeated.score_samples(X), atol=1e-7)
    scaled = mixed(batch_size=batch_size, **params)
    one = scaled.fit(HOLES, sample_weight=WEIGHT).score_samples(X)
    other = scaled.fit(HOLES, sample_weight=3.7 * WEIGHT).score_samples(X)
    assert_allclose(one, other, atol=1e-9)


def test_rows_of_weight_zero_do_not_count() -> None:
    weight = np.where(np.arange(N) % 4, 1.0, 0.0)
    params: dict[str, Any] = {
        "max_iter": 5,
        "tol": 0,
        "init_params": "random_from_data",
    }
    some = mixed(**params).fit(HOLES[weight > 0])
    whole = mixed(**params).fit(HOLES, sample_weight=weight)
    assert_allclose(some.score_samples(X), whole.score_samples(X), atol=1e-10)


def test_stepwise_em_comes_near_to_em() -> None:
    params: dict[str, Any] = {
        "kinds": KINDS[:3],
        "tol": 0,
        "max_iter": 15,
        "random_state": 0,
    }
    em = MixtureEM(2, **params).fit(HOLES[:, :3])
    stepwise = MixtureEM(2, batch_size=100, **params).fit(HOLES[:, :3])
    assert stepwise.score(X[:, :3]) == pytest.approx(em.score(X[:, :3]), abs=0.05)
    assert len(stepwise.lower_bounds_) == 15


def test_an_average_is_that_of_the_densities_of_all_starts() -> None:
    params: dict[str, Any]
    rows, params = X[:, [0, 2, 4]], {"kinds": KINDS[0:5:2], "max_iter": 5}
    rng, scores = np.random.RandomState(0), []
    for _ in range(3):
        one = MixtureEM(4, init_params="random", random_state=rng, **params)
        scores.append(one.fit(rows).score_samples(rows))
    average = MixtureEM(4, n_init=3, combine="average", init_params="random", **params)
    average.set_params(random_state=0).fit(rows)
    assert average.transform(rows).shape == (N, 12)
    expected = logsumexp(scores, axis=0) - np.log(3)
    assert_allclose(average.score_samples(rows), expected, atol=1e-10)


def test_no_component_dies_under_priors() -> None:
    rows = np.round(X[:, [4, 5]])
    model = MixtureEM(30, kinds=["bernoulli", 4], weight_prior=0.5, random_state=0)
    model.set_params(init_params="random_from_data").fit(rows)
    assert model.weights_.min() > 0.4 / len(rows)
    every = np.array(list(itertools.product([0, 1], range(4))), dtype=float)
    assert np.isfinite(model.score_samples(every)).all()


def test_a_column_that_repeats_has_a_least_variance() -> None:
    rows = np.column_stack([np.round(X[:, 0]), np.full(N, 7.0)])
    model = MixtureEM(5, variance_prior=0, random_state=0).fit(rows)
    assert model.score(rows) < 10
    *_, floor = column_scale(rows[:, 0])
    scale = column_scale(rows[:, 0])[1]
    assert floor * scale**2 == pytest.approx(1 / 12)


# The density.


def test_masses_add_up_to_one() -> None:
    rows = np.column_stack([X[:, 4], X[:, 5], X[:, 9]])
    kinds = ["bernoulli", 4, ("whole", 1, 31)]
    model = MixtureEM(3, kinds=kinds, random_state=0).fit(rows)
    every = itertools.product([0, 1], range(4), range(1, 32))
    total = logsumexp(model.score_samples(np.array(list(every), dtype=float)))
    assert total == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("kind", ["poisson", "negative_binomial", KINDS[11], KINDS[8]])
def test_masses_of_whole_numbers_add_up_to_one(kind: Any) -> None:
    model = MixtureEM(2, kinds=[kind], random_state=0).fit(column(kind))
    last = 1000 if kind == KINDS[8] else 400
    scores = model.score_samples(np.arange(last, dtype=float)[:, None])
    assert logsumexp(scores) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["normal", "lognormal", *KINDS[6:8]])
def test_densities_integrate_to_one(kind: Any) -> None:
    model = MixtureEM(2, kinds=[kind], random_state=0).fit(column(kind))
    low, high = {"normal": (-20, 20), ("bounded", 0, 1): (0, 1)}.get(kind, (1e-9, 200))

    def density(x: Any) -> Any:
        return np.exp(model.score_samples([[x]])[0])

    points = np.quantile(column(kind), [0.1, 0.5, 0.9])
    total = quad(density, low, high, points=points, limit=200)[0]
    assert total == pytest.approx(1, abs=1e-5)


def one_by_one(model: Any, rows: Any) -> Any:
    """Log p(x_j | k) of each cell, (n, d, K), zero where it is missing."""
    fitted = model._model(torch.float64)
    found = np.zeros((*rows.shape, len(model.weights_)))
    for j in range(rows.shape[1]):
        alone = np.full_like(rows, NAN)
        alone[:, j] = rows[:, j]
        log_joint = fitted.log_masses(torch.tensor(alone)).numpy()
        found[:, j] = log_joint - np.log(model.weights_)
    return found


def test_marginals_are_sums_over_components_of_products_of_cells(model: Any) -> None:
    cells = one_by_one(model, HOLES)
    expected = logsumexp(np.log(model.weights_) + cells.sum(1), axis=1)
    assert_allclose(model.score_samples(HOLES), expected, atol=1e-10)


def test_conditionals_are_ratios_of_densities(model: Any) -> None:
    given = [0, 3, 5, 10]
    known = np.full_like(X, NAN)
    known[:, given] = X[:, given]
    expected = model.score_samples(X) - model.score_samples(known)
    assert_allclose(model.score_samples(X, given=given), expected, atol=1e-10)


def test_responsibilities_are_those_of_what_is_there(model: Any) -> None:
    log_p = np.log(model.weights_) + one_by_one(model, HOLES).sum(1)
    expected = np.exp(log_p - logsumexp(log_p, axis=1, keepdims=True))
    assert_allclose(model.transform(HOLES), expected, atol=1e-10)
    assert_array_equal(model.predict(HOLES), expected.argmax(1))


def test_a_row_of_which_nothing_is_there_has_the_weights(model: Any) -> None:
    nothing = np.full((1, X.shape[1]), NAN)
    assert_allclose(model.score_samples(nothing), 0, atol=1e-12)
    assert_allclose(model.transform(nothing)[0], model.weights_, atol=1e-12)


def test_narrow_components_far_apart_lose_no_digits() -> None:
    rng = np.random.RandomState(0)
    x = np.concatenate([1e-4 * rng.randn(200), 1e3 + 1e-4 * rng.randn(200)])[:, None]
    model = MixtureEM(2, reg_covar=0, variance_prior=0, random_state=0).fit(x)
    m, s = x[:200].mean(), x[:200].std()
    (part,) = model._parts
    k = model.means_[:, 0].argmin()
    own = part["variance"][k, 0] ** 0.5 * part["scale"][0]
    expected = stats.norm(m, own).logpdf(x[:200, 0]) + np.log(model.weights_[k])
    assert own == pytest.approx(s, rel=0.05)  # of squares, which cancel
    assert_allclose(model.score_samples(x[:200]), expected, atol=1e-4)


# Draws, and holes that are filled.


def test_samples_have_the_means_and_spreads_of_the_density(model: Any) -> None:
    drawn = model.sample(4000, random_state=0)
    again = mixed(1, tol=0, max_iter=20).fit(drawn)
    exact = mixed(1, tol=0, max_iter=20).fit(HOLES, sample_weight=WEIGHT)
    error = drawn.std(0) / 60
    numbers = [j for j, kind in enumerate(KINDS) if kind != 4]
    mean = (model.weights_ @ model.means_)[numbers]
    assert (np.abs(drawn.mean(0)[numbers] - mean) < 5 * error[numbers] + 1e-9).all()
    assert again.score(X) == pytest.approx(exact.score(X), abs=0.2)


def test_samples_are_in_the_support(model: Any) -> None:
    model._validate_rows(model.sample(500, random_state=0), reset=False)
    shown, code = model.sample(20, random_state=0, noise=False, return_code=True)
    assert_allclose(shown, model.inverse_transform(code))


def test_conditions_are_met_by_every_draw(model: Any) -> None:
    given: dict[Any, Any] = {
        0: (0, 1),
        1: (None, 2),
        2: (1, 3),
        3: (2, 9),
        4: [1],
        5: (1, 2),
    }
    given |= {6: (0.2, 0.4), 7: (1, 2), 8: (10, 200), 9: (5, 9), 10: (-1, 0.5)}
    given |= {11: (0, 2), 12: (0.4, 0.6)}
    with warnings.catch_warnings():
        warnings.simplefilter("error", DegenerateWeightsWarning)
        drawn = model.sample(400, 0, given=given)
    for j, ends in given.items():
        if isinstance(ends, list):
            assert (drawn[:, j] == ends[0]).all()
            continue
        low, high = (-np.inf if ends[0] is None else ends[0]), ends[1]
        assert ((drawn[:, j] >= low) & (drawn[:, j] <= high)).all()
    model._validate_rows(drawn, reset=False)
    with pytest.raises(ValueError, match="no mass"):
        model.sample(5, 0, given={4: (0.2, 0.4)})


@each_kind
def test_intervals_are_drawn_as_the_density_has_them(kind: Any) -> None:
    x = column(kind)
    model = MixtureEM(2, kinds=[kind], random_state=0).fit(x)
    low, high = np.quantile(x, [0.2, 0.8])
    drawn = model.sample(20000, 0)[:, 0]
    inside = drawn[(drawn >= low) & (drawn <= high)]
    given = model.sample(5000, 1, given={0: (low, high)})[:, 0]
    error = inside.std() * (1 / len(inside) + 1 / 5000) ** 0.5
    assert abs(given.mean() - inside.mean()) <= 5 * error + 1e-12


def test_holes_are_filled_with_what_the_rest_says(model: Any) -> None:
    filled = model.impute(HOLES)
    seen = ~np.isnan(HOLES)
    assert_array_equal(filled[seen], HOLES[seen])
    resp = model.transform(HOLES)
    expected = resp @ model.means_
    missing = np.isnan(HOLES[:, 0])
    assert_allclose(filled[missing, 0], expected[missing, 0])
    draws = [model.impute(HOLES, noise=True, random_state=i)[:, 0] for i in range(30)]
    error = np.std(draws, axis=0)[missing] / 30**0.5
    gap = np.abs(np.mean(draws, axis=0) - filled[:, 0])[missing]
    assert (gap < 5 * error).all()


# Kinds, and the table around it.


def test_kinds_are_guessed() -> None:
    rows = np.column_stack([X[:, 0], X[:, 4], X[:, 5]])
    model = MixtureEM(2, kinds="auto", random_state=0).fit(rows)
    assert model.kinds_ == ["real", 2, 4]
    named = MixtureEM(kinds=["normal", "bernoulli", "categorical"]).fit(rows)
    assert named.kinds_ == ["real", "bernoulli", 4]
    inflated = MixtureEM(kinds="inflated").fit(column(KINDS[10]))
    assert inflated.kinds_[0][::2] == ("inflated", (0.0,))
    assert MixtureEM(kinds="bounded").fit(column(KINDS[6])).kinds_[0][0] == "bounded"


def test_a_cell_outside_of_its_kind_is_named() -> None:
    with pytest.raises(ValueError, match=r"Column 1 of X is of the kind 'positive'"):
        MixtureEM(kinds=["normal", "lognormal"]).fit([[1.0, 2.0], [2.0, -1.0]])
    model = MixtureEM(kinds="bernoulli").fit([[0.0], [1.0]])
    with pytest.raises(ValueError, match=r"levels 0 to 1, but it has the value 2"):
        model.score_samples([[2.0]])
    with pytest.raises(ValueError, match=r"X has 1 features, but the 'kinds'"):
        MixtureEM(kinds=["normal", "normal"]).fit([[0.0], [1.0]])


def test_files_hold_every_kind(model: Any, tmp_path: Path) -> None:
    skgen.save(model, tmp_path / "model.safetensors")
    same = skgen.load(tmp_path / "model.safetensors")
    assert same.kinds_ == model.kinds_
    assert_array_equal(same.score_samples(HOLES), model.score_samples(HOLES))
    assert_array_equal(same.sample(5, 0), model.sample(5, 0))


def test_a_table_with_names_and_levels(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "age": np.round(20 + 10 * np.abs(X[:, 0])).astype(int),
            "visits": X[:, 2].astype(int),
            "ward": np.where(Z, "north", "south"),
            "sum": X[:, 0] + 0.1 * RNG.randn(N),
        }
    )
    table.loc[::7, "ward"] = None
    table.loc[::5, "sum"] = NAN
    density = MixedDensity(MixtureEM(6, random_state=0)).fit(table)
    assert density.estimator_.kinds_ == [code.density for code in density._codes]
    assert np.isfinite(density.score_samples(table)).all()
    assert (density.sample(20, random_state=0).dtypes == table.dtypes).all()
    filled = density.impute(table)
    assert not filled.isna().any().any()
    missing = table["ward"].isna()
    right = np.where(Z, "north", "south")[missing] == filled["ward"][missing]
    assert right.mean() > 0.8
    assert not hasattr(density, "log_likelihood")
    skgen.save(density, tmp_path / "table.safetensors")
    same = skgen.load(tmp_path / "table.safetensors")
    assert_array_equal(same.score_samples(table), density.score_samples(table))
    with pytest.raises(ValueError, match="has kinds='auto', but the kinds is made"):
        MixedDensity(MixtureEM(kinds="auto")).fit(table)
