"""Base of the densities p(x|z) of a decoder."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skgen._networks.dense import Standardizer
from skgen._networks.lookups import SparseInputs
from skgen._training.data import WeightedRows
from skgen._utils.moments import Moments

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

    def encoder_width(self, n_features: int) -> int:
        """Return the number of encoder inputs for a row."""
        return n_features

    def decoder_width(self, n_features: int) -> int:
        """Return the number of decoder outputs for a row."""
        return n_features * self.n_outputs

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


class TwoValues:
    """Whether every column of rows, which come in parts, has two values at most."""

    def __init__(self) -> None:
        self.n, self.holds = 0, True
        self.seen: list[Tensor] = []  # the lowest and the highest of each column, (d,)

    def see(self, x: Tensor) -> None:
        """Take notice of rows (n, d)."""
        self.n += len(x)
        if self.holds:
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
