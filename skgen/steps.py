"""How a step of a descent runs: as it is written, compiled, or as one CUDA graph.

A step is the loss of a batch, its gradient, and Adam. On small networks most of its
time lies between operations. ``torch.compile`` makes one program of it, whose
elementwise operations run as a few loops; a CUDA graph launches all of it at once.
"""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.func import functional_call

from skgen.adam import Moments, adamw

if TYPE_CHECKING:
    from skgen.engine import Descent

# What compiles a step.
BACKEND = "inductor"
# Programs that are kept for further fits of models of the same structure.
MOST_PROGRAMS = 64
# Steps before one is captured, in which kernels choose their ways.
WARM_UPS = 3


class Eager:
    """A step as it is written.

    Parameters
    ----------
    descent : Descent
        What it is a step of.
    """

    def __init__(self, descent: Descent) -> None:
        self.descent = descent

    def __call__(self, x: Tensor, noise: Any, weight: Any, warmth: Any) -> Any:
        """Step along the gradient of the mean loss of rows, and return their terms."""
        descent = self.descent
        terms = descent.objective(descent.module, x, noise, warmth)
        descent.optimizer.forget_gradients()
        mean_loss(terms, weight).backward()
        if descent.rule.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(descent.learned, descent.rule.max_grad_norm)
        descent.optimizer.step()
        return terms


def mean_loss(terms: Any, weight: Tensor | None) -> Tensor:
    """Mean over rows of their losses, times their weights."""
    loss: Tensor = terms.loss if weight is None else terms.loss * weight
    return loss.mean()


class Kind(NamedTuple):
    """What terms are, beside the values that they hold."""

    terms: type[Any]
    aside: tuple[str, ...]  # names of what is no term of the loss

    @classmethod
    def of(cls, terms: Any) -> Self:
        """Return the kind of terms."""
        return cls(type(terms), tuple(getattr(terms, "__dict__", ())))

    def values(self, terms: Any) -> list[Tensor]:
        """Take terms apart."""
        return [*terms, *(getattr(terms, name) for name in self.aside)]

    def of_values(self, values: Sequence[Tensor]) -> Any:
        """Put terms together."""
        n = len(self.terms._fields)
        terms = self.terms(*values[:n])
        for name, value in zip(self.aside, values[n:]):
            setattr(terms, name, value)
        return terms


class Replaced:
    """A step in whose place comes something faster, made once a shape of a batch.

    Where it cannot be made, steps run as they are written, and a warning says why.
    """

    way = ""

    def __init__(self, descent: Descent) -> None:
        self.descent, self.eager = descent, Eager(descent)
        self.made: dict[Hashable, Callable[..., Any]] = {}

    def __call__(
        self, x: Tensor, noise: Tensor | None, weight: Tensor | None, warmth: float
    ) -> Any:
        """Step by what was made for batches of this shape."""
        given = (x, noise, weight, warmth)
        shapes = tuple(None if t is None else t.shape for t in given[:3])
        if shapes not in self.made:
            self.made[shapes] = self._make_or_not(*given)
        return self.made[shapes](*given)

    def _make_or_not(self, *given: Any) -> Callable[..., Any]:
        if self.eager in self.made.values():  # it failed before
            return self.eager
        try:
            return self.make(*given)
        except Exception as error:
            warnings.warn(
                f"execution={self.way!r} failed, and steps run as with "
                f"execution='eager'. {type(error).__name__}: {str(error)[:500]}",
                UserWarning,
                stacklevel=2,
            )
            return self.eager

    def make(
        self, x: Tensor, noise: Tensor | None, weight: Tensor | None, warmth: float
    ) -> Callable[..., Any]:
        """Return what steps on batches of these shapes, without a step yet."""
        raise NotImplementedError


