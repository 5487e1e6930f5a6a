"""The laws of the contract, over every estimator."""

import copy
import pickle
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from sklearn.base import clone

import skgen.models.base
from tests.estimators import (
    BY_CODE,
    CLOSED_FORM,
    ESTIMATORS,
    brief,
    class_name,
    dense,
    fitted,
    is_bernoulli,
    is_image,
    is_ordinal,
    name_of,
    rows_for,
)

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    # Few iterations, on purpose.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

DTYPES = [np.float64, np.float32]
ROW_METHODS = ["score_samples", "transform", "reconstruct"]
# What the batch may change, relative to the largest number of the answer.
ROUNDING = {np.float64: 1e-9, np.float32: 1e-6}

every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float64", "float32"])
every_row_method = pytest.mark.parametrize("method", ROW_METHODS)


def evaluate(model: Any, method: str, X: Any) -> Any:
    return dense(getattr(model, method)(X))


def assert_close(
    actual: NDArray[Any], expected: NDArray[Any], tolerance: float
) -> None:
    """Compare relative to the largest number of the answer."""
    scale = np.abs(expected).max()
    assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * scale)


def closed_form(estimators: Any) -> Any:
    return [e for e in estimators if class_name(e) in CLOSED_FORM]


# The score.


@every_estimator
@every_dtype
def test_score_is_the_mean_of_score_samples(estimator: Any, dtype: Any) -> None:
    model, X = fitted(estimator, dtype), rows_for(estimator, dtype=dtype)
    score, each = model.score(X), model.score_samples(X)
    assert type(score) is float
    assert each.shape == (len(X),)
    assert np.isfinite(each).all()
    assert score == np.mean(each, dtype=np.float64)
    assert model.score(X, np.zeros(len(X))) == score


# Seeds and generators.


@every_estimator
def test_one_seed_gives_one_model(estimator: Any) -> None:
    X = rows_for(estimator)
    again = clone(estimator).fit(X)
    for method in ROW_METHODS:
        assert_array_equal(
            evaluate(again, method, X), evaluate(fitted(estimator), method, X)
        )
    assert_array_equal(
        again.sample(7, random_state=0), fitted(estimator).sample(7, random_state=0)
    )


@every_estimator
def test_evaluation_is_deterministic(estimator: Any) -> None:
    model, X = fitted(estimator), rows_for(estimator)
    for method in ROW_METHODS:
        assert_array_equal(evaluate(model, method, X), evaluate(model, method, X))


@every_estimator
def test_seeds_come_from_the_parameter_alone(estimator: Any) -> None:
    estimator = brief(estimator)
    X = rows_for(estimator)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    try:
        torch.manual_seed(1)
        np.random.seed(1)
        elsewhere = clone(estimator).fit(X).score_samples(X)
    finally:
        torch.set_rng_state(torch_state)
        np.random.set_state(numpy_state)
    assert_array_equal(elsewhere, fitted(estimator).score_samples(X))


@pytest.mark.parametrize(
    "estimator", [e for e in ESTIMATORS if hasattr(e, "random_state")], ids=name_of
)
def test_no_seed_is_numpys_generator_as_in_scikit_learn(estimator: Any) -> None:
    estimator = brief(estimator)
    X, state = rows_for(estimator), np.random.get_state()
    unseeded = clone(estimator).set_params(random_state=None)
    scores = []
    for _ in range(2):
        np.random.seed(3)
        scores.append(unseeded.fit(X).score_samples(X))
    np.random.set_state(state)
    assert_array_equal(*scores)


@every_estimator
def test_y_is_ignored(estimator: Any) -> None:
    estimator = brief(estimator)
    X = rows_for(estimator)
    model = clone(estimator).fit(X, np.arange(len(X)))
    assert_array_equal(model.score_samples(X), fitted(estimator).score_samples(X))


