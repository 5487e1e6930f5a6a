"""How a fit of many steps and its caller share the work."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing, suppress
from typing import Any, Protocol
from warnings import catch_warnings, simplefilter


class Interrupted(KeyboardInterrupt):
    """Ctrl-C inside a loop, which ended with what it has so far.

    It goes on as any ``KeyboardInterrupt`` does, unless a fit that stands alone keeps
    what there is.

    Parameters
    ----------
    so_far : History or FixedPoint
        What the loop would have returned.
    """

    def __init__(self, so_far: Any) -> None:
        super().__init__(so_far)
        self.so_far = so_far


class Keeper(Protocol):
    """Keeps the state of a piece of work, so that a later run goes on from there."""

    @property
    def state(self) -> dict[str, Any] | None:
        """State to go on from: what an earlier run of the same work had saved."""

    def save(self, state: Callable[[], dict[str, Any]], *, is_over: bool) -> None:
        """Save the state after an iteration, unless the last one is recent.

        A state has tensors, arrays, numbers, text, and lists and dicts of these, and
        the number of iterations so far as ``n_iter``. One that ``is_over`` gives the
        result of the work without an iteration, and is always kept.
        """


class Checkpoint(Protocol):
    """Keeps the states of all pieces of a fit."""

    def next_piece(self) -> Keeper:
        """Return the keeper of the next piece of work."""

    def stop(self) -> None:
        """Save nothing more: a piece was cut short, and can still go on."""


class Work(Protocol):
    """Work that a fit asks for: training, or EM from some starts."""

    def run(self, keeper: Keeper | None = None) -> Any:
        """Do it alone; give what became of it, of which ``n_iter`` iterations."""


# A fit that leaves its iterations to whoever drives it: it gives the work that is to
# be done, and is sent what became of it. So one fit may do it as it comes, and a
# search that of many fits at once.
Steps = Generator[Work, Any, None]


def quietly(steps: Steps, category: type[Warning]) -> Steps:
    """Yield the work of a fit, without warnings of a kind from what lies between."""
    done = None
    while True:
        with catch_warnings():
            simplefilter("ignore", category)
            try:
                work = steps.send(done)
            except StopIteration:
                return
        done = yield work


def value_or_error(function: Callable[[], Any]) -> Any:
    """Return the value of a function, or the error that it raises."""
    try:
        return function()
    except Exception as error:
        return error


def run_each(
    steps: Steps | None,
    *,
    keeps_interrupted: bool = False,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Drive a fit, doing its work as it comes.

    With ``keeps_interrupted``, Ctrl-C ends the work that is under way and nothing
    else, unless no iteration has ended yet: then there is nothing to keep.

    A fit that goes on from a checkpoint does all again that lies between its pieces
    of work; of these, only the iterations that were not saved.
    """
    if steps is None:
        return
    n_iter = 0
    with closing(steps), suppress(StopIteration):
        work = next(steps)
        while True:
            try:
                keeper = None if checkpoint is None else checkpoint.next_piece()
                done = work.run(keeper)
            except Interrupted as cut:
                if checkpoint is not None:
                    checkpoint.stop()
                done = cut.so_far
                if not (keeps_interrupted and n_iter + done.n_iter):
                    raise
            n_iter += done.n_iter
            work = steps.send(done)
