"""Two loops that know no model: descent along gradients, and a fixed point."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

from skgen.tensors import wide_dtype

# Rows over which the mean of a loss with one draw a row is steady enough.
ENOUGH_ROWS = 1024


class RowTerms(Protocol):
    """A named tuple of tensors (n,): the loss of each row first, then its parts.

    ``watched`` is what decides which epoch is the best: the loss, or a part of it.
    """

    loss: Tensor
    watched: Tensor
    _fields: tuple[str, ...]

    def __iter__(self) -> Iterator[Tensor]: ...


class Rows(NamedTuple):
    """Rows (n, ...), and their weights (n,) of mean one over the data set, or None."""

    x: Tensor
    weight: Tensor | None

    def take(self, index: Tensor | slice) -> Rows:
        """Select rows."""
        return Rows(self.x[index], None if self.weight is None else self.weight[index])

    def mean(self, values: Tensor) -> Tensor:
        """Weighted mean over the rows of values (n, ...)."""
        if self.weight is None:
            return values.mean(0)
        return torch.tensordot(self.weight, values, 1) / self.weight.sum()

    def repeated(self) -> Rows:
        """Repeat a small set, so that a mean over it is one over several draws."""
        copies = math.ceil(ENOUGH_ROWS / len(self.x))
        every = torch.arange(len(self.x), device=self.x.device)
        return self.take(every.repeat(copies))


def auto_batch_size(n_rows: int) -> int:
    """Return a batch size that gives a small set some ten steps an epoch."""
    return min(max(n_rows // 10, 16), 128)


# Multiple of the learning rate at a part of the descent, 0 (its start) to 1.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda part: 1.0,
    "cosine": lambda part: 0.5 * (1 + math.cos(math.pi * part)),
    # Eight stages, each three times as long as the one before, down to a tenth
    # (Burda et al. 2016): 3^0 + ... + 3^7 = 3280 parts.
    "stages": lambda part: 10 ** (-math.floor(math.log(6560 * part + 1.5, 3)) / 7),
}


class StepRule(NamedTuple):
    """How Adam steps."""

    learning_rate: float
    schedule: str = "constant"  # of SCHEDULES
    weight_decay: float = 0.0  # decoupled, of weight matrices
    max_grad_norm: float | None = None
    averaging: float = 0.0  # decay of the average over steps that is judged and kept


@dataclass
class History:
    """What a descent did: means a row of every term, one value an epoch."""

    curves: dict[str, list[float]] = field(default_factory=dict)
    held_out: list[float] = field(default_factory=list)
    best_epoch: int = -1  # -1: no epoch was better than the start
    best_loss: float = math.inf
    status: str = "max_iter"  # or "converged", "stopped" (by a callback), "diverged"

    @property
    def n_iter(self) -> int:
        """Epochs that were run."""
        return len(self.curves.get("loss", []))

    def append(self, means: dict[str, float]) -> None:
        """Add the means of an epoch."""
        for name, value in means.items():
            self.curves.setdefault(name, []).append(value)


class Descent:
    """Adam over shuffled batches of rows in memory.

    Parameters
    ----------
    module : Module
        What is trained, in place.
    loss : callable
        ``loss(x, noise, warmth)`` gives the terms of each row.
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
        Epochs over which ``warmth`` rises from 0 to 1. What is watched on held-out
        rows is always at 1, and patience waits for the end of the warm-up.
    held_out_chunk : int, default=8192
        Draws for rows that one evaluation of the held-out loss takes at a time.
    after_step : callable, optional
        ``after_step(x, weight)`` changes what has no gradient, after a step on
        observed rows and their weights (n,) or None.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Callable[[Tensor, Tensor | None, float], Any],
        observe: Callable[[Tensor], tuple[Tensor, Tensor | None]],
        rule: StepRule,
        *,
        batch_size: int,
        generator: torch.Generator,
        rates: dict[str, float] | None = None,
        warm_up: int = 0,
        held_out_chunk: int = 8192,
        after_step: Callable[[Tensor, Tensor | None], Any] = lambda x, weight: None,
    ) -> None:
        self.after_step = after_step
        self.module, self.loss, self.observe, self.rule = module, loss, observe, rule
        self.batch_size, self.generator, self.warm_up = batch_size, generator, warm_up
        self.held_out_chunk = held_out_chunk
        self.n_epochs = 0  # that went before, of which the warm-up is a part
        groups = _parameter_groups(module, rule, rates or {})
        device = groups[0]["params"][0].device
        self.optimizer = torch.optim.AdamW(groups, fused=device.type in ("cpu", "cuda"))
        self.learned = [p for group in groups for p in group["params"]]
        self.average = [p.detach().clone() for p in self.learned if rule.averaging]
        self.n_steps = 0

    def state(self) -> dict[str, Any]:
        """Copy the moments of the optimiser to the host, where they pickle."""
        return {
            index: {name: value.cpu().clone() for name, value in slots.items()}
            for index, slots in self.optimizer.state_dict()["state"].items()
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from the moments of another descent, at this one's rates."""
        now = self.optimizer.state_dict()
        self.optimizer.load_state_dict({**now, "state": state})

    def epoch(self, rows: Rows) -> tuple[dict[str, float], float]:
        """One pass over shuffled rows.

        Returns
        -------
        means : dict of str to float
            Weighted mean of every term, over the epoch.
        watched : float
            Likewise of what is watched.
        """
        n, device = len(rows.x), rows.x.device
        order = torch.randperm(n, generator=self.generator, device=device)
        names: tuple[str, ...] = ()
        totals = torch.zeros((), device=device, dtype=wide_dtype(device))
        self.module.train()
        # Batches of nearly equal size: no last batch of one row.
        batches = order.tensor_split(math.ceil(n / self.batch_size))
        for i, index in enumerate(batches):
            batch = rows.take(index)
            x, noise = self.observe(batch.x)
            terms = self.loss(x, noise, self._warmth((i + 1) / len(batches)))
            values = torch.stack((*terms, terms.watched))  # (n_terms + 1, n)
            if batch.weight is not None:
                values = values * batch.weight
            self._step(values[0].mean())
            self.after_step(x, batch.weight)
            names, totals = terms._fields, totals + values.detach().sum(1)
        self.module.eval()
        self.n_epochs += 1
        # The only wait for the device in an epoch.
        total_weight = n if rows.weight is None else rows.weight.sum()
        *means, watched = (totals / total_weight).tolist()
        return dict(zip(names, means)), watched

    def _warmth(self, part: float) -> float:
        """Part of the warm-up that is over after a part of this epoch."""
        return min(1.0, (self.n_epochs + part) / self.warm_up) if self.warm_up else 1.0

    def _step(self, loss: Tensor) -> None:
        """Descend the loss by one step."""
        self.optimizer.zero_grad()
        loss.backward()
        if self.rule.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.learned, self.rule.max_grad_norm)
        self.optimizer.step()
        if self.average:
            # Early on, an average over fewer steps: the start weighs nothing.
            self.n_steps += 1
            decay = min(self.rule.averaging, (1 + self.n_steps) / (10 + self.n_steps))
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

    def evaluate(self, rows: Rows, noise: Tensor | None) -> float:
        """Weighted mean, over observed rows under given noise, of what is watched."""
        values = []
        size = self.held_out_chunk // (1 if noise is None else len(noise)) + 1
        with torch.no_grad():
            for start in range(0, len(rows.x), size):
                part = slice(start, start + size)
                eps = None if noise is None else noise[:, part]
                values.append(self.loss(rows.x[part], eps, 1.0).watched)
        return float(rows.mean(torch.cat(values)))

    def run(
        self,
        rows: Rows,
        held_out: Rows | None,
        *,
        max_iter: int,
        tol: float,
        patience: int,
        verbose: int = 0,
        on_begin: Callable[[], Any] = lambda: None,
        on_end: Callable[[], bool] = lambda: False,
    ) -> History:
        """Descend until nothing improves; the best weights come back.

        The held-out rows decide, under noise that is drawn once; the training rows
        do where there are none, from the end of the warm-up on. ``patience`` epochs
        without an improvement above ``tol`` end the descent, as does true from
        ``on_end``. When the loss or a weight is no longer finite, the last good
        weights come back and the status is "diverged".
        """
        history, best, waits_since = History(), _snapshot(self.module), -1
        noise = None
        if held_out is not None:
            seen, noise = self.observe(held_out.x)
            held_out = Rows(seen, held_out.weight)
            start_loss = self.evaluate(held_out, noise)
            history.best_loss = start_loss if math.isfinite(start_loss) else math.inf
        rate = SCHEDULES[self.rule.schedule]
        schedule = LambdaLR(self.optimizer, lambda epoch: rate(epoch / max_iter))
        for epoch in range(max_iter):
            on_begin()
            start = time.perf_counter()
            means, current = self.epoch(rows)
            schedule.step()
            history.append(means)
            with self._judged_weights():
                if held_out is not None:
                    current = self.evaluate(held_out, noise)
                    history.held_out.append(current)
                if not (math.isfinite(current) and _is_finite(self.module)):
                    history.status = "diverged"
                    on_end()
                    break
                if verbose:
                    _report(history, time.perf_counter() - start)
                # Training losses of the warm-up compare with none that follows.
                compares = held_out is not None or self.n_epochs >= self.warm_up
                if not compares or current < history.best_loss - tol:
                    history.best_loss = current if compares else math.inf
                    history.best_epoch, best = epoch, _snapshot(self.module)
                if on_end():
                    history.status = "stopped"
                    break
            if history.best_epoch == epoch or self.n_epochs <= self.warm_up:
                waits_since = epoch
            if epoch - waits_since >= patience:
                history.status = "converged"
                break
        _restore(self.module, best)
        return history


