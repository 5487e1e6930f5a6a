"""Values of a model as JSON, and the arrays beside it; and back.

What JSON has is itself. All else is an object with one key, the kind of the value:
``{"tuple": [...]}``, ``{"array": "name"}``. The kinds are listed in `Writer.write` and
`Reader.read`, and there is no other: no name of a class or a module is ever looked
up, but for those of the likelihoods in ``skgen.likelihoods``.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skgen._files.container import ModelFileError
from skgen._utils.tensors import to_array
from skgen.likelihoods import Likelihood, known_likelihood, name_of_likelihood
from skgen.likelihoods.noised import n_levels_of
from skgen.likelihoods.specs import checked

FLOATS = ("float32", "float64")
DTYPES = (
    *FLOATS,
    *("bool", "float16", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64"),
)
# Parts of a model that may be the user's own: code, which no file holds.
GIVEN = ("encoder", "decoder", "likelihood")
# Of the Mersenne twister: words of its state.
TWISTER_WORDS = 624


class Writer:
    """Turns values into JSON, and collects their arrays, and what is the user's own."""

    def __init__(self) -> None:
        self.arrays: dict[str, NDArray[Any]] = {}
        self.own: dict[str, Any] = {}  # of GIVEN

    def write(self, value: Any, where: str) -> Any:
        """Return the JSON of a value; ``where`` names it, and its arrays."""
        match value:
            case np.generic():
                return self._number(value, where)
            case None | bool() | int() | str():
                return value
            case float():
                return value if math.isfinite(value) else {"float": repr(value)}
            case list():
                return [
                    self.write(each, f"{where}/{i}") for i, each in enumerate(value)
                ]
            case tuple():
                return {"tuple": self.write(list(value), where)}
            case dict() if all(isinstance(name, str) for name in value):
                return {"dict": self.write_all(value, where)}
            case dict():  # as of columns by their positions
                return {"items": self.write([*map(list, value.items())], where)}
            case np.ndarray():
                return self._array(value, where)
            case Tensor():
                return {"tensor": self._put(to_array(value), where)}
            case torch.device():
                return str(value)
            case np.dtype() if value.name in FLOATS:
                return {"dtype": value.name}
            case np.random.RandomState():
                return {"random state": self._twister(value, where)}
            case Likelihood() if name_of_likelihood(value):
                options = self.write(dict(value.options), where)
                return {"likelihood": [name_of_likelihood(value), options]}
        return self._given(value, where)

    def write_all(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Return the JSON of values by name."""
        if not all(isinstance(name, str) for name in values):
            raise TypeError(f"{where!r} has names that are no text. Use joblib.dump.")
        return {name: self.write(v, f"{where}/{name}") for name, v in values.items()}

    def _given(self, value: Any, where: str) -> Any:
        """Leave what the user made to the user."""
        part, kind = where.rpartition("/")[-1], type(value).__name__
        if part in GIVEN and (callable(value) or isinstance(value, nn.Module)):
            self.own.setdefault(part, value)
            return {"given": [part, getattr(value, "__name__", kind)]}
        raise TypeError(
            f"{where!r} is of type {kind}, and a file holds numbers, arrays, text, and "
            "lists of these; no code. Give another value, or use joblib.dump."
        )

    def _number(self, value: np.generic, where: str) -> Any:
        if isinstance(value, np.str_):
            return str(value)
        return {"number": [value.dtype.name, self.write(value.item(), where)]}

    def _array(self, value: NDArray[Any], where: str) -> Any:
        if value.dtype == object and all(isinstance(each, str) for each in value.flat):
            return {"strings": value.tolist()}
        # Sums over an array depend on its order in their last digits.
        fortran = value.flags.f_contiguous and not value.flags.c_contiguous
        return {"fortran array" if fortran else "array": self._put(value, where)}

    def _put(self, value: NDArray[Any], where: str) -> str:
        if value.dtype.name not in DTYPES:
            raise TypeError(
                f"{where!r} has the dtype {value.dtype}, and a file holds arrays of "
                "numbers. Give another value, or use joblib.dump."
            )
        native = value.dtype.newbyteorder("=")
        self.arrays[where] = np.array(value, dtype=native, order="C")
        return where

    def _twister(self, value: np.random.RandomState, where: str) -> Any:
        state: Any = value.get_state(legacy=False)
        name = state["bit_generator"]
        if name != "MT19937":
            raise TypeError(
                f"{where!r} is a RandomState of {name}; a file holds those of MT19937. "
                "Give an int."
            )
        key, position = state["state"]["key"], state["state"]["pos"]
        return self.write([key, position, state["has_gauss"], state["gauss"]], where)


class Reader:
    """Turns JSON back into values; each array is taken once.

    Parameters
    ----------
    arrays : dict of str to array
        Those of the file.
    given : mapping of str to object
        What the user gives of the parts that are the user's own.
    """

    def __init__(
        self, arrays: Mapping[str, NDArray[Any]], given: Mapping[str, Any]
    ) -> None:
        self.arrays, self.given = dict(arrays), given
        self.n_elements = sum(array.size for array in arrays.values())
        self.asked: set[str] = set()  # parts that were taken from ``given``

    def read(self, node: Any) -> Any:
        """Return the value of some JSON."""
        match node:
            case str():
                return _checked_text(node)
            case None | bool() | int():
                return node
            case float() if math.isfinite(node):
                return node
            case list():
                return [self.read(each) for each in node]
            case dict() if len(node) == 1:
                return self._tagged(node)
        raise ValueError(f"{shortened(node)} is no value of a model")

    def read_all(self, nodes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of JSON by name."""
        return {name: self.read(node) for name, node in nodes.items()}

    def _tagged(self, node: dict[str, Any]) -> Any:
        match node:
            case {"tuple": list(items)}:
                return tuple(self.read(items))
            case {"dict": dict(nodes)}:
                return self.read_all(nodes)
            case {"items": list(pairs)}:
                return dict(self.read(pairs))
            case {"float": "inf" | "-inf" | "nan" as text}:
                return float(text)
            case {"number": [str(name), value]} if name in DTYPES:
                return self._number(name, self.read(value))
            case {"strings": list(items)} if all(isinstance(s, str) for s in items):
                return np.array([*map(_checked_text, items)], dtype=object)
            case {"array": str(name)}:
                return self._take(name).copy()
            case {"fortran array": str(name)}:
                return self._take(name).copy(order="F")
            case {"tensor": str(name)}:
                return torch.tensor(self._take(name))
            case {"dtype": str(name)} if name in FLOATS:
                return np.dtype(name)
            case {"random state": [dict(key), int(position), 0 | 1 as has, saved]}:
                return self._twister(self.read(key), position, has, self.read(saved))
            case {"likelihood": [str(name), {"dict": dict(options)}]}:
                return self._likelihood(name, self.read_all(options))
            case {"given": [str(part), str(kind)]} if part in GIVEN:
                return self._given(part, kind)
        raise ValueError(f"{shortened(node)} is no value of a model")

    def _take(self, name: str) -> NDArray[Any]:
        if name not in self.arrays:
            raise ValueError(f"the array {name!r} is not there, or is taken twice")
        array = self.arrays.pop(name)
        self._check_array(array, name)
        return array

    def _check_array(self, array: NDArray[Any], name: str) -> None:
        """Raise a ValueError where an array has values that none of a model has."""
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"the array {name!r} has values that are not finite")
        if array.dtype.kind == "b" and (array.view(np.uint8) > 1).any():
            raise ValueError(f"the array {name!r} has values that are no booleans")

    def _number(self, name: str, value: Any) -> np.generic:
        if not isinstance(value, bool | int | float):
            raise ValueError(f"{shortened(value)} is no number")
        number: np.generic = np.dtype(name).type(value)
        return number

    def _likelihood(self, name: str, options: dict[str, Any]) -> Likelihood:
        """Make a likelihood, of no more levels than the file has weights for them."""
        if options.get("kinds") is not None or name == "mixed":
            n_weights = _fewest_weights(options["kinds"], is_square=name == "noised")
            if n_weights > self.n_elements:
                raise ValueError(f"the columns need {n_weights} weights at least")
        return known_likelihood(name, **options)

    def _twister(
        self, key: NDArray[Any], position: int, has_gauss: int, gauss: float
    ) -> np.random.RandomState:
        """Check what NumPy does not, before it reads there; all zeros stay zeros."""
        good = (
            isinstance(key, np.ndarray)
            and key.shape == (TWISTER_WORDS,)
            and key.dtype == np.uint32
            and key[1:].any()
            and 0 <= position <= TWISTER_WORDS
        )
        if not good:
            raise ValueError("a random state is out of order")
        random_state = np.random.RandomState()
        random_state.set_state(("MT19937", key, position, has_gauss, float(gauss)))
        return random_state

    def _given(self, part: str, kind: str) -> Any:
        self.asked.add(part)
        if self.given.get(part) is None:
            raise ModelFileError(
                f"The {part} of this model is the user's own, {kind!r}, and a file "
                f"holds no code. Pass it: skgen.load(path, {part}=...), as it was "
                "given to the estimator."
            )
        return self.given[part]


def _fewest_weights(kinds: Any, *, is_square: bool) -> int:
    """Return the least number of weights that columns of these kinds have.

    A decoder has one for each column and each different number of levels, and ordered
    levels have cut points in each column. Where all columns of levels have as many as
    the one with most, there is a share for each.
    """
    if not isinstance(kinds, tuple):
        raise ValueError("the kinds of columns are no tuple")
    found = [checked(kind) for kind in kinds]
    if is_square:
        sizes = [size for kind in found if (size := n_levels_of(kind))]
        return max(len(found), len(sizes) * max(sizes, default=0))
    shared = {kind for kind in found if isinstance(kind, int)}
    specs = [kind for kind in found if isinstance(kind, tuple)]
    ordered = sum(spec[1] for spec in specs if spec[0] == "ordinal")
    result: int = max(len(found), sum(shared) + ordered)
    return result


def _checked_text(text: str) -> str:
    """Return text; a ValueError for half a character, which nothing can print."""
    text.encode()
    return text


def shortened(value: Any) -> str:
    """Return how a value reads, cut off where it is long or deep."""
    return _BRIEF.repr(value)


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 40
