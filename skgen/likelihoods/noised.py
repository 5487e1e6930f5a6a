"""Columns of several kinds as numbers and levels, for models that add noise to rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from skgen._networks.dense import Standardizer
from skgen._training.data import WeightedRows
from skgen._utils.tensors import LOG_2PI, wide_dtype
from skgen.likelihoods.base import Likelihood
from skgen.likelihoods.kinds import level_shares
from skgen.likelihoods.specs import Spec, check_cells, checked, limits

# Uniform numbers stay so far from 0 and 1, that their quantiles are finite.
LEAST_UNIFORM = 1e-6


def n_levels_of(kind: Spec) -> int:
    """Return the number of levels of a kind; 0 where a column has numbers alone."""
    match kind:
        case int() | ("ordinal", _):
            return int(kind if isinstance(kind, int) else kind[1])
        case "inflated", _, atoms:
            return 1 + len(atoms)
    return 0


def numbers_of(kind: Spec) -> Spec | None:
    """Return the kind of the numbers of a kind; None where there are levels alone."""
    match kind:
        case int() | ("ordinal", _):
            return None
        case "inflated", base, _:
            found: Spec = base
            return found
    return kind


def is_whole(kind: Spec) -> bool:
    """Return whether a kind of numbers has whole ones."""
    return kind == "count" or (isinstance(kind, tuple) and kind[0] == "whole")


class Noised(Likelihood):
    """Rows that are what a model draws, of m numbers and c levels inside.

    A column is a number, a level, or both: an "inflated" one is a level, which atom it
    is at or none, and beside it a number, which is noise where it is at an atom. Whole
    numbers are spread over cells of width one, positive ones and counts are logarithms.
    What is spread is drawn, and its density is subtracted: a bound on the log-mass.

    Parameters
    ----------
    kinds : sequence of str, int or tuple, or None, default=None
        The kind of each column, as ``Mixed`` has them; None: all are "real".

    Examples
    --------
    >>> import torch
    >>> from skgen._training.data import Rows
    >>> from skgen.likelihoods.noised import Noised
    >>> noised = Noised(["count", 3])
    >>> x = torch.tensor([[2.0, 1.0], [7.0, 0.0]])
    >>> _ = noised.standardizer(Rows(x), True)
    >>> noised.set_rows(x)
    >>> inside = noised.observe(x, torch.full((2, 2), 0.3))
    >>> noised.mean(inside)
    tensor([[2., 1.],
            [7., 0.]])
    """

    allows_missing = True
    centre: Tensor  # (m,), of numbers, after logarithms
    spread: Tensor  # (m,)
    share: Tensor  # (c, K)
    atoms: Tensor  # (c, K - 1): value of each level but the first; NaN where it is none

    def __init__(self, kinds: Sequence[Spec] | None = None) -> None:
        super().__init__()
        self.kinds = None if kinds is None else tuple(checked(kind) for kind in kinds)
        self.options = {"kinds": self.kinds}
        kinds = self.kinds or ()
        self.numbers = [j for j, kind in enumerate(kinds) if numbers_of(kind)]
        self.levels = [j for j, kind in enumerate(kinds) if n_levels_of(kind)]
        bases = [numbers_of(kinds[j]) for j in self.numbers]
        logs = [base in ("positive", "count") for base in bases]
        whole = [is_whole(base) for base in bases if base]
        self.are_logs = torch.tensor(logs, dtype=torch.bool)
        self.are_whole = torch.tensor(whole, dtype=torch.bool)
        self.are_plain = [base == kinds[j] for base, j in zip(bases, self.numbers)]
        sizes = [n_levels_of(kinds[j]) for j in self.levels]
        c, K = len(sizes), max(sizes, default=1)
        self.register_buffer("centre", torch.zeros(len(bases), dtype=torch.float64))
        self.register_buffer("spread", torch.ones(len(bases), dtype=torch.float64))
        self.register_buffer("share", torch.zeros(c, K))
        atoms = torch.full((c, K - 1), torch.nan, dtype=torch.float64)
        for row, j in zip(atoms, self.levels):
            values = _atoms_of(kinds[j])
            row[: len(values)] = torch.tensor(values, dtype=torch.float64)
        self.register_buffer("atoms", atoms, persistent=False)
        # Whether rows inside are others than those that are standardised.
        self.draws_rows = bool(self.levels) or any(
            numbers_of(kind) not in ("real", None) for kind in kinds
        )

    def n_numbers(self, n_features: int) -> int:
        """Return m."""
        return n_features if self.kinds is None else len(self.numbers)

    @property
    def n_level_columns(self) -> int:
        """Return c."""
        return len(self.levels)

    @property
    def n_levels(self) -> int:
        """Return K, the most levels of a column."""
        return self.share.shape[-1] if self.levels else 0

    # Rows before they are standardised.

    def check_rows(self, X: NDArray[Any], owner: str) -> None:
        """Raise a ValueError for cells outside the support of their column."""
        if self.kinds is not None:
            check_cells(X, self.kinds, owner)

    def standardizer(self, rows: WeightedRows, standardize: bool) -> Standardizer:
        """Return means and scales of real numbers; 0 and 1 of others.

        Whole numbers are seen from one near their mean: they keep their digits.
        """
        found = super().standardizer(rows, standardize)
        if self.kinds is None:
            return found
        for j, kind in enumerate(self.kinds):
            base = numbers_of(kind)
            is_interval = isinstance(base, tuple) and base[0] == "whole"
            if is_interval and base == kind:
                found.shift[j], found.scale[j] = found.shift[j].round(), 1.0
            elif base != kind or base in ("positive", "count"):
                found.shift[j], found.scale[j] = 0.0, 1.0
        return found

    # Rows as the networks see them.

    def set_rows(self, x: Tensor) -> None:
        """Learn centres and spreads of numbers, and the shares of levels."""
        if not self.draws_rows:
            return
        wide = x.to(wide_dtype(x.device))
        cells = self._cells(wide)
        if self.levels:
            seen = torch.ones_like(cells, dtype=torch.bool)
            shares = level_shares(cells, seen, self.n_levels)
            sizes = [n_levels_of(self.kinds[j]) for j in self.levels if self.kinds]
            there = torch.arange(self.n_levels) < torch.tensor(sizes)[:, None]
            shares = torch.where(there.to(x.device), shares, 0.0)
            self.share.copy_(shares / shares.sum(-1, keepdim=True))
        values = self._logs(wide, torch.full_like(wide, 0.5))
        for i, is_plain in enumerate(self.are_plain):
            if is_plain and not (self.are_logs[i] or self.are_whole[i]):
                continue  # the standardiser did it
            there = ~self._are_hidden(cells)[:, i]
            part = values[there, i]
            if len(part) > 1 and part.std() > 0:
                self.centre[i], self.spread[i] = part.mean(), part.std()

    def observe(self, x: Tensor, uniform: Tensor) -> Tensor:
        """Rows (n, d) as m numbers and c levels (n, m + c), NaN where missing."""
        if not self.draws_rows:
            return x
        uniform = uniform.clamp(LEAST_UNIFORM, 1 - LEAST_UNIFORM)
        cells = self._cells(x)
        centre, spread = self.centre.to(x.dtype), self.spread.to(x.dtype)
        values = (self._logs(x, uniform) - centre) / spread
        noise = torch.special.ndtri(uniform[..., self.numbers])
        values = torch.where(self._are_hidden(cells), noise, values)
        return torch.cat([values, cells], dim=-1)

    def _logs(self, x: Tensor, uniform: Tensor) -> Tensor:
        """Numbers (n, m) of rows (n, d): whole ones spread, logarithms of positive."""
        x, uniform = x[..., self.numbers], uniform[..., self.numbers]
        logs, whole = self.are_logs.to(x.device), self.are_whole.to(x.device)
        x = x + whole * (uniform + logs * 1.0)
        return torch.where(logs, x.log(), x)

    def _cells(self, x: Tensor) -> Tensor:
        """Levels (n, c) of rows (n, d)."""
        x = x[..., self.levels]
        atoms = self.atoms.to(x.dtype)
        # An atom is met once at most.
        places = torch.arange(1, atoms.shape[-1] + 1, device=x.device)
        found = ((x[..., None] == atoms) * places).sum(-1)
        is_level = atoms.isnan().all(-1)
        return torch.where(is_level | x.isnan(), x, found.to(x.dtype))

    def _are_hidden(self, cells: Tensor) -> Tensor:
        """Return which numbers (n, m) are noise: those of cells (n, c) at an atom."""
        hidden = torch.zeros(
            *cells.shape[:-1], len(self.numbers), dtype=torch.bool, device=cells.device
        )
        for i, (j, is_plain) in enumerate(zip(self.numbers, self.are_plain)):
            if not is_plain:
                hidden[..., i] = cells[..., self.levels.index(j)] > 0
        return hidden

    def without_noise(self, inside: Tensor) -> Tensor:
        """Rows (n, m + c) inside, NaN for the numbers that are noise."""
        if all(self.are_plain):
            return inside
        m = len(self.numbers)
        hidden = self._are_hidden(inside[..., m:])
        values = torch.where(hidden, torch.nan, inside[..., :m])
        return torch.cat([values, inside[..., m:]], dim=-1)

    def log_det(self, inside: Tensor) -> Tensor:
        """Log (n,) of what a density inside is multiplied by; missing ones have none.

        For numbers that are noise: less the density that they were drawn from.
        """
        if not self.draws_rows:
            return inside.new_zeros(inside.shape[:-1])
        y, cells = inside.split([len(self.numbers), len(self.levels)], dim=-1)
        centre, spread = self.centre.to(y.dtype), self.spread.to(y.dtype)
        slope = torch.where(self.are_logs.to(y.device), -(y * spread + centre), 0.0)
        of_noise = 0.5 * (y.square() + LOG_2PI)
        found = torch.where(self._are_hidden(cells), of_noise, slope - spread.log())
        return found.nan_to_num(0.0).sum(-1)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return 0 for rows that are the outputs, and -inf for others."""
        same = (self.mean(outputs) == x).all(-1)
        return torch.where(same, 0.0, -torch.inf).to(outputs.dtype)

    def mean(self, outputs: Tensor) -> Tensor:
        """Rows (..., n, d), standardised, of rows (..., n, m + c) inside."""
        if not self.draws_rows:
            return outputs
        assert self.kinds is not None
        y, cells = outputs.split([len(self.numbers), len(self.levels)], dim=-1)
        values = y * self.spread.to(y.dtype) + self.centre.to(y.dtype)
        logs, whole = self.are_logs.to(y.device), self.are_whole.to(y.device)
        values = torch.where(logs, values.exp() - 1.0 * whole, values)
        values = torch.where(whole, values.floor(), values)
        rows: Tensor = y.new_zeros(*y.shape[:-1], len(self.kinds))
        rows[..., self.numbers] = values
        for i, j in enumerate(self.levels):
            rows[..., j] = self._valued(cells[..., i], i, rows[..., j])
        return rows

    def _valued(self, cells: Tensor, i: int, numbers: Tensor) -> Tensor:
        """Values (...) of cells of a column of levels, and of the numbers beside it."""
        atoms = self.atoms[i].to(numbers.dtype)
        if atoms.isnan().all():
            return cells
        at = atoms[(cells.long() - 1).clamp(min=0)]
        return torch.where(cells > 0, at, numbers)

    def within(self, rows: Tensor) -> Tensor:
        """Move rows (..., d) of the user's units into the intervals of columns."""
        if self.kinds is None:
            return rows
        ends = torch.tensor([limits(kind) for kind in self.kinds], dtype=rows.dtype)
        low, high = ends.to(rows.device).unbind(-1)
        is_level = torch.tensor([numbers_of(kind) is None for kind in self.kinds])
        return torch.where(is_level.to(rows.device), rows, rows.clamp(low, high))

    def average(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Mean (n, d) of rows (P, n, d) by weights (P, n); of levels the likeliest."""
        found = (weight[..., None] * rows).sum(0)
        for j in self.levels:
            if self.kinds and numbers_of(self.kinds[j]) is None:
                levels = torch.arange(self.n_levels, device=rows.device)
                votes = (rows[..., j, None] == levels) * weight[..., None]
                found[..., j] = votes.sum(0).argmax(-1).to(rows.dtype)
        return found

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the same: nothing more is left to chance."""
        return self.mean(outputs)


def _atoms_of(kind: Spec) -> tuple[float, ...]:
    """Return the repeated values of a kind."""
    match kind:
        case "inflated", _, atoms:
            found: tuple[float, ...] = atoms
            return found
    return ()
