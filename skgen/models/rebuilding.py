"""The networks of a fitted model as plain values, and back: what a file holds of them.

A module is built again by its estimator, on torch's "meta" device, which has shapes
and no memory. Only when these are the shapes of the weights at hand do the weights
take their places. So sizes that a file states allocate nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skgen._networks.dense import Blank, Factory, Standardizer, build_network
from skgen._utils.tensors import Undrawn, forked_rng, to_array
from skgen.likelihoods import Likelihood
from skgen.models.evaluation import BoundedModel

# Linear maps and their activations of networks without more weights than this are few.
FEW_LAYERS = 1000
LIKELIHOOD = "likelihood."

Build = Callable[[int, Likelihood, Standardizer], BoundedModel]


def module_state(module: BoundedModel) -> dict[str, Any]:
    """Take a module apart: its likelihood, three settings, and all tensors by name."""
    return {
        "likelihood": module.likelihood,
        "is_mass": module.standardizer.is_mass,
        "widest": module.widest,  # which skgen 0.1 reads; now it is counted again
        "learns_incomplete": module.learns_incomplete,
        "weights": dict(module.state_dict()),
    }


def as_arrays(value: Any) -> Any:
    """Return arrays in the place of tensors, in dicts and lists of them."""
    match value:
        case Tensor():
            return to_array(value)
        case dict():
            return {name: as_arrays(each) for name, each in value.items()}
        case list():
            return [as_arrays(each) for each in value]
    return value


def as_tensors(value: Any) -> Any:
    """Return tensors in the place of arrays, which may be read-only: copies."""
    match value:
        case np.ndarray() | np.generic():
            return torch.tensor(value)
        case dict():
            return {name: as_tensors(each) for name, each in value.items()}
        case list():
            return [as_tensors(each) for each in value]
    return value


def rebuilt(
    build: Build,
    state: Mapping[str, Any],
    given: Mapping[str, nn.Module | Factory | None],
) -> BoundedModel:
    """Put a module together, on the CPU.

    Parameters
    ----------
    build : callable
        ``build(n_features, likelihood, standardizer)`` gives the module, with a
        `Blank` for each network that is given.
    state : mapping
        What `module_state` gave.
    given : mapping of str to Module, callable or None
        The user's own "encoder" and "decoder", or None.

    Raises
    ------
    ValueError
        If names, shapes or dtypes of the tensors are not those of the module.
    """
    likelihood = _checked_likelihood(state["likelihood"])
    weights = _completed(_tensors(state["weights"]), likelihood)
    likelihood = _filled(likelihood, weights)
    with torch.device("meta"), Undrawn():
        standardizer = _standardizer(weights, is_mass=bool(state["is_mass"]))
        module = build(len(standardizer.shift), likelihood, standardizer)
    if not any(name.startswith("proposal.") for name in weights):
        module.proposal = None  # as files of 0.1 have none
    own = {name: network for name, network in given.items() if network is not None}
    blanks = {name: getattr(module, name) for name in own}
    _check(module, weights, except_for=[f"{name}." for name in own])
    for name, network in own.items():
        widths = blanks[name].n_inputs, blanks[name].n_outputs
        with forked_rng(0):
            setattr(module, name, build_network(network, Blank, *widths, name))
    _check(module, weights)
    module.load_state_dict(weights, assign=True)
    module.set_learns_incomplete(bool(state.get("learns_incomplete", False)))
    with torch.no_grad():  # counted, not read: sizes of chunks depend on it
        module.eval().count_outputs(torch.zeros(1, len(standardizer.shift)))
    return module


def _tensors(weights: Any) -> dict[str, Tensor]:
    if not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError("a weight is no tensor")
    return dict(weights)


def _completed(weights: dict[str, Tensor], likelihood: Likelihood) -> dict[str, Tensor]:
    """Add what version 0.1 did not write of a likelihood, as its constructor makes it.

    All of it or nothing: a later file has lost what it lacks.
    """
    later = {
        f"{LIKELIHOOD}{name}": value
        for name, value in likelihood.state_dict().items()
        if name.endswith(likelihood.later_tensors)
    }
    return weights if later.keys() & weights.keys() else {**later, **weights}


def _checked_likelihood(likelihood: Any) -> Likelihood:
    if not isinstance(likelihood, Likelihood):
        raise ValueError(f"{likelihood!r} is no likelihood")
    return likelihood


def _filled(likelihood: Likelihood, weights: Mapping[str, Tensor]) -> Likelihood:
    """Put its tensors, whose shapes come from rows, into a copy of a likelihood."""
    likelihood = likelihood.as_part()
    held = likelihood.state_dict(keep_vars=True)
    here = {
        name.removeprefix(LIKELIHOOD): value
        for name, value in weights.items()
        if name.startswith(LIKELIHOOD)
    }
    _compare(
        {name: value.dtype for name, value in held.items()},
        {name: value.dtype for name, value in here.items()},
        "likelihood",
    )
    for name, value in held.items():
        value.data = here[name].clone()
    return likelihood


def _standardizer(weights: Mapping[str, Tensor], *, is_mass: bool) -> Standardizer:
    """Return a standardizer of the width of the file's, and in its dtype."""
    shift = weights["standardizer.shift"]
    if shift.ndim != 1 or not len(shift) or not shift.is_floating_point():
        raise ValueError("the shift of the standardizer is no vector")
    like = torch.empty(len(shift), dtype=shift.dtype)
    return Standardizer(like, like.clone(), is_mass)


def _check(
    module: nn.Module, weights: Mapping[str, Tensor], except_for: Sequence[str] = ()
) -> None:
    """Raise a ValueError unless tensors are those of the module, but for some."""

    def layout(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        return {
            name: (tuple(value.shape), value.dtype)
            for name, value in tensors.items()
            if not name.startswith(tuple(except_for))
        }

    _compare(layout(module.state_dict()), layout(weights), "module")


def _compare(expected: dict[str, Any], found: dict[str, Any], what: str) -> None:
    for name in sorted({*expected, *found}):
        here, there = expected.get(name, "nothing"), found.get(name, "nothing")
        if here != there:
            raise ValueError(
                f"the {what} has {here} as {name!r}, but the weights have {there}"
            )


def check_depth(layer_sizes: Sequence[Sequence[int]], state: Mapping[str, Any]) -> None:
    """Raise a ValueError where layers are more than the weights at hand can be of."""
    n_layers = sum(len(sizes) + 1 for sizes in layer_sizes)
    if n_layers > max(FEW_LAYERS, len(state["weights"])):
        raise ValueError(f"there are {n_layers} layers, and fewer weights")
