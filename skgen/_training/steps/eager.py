"""A step as it is written, and what may take its place."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from skgen._training.adam import Adam, clipped
from skgen._training.batches import Batch
from skgen._training.contracts import Objective, Terms
from skgen._utils.reduce import Share, total_gradients

# Steps on a batch, at a part of the warm-up, and returns the terms of its rows.
Step = Callable[[Batch, Any], Terms]


class Problem(NamedTuple):
    """Objective, parameters and settings of a step."""

    module: nn.Module
    objective: Objective
    optimizer: Adam
    names: list[str]  # of the parameters that are learned, as the optimiser has them
    max_grad_norm: float | None
    cache_key: Hashable | None  # equal for modules that compute alike


class Eager:
    """A step as it is written.

    Parameters
    ----------
    problem : Problem
        What is stepped.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def __call__(self, batch: Batch, annealing: Any) -> Terms:
        """Step along the gradient of the mean loss of rows, and return their terms."""
        module, objective, optimizer, _, longest, _ = self.problem
        terms = objective(module, batch, annealing)
        optimizer.forget_gradients()
        mean_loss(terms, batch.weight, batch.share).backward()
        if batch.share is not None:
            total_gradients(optimizer.learned)
        if longest is not None:
            used = [p for p in optimizer.learned if p.grad is not None]
            grads = clipped([p.grad[None] for p in used if p.grad is not None], longest)
            for p, grad in zip(used, grads):
                p.grad = grad[0]
        optimizer.step()
        return terms


def mean_loss(
    terms: Terms, weight: Tensor | None, share: Share | None = None
) -> Tensor:
    """Mean over rows (..., b) of their losses, times their weights.

    Of a share of a batch, it is their part of the mean over the batch.
    """
    loss = terms.loss if weight is None else terms.loss * weight
    return loss.mean(-1) if share is None else loss.sum(-1) / share.size


class Kind(NamedTuple):
    """Structure of loss terms, without their values."""

    terms: type[Any]
    aside: tuple[str, ...]  # names of what is no term of the loss

    @classmethod
    def of(cls, terms: Terms) -> Self:
        """Return the kind of terms."""
        return cls(type(terms), tuple(getattr(terms, "__dict__", ())))

    def values(self, terms: Terms) -> list[Tensor]:
        """Take terms apart."""
        return [*terms, *(getattr(terms, name) for name in self.aside)]

    def of_values(self, values: Sequence[Tensor]) -> Terms:
        """Put terms together."""
        n = len(self.terms._fields)
        terms: Terms = self.terms(*values[:n])
        for name, value in zip(self.aside, values[n:]):
            setattr(terms, name, value)
        return terms


class Replaced:
    """A step in whose place comes something faster, made once a shape of a batch.

    Where it cannot be made, steps run as they are written, and a warning says why.
    """

    way = ""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.eager = problem, Eager(problem)
        self.made: dict[Hashable, Step] = {}

    def __call__(self, batch: Batch, annealing: float) -> Terms:
        """Step by what was made for batches of this shape."""
        shapes = tuple(None if t is None else t.shape for t in batch)
        if shapes not in self.made:
            self.made[shapes] = self._make_or_not(batch, annealing)
        return self.made[shapes](batch, annealing)

    def _make_or_not(self, batch: Batch, annealing: float) -> Step:
        if self.eager in self.made.values():  # it failed before
            return self.eager
        try:
            return self.make(batch, annealing)
        except Exception as error:
            warnings.warn(
                f"execution={self.way!r} failed, and steps run as with "
                f"execution='eager'. {type(error).__name__}: {str(error)[:500]}",
                UserWarning,
                stacklevel=2,
            )
            return self.eager

    def make(self, batch: Batch, annealing: float) -> Step:
        """Return what steps on batches of these shapes, without a step yet."""
        raise NotImplementedError


def scalar(number: float, device: torch.device) -> Tensor:
    """Have a number on a device."""
    # Launched: a copy would wait. A float, also where the number is an int.
    return torch.full((), float(number), device=device)
