"""Sums over the rows of all processes of a fit: the one place that reduces.

In a fit of one process, which most are, these functions give back what they are given.
In a group, each process has rows of its own, all call the same of these functions in
the same order, and all get the same values: those of all rows, one rank's after the
other's.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_map_only

from skgen._utils.pages import select
from skgen.exceptions import DistributedError

LOST = (
    "Another process of the data-parallel fit has failed, has left, or did not answer "
    "within the timeout of the group, and this one cannot go on alone. See the error "
    "of the other process. With checkpoint= and torchrun --max-restarts the fit goes "
    "on after a restart."
)
CLOSED = (
    "A data-parallel fit has failed in this block of data_parallel, and its processes "
    "may be at different places. Leave the block, and enter another for a further fit."
)

Value = TypeVar("Value")


class Group:
    """Processes that fit together.

    Parameters
    ----------
    handle : ProcessGroup
        What torch.distributed knows them by.
    is_own : bool
        Whether nobody else uses it: then a process that fails closes it, so that the
        others need not wait for their timeout.
    """

    def __init__(self, handle: Any, *, is_own: bool) -> None:
        self.handle, self.is_own = handle, is_own
        self.rank, self.size = dist.get_rank(handle), dist.get_world_size(handle)
        pairs = str(dist.get_backend_config(handle)).split(",")
        self.backends = dict(pair.split(":") for pair in pairs)
        self.known: BaseException | None = None  # an error that all processes raise

    def home(self, device: torch.device) -> torch.device:
        """Return where tensors of a device are sent from."""
        if device.type not in self.backends:
            device = torch.device(next(iter(self.backends)))
        return torch.device("cpu") if self.backends[device.type] == "gloo" else device

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a collective function; an error says that others have failed."""
        if self.handle is None:
            raise DistributedError(CLOSED)
        try:
            return function(*args, group=self.handle, **options)
        except RuntimeError as error:
            self.close()
            raise DistributedError(LOST) from error

    def leave(self) -> None:
        """Leave the group with the others."""
        if self.handle is not None:
            here = self.home(torch.device("cpu"))
            self.call(dist.all_reduce, torch.zeros(1, device=here))
            self.close()

    def close(self) -> None:
        """Leave the group at once, which the others notice."""
        handle, self.handle = self.handle, None
        if handle is not None and self.is_own:
            with suppress(RuntimeError, ValueError):
                dist.destroy_process_group(handle)


# The group of a block of `data_parallel`, and that of the fit that runs.
_GIVEN: ContextVar[Group | None] = ContextVar("_GIVEN", default=None)
_GROUP: ContextVar[Group | None] = ContextVar("_GROUP", default=None)


# Blocks.


@contextmanager
def offered(group: Group) -> Iterator[None]:
    """Let fits inside the block run in a group."""
    token = _GIVEN.set(group)
    try:
        yield
    finally:
        _GIVEN.reset(token)


@contextmanager
def together() -> Iterator[None]:
    """Reduce inside the block over the group that is offered, if there is one."""
    group = _GIVEN.get()
    token = _GROUP.set(group)
    try:
        yield
    except BaseException as error:
        if group is not None and error is not group.known:
            group.close()
        raise
    finally:
        _GROUP.reset(token)


@contextmanager
def alone() -> Iterator[None]:
    """Reduce nothing inside the block: rows are those of all processes already."""
    tokens = _GROUP.set(None), _GIVEN.set(None)
    try:
        yield
    finally:
        _GROUP.reset(tokens[0])
        _GIVEN.reset(tokens[1])


@contextmanager
def agreed() -> Iterator[None]:
    """Raise an error of the block in all processes, where any raises one.

    The block reduces nothing.
    """
    group, error = _GROUP.get(), None
    if group is None:
        yield
        return
    try:
        yield
    except Exception as own:
        error = own
    said = objects(None if error is None else f"{type(error).__name__}: {error}")
    if error is None and any(said):
        rank = next(i for i, text in enumerate(said) if text)
        error = DistributedError(f"Rank {rank} of the group failed with {said[rank]}")
    if error is not None:
        group.known = error
        raise error


# What is known of the group.


def is_alone() -> bool:
    """Return whether the rows here are all rows."""
    return _GROUP.get() is None


def is_offered() -> bool:
    """Return whether a fit that began here would be one of a group."""
    return _GIVEN.get() is not None


def rank() -> int:
    """Return the number of this process, from 0."""
    group = _GROUP.get()
    return 0 if group is None else group.rank


# Sums.


def totals(*values: Tensor) -> tuple[Tensor, ...]:
    """Sum tensors of one device over the processes, in one message."""
    group = _GROUP.get()
    if group is None:
        return values
    dtype = functools.reduce(torch.promote_types, (v.dtype for v in values))
    flat = torch.cat([v.detach().reshape(-1).to(dtype) for v in values])
    sent = flat.to(group.home(flat.device))
    group.call(dist.all_reduce, sent)
    parts = sent.to(flat.device).split([v.numel() for v in values])
    return tuple(p.view(v.shape).to(v.dtype) for p, v in zip(parts, values))


def total(value: Tensor) -> Tensor:
    """Sum a tensor over the processes."""
    return totals(value)[0]


def count(n: int) -> int:
    """Sum a whole number over the processes."""
    return n if is_alone() else sum(_counts(n))


