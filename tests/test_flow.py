"""FlowDensity: densities that are exact, inverses, cells, conditions, the contract."""

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

import skgen
from skgen import FlowDensity, GaussianDensity, make_generative_pipeline
from skgen._networks.flows import order_of
from skgen._training.data import Rows
from skgen.likelihoods.cells import Cells
from skgen.model_selection import BatchedGridSearchCV

# Few epochs, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

MOONS, SIDE = make_moons(400, noise=0.1, random_state=0)
TABLE = np.random.RandomState(0).randn(300, 4) @ np.random.RandomState(1).randn(4, 4)
SMALL: dict[str, Any] = {
    "hidden_layer_sizes": (16,),
    "learning_rate_init": 2e-2,
    "batch_size": 100,
    "max_iter": 20,
    "random_state": 0,
}
KINDS = [
    {"univariate": univariate, "structure": structure}
    for univariate in ("spline", "affine")
    for structure in ("autoregressive", "coupling")
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda k: "-".join(k.values()))


def flow(n_transforms: Any = 2, **params: Any) -> Any:
    return FlowDensity(n_transforms, **{**SMALL, **params})


@pytest.fixture(scope="module")
def moons() -> Any:
    return flow().fit(MOONS)


@pytest.fixture(scope="module")
def by_side() -> Any:
    return flow(condition="auto", max_iter=40).fit(MOONS, SIDE)


def grid(low: Any, high: Any, n: int = 140) -> Any:
    """Middles of cells of a square, (n^2, 2), and their area."""
    axis = low + (high - low) * (np.arange(n) + 0.5) / n
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    return points, ((high - low) / n) ** 2


# The density.


@every_kind
def test_a_density_integrates_to_one(kind: Any) -> None:
    model = flow(**kind).fit(MOONS)
    points, area = grid(-7, 7)
    mass = np.exp(model.score_samples(points)).sum() * area
    assert abs(mass - 1) < 0.01


@every_kind
def test_the_inverse_is_exact(kind: Any) -> None:
    model = flow(**kind).fit(TABLE)
    rows = np.concatenate([TABLE, 20 * TABLE[:20]])  # in the tails, too
    codes = model.transform(rows)
    assert codes.shape == rows.shape
    assert_allclose(model.inverse_transform(codes), rows, atol=1e-5)
    assert_allclose(model.transform(model.inverse_transform(codes)), codes, atol=1e-5)
    narrow = model.inverse_transform(codes[:300].astype(np.float32))
    assert narrow.dtype == np.float32
    assert_allclose(narrow, TABLE, rtol=1e-3, atol=1e-3)


@every_kind
def test_the_score_is_that_of_the_change_of_variables(kind: Any) -> None:
    model = flow(**kind).fit(TABLE)
    row = torch.from_numpy(TABLE[:1])
    module = model._model(torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: module.encode(x), row)
    log_det = torch.linalg.slogdet(jacobian[0, :, 0]).logabsdet
    normal = multivariate_normal(np.zeros(4)).logpdf(model.transform(TABLE[:1]))
    assert_allclose(model.score_samples(TABLE[:1])[0], normal + log_det, atol=1e-9)


def test_the_likelihood_is_the_score(moons: Any) -> None:
    careful = moons.log_likelihood(MOONS, 3)
    assert_array_equal(careful.log_prob, moons.score_samples(MOONS))
    assert (careful.standard_error == 0).all()


def test_a_scaled_column_shifts_the_score() -> None:
    scaled = MOONS * [1000, 0.01] + [5, 1e4]
    given = flow().fit(MOONS).score_samples(MOONS)
    found = flow().fit(scaled).score_samples(scaled)
    assert_allclose(found, given - np.log(10), atol=1e-3)


def test_a_gaussian_table_is_learned_to_its_closed_form() -> None:
    covariance = np.array([[2.0, 1.5, 0], [1.5, 3.0, -1], [0, -1, 1.0]])
    exact = multivariate_normal([1, 2, 3], covariance)
    rows, fresh = exact.rvs(2000, random_state=0), exact.rvs(2000, random_state=1)
    model = flow(1, univariate="affine", learning_rate="cosine").fit(rows)
    assert abs(exact.logpdf(fresh).mean() - model.score(fresh)) < 0.03


