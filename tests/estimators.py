"""The instances that the common suites run over, and what they may fail.

A class of ``skgen.__all__`` must be listed here; one more variant of a class is
one more line. Settings are small, so that a suite over all of them stays fast.
"""

import functools
import inspect
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.datasets import load_digits

import skgen
from skgen import GaussianDensity
from skgen.likelihoods import Bernoulli

_NETWORK: dict[str, Any] = {
    "hidden_layer_sizes": (16,),
    "max_iter": 3,
    "n_importance_samples": 8,
}
_VAE: dict[str, Any] = {**_NETWORK, "n_components": 2}
_IMAGES: dict[str, Any] = {"architecture": "conv", "image_shape": (8, 8), "channels": 4}
_VQVAE: dict[str, Any] = {**_NETWORK, "codebook_size": 8, "code_size": 2, "n_tokens": 2}
_FLOW: dict[str, Any] = {
    "n_transforms": 1,
    "n_bins": 3,
    "hidden_layer_sizes": (8,),
    "max_iter": 3,
}

DYNAMIC = Bernoulli(binarize="dynamic")

# Class -> parameters of each variant; the first stands for the class.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "GaussianDensity": [
        {},
        {"n_components": 1},
        {"covariance_type": "diag"},
        {"covariance_type": "diag", "n_components": 1},
        {"covariance_type": "spherical"},
    ],
    "GaussianMixtureEM": [
        {"n_components": 3},
        {"n_components": 1},
        {"n_components": 3, "covariance_type": "tied"},
        {"n_components": 3, "covariance_type": "diag"},
        {"n_components": 3, "covariance_type": "spherical"},
        {"n_components": 3, "covariance_type": "factor"},
    ],
    "MixtureEM": [{"n_components": 3}],
    "StudentMixtureEM": [{"n_components": 2}],
    "KMeansAutoencoder": [
        {"n_clusters": 3},
        {"n_clusters": 3, "encode": "onehot"},
        {"n_clusters": 3, "encode": "ordinal"},
    ],
    "VAE": [
        _VAE,
        {**_VAE, "hidden_layer_sizes": (), "standardize": False},
        {**_VAE, "early_stopping": False},
        {**_VAE, "likelihood": "bernoulli"},
        {**_VAE, "likelihood": DYNAMIC},
        {**_VAE, "n_components": (3, 2)},
        {**_VAE, "n_components": (3, 2), "inference": "top-down"},
        {**_VAE, "posterior_type": "full"},
        {**_VAE, "prior": "vamp", "prior_components": 3},
        {**_VAE, **_IMAGES},
    ],
    "BetaVAE": [
        {**_VAE, "beta": 4.0},
        {**_VAE, "beta": 20.0, "capacity": 1.0, "free_bits": 0.1},
        {**_VAE, "likelihood": "bernoulli"},
    ],
    "IWAE": [
        {**_VAE, "n_draws": 3},
        {**_VAE, "n_components": (3, 2), "weight_averaging": 0.9, "prior": "mixture"},
        {**_VAE, "likelihood": "bernoulli", "learning_rate_init": 1e-2},
    ],
    "FlowDensity": [_FLOW],
    "InfoVAE": [{**_VAE, "alpha": 0.5}],
    "TCVAE": [_VAE],
    "DiscreteVAE": [{**_VAE, "n_categories": 3, "n_draws": 2}],
    "Autoencoder": [{**_VAE, "latent_density": GaussianDensity()}],
    "VQVAE": [
        _VQVAE,
        {**_VQVAE, "encode": "ordinal"},
        {**_VQVAE, "encode": "onehot"},
        {**_VQVAE, "likelihood": "bernoulli", "prior": "transformer"},
        {**_VQVAE, "codebook_update": "ema", "gradient": "straight-through"},
        # A transformer over the sixteen tokens of an image would be half of all time.
        {**_VQVAE, **_IMAGES, "distance": "cosine", "prior": "nade"},
    ],
    "VQVAE2": [_VQVAE],
}

# Models that draw, without a density and codes; for suites that ask for neither.
IMPLICIT_VARIANTS: dict[str, list[dict[str, Any]]] = {
    "GAN": [{"n_components": 2, "hidden_layer_sizes": (8,), "max_iter": 3}],
}

CLOSED_FORM = (
    "GaussianDensity",
    "GaussianMixtureEM",
    "MixtureEM",
    "StudentMixtureEM",
    "KMeansAutoencoder",
)


def _build(name: Any, params: Any) -> Any:
    """Make an instance, seeded where it draws."""
    cls = getattr(skgen, name)
    if "random_state" in inspect.signature(cls).parameters:
        params = {"random_state": 0, **params}
    return cls(**params)


def name_of(estimator: Any) -> Any:
    """Class, and what tells the variant from the first one of its class."""
    cls = type(estimator)
    usual: dict[str, Any] = {
        **cls().get_params(),
        "random_state": 0,
        **(VARIANTS | IMPLICIT_VARIANTS)[cls.__name__][0],
    }
    given = estimator.get_params(deep=False).items()
    return f"{cls.__name__}({', '.join(f'{k}={v}' for k, v in given if v != usual[k])})"


def class_name(estimator: Any) -> str:
    return type(estimator).__name__


