"""EM from several starts, as one batch.

The time of a step on few rows goes to what lies between operations; on many, much of
it to what mixtures can share: the products of features, the rows' way through the
cache. So climbs to the same rows, of one fit or of several, take their steps as a stack
(`skgen._em.steps`). Each ends when it would alone, and where it would, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skgen._em.covariance import Covariance
from skgen._em.steps import EMSteps, Mixture, one_pass
from skgen._training.engine import (
    FixedPoint,
    Interrupted,
    Iterate,
    iterate_fixed_point,
    value_or_error,
)
from skgen._utils.chunks import CentredRows, chunk_rows

# Rows that a chunk of a stack holds at least, or half of those of a single mixture but
# no fewer than the second: products with fewer rows lose what the stack gains.
STACK_ROWS, FEWEST_ROWS = 256, 64


class Observer:
    """Is told how each climb goes; this one does not listen."""

    listens = False

    def begin(self, start: int) -> None:
        """Hear that a start is to be drawn."""

    def begin_step(self) -> None:
        """Hear that a step begins."""

    def end_step(self, climb: Climb, change: float) -> bool:
        """Hear that it ended, and how the bound changed; true ends the fit."""
        return False

    def end(self, climb: Climb) -> None:
        """Hear that a climb ended."""


SILENCE = Observer()


@dataclass
class Climb:
    """EM from one start, under way."""

    theta: Mixture
    bound: float  # the last one that is known, or -inf
    reg_covar: float
    tol: float
    max_iter: int
    bounds: list[float] = field(default_factory=list)
    converged: bool = False
    stopped: bool = False

    def see(self, bound: float) -> None:
        """Take the bound of a step that was made."""
        self.converged = abs(bound - self.bound) < self.tol
        self.bound = bound
        self.bounds.append(bound)

    @property
    def is_over(self) -> bool:
        """Whether no step is to come."""
        return self.converged or self.stopped or len(self.bounds) == self.max_iter

    @property
    def so_far(self) -> FixedPoint[Mixture]:
        """Where it is."""
        return FixedPoint(self.theta, self.bounds, self.converged, self.stopped)

    def go_on(
        self,
        kind: Covariance,
        rows: CentredRows,
        observer: Observer = SILENCE,
        until: Callable[[Mixture], bool] = lambda theta: False,
    ) -> None:
        """Go on alone, to the end or until the mixture is of a kind."""

        def on_end(i: int, old: Iterate[Mixture], new: Iterate[Mixture]) -> bool:
            self.theta = new.state
            self.see(new.bound)
            self.stopped = observer.end_step(self, new.bound - old.bound)
            return self.stopped or until(self.theta)

        if self.is_over or until(self.theta):
            return
        iterate_fixed_point(
            EMSteps(kind, rows, self.reg_covar),
            Iterate(self.theta, self.bound),
            max_iter=self.max_iter - len(self.bounds),
            settled=lambda *_: self.converged,
            on_begin=observer.begin_step,
            on_end=on_end,
        )
        if self.is_over:
            observer.end(self)


class Runs(NamedTuple):
    """What became of the starts of a fit."""

    each: list[FixedPoint[Mixture]]
    interrupted: bool  # by Ctrl-C

    @property
    def n_iter(self) -> int:
        """Steps that were made."""
        return sum(len(run.bounds) for run in self.each)

    @property
    def best(self) -> FixedPoint[Mixture]:
        """The first of the highest; without iterations, nothing compares: the last."""
        if not self.n_iter:
            return self.each[-1]
        return max(self.each, key=lambda run: run.bound)


class Restarts:
    """EM from each of some starts: what a fit asks for.

    Parameters
    ----------
    kind : Covariance
        The covariance type.
    rows : CentredRows
        What is climbed to.
    climbs : iterable of Climb
        At their starts. An observer that listens hears of them in turn, and each is
        drawn when the one before has ended; otherwise they are climbed together.
    observer : Observer
        Who is told.
    """

    def __init__(
        self,
        kind: Covariance,
        rows: CentredRows,
        climbs: Iterable[Climb],
        observer: Observer = SILENCE,
    ) -> None:
        self.kind, self.rows, self.observer = kind, rows, observer
        self.climbs = climbs if observer.listens else list(climbs)

    def run(self) -> Runs:
        """Climb from all starts, or until the observer has seen enough."""
        listens = self.observer.listens
        begun: list[Climb] = [] if listens else [*self.climbs]
        try:
            climb_together(self.kind, self.rows, begun)
            for climb in self.climbs:
                if listens:
                    begun.append(climb)
                climb.go_on(self.kind, self.rows, self.observer)
                if climb.stopped:
                    break
        except KeyboardInterrupt as cut:
            for climb in begun:
                climb.stopped = climb.stopped or not climb.is_over
            so_far = Runs([climb.so_far for climb in begun], interrupted=True)
            raise Interrupted(so_far) from cut
        return Runs([climb.so_far for climb in begun], interrupted=False)


def stacks_as(work: Restarts) -> Hashable:
    """Return what work that can be stacked has in common, or None for none."""
    if work.observer.listens:
        return None
    shapes = {climb.theta.means.shape for climb in work.climbs}
    return (work.kind, *shapes, id(work.rows))


def share_rows(work: Restarts, known: list[Restarts]) -> None:
    """Let work have the rows of some that is known, or become known by its own."""
    for other in known:
        if work.rows.equal(other.rows):
            work.rows = other.rows
            return
    known.append(work)


def run_together(works: Sequence[Restarts]) -> list[Runs | Exception]:
    """Do work of which ``stacks_as`` says the same, as one: results, or errors."""
    climbs = [climb for work in works for climb in work.climbs]
    climb_together(works[0].kind, works[0].rows, climbs)
    return [value_or_error(work.run) for work in works]


def climb_together(
    kind: Covariance, rows: CentredRows, climbs: Sequence[Climb]
) -> None:
    """Bring climbs of mixtures of one size, to the same rows, as far as they go as one.

    What is not over then has to go on alone: the last of a stack, those for whom the
    form that is stacked came to be not exact, and all where a step fails.
    """
    form = kind.forms[0]
    climbs = [climb for climb in climbs if not climb.is_over]
    if len(climbs) < 2:
        return
    size = _stack_size(form, len(rows.x), climbs[0].theta.means, len(climbs))
    if size < 2:
        return
    for climb in climbs:
        # Rows as starts have no spread yet, and take their first step alone.
        with suppress(ValueError):  # it will meet it again, where it is its own
            climb.go_on(kind, rows, until=lambda theta: not _loses(form, rows, theta))
    climbs = [climb for climb in climbs if not climb.is_over]
    for i in range(0, len(climbs), size):
        _Stack(form, rows, climbs[i : i + size]).climb()


def _loses(form: Covariance, rows: CentredRows, theta: Mixture) -> Tensor:
    """Return whether the form loses digits of a mixture, or of each of a stack (C,)."""
    return theta.loses(form, rows.centre).cpu()


def _stack_size(form: Covariance, n: int, means: Tensor, most: int) -> int:
    """Return how many mixtures gain from sharing a step over n rows.

    Chunks are to be long enough. Where each mixture projects the rows for itself (tied
    covariances), nothing is shared but the time between operations: that of few chunks.
    """
    K, d = means.shape

    def chunk(C: int) -> int:
        return chunk_rows(means.device, form.row_elements(K, d, C))

    projects_alone = form.row_elements(K, d, 2) == 2 * form.row_elements(K, d)
    if projects_alone and n > 2 * chunk(1):
        return 1
    least = min(STACK_ROWS, max(FEWEST_ROWS, chunk(1) // 2))
    return max((C for C in range(1, most + 1) if chunk(C) >= least), default=1)


class _Stack:
    """Climbs that take their steps together."""

    def __init__(
        self, form: Covariance, rows: CentredRows, climbs: Sequence[Climb]
    ) -> None:
        self.form, self.rows, self.climbs = form, rows, climbs
        self.theta = Mixture.stack(climb.theta for climb in climbs)
        reg_covar = self.theta.weights.new_tensor([c.reg_covar for c in climbs])
        # One each, before the dimensions of a mixture's covariances.
        self.reg_covar = reg_covar.view(-1, *[1] * (self.theta.covariances.ndim - 1))

    def climb(self) -> None:
        """Take steps while there are two; each gets the parameters that it reached."""
        try:
            self._dismiss(_loses(self.form, self.rows, self.theta))
            while len(self.climbs) > 1:
                self._step()
        except ValueError:
            pass  # a step of one of them failed: which, they find out alone
        finally:
            for i, climb in enumerate(self.climbs):
                climb.theta = self.theta.take(i)

    def _step(self) -> None:
        step: Any = one_pass(self.form, self.rows, self.theta, self.reg_covar)
        found, bounds = step
        exact = ~_loses(self.form, self.rows, found)
        self._dismiss(~exact)
        self.theta = found if exact.all() else found.take(exact)
        for climb, bound in zip(self.climbs, compress(bounds, exact)):
            climb.see(bound)
        self._dismiss(torch.tensor([climb.is_over for climb in self.climbs]))

    def _dismiss(self, leave: Tensor) -> None:
        """Let some go, with the parameters that they reached."""
        if not leave.any():
            return
        for i in leave.nonzero().flatten().tolist():
            self.climbs[i].theta = self.theta.take(i)
        stay = ~leave
        climbs, theta = list(compress(self.climbs, stay)), self.theta.take(stay)
        # In one line, between which and the next Ctrl-C may come.
        self.climbs, self.theta, self.reg_covar = climbs, theta, self.reg_covar[stay]
