"""Values of parameters that cannot be: a clear error before anything is allocated."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.base import clone

import skgen
from skgen import IWAE, VAE, VQVAE, BetaVAE, GaussianMixtureEM, KMeansAutoencoder
from tests.estimators import ONE_OF_EACH, class_name, features, fitted

pytestmark = pytest.mark.filterwarnings("ignore")

X = features(40)
ODD = [
    Fraction(1, 2),
    Decimal("0.5"),
    np.timedelta64(3, "s"),
    np.timedelta64(3),
    np.datetime64("2020"),
    np.array(2),
    np.array(0.5),
    np.array("relu"),
    np.longdouble(0.5),
    10**400,
    -(10**400),
    10**5000,
    1j,
    b"relu",
    torch.tensor(2),
    (4,) * 2000,
    {},
    object(),
]


def error_of_fit(model: Any) -> Any:
    """Return the message of the ValueError of a fit, or None."""
    try:
        model.fit(X)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("estimator", ONE_OF_EACH, ids=class_name)
def test_odd_values_are_taken_or_named(estimator: Any) -> None:
    taken = set()
    for name in estimator.get_params(deep=False):
        for value in ODD:
            model = clone(estimator).set_params(**{name: value})
            if "max_iter" in model.get_params() and name != "max_iter":
                model.set_params(max_iter=1)
            message = error_of_fit(model)
            assert message is None or name in message
            taken |= {name} if message is None else set()
    assert taken <= {"init", "means_init", "image_shape"}


HUGE = [
    (VAE(10**9), "n_components=1000000000"),
    (VAE((2, 10**9)), "n_components="),
    (VAE(2, hidden_layer_sizes=10**12), "hidden_layer_sizes=1000000000000"),
    (VAE(2, hidden_layer_sizes=(10**12, 10**12)), "hidden_layer_sizes="),
    (VAE(2, hidden_layer_sizes=(300_000, 300_000)), "hidden_layer_sizes="),
    (VAE(2, n_importance_samples=10**9), "n_importance_samples="),
    (IWAE(2, n_draws=10**12), "n_draws="),
    (VQVAE(10**12), "codebook_size="),
    (VQVAE(8, code_size=10**12), "code_size="),
    (VQVAE(8, n_tokens=10**12), "n_tokens="),
]


@pytest.mark.parametrize(("model", "words"), HUGE, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_networks_that_no_memory_holds_are_refused(
    model: Any, words: str, method: str
) -> None:
    with pytest.raises(ValueError, match=rf"{words}.* needs about .* of memory.*Lower"):
        getattr(clone(model), method)(X)


def test_channels_that_no_memory_holds_are_refused() -> None:
    images: dict[str, Any] = {
        "architecture": "conv",
        "image_shape": (8, 8),
        "channels": 10**6,
    }
    with pytest.raises(ValueError, match=r"channels=1000000 of VAE needs about"):
        VAE(2, **images).fit(np.zeros((4, 64)))


@pytest.mark.parametrize(
    "model", [KMeansAutoencoder(10**18), GaussianMixtureEM(10**18)], ids=class_name
)
def test_more_clusters_than_rows_are_refused(model: Any) -> None:
    for method in ("fit", "partial_fit"):
        if hasattr(model, method):
            with pytest.raises(ValueError, match=r"n_clusters|n_components"):
                getattr(clone(model), method)(X)


@pytest.mark.parametrize("estimator", ONE_OF_EACH, ids=class_name)
def test_samples_that_no_memory_holds_are_refused(estimator: Any) -> None:
    with pytest.raises(ValueError, match=r"n_samples=1000000000000000.*needs about"):
        fitted(estimator).sample(10**15)


@pytest.mark.parametrize("name", ["beta", "capacity", "free_bits"])
def test_weights_of_the_loss_stay_in_the_range_of_float32(name: str) -> None:
    with pytest.raises(ValueError, match=rf"'{name}' parameter .*1e\+30.*Got 1e\+300"):
        BetaVAE(2, **{name: cast(Any, 1e300)}).fit(X)


STARTS: dict[str, Any] = {
    "weights_init": (GaussianMixtureEM(2), [np.ones(3) / 3, ["a", "b"], [np.nan] * 2]),
    "means_init": (GaussianMixtureEM(2), [np.ones((3, 5)), np.ones(2), [["a"]]]),
    "precisions_init": (GaussianMixtureEM(2), [np.ones((2, 5)), [["a"]]]),
    "init": (KMeansAutoencoder(2), [np.ones((3, 5)), np.ones(2), [["a"]], [[np.nan]]]),
}


@pytest.mark.parametrize("name", STARTS)
def test_a_start_of_another_shape_names_its_parameter(name: str) -> None:
    model, values = STARTS[name]
    for value in values:
        for method in ("fit", "partial_fit"):
            if hasattr(model, method):
                with pytest.raises(ValueError, match=name):
                    getattr(clone(model).set_params(**{name: value}), method)(X)


def test_a_device_may_be_one_of_torch(tmp_path: Path) -> None:
    for name in ("GaussianDensity", "VAE"):
        estimator = next(e for e in ONE_OF_EACH if class_name(e) == name)
        model = clone(estimator).set_params(device=torch.device("cpu")).fit(X)
        assert model.device_ == "cpu"
        skgen.save(model, tmp_path / name)
        assert skgen.load(tmp_path / name).score(X) == model.score(X)
