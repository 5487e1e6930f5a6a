"""State after a fit: all of it or nothing, and the effect of later parameters."""

import inspect
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

import skgen
from skgen import VAE, GaussianDensity, GenerativePipeline
from skgen.likelihoods import Gaussian
from tests.estimators import (
    ESTIMATORS,
    ONE_OF_EACH,
    class_name,
    dense,
    features,
    fitted,
    name_of,
    rows_for,
)

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

X = features(40)
INCREMENTAL = [e for e in ONE_OF_EACH if hasattr(e, "partial_fit")]
incremental = pytest.mark.parametrize("estimator", INCREMENTAL, ids=class_name)
N_INTERRUPTS = 12
PACKAGE = str(Path(skgen.__file__).parent)


def outputs(model: Any, rows: NDArray[Any]) -> dict[str, Any]:
    """All that evaluation gives, by name of the method."""
    code = model.transform(rows)
    found: dict[str, Any] = {
        "transform": dense(code),
        "inverse_transform": model.inverse_transform(code),
        "reconstruct": model.reconstruct(rows),
        "score_samples": model.score_samples(rows),
        "score": model.score(rows),
        "sample": model.sample(7, random_state=0),
        "names": model.get_feature_names_out(),
    }
    for name in ("predict", "predict_proba", "bic", "aic", "posterior", "elbo"):
        if hasattr(model, name):
            found[name] = np.asarray(getattr(model, name)(rows))
    if hasattr(model, "log_likelihood"):
        found["log_likelihood"] = model.log_likelihood(rows[:3], 10).log_prob
    return found


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert_array_equal(value, expected[name], err_msg=name)


def attributes(model: Any) -> dict[str, Any]:
    """Its attributes, each as the object that it is."""
    return {name: id(value) for name, value in vars(model).items()}


class InterruptAt:
    """Press Ctrl-C at a call of a function of skgen, by its number."""

    def __init__(self, number: Any = None) -> None:
        self.number, self.count = number, 0

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        # Python drops what is raised while it closes a generator.
        is_plain = not code.co_flags & inspect.CO_GENERATOR
        if event == "call" and is_plain and PACKAGE in code.co_filename:
            self.count += 1
            if self.count == self.number:
                sys.setprofile(None)
                raise KeyboardInterrupt

    def __enter__(self) -> Any:
        sys.setprofile(self)
        return self

    def __exit__(self, *error: Any) -> None:
        sys.setprofile(None)


# All or nothing.


@incremental
@pytest.mark.parametrize("weight", [np.zeros(40), -np.ones(40), np.ones(39)])
def test_bad_weights_leave_a_first_partial_fit_unfitted(
    estimator: Any, weight: NDArray[Any]
) -> None:
    model = clone(estimator)
    before = attributes(model)
    with pytest.raises(ValueError):
        model.partial_fit(X, sample_weight=weight)
    assert attributes(model) == before
    with pytest.raises(NotFittedError):
        model.transform(X)


@incremental
@pytest.mark.parametrize("first", [True, False])
def test_ctrl_c_in_partial_fit_leaves_the_model_as_it_was(
    estimator: Any, first: bool
) -> None:
    start = clone(estimator) if first else clone(estimator).partial_fit(X[:20])
    start = pickle.dumps(start)
    expected = pickle.loads(start)
    with InterruptAt() as counted:
        expected.partial_fit(X[20:])
    model = pickle.loads(start)
    for number in np.linspace(4, counted.count - 4, N_INTERRUPTS, dtype=int):
        before = attributes(model)
        with pytest.raises(KeyboardInterrupt), InterruptAt(number):
            model.partial_fit(X[20:])
        assert attributes(model) == before
        if first:
            with pytest.raises(NotFittedError):
                model.transform(X)
    assert_same(outputs(model.partial_fit(X[20:]), X), outputs(expected, X))


class Fails(torch.nn.Linear):
    """An encoder that fails once it is told to."""

    fails = False

    def forward(self, x: Tensor) -> Tensor:
        if Fails.fails and self.training:
            raise RuntimeError("out of order")
        return super().forward(x)


