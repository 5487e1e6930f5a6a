"""Iteration to a fixed point, in steps that give a bound."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from torch.utils._pytree import tree_flatten, tree_unflatten

from skgen._training.driver import Interrupted, Keeper

State = TypeVar("State")


class Iterate(NamedTuple, Generic[State]):
    """Result of one step: a state, and the bound before it."""

    state: State
    bound: float


class FixedPoint(NamedTuple, Generic[State]):
    """End of an iteration: the last state, the bounds, and how it ended."""

    state: State
    bounds: list[float]
    converged: bool
    stopped: bool  # on request of a callback, or by Ctrl-C

    @property
    def bound(self) -> float:
        """The bound of the last step."""
        return self.bounds[-1] if self.bounds else -float("inf")

    @property
    def n_iter(self) -> int:
        """Steps that were made."""
        return len(self.bounds)

    def state_dict(self) -> dict[str, Any]:
        """Return what the steps to come depend on."""
        return {
            "n_iter": self.n_iter,
            "state": tree_flatten(self.state)[0],
            "bounds": np.array(self.bounds),
            "converged": self.converged,
        }

    def load_state_dict(self, known: Mapping[str, Any]) -> FixedPoint[State]:
        """Return what ``state_dict`` gave, with a state like this one."""
        parts, kind = tree_flatten(self.state)
        parts = [v.to(own) for v, own in zip(known["state"], parts, strict=True)]
        state, bounds = tree_unflatten(parts, kind), known["bounds"].tolist()
        return FixedPoint(state, bounds, known["converged"], stopped=False)


def iterate_fixed_point(
    step: Callable[[State], Iterate[State]],
    start: Iterate[State],
    *,
    max_iter: int,
    settled: Callable[[Iterate[State], Iterate[State]], bool],
    on_begin: Callable[[], None] = lambda: None,
    on_end: Callable[[int, Iterate[State], Iterate[State]], bool] = lambda *_: False,
    keeper: Keeper | None = None,
) -> FixedPoint[State]:
    """Apply ``step`` until its result settles, or ``max_iter`` times.

    Parameters
    ----------
    step : callable
        Takes a state, gives the next one and its bound.
    start : Iterate
        First state; a bound of -inf where none is known.
    max_iter : int
        Most steps to make; 0 gives the start back.
    settled : callable
        Takes the previous and the present iterate; true ends the loop, converged.
    on_begin : callable
        Called before each step.
    on_end : callable
        Called after each step with its number, the previous and the present
        iterate; true ends the loop.
    keeper : Keeper, default=None
        Keeps each iterate, whose state is made of tensors, and has the last one.

    Raises
    ------
    Interrupted
        On Ctrl-C, with the last whole step.
    """
    found = FixedPoint(start.state, list[float](), converged=False, stopped=False)
    present, bounds = start, found.bounds
    if keeper is not None and keeper.state is not None:
        found = found.load_state_dict(keeper.state)
        present, bounds = Iterate(found.state, found.bound), found.bounds
    try:
        while not (found.converged or found.stopped or len(bounds) >= max_iter):
            on_begin()
            previous, present = present, step(present.state)
            bounds.append(present.bound)
            stopped = on_end(len(bounds), previous, present)
            converged = settled(previous, present)
            found = FixedPoint(present.state, bounds, converged, stopped)
            if keeper is not None:
                is_over = converged or len(bounds) == max_iter
                keeper.save(found.state_dict, is_over=is_over)
    except KeyboardInterrupt as cut:
        so_far = FixedPoint(present.state, bounds, False, True)
        raise Interrupted(so_far) from cut
    return found


class Iteration(NamedTuple, Generic[State]):
    """Iteration to a fixed point that a fit asks for: arguments of the function."""

    step: Callable[[State], Iterate[State]]
    start: Iterate[State]
    max_iter: int
    settled: Callable[[Iterate[State], Iterate[State]], bool]

    def run(self, keeper: Keeper | None = None) -> FixedPoint[State]:
        """Run it, or go on from where it was saved."""
        return iterate_fixed_point(
            self.step,
            self.start,
            max_iter=self.max_iter,
            settled=self.settled,
            keeper=keeper,
        )