def test_samples_are_of_the_density() -> None:
    rows = TABLE @ np.diag([1, 10, 0.1, 3]) + [0, 5, -1, 100]
    model = flow(1, univariate="affine", max_iter=40).fit(rows)
    drawn = model.sample(20_000, random_state=0)
    scale = rows.std(0)
    assert_allclose(drawn.mean(0) / scale, rows.mean(0) / scale, atol=0.1)
    assert_allclose(np.cov((drawn / scale).T), np.cov((rows / scale).T), atol=0.15)
    codes = model.transform(drawn)
    assert_allclose(codes.mean(0), 0, atol=0.03)
    assert_allclose(np.cov(codes.T), np.eye(4), atol=0.04)
    assert abs(model.score(drawn) - model.score(model.sample(20_000))) < 0.1


def test_it_bends_where_one_normal_cannot(moons: Any) -> None:
    fresh, _ = make_moons(400, noise=0.1, random_state=1)
    assert moons.score(fresh) > GaussianDensity().fit(MOONS).score(fresh) + 0.5


def test_rows_far_out_have_finite_densities(moons: Any) -> None:
    far = np.array([[10, 0], [0, -10], [1e3, 1e3], [1e6, 0]]) * MOONS.std(0)
    scores = moons.score_samples(far)
    assert np.isfinite(scores).all()
    assert (scores < moons.score_samples(MOONS).min()).all()


@pytest.mark.parametrize("univariate", ["spline", "affine"])
def test_one_column_is_enough(univariate: Any) -> None:
    column = np.random.RandomState(0).gamma(3, size=(500, 1))
    model = flow(1, univariate=univariate, max_iter=30).fit(column)
    points = np.linspace(-30, 40, 20_001)[:, None]
    mass = np.exp(model.score_samples(points)).sum() * (points[1, 0] - points[0, 0])
    assert abs(mass - 1) < 0.01
    assert_allclose(model.inverse_transform(model.transform(column)), column)
    assert model.score(column) > GaussianDensity().fit(column).score(column) - 0.05


