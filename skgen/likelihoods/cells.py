"""Discrete columns as cells of values, for densities of rows that are continuous."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from skgen._networks.dense import Standardizer
from skgen._training.data import WeightedRows
from skgen._utils.tensors import wide_dtype
from skgen.likelihoods.base import Likelihood

# Part of a step that a value may be off its level: what float32 rounds away, and more.
NEAR = 1e-3


class Cells(Likelihood):
    """Rows that are what a model draws, rounded in columns of discrete values.

    A value of a discrete column stands for the cell around it, as wide as the step
    between values. A model of continuous rows sees a point of the cell that is drawn
    uniformly (dequantisation), and what it draws is rounded to the nearest value.

    Parameters
    ----------
    columns : {"auto"}, bool or sequence of int, default="auto"
        Discrete columns: those whose values are all integers, all, none, or some.

    Raises
    ------
    ValueError
        By ``standardizer``, where values of a column that is given are not evenly
        spaced, or where there is no such column.

    References
    ----------
    Theis, van den Oord & Bethge, "A note on the evaluation of generative models", ICLR
    2016.

    Examples
    --------
    >>> import torch
    >>> from skgen._training.data import Rows
    >>> from skgen.likelihoods.cells import Cells
    >>> cells = Cells()
    >>> _ = cells.standardizer(Rows(torch.tensor([[1.0, 0.3], [5.0, 0.7]])), True)
    >>> cells.step
    tensor([4., 0.], dtype=torch.float64)
    >>> cells.mean(torch.tensor([[3.8, 0.4]]))
    tensor([[5.0000, 0.4000]])
    """

    step: Tensor  # (d,), between the values of a column; 0 where it is continuous
    origin: Tensor  # (d,), one of the values

    def __init__(self, columns: str | bool | Sequence[int] = "auto") -> None:
        super().__init__()
        if not isinstance(columns, (str, bool)):
            columns = [int(j) for j in columns]
        self.columns: str | bool | list[int] = columns
        self.options = {"columns": self.columns}
        self.register_buffer("step", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("origin", torch.zeros(0, dtype=torch.float64))

    def standardizer(self, rows: WeightedRows, standardize: bool) -> Standardizer:
        """Return the scale of rows, and learn the steps of discrete columns."""
        values = distinct_values(rows, self._candidates(rows))
        dtype = wide_dtype(rows.device)
        step = torch.zeros(rows.shape[1], dtype=dtype)
        origin = torch.zeros_like(step)
        for j, found in values.items():
            step[j], origin[j] = step_of(found, j), found[0]
        self.step, self.origin = step.to(self.step.dtype), origin.to(self.step.dtype)
        return super().standardizer(rows, standardize)

    def _candidates(self, rows: WeightedRows) -> list[int]:
        """Return the columns that are discrete."""
        d = rows.shape[1]
        if isinstance(self.columns, list):
            absent = [j for j in self.columns if j >= d]
            if absent:
                raise ValueError(
                    f"dequantize={self.columns} names column {absent[0]}, and X has "
                    f"{d}, counted from 0. Name columns that are there."
                )
            return self.columns
        if isinstance(self.columns, bool):
            return list(range(d)) if self.columns else []
        whole = torch.ones(d, dtype=torch.bool, device=rows.device)
        for part in rows.chunks():
            whole &= (part.x == part.x.round()).all(0)
        return [int(j) for j in whole.nonzero().squeeze(1)]

    def widths(self, scale: Tensor) -> Tensor:
        """Return the widths (d,) of cells in rows that were divided by a scale (d,)."""
        return self.step / scale

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return 0 for rows that are the rounded outputs, and -inf for others."""
        same = (self.mean(outputs) == x).all(-1)
        return torch.where(same, 0.0, -torch.inf).to(outputs.dtype)

    def mean(self, outputs: Tensor) -> Tensor:
        """Round discrete columns of rows (..., n, d) to their nearest values."""
        step, origin = self.step.to(outputs.dtype), self.origin.to(outputs.dtype)
        is_discrete = step > 0
        size = torch.where(is_discrete, step, 1.0)
        nearest = origin + ((outputs - origin) / size).round() * size
        return torch.where(is_discrete, nearest, outputs)

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Round likewise: nothing is left to chance."""
        return self.mean(outputs)


def distinct_values(rows: WeightedRows, columns: Sequence[int]) -> dict[int, Tensor]:
    """Return the sorted values of some columns, on the CPU."""
    found: dict[int, Any] = {}
    for part in rows.chunks() if columns else ():
        for j in columns:
            values = part.x[:, j].to(wide_dtype(part.x.device)).cpu()
            seen = [found[j]] if j in found else []
            found[j] = torch.cat([*seen, values]).unique()
    return found


def step_of(values: Tensor, column: int) -> float:
    """Return the step between sorted values (m,); 1 where there is one, or integers."""
    gaps = values.diff()
    if not len(gaps):
        return 1.0
    length, n = gaps.sum(), (gaps / gaps.min()).round().sum()
    step = length / n
    places = (values - values[0]) / step
    if (places - places.round()).abs().max() <= NEAR:
        return float(step)
    if (values == values.round()).all():
        return 1.0
    raise ValueError(
        f"dequantize asks for cells of column {column}, whose values are not evenly "
        f"spaced: the least step is {float(gaps.min()):.4g}, and others are no "
        "multiples of it. Leave the column out."
    )
