"""Rows with columns of several kinds, and with cells that are missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skgen._networks.dense import Standardizer
from skgen._networks.lookups import SparseInputs
from skgen._training.data import WeightedRows
from skgen._utils.tensors import wide_dtype
from skgen.likelihoods.base import Likelihood, NormalCells
from skgen.likelihoods.kinds import Real
from skgen.likelihoods.specs import Spec, build, check_cells, checked


class Mixed(Likelihood):
    """Columns of several kinds, each with its density; cells may be missing, NaN.

    Given the code, cells are independent, so that the density of a row with missing
    cells is that of the rest: a product over what was observed. An encoder sees zeros
    in the place of missing cells, and beside all cells whether they are there.

    Parameters
    ----------
    kinds : sequence of str, int or tuple
        The kind of each column:

        - "real": normal, standardised inside.
        - "positive": log-normal, above 0.
        - "count": negative binomial, whole numbers from 0.
        - an int K: one of the levels 0, ..., K - 1, each with a probability.
        - ("ordinal", K): one of the ordered levels 0, ..., K - 1, by a cumulative
          logit.
        - ("bounded", low, high): a logistic density, truncated to the interval. An
          end may be infinite.
        - ("whole", low, high): whole numbers from low to high, with the masses of such
          a density.
        - ("inflated", kind, atoms): a mass at each of the values in the tuple
          ``atoms``, and otherwise the density of the kind, which is none of levels.

    Notes
    -----
    The score is the log of a density in the columns "real", "positive" and "bounded",
    and of a mass in the others. A column that is "inflated" has a mass at its atoms
    and otherwise what its kind has. Scores compare under the same kinds only.

    ``mean`` is that of numbers, and of levels the most probable; of ordered levels it
    is the one that is nearest to the mean.

    See Also
    --------
    skgen.MixedDensity : Tables with names and levels of any type.

    References
    ----------
    Nazabal, Olmos, Ghahramani & Valera, "Handling incomplete heterogeneous data using
    VAEs", Pattern Recognition 107, 2020.

    Mattei & Frellsen, "MIWAE: deep generative modelling and imputation of incomplete
    data sets", ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skgen import VAE
    >>> from skgen.likelihoods import Mixed
    >>> X = np.column_stack(load_iris(return_X_y=True))
    >>> X[::7, 2] = np.nan  # some petals were not measured
    >>> likelihood = Mixed(["real"] * 4 + [3])
    >>> vae = VAE(2, likelihood=likelihood, max_iter=60, random_state=0).fit(X)
    >>> filled = vae.impute([[5.0, 3.4, np.nan, 0.2, np.nan]])
    >>> filled[:, 4]  # its species, by the rest
    array([0.])
    """

    allows_missing = True
    later_tensors = (".offset", ".gain")  # of counts
    log_scales: Tensor  # (d,), of the standardiser

    def __init__(self, kinds: Sequence[Spec]) -> None:
        super().__init__()
        self.kinds = tuple(checked(kind) for kind in kinds)
        if not self.kinds:
            raise ValueError("The 'kinds' parameter of Mixed has no column.")
        self.options = {"kinds": self.kinds}
        self.blocks = nn.ModuleList()
        columns: dict[Spec, list[int]] = {}
        for i, kind in enumerate(self.kinds):
            columns.setdefault(kind, []).append(i)
        for kind, places in columns.items():
            self.blocks.append(block := build(kind, len(places)))
            index = torch.tensor(places)
            block.register_buffer("places", index, persistent=False)
        self.is_mass = all(block.is_mass for block in self._blocks)
        self.register_buffer(
            "log_scales", torch.zeros(len(self.kinds), dtype=torch.float64)
        )

    @property
    def _blocks(self) -> Iterator[Any]:
        """The densities of the kinds, each with the places of its columns."""
        return iter(self.blocks)

    def decoder_width(self, n_features: int) -> int:
        """Return the number of decoder outputs for a row."""
        return sum(len(block.places) * block.n_outputs for block in self._blocks)

    def encoder_width(self, n_features: int) -> int:
        """Return the number of encoder inputs for a row."""
        n_values = sum(len(block.places) * block.n_inputs for block in self._blocks)
        found: int = n_values + len(self.kinds)
        return found

    def input_columns(self, n_features: int) -> Tensor:
        """Return the column of each encoder input: of cells, then of their flags."""
        columns = [
            block.places.repeat_interleave(block.n_inputs) for block in self._blocks
        ]
        return torch.cat([*columns, torch.arange(n_features).to(columns[0])])

    def output_columns(self, n_features: int) -> Tensor:
        """Return the column of each decoder output."""
        columns = [
            block.places.repeat_interleave(block.n_outputs) for block in self._blocks
        ]
        return torch.cat(columns)

    # Rows before they are standardised.

    def check_rows(self, X: NDArray[Any], owner: str) -> None:
        """Raise a ValueError for cells outside the support of their column."""
        check_cells(X, self.kinds, owner)

    def standardizer(self, rows: WeightedRows, standardize: bool) -> Standardizer:
        """Return means and scales of the cells that are there; 0 and 1 of masses.

        Of many rows, those of a sample.
        """
        rows = rows.sample()
        wide = wide_dtype(rows.device)
        weight = rows.x.new_ones(len(rows)) if rows.weight is None else rows.weight
        mean = torch.zeros(len(self.kinds), dtype=wide, device=rows.device)
        variance = mean + 1
        if standardize:
            for block in self._blocks:
                places = block.places.to(rows.device)
                x, seen = _cells(rows.x.to(wide), places, block.filler)
                given = weight.to(wide)[:, None] * seen
                mean[places], variance[places] = block.scaling(x, given)
        found = Standardizer.of(mean, variance)
        self.log_scales = found.scale.log()
        for block in self._blocks:
            places = block.places.to(rows.device)
            block.set_scale(found.shift[places], found.scale[places])
        return found

    # Rows as the networks see them.

    def set_rows(self, x: Tensor) -> None:
        """Adapt to training rows (n, d): nothing but ``initial_outputs`` does."""

    def see_rows(self, parts: Iterable[Tensor]) -> None:
        """Free what rows contradict."""
        for x in parts:
            for block in self._blocks:
                block.see(*_cells(x, block.places, block.filler))

    def initial_outputs(self, x: Tensor) -> Tensor:
        """Adapt to training rows; outputs of the best constant decoder."""
        starts = [
            block.start(*_cells(x, block.places, block.filler)).flatten()
            for block in self._blocks
        ]
        return torch.cat(starts)

    @property
    def _real_blocks(self) -> list[Any]:
        """Densities of the numbers that are normal, or whose logarithm is."""
        return [block for block in self._blocks if isinstance(block, Real)]

    def n_normal(self, n_features: int) -> int:
        """Return the number of columns that are normal, or whose logarithm is."""
        widths = [len(block.places) for block in self._real_blocks]
        return sum(widths)

    def normal_cells(self, x: Tensor) -> NormalCells:
        """Return those numbers, or their logarithms."""
        values, inputs, outputs = [], [], []
        n_inputs = n_outputs = 0
        for block in self._blocks:
            block_places: Tensor = block.places
            places = torch.arange(len(block_places), device=x.device)
            if isinstance(block, Real):
                cells, seen = _cells(x, block_places, block.filler)
                cells = block.inputs(cells)[..., 0]
                values.append(torch.where(seen, cells, torch.nan))
                inputs.append(n_inputs + places)
                outputs.append(n_outputs + places)
            n_inputs += len(places) * block.n_inputs
            n_outputs += len(places) * block.n_outputs
        return NormalCells(torch.cat(values, 1), torch.cat(inputs), torch.cat(outputs))

    def start_noise(self, variance: Tensor, outputs: Tensor) -> None:
        """Start the sigmas of these numbers."""
        blocks = self._real_blocks
        parts = variance.split([len(block.places) for block in blocks])
        for block, part in zip(blocks, parts):
            block.normal.start_noise(part, outputs)

    def inputs(self, x: Tensor) -> Tensor:
        """Cells as their kinds have them, zeros where missing; and which are there."""
        parts = []
        for block in self._blocks:
            cells, seen = _cells(x, block.places, block.filler)
            parts.append((block.inputs(cells) * seen[..., None]).flatten(-2))
        return torch.cat([*parts, (~x.isnan()).to(x.dtype)], dim=-1)

    def sparse_inputs(self, x: Tensor) -> Tensor | SparseInputs:
        """Return the same inputs; those of columns of many levels by their places."""
        if not any(block.is_looked_up for block in self._blocks):
            return self.inputs(x)
        start, dense, places, index, values = 0, [], [], [], []
        for block in self._blocks:
            cells, seen = _cells(x, block.places, block.filler)
            stop = start + len(block.places) * block.n_inputs
            if block.is_looked_up:
                first = torch.arange(start, stop, block.n_inputs, device=x.device)
                index.append(first + cells.long())
                values.append(seen.to(x.dtype))
            else:
                dense.append((block.inputs(cells) * seen[..., None]).flatten(-2))
                places.append(torch.arange(start, stop, device=x.device))
            start = stop
        dense.append((~x.isnan()).to(x.dtype))
        places.append(torch.arange(start, start + x.shape[-1], device=x.device))
        return SparseInputs(
            torch.cat(dense, dim=-1),
            torch.cat(places),
            torch.cat(index, dim=-1),
            torch.cat(values, dim=-1),
        )

    def _parts(self, outputs: Tensor) -> Iterator[tuple[Any, Tensor]]:
        """Each density with its part of the outputs, (..., n, c, n_outputs)."""
        start = 0
        for block in self._blocks:
            shape = len(block.places), block.n_outputs
            stop = start + shape[0] * shape[1]
            yield block, outputs[..., start:stop].unflatten(-1, shape)
            start = stop

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Sum over the cells that are there.

        The standardiser takes the log-scale of every column; those of missing cells
        are given back.
        """
        total: Any = 0.0
        for block, part in self._parts(outputs):
            cells, seen = _cells(x, block.places, block.filler)
            scales = self.log_scales[block.places].to(part.dtype)
            if torch.is_grad_enabled() or seen.any():  # training does not wait for it
                log_prob = torch.where(seen, block.log_prob(part, cells), scales)
            else:
                log_prob = scales.expand(part.shape[:-1])
            total = total + log_prob.sum(-1)
        found: Tensor = total
        return found

    def mean(self, outputs: Tensor) -> Tensor:
        """Return means of numbers, and the most probable levels."""
        return self._joined(
            (block, block.value(block.expected(part)))
            for block, part in self._parts(outputs)
        )

    def mixture_mean(self, parts: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the mean (n, d) of a mixture whose components come in parts.

        A part has outputs (S, n, p), and log-weights (S, n), up to a constant per row.
        """
        log_total, means = None, list[Tensor]()
        for outputs, log_weight in parts:
            weight, log_sum = log_weight.softmax(0), log_weight.logsumexp(0)
            found = [
                torch.einsum("sn,sncm->ncm", weight, block.expected(part))
                for block, part in self._parts(outputs)
            ]
            total = log_sum if log_total is None else log_total.logaddexp(log_sum)
            share = (log_sum - total).exp()[:, None, None]
            means = [mean.lerp(new, share) for mean, new in zip(means or found, found)]
            log_total = total
        return self._joined(
            (block, block.value(mean)) for block, mean in zip(self._blocks, means)
        )

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw every cell."""
        return self._joined(
            (block, block.draw(part, generator)) for block, part in self._parts(outputs)
        )

    def _joined(self, parts: Any) -> Tensor:
        """Put columns (..., n, c) of the kinds in their places, (..., n, d)."""
        blocks, cells = zip(*parts)
        places = torch.cat([block.places for block in blocks])
        return torch.cat(cells, dim=-1)[..., places.argsort()]


def _cells(x: Tensor, places: Tensor, filler: float) -> tuple[Tensor, Tensor]:
    """Columns (n, c) of rows (n, d), filled where missing; and which are there."""
    cells = x[..., places]
    seen = ~cells.isnan()
    return torch.where(seen, cells, filler), seen
