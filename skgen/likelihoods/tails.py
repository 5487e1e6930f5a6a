"""Rows with heavier tails than normal ones: Laplace and Student's t."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from skgen._utils.parameters import real
from skgen._utils.tensors import wide_dtype
from skgen.likelihoods.gaussian import LocationScale, Sigma

# Degrees of freedom that are learned: those at the start, and the least, above which
# there is a mean.
FIRST_DF, LEAST_DF = 10.0, 1.0


class Laplace(LocationScale):
    """Laplace rows: the decoder gives the mean; sigma is learned, decoded or fixed.

    The log-density falls with the distance from the mean, not with its square, so that
    a row far from all others costs little and pulls little.

    Parameters
    ----------
    sigma : {"feature", "shared", "row"} or float, default="feature"
        Standard deviation of the noise: learned for each feature, learned for all
        features together, given by the decoder for each row and feature, or fixed at a
        number; in standardised units where the model standardises.
    min_sigma : float, default=1e-3
        Floor under a sigma that is not fixed, without which the likelihood has no
        bound.

    See Also
    --------
    StudentT : Tails that are learned.
    Gaussian : Light tails.

    Notes
    -----
    log p(x|z) is the sum over features of -sqrt(2) abs(x - mean) / sigma - log(sqrt(2)
    sigma), in nats.

    Examples
    --------
    >>> import torch
    >>> from skgen.likelihoods import Laplace
    >>> Laplace(sigma=1.0).log_prob(torch.zeros(1, 2), torch.zeros(1, 2))
    tensor([-0.6931])
    """

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Sum of -sqrt(2) abs(x - mean) / sigma - log(sqrt(2) sigma)."""
        mean, log_sigma = self.parts(outputs)
        distance = (x - mean).abs() * (-log_sigma).exp()
        terms = math.sqrt(2) * distance + log_sigma + 0.5 * math.log(2)
        found: Tensor = -terms.sum(-1)
        return found

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Add Laplace noise: the difference of two exponential draws."""
        mean, log_sigma = self.parts(outputs)
        sides = mean.new_empty(2, *mean.shape).exponential_(generator=generator)
        return mean + log_sigma.exp() * (sides[0] - sides[1]) / math.sqrt(2)


class StudentT(LocationScale):
    """Rows of Student's t density: the decoder gives the mean; tails are learned.

    Parameters
    ----------
    sigma : {"feature", "shared", "row"} or float, default="feature"
        Scale of the noise: learned for each feature, learned for all features together,
        given by the decoder for each row and feature, or fixed at a number; in
        standardised units where the model standardises. The standard deviation is
        larger, by the root of df / (df - 2).
    min_sigma : float, default=1e-3
        Floor under a sigma that is not fixed, without which the likelihood has no
        bound.
    df : {"feature", "shared"} or float, default="feature"
        Degrees of freedom, above 1: learned for each feature, learned for all features
        together, or fixed at a number. Few make heavy tails; many make a normal
        density.

    See Also
    --------
    Gaussian : Light tails.
    Laplace : Exponential tails.

    Notes
    -----
    A few test rows far from the training rows decide the mean score of a normal
    density, whose log falls with the square of the distance. Here it falls with the
    log of the distance, and training rows that are far off pull the mean little.
    Where columns have no such rows, the degrees of freedom grow, and little is lost.

    References
    ----------
    Lange, Little & Taylor, "Robust statistical modeling using the t distribution",
    Journal of the American Statistical Association 84, 1989. Takahashi et al.,
    "Student-t variational autoencoder for robust density estimation", IJCAI 2018.

    Examples
    --------
    >>> import torch
    >>> from skgen.likelihoods import StudentT
    >>> x = torch.tensor([[0.0], [10.0]])
    >>> StudentT(sigma=1.0, df=3.0).log_prob(torch.zeros(2, 1), x)
    tensor([-1.0009, -8.0731])
    """

    def __init__(
        self,
        sigma: Sigma = "feature",
        min_sigma: float = 1e-3,
        df: Literal["feature", "shared"] | float = "feature",
    ) -> None:
        super().__init__(sigma, min_sigma)
        free = df in ("feature", "shared")
        if not (free or real(LEAST_DF, closed="neither").accepts(df)):
            raise ValueError(
                "The 'df' parameter of StudentT must be 'feature', 'shared' or a float "
                f"above 1. Got {df!r} instead."
            )
        self.options = {**self.options, "df": df}
        self.has_df_each = df == "feature"
        log_df = math.log((FIRST_DF if free else float(df)) - LEAST_DF)
        self.log_df = nn.Parameter(torch.tensor(log_df), requires_grad=free)

    def set_rows(self, x: Tensor) -> None:
        """Start a learned scale from the spread of the rows; find constants."""
        super().set_rows(x)
        if self.has_df_each:
            start = math.log(FIRST_DF - LEAST_DF)
            self.log_df.data = torch.full_like(x[0], start)

    @property
    def df(self) -> Tensor:
        """Degrees of freedom, (d,) or ()."""
        return self.log_df.exp() + LEAST_DF

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Sum of log t_df((x - mean) / sigma) - log sigma."""
        mean, log_sigma = self.parts(outputs)
        squared = ((x - mean) * (-log_sigma).exp()) ** 2
        df = self.df
        powers = 0.5 * (df + 1) * (squared / df).log1p()
        return (_log_peak(df) - log_sigma - powers).sum(-1)

    def draw(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """Add noise: normal, over the root of a gamma draw of mean 1."""
        mean, log_sigma = self.parts(outputs)
        half = (0.5 * self.df).to(mean).expand_as(mean).contiguous()
        gamma = torch._standard_gamma(half, generator=generator) / half
        noise = torch.empty_like(mean).normal_(generator=generator)
        return mean + log_sigma.exp() * noise * gamma.rsqrt()


def _log_peak(df: Tensor) -> Tensor:
    """Log t_df(0): a small difference of large log-gammas, so in wide digits."""
    wide = df.to(wide_dtype(df.device))
    difference = (0.5 * (wide + 1)).lgamma() - (0.5 * wide).lgamma()
    return (difference - 0.5 * (math.pi * wide).log()).to(df.dtype)
