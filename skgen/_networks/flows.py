"""Invertible maps, of the library zuko."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import nn

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


def spline_flow(n_features: int, owner: str) -> nn.Module:
    """Make an autoregressive map of splines, on the CPU: its masks need numbers."""
    library = zuko(owner)
    blank = torch.get_default_device().type == "meta"
    with torch.device("cpu"), Undrawn() if blank else nullcontext():
        layers = [
            library.flows.MaskedAutoregressiveTransform(
                n_features,
                order=torch.arange(n_features).flip(0) if i % 2 else None,
                univariate=partial(
                    library.transforms.MonotonicRQSTransform, bound=BOUND, slope=SLOPE
                ),
                shapes=[(N_BINS,), (N_BINS,), (N_BINS - 1,)],
                hidden_features=WIDTHS,
            )
            for i in range(N_LAYERS)
        ]
        made: nn.Module = library.lazy.LazyComposedTransform(*layers)
    return made
