"""Columns that depend on each other given the code: one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from skgen._networks.dense import Standardizer
from skgen._networks.lookups import SparseInputs
from skgen._training.data import WeightedRows
from skgen._utils.parameters import comparable, integer, sequence
from skgen.likelihoods.base import Likelihood
from skgen.likelihoods.gaussian import Gaussian

ORDERS = ("given", "random")


class Autoregressive(Likelihood):
    """Columns that depend on the code and on the columns before them: an exact density.

    ``p(x|z) = p(x_1|z) p(x_2|x_1, z) ...``, by the densities of another likelihood,
    whose outputs are those of the decoder plus what a network makes of the columns
    before: a linear map, and a hidden layer that the decoder shifts. Masks of its
    weights keep later columns out, so that a row is scored in one pass; a draw takes
    one pass for each column. So a code need not say what the columns say of each other.

    Parameters
    ----------
    base : Likelihood, default=None
        Densities of the columns; None is ``Gaussian()``. Of :class:`Mixed`, missing
        cells are not taken.
    order : {"given", "random"} or sequence of int, default="given"
        Order of the columns: as they are, at random for each fit, or their places.
    n_hidden : int, default=128
        Units of the hidden layer.

    Notes
    -----
    ``mean`` is that of each column given the means of those before it.

    A strong p(x|z) may leave the code without use: early stopping, ``free_bits`` of
    ``BetaVAE`` and fewer units keep it in use.

    References
    ----------
    Germain, Gregor, Murray & Larochelle, "MADE: masked autoencoder for distribution
    estimation", ICML 2015. Chen et al., "Variational lossy autoencoder", ICLR 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skgen import VAE
    >>> from skgen.likelihoods import Autoregressive, Bernoulli
    >>> rng = np.random.RandomState(0)
    >>> X = np.repeat(rng.randint(2, size=(300, 3)), 2, axis=1)  # columns in pairs
    >>> likelihood = Autoregressive(Bernoulli())
    >>> model = VAE(1, likelihood=likelihood, random_state=0, learning_rate_init=1e-2)
    >>> bool(model.fit(X).score(X) > -3 * np.log(2) - 0.3)  # a pair is one choice
    True
    """

    ranks: Tensor  # (d,), of each column in the order

    def __init__(
        self,
        base: Likelihood | None = None,
        order: Literal["given", "random"] | Sequence[int] = "given",
        n_hidden: int = 128,
    ) -> None:
        super().__init__()
        if not (base is None or isinstance(base, Likelihood)):
            raise ValueError(
                "The 'base' parameter of Autoregressive must be a likelihood of "
                f"skgen.likelihoods, such as Bernoulli(), or None. Got {base!r}."
            )
        if not _is_order(order):
            raise ValueError(
                "The 'order' parameter of Autoregressive must be 'given', 'random' or "
                f"the places of all columns in some order. Got {order!r} instead."
            )
        if not integer(1).accepts(n_hidden):
            raise ValueError(
                "The 'n_hidden' parameter of Autoregressive must be "
                f"{integer(1).words}. Got {n_hidden!r} instead."
            )
        order = order if isinstance(order, str) else tuple(int(i) for i in order)
        self.options = {"base": base, "order": order, "n_hidden": n_hidden}
        self.base = Gaussian() if base is None else base.__sklearn_clone__()
        self.order, self.n_hidden = order, n_hidden
        self.n_outputs, self.is_mass = self.base.n_outputs, self.base.is_mass
        self.draws_rows = self.base.draws_rows
        # Their shapes come from rows.
        self.first = nn.Parameter(torch.zeros(n_hidden, 1))
        self.last = nn.Parameter(torch.zeros(1, n_hidden))
        self.linear = nn.Parameter(torch.zeros(1, 1))
        self.register_buffer("ranks", torch.zeros(1, dtype=torch.int64))

    def _identity(self) -> tuple[Any, ...]:
        if self._is_part:
            return (id(self),)
        base: Any = self.options["base"]
        return type(self), base, comparable(self.order), self.n_hidden

    def encoder_width(self, n_features: int) -> int:
        """Return the number of encoder inputs for a row: that of the base."""
        return self.base.encoder_width(n_features)

    def decoder_width(self, n_features: int) -> int:
        """Return the number of decoder outputs: of the base, and of hidden units."""
        return self.base.decoder_width(n_features) + self.n_hidden

    def input_columns(self, n_features: int) -> Tensor:
        """Return the column of each of the base's inputs."""
        return self.base.input_columns(n_features)

    def output_columns(self, n_features: int) -> Tensor:
        """Return the column of each of the base's outputs."""
        return self.base.output_columns(n_features)

    # Rows, as the base has them.

    def check_rows(self, X: NDArray[Any], owner: str) -> None:
        """Raise a ValueError where rows are outside the support."""
        self.base.check_rows(X, owner)

    def standardizer(self, rows: WeightedRows, standardize: bool) -> Standardizer:
        """Return the scale of the base."""
        return self.base.standardizer(rows, standardize)

    def observe(self, x: Tensor, uniform: Tensor) -> Tensor:
        """Return what is observed of rows (n, d), given uniform noise (n, d)."""
        return self.base.observe(x, uniform)

    def inputs(self, x: Tensor) -> Tensor:
        """Return what an encoder gets of rows (n, d)."""
        return self.base.inputs(x)

    def sparse_inputs(self, x: Tensor) -> Tensor | SparseInputs:
        """Return the same inputs, for a network that takes those that are sparse."""
        return self.base.sparse_inputs(x)

    def set_rows(self, x: Tensor) -> None:
        """Adapt the base to rows (n, d), and start at it: weights of outputs are zero.

        Raises
        ------
        ValueError
            If the order is not one of the columns.
        """
        self.base.set_rows(x)
        d = x.shape[1]
        self.ranks = self._places(d).argsort().to(x.device)
        m, p = self.base.encoder_width(d), self.base.decoder_width(d)
        self.first.data = (torch.randn(self.n_hidden, m) / math.sqrt(m)).to(x)
        self.last.data = x.new_zeros(p, self.n_hidden)
        self.linear.data = x.new_zeros(p, m)

    def _places(self, d: int) -> Tensor:
        """Return the columns in their order."""
        if self.order == "random":
            return torch.randperm(d)
        if self.order == "given":
            return torch.arange(d)
        if len(self.order) != d:
            raise ValueError(
                f"The 'order' parameter of Autoregressive has {len(self.order)} "
                f"columns, and X has {d}. Give the places of all of them, or 'random'."
            )
        return torch.tensor(self.order)

    def see_rows(self, parts: Iterable[Tensor]) -> None:
        """Take notice of all rows, in parts (n, d), before training."""
        self.base.see_rows(parts)

    def initial_outputs(self, x: Tensor) -> Tensor | None:
        """Return outputs of the best constant decoder of the base, and zeros."""
        outputs = self.base.initial_outputs(x)
        return None if outputs is None else F.pad(outputs, (0, self.n_hidden))

    # The density.

    def outputs_given(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return the base's outputs (..., n, p), of a decoder's (..., n, p + h).

        Each knows of the inputs (..., n, m) those of the columns before its own.
        """
        d, device = len(self.ranks), outputs.device
        sees = self.ranks[self.base.input_columns(d).to(device)]  # (m,)
        rank = self.ranks[self.base.output_columns(d).to(device)]  # (p,)
        # A hidden unit sees columns up to a rank, and speaks to those beyond it.
        up_to = torch.arange(self.n_hidden, device=device) * (d - 1) // self.n_hidden
        first = self.first * (sees <= up_to[:, None])
        last = self.last * (rank[:, None] > up_to)
        linear = self.linear * (rank[:, None] > sees)
        own, shift = outputs.split([len(rank), self.n_hidden], dim=-1)
        hidden = (shift + F.linear(inputs, first)).tanh()
        found: Tensor = own + F.linear(inputs, linear) + F.linear(hidden, last)
        return found

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Sum of log p of each column, given those before it."""
        found = self.outputs_given(outputs, self.base.inputs(x))
        return self.base.log_prob(found, x)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the mean of each column given the means of those before it."""
        return self._one_by_one(outputs, self.base.mean)

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw each column given the draws of those before it."""
        return self._one_by_one(outputs, lambda given: self.base.draw(given, generator))

    def _one_by_one(self, outputs: Tensor, cells: Callable[[Tensor], Tensor]) -> Tensor:
        """Fill rows (..., n, d), a column in each pass, by cells that outputs give."""
        d = len(self.ranks)
        m = self.base.encoder_width(d)
        x = cells(self.outputs_given(outputs, outputs.new_zeros(m)))
        for rank in range(1, d):
            given = self.outputs_given(outputs, self.base.inputs(x))
            x = torch.where(self.ranks == rank, cells(given), x)
        return x


def _is_order(order: Any) -> bool:
    """Return whether an order has a name, or has each of its places once."""
    if isinstance(order, str):
        return order in ORDERS
    if not sequence(integer(0), 1).accepts(order):
        return False
    return sorted(order) == [*range(len(order))]
