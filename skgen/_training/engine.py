"""Two loops that know no model: descent along gradients, and a fixed point."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from skgen._training.adam import SCHEDULES, Adam, StepRule, paces
from skgen._training.data import Rows, WeightedRows, prefetch
from skgen._training.steps import EXECUTIONS, Problem
from skgen._utils.chunks import slices
from skgen._utils.tensors import make_generator, wide_dtype
from skgen._utils.threads import threads_for

# Numbers of the rows that are gathered at a time, for as many batches as they make.
BLOCK_ELEMENTS = 2**18


class Batch(NamedTuple):
    """Rows of a step, as they are observed, with the noise of its loss."""

    part: float  # of the epoch that ends with it
    x: Tensor  # (b, ...)
    noise: Tensor | None  # (S, b, ...)
    weight: Tensor | None  # (b,), in float64


def auto_batch_size(n_rows: int) -> int:
    """Return a batch size that gives a small set some ten steps an epoch."""
    return min(max(n_rows // 10, 16), 128)


@dataclass
class History:
    """Curves of a training run: means per row of each term, one value per epoch."""

    curves: dict[str, list[float]] = field(default_factory=dict)
    held_out: list[float] = field(default_factory=list)
    best_epoch: int = -1  # -1: no epoch was better than the start
    best_loss: float = math.inf
    # Or "converged", "diverged", "stopped" (by a callback), "interrupted" (by Ctrl-C).
    status: str = "max_iter"

    @property
    def n_iter(self) -> int:
        """Epochs that were run."""
        return len(self.curves.get("loss", []))

    def append(self, means: dict[str, float]) -> None:
        """Add the means of an epoch."""
        for name, value in means.items():
            self.curves.setdefault(name, []).append(value)


@dataclass
class EarlyStopping:
    """Says which epoch of a descent is the best, and when to stop.

    Without ``held_out`` losses, training losses decide, from the end of the warm-up
    on: those before compare with none that follows.
    """

    tol: float
    patience: int
    warm_up: int
    held_out: bool
    history: History = field(default_factory=History)
    waits_since: int = -1

    def begin(self, loss: float) -> None:
        """Take the held-out loss of the start."""
        self.history.best_loss = loss if math.isfinite(loss) else math.inf

    def see(self, means: dict[str, float], current: float, n_epochs: int) -> bool:
        """Take an epoch's means and what it is judged by; true if it is the best.

        ``n_epochs`` counts those of earlier descents, too; ``current`` is not finite
        where a weight is not.
        """
        history, epoch = self.history, self.history.n_iter
        history.append(means)
        if self.held_out:
            history.held_out.append(current)
        if not math.isfinite(current):
            history.status = "diverged"
            return False
        compares = self.held_out or n_epochs >= self.warm_up
        is_best = not compares or current < history.best_loss - self.tol
        if is_best:
            history.best_loss = current if compares else math.inf
            history.best_epoch = epoch
        if is_best or n_epochs <= self.warm_up:
            self.waits_since = epoch
        if epoch - self.waits_since >= self.patience:
            history.status = "converged"
        return is_best

    def interrupt(self, best_epoch: int) -> None:
        """Forget an epoch that was cut short, and take the best that is kept."""
        history = self.history
        curves = [*history.curves.values(), *[history.held_out] * self.held_out]
        n_whole = min(map(len, curves), default=0)
        for curve in curves:
            del curve[n_whole:]
        history.best_epoch, history.status = best_epoch, "interrupted"

    @property
    def is_over(self) -> bool:
        """Whether the descent is to end before its last epoch."""
        return self.history.status != "max_iter"


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


class Update(Protocol):
    """Update without a gradient, after a step: a named tuple of constants."""

    @property
    def changes(self) -> tuple[str, ...]:
        """Names of the buffers that are changed."""

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw the noise of an update."""

    def __call__(
        self, model: Any, terms: Any, weight: Tensor | None, noise: Tensor
    ) -> None:
        """Update a model by the terms of a step's rows, and their weights or None."""


