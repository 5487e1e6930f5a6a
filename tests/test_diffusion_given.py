"""Diffusion of rows with missing cells, against closed forms; of images; of levels."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal, norm
from sklearn.datasets import load_digits, make_moons
from torch import nn

import skgen
from skgen import Diffusion, MixedDensity
from skgen._networks.dense import Standardizer
from skgen._networks.unet import UNet
from skgen._training.batches import Batch
from skgen._training.data import Rows
from skgen.likelihoods.noised import Noised
from skgen.models.diffusion import DiffusionModel
from skgen.models.noising import FIRST, LAST, Level, Shares
from tests.test_diffusion import SMALL, OfNormal, diffusion, module_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MIXING = np.array([[1.0, 0.0, 0.0], [0.7, 0.7, 0.0], [-0.4, 0.5, 0.7]])
COVARIANCE = MIXING @ MIXING.T
COVARIANCE /= np.sqrt(np.outer(np.diag(COVARIANCE), np.diag(COVARIANCE)))
DRAWN = multivariate_normal(np.zeros(3), COVARIANCE).rvs(40, random_state=0)
NAN = math.nan


def with_holes(rows: Any, columns: Any) -> Any:
    holes = rows.copy()
    holes[:, columns] = NAN
    return holes


@pytest.fixture(scope="module")
def exact() -> Any:
    return module_of(OfNormal(COVARIANCE), 48, 32)


# Missing numbers, where the score is known.


def test_with_no_known_cell_nothing_is_known(exact: Any) -> None:
    x = torch.full((3, 3), NAN, dtype=torch.float64)
    with torch.no_grad():
        assert_allclose(exact.log_prob(x), 0, atol=1e-9)


@pytest.mark.parametrize("gone", [[2], [0, 1]])
def test_densities_of_known_cells_are_marginals(exact: Any, gone: Any) -> None:
    known = [j for j in range(3) if j not in gone]
    part = COVARIANCE[np.ix_(known, known)]
    truth = multivariate_normal(np.zeros(len(known)), part).logpdf(DRAWN[:, known])
    holes = torch.from_numpy(with_holes(DRAWN, gone))
    with torch.no_grad():
        found = exact.log_prob(holes).numpy()
        careful, error = exact.careful_log_prob(
            holes[:4], 8, torch.Generator().manual_seed(0)
        ).T
    assert abs((found - truth).mean()) < 0.1
    assert (found - truth).std() < 0.4
    assert (abs(careful.numpy() - truth[:4]) < 4 * error.numpy() + 0.1).all()


@pytest.mark.parametrize("gone", [[1, 2]])
def test_cells_are_filled_by_their_conditional_density(exact: Any, gone: Any) -> None:
    known = [j for j in range(3) if j not in gone]
    to_known = np.linalg.inv(COVARIANCE[np.ix_(known, known)])
    slope = COVARIANCE[np.ix_(gone, known)] @ to_known
    left = COVARIANCE[np.ix_(gone, gone)] - slope @ COVARIANCE[np.ix_(known, gone)]
    means = DRAWN[:, known] @ slope.T
    holes = torch.from_numpy(with_holes(DRAWN, gone))
    with torch.no_grad():
        found = exact.impute(holes, None).numpy()
    assert_array_equal(found[:, known], DRAWN[:, known])
    # Of 48 particles.
    spread = np.sqrt(np.diag(left))
    assert abs((found[:, gone] - means).mean(0) / spread).max() < 0.2
    assert ((found[:, gone] - means) / spread).std() < 0.4
    many = holes[:1].repeat(200, 1)
    with torch.no_grad():
        drawn = exact.impute(many, torch.Generator().manual_seed(0)).numpy()
    drawn = (drawn[:, gone] - means[0]) / spread
    assert abs(drawn.mean(0)).max() < 0.25
    assert abs(drawn.std(0) - 1).max() < 0.2


# Missing cells of a fitted model.


@pytest.fixture(scope="module")
def fitted() -> Any:
    law = multivariate_normal([5.0, -3.0], [[100.0, 0.8], [0.8, 0.01]])
    return diffusion(max_iter=30).fit(law.rvs(800, random_state=0)), law


def test_units_of_missing_columns_do_not_matter(fitted: Any) -> None:
    model, law = fitted
    rows = law.rvs(60, random_state=1)
    first = model.score_samples(with_holes(rows, [1]))
    assert abs((first - norm(5, 10).logpdf(rows[:, 0])).mean()) < 0.15
    given = model.score_samples(rows, given=[0])
    assert_allclose(given, model.score_samples(rows) - first)
    second = model.score_samples(with_holes(rows, [0]))
    assert abs((second - norm(-3, 0.1).logpdf(rows[:, 1])).mean()) < 0.15


def test_known_cells_decide_the_others(fitted: Any) -> None:
    model, _ = fitted
    drawn = model.sample(50, random_state=0, given={0: 15.0})
    assert (drawn[:, 0] == 15).all()
    assert abs(drawn[:, 1].mean() + 2.92) < 0.05
    table = model.sample(1, random_state=0, given=[[15.0, NAN], [NAN, -3.1]])
    assert (table[0, 0], table[1, 1]) == (15, -3.1)
    again = model.impute([[15.0, NAN]], noise=True, random_state=0)
    assert_array_equal(again, model.impute([[15.0, NAN]], noise=True, random_state=0))
    with pytest.raises(ValueError, match="not an interval"):
        model.sample(2, given={0: (1, 2)})
    with pytest.raises(ValueError, match="Fill them by impute"):
        model.transform([[NAN, 1.0]])


def test_a_score_of_known_cells_is_that_of_the_row_alone(fitted: Any) -> None:
    model, law = fitted
    rows = law.rvs(10, random_state=2)
    rows[::2, 1] = rows[1::4, 0] = NAN
    scores = model.score_samples(rows)
    assert_allclose(model.score_samples(rows[3:6]), scores[3:6], rtol=1e-9)
    assert np.isfinite(scores).all()


def test_a_fit_wants_complete_rows() -> None:
    with pytest.raises(ValueError, match="complete rows"):
        diffusion().fit([[1.0, NAN], [2.0, 3.0]])


def test_labels_and_missing_cells() -> None:
    X, y = make_moons(200, noise=0.1, random_state=0)
    model = diffusion(condition="auto", max_iter=5, n_times=8, n_steps=8).fit(X, y)
    holes = with_holes(X[:6], [1])
    assert np.isfinite(model.score_samples(holes, y[:6])).all()
    assert np.isfinite(model.score_samples(holes)).all()
    assert np.isfinite(model.impute(holes, y[:6])).all()
    assert model.sample(3, y=1, given={0: 0.5}).shape == (3, 2)


# Images.


def test_a_unet_is_a_map_of_images_row_by_row() -> None:
    torch.manual_seed(0)
    network = UNet(9, 12, 9 * 12 * 2, 5, channels=8)
    rows = torch.randn(3, 4, 9 * 12 * 2 + 5)
    found = network(rows)
    assert found.shape == (3, 4, 9 * 12 * 2)
    assert_allclose(found[1, 2].detach(), network(rows[1, 2:3])[0].detach(), atol=1e-5)


def test_images_are_learned(tmp_path: Path) -> None:
    X, y = load_digits(return_X_y=True)
    model = diffusion(
        **{"architecture": "conv", "image_shape": (8, 8), "channels": 8},
        **{"condition": "auto", "max_iter": 2, "batch_size": 50},
        **{"n_times": 2, "n_steps": 2},
    ).fit(X[:100], y[:100])
    start = -model.loss_curve_[0]
    assert -model.loss_curve_[-1] > start
    drawn = model.sample(2, y=3, random_state=0)
    assert drawn.shape == (2, 64)
    skgen.save(model, tmp_path / "unet.safetensors")
    again = skgen.load(tmp_path / "unet.safetensors")
    assert_array_equal(again.sample(2, y=3, random_state=0), drawn)


# Levels.

JOINT = torch.tensor([[0.3, 0.1, 0.05], [0.05, 0.1, 0.4]], dtype=torch.float64)
CELLS = torch.tensor([[i, j] for i in range(2) for j in range(3)], dtype=torch.float64)


class OfLevels(nn.Module):
    """Log-ratios of the probabilities of two cells, each given the other's noise."""

    def __init__(self, joint: Any) -> None:
        super().__init__()
        self.joint = nn.Parameter(joint)

    def forward(self, inputs: Any) -> Any:
        one_hot = inputs[..., :6].unflatten(-1, (2, 3))
        level = Level(FIRST + (LAST - FIRST) * (inputs[..., 6:7] + 1) / 2)
        a, b = level.alpha**2, level.sigma**2
        first, second = self.joint.sum(1), self.joint.sum(0)
        ratio = self.joint / first[:, None] / second
        likelihoods = [a * one_hot[..., 0, :2] / first + b, a * one_hot[..., 1, :]]
        likelihoods[1] = likelihoods[1] / second + b
        of_first = likelihoods[1] @ (ratio * second).T
        of_second = likelihoods[0] @ (ratio * first[:, None])
        of_first = nn.functional.pad(of_first, (0, 1), value=1.0)
        return torch.cat([of_first, of_second], dim=-1).log()


