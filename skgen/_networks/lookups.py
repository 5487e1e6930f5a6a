"""Rows of inputs that are mostly zeros, as one-hot levels are."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class SparseInputs(NamedTuple):
    """Rows of inputs (n, p) by what may be other than zero.

    A linear layer takes of its weights the columns that rows need, so that neither
    the rows nor the work have the width p.
    """

    dense: Tensor  # (n, q), inputs that every row has
    places: Tensor  # (q,), which of the p inputs these are
    further: Tensor  # (n, m), which other inputs of each row are not zero
    values: Tensor  # (n, m), and what they are

    def through(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the outputs (n, h) of a linear layer of weights (h, p)."""
        n, m = self.further.shape
        which = torch.cat([self.places, self.further.flatten()])
        needed = weight.index_select(1, which)
        fixed, found = needed.split([len(self.places), n * m], dim=1)
        sums = (found.unflatten(1, (n, m)) * self.values).sum(-1)
        result: Tensor = F.linear(self.dense, fixed, bias) + sums.T
        return result