class HeldOut:
    """Held-out rows, under draws that are the same whenever they are evaluated.

    What is drawn for rows in memory is kept; for others, it is drawn again.

    Parameters
    ----------
    rows : WeightedRows
        Rows.
    observe : callable
        What a descent observes of them, and its noise.
    generator : Generator
        What ``observe`` draws from.
    """

    def __init__(
        self,
        rows: WeightedRows,
        observe: Callable[[Tensor], tuple[Tensor, Tensor | None]],
        generator: torch.Generator,
    ) -> None:
        self.rows, self.observe, self.generator = rows, observe, generator
        self.kept = [observe(rows.x)] if isinstance(rows, Rows) else None
        if self.kept is None:
            device = generator.device
            seed = torch.randint(2**31 - 1, (), generator=generator, device=device)
            self.state = make_generator(int(seed), device).get_state()

    def blocks(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield rows (b, ...) as they are observed, and their noise (S, b, ...)."""
        if self.kept is not None:
            yield from self.kept
            return
        now = self.generator.get_state()
        self.generator.set_state(self.state)
        try:
            for chunk in self.rows.chunks():
                yield self.observe(chunk.x)
        finally:
            self.generator.set_state(now)

    def whole(self) -> tuple[Tensor, Tensor | None]:
        """All rows and their noise, in memory."""
        xs, noises = zip(*self.blocks())
        return torch.cat(xs), None if noises[0] is None else torch.cat(noises, dim=1)


# What is told of each epoch: the history so far, and the seconds that the epoch took.
Report = Callable[[History, float], None]


class Trainer:
    """Adam over shuffled batches of rows.

    Parameters
    ----------
    module : Module
        What is trained, in place.
    objective : callable
        ``objective(module, x, noise, annealing)`` gives the terms of each row.
    observe : callable
        ``observe(x)`` gives what the loss takes of rows (n, ...): the rows, or a draw
        of them, and noise (K, n, ...) or None.
    rule : StepRule
        How to step.
    batch_size : int
        Rows of a batch, at most.
    generator : Generator
        Shuffles, on the device of the rows.
    rates : dict of str to float, default=None
        Multiples of the step size for parameters, by name.
    warm_up : int, default=0
        Epochs over which ``annealing`` rises from 0 to 1. What is watched on held-out
        rows is always at 1, and patience waits for the end of the warm-up.
    held_out_chunk : int, default=8192
        Draws for rows that one evaluation of the held-out loss takes at a time.
    update : Update, optional
        Changes what has no gradient, after each step.
    part : str, default=""
        Prefix of the names of the parameters to train.
    cache_key : Hashable or None, default=None
        Equal for modules of one structure that compute the same function; None
        where that is not known.
    row_work : int, default=None
        Multiplications that a row takes; None: as many as parameters are learned.
    """

    def __init__(
        self,
        module: nn.Module,
        objective: Callable[[Any, Tensor, Any, Any], Any],
        observe: Callable[[Tensor], tuple[Tensor, Tensor | None]],
        rule: StepRule,
        *,
        batch_size: int,
        generator: torch.Generator,
        rates: dict[str, float] | None = None,
        warm_up: int = 0,
        held_out_chunk: int = 8192,
        update: Update | None = None,
        part: str = "",
        cache_key: Hashable | None = None,
        row_work: int | None = None,
    ) -> None:
        self.cache_key = cache_key
        self.update = update
        self.module, self.objective = module, objective
        self.observe, self.rule = observe, rule
        self.batch_size, self.generator, self.warm_up = batch_size, generator, warm_up
        self.held_out_chunk = held_out_chunk
        self.rates = rates or {}
        self.n_epochs = 0  # that went before, of which the warm-up is a part
        self.paces = paces(module, rule, self.rates, part)
        named = dict(module.named_parameters())
        self.learned = [named[name] for name in self.paces]
        self.optimizer = Adam(self.learned, self.paces.values())
        self.row_work = row_work or sum(p.numel() for p in self.learned)
        self.average = [p.detach().clone() for p in self.learned if rule.averaging]
        self.n_steps = 0
        self.history = History()  # of the last run, so far
        problem = Problem(
            module,
            objective,
            self.optimizer,
            list(self.paces),
            rule.max_grad_norm,
            cache_key,
        )
        self.step = EXECUTIONS[rule.execution](problem)

    def epoch(self, rows: WeightedRows) -> tuple[dict[str, float], float]:
        """One pass over shuffled rows.

        Returns
        -------
        means : dict of str to float
            Weighted mean of every term, over the epoch.
        watched : float
            Likewise of what is watched.
        """
        seen: list[Any] = []
        wide = wide_dtype(rows.device)
        self.module.train()
        for part, x, noise, weight in self.batches(rows):
            own = in_dtype_of(x, weight)
            with self._threads_for(x, noise):
                terms = self.step(x, noise, own, self.annealing(part))
            self._follow()
            if self.update is not None:
                drawn = self.update.draw(self.generator)
                self.update(self.module, terms, own, drawn)
            seen.append((weight, *(term.detach() for term in terms)))
        self.module.eval()
        self.n_epochs += 1
        # The only wait for the device in an epoch.
        *means, watched = epoch_means(terms, seen, wide).tolist()
        return dict(zip(terms._fields, means)), watched

    def batches(self, rows: WeightedRows) -> Iterator[Batch]:
        """Yield shuffled batches: of all rows, or of a window of them after another."""
        windows = rows.windows(self.generator)
        for i, window in enumerate(prefetch(type(rows).loaded, windows)):
            for batch in self._batches_of(window):
                yield batch._replace(part=(i + batch.part) / len(windows))

    def _batches_of(self, rows: WeightedRows) -> Iterator[Batch]:
        """Yield shuffled batches of rows that are near.

        Several are gathered and drawn at a time: small steps spend most of their time
        between operations, not in them.
        """
        n = len(rows)
        order = torch.randperm(n, generator=self.generator, device=rows.device)
        n_batches = math.ceil(n / self.batch_size)
        # Nearly equal sizes: no last batch of one row.
        sizes = [n // n_batches + (i < n % n_batches) for i in range(n_batches)]
        at_once = max(1, BLOCK_ELEMENTS // (sizes[0] * math.prod(rows.shape[1:])))
        done = 0
        for first in range(0, n_batches, at_once):
            cuts = sizes[first : first + at_once]
            block = rows.gather(order[done : done + sum(cuts)])
            x, noise = self.observe(block.x)
            parts = zip(
                x.split(cuts),
                repeat(None) if noise is None else noise.split(cuts, dim=1),
                repeat(None) if block.weight is None else block.weight.split(cuts),
            )
            for i, part in enumerate(parts, first + 1):
                yield Batch(i / n_batches, *part)
            done += sum(cuts)

    def _threads_for(
        self, x: Tensor, noise: Tensor | None
    ) -> AbstractContextManager[None]:
        """Run on the threads that a step on rows (b, ...) is worth."""
        n_draws = 1 if noise is None else len(noise)
        # A compiled step has their number inside.
        steady = self.rule.execution != "eager"
        return threads_for(n_draws * len(x) * self.row_work, steady=steady)

    def annealing(self, part: float) -> float:
        """Part of the warm-up that is over after a part of this epoch."""
        return min(1.0, (self.n_epochs + part) / self.warm_up) if self.warm_up else 1.0

    def _follow(self) -> None:
        """Bring the average up to the weights of a step."""
        if self.average:
            self.n_steps += 1
            decay = averaging_decay(self.rule.averaging, self.n_steps)
            get_ema_multi_avg_fn(decay)(self.average, self.learned, None)

    @contextmanager
    def _judged_weights(self) -> Iterator[None]:
        """Put the average in place of the weights, inside the block."""
        own = [p.detach().clone() for p in self.learned if self.average]
        _copy(self.average, self.learned)
        try:
            yield
        finally:
            _copy(own, self.learned)

    def evaluate(self, held_out: HeldOut) -> float:
        """Weighted mean over held-out rows of what is watched."""
        values = []
        with torch.no_grad():
            for x, noise in held_out.blocks():
                size = self.held_out_chunk // (1 if noise is None else len(noise)) + 1
                for part in slices(len(x), size):
                    eps = None if noise is None else noise[:, part]
                    with self._threads_for(x[part], eps):
                        terms = self.objective(self.module, x[part], eps, 1.0)
                    values.append(terms.watched)
        return float(held_out.rows.mean(torch.cat(values)))

    def run(
        self,
        rows: WeightedRows,
        held_out: WeightedRows | None,
        *,
        max_iter: int,
        tol: float,
        patience: int,
        report: Report | None = None,
        on_begin: Callable[[], Any] = lambda: None,
        on_end: Callable[[], bool] = lambda: False,
    ) -> History:
        """Descend until nothing improves; the best weights come back.

        The held-out rows decide, under noise that is drawn once; the training rows
        do where there are none, from the end of the warm-up on. ``patience`` epochs
        without an improvement above ``tol`` end the descent, as does true from
        ``on_end``. When the loss or a weight is no longer finite, the last good
        weights come back and the status is "diverged". They come back from any
        exception, too; from Ctrl-C with the history, as `Interrupted`.
        """
        watch = EarlyStopping(tol, patience, self.warm_up, held_out is not None)
        history, judges = watch.history, None
        self.history = history
        best = (history.best_epoch, _snapshot(self.module))
        try:
            if held_out is not None:
                judges = HeldOut(held_out, self.observe, self.generator)
                watch.begin(self.evaluate(judges))
            for epoch in range(max_iter):
                self.optimizer.factor = SCHEDULES[self.rule.schedule](epoch / max_iter)
                on_begin()
                start = time.perf_counter()
                means, current = self.epoch(rows)
                with self._judged_weights():
                    if judges is not None:
                        current = self.evaluate(judges)
                    if not _is_finite(self.module):
                        current = math.nan
                    if watch.see(means, current, self.n_epochs):
                        best = (history.best_epoch, _snapshot(self.module))
                    if report is not None and history.status != "diverged":
                        report(history, time.perf_counter() - start)
                    if on_end() and history.status != "diverged":
                        history.status = "stopped"
                if watch.is_over:
                    break
        except KeyboardInterrupt as cut:
            watch.interrupt(best[0])
            raise Interrupted(history) from cut
        finally:
            self.module.eval()
            _restore(self.module, best[1])
        return history


def epoch_means(terms: Any, seen: list[Any], dtype: torch.dtype) -> Tensor:
    """Weighted means over the rows of an epoch, what is watched last: (T + 1, ...).

    ``seen`` has, for each step, weights (..., b) or None and T terms (..., b), of
    which ``terms`` is the kind.
    """
    weights, *columns = zip(*seen)
    each = terms._make(torch.cat(column, dim=-1) for column in columns)
    values = torch.stack((*each, each.watched)).to(dtype)
    weight = None if weights[0] is None else torch.cat(weights, dim=-1).to(dtype)
    return row_mean(values, weight)


def in_dtype_of(x: Tensor, weight: Tensor | None) -> Tensor | None:
    """Cast weights, which are kept in float64, to the dtype of rows."""
    return None if weight is None else weight.to(x.dtype)


def row_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Weighted mean over rows of values (..., n)."""
    if weight is None:
        return values.mean(-1)
    return (values * weight).sum(-1) / weight.sum(-1)


def averaging_decay(decay: float, n_steps: int) -> float:
    """Decay at a step: early on, an average over fewer; the start weighs nothing."""
    return min(decay, (1 + n_steps) / (10 + n_steps))


@dataclass
class Training:
    """A descent that a fit asks for, and what it is to be run with."""

    trainer: Trainer
    rows: WeightedRows
    held_out: WeightedRows | None
    max_iter: int
    tol: float
    patience: int
    report: Report | None = None
    on_begin: Callable[[], Any] = lambda: None
    on_end: Callable[[], bool] = lambda: False

    def run(self) -> History:
        """Run it alone."""
        return self.trainer.run(
            self.rows,
            self.held_out,
            max_iter=self.max_iter,
            tol=self.tol,
            patience=self.patience,
            report=self.report,
            on_begin=self.on_begin,
            on_end=self.on_end,
        )


class Work(Protocol):
    """Work that a fit asks for: training, or EM from some starts."""

    def run(self) -> Any:
        """Do it alone; give what became of it, of which ``n_iter`` iterations."""


# A fit that leaves its iterations to whoever drives it: it gives the work that is to
# be done, and is sent what became of it. So one fit may do it as it comes, and a
# search that of many fits at once.
Steps = Generator[Work, Any, None]


def value_or_error(function: Callable[[], Any]) -> Any:
    """Return the value of a function, or the error that it raises."""
    try:
        return function()
    except Exception as error:
        return error


def run_each(steps: Steps | None, *, keeps_interrupted: bool = False) -> None:
    """Drive a fit, doing its work as it comes.

    With ``keeps_interrupted``, Ctrl-C ends the work that is under way and nothing
    else, unless no iteration has ended yet: then there is nothing to keep.
    """
    if steps is None:
        return
    n_iter = 0
    with closing(steps), suppress(StopIteration):
        work = next(steps)
        while True:
            try:
                done = work.run()
            except Interrupted as cut:
                done = cut.so_far
                if not (keeps_interrupted and n_iter + done.n_iter):
                    raise
            n_iter += done.n_iter
            work = steps.send(done)


def _snapshot(module: nn.Module) -> list[Tensor]:
    """Copy what training changes: parameters, and buffers such as running averages."""
    return [value.detach().clone() for value in _state(module)]


def _restore(module: nn.Module, values: list[Tensor]) -> None:
    _copy(values, _state(module))


def _state(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _copy(values: list[Tensor], into: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for tensor, value in zip(into, values):
            tensor.copy_(value)


def _is_finite(module: nn.Module) -> bool:
    finite = [p.detach().isfinite().all() for p in module.parameters()]
    return bool(torch.stack(finite).all())


State = TypeVar("State")


class Iterate(NamedTuple, Generic[State]):
    """Result of one step: a state, and the bound before it."""

    state: State
    bound: float


class FixedPoint(NamedTuple, Generic[State]):
    """Where the iteration ended, and how."""

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
