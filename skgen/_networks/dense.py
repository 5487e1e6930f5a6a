"""Encoders and decoders, and the scale of their rows."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skgen._networks.lookups import SparseInputs
from skgen._training.shards import FitRows

Activation = Literal["identity", "logistic", "tanh", "relu", "gelu", "silu", "softplus"]
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}

Factory = Callable[[int, int], nn.Module]


class Layers(nn.Sequential):
    """Layers of which the last is linear, and the first where inputs are sparse."""

    def forward(self, inputs: Tensor | SparseInputs) -> Tensor:
        """Map inputs (n, p) to outputs (n, q)."""
        if isinstance(inputs, Tensor):
            outputs: Tensor = super().forward(inputs)  # type: ignore[no-untyped-call]
            return outputs
        first: Any
        first, *others = self
        found: Tensor = nn.Sequential(*others)(inputs.through(first.weight, first.bias))
        return found

    def start_from(self, outputs: Tensor) -> None:
        """Start the bias of the last layer from outputs (p,)."""
        last: Any = self[-1]
        last.bias.data.copy_(outputs)


class LinearAndLayers(Layers):
    """Layers, with a linear map of the input added to the first m of their outputs.

    The map has no bias, since the last layer has one. It starts at zero.

    Parameters
    ----------
    layers : iterable of Module
        The layers.
    n_inputs, n_linear : int
        Widths of the map.
    """

    def __init__(
        self, layers: Iterable[nn.Module], n_inputs: int, n_linear: int
    ) -> None:
        super().__init__(*layers)
        self.linear = nn.Parameter(torch.zeros(n_linear, n_inputs))

    def __getitem__(self, index: Any) -> Any:
        """Return a layer, or some of the layers without the map."""
        layers = list(self.children())[index]
        return nn.Sequential(*layers) if isinstance(index, slice) else layers

    def forward(self, inputs: Tensor | SparseInputs) -> Tensor:
        """Add the two."""
        if isinstance(inputs, Tensor):
            part = F.linear(inputs, self.linear)
        else:
            part = inputs.through(self.linear, None)
        return add_first(super().forward(inputs), part)


def add_first(outputs: Tensor, part: Tensor) -> Tensor:
    """Add (..., m) to the first m of outputs (..., p)."""
    more = outputs.shape[-1] - part.shape[-1]
    return outputs + (F.pad(part, (0, more)) if more else part)


def with_linear_path(layers: Factory, n_linear: int) -> Factory:
    """Return a factory of layers with a linear path to the first of their outputs."""

    def both(n_inputs: int, n_outputs: int) -> LinearAndLayers:
        parts: Any = layers(n_inputs, n_outputs)
        return LinearAndLayers(parts, n_inputs, n_linear)

    return both


def is_mlp(network: nn.Module) -> bool:
    """Return whether a network is of linear maps and activations, as `mlp` makes it."""
    parts = (nn.Linear, *ACTIVATIONS.values())
    known = type(network) in (Layers, LinearAndLayers)
    return known and all(type(part) in parts for part in network.children())


def mlp(
    n_inputs: int, n_outputs: int, hidden_layer_sizes: Sequence[int], activation: str
) -> Layers:
    """Fully connected layers; with no hidden layer, a linear map."""
    sizes = [n_inputs, *(int(size) for size in hidden_layer_sizes)]
    layers: list[nn.Module] = []
    for width, following in itertools.pairwise(sizes):
        layers += [nn.Linear(width, following), ACTIVATIONS[activation]()]
    return Layers(*layers, nn.Linear(sizes[-1], n_outputs))


def mlp_pair(
    hidden_layer_sizes: Sequence[int], activation: str
) -> tuple[Factory, Factory]:
    """Return factories of an encoder, and of a decoder with the widths in reverse."""

    def layers(sizes: Sequence[int]) -> Factory:
        return partial(mlp, hidden_layer_sizes=sizes, activation=activation)

    return layers(hidden_layer_sizes), layers(hidden_layer_sizes[::-1])


class Blank(nn.Module):
    """Stands for a network of the user's, while no more than its widths is known."""

    def __init__(self, n_inputs: int, n_outputs: int) -> None:
        super().__init__()
        self.n_inputs, self.n_outputs = n_inputs, n_outputs
        self.weight = nn.Parameter(torch.empty(0))  # a dtype, as every network has


def build_network(
    network: nn.Module | Factory | None,
    default: Factory,
    n_inputs: int,
    n_outputs: int,
    name: str,
) -> nn.Module:
    """Make a network (n, n_inputs) -> (n, n_outputs), and try it.

    Parameters
    ----------
    network : Module, callable or None
        A module, which is copied; a factory of the two widths; or None.
    default : callable
        The factory to use for None.
    n_inputs, n_outputs : int
        Widths.
    name : str
        The constructor parameter, for errors.

    Raises
    ------
    ValueError
        If the module couples rows, or does not map the widths in both dtypes.
    """
    if network is None or network is Blank:  # ours: there is nothing to try
        return (network or default)(n_inputs, n_outputs).float()
    if isinstance(network, nn.Module):
        built = copy.deepcopy(network)
    else:
        built = network(n_inputs, n_outputs)
        if not isinstance(built, nn.Module):
            raise ValueError(
                f"The factory given as {name!r} must return a torch Module. Got "
                f"{built!r}."
            )
    for part in built.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"The network given as {name!r} contains {type(part).__name__}, which "
                "makes a row's density depend on its batch. Use LayerNorm or "
                "GroupNorm instead."
            )
    for dtype in (torch.float64, torch.float32):
        _try_network(built, n_inputs, n_outputs, dtype, name)
    return built.to("cpu", torch.float32)