@pytest.mark.parametrize("first", [True, False])
def test_an_encoder_that_fails_leaves_the_model_as_it_was(
    first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = VAE(2, encoder=Fails, hidden_layer_sizes=(8,), random_state=0)
    if not first:
        model.partial_fit(X)
        before = outputs(model, X)
    monkeypatch.setattr(Fails, "fails", True)
    with pytest.raises(RuntimeError, match="out of order"):
        model.partial_fit(X)
    if first:
        with pytest.raises(NotFittedError):
            model.transform(X)
    else:
        assert_same(outputs(model, X), before)
        assert len(model.loss_curve_) == model.n_iter_ == 1


@pytest.mark.parametrize("method", ["fit", "fit_transform"])
def test_a_pipeline_that_fails_is_as_it_was(method: str) -> None:
    inner = make_pipeline(StandardScaler(), StandardScaler())
    model = GenerativePipeline(
        [("scale", StandardScaler()), ("nested", inner), ("density", GaussianDensity())]
    )
    with pytest.raises(ValueError, match="n_components"):
        getattr(model.set_params(density__n_components=9), method)(X)
    with pytest.raises(NotFittedError):
        inner[0].transform(X)
    model.set_params(density__n_components=2).fit(X)
    before = outputs(model, X)
    with pytest.raises(ValueError, match="n_components"):
        getattr(model.set_params(density__n_components=9), method)(5 * X + 3)
    assert_same(outputs(model, X), before)


# Parameters that are set after the fit.

#: Another valid value of each parameter.
OTHER: dict[str, Any] = {
    "activation": "tanh",
    "algorithm": "elkan",
    "architecture": "mlp",
    "alpha": 0.3,
    "batch_size": 7,
    "beta": 2.5,
    "capacity": 2.0,
    "channels": 3,
    "code_size": 3,
    "checkpoint": "no_folder/never_written",
    "codebook_size": 5,
    "codebook_update": "ema",
    "combine": "average",
    "commitment_cost": 0.7,
    "condition": "auto",
    "copy_x": False,
    "corruption": "masking",
    "covariance_prior": "auto",
    "covariance_type": "spherical",
    "acceleration": "squarem",
    "decay": 0.9,
    "decoder": torch.nn.Linear,
    "degrees_of_freedom": 3.0,
    "dequantize": True,
    "device": "auto",
    "distance": "cosine",
    "early_stopping": False,
    "encoder": torch.nn.Linear,
    "encoder_rate": 2.0,
    "execution": "compiled",
    "free_bits": 0.3,
    "gradient": "standard",
    "hidden_layer_sizes": (3, 3),
    "image_shape": (1, 5),
    "inference": "top-down",
    "init": "random",
    "init_params": "random",
    "kinds": "auto",
    "kernel": "rbf",
    "kl_warmup": 3,
    "learning_rate": "cosine",
    "learning_rate_init": 0.1,
    "level_prior": 0.5,
    "latent_density": GaussianDensity(1),
    "likelihood": Gaussian("row"),
    "max_grad_norm": 3.0,
    "max_iter": 2,
    "means_init": np.zeros((2, 5)),
    "min_rate": 0.5,
    "n_bins": 4,
    "mmd_weight": 3.0,
    "n_categories": 2,
    "n_clusters": 2,
    "n_components": 4,
    "n_draws": 2,
    "n_factors": 3,
    "n_importance_samples": 3,
    "n_init": 3,
    "n_iter_no_change": 2,
    "n_levels": 1,
    "n_tokens": 3,
    "n_transforms": 2,
    "noise": 0.5,
    "posterior_type": "full",
    "precision": "bfloat16",
    "linear_path": False,
    "precisions_init": np.ones((2, 5)),
    "prior": "transformer",
    "prior_components": 4,
    "random_state": 7,
    "reg_covar": 2.0,
    "standardize": False,
    "structure": "coupling",
    "temperature": 1.0,
    "tol": 0.1,
    "univariate": "affine",
    "validation_fraction": 0.3,
    "variance": "feature",
    "variance_prior": 2.0,
    "verbose": 1,
    "verbose_interval": 3,
    "warm_start": True,
    "weight_averaging": 0.5,
    "weight_decay": 0.1,
    "weight_prior": 0.5,
    "weights_init": np.array([0.3, 0.7]),
}


def other_value(model: Any, name: str) -> Any:
    if name == "prior" and hasattr(model, "cluster_centers_"):
        return "uniform"
    if name == "prior" and isinstance(model, VAE):
        return "mixture" if model.prior != "mixture" else "normal"
    if name == "posterior_type" and class_name(model) == "TCVAE":
        return "diag"
    if name == "inference" and model.inference == "top-down":
        return "bottom-up"
    if name == "gradient" and hasattr(model, "codebook_"):
        return "straight-through"
    return OTHER[name]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_what_was_fitted_decides_how_it_is_evaluated(estimator: Any) -> None:
    rows = rows_for(estimator, 12, seed=1)
    model = pickle.loads(pickle.dumps(fitted(estimator)))
    before = outputs(model, rows)
    names = set(model.get_params(deep=False)) - {
        "encode"
    }  # which changes the output of code
    model.set_params(**{name: other_value(model, name) for name in names})
    assert_same(outputs(model, rows), before)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_a_further_fit_refuses_a_changed_model(estimator: Any) -> None:
    model = pickle.loads(pickle.dumps(fitted(estimator)))
    rows, before = rows_for(estimator), attributes(model)
    for name in model._built_with:
        value = getattr(model, name)
        other = other_value(model, name)
        if value == other:
            continue
        if class_name(model) in ("GaussianDensity", "KMeansAutoencoder"):
            model.set_params(**{name: other})
            with pytest.raises(ValueError, match=rf"^{name}=.*partial_fit goes on"):
                model.partial_fit(rows)
        if hasattr(model, "warm_start"):
            model.set_params(**{name: other, "warm_start": True})
            with pytest.raises(ValueError, match=rf"^{name}=.*warm_start=False"):
                model.fit(rows)
        model.set_params(**{name: value})
    if hasattr(model, "warm_start"):
        model.set_params(warm_start=False)
    assert attributes(model) == before


@pytest.mark.parametrize(
    "estimator", [e for e in ONE_OF_EACH if hasattr(e, "encode")], ids=class_name
)
def test_encode_may_be_set_after_the_fit(estimator: Any) -> None:
    rows, model = rows_for(estimator), pickle.loads(pickle.dumps(fitted(estimator)))
    for encode in ("onehot", "ordinal"):
        found = outputs(model.set_params(encode=encode), rows)
        assert_same(found, outputs(clone(model).fit(rows), rows))
    model.set_params(encode="one-hot")
    for call in (model.transform, model.inverse_transform):
        with pytest.raises(ValueError, match=r"'encode' parameter .*'one-hot'"):
            call(rows)


@pytest.mark.parametrize(
    "estimator",
    [e for e in ESTIMATORS if hasattr(e, "hidden_layer_sizes")],
    ids=name_of,
)
def test_partial_fit_of_networks_continues_with_what_was_built(estimator: Any) -> None:
    X, start = rows_for(estimator), pickle.dumps(fitted(estimator))
    changed, same = pickle.loads(start), pickle.loads(start)
    names = changed._built_with
    changed.set_params(**{name: other_value(changed, name) for name in names})
    assert_same(outputs(changed.partial_fit(X), X), outputs(same.partial_fit(X), X))


def test_values_that_mean_the_same_are_no_change() -> None:
    model = VAE(2, hidden_layer_sizes=[8], max_iter=2, warm_start=True, random_state=0)
    model.fit(X).set_params(hidden_layer_sizes=(8,), likelihood="gaussian").fit(X)
    model.set_params(hidden_layer_sizes=np.array([8])).partial_fit(X)


def test_every_parameter_has_another_value() -> None:
    assert isinstance(VAE(), BaseEstimator)
    names = {name for e in ONE_OF_EACH for name in e.get_params(deep=False)}
    assert names == {*OTHER, "encode"}
