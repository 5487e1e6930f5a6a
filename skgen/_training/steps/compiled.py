"""A step as a program of ``torch.compile``."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.func import functional_call

from skgen._training.adam import AdamMoments, adamw, clipped
from skgen._training.batches import Batch
from skgen._training.contracts import Terms
from skgen._training.steps.eager import (
    Kind,
    Problem,
    Replaced,
    Step,
    mean_loss,
    scalar,
)
from skgen._training.steps.structure import (
    Called,
    kind_of,
    numbers_of,
    structure,
    training_state,
    with_numbers,
)

# What compiles a step.
BACKEND = "inductor"
# Programs that are kept for further fits of models of the same structure.
MOST_PROGRAMS = 64


class Given(NamedTuple):
    """All tensors that a step reads, or changes in place."""

    state: dict[str, Tensor]  # parameters and buffers, by name
    moments: list[Tensor]  # first and second, of each parameter that is learned
    numbers: list[Tensor]  # of the objective, then rates and decays
    # Tensors that the batch has, annealing, factor, and what Adam counted.
    batch: list[Tensor]

    @classmethod
    def of(cls, problem: Problem, batch: list[Tensor]) -> Self:
        """Return those of a problem, and of a batch."""
        *moments, n_steps = problem.optimizer.tensors
        numbers = [
            scalar(number, n_steps.device)
            for number in numbers_of((problem.objective, *problem.optimizer.groups))
        ]
        return cls(training_state(problem.module), moments, numbers, batch)

    @property
    def flat(self) -> list[Tensor]:
        """All in one list, the batch last."""
        state, moments, numbers, batch = self
        return [*state.values(), *moments, *numbers, *batch]

    def like(self, flat: Sequence[Tensor]) -> Given:
        """Put others, flat, in the place of these."""
        left = iter(flat)
        return Given(
            {name: next(left) for name in self.state},
            [next(left) for _ in self.moments],
            [next(left) for _ in self.numbers],
            list(left),
        )


class Program(NamedTuple):
    """A compiled step."""

    run: Callable[..., Sequence[Tensor]]  # flat tensors, changed in place -> values
    kind: Kind  # of the terms that the values make


_PROGRAMS: dict[Hashable, Program] = {}
_COMPILING = threading.Lock()


class Compiled(Replaced):
    """A step as a program of ``torch.compile``.

    All of it is traced, the gradient and Adam too, as a function of tensors: so one
    program serves all models of a structure, whatever their weights, rates, and other
    numbers. It takes seconds to make; on a CPU, a C++ compiler does.
    """

    way = "compiled"

    def make(self, batch: Batch, annealing: float) -> Step:
        """Find or make the program, and give it this problem's tensors."""
        optimizer, device = self.problem.optimizer, batch.x.device
        has = tuple(t is not None for t in batch)

        def given_by(batch: Batch, annealing: float) -> list[Tensor]:
            # Programs depend on strides: those of one draw's noise differ.
            rows = [t.contiguous() for t in batch if t is not None]
            scalars = (scalar(each, device) for each in (annealing, optimizer.factor))
            return [*rows, *scalars]

        unbiased = torch.ones_like(optimizer.log_betas)
        given = Given.of(self.problem, [*given_by(batch, annealing), unbiased])
        program = program_of(self.problem, given, has)
        held = given._replace(batch=[]).flat

        def step(batch: Batch, annealing: Any) -> Terms:
            with torch.no_grad():
                own = given_by(batch, annealing)
                values = program.run(*held, *own, optimizer.counted())
            return program.kind.of_values(values)

        return step


def program_of(problem: Problem, given: Given, has: tuple[bool, ...]) -> Program:
    """Find the program of a problem's step, or make it.

    ``has`` says which parts of a batch there are.
    """
    key = None
    if problem.cache_key is not None:
        key = (
            problem.cache_key,
            structure(problem.module),
            kind_of(problem.objective),
            tuple(map(tuple, problem.optimizer.groups.values())),
            problem.max_grad_norm,
            tuple(map(_layout, given.flat)),
            has,
            (
                BACKEND,
                torch.get_num_threads(),
                torch.are_deterministic_algorithms_enabled(),
            ),
        )
    with _COMPILING:
        program = None if key is None else _PROGRAMS.pop(key, None)
        if program is None:
            program = compiled(problem, given, has)
        if key is not None:  # the one that was used last stays longest
            _PROGRAMS[key] = program
            if len(_PROGRAMS) > MOST_PROGRAMS:
                del _PROGRAMS[next(iter(_PROGRAMS))]
    return program


def compiled(problem: Problem, given: Given, has: tuple[bool, ...]) -> Program:
    """Trace a step of a problem as a function of tensors, and compile it."""
    from torch._dynamo import lookup_backend  # imports sympy
    from torch.fx.experimental.proxy_tensor import make_fx

    # Without tensors of its own: those of any model of its structure are given.
    template = copy.deepcopy(problem.module).to("meta").train()
    constants = (problem.objective, *problem.optimizer.groups)
    groups = list(problem.optimizer.groups.values())
    learned, longest = problem.names, problem.max_grad_norm
    kinds: list[Kind] = []

    def step(*flat: Tensor) -> list[Tensor]:
        state, moments, numbers, own = given.like(flat)
        *rows, annealing, factor, unbiased = own
        left = iter(rows)
        batch = Batch._make(next(left) if each else None for each in has)
        objective, *paces = with_numbers(constants, iter(numbers))
        with torch.enable_grad():
            leaves = {name: state[name].detach().requires_grad_() for name in learned}
            tensors = {f"module.{name}": t for name, t in {**state, **leaves}.items()}
            called = Called(template, objective)
            terms = functional_call(called, tensors, (batch, annealing))
            loss = mean_loss(terms, batch.weight)
            grads = torch.autograd.grad(loss, [*leaves.values()], allow_unused=True)
        if longest is not None:
            cuts = iter(clipped([g[None] for g in grads if g is not None], longest))
            grads = tuple(None if g is None else next(cuts)[0] for g in grads)
        for pace, group in zip(paces, groups):
            for i in group:
                if grads[i] is not None:
                    both = AdamMoments(*moments[2 * i : 2 * i + 2])
                    own = pace._replace(rate=factor * pace.rate)
                    adamw(state[learned[i]], grads[i], both, unbiased, own)
        kinds.append(Kind.of(terms))
        return [value.detach() for value in kinds[-1].values(terms)]

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch's compiler says of torch
        graph = make_fx(step, tracing_mode="fake")(*given.flat)
        twins = [*map(_twin, given.flat)]
        # The backend of torch.compile, without its guards: of a step on a small network
        # they are a third of the time, and the key of a program holds what they guard.
        run = lookup_backend(BACKEND)(graph, twins)
        run(*twins)  # where it fails, it fails here
    return Program(run, kinds[-1])


def _layout(tensor: Tensor) -> Hashable:
    """Return what a program depends on; strides of dimensions of one are no matter."""
    strides = tensor.is_contiguous() or tensor.stride()
    return tensor.shape, strides, tensor.dtype, tensor.device


def _twin(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)
