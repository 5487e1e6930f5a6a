"""Normal rows, and what densities of a mean and a width have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skgen._utils.parameters import real
from skgen._utils.tensors import LOG_2PI
from skgen.likelihoods.base import Likelihood, NormalCells, TwoValues

#: How wide a density is: learned for each column, for all, given by the decoder; fixed.
Sigma = Literal["feature", "shared", "row"] | float

# Bounds on a log sigma that a decoder gives: squares beyond them leave float32.
LOG_SIGMA_MIN, LOG_SIGMA_MAX = -20.0, 40.0


class LocationScale(Likelihood):
    """Base of densities about a mean that the decoder gives, of a learned width.

    What the width is, its floor, and constant columns are the same for all of them.
    """

    is_constant: Tensor  # (d,)
    constants: Tensor  # (d,)
    _any_constant: bool | None = None  # whether there are such; None: to be found

    def __init__(self, sigma: Sigma = "feature", min_sigma: float = 1e-3) -> None:
        super().__init__()
        free = sigma in ("feature", "shared", "row")
        if not (free or real(0, closed="neither").accepts(sigma)):
            raise ValueError(
                f"The 'sigma' parameter of {type(self).__name__} must be 'feature', "
                f"'shared', 'row' or a positive float. Got {sigma!r} instead."
            )
        if not real(0).accepts(min_sigma):
            raise ValueError(
                f"The 'min_sigma' parameter of {type(self).__name__} must be a float "
                f"in the range [0.0, inf). Got {min_sigma!r} instead."
            )
        self.options = {"sigma": sigma, "min_sigma": min_sigma}
        self.kind = sigma if free else "fixed"
        self.min_sigma = min_sigma if free else 0.0
        if self.kind == "row":
            self.n_outputs = 2
        else:
            log_sigma = torch.tensor(0.0 if free else math.log(float(sigma)))
            self.log_sigma = nn.Parameter(log_sigma, requires_grad=free)
        self.register_buffer("is_constant", torch.tensor(False))
        self.register_buffer("constants", torch.tensor(0.0))

    def set_rows(self, x: Tensor) -> None:
        """Start a learned sigma from the spread of the rows; find constants.

        A constant column has its constant for mean, whatever the decoder says. Under
        a sigma at the floor, learning it would cost more than all the other columns:
        47 nats on the digits, which have three.
        """
        self.constants, self.is_constant = x[0].clone(), (x == x[0]).all(0)
        self._any_constant = None
        if self.kind == "feature":
            self.log_sigma.data = self._log_spread(x)
        elif self.kind == "shared":
            spread = x.var(0, correction=0).mean().sqrt()
            self.log_sigma.data = self._log_at_least(spread)

    def _log_spread(self, x: Tensor) -> Tensor:
        return self._log_at_least(x.std(0, correction=0))

    def _log_at_least(self, spread: Tensor) -> Tensor:
        smallest = max(1e-2 * self.min_sigma, torch.finfo(spread.dtype).tiny)
        return spread.clamp(min=smallest).log()

    def see_rows(self, parts: Iterable[Tensor]) -> None:
        """Free the constants that rows contradict; warn of binary rows."""
        binary = TwoValues()
        for x in parts:
            self.free_constants(x)
            binary.see(x)
        binary.warn()

    def free_constants(self, x: Tensor) -> None:
        """Take columns that further rows contradict for constants no more."""
        freed = self.is_constant & (x != self.constants).any(0)
        self.is_constant = self.is_constant & ~freed
        if self.kind == "feature":
            self.log_sigma.data = torch.where(freed, 0.0, self.log_sigma)
        self._any_constant = bool(self.is_constant.any())

    def initial_outputs(self, x: Tensor) -> Tensor:
        """Return the mean of the rows, and beside it the log spread for "row"."""
        mean = x.mean(0)
        if self.kind == "row":
            return torch.stack([mean, self._log_spread(x)], dim=1).flatten()
        return mean

    @property
    def sigma(self) -> Tensor:
        """Standard deviation of the noise, (d,) or (), where no decoder gives it."""
        return self._floored(self.log_sigma).exp()

    def _floored(self, log_sigma: Tensor) -> Tensor:
        """Log of the root of sigma^2 + min_sigma^2."""
        if self.min_sigma == 0:
            return log_sigma
        floor = math.log(self.min_sigma)  # log(1 + exp 2t) / 2 is a softplus of t
        return F.softplus(log_sigma - floor, beta=2.0, threshold=50.0) + floor

    @property
    def _has_constants(self) -> bool:
        """Whether any column is constant: asked of the device once, not a step."""
        if self._any_constant is None:
            self._any_constant = bool(self.is_constant.any())
        return self._any_constant

    def parts(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (..., n, d) and log sigma, which may lack leading dimensions."""
        if self.kind == "row":
            mean, log_sigma = outputs.unflatten(-1, (-1, 2)).unbind(-1)
            log_sigma = self._floored(log_sigma.clamp(LOG_SIGMA_MIN, LOG_SIGMA_MAX))
        else:
            mean, log_sigma = outputs, self._floored(self.log_sigma)
        if self._has_constants:
            mean = torch.where(self.is_constant, self.constants.to(mean), mean)
        return mean, log_sigma

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the decoder's means; of a constant column, the constant."""
        return self.parts(outputs)[0]


