"""Rows in [0, 1]: binary ones, grey ones binarised, grey ones as they are."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import torch
from numpy.typing import NDArray
from scipy.special import bernoulli
from torch import Tensor
from torch.nn import functional as F

from skgen._networks.dense import Standardizer
from skgen._training.data import WeightedRows
from skgen._utils.tensors import wide_dtype
from skgen.likelihoods.base import Likelihood, TwoValues

# Largest logit that a continuous Bernoulli starts from. A column that is almost always
# 0 has a better constant beyond. But with 1000 the mean of held-out digits gains five
# nats, and one row loses 200: columns of zeros have no ceiling.
MAX_INITIAL_LOGIT = 100.0
# log(sinh(t / 2) / (t / 2)) = c_1 t^2 + c_2 t^4 + ..., c_i = B_2i / (2i (2i)!): up to
# |t| = 1/2 six terms leave out 1e-16, and the formula itself would lose digits.
NEAR = 0.5
SERIES = [
    float(bernoulli(12)[2 * i]) / (2 * i * math.factorial(2 * i)) for i in range(1, 7)
]


class UnitInterval(Likelihood):
    """Base of the densities of rows in [0, 1], which are not standardised."""

    name: ClassVar[str]
    remedy: ClassVar[str]

    def standardizer(self, rows: WeightedRows, standardize: bool) -> Standardizer:
        """Return the identity: 0 and 1 stay 0 and 1."""
        return Standardizer.identity(rows.shape[1])

    def check_rows(self, X: NDArray[Any], owner: str) -> None:
        """Raise a ValueError for values outside [0, 1]."""
        low, high = X.min(), X.max()
        if low < 0 or high > 1:
            raise ValueError(
                f"{owner} with likelihood={self.name!r} needs X in the range [0, 1], "
                f"but got min value {low!s}, max value {high!s}. {self.remedy} X, "
                "or use likelihood='gaussian'."
            )


class Bernoulli(UnitInterval):
    """Binary rows: the decoder gives logits. The score is a log-mass.

    Values strictly between 0 and 1 have no probability under this density. They are
    binarised at random with ``binarize="dynamic"``; else they are taken with a
    warning, and such scores compare with nothing else.

    Parameters
    ----------
    binarize : {"dynamic"}, default=None
        "dynamic" takes a value in [0, 1] for the probability of a 1, and draws: afresh
        for each minibatch, and for a score in a way that is a function of the row.
        The score is the log-mass of the binarised row.

    References
    ----------
    Salakhutdinov & Murray, "On the quantitative analysis of deep belief networks",
    ICML 2008.

    Examples
    --------
    >>> import torch
    >>> from skgen.likelihoods import Bernoulli
    >>> Bernoulli().log_prob(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]))
    tensor([-1.3863])
    """

    name = "bernoulli"
    is_mass = True
    remedy = "Binarise or rescale"

    def __init__(self, binarize: Literal["dynamic"] | None = None) -> None:
        super().__init__()
        if binarize not in (None, "dynamic"):
            raise ValueError(
                "The 'binarize' parameter of Bernoulli must be 'dynamic' or None. Got "
                f"{binarize!r} instead."
            )
        self.options = {"binarize": binarize}
        self.draws_rows = binarize == "dynamic"

    def observe(self, x: Tensor, uniform: Tensor) -> Tensor:
        """Binarise rows (n, d), a 1 with probability x, where that was asked for."""
        return (uniform < x).to(x) if self.draws_rows else x

    def set_rows(self, x: Tensor) -> None:
        """Warn where training rows are not binary."""
        if not self.draws_rows and ((x > 0) & (x < 1)).any():
            warnings.warn(
                "X has values strictly between 0 and 1, which have no probability "
                "under likelihood='bernoulli'. Binarise X, or use "
                "likelihood=Bernoulli(binarize='dynamic'), 'continuous_bernoulli' or "
                "'gaussian'.",
                UserWarning,
                stacklevel=2,
            )

    def initial_outputs(self, x: Tensor) -> Tensor:
        """Return the logit of the training mean, with one more row of halves."""
        ones = x.sum(0, dtype=wide_dtype(x.device)) + 0.5
        return (ones / (len(x) + 1 - ones)).log().to(x.dtype)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Sum of x log p + (1 - x) log(1 - p), from the logits."""
        x = x.expand_as(outputs)
        entropy = F.binary_cross_entropy_with_logits(outputs, x, reduction="none")
        return -entropy.sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the probabilities of ones."""
        return outputs.sigmoid()

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw zeros and ones."""
        uniform = torch.empty_like(outputs).uniform_(generator=generator)
        return (uniform < outputs.sigmoid()).to(outputs)


