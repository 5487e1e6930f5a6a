"""The parameters of the models that are trained by gradients: defaults and rules.

A dataclass spells out a constructor that scikit-learn can read, and a subclass adds
to it by one line. What each parameter means is in ``shared_docs``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, dataclass_transform

from torch import nn

from skgen._networks.dense import ACTIVATIONS, Factory
from skgen._training.adam import SCHEDULES
from skgen._training.steps import EXECUTIONS
from skgen._utils.parameters import (
    LARGEST_STEP,
    Rules,
    boolean,
    device,
    factory,
    instance,
    integer,
    none,
    options,
    random_state,
    real,
    sequence,
    verbosity,
)
from skgen.likelihoods import NAMES, Likelihood
from skgen.models.evaluation import PRECISIONS


@dataclass_transform(eq_default=False)
def estimator(cls: type[Any]) -> Any:
    """Give a class the constructor of its fields; equality and repr stay."""
    return dataclass(eq=False, repr=False)(cls)


@dataclass(kw_only=True, eq=False, repr=False)
class NetworkSettings:
    """Fields that all models with an encoder and a decoder network have."""

    hidden_layer_sizes: Sequence[Any] | int = (256,)
    activation: str = "relu"
    architecture: str = "mlp"
    image_shape: Sequence[int] | None = None
    channels: int = 32
    likelihood: str | Likelihood = "gaussian"
    encoder: nn.Module | Factory | None = None
    decoder: nn.Module | Factory | None = None
    standardize: bool = True
    n_importance_samples: int = 64
    batch_size: int | str = "auto"
    learning_rate: str = "constant"
    learning_rate_init: float = 1e-3
    weight_decay: float = 0.0
    max_grad_norm: float | None = None
    weight_averaging: float = 0.0
    max_iter: int = 200
    tol: float = 1e-4
    early_stopping: bool = True
    validation_fraction: float = 0.1
    n_iter_no_change: int | str = "auto"
    warm_start: bool = False
    random_state: Any = None
    device: str = "cpu"
    execution: str = "eager"
    precision: str = "float32"
    verbose: bool | int = False


# Hidden layers of a network: more than any that trains.
MOST_LAYERS = 1000

network = instance(nn.Module, "a torch Module")

NETWORK_RULES: Rules = {
    "hidden_layer_sizes": (sequence(integer(1), 0, MOST_LAYERS), integer(1)),
    "activation": options(*ACTIVATIONS),
    "architecture": options("mlp", "conv"),
    "image_shape": (sequence(integer(1), 2, 3), none),
    "channels": integer(1),
    "likelihood": (
        options(*NAMES),
        instance(Likelihood, "an instance of 'skgen.likelihoods.Likelihood'"),
    ),
    "encoder": (network, factory, none),
    "decoder": (network, factory, none),
    "standardize": boolean,
    "n_importance_samples": integer(1),
    "batch_size": (options("auto"), integer(1)),
    "learning_rate": options(*SCHEDULES),
    "learning_rate_init": real(0, LARGEST_STEP, closed="right"),
    "weight_decay": real(0, LARGEST_STEP),
    "max_grad_norm": (real(0, LARGEST_STEP, closed="neither"), none),
    "weight_averaging": real(0, 1),
    "max_iter": integer(1),
    "tol": real(0),
    "early_stopping": boolean,
    "validation_fraction": real(0, 1, closed="neither"),
    "n_iter_no_change": (options("auto"), integer(1)),
    "warm_start": boolean,
    "random_state": random_state,
    "device": device,
    "execution": options(*EXECUTIONS),
    "precision": options(*PRECISIONS),
    "verbose": verbosity,
}
