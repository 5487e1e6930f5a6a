"""Invertible maps, of the library zuko."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from skgen._networks.dense import ACTIVATIONS
from skgen._utils.tensors import Undrawn

# Splines bend a coordinate between -BOUND and BOUND; beyond, they are the identity.
BOUND = 5.0
# Least slope of a spline.
SLOPE = 1e-3
# Of the map of latent codes: layers, bins of their splines, hidden widths.
N_LAYERS, N_BINS, WIDTHS = 3, 8, (64, 64)


def zuko(owner: str) -> Any:
    """Import zuko, which has the maps."""
    try:
        return import_module("zuko")
    except ImportError as error:
        raise ImportError(
            f'{owner} needs zuko: pip install "scikit-generative[flow]".'
        ) from error


def shapes_of(n_bins: int | None) -> list[tuple[int, ...]]:
    """Return the shapes of the parameters of a column's function.

    It is a spline of so many bins, or affine where there is no number of them.
    """
    return [(), ()] if n_bins is None else [(n_bins,), (n_bins,), (n_bins - 1,)]


def order_of(layer: int, n_features: int, structure: str) -> Tensor:
    """Return the places (d,) of columns in the order of a layer.

    Every second layer has them in reverse. The two halves that a coupling joins are
    told apart by another bit of the columns' places in each pair of layers.
    """
    order = torch.arange(n_features)
    if structure == "coupling":
        for _ in range(layer // 2):
            order = torch.cat([order[::2], order[1::2]])
    return order.flip(0) if layer % 2 else order


def invertible_map(
    owner: str,
    n_features: int,
    n_layers: int,
    widths: Sequence[int],
    activation: str,
    *,
    n_bins: int | None,
    structure: str = "autoregressive",
    n_conditions: int = 0,
) -> nn.Module:
    """Make a lazy transformation of zuko, on the CPU: its masks need numbers."""
    library = zuko(owner)
    univariate: Any = library.transforms.MonotonicAffineTransform
    if n_bins is not None:
        spline = library.transforms.MonotonicRQSTransform
        univariate = partial(spline, bound=BOUND, slope=SLOPE)
    blank = torch.get_default_device().type == "meta"
    with torch.device("cpu"), Undrawn() if blank else nullcontext():
        layers = [
            library.flows.MaskedAutoregressiveTransform(
                n_features,
                n_conditions,
                passes=2 if structure == "coupling" else None,
                order=order_of(i, n_features, structure),
                univariate=univariate,
                shapes=shapes_of(n_bins),
                hidden_features=widths,
                activation=ACTIVATIONS[activation],
            )
            for i in range(n_layers)
        ]
        made: nn.Module = library.lazy.LazyComposedTransform(*layers)
    return made


def code_flow(owner: str, n_components: int) -> nn.Module:
    """Make the map of latent codes that a prior has."""
    return invertible_map(owner, n_components, N_LAYERS, WIDTHS, "relu", n_bins=N_BINS)
