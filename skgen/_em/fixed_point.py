"""Iteration to a fixed point, in steps that give a bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from skgen._training.driver import Interrupted

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


def iterate_fixed_point(
    step: Callable[[State], Iterate[State]],
    start: Iterate[State],
    *,
    max_iter: int,
    settled: Callable[[Iterate[State], Iterate[State]], bool],
    on_begin: Callable[[], None] = lambda: None,
    on_end: Callable[[int, Iterate[State], Iterate[State]], bool] = lambda *_: False,
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

    Raises
    ------
    Interrupted
        On Ctrl-C, with the last whole step.
    """
    present, bounds = start, list[float]()
    try:
        for i in range(1, max_iter + 1):
            on_begin()
            previous, present = present, step(present.state)
            bounds.append(present.bound)
            stopped = on_end(i, previous, present)
            if settled(previous, present):
                return FixedPoint(present.state, bounds, True, stopped)
            if stopped:
                return FixedPoint(present.state, bounds, False, True)
    except KeyboardInterrupt as cut:
        so_far = FixedPoint(present.state, bounds, False, True)
        raise Interrupted(so_far) from cut
    return FixedPoint(present.state, bounds, False, False)
