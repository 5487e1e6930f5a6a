"""Normal rows."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn

from skgen.likelihoods.base import Likelihood
from skgen.parameters import real
from skgen.tensors import LOG_2PI

# Rows from which on it is no accident that every column has two values.
BINARY_ROWS = 20


class Gaussian(Likelihood):
    """Normal rows: the decoder gives the mean, sigma is learned or fixed.

    Parameters
    ----------
    sigma : {"feature", "shared"} or float, default="feature"
        Noise: learned for each feature, learned for all features together, or
        fixed at a number; in standardised units where the model standardises.
    min_sigma : float, default=1e-3
        Floor under a learned sigma, without which the likelihood has no bound
        (Mattei & Frellsen 2018). Its square weighs a constant column as
        ``reg_covar`` does in ``GaussianDensity``.

    Examples
    --------
    >>> import torch
    >>> from skgen.likelihoods import Gaussian
    >>> likelihood = Gaussian(sigma=1.0)
    >>> likelihood.log_prob(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor([-1.8379])
    """

    is_constant: Tensor  # (d,)
    constants: Tensor  # (d,)

    def __init__(self, sigma: str | float = "feature", min_sigma: float = 1e-3) -> None:
        super().__init__()
        learned = sigma in ("feature", "shared")
        if not (learned or real(0, closed="neither").accepts(sigma)):
            raise ValueError(
                "The 'sigma' parameter of Gaussian must be 'feature', 'shared' or a "
                f"positive float. Got {sigma!r} instead."
            )
        if not real(0).accepts(min_sigma):
            raise ValueError(
                "The 'min_sigma' parameter of Gaussian must be a float in the range "
                f"[0.0, inf). Got {min_sigma!r} instead."
            )
        self.kind = sigma if learned else "fixed"
        self.min_sigma = min_sigma if learned else 0.0
        log_sigma = torch.tensor(0.0 if learned else math.log(float(sigma)))
        self.log_sigma = nn.Parameter(log_sigma, requires_grad=learned)
        self.register_buffer("is_constant", torch.tensor(False))
        self.register_buffer("constants", torch.tensor(0.0))

    def set_rows(self, x: Tensor) -> None:
        """Start a learned sigma from the spread of the rows; find constants.

        A constant column has its constant for mean, whatever the decoder says. Under
        a sigma at the floor, learning it would cost more than all the other columns:
        47 nats on the digits, which have three.
        """
        self.constants, self.is_constant = x[0].clone(), (x == x[0]).all(0)
        if self.kind == "feature":
            self._start(x.std(0, correction=0))
        elif self.kind == "shared":
            self._start(x.var(0, correction=0).mean().sqrt())

    def _start(self, spread: Tensor) -> None:
        smallest = max(1e-2 * self.min_sigma, torch.finfo(spread.dtype).tiny)
        self.log_sigma.data = spread.clamp(min=smallest).log()

    def see_rows(self, x: Tensor) -> None:
        """Free the constants that further rows contradict; warn of binary rows."""
        freed = self.is_constant & (x != self.constants).any(0)
        self.is_constant = self.is_constant & ~freed
        if self.kind == "feature":
            self.log_sigma.data = torch.where(freed, 0.0, self.log_sigma)
        ends = (x == x.amin(0)) | (x == x.amax(0))
        if len(x) >= BINARY_ROWS and ends.all() and not self.is_constant.all():
            warnings.warn(
                "Every column of X has two values at most. A Gaussian density of such "
                "columns has no ceiling, and its score compares with no log-mass. Use "
                "likelihood='bernoulli' on values 0 and 1.",
                UserWarning,
                stacklevel=2,
            )

    @property
    def sigma(self) -> Tensor:
        """Standard deviation of the noise, (d,) or ()."""
        return (self.log_sigma.exp() ** 2 + self.min_sigma**2).sqrt()

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Sum of log N(x; outputs, sigma^2)."""
        d, sigma = x.shape[-1], self.sigma
        log_det = sigma.log().expand(d).sum()
        squared = (((x - self.mean(outputs)) / sigma) ** 2).sum(-1)
        return -0.5 * squared - log_det - 0.5 * d * LOG_2PI

    def mean(self, outputs: Tensor) -> Tensor:
        """Return the outputs: they are the mean, but where a column is constant."""
        return torch.where(self.is_constant, self.constants.to(outputs), outputs)

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Add normal noise."""
        noise = torch.empty_like(outputs).normal_(generator=generator)
        return self.mean(outputs) + self.sigma * noise
