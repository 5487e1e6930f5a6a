"""Two loops that know no model: descent along gradients, and a fixed point."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from skgen.tensors import wide_dtype

# Draws for rows that one evaluation of the held-out loss takes at a time.
HELD_OUT_CHUNK = 8192
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
        ``loss(x, noise)`` gives the terms of each row.
    noise : callable
        ``noise(n)`` draws what ``loss`` needs for n rows, (K, n, ...), or None.
    batch_size : int
        Rows of a batch, at most.
    learning_rate : float
        Step size of Adam.
    generator : Generator
        Shuffles, on the device of the rows.
    rates : dict of str to float, default=None
        Multiples of the step size for parameters, by name.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Callable[[Tensor, Tensor | None], Any],
        noise: Callable[[int], Tensor | None],
        *,
        batch_size: int,
        learning_rate: float,
        generator: torch.Generator,
        rates: dict[str, float] | None = None,
    ) -> None:
        self.module, self.loss, self.noise = module, loss, noise
        self.batch_size, self.generator = batch_size, generator
        by_rate: dict[float, list[Tensor]] = {}
        for name, p in module.named_parameters():
            if p.requires_grad:
                by_rate.setdefault((rates or {}).get(name, 1.0), []).append(p)
        groups: list[dict[str, Any]] = [
            {"params": learned, "lr": rate * learning_rate}
            for rate, learned in by_rate.items()
        ]
        device = groups[0]["params"][0].device
        self.optimizer = torch.optim.Adam(groups, fused=device.type in ("cpu", "cuda"))

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
        for index in order.tensor_split(math.ceil(n / self.batch_size)):
            batch = rows.take(index)
            terms = self.loss(batch.x, self.noise(len(index)))
            values = torch.stack((*terms, terms.watched))  # (n_terms + 1, n)
            if batch.weight is not None:
                values = values * batch.weight
            self.optimizer.zero_grad()
            values[0].mean().backward()
            self.optimizer.step()
            names, totals = terms._fields, totals + values.detach().sum(1)
        self.module.eval()
        # The only wait for the device in an epoch.
        total_weight = n if rows.weight is None else rows.weight.sum()
        *means, watched = (totals / total_weight).tolist()
        return dict(zip(names, means)), watched

    def evaluate(self, rows: Rows, noise: Tensor | None) -> float:
        """Weighted mean, over rows under given noise, of what is watched."""
        values = []
        size = HELD_OUT_CHUNK // (1 if noise is None else len(noise)) + 1
        with torch.no_grad():
            for start in range(0, len(rows.x), size):
                part = slice(start, start + size)
                eps = None if noise is None else noise[:, part]
                values.append(self.loss(rows.x[part], eps).watched)
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
        do where there are none. ``patience`` epochs without an improvement above
        ``tol`` end the descent, as does true from ``on_end``. When the loss or a
        weight is no longer finite, the last good weights come back and the status
        is "diverged".
        """
        history, best = History(), _snapshot(self.module)
        noise = None
        if held_out is not None:
            noise = self.noise(len(held_out.x))
            start_loss = self.evaluate(held_out, noise)
            history.best_loss = start_loss if math.isfinite(start_loss) else math.inf
        for epoch in range(max_iter):
            on_begin()
            start = time.perf_counter()
            means, current = self.epoch(rows)
            history.append(means)
            if held_out is not None:
                current = self.evaluate(held_out, noise)
                history.held_out.append(current)
            if not (math.isfinite(current) and _is_finite(self.module)):
                history.status = "diverged"
                on_end()
                break
            if verbose:
                _report(history, time.perf_counter() - start)
            if current < history.best_loss - tol:
                history.best_loss, history.best_epoch = current, epoch
                best = _snapshot(self.module)
            if on_end():
                history.status = "stopped"
                break
            if epoch - history.best_epoch >= patience:
                history.status = "converged"
                break
        _restore(self.module, best)
        return history


def _snapshot(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters() if p.requires_grad]


def _restore(module: nn.Module, values: list[Tensor]) -> None:
    with torch.no_grad():
        learned = (p for p in module.parameters() if p.requires_grad)
        for parameter, value in zip(learned, values):
            parameter.copy_(value)


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
