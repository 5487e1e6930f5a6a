"""Memory that sizes ask for, and errors before it is allocated."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from skgen._utils.parameters import shown
from skgen._utils.tensors import Undrawn

# Networks whose two largest sizes have a product up to this need no estimate.
SMALL_PRODUCT = 2**22
# Numbers that training keeps of each weight: its value, the best so far, its gradient,
# and two moments.
COPIES = 5


def total_memory(device: torch.device) -> float:
    """Return the bytes of memory that a device has, in all; inf where not known."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no such call on Windows
        return math.inf


def check_memory(
    n_bytes: float, device: torch.device, owner: str, sizes: Mapping[str, Any]
) -> None:
    """Raise a ValueError if a device does not have some memory.

    Parameters
    ----------
    n_bytes : float
        Bytes that are needed.
    device : torch.device
        Where they are needed.
    owner : str
        Who needs them, for the message.
    sizes : mapping of str to object
        Parameters that decide it; the largest is named.
    """
    total = total_memory(device)
    if n_bytes <= total:
        return
    name = max(sizes, key=lambda name: max(_numbers(sizes[name]), default=0))
    raise ValueError(
        f"{name}={shown(sizes[name])} of {owner} needs about {_amount(n_bytes)} of "
        f"memory, and {device.type} has {_amount(total)}. Lower {name}."
    )


def are_small(sizes: Iterable[Any]) -> bool:
    """Return whether the ints in sizes need no look at the memory."""
    numbers = sorted(n for size in sizes for n in _numbers(size))
    return math.prod(numbers[-2:]) <= SMALL_PRODUCT


def module_bytes(build: Callable[[], nn.Module]) -> float:
    """Return the memory that a module takes in training, without making it."""
    try:
        with torch.device("meta"), Undrawn():
            module = build()
    except (RuntimeError, TypeError, OverflowError):  # torch's, of sizes beyond 64 bits
        return math.inf
    weights = sum(p.numel() * p.element_size() for p in module.parameters())
    buffers = sum(b.numel() * b.element_size() for b in module.buffers())
    return float(COPIES * weights + buffers)


def _numbers(size: Any) -> list[int]:
    """Return the ints in a parameter: an int, or sequences of them."""
    if isinstance(size, (list, tuple, np.ndarray)):
        return [number for each in size for number in _numbers(each)]
    return [int(size)] if isinstance(size, (int, np.integer)) else []


def _amount(n_bytes: float) -> str:
    if math.isinf(n_bytes):
        return "more than 2**63 bytes"
    exponent = min(int(math.log(max(n_bytes, 1), 1024)), 5)
    unit = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")[exponent]
    return f"{n_bytes / 1024**exponent:.3g} {unit}"
