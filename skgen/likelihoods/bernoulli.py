"""Binary rows."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from skgen.engine import Rows
from skgen.likelihoods.base import Likelihood
from skgen.networks import Standardizer


class Bernoulli(Likelihood):
    """Binary rows: the decoder gives logits. The score is a log-mass.

    Values strictly between 0 and 1 are taken with a warning: they have no
    probability under this density, so that such scores compare with nothing else.

    Examples
    --------
    >>> import torch
    >>> from skgen.likelihoods import Bernoulli
    >>> Bernoulli().log_prob(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
    tensor([-1.3863])
    """

    standardizes = False

    def standardizer(self, rows: Rows, standardize: bool) -> Standardizer:
        """Return the identity: zeros and ones stay zeros and ones."""
        return Standardizer.identity(rows.x.shape[1])

    def set_rows(self, x: Tensor) -> None:
        """Warn where training rows are not binary."""
        if ((x > 0) & (x < 1)).any():
            warnings.warn(
                "X has values strictly between 0 and 1, which have no probability "
                "under likelihood='bernoulli'. Binarise X, or use "
                "likelihood='gaussian'.",
                UserWarning,
                stacklevel=2,
            )

    def check_rows(self, X: NDArray[Any], owner: str) -> None:
        """Raise a ValueError for values outside [0, 1]."""
        low, high = X.min(), X.max()
        if low < 0 or high > 1:
            raise ValueError(
                f"{owner} with likelihood='bernoulli' needs X in the range [0, 1], "
                f"but got min value {low:.5g}, max value {high:.5g}. Binarise or "
                "rescale X, or use likelihood='gaussian'."
            )

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Sum of x log p + (1 - x) log(1 - p), from the logits."""
        return (x * outputs - F.softplus(outputs)).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of ones."""
        return outputs.sigmoid()

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw zeros and ones."""
        uniform = torch.empty_like(outputs).uniform_(generator=generator)
        return (uniform < outputs.sigmoid()).to(outputs)
