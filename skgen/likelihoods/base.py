"""Base of the densities p(x|z) of a decoder."""

from __future__ import annotations

import copy
import copyreg
import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skgen._networks.dense import Standardizer
from skgen._networks.lookups import SparseInputs
from skgen._training.data import WeightedRows
from skgen._utils.moments import Moments
from skgen._utils.parameters import comparable

# Rows from which on it is no accident that every column has two values.
BINARY_ROWS = 20


class NormalCells(NamedTuple):
    """Columns that are normal about an output of the decoder."""

    values: Tensor  # (n, p), as the encoder gets them; NaN where missing
    inputs: Tensor  # (p,), their places among the encoder's inputs
    outputs: Tensor  # (p,), places of their means among the decoder's outputs


class Likelihood(nn.Module, ABC):
    """Base of the decoders' densities.

    Subclass it for a density of your own, and pass an instance as ``likelihood``:
    it is copied at each fit. ``log_prob``, ``mean`` and ``draw`` are all it must have.

    A decoder gives ``n_outputs`` numbers for each of d features, those of one feature
    side by side: ``outputs.unflatten(-1, (d, n_outputs))`` is (..., n, d, n_outputs).
    The leading dimensions (draws, rows) are free. Rows are those that the networks
    see, after the ``standardizer``; only ``check_rows`` gets them as the user gives
    them.

    Notes
    -----
    ``options`` are parameters as scikit-learn has them: ``likelihood__sigma`` is one of
    a search over ``VAE(likelihood=Gaussian())``. Where they are all arguments of the
    constructor, likelihoods of the same class and options are equal, and are cloned
    and pickled by these. Those inside a network have weights of their own, and are
    equal to themselves only.
    """

    #: Number of decoder outputs for each feature.
    n_outputs: int = 1
    #: Arguments of the constructor that make another of this kind; files hold them.
    options: Mapping[str, Any] = MappingProxyType({})
    #: Ends of names of tensors that files of version 0.1 lack: the constructor's are
    #: taken.
    later_tensors: tuple[str, ...] = ()
    #: Whether what is observed of a row is drawn: whether ``observe`` needs its noise.
    draws_rows: bool = False
    #: Whether ``log_prob`` is a log-mass, which does not depend on the rows' units.
    is_mass: bool = False
    #: Whether rows may have cells that are missing, NaN.
    allows_missing: bool = False

    _is_part: bool = False  # whether it is in a network, where it is as no other

    def __init__(self) -> None:
        super().__init__()

    # A parameter of an estimator, whose options are parameters.

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the options, by name.

        Parameters
        ----------
        deep : bool, default=True
            Whether to give the options of an option that is a likelihood, too, as
            ``base__sigma``.

        Returns
        -------
        params : dict
            Arguments of the constructor and their values.

        Examples
        --------
        >>> from skgen.likelihoods import Gaussian
        >>> Gaussian(sigma="shared").get_params()
        {'sigma': 'shared', 'min_sigma': 0.001}
        """
        found = dict(self.options)
        for name, option in self.options.items() if deep else ():
            if isinstance(option, Likelihood):
                inner = option.get_params().items()
                found |= {f"{name}__{key}": value for key, value in inner}
        return found

    def set_params(self, **params: Any) -> Self:
        """Set options, as if it were made with them.

        Parameters
        ----------
        **params : object
            Options by name; ``base__sigma`` is ``sigma`` of the option ``base``.

        Returns
        -------
        self : Likelihood
            This likelihood, which has learned nothing.

        Raises
        ------
        ValueError
            If it has no such option, or the value is out of its range.

        Examples
        --------
        >>> from skgen.likelihoods import Gaussian
        >>> Gaussian().set_params(sigma="shared")
        Gaussian(sigma='shared')
        """
        if params:
            self.__dict__ = type(self)(**self._options_with(params)).__dict__
        return self

    def _options_with(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options with others in their place, those of options last."""
        own = {name: value for name, value in params.items() if "__" not in name}
        options = {**self.options, **own}
        for name in params:
            outer, _, inner = name.partition("__")
            option = options.get(outer)
            if outer not in self.options or (
                inner and not isinstance(option, Likelihood)
            ):
                names = ", ".join(map(repr, self.get_params())) or "none"
                raise ValueError(
                    f"Invalid parameter {name!r} for likelihood {self!r}. It has "
                    f"{names}."
                )
            if inner and isinstance(option, Likelihood):
                changed = option.__sklearn_clone__()
                options[outer] = changed.set_params(**{inner: params[name]})
        return options

    @property
    def _arguments(self) -> tuple[Any, ...] | None:
        """Arguments of the constructor; None where ``options`` lacks any."""
        names = inspect.signature(type(self)).parameters
        if names.keys() != self.options.keys():
            return None
        return tuple(self.options[name] for name in names)

    def _identity(self) -> tuple[Any, ...]:
        """Return what is the same for likelihoods that are equal."""
        arguments = None if self._is_part else self._arguments
        if arguments is None:
            return (id(self),)
        return type(self), comparable(arguments)

    def __eq__(self, other: object) -> bool:
        """Return whether another is of the same class and options."""
        if not isinstance(other, Likelihood):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        """Return the same number for likelihoods that are equal."""
        return hash(self._identity())

    def __repr__(self) -> str:
        """Show the class, and the options that are not the usual ones."""
        if self._arguments is None:
            return super().__repr__()
        usual = inspect.signature(type(self)).parameters
        options = self.options.items()
        shown = [f"{n}={v!r}" for n, v in options if v != usual[n].default]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __sklearn_clone__(self) -> Self:
        """Make another of these options; copy one whose options do not say all."""
        arguments = self._arguments
        return copy.deepcopy(self) if arguments is None else type(self)(*arguments)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy it with what it has learned."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__ = copy.deepcopy(self.__dict__, memo)
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the options alone, where it is as the constructor leaves it."""
        if (arguments := self._arguments) is not None and not self._is_part:
            made = type(self)(*arguments)
            if _are_same(self.state_dict(), made.state_dict()):
                return type(self), arguments
        return copyreg.__newobj__, (type(self),), self.__getstate__()  # type: ignore

    def as_part(self) -> Self:
        """Return a copy that goes into a network.

        Modules tell those inside them apart by equality, so that one of two that are
        equal would have no weights: these are equal to themselves only.
        """
        part = copy.deepcopy(self)
        for module in _modules(part):
            if isinstance(module, Likelihood):
                module._is_part = True
        return part

    def encoder_width(self, n_features: int) -> int:
        """Return the number of encoder inputs for a row."""
        return n_features

    def decoder_width(self, n_features: int) -> int:
        """Return the number of decoder outputs for a row."""
        return n_features * self.n_outputs

    def input_columns(self, n_features: int) -> Tensor:
        """Return the column of each encoder input, (``encoder_width(d)``,)."""
        return torch.arange(n_features)

    def output_columns(self, n_features: int) -> Tensor:
        """Return the column of each decoder output, (``decoder_width(d)``,)."""
        return torch.arange(n_features).repeat_interleave(self.n_outputs)

    # Rows before they are standardised.

    def check_rows(self, X: NDArray[Any], owner: str) -> None:
        """Raise a ValueError where rows are outside the support."""

    def standardizer(self, rows: WeightedRows, standardize: bool) -> Standardizer:
        """Return the scale in which the networks and this density see rows.

        Parameters
        ----------
        rows : WeightedRows
            Training rows (n, d) and their weights: ``rows.chunks()`` gives them a part
            at a time, each with ``x`` and ``weight``; ``rows.x`` is all of them.
        standardize : bool
            The estimator's parameter.

        Returns
        -------
        standardizer : Standardizer
            Here, for densities on the real line: no mean and unit variance.
        """
        if not standardize:
            return Standardizer.identity(rows.shape[1])
        moments = Moments.of_parts((part.x, part.weight) for part in rows.chunks())
        return Standardizer.of(moments.mean, moments.variance)

    # Rows as the networks see them.

    def observe(self, x: Tensor, uniform: Tensor) -> Tensor:
        """Return what is observed of rows (n, d), given uniform noise (n, d)."""
        return x

    def inputs(self, x: Tensor) -> Tensor:
        """Return what an encoder gets of rows (n, d), (n, ``encoder_width(d)``)."""
        return x

    def sparse_inputs(self, x: Tensor) -> Tensor | SparseInputs:
        """Return the same inputs, for a network that takes those that are sparse."""
        return self.inputs(x)

    def set_rows(self, x: Tensor) -> None:
        """Adapt to training rows (n, d), of many to a sample, before training."""

    def see_rows(self, parts: Iterable[Tensor]) -> None:
        """Take notice of all rows, in parts (n, d), before training."""

    def initial_outputs(self, x: Tensor) -> Tensor | None:
        """Return outputs (d * n_outputs,) of the best constant decoder of rows (n, d).

        The bias of a decoder's last layer starts there. None where zero will do.
        """
        return None

    # Where a linear model is to start from: of columns that are normal, if there are.

    def n_normal(self, n_features: int) -> int:
        """Return the number of columns that are normal about an output."""
        return 0

    def normal_cells(self, x: Tensor) -> NormalCells:
        """Return those columns of rows (n, d)."""
        raise NotImplementedError

    def noise_near(self, variance: Tensor) -> Tensor:
        """Return variances (p,) of their noise that are possible, near the given."""
        return variance

    def start_noise(self, variance: Tensor, outputs: Tensor) -> None:
        """Start their noise at variances (p,): here, or in outputs (d * n_outputs,)."""

    @abstractmethod
    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """(..., n, d * n_outputs) outputs and (n, d) rows -> (..., n) nats."""

    @abstractmethod
    def mean(self, outputs: Tensor) -> Tensor:
        """(..., n, d * n_outputs) outputs -> (..., n, d) mean of x."""

    @abstractmethod
    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """(..., n, d * n_outputs) outputs -> (..., n, d) draw of x."""


def _modules(module: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and all inside, those that are equal too."""
    yield module
    for inner in filter(None, module._modules.values()):
        yield from _modules(inner)