class ContinuousBernoulli(UnitInterval):
    """Rows in [0, 1], a density of them: the decoder gives logits.

    With the logit t, ``p(x) = exp(t x) t / (exp(t) - 1)`` on [0, 1]: a Bernoulli's
    formula, and the factor that makes it integrate to one. The score is a
    log-density, which has no ceiling on columns of zeros and ones.

    References
    ----------
    Loaiza-Ganem & Cunningham, "The continuous Bernoulli: fixing a pervasive error in
    variational autoencoders", NeurIPS 2019.

    Examples
    --------
    >>> import torch
    >>> from skgen.likelihoods import ContinuousBernoulli
    >>> likelihood = ContinuousBernoulli()
    >>> likelihood.log_prob(torch.zeros(1, 2), torch.tensor([[0.1, 0.7]])).abs()
    tensor([0.])
    >>> likelihood.mean(torch.tensor([[-2.0, 0.0, 2.0]]))
    tensor([[0.3435, 0.5000, 0.6565]])
    """

    name = "continuous_bernoulli"
    remedy = "Rescale"

    def see_rows(self, parts: Iterable[Tensor]) -> None:
        """Warn of binary rows."""
        binary = TwoValues()
        for x in parts:
            binary.see(x)
        binary.warn()

    def initial_outputs(self, x: Tensor) -> Tensor:
        """Return the logit whose mean is the training mean, by bisection."""
        mean = x.mean(0, dtype=wide_dtype(x.device))
        low = torch.full_like(mean, -MAX_INITIAL_LOGIT)
        high = -low
        for _ in range(50):
            middle = (low + high) / 2
            below = self.mean(middle) < mean
            low, high = (
                torch.where(below, middle, low),
                torch.where(below, high, middle),
            )
        return high.to(x.dtype)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Sum of t x - log((exp(t) - 1) / t)."""
        return (x * outputs - _log_normalizer(outputs)).sum(-1)

    def mean(self, outputs: Tensor) -> Tensor:
        """Return 1 / (1 - exp(-t)) - 1 / t."""
        small, near, t = _split(outputs)
        slopes = [i * c for i, c in enumerate(SERIES, start=1)]
        series = 0.5 + 2 * near * _polynomial(slopes, near**2)
        lower = 1 / t + (-t).exp() / torch.expm1(-t)  # the mean at -t
        return torch.where(small, series, torch.where(outputs < 0, lower, 1 - lower))

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Draw by the inverse of the distribution function."""
        uniform = torch.empty_like(outputs).uniform_(generator=generator)
        t = outputs.abs().clamp(min=torch.finfo(outputs.dtype).eps)
        # The draw at -t, an exponential cut off at 1; that at t is its mirror image.
        lower = (-torch.log1p(uniform * torch.expm1(-t)) / t).clamp(max=1)
        return torch.where(outputs < 0, lower, 1 - lower)


def _split(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where |t| is below 1/2; t, cut off there; and |t|, 1 where it is below."""
    small = t.abs() < NEAR
    return small, t.clamp(-NEAR, NEAR), torch.where(small, 1.0, t.abs())


def _log_normalizer(t: Tensor) -> Tensor:
    """log((exp(t) - 1) / t): the log of the integral of exp(t x) over [0, 1]."""
    small, near, size = _split(t)
    series = 0.5 * near + near**2 * _polynomial(SERIES, near**2)
    return torch.where(small, series, t.relu() + (-torch.expm1(-size) / size).log())


def _polynomial(coefficients: Sequence[float], u: Tensor) -> Tensor:
    """Sum of c_i u^i, i from 0, by Horner's rule."""
    total = torch.zeros_like(u)
    for coefficient in reversed(coefficients):
        total = total * u + coefficient
    return total
