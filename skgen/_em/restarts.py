"""EM from several starts, as one batch.

The time of a step on few rows goes to what lies between operations; on many, much of
it to what mixtures can share: the products of features, the rows' way through the
cache. So runs on the same rows, of one fit or of several, take their steps as a stack
(`skgen._em.steps`). Each ends when it would alone, and where it would, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from skgen._em.fixed_point import FixedPoint, Iterate, iterate_fixed_point
from skgen._em.incomplete import IncompleteRows, IncompleteSteps
from skgen._em.matrices import Covariance
from skgen._em.priors import Regularisation
from skgen._em.steps import EMSteps, Mixture, one_pass
from skgen._training.driver import Interrupted, Keeper, value_or_error
from skgen._utils.chunks import CentredRows, chunk_rows

# Rows that a chunk of a stack holds at least, or half of those of a single mixture but
# no fewer than the second: products with fewer rows lose what the stack gains.
STACK_ROWS, FEWEST_ROWS = 256, 64
# Stack of the runs that go on alone.
ALONE = -1


class Observer:
    """Callbacks for the runs of EM; these do nothing."""

    listens = False

    def begin(self, start: int) -> None:
        """Hear that a start is to be drawn."""

    def begin_step(self) -> None:
        """Hear that a step begins."""

    def end_step(self, em_run: EMRun, change: float) -> bool:
        """Hear that it ended, and how the bound changed; true ends the fit."""
        return False

    def end(self, em_run: EMRun) -> None:
        """Handle the end of a run."""


SILENCE = Observer()
# Makes the steps of EM over rows, with so much added to the variances.
MakeSteps = Callable[[Any, CentredRows, Any], Callable[[Any], Iterate[Any]]]


def normal_steps(
    kind: Covariance, rows: CentredRows, reg_covar: Regularisation
) -> EMSteps | IncompleteSteps:
    """Return the steps of EM for normal components."""
    steps = IncompleteSteps if isinstance(rows, IncompleteRows) else EMSteps
    return steps(kind, rows, reg_covar)


@dataclass
class EMRun:
    """EM from one start, under way."""

    theta: Mixture
    bound: float  # the last one that is known, or -inf
    reg_covar: Regularisation
    tol: float
    max_iter: int
    bounds: list[float] = field(default_factory=list)
    converged: bool = False
    stopped: bool = False
    stack: int | None = None  # that it is in, or ALONE; None before stacks are made

    def state_dict(self) -> dict[str, Any]:
        """Return what the steps to come depend on."""
        names = ("bound", "converged", "stopped", "stack")
        own = {name: getattr(self, name) for name in names}
        theta, _ = tree_flatten(self.theta)
        return {**own, "theta": theta, "bounds": np.array(self.bounds)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` gave of a run from the same start."""
        parts, kind = tree_flatten(self.theta)
        parts = [v.to(own) for v, own in zip(state["theta"], parts, strict=True)]
        theta, bounds = tree_unflatten(parts, kind), state["bounds"].tolist()
        vars(self).update(state, theta=theta, bounds=bounds)

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
        save: Callable[[], Any] = lambda: None,
        make_steps: MakeSteps = normal_steps,
    ) -> None:
        """Go on alone, to the end or until the mixture is of a kind.

        ``save`` is called after each step.
        """

        def on_end(i: int, old: Iterate[Mixture], new: Iterate[Mixture]) -> bool:
            self.theta = new.state
            self.see(new.bound)
            self.stopped = observer.end_step(self, new.bound - old.bound)
            save()
            return self.stopped or until(self.theta)

        if self.is_over or until(self.theta):
            return
        iterate_fixed_point(
            make_steps(kind, rows, self.reg_covar),
            Iterate(self.theta, self.bound),
            max_iter=self.max_iter - len(self.bounds),
            settled=lambda *_: self.converged,
            on_begin=observer.begin_step,
            on_end=on_end,
        )
        if self.is_over:
            observer.end(self)


