"""Rows of integer levels, as 8-bit pixels are. Scores are log-masses."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from skgen._networks.dense import Standardizer
from skgen._training.data import WeightedRows
from skgen._utils.parameters import integer
from skgen._utils.tensors import draw_levels, wide_dtype
from skgen.likelihoods.base import Likelihood

# A logistic is no narrower than exp(-3) bins, which leaves 1e-4 of it outside a bin,
# and no wider than flat.
LOG_BINS_MIN, LOG_SCALE_MAX = -3.0, 6.0
# Rows that are counted at a time.
COUNTED_ROWS = 4096


class Levels(Likelihood):
    """Base of the log-masses of integers 0, 1, ..., n_levels - 1.

    The networks see them as ``(level - shift) / scale``, within [-1, 1]. The scale is
    a power of two, so that an integer comes back as itself, in float32 too.
    """

    name: ClassVar[str]
    is_mass = True

    def __init__(self, n_levels: int = 256) -> None:
        super().__init__()
        rule = integer(2, 2**16)
        if not rule.accepts(n_levels):
            raise ValueError(
                f"The 'n_levels' parameter of {type(self).__name__} must be "
                f"{rule.words}. Got {n_levels!r} instead."
            )
        self.options, self.n_levels = {"n_levels": n_levels}, n_levels
        self.shift = (n_levels - 1) / 2
        self.scale = 2.0 ** math.ceil(math.log2(self.shift))

    def check_rows(self, X: NDArray[Any], owner: str) -> None:
        """Raise a ValueError for values that are no level."""
        top = self.n_levels - 1
        wrong = np.floor(X).clip(0, top) != X
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"{owner} with likelihood={self.name!r} needs X of integers in the "
                f"range [0, {top}], but column {column} has the value "
                f"{X[row, column]!s}. Round or rescale X, use likelihood="
                f"{type(self).__name__}(n_levels) for another range, or "
                "likelihood='gaussian'."
            )

    def standardizer(self, rows: WeightedRows, standardize: bool) -> Standardizer:
        """Return the map into [-1, 1], whatever the rows; a mass has no units."""
        ones = torch.ones(rows.shape[1], dtype=torch.float64)
        return Standardizer(self.shift * ones, self.scale * ones, is_mass=True)

    def _levels(self, x: Tensor) -> Tensor:
        """Levels of rows, as whole numbers from 0."""
        return (x * self.scale + self.shift).round()

    def _rows(self, levels: Tensor) -> Tensor:
        """Rows of levels."""
        return (levels - self.shift) / self.scale


class DiscretizedLogistic(Levels):
    """Integer levels: a logistic density, rounded. The decoder gives mean and scale.

    The mass of a level is what a logistic density has on the interval of width one
    around it; the first and the last level have its tails. The decoder's two outputs
    for each feature are the mean and the log scale, in units in which all levels span
    [-1, 1]. The score is a log-mass.

    Parameters
    ----------
    n_levels : int, default=256
        Rows are integers from 0 to ``n_levels - 1``.

    Notes
    -----
    ``-log_prob / (d log 2)``, with d features, is **bits per dimension**. It compares
    with those of other log-masses of the same levels, such as published ones on 8-bit
    images. A Gaussian score of the same rows is a log-density, which has no ceiling
    on integers; with uniform noise on [0, 1) added to the rows it is, in the mean, a
    lower bound on a log-mass.

    References
    ----------
    Kingma et al., "Improved variational inference with inverse autoregressive flow",
    NeurIPS 2016. Salimans et al., "PixelCNN++", ICLR 2017. Theis, van den Oord &
    Bethge, "A note on the evaluation of generative models", ICLR 2016.

    Examples
    --------
    >>> import math
    >>> import torch
    >>> from skgen.likelihoods import DiscretizedLogistic
    >>> likelihood = DiscretizedLogistic()
    >>> x = (torch.tensor([[0.0, 100.0, 255.0]]) - 127.5) / 128  # as networks see it
    >>> log_prob = likelihood.log_prob(torch.zeros(1, 6), x)
    >>> -log_prob / (3 * math.log(2))  # bits per dimension
    tensor([4.2631])
    """

    name = "discretized_logistic"
    n_outputs = 2

    def _parts(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and scale, (..., n, d) each."""
        mean, log_scale = outputs.unflatten(-1, (-1, 2)).unbind(-1)
        narrowest = LOG_BINS_MIN - math.log(self.scale)
        return mean, log_scale.clamp(narrowest, LOG_SCALE_MAX).exp()

    def initial_outputs(self, x: Tensor) -> Tensor:
        """Return the mean and spread of the rows: of a logistic, s pi / sqrt(3)."""
        spread = x.std(0, correction=0) * math.sqrt(3) / math.pi
        log_scale = spread.clamp(min=math.exp(LOG_BINS_MIN) / self.scale).log()
        return torch.stack([x.mean(0), log_scale], dim=1).flatten()

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Sum of log(F(b) - F(a)), F the logistic function, (a, b) the interval.

        F(b) - F(a) = F(b) F(-a) (1 - exp(a - b)), where nothing cancels.
        """
        mean, scale = self._parts(outputs)
        half = 0.5 / self.scale
        below = F.logsigmoid((x + half - mean) / scale)
        above = F.logsigmoid((mean - (x - half)) / scale)
        inside = below + above + (-torch.expm1(-2 * half / scale)).log()
        level = self._levels(x)
        tailed = torch.where(level == 0, below, inside)
        return torch.where(level == self.n_levels - 1, above, tailed).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the expected level: the sum of P(level >= k) over k > 0."""
        mean, scale = self._parts(outputs)
        total = torch.zeros_like(mean)
        for k in range(1, self.n_levels):  # one at a time: all would need the memory
            edge = (k - 0.5 - self.shift) / self.scale
            total += ((mean - edge) / scale).sigmoid()
        return self._rows(total)

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw from the logistic density, and round to a level."""
        mean, scale = self._parts(outputs)
        uniform = torch.empty_like(mean).uniform_(generator=generator)
        levels = self._levels(mean + scale * uniform.logit())
        return self._rows(levels.clamp(0, self.n_levels - 1))


class Categorical(Levels):
    """Integer levels, each with a probability: the decoder gives a logit for each.

    It takes levels in no order, and any shape of their distribution, at the price of
    ``n_levels`` outputs for each feature. The score is a log-mass, comparable as that
    of :class:`DiscretizedLogistic` is.

    Parameters
    ----------
    n_levels : int, default=256
        Rows are integers from 0 to ``n_levels - 1``.

    References
    ----------
    van den Oord, Kalchbrenner & Kavukcuoglu, "Pixel recurrent neural networks",
    ICML 2016.

    Examples
    --------
    >>> import torch
    >>> from skgen.likelihoods import Categorical
    >>> x = torch.tensor([[-1.0, 0.0]])  # levels 0 and 1 of 3, as networks see them
    >>> Categorical(3).log_prob(torch.zeros(1, 6), x)
    tensor([-2.1972])
    """

    name = "categorical"

    def __init__(self, n_levels: int = 256) -> None:
        super().__init__(n_levels)
        self.n_outputs = n_levels

    def _logits(self, outputs: Tensor) -> Tensor:
        """Logits (..., n, d, n_levels)."""
        found: Tensor = outputs.unflatten(-1, (-1, self.n_levels))
        return found

    def initial_outputs(self, x: Tensor) -> Tensor:
        """Return log-frequencies, with one more row that has part of every level."""
        d, K = x.shape[1], self.n_levels
        counts = torch.zeros(d * K, dtype=wide_dtype(x.device), device=x.device)
        offsets = K * torch.arange(d, device=x.device)
        for rows in x.split(COUNTED_ROWS):
            cells = (self._levels(rows).long() + offsets).flatten()
            counts += cells.bincount(minlength=d * K)
        return ((counts + 1 / K) / (len(x) + 1)).log().to(x.dtype)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Sum of the log-probabilities of the levels."""
        logits, level = self._logits(outputs), self._levels(x).long()
        at = level[..., None].expand(*logits.shape[:-1], 1)
        return logits.log_softmax(-1).gather(-1, at).squeeze(-1).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the expected level."""
        levels = torch.arange(self.n_levels).to(outputs)
        return self._logits(outputs).softmax(-1) @ self._rows(levels)

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw levels."""
        drawn = draw_levels(self._logits(outputs), generator)
        return self._rows(drawn.to(outputs))