def test_each_pair_of_couplings_has_halves_of_its_own() -> None:
    orders = [order_of(i, 8, "coupling") for i in range(6)]
    halves = {tuple((order // 4).tolist()) for order in orders}
    assert len(halves) == 6
    assert all(sorted(order.tolist()) == list(range(8)) for order in orders)
    assert order_of(2, 3, "autoregressive").tolist() == [0, 1, 2]


# Discrete columns.


def test_cells_are_probabilities() -> None:
    rng = np.random.RandomState(0)
    counts = rng.binomial(4, 0.3, size=(800, 1)).astype(float)
    model = flow(1, max_iter=30, n_importance_samples=64).fit(counts)
    values = np.arange(-3.0, 9)[:, None]
    mass = np.exp(model.score_samples(values))
    assert abs(mass.sum() - 1) < 0.03
    frequency = [(counts == k).mean() for k in range(5)]
    assert_allclose(mass[3:8], frequency, atol=0.05)
    drawn = model.sample(500, random_state=0)
    assert_array_equal(drawn, drawn.round())
    careful = model.log_likelihood(values[3:8], 2000)
    assert_allclose(careful.log_prob, np.log(mass[3:8]), atol=0.15)
    assert (careful.standard_error > 0).all()


def test_values_of_discrete_columns_come_back() -> None:
    rng = np.random.RandomState(0)
    rows = np.c_[
        rng.randn(100), rng.randint(5, size=100), 0.25 * rng.randint(9, size=100)
    ]
    model = flow(dequantize=[1, 2]).fit(rows)
    assert_allclose(model.module_.likelihood.step, [0, 1, 0.25])
    codes = model.transform(rows)
    assert_allclose(model.inverse_transform(codes), rows, atol=1e-6)
    assert_array_equal(model.transform(rows), codes)
    drawn = model.sample(50)
    assert_array_equal(drawn[:, 1:] % [1, 0.25], 0)
    assert_array_equal(model.score_samples(rows[:7]), model.score_samples(rows)[:7])


@pytest.mark.parametrize(
    ("columns", "steps"),
    [("auto", [0, 1, 4, 1]), (False, [0] * 4), ([1], [0, 1, 0, 0])],
)
def test_discrete_columns_are_found(columns: Any, steps: Any) -> None:
    rng = np.random.RandomState(0)
    x = np.c_[rng.randn(50), rng.choice([0, 2, 5], 50), 4 * rng.randint(3, size=50)]
    x = np.c_[x, np.full(50, 7)]  # a constant
    cells = Cells(columns)
    cells.standardizer(Rows(torch.from_numpy(x)), True)
    assert cells.step.tolist() == steps
    assert cells.log_prob(torch.from_numpy(x), torch.from_numpy(x)).eq(0).all()


def test_columns_that_are_not_discrete_are_named() -> None:
    with pytest.raises(ValueError, match=r"cells of column 1.*not evenly.*Leave the"):
        flow(dequantize=[1]).fit(TABLE)
    with pytest.raises(ValueError, match=r"dequantize=\[7\] names column 7.*has 4"):
        flow(dequantize=[7]).fit(TABLE)


# Conditions.


def test_given_a_label_it_is_the_density_of_a_class(by_side: Any) -> None:
    for k in (0, 1):
        alone = flow(max_iter=40).fit(MOONS[k == SIDE])
        rows = MOONS[k == SIDE]
        assert abs(by_side.score(rows, k) - alone.score(rows)) < 0.3
        drawn = by_side.sample(2000, y=k, random_state=0)
        assert_allclose(drawn.mean(0), rows.mean(0), atol=0.2)
    points, area = grid(-7, 7)
    mass = np.exp(by_side.score_samples(points, 1)).sum() * area
    assert abs(mass - 1) < 0.01


def test_without_a_label_classes_are_summed_over(by_side: Any) -> None:
    joint = np.stack([by_side.score_samples(MOONS, k) for k in (0, 1)]) + np.log(0.5)
    expected = np.logaddexp(*joint)
    assert_allclose(by_side.score_samples(MOONS), expected, atol=0.02)
    assert by_side.score(MOONS, SIDE) > by_side.score(MOONS)
    assert (by_side.predict(MOONS) == SIDE).mean() > 0.98
    assert_allclose(by_side.predict_proba(MOONS).sum(1), 1)
    assert_array_equal(
        by_side.log_likelihood(MOONS).log_prob, by_side.score_samples(MOONS)
    )


def test_codes_are_codes_given_a_label(by_side: Any) -> None:
    codes = by_side.transform(MOONS, SIDE)
    assert_allclose(by_side.inverse_transform(codes, SIDE), MOONS, atol=1e-5)
    assert_allclose(by_side.reconstruct(MOONS, SIDE), MOONS, atol=1e-5)
    with pytest.raises(ValueError, match="Pass y"):
        by_side.transform(MOONS)
    held = by_side.conditioned_on(1)
    assert_array_equal(held.score_samples(MOONS), by_side.score_samples(MOONS, 1))
    assert len(by_side.sample(5)) == 5


def test_numbers_are_conditions() -> None:
    model = flow(condition="auto", max_iter=40).fit(MOONS[:, 1:], MOONS[:, 0])
    drawn = model.sample(500, y=-0.5, random_state=0)
    near = np.abs(MOONS[:, 0] + 0.5) < 0.2
    assert abs(drawn.mean() - MOONS[near, 1].mean()) < 0.3
    assert model.score(MOONS[:, 1:], MOONS[:, 0]) > GaussianDensity().fit(
        MOONS[:, 1:]
    ).score(MOONS[:, 1:])
    with pytest.raises(ValueError, match="needs y"):
        model.score_samples(MOONS[:, 1:])
    with pytest.raises(AttributeError, match="real-valued"):
        _ = model.predict


def test_conditions_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="leave condition=None"):
        flow(condition="auto").fit(MOONS)
    with pytest.raises(ValueError, match=r"missing labels.*ConditionalVAE"):
        flow(condition="auto").fit(MOONS, np.where(SIDE, 1, -1))
    for name in ("predict", "predict_proba", "conditioned_on"):
        with pytest.raises(AttributeError, match="condition is None"):
            getattr(flow(), name)


def test_a_fit_without_a_condition_forgets_it(by_side: Any) -> None:
    model = pickle.loads(pickle.dumps(by_side)).set_params(condition=None).fit(MOONS)
    assert not hasattr(model, "classes_")
    assert_array_equal(model.score_samples(MOONS), model.score_samples(MOONS, SIDE))


# The contract.


def test_without_zuko_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ImportError, match=r'pip install "scikit-generative\[flow\]"'):
        FlowDensity().fit(MOONS)
    with pytest.raises(NotFittedError):
        FlowDensity().transform(MOONS)


@pytest.mark.parametrize("name", ["moons", "by_side"])
def test_files_pickles_and_copies_keep_it(
    name: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = request.getfixturevalue(name)
    y = SIDE if name == "by_side" else None
    skgen.save(model, tmp_path / "flow.safetensors")
    for found in (
        skgen.load(tmp_path / "flow.safetensors"),
        pickle.loads(pickle.dumps(model)),
        clone(model).fit(MOONS, SIDE),
    ):
        assert_array_equal(found.score_samples(MOONS, y), model.score_samples(MOONS, y))
        assert_array_equal(
            found.sample(3, random_state=0), model.sample(3, random_state=0)
        )


def test_a_file_of_other_sizes_allocates_nothing(moons: Any, tmp_path: Path) -> None:
    model = pickle.loads(pickle.dumps(moons))
    model._built_with["hidden_layer_sizes"] = (10**6, 10**6)
    with pytest.raises(ValueError, match=r"the flow has .* weights, and there are"):
        skgen.save(model, tmp_path / "flow.safetensors")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"hidden_layer_sizes": 10**12}, "hidden_layer_sizes=1000000000000"),
        ({"hidden_layer_sizes": (300_000, 300_000)}, "hidden_layer_sizes="),
        ({"n_bins": 10**12}, "n_bins=1000000000000"),
    ],
)
def test_flows_that_no_memory_holds_are_refused(params: Any, words: Any) -> None:
    with pytest.raises(ValueError, match=rf"{words}.* needs about .* of memory.*Lower"):
        flow(**params).fit(MOONS)