class Gaussian(LocationScale):
    """Normal rows: the decoder gives the mean; sigma is learned, decoded or fixed.

    Parameters
    ----------
    sigma : {"feature", "shared", "row"} or float, default="feature"
        Noise: learned for each feature, learned for all features together, given by
        the decoder for each row and feature, or fixed at a number; in standardised
        units where the model standardises.
    min_sigma : float, default=1e-3
        Floor under a sigma that is not fixed, without which the likelihood has no
        bound (Mattei & Frellsen 2018). Its square weighs a constant column as
        ``reg_covar`` does in ``GaussianDensity``.

    Notes
    -----
    With ``sigma="row"`` the decoder has two outputs per feature, mean and log sigma. A
    row that is reconstructed well then counts up to the floor: raise ``min_sigma`` to
    the precision of the data.

    Examples
    --------
    >>> import torch
    >>> from skgen.likelihoods import Gaussian
    >>> likelihood = Gaussian(sigma=1.0)
    >>> likelihood.log_prob(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor([-1.8379])
    """

    def n_normal(self, n_features: int) -> int:
        """Return the number of columns."""
        return n_features

    def normal_cells(self, x: Tensor) -> NormalCells:
        """Return all columns."""
        places = torch.arange(x.shape[1], device=x.device)
        return NormalCells(x, places, places * self.n_outputs)

    def noise_near(self, variance: Tensor) -> Tensor:
        """Return the variances, their mean, or the one that is fixed."""
        if self.kind == "fixed":
            return (2 * self.log_sigma).exp().to(variance).expand_as(variance)
        return (
            variance.mean().expand_as(variance) if self.kind == "shared" else variance
        )

    def start_noise(self, variance: Tensor, outputs: Tensor) -> None:
        """Start sigma of columns that are not constant, or the outputs for it."""
        log_sigma = 0.5 * (variance - self.min_sigma**2).clamp(min=1e-30).log()
        if self.kind == "row":
            outputs[1::2] = torch.where(self.is_constant, outputs[1::2], log_sigma)
        elif self.kind == "feature":
            kept = torch.where(self.is_constant, self.log_sigma, log_sigma)
            self.log_sigma.data = kept.to(self.log_sigma)
        elif self.kind == "shared":
            self.log_sigma.data = log_sigma.mean().to(self.log_sigma)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Sum of log N(x; mean, sigma^2)."""
        d, (mean, log_sigma) = x.shape[-1], self.parts(outputs)
        log_det = log_sigma.sum(-1) if log_sigma.ndim else d * log_sigma
        squared = (((x - mean) * (-log_sigma).exp()) ** 2).sum(-1)
        return -0.5 * squared - (log_det + 0.5 * d * LOG_2PI)

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Add normal noise."""
        mean, log_sigma = self.parts(outputs)
        return mean + log_sigma.exp() * torch.empty_like(mean).normal_(
            generator=generator
        )