class Objective(nn.Module):
    """An objective of a model, called as ``functional_call`` calls modules."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, objective: Any, x: Tensor, noise: Any, warmth: Any) -> Any:
        """Terms of rows."""
        return objective(self.model, x, noise, warmth)


class Given(NamedTuple):
    """All tensors that a step reads, or changes in place."""

    state: dict[str, Tensor]  # parameters and buffers, by name
    moments: list[Tensor]  # first and second, of each parameter that is learned
    n_steps: Tensor
    numbers: list[Tensor]  # of the objective, then rates and decays
    batch: list[Tensor]  # x, noise and weight where there are any, warmth, factor

    @classmethod
    def of(cls, descent: Descent, batch: list[Tensor]) -> Self:
        """Return those of a descent, and of a batch."""
        *moments, n_steps = descent.optimizer.tensors
        numbers = [
            _scalar(number, n_steps.device)
            for number in numbers_of((descent.objective, *descent.optimizer.groups))
        ]
        return cls(training_state(descent.module), moments, n_steps, numbers, batch)

    @property
    def flat(self) -> list[Tensor]:
        """All in one list, the batch last."""
        state, moments, n_steps, numbers, batch = self
        return [*state.values(), *moments, n_steps, *numbers, *batch]

    def like(self, flat: Sequence[Tensor]) -> Given:
        """Put others, flat, in the place of these."""
        left = iter(flat)
        return Given(
            {name: next(left) for name in self.state},
            [next(left) for _ in self.moments],
            next(left),
            [next(left) for _ in self.numbers],
            list(left),
        )


def training_state(module: Any) -> dict[str, Tensor]:
    """Return parameters and buffers that training reads: not those of scores alone."""
    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    left_out = getattr(module, "scoring_buffers", ())
    return {
        name: value
        for name, value in state.items()
        if name not in left_out and "standardizer" not in name
    }


def structure(module: nn.Module) -> Hashable:
    """Return what modules must share to compute with each other's tensors."""
    parts = []
    for name, part in module.named_modules():
        plain = {
            key: value
            for key, value in vars(part).items()
            if isinstance(value, bool | int | float | str | tuple) and key != "training"
        }
        tensors = [*part._parameters.items(), *part._buffers.items()]
        shapes = tuple((key, tuple(value.shape)) for key, value in tensors)
        parts.append((name, type(part), tuple(plain.items()), shapes))
    return tuple(parts)


def kind_of(constants: Any) -> Hashable:
    """Type of constants in a named tuple; numbers may differ, all else may not."""
    if isinstance(constants, tuple):
        return type(constants), tuple(kind_of(value) for value in constants)
    return float if isinstance(constants, float | int) else constants


def numbers_of(constants: Any) -> list[float]:
    """Numbers among constants, in their order."""
    if isinstance(constants, tuple):
        return [number for each in constants for number in numbers_of(each)]
    return [constants] if isinstance(constants, float | int) else []


def with_numbers(constants: Any, numbers: Iterator[Any]) -> Any:
    """Constants with others in the place of their numbers."""
    if isinstance(constants, tuple):
        each = [with_numbers(value, numbers) for value in constants]
        return constants._make(each) if hasattr(constants, "_make") else tuple(each)
    return next(numbers) if isinstance(constants, float | int) else constants


def _scalar(number: float, device: torch.device) -> Tensor:
    return torch.full((), number, device=device)  # launched: a copy would wait


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

    def make(
        self, x: Tensor, noise: Tensor | None, weight: Tensor | None, warmth: float
    ) -> Callable[..., Any]:
        """Find or make the program, and give it this descent's tensors."""
        optimizer, device = self.descent.optimizer, x.device
        has = (noise is not None, weight is not None)

        def batch(x: Tensor, noise: Any, weight: Any, warmth: float) -> list[Tensor]:
            # Slices of one draw's noise differ in strides, which programs depend on.
            rows = [x, *([noise.clone()] if has[0] else ()), *[weight] * has[1]]
            scalars = (warmth, optimizer.factor)
            return [*rows, *(_scalar(number, device) for number in scalars)]

        given = Given.of(self.descent, batch(x, noise, weight, warmth))
        program = program_of(self.descent, given, *has)
        held = given._replace(batch=[]).flat

        def step(x: Tensor, noise: Any, weight: Any, warmth: float) -> Any:
            with torch.no_grad():
                values = program.run(*held, *batch(x, noise, weight, warmth))
            return program.kind.of_values(values)

        return step


def program_of(
    descent: Descent, given: Given, has_noise: bool, is_weighted: bool
) -> Program:
    """Find the program of a descent's step, or make it."""
    key = None
    if descent.alike is not None:
        key = (
            descent.alike,
            structure(descent.module),
            kind_of(descent.objective),
            tuple(map(tuple, descent.optimizer.groups.values())),
            descent.rule.max_grad_norm,
            tuple(t.shape for t in given.flat),
            (has_noise, is_weighted, str(given.n_steps.device), BACKEND),
        )
    with _COMPILING:
        program = None if key is None else _PROGRAMS.get(key)
        if program is None:
            program = compiled(descent, given, has_noise, is_weighted)
        if key is not None:
            _PROGRAMS[key] = program
            if len(_PROGRAMS) > MOST_PROGRAMS:
                del _PROGRAMS[next(iter(_PROGRAMS))]
    return program


