"""What is wrong is said: the name, the value, the remedy."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from tests.estimators import (
    CLOSED_FORM,
    ESTIMATORS,
    IMPLICIT,
    ONE_OF_EACH,
    class_name,
    fitted,
    is_bernoulli,
    is_ordinal,
    name_of,
    rows_for,
)

# Few iterations, on purpose.
pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

one_of_each = pytest.mark.parametrize("estimator", ONE_OF_EACH, ids=class_name)
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)

NAN = float("nan")
NO_COUNT = [0, -1, 2.5, "two", True, NAN]
NO_FLAG = ["yes", 2, None]
NOT_NEGATIVE = [-1e-3, NAN, "small", True]
POSITIVE = [0, *NOT_NEGATIVE]
NO_NAME = ["no such name", 3]

# Values that no model accepts for a parameter of this name.
BAD_PARAMETERS: dict[str, Any] = {
    "activation": NO_NAME,
    "algorithm": NO_NAME,
    "architecture": [*NO_NAME, None],
    "alpha": [-0.1, 1.5, NAN, "much", True],
    "batch_size": [0, -1, 2.5, "big", True],
    "beta": [-1.0, NAN, "large", True],
    "capacity": NOT_NEGATIVE,
    "checkpoint": ["", 3, True],
    "channels": NO_COUNT,
    "code_size": NO_COUNT,
    "codebook_size": NO_COUNT,
    "codebook_update": [*NO_NAME, None],
    "combine": [*NO_NAME, None],
    "commitment_cost": NOT_NEGATIVE,
    "condition": NO_NAME,
    "copy_x": NO_FLAG,
    "corruption": [*NO_NAME, None],
    "covariance_prior": [-1.0, NAN, "some", True],
    "covariance_type": [*NO_NAME, None],
    "acceleration": ["anderson", True, 1],
    "decay": [0.0, 0.5, 1.5, NAN, "slow", True],
    "decoder": NO_NAME,
    "degrees_of_freedom": [0, -1.0, NAN, "many", True, None],
    "dequantize": ["no such name", 3, [-1], [0.5], None],
    "device": ["gpu", "cuda:x", "xpu", "", 0, None],
    "distance": [*NO_NAME, None],
    "early_stopping": NO_FLAG,
    "encode": [*NO_NAME, None],
    "encoder": NO_NAME,
    "encoder_rate": POSITIVE,
    "execution": [*NO_NAME, None],
    "free_bits": NOT_NEGATIVE,
    "gradient": [*NO_NAME, None],
    "gradient_penalty": NOT_NEGATIVE,
    "hidden_layer_sizes": [(0,), (-3,), (2.5,), (True,), "wide"],
    "image_shape": [8, (8,), (8, 8, 1, 1), (0, 8), "wide"],
    "inference": [*NO_NAME, None],
    "init": NO_NAME,
    "init_params": [*NO_NAME, None],
    "kinds": ["no such kind", -1, [], ["normal", "odd"]],
    "kernel": [*NO_NAME, None],
    "kl_warmup": [-1, 2.5, "slow", True],
    "learning_rate": [*NO_NAME, None],
    "learning_rate_init": POSITIVE,
    "level_prior": NOT_NEGATIVE,
    "latent_density": ["mixture", 3],
    "likelihood": [*NO_NAME, None],
    "loss": [*NO_NAME, None],
    "max_grad_norm": POSITIVE,
    "max_iter": [-1, 2.5, "ten", True],
    "means_init": ["blobs", 3],
    "min_rate": NOT_NEGATIVE,
    "n_bins": [1, *NO_COUNT],
    "mmd_weight": NOT_NEGATIVE,
    "n_categories": [1, *NO_COUNT],
    "n_clusters": NO_COUNT,
    "n_components": NO_COUNT,
    "n_draws": NO_COUNT,
    "n_factors": NO_COUNT,
    "n_importance_samples": NO_COUNT,
    "n_init": [0, -1, 2.5, True, "many"],
    "n_iter_no_change": NO_COUNT,
    "n_levels": [9, *NO_COUNT],
    "n_tokens": NO_COUNT,
    "n_transforms": NO_COUNT,
    "noise": NOT_NEGATIVE,
    "precisions_init": ["blobs", 3],
    "linear_path": [*NO_NAME, None, 2],
    "posterior_type": [*NO_NAME, None],
    "precision": [*NO_NAME, None, "float16"],
    "prior": [*NO_NAME, None],
    "prior_components": NO_COUNT,
    "random_state": ["seed", -1, 1.5],
    "reg_covar": NOT_NEGATIVE,
    "standardize": NO_FLAG,
    "structure": [*NO_NAME, None],
    "temperature": POSITIVE,
    "tol": NOT_NEGATIVE,
    "univariate": [*NO_NAME, None],
    "validation_fraction": [-0.1, 1.0, 1.5, "some", True],
    "variance": [*NO_NAME, None],
    "variance_prior": NOT_NEGATIVE,
    "verbose": [-1, "loud"],
    "verbose_interval": NO_COUNT,
    "warm_start": NO_FLAG,
    "weight_averaging": [-0.1, 1.0, NAN, "slow", True],
    "weight_decay": NOT_NEGATIVE,
    "weight_prior": NOT_NEGATIVE,
    "weights_init": ["blobs", 3],
}


def parameters(estimator: Any) -> list[Any]:
    return list(inspect.signature(type(estimator)).parameters)


def _cases() -> Any:
    return [
        pytest.param(
            estimator, name, value, id=f"{class_name(estimator)}-{name}-{value}"
        )
        for estimator in [*ONE_OF_EACH, *IMPLICIT]
        for name in parameters(estimator)
        for value in BAD_PARAMETERS.get(name, [])
    ]


# Parameters.


@one_of_each
def test_every_parameter_is_tried(estimator: Any) -> None:
    assert set(parameters(estimator)) <= set(BAD_PARAMETERS)


@pytest.mark.parametrize(("estimator", "name", "value"), _cases())
def test_a_bad_parameter_is_named_with_its_value(
    estimator: Any, name: str, value: Any
) -> None:
    model = clone(estimator).set_params(**{name: value})
    with pytest.raises(ValueError) as caught:
        model.fit(rows_for(estimator))
    message = str(caught.value)
    assert repr(name) in message or f"{name}=" in message
    assert repr(value) in message
    assert class_name(estimator) in message
    assert "must be" in message
    assert not hasattr(model, "n_features_in_")


@one_of_each
def test_a_bad_parameter_is_not_looked_for_before_fit(estimator: Any) -> None:
    bad: dict[str, Any] = {n: BAD_PARAMETERS[n][0] for n in parameters(estimator)}
    model = type(estimator)(**bad)
    assert model.get_params(deep=False) == bad


def _absent_devices() -> Any:
    here: dict[str, Any] = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    return ["cuda:99", *(name for name, is_here in here.items() if not is_here)]


@one_of_each
@pytest.mark.parametrize("device", _absent_devices())
def test_an_absent_device_is_named_with_a_way_out(estimator: Any, device: str) -> None:
    model = clone(estimator).set_params(device=device)
    message = rf"'device' parameter of \w+ is '{device}'.*no such device.*device='cpu'"
    with pytest.raises(ValueError, match=message):
        model.fit(rows_for(estimator))


# Rows.


def _with(value: float) -> Callable[..., Any]:
    def spoil(X: Any) -> Any:
        X = X.copy()
        X[3, 2] = value
        return X

    return spoil


BAD_ROWS: dict[str, Any] = {
    "nan": (_with(np.nan), "Input X contains NaN"),
    "nan_in_strided_rows": (
        lambda X: np.repeat(_with(np.nan)(X), 2, axis=1)[:, ::2],
        "Input X contains NaN",
    ),
    "inf": (_with(np.inf), "Input X contains infinity"),
    "minus_inf": (_with(-np.inf), "Input X contains infinity"),
    "strings": (lambda X: np.full(X.shape, "one"), "could not convert string"),
    "complex": (lambda X: X + 1j, "Complex data not supported"),
    "no_rows": (lambda X: X[:0], r"Found array with 0 sample\(s\)"),
    "no_features": (lambda X: X[:, :0], r"Found array with 0 feature\(s\)"),
    "one_dimension": (lambda X: X[0], "Expected 2D array, got 1D array"),
    "three_dimensions": (lambda X: X[None], "Found array with dim 3"),
    "no_array": (lambda X: None, None),
    "tensor_with_nan": (
        lambda X: torch.tensor(_with(np.nan)(X)),
        "Input X contains NaN",
    ),
}
# Those that are no fault where cells may be missing.
HOLES = ("nan", "nan_in_strided_rows", "tensor_with_nan")
BAD_FOR_FIT: dict[str, Any] = {
    **BAD_ROWS,
    "one_row": (lambda X: X[:1], r"1 sample.*minimum of 2"),
}
BAD_AFTER_FIT: dict[str, Any] = {
    **BAD_ROWS,
    "a_feature_less": (
        lambda X: X[:, 1:],
        r"X has 4 features, but \w+ is expecting 5 features",
    ),
}
METHODS_OF_ROWS = [
    "transform",
    "reconstruct",
    "score_samples",
    "score",
    "predict",
    "predict_proba",
    "aic",
    "bic",
    "posterior",
    "elbo",
    "log_likelihood",
]


def with_each(cases: Any) -> Any:
    """Give each class the cases that are bad for it."""
    pairs = [
        (estimator, case)
        for estimator in ONE_OF_EACH
        for case in cases
        if not (case in HOLES and class_name(estimator) in CLOSED_FORM)
    ]
    names = [f"{case}-{class_name(estimator)}" for estimator, case in pairs]
    return pytest.mark.parametrize(("estimator", "case"), pairs, ids=names)


@with_each(BAD_FOR_FIT)
def test_bad_rows_do_not_fit(estimator: Any, case: str) -> None:
    spoil, message = BAD_FOR_FIT[case]
    with pytest.raises(ValueError, match=message):
        clone(estimator).fit(spoil(rows_for(estimator)))


@with_each(BAD_AFTER_FIT)
def test_bad_rows_are_not_evaluated(estimator: Any, case: str) -> None:
    spoil, message = BAD_AFTER_FIT[case]
    X, model = spoil(rows_for(estimator)), fitted(estimator)
    for method in METHODS_OF_ROWS:
        if hasattr(model, method):
            with pytest.raises(ValueError, match=message):
                getattr(model, method)(X)


BERNOULLI = [estimator for estimator in ESTIMATORS if is_bernoulli(estimator)]


@pytest.mark.parametrize("estimator", BERNOULLI, ids=name_of)
@pytest.mark.parametrize("value", [-0.5, 1.5, 255.0])
def test_rows_outside_the_support_are_refused(estimator: Any, value: float) -> None:
    X = _with(value)(rows_for(estimator))
    with pytest.raises(ValueError, match=r"(?i)bernoulli.*\[0, 1\]"):
        clone(estimator).fit(X)
    with pytest.raises(ValueError, match=r"(?i)bernoulli.*\[0, 1\]"):
        fitted(estimator).score_samples(X)


# Codes.


@every_estimator
@pytest.mark.parametrize("change", [-1, 1])
def test_a_code_of_another_width_is_refused(estimator: Any, change: int) -> None:
    model = fitted(estimator)
    width = len(model.get_feature_names_out())
    code = np.zeros((3, width + change))
    message = (
        r"Found array with 0 feature\(s\)"
        if width + change == 0
        else rf"X has {width + change} features, but \w+\.inverse_transform is "
        rf"expecting {width} latent features.*pass what transform returns"
    )
    with pytest.raises(ValueError, match=message):
        model.inverse_transform(code)


BAD_CODES: dict[str, Any] = {
    "nan": (lambda code: code * np.nan, "latent code contains NaN"),
    "inf": (lambda code: code + np.inf, "latent code contains infinity"),
    "strings": (lambda code: np.full(code.shape, "one"), "could not convert string"),
    "no_rows": (lambda code: code[:0], r"0 sample\(s\)"),
    "one_dimension": (lambda code: code[0], "Expected 2D array, got 1D array"),
}


@every_estimator
@pytest.mark.parametrize("case", BAD_CODES)
def test_bad_codes_are_not_decoded(estimator: Any, case: str) -> None:
    model = fitted(estimator)
    spoil, message = BAD_CODES[case]
    code = np.zeros((3, len(model.get_feature_names_out())))
    with pytest.raises(ValueError, match=message):
        model.inverse_transform(spoil(code))


@pytest.mark.parametrize(
    "estimator", [e for e in ESTIMATORS if is_ordinal(e)], ids=name_of
)
@pytest.mark.parametrize("index", [-1, 99, 0.5])
def test_an_index_outside_the_codebook_is_refused(estimator: Any, index: float) -> None:
    code = fitted(estimator).transform(rows_for(estimator)).astype(float)
    code[1, 0] = index
    with pytest.raises(ValueError, match=r"indices|integers|index"):
        fitted(estimator).inverse_transform(code)


# Weights.

BAD_WEIGHTS: dict[str, Any] = {
    "negative": (lambda n: np.r_[-1.0, np.ones(n - 1)], "Negative values.*sample_wei"),
    "nan": (lambda n: np.r_[np.nan, np.ones(n - 1)], "sample_weight contains NaN"),
    "inf": (lambda n: np.r_[np.inf, np.ones(n - 1)], "sample_weight contains infin"),
    "strings": (lambda n: ["one"] * n, "could not convert string"),
    "short": (lambda n: np.ones(n - 1), r"sample_weight.shape == .*expected \(60,\)"),
    "long": (lambda n: np.ones(n + 1), r"sample_weight.shape == .*expected \(60,\)"),
    "scalar": (lambda n: 1.0, "sample_weight"),
    "column": (lambda n: np.ones((n, 1)), r"sample_weight.shape == .*expected \(60,"),
    "all_zero": (np.zeros, "at least one non-zero number"),
    "empty": (lambda n: [], r"0 sample\(s\)|sample_weight.shape"),
    "tensor_with_nan": (lambda n: torch.full((n,), NAN), "sample_weight contains NaN"),
}


@one_of_each
@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights_are_refused(estimator: Any, case: str) -> None:
    X = rows_for(estimator)
    make, message = BAD_WEIGHTS[case]
    with pytest.raises(ValueError, match=message):
        clone(estimator).fit(X, sample_weight=make(len(X)))


# Samples.


@one_of_each
@pytest.mark.parametrize("n_samples", [0, -3, 2.5, NAN, "three", True, None])
def test_a_number_of_samples_is_a_positive_int(
    estimator: Any, n_samples: float
) -> None:
    with pytest.raises(ValueError, match=r"'?n_samples'?.*at least one"):
        fitted(estimator).sample(n_samples)


@one_of_each
@pytest.mark.parametrize("random_state", ["seed", -1, 1.5])
def test_a_seed_of_samples_is_a_seed(estimator: Any, random_state: Any) -> None:
    with pytest.raises(ValueError, match=r"(?i)seed|random_state"):
        fitted(estimator).sample(random_state=random_state)


# Not fitted.


@one_of_each
def test_nothing_works_before_fit(estimator: Any) -> None:
    model, X = clone(estimator), rows_for(estimator)
    calls: dict[str, Any] = dict.fromkeys(METHODS_OF_ROWS, (X,))
    calls |= {"inverse_transform": (X,), "sample": (), "get_feature_names_out": ()}
    for name, arguments in calls.items():
        if hasattr(model, name):
            with pytest.raises(NotFittedError, match="is not fitted yet"):
                getattr(model, name)(*arguments)


@one_of_each
def test_a_failed_fit_leaves_an_unfitted_model_unfitted(estimator: Any) -> None:
    model = clone(estimator)
    with pytest.raises(ValueError, match="contains infinity"):
        model.fit(_with(np.inf)(rows_for(estimator)))
    with pytest.raises(NotFittedError):
        model.score(rows_for(estimator))


@one_of_each
def test_values_whose_squares_overflow_are_named(estimator: Any) -> None:
    X = rows_for(estimator) * 1e160
    words = r"magnitude .*overflow|in the range \[0, 1\]"
    with pytest.raises(ValueError, match=words):
        clone(estimator).fit(X)


@one_of_each
def test_a_failed_first_fit_leaves_nothing_fitted(estimator: Any) -> None:
    model = clone(estimator).set_params(device="gpu")
    with pytest.raises(ValueError, match="gpu"):
        model.fit(rows_for(estimator))
    with pytest.raises(NotFittedError):
        model.score(rows_for(estimator))