def test_it_goes_on() -> None:
    model = flow(max_iter=2, warm_start=True).fit(MOONS)
    before = model.score(MOONS)
    assert model.set_params(max_iter=10).fit(MOONS).score(MOONS) > before
    assert model.n_iter_ == 12
    streamed = flow()
    for _ in range(6):
        streamed.partial_fit(MOONS)
    assert streamed.score(MOONS) > before


def test_weights_select_rows() -> None:
    weight = (SIDE == 0).astype(float)
    one = flow(early_stopping=False).fit(MOONS, sample_weight=weight)
    alone = flow(early_stopping=False).fit(MOONS[SIDE == 0])
    assert_array_equal(one.score_samples(MOONS), alone.score_samples(MOONS))


def test_it_works_inside_others() -> None:
    frame = pd.DataFrame(MOONS, columns=["a", "b"])
    pipeline = make_generative_pipeline(StandardScaler(), flow()).fit(frame)
    assert_allclose(pipeline.score(frame), flow().fit(MOONS).score(MOONS), atol=1e-3)
    drawn = flow().set_output(transform="pandas").fit(frame).sample(3)
    assert list(drawn.columns) == ["a", "b"]
    searched = {"n_bins": [3, 8]}
    found = [
        search(flow(1, max_iter=2), searched, cv=2).fit(MOONS).cv_results_
        for search in (GridSearchCV, BatchedGridSearchCV)
    ]
    assert_allclose(found[0]["mean_test_score"], found[1]["mean_test_score"])


def test_graphs_are_of_encoders_and_decoders(moons: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Got FlowDensity"):
        skgen.to_onnx(moons, encoder=tmp_path / "flow.onnx")