def is_dynamic(estimator: Any) -> bool:
    """Whether grey rows are binarised by a draw."""
    return isinstance(getattr(estimator, "likelihood", None), Bernoulli)


def is_bernoulli(estimator: Any) -> bool:
    return getattr(estimator, "likelihood", None) == "bernoulli"


def is_image(estimator: Any) -> bool:
    return getattr(estimator, "image_shape", None) is not None


def is_ordinal(estimator: Any) -> bool:
    return getattr(estimator, "encode", None) == "ordinal"


def is_sparse(estimator: Any) -> Any:
    """Whether codes are SciPy sparse matrices."""
    return getattr(estimator, "encode", None) == "onehot"


ESTIMATORS = [
    _build(name, params)
    for name in VARIANTS
    if name in skgen.__all__
    for params in VARIANTS[name]
]
# The first variant of each class.
ONE_OF_EACH = list({class_name(e): e for e in reversed(ESTIMATORS)}.values())[::-1]
# And each kind of code. For laws of the base: validation, containers, names, copies.
# What else varies is inside of a module, which sees tensors alone.
BY_CODE = [e for e in ESTIMATORS if e in ONE_OF_EACH or is_ordinal(e) or is_sparse(e)]
IMPLICIT = [_build(name, each) for name, (each,) in IMPLICIT_VARIANTS.items()]
# scikit-learn's checks bring data of their own, which no Bernoulli decoder takes.
CHECKED = [e for e in ESTIMATORS if e in BY_CODE or class_name(e) in CLOSED_FORM]

_WEIGHT_CHECKS = (
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
)
_WHY = {
    "GaussianMixtureEM": "a row given twice moves the random start",
    "MixtureEM": "a row given twice moves the random start",
    "StudentMixtureEM": "a row given twice moves the random start",
    "KMeansAutoencoder": "a row given twice moves the random start",
    "VAE": "a row given twice moves the mini-batches",
    "BetaVAE": "a row given twice moves the mini-batches",
    "IWAE": "a row given twice moves the mini-batches",
    "FlowDensity": "a row given twice moves the mini-batches",
    "InfoVAE": "a row given twice moves the mini-batches",
    "TCVAE": "a row given twice moves the mini-batches",
    "DiscreteVAE": "a row given twice moves the mini-batches",
    "Autoencoder": "a row given twice moves the mini-batches",
    "VQVAE": "a row given twice moves the mini-batches",
    "VQVAE2": "a row given twice moves the mini-batches",
}


def EXPECTED_FAILED_CHECKS(estimator: Any) -> Any:
    """Map check name -> reason, for `parametrize_with_checks`; nothing else may fail.

    Weights are laws in the tests of each model, from a given start.
    """
    taken_for_classifiers = dict.fromkeys(
        ("check_estimator_sparse_array", "check_estimator_sparse_matrix"),
        "scikit-learn asks the shape of predict_proba by tags of a classifier",
    )
    is_alone = getattr(estimator, "n_components", None) == 1  # no start to move
    if class_name(estimator) not in _WHY or (
        class_name(estimator) == "GaussianMixtureEM" and is_alone
    ):
        return {}
    found = dict.fromkeys(_WEIGHT_CHECKS, _WHY[class_name(estimator)])
    is_mixture = class_name(estimator) == "GaussianMixtureEM"
    if is_mixture and estimator.covariance_type in ("diag", "spherical", "factor"):
        found |= taken_for_classifiers
    return found


def features(n: int = 60, dtype: type[Any] = np.float64, seed: int = 0) -> NDArray[Any]:
    """Three correlated blobs of five features on different scales, (n, 5)."""
    rng = np.random.RandomState(seed)
    centres = 4 * rng.randn(3, 5)
    mixing = np.tril(rng.randn(5, 5)) + 2 * np.eye(5)
    X = centres[rng.randint(3, size=n)] + rng.randn(n, 5) @ mixing
    # Through float32, so that both dtypes hold the same numbers.
    return (X * [1, 10, 0.1, 1, 3] + [0, 5, 0, -2, 0]).astype(np.float32).astype(dtype)


def rows_for(
    estimator: Any, n: int = 60, dtype: type[Any] = np.float64, seed: int = 0
) -> Any:
    """Rows in the support of the model, (n, 5), or images, (n, 64)."""
    if is_image(estimator):
        return load_digits().data[seed * n : seed * n + n].astype(dtype)
    if is_dynamic(estimator):
        X = features(n, seed=seed)
        grey = (X - X.min(0)) / (X.max(0) - X.min(0))
        return grey.astype(np.float32).astype(dtype)
    X = features(n, dtype, seed)
    return (X.mean(0) < X).astype(dtype) if is_bernoulli(estimator) else X


@functools.cache
def fitted(estimator: Any, dtype: Any = np.float64) -> Any:
    """Fit a clone on ``rows_for(estimator)``, once a session: do not change it."""
    return clone(estimator).fit(rows_for(estimator, dtype=dtype))


@functools.cache
def brief(estimator: Any) -> Any:
    """Return the estimator with one epoch: for laws of what goes into a fit."""
    if hasattr(estimator, "hidden_layer_sizes"):
        return clone(estimator).set_params(max_iter=1)
    return estimator


def dense(code: Any) -> Any:
    return code.toarray() if hasattr(code, "toarray") else code
