"""Building the networks of a model, and adapting them to training rows."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from skgen._networks.dense import (
    Factory,
    Standardizer,
    build_network,
    mlp_pair,
    with_linear_path,
)
from skgen._networks.images import ImageNetworks, check_image_shape
from skgen._training.shards import FitRows
from skgen._utils.reduce import same_as_first
from skgen._utils.sizes import are_small, check_memory
from skgen._utils.tensors import DrawingFrom, forked_rng
from skgen.likelihoods import Likelihood
from skgen.models.evaluation import BoundedModel
from skgen.models.planning import TrainingPlan

if TYPE_CHECKING:
    from skgen.models.neural import NeuralModel, TrainedModel

# Largest size of a number that the start of a fit is computed from.
START_LIMIT = 1e15
# Features up to which networks have a linear path where it is not asked for.
MOST_LINEAR = 1024


def new_module(model: TrainedModel, train: FitRows, seed: int) -> BoundedModel:
    """Build the module of a model, and adapt it to the training rows."""
    likelihood = model._new_likelihood.as_part()
    standardizer = likelihood.standardizer(train.kept(), model.standardize)
    n_features = train.shape[1]
    model._check_features(n_features)
    check_sizes(model, likelihood, standardizer, len(train), train.device)
    draws = DrawingFrom(seed) if has_plain_networks(model) else forked_rng(seed)
    with torch.no_grad(), draws:  # in this order: Ctrl-C must not meet the end of both
        module = model._build(n_features, likelihood, standardizer.cpu())
        module = moved(module, train.device)
        x = module.standardizer.rows(train).sample().x
        low, high = x.aminmax()
        if not (low >= -START_LIMIT and high <= START_LIMIT):
            # Squares of the start stay in range: a divergence can go back to it.
            near = x.nan_to_num().clamp(-START_LIMIT, START_LIMIT)
            x = torch.where(train.sample().x.isnan(), x, near)
        module.set_rows(x)
        module.set_context(train.context, train.weight)
        same_as_first(module.state_dict().values())
    return module.eval()


def has_plain_networks(model: TrainedModel) -> bool:
    """Return whether no network is the user's own."""
    return all(network is None for network in model._own_networks.values())


def moved(module: BoundedModel, device: torch.device) -> BoundedModel:
    """Place a module on a device; its wide buffers become float32 where they must."""
    return (
        module.to(device, torch.float32) if device.type == "mps" else module.to(device)
    )


def check_image(model: NeuralModel, n_features: int) -> None:
    """Raise a ValueError if an image has other pixels than a row has features."""
    shape = model.image_shape
    if shape is not None and math.prod(shape) != n_features:
        raise ValueError(
            f"image_shape={shape!r} of {type(model).__name__} is that of rows with "
            f"{math.prod(shape)} features, and X has {n_features}. Change it, or leave "
            "it out."
        )


def check_sizes(
    model: TrainedModel,
    likelihood: Likelihood,
    standardizer: Standardizer,
    n_rows: int,
    device: torch.device,
) -> None:
    """Raise a ValueError if the networks, or a step, need more memory than is."""
    names = [*model._fixed, *model._step_sizes]
    sizes = {name: getattr(model, name) for name in names}
    n_features = len(standardizer.shift)
    if are_small([*sizes.values(), n_features]):
        return
    build = partial(
        model._as_blank({name: sizes[name] for name in model._fixed})._build,
        n_features,
        copy.deepcopy(likelihood),
        Standardizer.identity(n_features),
    )
    n_bytes = model._module_bytes(n_features, build)
    draws = math.prod(getattr(model, name) for name in model._step_sizes)
    n_bytes += 4.0 * draws * TrainingPlan(model, n_rows).batch_size * n_features
    check_memory(n_bytes, device, type(model).__name__, sizes)


def networks(
    model: NeuralModel,
    widths: tuple[int, int, int],
    likelihood: Likelihood,
    factories: tuple[Factory, Factory] | None = None,
) -> tuple[nn.Module, nn.Module]:
    """Make the encoder (d -> n_encoded) and the decoder (n_code -> outputs).

    Parameters
    ----------
    model : NeuralModel
        The user's own networks, or settings of ours.
    widths : tuple of int
        n_features, n_encoded and n_code.
    likelihood : Likelihood
        Says what the encoder takes of a row, and what the decoder gives.
    factories : tuple of callable, default=None
        Of networks that are not the user's, in the place of `default_networks`.
    """
    n_features, n_encoded, n_code = widths
    encoder, decoder = factories or default_networks(model, n_features)
    n_inputs = likelihood.encoder_width(n_features)
    n_outputs = likelihood.decoder_width(n_features)
    if has_linear_path(model, n_features, likelihood):
        encoder = with_linear_path(encoder, n_code)
        decoder = with_linear_path(decoder, n_outputs)
    return (
        build_network(model.encoder, encoder, n_inputs, n_encoded, "encoder"),
        build_network(model.decoder, decoder, n_code, n_outputs, "decoder"),
    )


def has_linear_path(
    model: NeuralModel, n_features: int, likelihood: Likelihood
) -> bool:
    """Return whether the networks are the sums of a linear map and of layers."""
    possible = has_plain_networks(model) and model.architecture == "mlp"
    if isinstance(model.linear_path, str):
        few = n_features <= MOST_LINEAR and bool(model._layer_sizes[0])
        normal = likelihood.n_normal(n_features) > 1
        return possible and few and normal and model._gains_by_linear_path
    if model.linear_path and not possible:
        raise ValueError(
            f"linear_path=True of {type(model).__name__} is for its own fully "
            "connected networks. Leave it at 'auto', or set architecture='mlp', "
            "encoder=None and decoder=None."
        )
    return model.linear_path


def default_networks(model: NeuralModel, n_features: int) -> tuple[Factory, Factory]:
    """Return factories of the encoder and the decoder, of widths in and out."""
    if model.architecture == "conv":
        images = image_networks(model, n_features)
        return images.encoder, images.decoder
    return mlp_pair(model._layer_sizes[0], model.activation)


def image_networks(model: NeuralModel, n_features: int) -> ImageNetworks:
    """Return factories of networks of the images that rows hold."""
    name = type(model).__name__
    shape = model._fitted("image_shape")
    if shape is None:
        raise ValueError(
            f"{name} with architecture='conv' needs the shape of the image that a "
            f"row of {n_features} features holds. Got image_shape=None; give "
            "image_shape=(height, width) or (height, width, channels)."
        )
    height, width, _ = check_image_shape(shape, n_features, name)
    return ImageNetworks(
        height, width, channels=model.channels, activation=model.activation
    )