@every_estimator
def test_only_ratios_of_weights_matter(estimator: Any) -> None:
    X = rows_for(estimator)
    weight = np.linspace(0.5, 2, len(X))
    scores = [
        clone(estimator).fit(X, sample_weight=scale * weight).score_samples(X)
        for scale in (1, 1024)
    ]
    assert_array_equal(*scores)
    assert not np.array_equal(scores[0], fitted(estimator).score_samples(X))


# A row does not see its batch.

BATCHES: dict[str, Any] = {
    "one_by_one": lambda n: [[i] for i in range(0, n, 9)],
    "unequal_parts": lambda n: np.split(np.arange(n), [1, 3, n // 2]),
    "reversed": lambda n: [np.arange(n)[::-1]],
    "shuffled": lambda n: [np.random.RandomState(0).permutation(n)],
    "among_copies": lambda n: [np.r_[np.arange(n), np.zeros(n, int)]],
}


@every_estimator
@every_dtype
@every_row_method
@pytest.mark.parametrize("batches", BATCHES)
def test_a_row_does_not_see_its_neighbours(
    estimator: Any, dtype: Any, method: str, batches: str
) -> None:
    model, X = fitted(estimator, dtype), rows_for(estimator, dtype=dtype)
    whole = evaluate(model, method, X)
    for indices in BATCHES[batches](len(X)):
        part = evaluate(model, method, X[indices])
        scale = ROUNDING[dtype]
        assert_allclose(
            part, whole[indices], rtol=scale, atol=scale * np.abs(whole).max()
        )


@every_estimator
@every_dtype
@pytest.mark.parametrize("rows", [1, 7])
def test_chunks_change_nothing(
    estimator: Any, dtype: Any, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, X = fitted(estimator, dtype), rows_for(estimator, dtype=dtype)
    whole = {method: evaluate(model, method, X) for method in ROW_METHODS}
    monkeypatch.setattr(skgen.models.base, "chunk_rows", lambda device, elements: rows)
    for method in ROW_METHODS:
        chunked = evaluate(model, method, X)
        assert chunked.dtype == whole[method].dtype
        assert_close(chunked, whole[method], ROUNDING[dtype])
    assert model.sample(9, random_state=0).shape == (9, X.shape[1])


# dtypes.


@every_estimator
@every_dtype
@pytest.mark.parametrize("fit_dtype", DTYPES, ids=["fit64", "fit32"])
def test_answers_have_the_dtype_of_the_rows(
    estimator: Any, dtype: Any, fit_dtype: Any
) -> None:
    model, X = fitted(estimator, fit_dtype), rows_for(estimator, dtype=dtype)
    code = model.transform(X)
    is_wide = class_name(estimator) in CLOSED_FORM
    assert model.score_samples(X).dtype == (np.float64 if is_wide else dtype)
    assert model.reconstruct(X).dtype == dtype
    if is_ordinal(estimator):
        assert code.dtype.kind == "i"
    else:
        assert code.dtype == dtype
        assert model.inverse_transform(code).dtype == dtype


@every_estimator
@every_row_method
def test_float32_answers_are_the_float64_answers_rounded(
    estimator: Any, method: str
) -> None:
    model = fitted(estimator)
    wide, narrow = (
        evaluate(model, method, rows_for(estimator, dtype=dtype)) for dtype in DTYPES
    )
    assert_close(narrow, wide, 1e-5)


@pytest.mark.parametrize("estimator", closed_form(ESTIMATORS), ids=name_of)
@every_dtype
def test_fitted_attributes_are_float64(estimator: Any, dtype: Any) -> None:
    model = fitted(estimator, dtype)
    floats = {
        name: value.dtype
        for name, value in vars(model).items()
        if name.endswith("_") and isinstance(value, np.ndarray)
        if value.dtype.kind == "f"
    }
    assert floats
    # Those of mixtures are float32, as scikit-learn's are, where that loses nothing.
    if class_name(estimator) != "GaussianMixtureEM" or dtype == np.float64:
        assert set(floats.values()) == {np.dtype(np.float64)}


@pytest.mark.parametrize("estimator", closed_form(ESTIMATORS), ids=name_of)
def test_a_float32_fit_is_the_float64_fit_rounded(estimator: Any) -> None:
    X = rows_for(estimator)
    wide, narrow = (fitted(estimator, dtype).score_samples(X) for dtype in DTYPES)
    assert_close(narrow, wide, 1e-5)


# Codes.


@every_estimator
@every_dtype
def test_reconstruct_is_encode_then_decode(estimator: Any, dtype: Any) -> None:
    model, X = fitted(estimator, dtype), rows_for(estimator, dtype=dtype)
    decoded = model.inverse_transform(model.transform(X))
    assert decoded.shape == X.shape
    # Token indices are integers: they decode in float64.
    tolerance = 1e-6 if is_ordinal(estimator) else ROUNDING[dtype]
    assert_close(model.reconstruct(X), decoded, tolerance)


@every_estimator
def test_codes_have_a_name_a_column(estimator: Any) -> None:
    model, X = fitted(estimator), rows_for(estimator)
    names = model.get_feature_names_out()
    assert model.transform(X).shape == (len(X), len(names))
    assert names[0] == f"{class_name(estimator).lower()}0"


# Samples.


@every_estimator
@every_dtype
@pytest.mark.parametrize("noise", [True, False])
def test_samples_have_the_shape_and_dtype_of_the_training_rows(
    estimator: Any, dtype: Any, noise: bool
) -> None:
    model, X = fitted(estimator, dtype), rows_for(estimator, dtype=dtype)
    drawn = model.sample(9, noise=noise, random_state=0)
    assert drawn.shape == (9, X.shape[1])
    assert drawn.dtype == dtype
    assert np.isfinite(drawn).all()
    assert np.isfinite(model.score_samples(drawn)).all()
    assert model.sample().shape == (1, X.shape[1])


@every_estimator
@pytest.mark.parametrize("noise", [True, False])
def test_a_seed_repeats_a_sample(estimator: Any, noise: bool) -> None:
    model = fitted(estimator)
    first, second = (model.sample(9, noise=noise, random_state=5) for _ in range(2))
    assert_array_equal(first, second)
    state = np.random.RandomState(5)
    assert_array_equal(model.sample(9, noise=noise, random_state=state), first)
    more = [model.sample(40, noise=noise, random_state=state) for _ in range(2)]
    assert _draws_differ(estimator, noise, *more)


@every_estimator
def test_no_seed_is_fresh_entropy(estimator: Any) -> None:
    first, second = (fitted(estimator).sample(40) for _ in range(2))
    assert not np.array_equal(first, second)


def _draws_differ(
    estimator: Any, noise: bool, first: NDArray[Any], second: NDArray[Any]
) -> bool:
    """Whether two draws differ, where anything but a constant is drawn."""
    constant = not noise and len(np.unique(np.r_[first, second], axis=0)) == 1
    return constant or not np.array_equal(first, second)


@every_estimator
def test_decoded_means_vary_no_more_than_the_draws(estimator: Any) -> None:
    # Var x = Var E[x|z] + E Var[x|z]. With 3000 draws the error is below 10 %.
    model = fitted(estimator)
    noisy, means = (model.sample(3000, noise=n, random_state=0) for n in (True, False))
    assert (means.var(0) <= 1.1 * noisy.var(0)).all()


@pytest.mark.parametrize(
    "estimator", [e for e in ESTIMATORS if hasattr(e, "predict")], ids=name_of
)
def test_components_are_drawn_in_random_order(estimator: Any) -> None:
    model = fitted(estimator)
    labels = model.predict(model.sample(400, random_state=0))
    # Neighbours of a shuffled sequence differ as often as independent ones do.
    share = np.bincount(labels) / len(labels)
    changes = np.mean(labels[1:] != labels[:-1])
    assert abs(changes - (1 - share @ share)) < 0.15


# What comes in.


def _memmap(X: Any, folder: Any) -> Any:
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


def _read_only(X: NDArray[Any]) -> NDArray[Any]:
    X = X.copy()
    X.setflags(write=False)
    return X


CONTAINERS: dict[str, Any] = {
    "fortran": lambda X, _: np.asfortranarray(X),
    "strided": lambda X, _: np.repeat(X, 2, axis=0)[::2],
    "negative_strides": lambda X, _: X[::-1].copy()[::-1],
    "list": lambda X, _: X.tolist(),
    "memmap": _memmap,
    "read_only": lambda X, _: _read_only(X),
    "frame": lambda X, _: pd.DataFrame(X).add_prefix("x"),
    "tensor": lambda X, _: torch.tensor(X),
    "tensor_with_gradient": lambda X, _: torch.tensor(X, requires_grad=True),
    "object": lambda X, _: X.astype(object),
}


@pytest.mark.parametrize(
    "estimator", [*BY_CODE, *filter(is_image, ESTIMATORS)], ids=name_of
)
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_answers(
    estimator: Any, container: str, tmp_path: Path
) -> None:
    estimator = brief(estimator)
    model, X = fitted(estimator), rows_for(estimator)
    given = CONTAINERS[container](X, tmp_path)
    other = clone(estimator).fit(given)
    for method in ROW_METHODS:
        assert_array_equal(evaluate(other, method, given), evaluate(model, method, X))
    code = model.transform(X)
    if isinstance(given, torch.Tensor):
        code = torch.tensor(dense(code))
    assert_array_equal(
        other.inverse_transform(code), model.inverse_transform(model.transform(X))
    )


@every_estimator
def test_integers_are_rows(estimator: Any) -> None:
    estimator = brief(estimator)
    X = np.rint(rows_for(estimator)).astype(int)
    model = clone(estimator).fit(X)
    assert_array_equal(
        model.score_samples(X), clone(estimator).fit(X.astype(float)).score_samples(X)
    )


@every_estimator
@every_dtype
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_never_written(estimator: Any, dtype: Any, order: Any) -> None:
    estimator = brief(estimator)
    X = np.array(rows_for(estimator, dtype=dtype), order=order)
    before, weight = X.copy(), np.linspace(1, 2, len(X))
    model = clone(estimator).fit(X, sample_weight=weight)
    for method in ROW_METHODS:
        answer = evaluate(model, method, X)
        assert not np.shares_memory(answer, X)
        assert answer.flags.writeable
    assert_array_equal(X, before)
    assert_array_equal(weight, np.linspace(1, 2, len(X)))


# State.


@every_estimator
def test_evaluation_caches_nothing(estimator: Any) -> None:
    estimator = brief(estimator)
    X = rows_for(estimator)
    model = clone(estimator).fit(X)  # never evaluated before
    before = joblib.hash(vars(model))
    for method in ROW_METHODS:
        evaluate(model, method, X)
    model.score(X)
    model.sample(3)
    model.sample(3, noise=False)
    assert joblib.hash(vars(model)) == before


@every_estimator
def test_answers_are_not_views_of_the_model(estimator: Any) -> None:
    model, X = fitted(estimator), rows_for(estimator)
    expected = model.score_samples(X)
    code = model.transform(X)
    decoded = model.inverse_transform(code), model.sample(3, noise=False)
    for answer in (dense(code), *decoded):
        answer[:] = 0
    assert_array_equal(model.score_samples(X), expected)


def _through_joblib(model: Any, folder: Any, mmap_mode: Any = None) -> Any:
    joblib.dump(model, folder / "model.joblib")
    return joblib.load(folder / "model.joblib", mmap_mode=mmap_mode)


ROUND_TRIPS: dict[str, Any] = {
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),
    "joblib": _through_joblib,
    "joblib_memmap": lambda model, folder: _through_joblib(model, folder, "r"),
    "copy": lambda model, _: copy.copy(model),
    "deepcopy": lambda model, _: copy.deepcopy(model),
}


@pytest.mark.parametrize(
    ("estimator", "round_trip"),
    [*product(ESTIMATORS, ["pickle"]), *product(BY_CODE, [*ROUND_TRIPS][1:])],
    ids=lambda value: value if isinstance(value, str) else name_of(value),
)
def test_copies_give_the_same_answers(
    estimator: Any, round_trip: str, tmp_path: Path
) -> None:
    estimator = brief(estimator)
    model, X = fitted(estimator), rows_for(estimator)
    restored = ROUND_TRIPS[round_trip](model, tmp_path)
    for method in ROW_METHODS:
        assert_array_equal(evaluate(restored, method, X), evaluate(model, method, X))
    assert_array_equal(
        restored.sample(5, random_state=0), model.sample(5, random_state=0)
    )
    assert restored.device_ == model.device_
    assert_array_equal(restored.fit(X).score_samples(X), model.score_samples(X))


@every_estimator
def test_an_unfitted_estimator_travels(estimator: Any) -> None:
    estimator = brief(estimator)
    X = rows_for(estimator)
    restored = pickle.loads(pickle.dumps(clone(estimator)))
    assert repr(restored) == repr(estimator)
    assert_array_equal(
        restored.fit(X).score_samples(X), fitted(estimator).score_samples(X)
    )


@every_estimator
def test_a_model_whose_device_is_gone_evaluates_on_the_cpu(estimator: Any) -> None:
    estimator = brief(estimator)
    model, X = fitted(estimator), rows_for(estimator)
    elsewhere = copy.deepcopy(model).set_params(device="cuda:99")
    elsewhere.device_ = "cuda:99"
    restored = pickle.loads(pickle.dumps(elsewhere))
    assert restored.device_ == "cpu"
    for method in ROW_METHODS:
        assert_array_equal(evaluate(restored, method, X), evaluate(model, method, X))
    assert restored.sample(2).shape == (2, X.shape[1])
    with pytest.raises(ValueError, match="'cuda:99', but torch finds no such device"):
        restored.fit(X)


@every_estimator
def test_auto_takes_a_device_that_is_here(estimator: Any) -> None:
    estimator = brief(estimator)
    X = rows_for(estimator)
    model = clone(estimator).set_params(device="auto").fit(X)
    assert model.device == "auto"
    assert (
        torch.zeros(1, device=model.device_).device.type == model.device_.split(":")[0]
    )
    assert np.isfinite(model.score_samples(X)).all()


@every_estimator
def test_a_refit_forgets(estimator: Any) -> None:
    X = rows_for(estimator)
    width = X.shape[1] if is_image(estimator) else 4
    model = clone(estimator).fit(rows_for(estimator, n=45, seed=1)[:, :width])
    assert model.fit(X).n_features_in_ == X.shape[1]
    assert_array_equal(model.score_samples(X), fitted(estimator).score_samples(X))


@every_estimator
def test_a_quiet_fit_says_nothing(
    estimator: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    estimator = brief(estimator)
    with warnings.catch_warnings(record=True):
        clone(estimator).fit(rows_for(estimator))
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.parametrize(
    "estimator", [e for e in ESTIMATORS if is_bernoulli(e)], ids=name_of
)
def test_a_bernoulli_decoder_draws_zeros_and_ones(estimator: Any) -> None:
    model = fitted(estimator)
    assert set(np.unique(model.sample(50, random_state=0))) <= {0.0, 1.0}
    means = model.sample(50, noise=False, random_state=0)
    assert ((means > 0) & (means < 1)).all()
    assert (model.score_samples(rows_for(estimator)) < 0).all()
