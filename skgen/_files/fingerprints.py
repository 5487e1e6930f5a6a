"""Fingerprints: sums of what a fit depends on, by name."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skgen._utils.chunks import slices
from skgen._utils.tensors import to_array

Fingerprint = Mapping[str, str]

# Bytes that are summed at a time: rows may lie on a disk.
BLOCK_BYTES = 2**22
# Attributes of any torch module; its parts and tensors are asked for by methods.
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def fingerprint(values: Mapping[str, Any]) -> dict[str, str]:
    """Return a sum for each of some values, by name.

    Equal values have equal sums, in any process. Of a function it is the code that
    counts, but not what it calls.

    Parameters
    ----------
    values : mapping of str to object
        Numbers, text, arrays, networks, likelihoods, functions, and lists of these.
    """
    return {name: digest(value) for name, value in values.items()}


def combined(each: Sequence[Fingerprint]) -> Fingerprint:
    """Return the fingerprint of a fit of processes that have one each."""
    first, *others = each
    if not others:
        return first
    differ = {name for other in others for name in first if other[name] != first[name]}
    return {
        **first,
        **{name: digest([found[name] for found in each]) for name in differ},
        "the number of processes": digest(len(each)),
    }


def digest(value: Any) -> str:
    """Return the SHA-256 sum of a value."""
    found = hashlib.sha256()
    for part in parts(value):
        found.update(part)
    return found.hexdigest()


def file_name(owner: str, found: Fingerprint) -> str:
    """Return the name of the file, in a folder, of a fit with a fingerprint."""
    return f"{owner}-{digest(dict(found))[:16]}.safetensors"


def parts(value: Any, around: tuple[int, ...] = ()) -> Iterator[bytes]:
    """Yield bytes that tell a value from others.

    Of an object that is not known these are its type, and what it holds. ``around`` has
    the identities of the objects that it is in: one that holds itself has an end.
    """
    if id(value) in around:
        yield b"<around>"
        return
    inside = (*around, id(value))
    match value:
        case np.generic():
            yield from parts(value.item())
        case None | bool() | int() | float() | complex() | str() | bytes():
            yield f"<{value!r}>".encode()
        case np.ndarray():
            yield from _of_array(value)
        case Tensor():
            yield from _of_array(to_array(value))
        case torch.Size() | torch.device() | torch.dtype() | np.dtype():
            yield f"<{value}>".encode()
        case Mapping():
            for name in sorted(value, key=repr):
                yield from parts([name, value[name]], inside)
        case list() | tuple():
            yield f"<{len(value)} values>".encode()
            for each in value:
                yield from parts(each, inside)
        case type() | BuiltinFunctionType():
            yield f"<{value.__module__}.{value.__qualname__}>".encode()
        case np.random.RandomState():
            yield from parts(value.get_state(legacy=False))
        case np.random.Generator():
            yield from parts(value.bit_generator.state)
        case _:
            yield from parts(_inside(value), inside)


def _inside(value: Any) -> list[Any]:
    """Return what a function or another object is made of."""
    match value:
        case CodeType():
            return [value.co_code, value.co_names, value.co_consts]
        case FunctionType():
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            name, defaults = value.__qualname__, value.__defaults__
            return [name, value.__code__, defaults, value.__kwdefaults__, cells]
        case MethodType():
            return [value.__func__, value.__self__]
        case scipy.sparse.sparray() | scipy.sparse.spmatrix():
            rows = value.tocsr()
            return [type(value), rows.shape, rows.data, rows.indices, rows.indptr]
        case functools.partial():
            return [value.func, value.args, value.keywords]
        case nn.Module():
            attributes = vars(value).items()
            own = {n: v for n, v in attributes if n not in _OF_EVERY_MODULE}
            children = dict(value.named_children())
            return [type(value), own, children, value.state_dict()]
    return [type(value), getattr(value, "__dict__", {})]


def _of_array(value: NDArray[Any]) -> Iterator[bytes]:
    """Yield type and shape, and the bytes in the order of the indices, by blocks."""
    yield f"<{value.dtype.str}{value.shape}>".encode()
    if value.dtype == object:
        yield from parts(value.ravel().tolist())
        return
    rows = np.atleast_1d(value)
    for block in slices(len(rows), max(1, BLOCK_BYTES // max(1, rows[:1].nbytes))):
        yield rows[block].tobytes()
