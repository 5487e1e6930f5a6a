"""Measures of codes, samples and scores, against closed forms."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.metrics import pairwise_distances_chunked
from sklearn.metrics.pairwise import rbf_kernel

from skgen import VAE
from skgen.metrics import (
    active_units,
    bits_per_dimension,
    codebook_perplexity,
    energy_distance,
    factor_vae_score,
    kernel_mmd,
    modularity,
    mutual_information_gap,
    two_sample_test,
)
from skgen.metrics.two_sample import MEDIAN_ROWS, _median_gamma

pytestmark = pytest.mark.usefixtures("guarded_generators")


def normal(*shape: Any, seed: int = 0) -> NDArray[Any]:
    return np.random.RandomState(seed).normal(size=shape)


def every_combination(*sizes: Any, repeats: int = 1) -> NDArray[Any]:
    """Factors (n, F) of a full set, each combination ``repeats`` times."""
    table = np.indices(sizes).reshape(len(sizes), -1).T
    return np.repeat(table, repeats, axis=0)


def assert_mean(values: list[Any], expected: float) -> None:
    """Hold the mean of independent values against what it should be."""
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(np.mean(values) - expected) < 4 * error


# What is in use.


def test_active_units_vary_more_than_the_threshold() -> None:
    codes = np.array([[1.0, 0.2, 0.05, 3.0], [-1.0, 0.0, -0.05, 3.0]])
    # Variances 1, 0.01, 0.0025 and 0.
    assert active_units(codes, threshold=0.005) == 2
    assert active_units(codes, threshold=0.0) == 3
    assert active_units(codes, threshold=1.0) == 0  # above, not at
    assert active_units(codes + 1e3, threshold=0.005) == 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_active_units_are_those_that_a_vae_says() -> None:
    X = normal(100, 3)
    model = VAE(4, hidden_layer_sizes=(8,), max_iter=2, early_stopping=False)
    codes = model.set_params(random_state=0).fit(X).transform(X)
    assert active_units(codes) == model.active_units_
    np.testing.assert_allclose(codes.var(0), model.latent_variances_, rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32])
def test_perplexity_of_codes_used_alike_is_their_number(dtype: type[Any]) -> None:
    tokens = np.arange(24).reshape(8, 3).astype(dtype) % 6
    assert codebook_perplexity(tokens, codebook_size=100) == pytest.approx(6)


def test_perplexity_is_the_exponential_of_an_entropy() -> None:
    assert codebook_perplexity(np.full((5, 2), 7)) == pytest.approx(1)
    # 4^(3/4) (4/3)^(1/4) turned around: frequencies 1/4 and 3/4.
    expected = 4**0.25 * (4 / 3) ** 0.75
    assert codebook_perplexity([3, 0, 3, 3]) == pytest.approx(expected)
    assert codebook_perplexity([[3, 0], [3, 3]]) == pytest.approx(expected)


# What codes stand for.


def test_mig_of_the_factors_themselves_is_one() -> None:
    factors = every_combination(3, 4, 2)
    codes = factors[:, [2, 0, 1]] * [-1.0, 0.5, 1e-3] + 7
    assert mutual_information_gap(codes, factors) == pytest.approx(1)
    with_a_dead_one = np.hstack([codes, np.zeros((len(codes), 1))])
    assert mutual_information_gap(with_a_dead_one, factors) == pytest.approx(1)


def test_mig_is_zero_where_two_coordinates_say_the_same() -> None:
    factors = every_combination(3, 4)
    codes = np.hstack([factors, -factors])
    assert mutual_information_gap(codes, factors) == pytest.approx(0, abs=1e-12)


def test_mig_is_the_information_of_the_second_coordinate_short_of_one() -> None:
    factors = every_combination(4, 2)
    a, b = factors.T
    # The third coordinate knows log 2 of the log 4 nats of the first factor.
    codes = np.column_stack([a, b, a // 2])
    assert mutual_information_gap(codes, factors) == pytest.approx((0.5 + 1) / 2)
    # Alone, a coordinate has no second; and nothing knows the second factor.
    assert mutual_information_gap(a[:, None], factors) == pytest.approx((1 + 0) / 2)


def test_mig_of_noise_is_within_the_bias_of_counts() -> None:
    factors = every_combination(3, 4, repeats=500)
    n, n_bins = len(factors), 10
    gap = mutual_information_gap(normal(n, 5), factors, n_bins=n_bins)
    bias = [(n_bins - 1) * (K - 1) / (2 * n) / math.log(K) for K in (3, 4)]
    assert 0 <= gap < 2 * np.mean(bias)


def test_mig_falls_when_the_code_is_turned() -> None:
    factors = every_combination(8, 8)
    turned = factors @ np.array([[1, 1], [-1, 1]]) / math.sqrt(2)
    assert mutual_information_gap(turned, factors) < 0.05


def test_bins_have_equal_width() -> None:
    factors = every_combination(2, 2)
    a, b = factors.T
    # 0 and 0.4 share a bin of two, 0.4 and 1 do not.
    codes = np.column_stack([0.4 * a, b])
    codes[0, 0] = 1.0
    with_two = mutual_information_gap(codes, factors, n_bins=2)
    assert mutual_information_gap(codes, factors, n_bins=3) > with_two + 0.1


@pytest.mark.parametrize(
    "measure",
    [
        mutual_information_gap,
        modularity,
        functools.partial(factor_vae_score, n_train=50, n_test=50, random_state=0),
    ],
)
def test_factors_may_have_any_names(measure: Callable[..., Any]) -> None:
    factors = every_combination(3, 4, repeats=5)
    codes = factors + normal(*factors.shape)
    names = np.array(["a", "b", "c", "d"])[factors]
    assert measure(codes, names) == measure(codes, factors)
    assert measure(codes, factors / 10) == measure(codes, factors)


def test_modularity_of_coordinates_of_one_factor_is_one() -> None:
    factors = every_combination(3, 4, 2)
    codes = factors[:, [0, 0, 2, 1]]
    assert modularity(codes, factors) == pytest.approx(1)


def test_modularity_counts_what_else_a_coordinate_knows() -> None:
    factors = every_combination(4, 4, 2)
    a, b, c = factors.T
    both = 4 * a + b
    # m = (log 4, log 4, 0): one of two other factors is known in full.
    assert modularity(both[:, None], factors) == pytest.approx(1 / 2)
    assert modularity(both[:, None], factors[:, :2]) == pytest.approx(0, abs=1e-12)
    # m = (log 4, 0, log 2): (log 2 / log 4)^2 over 2.
    mixed = 2 * a + c
    assert modularity(mixed[:, None], factors) == pytest.approx(1 - 0.25 / 2)
    dead = np.zeros_like(c)
    assert modularity(np.column_stack([c, dead]), factors) == pytest.approx(1 / 2)


few_votes = functools.partial(factor_vae_score, n_train=400, n_test=200, random_state=0)


def test_factor_vae_score_of_the_factors_themselves_is_one() -> None:
    factors = every_combination(5, 4, 3, repeats=2)
    codes = factors[:, [2, 0, 1]] * [-1.0, 10.0, 2.0] + 7
    assert few_votes(codes, factors) == 1
    noise = normal(len(factors), 2)
    assert few_votes(np.hstack([noise, codes]), factors) == 1


def test_factor_vae_score_of_noise_is_chance() -> None:
    factors = every_combination(4, 4, 4, repeats=40)
    n_test, chance = 1000, 1 / 3
    score = factor_vae_score(
        normal(len(factors), 6), factors, n_train=300, n_test=n_test, random_state=0
    )
    assert abs(score - chance) < 4 * math.sqrt(chance * (1 - chance) / n_test)


def test_factor_vae_score_is_the_part_of_factors_with_a_coordinate() -> None:
    # No coordinate stands still with the third factor: its votes go to either.
    factors = every_combination(4, 4, 4)
    score = few_votes(factors[:, :2], factors)
    assert abs(score - 2 / 3) < 4 * math.sqrt(2 / 9 / 200)


def test_dead_coordinates_have_no_vote() -> None:
    factors = every_combination(3, 4, repeats=5)
    codes = factors + 0.5 * normal(*factors.shape)
    dead = 0.2 * normal(len(codes), 1, seed=1)  # variance 0.04
    assert few_votes(np.hstack([dead, codes]), factors) == few_votes(codes, factors)
    assert few_votes(dead, factors) == 0


def test_votes_do_not_depend_on_units() -> None:
    factors = every_combination(3, 4, repeats=5)
    codes = factors + normal(*factors.shape)
    assert few_votes(codes * [64, 1], factors) == few_votes(codes, factors) < 1


def test_factor_vae_score_repeats_with_its_seed() -> None:
    factors = every_combination(3, 4, repeats=5)
    codes = factors + normal(*factors.shape)
    assert few_votes(codes, factors) == few_votes(codes, factors)
    scores = {few_votes(codes, factors, random_state=seed) for seed in range(5)}
    assert len(scores) > 1


# Whether samples are like the data.


def test_energy_distance_of_two_points_is_twice_their_distance() -> None:
    assert energy_distance([[0.0, 0.0]], [[3.0, 4.0]]) == pytest.approx(10)
    X, Y = np.zeros((7, 2)), np.tile([3.0, 4.0], (4, 1))
    assert energy_distance(X, Y) == pytest.approx(10)


def test_energy_distance_of_a_set_and_itself_is_zero() -> None:
    X = normal(50, 3)
    assert energy_distance(X, X[::-1]) == pytest.approx(0, abs=1e-8)
    assert energy_distance(X, np.vstack([X, X])) == pytest.approx(0, abs=1e-8)


def test_energy_distance_of_one_column_is_the_square_of_scipys() -> None:
    x, y = normal(40), normal(30, seed=1) + 0.5
    expected = stats.energy_distance(x, y) ** 2
    assert energy_distance(x[:, None], y[:, None]) == pytest.approx(expected, rel=1e-9)


def test_energy_distance_is_its_definition() -> None:
    X, Y = normal(40, 5), normal(30, 5, seed=1) + 0.5
    expected = 2 * cdist(X, Y).mean() - cdist(X, X).mean() - cdist(Y, Y).mean()
    assert energy_distance(X, Y) == pytest.approx(expected, rel=1e-9)
    assert energy_distance(Y, X) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("measure", [energy_distance, kernel_mmd])
def test_distances_keep_their_digits_far_from_the_origin(
    measure: Callable[..., Any],
) -> None:
    X, Y = normal(40, 2), normal(30, 2, seed=1) + 0.5
    assert measure(X + 1e6, Y + 1e6) == pytest.approx(measure(X, Y), rel=1e-6)


def test_energy_distance_has_the_bias_that_it_says() -> None:
    n, m, rng = 10, 15, np.random.RandomState(0)
    values = [
        energy_distance(rng.normal(size=(n, 1)), rng.normal(size=(m, 1)))
        for _ in range(200)
    ]
    # E|x - x'| of standard normals is 2 / sqrt(pi).
    assert_mean(values, (1 / n + 1 / m) * 2 / math.sqrt(math.pi))


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_mmd_of_normals_has_no_bias(shift: float) -> None:
    gamma, rng = 0.7, np.random.RandomState(0)
    values = [
        kernel_mmd(rng.normal(size=(8, 1)), rng.normal(shift, size=(12, 1)), gamma)
        for _ in range(200)
    ]
    # x - y ~ N(-shift, 2), and E exp(-gamma (x - y)^2) is a normal integral.
    same = 1 / math.sqrt(1 + 4 * gamma)
    across = same * math.exp(-gamma * shift**2 / (1 + 4 * gamma))
    assert_mean(values, 2 * same - 2 * across)


def test_mmd_is_its_definition() -> None:
    X, Y, gamma = normal(20, 3), normal(15, 3, seed=1) + 0.5, 0.3

    def within(X: Any) -> Any:
        kernel = rbf_kernel(X, gamma=gamma)
        return kernel[~np.eye(len(X), dtype=bool)].mean()

    expected = within(X) + within(Y) - 2 * rbf_kernel(X, Y, gamma=gamma).mean()
    assert kernel_mmd(X, Y, gamma=gamma) == pytest.approx(expected, rel=1e-9)
    assert kernel_mmd(Y, X, gamma=gamma) == pytest.approx(expected, rel=1e-9)


def test_the_default_gamma_is_of_the_median_distance() -> None:
    # Distances of different rows: 1, 3, 3, 4, 4; the median is 3.
    X, Y = [[0.0], [1.0]], [[4.0], [4.0]]
    assert kernel_mmd(X, Y) == kernel_mmd(X, Y, gamma=1 / (2 * 3**2))
    assert kernel_mmd(np.ones((3, 2)), np.ones((2, 2))) == pytest.approx(0)


def test_the_median_of_many_rows_is_that_of_some() -> None:
    rows = normal(3 * MEDIAN_ROWS, 2)
    # Distances of normals in the plane are Rayleigh with scale sqrt(2): the median
    # squared is 4 log 2.
    assert _median_gamma(rows) == pytest.approx(1 / (8 * math.log(2)), rel=0.05)
    assert _median_gamma(rows) == _median_gamma(rows)


@pytest.mark.parametrize(
    "measure",
    [
        energy_distance,
        kernel_mmd,
        lambda X, Y: two_sample_test(X, Y, random_state=0),
        lambda X, Y: two_sample_test(X, Y, "mmd", random_state=0),
    ],
)
def test_chunks_change_nothing(measure: Callable[..., Any]) -> None:
    X, Y = normal(60, 3), normal(50, 3, seed=1) + 0.2
    whole = measure(X, Y)
    with sklearn.config_context(working_memory=0.005):  # MiB: six rows of distances
        assert len(list(pairwise_distances_chunked(np.vstack([X, Y])))) > 10
        np.testing.assert_allclose(measure(X, Y), whole, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "measure"), [("energy", energy_distance), ("mmd", kernel_mmd)]
)
def test_the_statistic_of_a_test_is_the_distance(
    name: str, measure: Callable[..., Any]
) -> None:
    X, Y = normal(30, 3), normal(20, 3, seed=1)
    result = two_sample_test(X, Y, name, n_permutations=9, random_state=0)
    assert result.statistic == pytest.approx(measure(X, Y), rel=1e-9)


@pytest.mark.parametrize("statistic", ["energy", "mmd"])
def test_p_values_are_uniform_under_equal_laws(statistic: str) -> None:
    rng, n_permutations = np.random.RandomState(0), 4
    p_values = [
        two_sample_test(
            rng.normal(size=(8, 2)),
            rng.normal(size=(6, 2)),
            statistic,
            n_permutations=n_permutations,
            random_state=rng,
        ).p_value
        for _ in range(200)
    ]
    # They are 1/5, 2/5, ..., 1, each as often as the others.
    ranks = np.round(np.array(p_values) * 5).astype(int)
    np.testing.assert_allclose(p_values, ranks / 5)
    counts = np.bincount(ranks, minlength=6)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > 1e-3


@pytest.mark.parametrize("statistic", ["energy", "mmd"])
def test_different_laws_have_small_p_values(statistic: str) -> None:
    X, Y = normal(40, 2), normal(50, 2, seed=1)
    for other in (Y + 1, 3 * Y):  # another mean, another spread
        result = two_sample_test(X, other, statistic, random_state=0)
        assert result.p_value == pytest.approx(1 / 200)
    assert two_sample_test(X, Y, statistic, random_state=0).p_value > 0.05


@pytest.mark.parametrize("statistic", ["energy", "mmd"])
def test_equal_divisions_count_as_large(statistic: str) -> None:
    # Of the six divisions of four rows into pairs, the one with names exchanged has
    # the same statistic, and in other sums other rounding.
    for seed in range(6):
        X, Y = normal(2, 5, seed=seed), normal(2, 5, seed=100 + seed) + 50
        result = two_sample_test(X, Y, statistic, n_permutations=999, random_state=0)
        assert abs(result.p_value - 2 / 6) < 4 * math.sqrt(2 / 9 / 1000)


def test_a_two_sample_test_repeats_with_its_seed() -> None:
    X, Y = normal(20, 2), normal(20, 2, seed=1)
    test = functools.partial(two_sample_test, X, Y)
    assert test(random_state=3) == test(random_state=3)
    assert len({test(random_state=seed).p_value for seed in range(5)}) > 1


# Units of scores.


def test_uniform_levels_have_as_many_bits_as_their_number_needs() -> None:
    d = 12
    assert bits_per_dimension(-d * math.log(256), d) == pytest.approx(8)
    assert isinstance(bits_per_dimension(-1, d), float)


def test_bits_keep_the_shape_of_scores() -> None:
    scores = np.array([[-math.log(2), 0.0, math.log(4)]])
    np.testing.assert_allclose(bits_per_dimension(scores, 2), [[0.5, 0, -1]])


def test_bits_of_smaller_units_are_more() -> None:
    # Rows times 256 have densities that are 256^-d times as large: 8 bits more.
    X, d = normal(50, 3), 3
    small = stats.norm.logpdf(X).sum(1)
    large = stats.norm.logpdf(256 * X, scale=256).sum(1)
    np.testing.assert_allclose(
        bits_per_dimension(large, d), bits_per_dimension(small, d) + 8
    )


# Errors.

FACTORS = every_combination(2, 2, repeats=2)
CODES = FACTORS.astype(float)
ROWS = normal(5, 2)

BAD: dict[str, Any] = {
    "codes with nan": (lambda: active_units([[np.nan]]), "contains NaN"),
    "flat codes": (lambda: active_units([1.0, 2.0]), "Expected 2D array"),
    "threshold": (lambda: active_units(CODES, -1), "threshold == -1, must be >= 0"),
    "token": (lambda: codebook_perplexity([0, 4], 4), r"range \[0, 3\].*Got 4"),
    "token below": (lambda: codebook_perplexity([0, -1]), "Got -1"),
    "half a token": (lambda: codebook_perplexity([0.5]), "Got 0.5"),
    "codebook_size": (lambda: codebook_perplexity([0], 0), "codebook_size == 0"),
    "lengths": (
        lambda: mutual_information_gap(CODES[1:], FACTORS),
        "inconsistent numbers of samples",
    ),
    "flat factors": (
        lambda: mutual_information_gap(CODES, FACTORS[:, 0]),
        "Expected 2D array",
    ),
    "constant factor": (
        lambda: mutual_information_gap(CODES, FACTORS * [1, 0]),
        "Column 1 of factors is constant.*Leave it out",
    ),
    "n_bins": (lambda: modularity(CODES, FACTORS, 1), "n_bins == 1, must be >= 2"),
    "one factor": (
        lambda: modularity(CODES, FACTORS[:, :1]),
        "1 column.* minimum of 2 is required",
    ),
    "one vote factor": (
        lambda: factor_vae_score(CODES, FACTORS[:, :1]),
        "1 column.* minimum of 2 is required",
    ),
    "continuous factor": (
        lambda: factor_vae_score(CODES, normal(8, 2)),
        "Column 0 of factors has a value that one row alone has",
    ),
    "batch_size": (
        lambda: factor_vae_score(CODES, FACTORS, batch_size=1),
        "batch_size == 1, must be >= 2",
    ),
    "n_train": (lambda: factor_vae_score(CODES, FACTORS, n_train=0), "n_train == 0"),
    "n_test": (lambda: factor_vae_score(CODES, FACTORS, n_test=0), "n_test == 0"),
    "columns": (lambda: energy_distance(ROWS, ROWS[:, :1]), "X.shape.1. == 2 while"),
    "gamma": (lambda: kernel_mmd(ROWS, ROWS, 0.0), "gamma == 0.0, must be > 0"),
    "infinite gamma": (lambda: kernel_mmd(ROWS, ROWS, np.inf), "gamma == inf"),
    "one row": (
        lambda: kernel_mmd(ROWS, ROWS[:1]),
        "Y with 1 sample.*minimum of 2 is required.*energy_distance",
    ),
    "statistic": (
        lambda: two_sample_test(ROWS, ROWS, "mean"),
        r"'statistic'.*must be a str among \{'energy', 'mmd'\}. Got 'mean' instead",
    ),
    "n_permutations": (
        lambda: two_sample_test(ROWS, ROWS, n_permutations=0),
        "n_permutations == 0, must be >= 1",
    ),
    "n_features": (lambda: bits_per_dimension(0.0, 0), "n_features == 0"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD.keys())
def test_errors_name_what_is_wrong(call: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