def _are_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Return whether tensors have the same names, dtypes and values."""
    return one.keys() == other.keys() and all(
        value.dtype == other[name].dtype and value.equal(other[name].to(value.device))
        for name, value in one.items()
    )


class TwoValues:
    """Whether every column of rows, which come in parts, has two values at most."""

    def __init__(self) -> None:
        self.n, self.holds = 0, True
        self.seen: list[Tensor] = []  # the lowest and the highest of each column, (d,)

    def see(self, x: Tensor) -> None:
        """Take notice of rows (n, d)."""
        self.n += len(x)
        if self.holds and len(x):
            seen = [*self.seen, x]
            ends = torch.stack([*self.seen, *x.aminmax(dim=0)])
            low, high = self.seen = list(ends.aminmax(dim=0))
            self.holds = all(bool(((v == low) | (v == high)).all()) for v in seen)

    def warn(self) -> None:
        """Warn of such rows under a log-density, unless there are few, or constants."""
        if self.holds and self.n >= BINARY_ROWS and (self.seen[0] < self.seen[1]).any():
            warnings.warn(
                "Every column of X has two values at most. A density of such columns "
                "has no ceiling, and its score compares with no log-mass. Use "
                "likelihood='bernoulli' on values 0 and 1.",
                UserWarning,
                stacklevel=3,
            )
