"""Rules for constructor parameters, and errors in scikit-learn's wording.

An estimator declares each parameter once, in the body of its class::

    @estimator
    class Model(Estimator):
        size: int | str = parameter(integer(1), options("auto"), default=3)

The decorator makes the constructor, which only stores its arguments, as scikit-learn
asks; a subclass adds its own parameters, behind those of its base. What a parameter
means is in the docstring of the class that declares it.

scikit-learn's own constraint classes are private, so the few kinds of rule that the
estimators need are stated here. A value is good when any rule of its parameter accepts
it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, dataclass_transform

import numpy as np
import sklearn
import torch


class Rule(NamedTuple):
    """A predicate on a value, and the words that describe it."""

    accepts: Callable[[Any], bool]
    words: str


# Sizes and counts fit into 64 bits.
LARGEST_INTEGER = 2**63 - 1
# Numbers that meet float32 in training stay far from its largest.
LARGEST_STEP = 1e30


def _is_integer(value: Any) -> bool:
    """Return whether a value is an int; booleans and times are none."""
    is_number = isinstance(value, (int, np.integer))
    return is_number and not isinstance(value, (bool, np.timedelta64))


def _is_real(value: Any) -> bool:
    """Return whether a value is a number that NumPy and torch compute with."""
    return _is_integer(value) or isinstance(value, (float, np.float32, np.float16))


def integer(low: int, high: int | None = None) -> Rule:
    """Accept an int in [low, high], or of 64 bits where there is no ``high``."""
    largest = LARGEST_INTEGER if high is None else high

    def accepts(value: Any) -> bool:
        return _is_integer(value) and low <= int(value) <= largest

    end = "2**63)" if high is None else f"{high}]"
    return Rule(accepts, f"an int in the range [{low}, {end}")


def real(low: float, high: float = np.inf, closed: str = "left") -> Rule:
    """Accept a finite int or float between low and high."""

    def accepts(value: Any) -> bool:
        if not _is_real(value):
            return False
        try:
            number = float(value)
        except OverflowError:
            return False
        above = number >= low if closed in ("left", "both") else number > low
        below = number <= high if closed in ("right", "both") else number < high
        return above and below

    left = "[" if closed in ("left", "both") else "("
    right = "]" if closed in ("right", "both") else ")"
    return Rule(accepts, f"a float in the range {left}{low}, {high}{right}")


def options(*names: str) -> Rule:
    """Accept one of the given strings."""
    listed = ", ".join(repr(name) for name in names)
    return Rule(
        lambda value: isinstance(value, str) and value in names,
        f"a str among {{{listed}}}",
    )


def sequence(item: Rule, low: int = 0, high: int | None = None) -> Rule:
    """Accept a sequence of ``low`` to ``high`` items, each of which is good."""

    def accepts(value: Any) -> bool:
        return (
            isinstance(value, (Sequence, np.ndarray))
            and not isinstance(value, (str, bytes))
            and getattr(value, "shape", None) != ()
            and low <= len(value) <= (len(value) if high is None else high)
            and all(item.accepts(each) for each in value)
        )

    count = f"{low} or more" if high is None else f"{low} to {high}"
    return Rule(accepts, f"a sequence of {count} items, each {item.words}")


def instance(kind: type, words: str) -> Rule:
    """Accept an instance of a class."""
    return Rule(lambda value: isinstance(value, kind), words)


def array_like() -> Rule:
    """Accept lists, tuples, and arrays of one dimension or more."""

    def accepts(value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return True
        is_array = hasattr(value, "__array__") or hasattr(value, "__array_interface__")
        return is_array and getattr(value, "shape", None) != ()

    return Rule(accepts, "an array-like")


boolean = Rule(
    lambda value: isinstance(value, (bool, np.bool_)),
    "an instance of 'bool'",
)
verbosity = Rule(
    lambda value: isinstance(value, (bool, np.bool_)) or integer(0).accepts(value),
    "a bool or an int in the range [0, inf)",
)
path = Rule(
    lambda value: (
        isinstance(value, (str, os.PathLike))
        and isinstance(os.fspath(value), str)
        and os.fspath(value) != ""
    ),
    "a path",
)
none = Rule(lambda value: value is None, "None")
device = Rule(
    lambda value: isinstance(value, (str, torch.device)),
    "an instance of 'str' or 'torch.device'",
)
factory = Rule(callable, "a callable")
random_state = Rule(
    lambda value: (
        value is None
        or isinstance(value, (np.random.RandomState, np.random.Generator))
        or integer(0, 2**32 - 1).accepts(value)
    ),
    "an int in the range [0, 4294967295], an instance of "
    "'numpy.random.mtrand.RandomState', an instance of "
    "'numpy.random._generator.Generator' or None",
)

Rules = Mapping[str, Rule | tuple[Rule, ...]]


def parameter(
    *rules: Rule, default: Any, builds: bool = False, repeats: bool = False
) -> Any:
    """Declare a parameter of an estimator.

    Parameters
    ----------
    *rules : Rule
        A value is good when any of them accepts it; without any, every value is.
    default : object
        Its value where none is given.
    builds : bool, default=False
        Whether its value at ``fit`` decides how the fitted model is evaluated.
    repeats : bool, default=False
        Whether the memory of a training step is that many times as large.
    """
    marks = {"rules": rules, "builds": builds, "repeats": repeats}
    return dataclasses.field(default=default, metadata=marks)


def attribute(*, init: Literal[False] = False) -> Any:
    """Declare an attribute that ``fit`` sets, or a file."""
    return dataclasses.field(init=init)


Class = TypeVar("Class", bound=type)


@dataclass_transform(eq_default=False, field_specifiers=(parameter, attribute))
def estimator(cls: Class) -> Class:
    """Give a class the constructor of its parameters; equality and repr stay."""
    made: Any = dataclasses.dataclass(eq=False, repr=False)(cls)
    fields = [field for field in dataclasses.fields(made) if field.init]
    declared = {field.name: field.metadata for field in fields}
    made._parameters = {
        n: mark["rules"] for n, mark in declared.items() if mark["rules"]
    }
    made._fixed = tuple(name for name, mark in declared.items() if mark["builds"])
    made._step_sizes = tuple(n for n, mark in declared.items() if mark["repeats"])
    found: Class = made
    return found


def check_parameters(estimator: Any, rules: Rules) -> None:
    """Raise a ValueError that names the first parameter with a bad value."""
    if sklearn.get_config()["skip_parameter_validation"]:
        return
    for name, allowed in rules.items():
        allowed = (allowed,) if isinstance(allowed, Rule) else allowed
        value = getattr(estimator, name)
        if not any(rule.accepts(value) for rule in allowed):
            words = " or ".join(rule.words for rule in allowed)
            raise ValueError(
                f"The {name!r} parameter of {type(estimator).__name__} must be "
                f"{words}. Got {shown(value)} instead."
            )


def shown(value: Any) -> str:
    """Return the repr of a value; Python has none of an int of many digits."""
    try:
        return repr(value)
    except ValueError:
        return f"an int of {value.bit_length()} bits"


def is_same(one: Any, other: Any) -> bool:
    """Compare two values of a parameter; lists, tuples and arrays by their items."""
    return bool(comparable(one) == comparable(other))


def comparable(value: Any) -> Any:
    """Return what is equal for values that are the same, lists and arrays as tuples."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return tuple(map(comparable, value))
    options = getattr(value, "options", None)  # of a likelihood
    return (type(value), dict(options)) if isinstance(options, Mapping) else value