@pytest.fixture(scope="module")
def of_levels() -> Any:
    torch.manual_seed(0)
    likelihood = Noised([2, 3])
    likelihood.share.copy_(
        torch.stack([nn.functional.pad(JOINT.sum(1), (0, 1)), JOINT.sum(0)])
    )
    scale = Standardizer.identity(2)
    network = OfLevels(JOINT)
    module = DiffusionModel(network, likelihood, scale, None, 64, 64, 0.0)
    return module.double().eval()


def test_the_bound_of_levels_is_their_probability(of_levels: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    truth = JOINT.flatten().log().numpy()
    with torch.no_grad():
        found, error = of_levels.careful_log_prob(CELLS, 60, generator).T.numpy()
        assert_allclose(found, truth, atol=0.15)
        assert (abs(found - truth) < 4 * error).all()
        scores = of_levels.log_prob(CELLS)
    assert abs((JOINT.flatten() * (scores - torch.from_numpy(truth))).sum()) < 0.5


def test_a_prediction_of_the_shares_gains_nothing(of_levels: Any) -> None:
    shares = Shares(of_levels.likelihood.share)
    g = shares.predicted(torch.zeros(6, 2, 3, dtype=torch.float64))
    at = CELLS.flip(0) % 2
    level = Level(torch.zeros(6, 1, dtype=torch.float64))
    assert_allclose(shares.gains(CELLS, at, g, level), 0, atol=1e-6)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_levels_are_drawn_from_their_probabilities(
    of_levels: Any, sampler: Any
) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        drawn = of_levels.draw(5000, True, generator, sampler=sampler)
    counts = np.zeros((2, 3))
    np.add.at(counts, tuple(drawn.long().numpy().T), 1)
    assert_allclose(counts / 5000, JOINT, atol=0.03)


def test_known_levels_decide_the_others(of_levels: Any) -> None:
    holes = torch.tensor([[NAN, 0.0], [NAN, 2.0], [1.0, NAN]], dtype=torch.float64)
    truth = torch.log(
        torch.stack([JOINT[:, 0].sum(), JOINT[:, 2].sum(), JOINT[1].sum()])
    )
    with torch.no_grad():
        assert_allclose(of_levels.log_prob(holes), truth, atol=0.3)
        filled = of_levels.impute(holes, None)
    assert_array_equal(filled, [[0, 0], [1, 2], [1, 2]])


# Kinds of columns.

KINDS: list[Any] = [
    "real",
    "positive",
    "count",
    3,
    ("ordinal", 4),
    ("bounded", 0.0, 1.0),
    ("whole", -3.0, 9.0),
    ("inflated", "positive", (0.0, 7.0)),
    ("inflated", "count", (2.0,)),
]


def table(n: int) -> Any:
    rng = np.random.RandomState(0)
    z = rng.randn(n)
    positive = np.exp(z + 0.1 * rng.randn(n))
    return np.column_stack(
        [
            100 + z,
            positive,
            rng.poisson(np.exp(1 + z)),
            rng.randint(3, size=n),
            np.clip(np.round(z + 2), 0, 3),
            1 / (1 + np.exp(-z)),
            np.clip(np.round(3 * z), -3, 9),
            np.where(z < -0.5, 0.0, np.where(z > 1, 7.0, positive)),
            np.where(z < 0, 2.0, rng.poisson(5, n)),
        ]
    )


def test_columns_of_all_kinds_come_back() -> None:
    X = torch.from_numpy(table(200))
    noised = Noised(KINDS)
    scale = noised.standardizer(Rows(X), True)
    x = scale(X)
    noised.set_rows(x)
    uniform = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    inside = noised.observe(x, uniform.double())
    assert inside.shape == (200, 7 + 4)
    assert torch.isfinite(inside).all()
    assert_allclose(scale.inverse(noised.mean(inside)), X, rtol=1e-6, atol=1e-6)
    assert noised.without_noise(inside).isnan().sum() > 100


def test_masses_of_counts_add_up_to_less_than_one() -> None:
    X = np.random.RandomState(0).poisson(4.0, size=(500, 1)).astype(float)
    model = diffusion(kinds=["count"], max_iter=10).fit(X)
    total = np.exp(model.score_samples(np.arange(40.0)[:, None])).sum()
    assert 0.8 < total < 1.2  # of noisy logarithms
    assert (model.sample(100, random_state=0) % 1 == 0).all()


def test_a_mixed_table_is_learned(tmp_path: Path) -> None:
    X = table(300)
    frame = pd.DataFrame(X, columns=[f"c{j}" for j in range(9)])
    frame["c3"] = np.array(["a", "b", "c"])[frame["c3"].astype(int)]
    frame = frame.astype({"c2": int, "c4": int})
    model = MixedDensity(
        Diffusion(**{**SMALL, "max_iter": 5, "n_times": 8, "n_steps": 8})
    ).fit(frame)
    start, end = (model.estimator_.loss_curve_[i] for i in (0, -1))
    assert end < start
    drawn = model.sample(20, random_state=0)
    assert (drawn.dtypes == frame.dtypes).all()
    assert set(drawn["c3"]) <= {"a", "b", "c"}
    holes = frame[:4].assign(c3=None, c1=None)
    filled = model.impute(holes)
    assert not filled.isna().any(axis=None)
    assert np.isfinite(model.score_samples(holes)).all()
    assert np.isfinite(model.log_likelihood(frame[:3], 4).standard_error).all()
    skgen.save(model, tmp_path / "mixed.safetensors")
    again = skgen.load(tmp_path / "mixed.safetensors")
    assert_array_equal(again.score_samples(frame[:5]), model.score_samples(frame[:5]))
    with pytest.raises(ValueError, match="has no codes"):
        model.transform(frame[:2])


def test_a_batch_of_levels_has_no_nan() -> None:
    X = np.random.RandomState(0).randint(4, size=(60, 3)).astype(float)
    model = diffusion(kinds=[4, 4, 5], max_iter=2, condition_dropout=0.0).fit(X)
    assert np.isfinite(model.score_samples(X)).all()
    batch = Batch(torch.from_numpy(X).float())
    assert model.module_.baseline(batch.x).shape == (60,)