class Runs(NamedTuple):
    """Results of EM from the starts of a fit."""

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
        The rows.
    em_runs : iterable of EMRun
        At their starts. An observer that listens hears of them in turn, and each is
        drawn when the one before has ended; otherwise they run together.
    observer : Observer
        Who is told.
    make_steps : callable, default=normal_steps
        Makes the steps; others than these are not taken as a stack.
    """

    def __init__(
        self,
        kind: Covariance,
        rows: CentredRows,
        em_runs: Iterable[EMRun],
        observer: Observer = SILENCE,
        make_steps: MakeSteps = normal_steps,
    ) -> None:
        self.kind, self.rows, self.observer = kind, rows, observer
        self.make_steps = make_steps
        self.em_runs = em_runs if observer.listens else list(em_runs)

    @property
    def stacks(self) -> bool:
        """Return whether steps may be taken as a stack."""
        is_whole = not isinstance(self.rows, IncompleteRows)
        return is_whole and self.make_steps is normal_steps

    def run(self, keeper: Keeper | None = None) -> Runs:
        """Run EM from all starts, or until the observer has seen enough."""
        listens = self.observer.listens
        begun: list[EMRun] = [] if listens else [*self.em_runs]
        saved = KeptRuns(begun, keeper)
        try:
            saved.load()
            if self.stacks:
                save = saved.save if keeper else None
                run_em_stack(self.kind, self.rows, begun, save)
            for em_run in self.em_runs:
                if listens:
                    begun.append(em_run)
                    saved.load()
                em_run.go_on(
                    self.kind,
                    self.rows,
                    self.observer,
                    save=saved.save,
                    make_steps=self.make_steps,
                )
                if em_run.stopped:
                    break
            saved.save(is_over=True)
        except KeyboardInterrupt as cut:
            for em_run in begun:
                em_run.stopped = em_run.stopped or not em_run.is_over
            so_far = Runs([em_run.so_far for em_run in begun], interrupted=True)
            raise Interrupted(so_far) from cut
        return Runs([em_run.so_far for em_run in begun], interrupted=False)


class KeptRuns:
    """Keeps the states of runs that were begun, where there is a keeper.

    Parameters
    ----------
    begun : sequence of EMRun
        The runs; it grows where one follows the other.
    keeper : Keeper or None
        Has what an earlier fit saved of them, and saves them.
    """

    def __init__(self, begun: Sequence[EMRun], keeper: Keeper | None) -> None:
        self.begun, self.keeper = begun, keeper
        self.known = None if keeper is None else keeper.state
        self.left = [] if self.known is None else [*self.known["runs"]]
        self.n_loaded = 0
        self.beside: Callable[[], dict[str, Any]] = dict  # more that steps depend on

    def load(self) -> dict[str, Any] | None:
        """Let the runs that were begun since go on from what was saved of them.

        With the last of these, what was saved beside them is given back.
        """
        had = bool(self.left)
        for em_run in self.begun[self.n_loaded :]:
            if self.left:
                em_run.load_state_dict(self.left.pop(0))
        self.n_loaded = len(self.begun)
        return self.known if had and not self.left else None

    def save(self, *, is_over: bool = False) -> None:
        """Save all of them."""
        if self.keeper is not None:
            self.keeper.save(self._state_dict, is_over=is_over)

    def _state_dict(self) -> dict[str, Any]:
        return {
            "n_iter": sum(len(em_run.bounds) for em_run in self.begun),
            "runs": [*(em_run.state_dict() for em_run in self.begun), *self.left],
            **self.beside(),
        }


def stacks_as(work: Restarts) -> Hashable:
    """Return what work that can be stacked has in common, or None for none."""
    if work.observer.listens or not work.stacks:
        return None
    shapes = {em_run.theta.means.shape for em_run in work.em_runs}
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
    em_runs = [em_run for work in works for em_run in work.em_runs]
    run_em_stack(works[0].kind, works[0].rows, em_runs)
    return [value_or_error(work.run) for work in works]


def run_em_stack(
    kind: Covariance,
    rows: CentredRows,
    em_runs: Sequence[EMRun],
    save: Callable[[], Any] | None = None,
) -> None:
    """Run EM for mixtures of one size on the same rows as one stack, as far as it goes.

    What is not over then has to go on alone: the last of a stack, those for whom the
    form that is stacked came to be not exact, and all where a step fails. ``save`` is
    called after each step.
    """
    em_runs = [e for e in em_runs if not e.is_over and e.stack != ALONE]
    if len(em_runs) < 2 or isinstance(rows, IncompleteRows):
        return
    if em_runs[0].stack is None:
        _part(kind, rows, em_runs, save)
    by_stack: dict[int, list[EMRun]] = {}
    for em_run in em_runs:
        if em_run.stack is not None and not em_run.is_over:
            by_stack.setdefault(em_run.stack, []).append(em_run)
    for stacked in by_stack.values():
        _Stack(kind.forms[0], rows, stacked, save).run()


def _part(
    kind: Covariance,
    rows: CentredRows,
    em_runs: Sequence[EMRun],
    save: Callable[[], Any] | None,
) -> None:
    """Say which runs are stacked, after the steps that each has to take alone first."""
    form, means = kind.forms[0], em_runs[0].theta.means
    size = _stack_size(form, rows.n_rows, means, len(em_runs))
    if size < 2:
        return
    for em_run in em_runs:
        # Rows as starts have no spread yet, and take their first step alone.
        with suppress(ValueError):  # it will meet it again, where it is its own
            em_run.go_on(
                kind,
                rows,
                until=lambda theta: not _loses(form, rows, theta),
                save=save or (lambda: None),
            )
    left = [em_run for em_run in em_runs if not em_run.is_over]
    for i, em_run in enumerate(left):
        em_run.stack = i // size


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


def _stacked(added: Sequence[Any], covariances: Tensor) -> Tensor:
    """Stack what is added to covariances (S, ...): numbers, or one for each column."""
    device, dtype = covariances.device, covariances.dtype
    parts = [torch.as_tensor(each, dtype=dtype, device=device) for each in added]
    found = torch.stack(torch.broadcast_tensors(*parts))
    missing = covariances.ndim - found.ndim
    return found.view(len(found), *[1] * missing, *found.shape[1:])


class _Stack:
    """Climbs that take their steps together."""

    def __init__(
        self,
        form: Covariance,
        rows: CentredRows,
        em_runs: Sequence[EMRun],
        save: Callable[[], Any] | None = None,
    ) -> None:
        self.form, self.rows, self.em_runs, self.save = form, rows, em_runs, save
        self.theta = Mixture.stack(em_run.theta for em_run in em_runs)
        self.reg_covar = _stacked(
            [c.reg_covar for c in em_runs], self.theta.covariances
        )

    def run(self) -> None:
        """Take steps while there are two; each gets the parameters that it reached."""
        try:
            self._dismiss(_loses(self.form, self.rows, self.theta))
            while len(self.em_runs) > 1:
                self._step()
        except ValueError:
            pass  # a step of one of them failed: which, they find out alone
        finally:
            self._give()
            for em_run in self.em_runs:
                em_run.stack = ALONE

    def _give(self) -> None:
        """Give each run the parameters that it has reached."""
        for i, em_run in enumerate(self.em_runs):
            em_run.theta = self.theta.take(i)

    def _step(self) -> None:
        step: Any = one_pass(self.form, self.rows, self.theta, self.reg_covar)
        found, bounds = step
        exact = ~_loses(self.form, self.rows, found)
        self._dismiss(~exact)
        # As they lie in memory after a checkpoint: sums depend on it.
        found = Mixture(*(part.contiguous() for part in found))
        self.theta = found if exact.all() else found.take(exact)
        for em_run, bound in zip(self.em_runs, compress(bounds, exact)):
            em_run.see(bound)
        self._dismiss(torch.tensor([em_run.is_over for em_run in self.em_runs]))
        if self.save is not None:
            self._give()
            self.save()

    def _dismiss(self, leave: Tensor) -> None:
        """Let some go, with the parameters that they reached."""
        if not leave.any():
            return
        for i in leave.nonzero().flatten().tolist():
            self.em_runs[i].theta, self.em_runs[i].stack = self.theta.take(i), ALONE
        stay = ~leave
        em_runs, theta = list(compress(self.em_runs, stay)), self.theta.take(stay)
        # In one line, between which and the next Ctrl-C may come.
        self.em_runs, self.theta, self.reg_covar = em_runs, theta, self.reg_covar[stay]