def compiled(
    descent: Descent, given: Given, has_noise: bool, is_weighted: bool
) -> Program:
    """Trace a step of a descent as a function of tensors, and compile it."""
    from torch.fx.experimental.proxy_tensor import make_fx  # imports sympy

    # Without tensors of its own: those of any model of its structure are given.
    model = Objective(copy.deepcopy(descent.module).to("meta").train())
    constants = (descent.objective, *descent.optimizer.groups)
    groups = list(descent.optimizer.groups.values())
    learned, longest = list(descent.paces), descent.rule.max_grad_norm
    kinds: list[Kind] = []

    def step(*flat: Tensor) -> list[Tensor]:
        state, moments, n_steps, numbers, batch = given.like(flat)
        x, *rest, warmth, factor = batch
        noise = rest.pop(0) if has_noise else None
        weight = rest.pop(0) if is_weighted else None
        objective, *paces = with_numbers(constants, iter(numbers))
        with torch.enable_grad():
            leaves = {name: state[name].detach().requires_grad_() for name in learned}
            tensors = {f"model.{name}": t for name, t in {**state, **leaves}.items()}
            terms = functional_call(model, tensors, (objective, x, noise, warmth))
            loss = mean_loss(terms, weight)
            grads = torch.autograd.grad(loss, [*leaves.values()], allow_unused=True)
        if longest is not None:
            norm = nn.utils.get_total_norm([g for g in grads if g is not None])
            scale = (longest / (norm + 1e-6)).clamp(max=1.0)
            grads = tuple(None if g is None else g * scale for g in grads)
        n_steps += 1
        for pace, group in zip(paces, groups):
            for i in group:
                if grads[i] is not None:
                    both = Moments(*moments[2 * i : 2 * i + 2])
                    own = pace._replace(rate=factor * pace.rate)
                    adamw(state[learned[i]], grads[i], both, n_steps, own)
        kinds.append(Kind.of(terms))
        return [value.detach() for value in kinds[-1].values(terms)]

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch's compiler says of torch
        graph = make_fx(step, tracing_mode="fake")(*given.flat)
        run = torch.compile(graph, backend=BACKEND, dynamic=False)
        run(*map(_twin, given.flat))  # compiled now, where a failure is seen
    return Program(run, kinds[-1])


def _twin(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_(tensor.requires_grad)


def _has_graphs(device: torch.device) -> bool:
    return device.type == "cuda"


class Captured(Replaced):
    """A step as a CUDA graph, which reads and writes fixed tensors.

    Python and the launches of kernels are left out of it, on small networks nearly all
    of a step.
    """

    way = "captured"

    def make(
        self, x: Tensor, noise: Tensor | None, weight: Tensor | None, warmth: float
    ) -> Callable[..., Any]:
        """Capture a step; the steps that warm up for it are taken back."""
        if not _has_graphs(x.device):
            raise ValueError(f"There are no CUDA graphs on device {str(x.device)!r}.")
        optimizer = self.descent.optimizer
        scalars = [_scalar(number, x.device) for number in (warmth, optimizer.factor)]
        fixed = [t if t is None else t.clone() for t in (x, noise, weight)]
        given: Any = (*fixed, scalars[0])
        changed = [*training_state(self.descent.module).values(), *optimizer.tensors]
        before = [t.detach().clone() for t in changed]
        factor, optimizer.factor = optimizer.factor, scalars[1]
        try:
            self._warm_up(*given)
            graph = torch.cuda.CUDAGraph()
            optimizer.forget_gradients()  # the graph has its own
            # Another thread may be reading rows ahead.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                terms = self.eager(*given)
        finally:
            optimizer.factor = factor
            with torch.no_grad():
                for tensor, value in zip(changed, before):
                    tensor.copy_(value)
        kind = Kind.of(terms)

        @torch.no_grad()
        def step(x: Tensor, noise: Any, weight: Any, warmth: float) -> Any:
            for tensor, value in zip(fixed, (x, noise, weight)):
                if tensor is not None:
                    tensor.copy_(value)
            for tensor, number in zip(scalars, (warmth, optimizer.factor)):
                tensor.fill_(number)
            graph.replay()
            return kind.of_values([value.clone() for value in kind.values(terms)])

        return step

    def _warm_up(self, x: Tensor, *given: Any) -> None:
        """Take some steps, on a stream of their own as captures want it."""
        present = torch.cuda.current_stream(x.device)
        stream = torch.cuda.Stream(x.device)
        stream.wait_stream(present)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self.eager(x, *given)
        present.wait_stream(stream)


EXECUTIONS: dict[str, Callable[[Descent], Any]] = {
    "eager": Eager,
    "compiled": Compiled,
    "captured": Captured,
}
