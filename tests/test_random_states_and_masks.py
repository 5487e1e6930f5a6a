"""Sources of randomness, and masked arrays, are taken the same way everywhere."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from torch import nn

from skgen import VAE, GaussianDensity, MixedDensity, make_generative_pipeline
from skgen._utils.tensors import DrawingFrom, check_random_state, forked_rng
from skgen.datasets import make_shapes
from skgen.metrics import factor_vae_score, two_sample_test
from tests.estimators import (
    CLOSED_FORM,
    ESTIMATORS,
    ONE_OF_EACH,
    class_name,
    features,
    fitted,
    name_of,
    rows_for,
)

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

one_of_each = pytest.mark.parametrize("estimator", ONE_OF_EACH, ids=class_name)
X = features(40)


# Generators.


def test_a_generator_gives_a_seed_and_moves_on() -> None:
    rng, seed = np.random.default_rng(3), np.random.default_rng(3).integers(2**32)
    expected = np.random.RandomState(seed)
    assert check_random_state(rng).randint(10**6) == expected.randint(10**6)
    assert check_random_state(rng).randint(10**6) != expected.randint(10**6)
    for wrong in (1.5, -1, 2**32, 10**400, np.array(3), np.timedelta64(3), "a"):
        with pytest.raises(ValueError):
            check_random_state(wrong)


@one_of_each
def test_a_fit_takes_a_generator(estimator: Any) -> None:
    if "random_state" not in estimator.get_params():
        pytest.skip("draws nothing")
    models = [
        clone(estimator).set_params(random_state=np.random.default_rng(seed))
        for seed in (0, 0, 1)
    ]
    first, same, other = (model.fit(X).sample(5, random_state=0) for model in models)
    assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    if hasattr(estimator, "partial_fit"):
        models[0].partial_fit(X).partial_fit(X)


@one_of_each
def test_draws_take_a_generator(estimator: Any) -> None:
    model = fitted(estimator)

    def drawn(rng: Any) -> Any:
        found = [model.sample(5, random_state=rng)]
        if hasattr(model, "log_likelihood"):
            found.append(model.log_likelihood(X[:3], 9, random_state=rng).log_prob)
        return np.concatenate([part.ravel() for part in found])

    first, same = (drawn(np.random.default_rng(0)) for _ in "12")
    assert_array_equal(first, same)
    rng = np.random.default_rng(0)
    assert not np.array_equal(drawn(rng), drawn(rng))


def test_other_functions_take_a_generator() -> None:
    piped = make_generative_pipeline(StandardScaler(), GaussianDensity()).fit(X)
    factors = np.c_[np.arange(40) % 4, np.arange(40) // 20]
    calls = [
        lambda rng: piped.sample(3, random_state=rng),
        lambda rng: make_shapes(9, random_state=rng).data,
        lambda rng: two_sample_test(X[:20], X[20:] + 1, random_state=rng).p_value,
        lambda rng: factor_vae_score(
            X, factors, n_train=50, n_test=9, random_state=rng
        ),
    ]
    for call in calls:
        first, same = (call(np.random.default_rng(0)) for _ in "12")
        assert_array_equal(np.asarray(first), np.asarray(same))


# Masked arrays.


def masked(rows: NDArray[Any], *cells: Any) -> Any:
    table = np.ma.array(rows)
    for cell in cells:
        table[cell] = np.ma.masked
    return table


@one_of_each
def test_masked_cells_are_refused_and_an_empty_mask_is_none(estimator: Any) -> None:
    model = fitted(estimator)
    assert_array_equal(model.score_samples(masked(X)), model.score_samples(X))
    holes = masked(X, (1, 2), (3, 0))
    new, message = clone(estimator), "X is a masked array with 2 masked cells.*filled"
    calls = (new.fit, model.transform, model.score_samples, model.reconstruct)
    for call in calls if class_name(estimator) not in CLOSED_FORM else ():
        with pytest.raises(ValueError, match=message):
            call(holes)
    with pytest.raises(ValueError, match="latent code is a masked array with 1"):
        model.inverse_transform(masked(np.zeros((2, 2)), (0, 0)))
    weight = masked(np.ones(40), 3)
    with pytest.raises(ValueError, match="sample_weight is a masked array with 1"):
        new.fit(X, sample_weight=weight)
    assert repr(vars(new)) == repr(vars(clone(estimator)))


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_masked_cells_are_missing_where_cells_may_be(name: str) -> None:
    estimator = next(e for e in ONE_OF_EACH if class_name(e) == name)
    rows = X.copy()
    rows[1, 2] = rows[3, 0] = np.nan
    holes = masked(X, (1, 2), (3, 0))
    first, same = clone(estimator).fit(holes), clone(estimator).fit(rows)
    assert_array_equal(first.score_samples(holes), same.score_samples(rows))
    assert_array_equal(first.impute(holes), same.impute(rows))


def test_a_pipeline_refuses_masked_cells() -> None:
    model = make_generative_pipeline(StandardScaler(), GaussianDensity())
    with pytest.raises(ValueError, match="X is a masked array"):
        model.fit(masked(X, (0, 0)))
    model.fit(masked(X))
    for call in (model.score_samples, model.reconstruct):
        with pytest.raises(ValueError, match="X is a masked array"):
            call(masked(X, (0, 0)))


@pytest.mark.parametrize("kind", ["float", "int", "object"])
def test_a_mask_says_what_is_missing_where_cells_may_be(kind: str) -> None:
    rows = (10 * X).round()
    cells = [(i, i % 5) for i in range(0, 40, 3)]
    if kind == "float":
        holes, frame = masked(rows, *cells), rows.copy()
    else:
        holes = masked(rows.astype(int if kind == "int" else object), *cells)
        frame = rows.astype(int).astype(object)
    for cell in cells:
        frame[cell] = np.nan if kind == "float" else None
    (vae,) = (each for each in ONE_OF_EACH if class_name(each) == "VAE")
    model = MixedDensity(clone(vae)).fit(frame)
    assert class_name(model.estimator_) == "VAE"
    found = pickle.loads(pickle.dumps(model)).fit(holes)
    assert_array_equal(found.score_samples(holes), model.score_samples(frame))
    filled = model.impute(holes)
    assert not pd.isna(np.asarray(filled)).any()
    keep = ~np.ma.getmaskarray(holes)
    assert_array_equal(np.asarray(filled, float)[keep], rows[keep])


# Other threads.


@pytest.mark.parametrize(
    "estimator", [e for e in ESTIMATORS if hasattr(e, "max_iter")], ids=name_of
)
def test_a_fit_leaves_the_global_generators_to_other_threads(
    estimator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a global generator was touched")

    rows = rows_for(estimator)
    with monkeypatch.context() as patched:
        for name in ("manual_seed", "set_rng_state", "get_rng_state"):
            patched.setattr(torch, name, touched)
        patched.setattr(torch.random, "fork_rng", touched)
        model = clone(estimator).set_params(max_iter=1).fit(rows)
        model.score(rows[:2])
        model.sample(2)
        if hasattr(model, "partial_fit"):
            model.partial_fit(rows)


def test_a_thread_draws_its_own_numbers_while_a_model_is_built() -> None:
    def drawn() -> Any:
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(torch.rand, 3).result()

    class Watched(VAE):
        def _build(self, *args: Any) -> Any:
            first = drawn()
            module = super()._build(*args)
            self.drawn = torch.cat([first, drawn()])
            return module

    with forked_rng(1):
        expected = torch.rand(6)
    with forked_rng(1):
        model = Watched(2, max_iter=1, random_state=0).fit(X)
        assert_array_equal(model.drawn, expected)


def test_initial_values_are_those_of_the_seed() -> None:
    def build() -> Any:
        layers = [nn.Linear(2, 3), nn.Conv2d(1, 2, 3), nn.Embedding(2, 3)]
        layers += [nn.MultiheadAttention(4, 2), nn.TransformerEncoderLayer(4, 2, 8)]
        own = [torch.randn(3), torch.randperm(5), torch.empty(2).uniform_()]
        return [*(p for layer in layers for p in layer.parameters()), *own]

    with forked_rng(7):
        expected = build()
    with DrawingFrom(7):
        found = build()
    assert all(map(torch.equal, found, expected))