def mean(values: Tensor) -> Tensor:
    """Return the mean of values (n,) over the rows of all processes."""
    return values.mean() if is_alone() else total(values.sum()) / count(len(values))


def largest(value: float) -> float:
    """Return the largest of the numbers that processes have."""
    return value if is_alone() else max(objects(value))


def any_true(flag: bool) -> bool:
    """Return whether a flag is true in any process."""
    return flag if is_alone() else any(_counts(int(flag)))


def total_gradients(parameters: Iterable[Tensor]) -> None:
    """Sum gradients over the processes; one that no process has stays None."""
    learned = [*parameters]
    has = learned[0].new_tensor([float(p.grad is not None) for p in learned])
    grads = (torch.zeros_like(p) if p.grad is None else p.grad for p in learned)
    found, *sums = totals(has, *grads)
    for p, some, grad in zip(learned, found.tolist(), sums):
        p.grad = grad if some else None


# Rows, and other values.


class Span(NamedTuple):
    """Place of the rows of this process among all rows."""

    start: int
    stop: int
    n: int  # of all


def span(n: int) -> Span:
    """Return where n rows of this process are among all."""
    group = _GROUP.get()
    if group is None:
        return Span(0, n, n)
    counts = _counts(n)
    start = sum(counts[: group.rank])
    return Span(start, start + n, sum(counts))


def gathered(values: Tensor) -> Tensor:
    """Return the rows (n, ...) of all processes, in the order of their ranks."""
    group = _GROUP.get()
    if group is None:
        return values
    counts = _counts(len(values))
    shape, home = (sum(counts), *values.shape[1:]), group.home(values.device)
    found = torch.empty(shape, dtype=values.dtype, device=home)
    parts = found.split(counts)
    parts[group.rank].copy_(values)
    # Each sends its part into its place: a list of parts would be a second copy of all.
    for sender, part in enumerate(parts):
        if len(part):
            group.call(dist.broadcast, part, group_src=sender)
    return found.to(values.device)


def rows_at(values: Any, index: Tensor) -> Any:
    """Return the rows (m, ...) at places (m,) among those of all processes."""
    if is_alone():
        return select(values, index)
    where = span(len(values))
    own = ((index >= where.start) & (index < where.stop)).nonzero()[:, 0]
    return in_places(select(values, index[own] - where.start), own)


def in_places(values: Tensor, places: Tensor) -> Tensor:
    """Put rows (m, ...), of which each process has some, in their places (m,)."""
    rows, where = gathered(values), gathered(places)
    if bool((where.diff() > 0).all()):  # in order already
        return rows
    found = torch.empty_like(rows)
    found[where] = rows
    return found


class Share(NamedTuple):
    """Part that this process has of a batch that all processes step on."""

    places: Tensor  # (b,): of its rows in the batch
    size: int  # of the batch

    def repeated(self, n: int) -> Share:
        """Return the share of n values for each row of the batch."""
        each = torch.arange(n, device=self.places.device)
        return Share((self.places[:, None] * n + each).flatten(), self.size * n)

    def rows_at(self, values: Tensor, index: Tensor) -> Tensor:
        """Return the rows (m, c) of the batch at places (m,), from rows here (b, c)."""
        return total((index[:, None] == self.places).to(values) @ values)


def objects(value: Value) -> list[Value]:
    """Return the values that the processes have, by rank: anything that pickles."""
    group = _GROUP.get()
    if group is None:
        return [value]
    found: list[Any] = [None] * group.size
    group.call(dist.all_gather_object, found, value)
    return found


def from_first(function: Callable[[], Value]) -> Value:
    """Return what the first process makes, or raise its error; tensors are on the CPU.

    The function sees the rows that it has as all rows.
    """
    group = _GROUP.get()
    if group is None:
        return function()
    sent: list[Any] = [None, None]
    if group.rank == 0:
        sent = _made(function)
    group.call(dist.broadcast_object_list, sent, group_src=0)
    value, error = sent
    if error is not None:
        group.known = error
        raise error
    found: Value = value
    return found


def _made(function: Callable[[], Any]) -> list[Any]:
    """Return a value and no error, or an error that pickles."""
    try:
        with alone():
            value = function()
        return [tree_map_only(Tensor, lambda t: t.detach().cpu(), value), None]
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return [None, DistributedError(f"Rank 0: {type(error).__name__}: {error}")]
        return [None, error]


def first_draws(rng: np.random.RandomState, function: Callable[[], Value]) -> Value:
    """Return what the first process draws; leave the generators of all at its end."""
    if is_alone():
        return function()
    value, state = from_first(lambda: (function(), rng.get_state(legacy=False)))
    rng.set_state(state)
    return value


def same_as_first(tensors: Iterable[Tensor]) -> None:
    """Give tensors the values that they have in the first process."""
    group = _GROUP.get()
    if group is None:
        return
    with torch.no_grad():
        for tensor in tensors:
            sent = tensor.detach().to(group.home(tensor.device)).contiguous()
            group.call(dist.broadcast, sent, group_src=0)
            tensor.copy_(sent)


def _counts(n: int) -> list[int]:
    """Return whole numbers of the processes, by rank."""
    group = _GROUP.get()
    assert group is not None
    own = torch.tensor([n], device=group.home(torch.device("cpu")))
    parts = [torch.empty_like(own) for _ in range(group.size)]
    group.call(dist.all_gather, parts, own)
    found: list[int] = torch.cat(parts).tolist()
    return found
