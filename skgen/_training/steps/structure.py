"""Structure of models: equal where one program, or one stack, serves them all."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn


def training_state(module: Any) -> dict[str, Tensor]:
    """Return parameters and buffers that training reads: not those of scores alone."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    left_out = getattr(module, "scoring_buffers", ())
    return {
        name: value
        for name, value in state.items()
        if name not in left_out and not name.startswith("standardizer.")
    }


class Called(nn.Module):
    """A function of a module, called as ``functional_call`` calls modules.

    Names of the module's tensors begin with ``module.``.
    """

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module, self.function = module, function

    def forward(self, *args: Any, **constants: Any) -> Any:
        """Call the function."""
        return self.function(self.module, *args, **constants)


def structure(module: nn.Module) -> Hashable:
    """Return what modules must share to compute with each other's tensors."""
    parts = []
    for name, part in module.named_modules():
        tensors = [*part._parameters.items(), *part._buffers.items()]
        shapes = tuple((key, tuple(value.shape)) for key, value in tensors)
        parts.append((name, type(part), _settings(part), shapes))
    return tuple(parts)


# Attributes of every module that say nothing beyond names and shapes of its tensors.
_OF_TENSORS = (
    "training",
    "_parameters",
    "_buffers",
    "_modules",
    "_non_persistent_buffers_set",
)


def _settings(part: nn.Module) -> Hashable:
    """Attributes of a module that what it computes may depend on.

    Of ours and torch's these are numbers, names and tuples. Others may read anything.
    """
    own = {key: value for key, value in vars(part).items() if key not in _OF_TENSORS}
    if type(part).__module__.split(".")[0] in ("skgen", "torch"):
        plain = (bool, int, float, str, tuple)
        own = {key: value for key, value in own.items() if isinstance(value, plain)}
    return frozen(own)


def frozen(value: Any) -> Hashable:
    """Return what is equal of equal values, and of nothing else; else a new object."""
    if isinstance(value, Mapping):
        return tuple((key, frozen(each)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return type(value), tuple(map(frozen, value))
    if isinstance(value, Tensor):
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.dtype.str, value.shape, value.tobytes()
    try:
        hash(value)
    except TypeError:
        return object()
    return type(value), value


def kind_of(constants: Any) -> Hashable:
    """Type of constants in a named tuple; numbers may differ, all else may not."""
    if isinstance(constants, tuple):
        return type(constants), tuple(kind_of(value) for value in constants)
    return float if isinstance(constants, float | int) else constants


def numbers_of(constants: Any) -> list[float]:
    """Numbers among constants, in their order."""
    if isinstance(constants, tuple):
        return [number for each in constants for number in numbers_of(each)]
    return [constants] if isinstance(constants, float | int) else []


def with_numbers(constants: Any, numbers: Iterator[Any]) -> Any:
    """Constants with others in the place of their numbers."""
    if isinstance(constants, tuple):
        each = [with_numbers(value, numbers) for value in constants]
        return constants._make(each) if hasattr(constants, "_make") else tuple(each)
    return next(numbers) if isinstance(constants, float | int) else constants