def _try_network(
    network: nn.Module, n_inputs: int, n_outputs: int, dtype: torch.dtype, name: str
) -> None:
    """Raise a ValueError unless (2, n_inputs) becomes (2, n_outputs), row by row."""
    rows = torch.linspace(-1, 1, 2 * n_inputs, dtype=dtype).view(2, n_inputs)
    trial = copy.deepcopy(network).to("cpu", dtype).eval()
    expected = f"(n, {n_inputs}) to (n, {n_outputs}) in {dtype}"
    with torch.no_grad():
        try:
            given = rows.clone()
            out, alone = trial(given), trial(rows[:1].clone())
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"The network given as {name!r} must map {expected}. It failed with: "
                f"{error}"
            ) from error
    if not isinstance(out, Tensor) or (out.shape, out.dtype) != ((2, n_outputs), dtype):
        got = f"{tuple(out.shape)} in {out.dtype}" if isinstance(out, Tensor) else out
        raise ValueError(
            f"The network given as {name!r} must map {expected}. For two rows it "
            f"gave {got}."
        )
    if not torch.equal(given, rows):
        raise ValueError(
            f"The network given as {name!r} changes its input in place, which may be "
            "the user's array. Use inplace=False in its first layer."
        )
    if not torch.allclose(out[:1], alone, rtol=1e-3, atol=1e-5):
        raise ValueError(
            f"The network given as {name!r} gives a row another output alone than "
            "beside a second row. A density needs rows that do not see each other."
        )


class PassSize(NamedTuple):
    """How large one pass of a row through a network is."""

    widest: int  # the most numbers that any part makes of it
    work: int  # multiplications in linear and convolutional layers

    @classmethod
    def of(cls, network: nn.Module, rows: Tensor) -> Self:
        """Measure a pass of one row (1, p)."""
        sizes, work = [rows.numel()], [0]

        def see(part: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                sizes.append(output.numel())
                work.append(_multiplications(part, inputs, output))

        hooks = [part.register_forward_hook(see) for part in network.modules()]
        network(rows)
        for hook in hooks:
            hook.remove()
        return cls(max(sizes), sum(work))


def _multiplications(part: nn.Module, inputs: Any, output: Tensor) -> int:
    """Count those of a layer: its weights, for each place where they are used."""
    weight = getattr(part, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim < 2:
        return 0
    # A transposed convolution uses its weights (channels in, out, ...) at each input.
    places = inputs[0] if getattr(part, "transposed", False) else output
    return weight.numel() * places.numel() // len(weight)


class Standardizer(nn.Module):
    """Shift and scale of the training rows, inside the model.

    Rows become ``(x - shift) / scale`` on the way in; a density of standardised rows
    less ``log_scale`` is the density of the rows. A log-mass does not depend on units:
    with ``is_mass``, ``log_scale`` is zero. The buffers are kept wide, whatever the
    networks are trained in.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, shift: Tensor, scale: Tensor, is_mass: bool = False) -> None:
        super().__init__()
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)
        self.is_mass = is_mass

    @classmethod
    def identity(cls, n_features: int) -> Standardizer:
        """Return one that changes nothing."""
        zero = torch.zeros(n_features, dtype=torch.float64)
        return cls(zero, zero + 1)

    @classmethod
    def of(cls, mean: Tensor, variance: Tensor) -> Standardizer:
        """From mean and variance (d,); a constant column keeps its unit."""
        scale = variance.sqrt()
        # A spread that is only rounding is none.
        constant = scale <= 10 * torch.finfo(scale.dtype).eps * mean.abs()
        return cls(mean, torch.where(constant, 1.0, scale))

    @property
    def log_scale(self) -> Tensor:
        """Log-determinant of the scaling: the sum of log scales; 0 for a mass."""
        total = self.scale.log().sum()
        return torch.zeros_like(total) if self.is_mass else total

    def forward(self, x: Tensor) -> Tensor:
        """Standardise rows."""
        return (x - self.shift.to(x.dtype)).div_(self.scale.to(x.dtype))

    def rows(self, rows: FitRows) -> FitRows:
        """Have training rows standardised when they are used."""
        scaled = Scaled(self)
        as_they_are = scaled.is_identity and rows.dtype == torch.float32
        return rows if as_they_are else rows.map(scaled)

    def inverse(self, x: Tensor) -> Tensor:
        """Bring rows back to their units."""
        return x * self.scale.to(x.dtype) + self.shift.to(x.dtype)


class Scaled:
    """Standardises training rows in their own dtype, then makes them float32.

    Parameters
    ----------
    standardizer : Standardizer
        What it scales by, on the device of the rows.
    """

    def __init__(self, standardizer: Standardizer) -> None:
        self.standardizer = standardizer
        shift, scale = standardizer.shift, standardizer.scale
        self.is_identity = not shift.any() and bool((scale == 1).all())

    def __call__(self, x: Tensor) -> Tensor:
        """(n, d) rows -> (n, d) in float32."""
        return (x if self.is_identity else self.standardizer(x)).to(torch.float32)

    def __eq__(self, other: object) -> bool:
        """Whether another makes the same of rows."""
        return isinstance(other, Scaled) and all(
            torch.equal(getattr(self.standardizer, name), value)
            for name, value in other.standardizer.named_buffers()
        )

    __hash__ = None  # type: ignore[assignment]
