"""The score and the careful estimate, where log p(x) is known."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

import skgen
from skgen._training.batches import Batch
from skgen.models.evaluation import (
    N_BLOCKS,
    LogLikelihood,
    estimate_log_likelihood,
    row_blocks,
)
from skgen.objectives import log_weights
from tests.toys import D, K, draws_of, generator, linear_gaussian, normal

pytestmark = pytest.mark.usefixtures("guarded_generators")


# The hash of a row.


def _grid(n: int) -> Any:
    """Rows with few distinct bits: small integers."""
    side = math.ceil(n ** (1 / 3))
    points = torch.cartesian_prod(*[torch.arange(side).double()] * 3)
    return points[:n]


ROWS: dict[str, Any] = {
    "normal": lambda n: normal(n, 5, seed=1),
    "one_column": lambda n: normal(n, 1, seed=1),
    "integers": _grid,
    "binary": lambda n: (normal(n, 40, seed=1) > 0).double(),
    "one_pixel": lambda n: torch.eye(n, dtype=torch.float64)[:, :64].unique(dim=0),
    "consecutive": lambda n: torch.arange(n)[:, None].double(),
    "neighbours": lambda n: 1 + torch.arange(n)[:, None].double() * 2.0**-23,
}


@pytest.mark.parametrize("kind", [k for k in ROWS if k != "one_pixel"])
def test_blocks_are_uniform(kind: str) -> None:
    blocks = row_blocks(ROWS[kind](8_000))
    assert blocks.min() >= 0
    assert blocks.max() < N_BLOCKS
    counts = torch.bincount(blocks, minlength=N_BLOCKS)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_rows_with_one_bright_pixel_have_different_blocks() -> None:
    blocks = row_blocks(torch.eye(64))
    # 64 draws of 256 have 56.6 distinct values in the mean, with deviation 2.4.
    assert len(blocks.unique()) > 47


def test_a_block_depends_on_the_row_alone() -> None:
    x = normal(100, 5, seed=1)
    order = torch.randperm(100, generator=generator())
    assert row_blocks(x)[order].equal(row_blocks(x[order]))
    assert row_blocks(x[7:8]).equal(row_blocks(x)[7:8])


def test_a_block_depends_on_the_order_of_the_columns() -> None:
    x = normal(1_000, 5, seed=1)
    same = (row_blocks(x) == row_blocks(x.flip(1))).double().mean()
    assert same < 5 / N_BLOCKS


def test_a_block_is_the_same_in_both_dtypes() -> None:
    x = normal(100, 5, seed=1, dtype=torch.float32)
    assert row_blocks(x).equal(row_blocks(x.double()))


def test_minus_zero_is_zero() -> None:
    assert row_blocks(torch.tensor([[0.0, 1.0]])).equal(
        row_blocks(torch.tensor([[-0.0, 1.0]]))
    )


def test_memory_order_does_not_matter() -> None:
    x = normal(100, 5, seed=1)
    assert row_blocks(x.T.contiguous().T).equal(row_blocks(x))


# The careful estimate.


def estimate(
    model: Any, x: Tensor, n_samples: int, n_per_pass: int, seed: int = 0
) -> tuple[Any, ...]:
    passes = iter(normal(n_samples, len(x), K, seed=seed).split(n_per_pass))
    return estimate_log_likelihood(
        lambda n: log_weights(model, Batch(x, next(passes))).detach(),
        n_samples,
        n_per_pass,
    )


def model_and_rows(n: int, **inexact: Any) -> tuple[Any, ...]:
    model, marginal = linear_gaussian(**inexact)
    x = draws_of(marginal, n)
    return model, x, marginal.log_prob(x)


def test_the_estimate_is_exact_under_the_exact_posterior() -> None:
    model, x, exact = model_and_rows(20)
    log_prob, error = estimate(model, x, 7, 3)
    torch.testing.assert_close(log_prob, exact)
    assert (error < 1e-6).all()


def test_the_estimate_has_the_error_that_it_says() -> None:
    model, x, exact = model_and_rows(400, shift=0.3, widen=0.3)
    log_prob, error = estimate(model, x, 2_000, 500)
    z = ((log_prob - exact) / error).numpy()
    assert abs(z.mean()) < 4 / math.sqrt(400)
    assert z.std() == pytest.approx(1, abs=4 / math.sqrt(800))
    assert 0.005 < error.mean() < 0.05


def test_the_estimate_does_not_depend_on_the_passes() -> None:
    model, x, _ = model_and_rows(20, shift=0.3, widen=0.3)
    whole = estimate(model, x, 100, 100)
    for n_per_pass in (1, 7, 99, 1_000):
        torch.testing.assert_close(estimate(model, x, 100, n_per_pass), whole)


def test_the_estimate_asks_for_as_many_draws_as_it_is_told() -> None:
    asked = []

    def draw(n: int) -> Any:
        asked.append(n)
        return torch.zeros(n, 2)

    log_prob, error = estimate_log_likelihood(draw, 10, 4)
    assert asked == [4, 4, 2]
    assert log_prob.tolist() == pytest.approx([0, 0])
    assert error.tolist() == pytest.approx([0, 0], abs=1e-7)
    assert log_prob.dtype == torch.float64


def test_the_estimate_survives_weights_beyond_the_range_of_exp() -> None:
    log_w = torch.tensor([[-5_000.0], [-5_001.0]])
    log_prob, error = estimate_log_likelihood(lambda n: log_w, 2, 2)
    a, b = 1.0, math.exp(-1)
    assert log_prob.item() == pytest.approx(-5_000 + math.log((a + b) / 2))
    variation = 2 * (a**2 + b**2) / (a + b) ** 2 - 1
    assert error.item() == pytest.approx(math.sqrt(variation / (2 - 1)))


def test_one_draw_says_nothing_about_its_error() -> None:
    log_prob, error = estimate_log_likelihood(lambda n: torch.zeros(n, 3), 1, 1)
    assert log_prob.tolist() == [0, 0, 0]
    assert error.isnan().all()


def test_the_error_of_a_mean_adds_up_squares() -> None:
    result = LogLikelihood(np.array([1.0, 3.0]), np.array([3.0, 4.0]))
    assert result.mean_log_prob == 2
    assert result.mean_standard_error == 2.5


# The score.


def test_the_module_scores_the_exact_density_under_the_exact_posterior() -> None:
    model, x, exact = model_and_rows(50)
    torch.testing.assert_close(model.log_prob(x).detach(), exact)


def test_a_score_is_below_the_density_in_the_mean() -> None:
    model, x, exact = model_and_rows(2_000, shift=0.5, widen=0.5)
    gap = exact - model.log_prob(x).detach()
    assert gap.mean() > 4 * gap.std() / math.sqrt(2_000)


def test_errors_of_rows_average_out() -> None:
    # Over pools of noise, the mean over n rows varies as one over sqrt(n) rows.
    n = 2_000
    model, x, _ = model_and_rows(n, shift=0.5, widen=0.5)
    scores: Any = []
    for seed in range(40):
        model.noise = normal(256, 8, K, seed=100 + seed)
        scores.append(model.log_prob(x).detach())
    scores = torch.stack(scores)
    one_row, mean_of_rows = scores.std(0).mean(), scores.mean(1).std()
    # 256 blocks are shared by the rows: errors are those of some 225 rows and more.
    assert mean_of_rows < 1.5 * one_row / math.sqrt(N_BLOCKS)


def test_equal_rows_have_equal_scores() -> None:
    model, x, _ = model_and_rows(3, shift=0.5, widen=0.5)
    scores = model.log_prob(x.repeat(4, 1)).detach().view(4, 3)
    torch.testing.assert_close(scores, scores[:1].expand(4, 3))


def small(name: str, **params: Any) -> Any:
    of_class: dict[str, Any] = {
        "VQVAE": {"codebook_size": 8, "n_tokens": 2, "code_size": 2}
    }
    return getattr(skgen, name)(
        **of_class.get(name, {"n_components": 2}),
        **{"hidden_layer_sizes": (16,), "learning_rate_init": 1e-2, **params},
        random_state=0,
    )


@pytest.fixture(scope="module", params=["VAE", "IWAE", "VQVAE"])
def fitted(request: pytest.FixtureRequest) -> tuple[Any, ...]:
    X = normal(200, D, seed=3).numpy() @ normal(D, D, seed=4).numpy()
    model = small(request.param, n_importance_samples=16)
    return model.fit(X), X


def test_the_careful_estimate_is_above_the_score(fitted: tuple[Any, ...]) -> None:
    model, X = fitted
    careful = model.log_likelihood(X, n_samples=1_000)
    assert careful.log_prob.shape == careful.standard_error.shape == (len(X),)
    # The score has 16 draws to its 1000, and errs by as much more.
    error = careful.mean_standard_error * math.sqrt(1_000 / 16)
    assert -4 * error < careful.mean_log_prob - model.score(X) < 1.0
    assert 0 < careful.mean_standard_error < 0.01


def test_the_careful_estimate_rises_with_its_draws(fitted: tuple[Any, ...]) -> None:
    model, X = fitted
    # Repeated, so that noise does not decide: from 10 draws on there is little to gain.
    means = [
        np.mean(
            [
                model.log_likelihood(X, n, random_state=r).mean_log_prob
                for r in range(20)
            ]
        )
        for n in (1, 3, 300)
    ]
    assert means == sorted(means)


def test_the_careful_estimate_repeats_itself(fitted: tuple[Any, ...]) -> None:
    model, X = fitted
    first, same, other = (
        model.log_likelihood(X, 20, random_state=seed) for seed in (0, 0, 1)
    )
    assert np.array_equal(first.log_prob, same.log_prob)
    assert not np.array_equal(first.log_prob, other.log_prob)


@pytest.mark.parametrize("n_samples", [0, -1, 2.5, None])
def test_the_careful_estimate_needs_a_number_of_draws(
    fitted: tuple[Any, ...], n_samples: float | None
) -> None:
    model, X = fitted
    with pytest.raises(ValueError, match=r"'n_samples' parameter of .*log_likelihood"):
        model.log_likelihood(X, n_samples)


# Densities integrate to one: importance sampling has no bias before the logarithm.


def cells(X: NDArray[Any], n: int) -> tuple[Any, ...]:
    """Midpoints and volume of a grid over the rows' range and as much again."""
    low, high = X.min(0), X.max(0)
    low, high = low - (high - low) / 2, high + (high - low) / 2
    axes = [a + (b - a) * (np.arange(n) + 0.5) / n for a, b in zip(low, high)]
    points = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, X.shape[1])
    return points, np.prod((high - low) / n)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("d", "n"), [(1, 500), (2, 30)])
def test_a_density_integrates_to_one(d: int, n: int) -> None:
    rng = np.random.RandomState(0)
    X = np.repeat([[-10.0, 40.0], [10.0, 0.0]], 100, axis=0)[:, :d]
    X = X + 8 * rng.randn(200, d)
    model = small("VAE", max_iter=20, n_importance_samples=64).fit(X)
    points, volume = cells(X, n)
    n_draws = 256
    careful = model.log_likelihood(points, n_draws)
    mass = np.exp(careful.log_prob) * volume
    error = np.sqrt(((mass * careful.standard_error) ** 2).sum())
    assert error < 0.01
    assert abs(mass.sum() - 1) < 4 * error + 1e-3
    # The score has fewer draws.
    score_mass = np.exp(model.score_samples(points)).sum() * volume
    assert abs(score_mass - 1) < 4 * error * math.sqrt(n_draws / 64) + 1e-3