def _parameter_groups(
    module: nn.Module, rule: StepRule, rates: dict[str, float]
) -> list[dict[str, Any]]:
    """Group what is learned by its learning rate and weight decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, p in module.named_parameters():
        if p.requires_grad:
            # Biases, scales and what has a rate of its own do not decay.
            decay = rule.weight_decay if p.ndim > 1 and name not in rates else 0.0
            rate = rates.get(name, 1.0) * rule.learning_rate
            groups.setdefault((rate, decay), []).append(p)
    return [
        {"params": learned, "lr": rate, "weight_decay": decay}
        for (rate, decay), learned in groups.items()
    ]


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


def _report(history: History, seconds: float) -> None:
    terms = ", ".join(f"{name} {c[-1]:.4f}" for name, c in history.curves.items())
    held_out = f", held-out {history.held_out[-1]:.4f}" if history.held_out else ""
    print(f"Epoch {history.n_iter}: {terms}{held_out} nats a row ({seconds:.2f}s)")


State = TypeVar("State")


class Iterate(NamedTuple, Generic[State]):
    """What one step gives: a state, and the bound that was met on the way to it."""

    state: State
    bound: float


class FixedPoint(NamedTuple, Generic[State]):
    """Where the iteration ended, and how."""

    state: State
    bounds: list[float]
    converged: bool
    stopped: bool  # on request of a callback

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
    """
    present, bounds = start, []
    for i in range(1, max_iter + 1):
        on_begin()
        previous, present = present, step(present.state)
        bounds.append(present.bound)
        stopped = on_end(i, previous, present)
        if settled(previous, present):
            return FixedPoint(present.state, bounds, True, stopped)
        if stopped:
            return FixedPoint(present.state, bounds, False, True)
    return FixedPoint(present.state, bounds, False, False)
