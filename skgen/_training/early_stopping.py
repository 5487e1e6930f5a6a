"""Curves of a training run, which epoch of it is the best, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


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

    def state_dict(self) -> dict[str, Any]:
        """Return all of it, with curves as arrays."""
        curves = {name: np.array(curve) for name, curve in self.curves.items()}
        return {**vars(self), "curves": curves, "held_out": np.array(self.held_out)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become what ``state_dict`` gave."""
        curves = {name: curve.tolist() for name, curve in state["curves"].items()}
        vars(self).update(state, curves=curves, held_out=state["held_out"].tolist())

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

    def state_dict(self) -> dict[str, Any]:
        """Return what changes from epoch to epoch."""
        return {"history": self.history.state_dict(), "waits_since": self.waits_since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        self.history.load_state_dict(state["history"])
        self.waits_since = state["waits_since"]

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
        """Return whether the descent is to end before its last epoch."""
        return self.history.status != "max_iter"
