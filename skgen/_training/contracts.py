"""Contracts between the loop, the objectives and the models that they train."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, Self

from torch import Tensor

from skgen._training.batches import Batch


class Terms(Protocol):
    """Terms of a training loss: a named tuple of tensors (..., n)."""

    @property
    def _fields(self) -> tuple[str, ...]:
        """Names of the terms."""

    @property
    def loss(self) -> Tensor:
        """Training loss of each row."""

    @property
    def watched(self) -> Tensor:
        """Value of each row that early stopping watches."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, i: Any, /) -> Any:
        """Return one of them, or some."""

    def __iter__(self) -> Iterator[Tensor]:
        """Yield the terms, in the order of ``_fields``."""


class Objective(Protocol):
    """Training loss: a named tuple of constants, or a function."""

    def __call__(self, model: Any, batch: Batch, annealing: Any, /) -> Terms:
        """Return the terms of rows, a part ``annealing`` through the warm-up."""


class Posterior(Protocol):
    """q(z|x) of some rows (n, ...)."""

    def draw(self, noise: Tensor) -> Tensor:
        """Draw codes (..., n, k) from standard noise."""

    def log_prob(self, codes: Tensor) -> Tensor:
        """Log-density (..., n) of codes (..., n, k)."""

    def frozen(self) -> Self:
        """Return it without a gradient."""


class Prior(Protocol):
    """p(z)."""

    def log_prob(self, codes: Tensor) -> Tensor:
        """Log-density (..., n) of codes (..., n, k)."""

    def kl(self, q: Any, z: Tensor) -> Tensor:
        """KL(q || p) of each coordinate, (n, k), exact or at draws z from q."""


class LatentModel(Protocol):
    """Model with a latent code."""

    @property
    def prior(self) -> Any:
        """p(z), a ``Prior``: modules give their attributes no narrower type."""

    def posterior(self, batch: Batch) -> Any:
        """q(z|x) of rows, a ``Posterior``."""

    def log_likelihood(self, batch: Batch, z: Tensor) -> Tensor:
        """Log p(x|z), (..., n), of rows and codes."""


class CodeModel(Protocol):
    """Model with a code that is a function of the row."""

    @property
    def likelihood(self) -> Any:
        """p(x|z), a ``Likelihood``."""

    def reconstructed(self, x: Tensor) -> Tensor:
        """Decode the codes of rows (n, d), to outputs (n, p)."""


class TokenModel(Protocol):
    """Model with a code of tokens, from a codebook."""

    def latents(self, batch: Batch) -> Tensor:
        """Encode rows to vectors (n, T, c)."""

    def quantise(self, z_e: Tensor) -> Tensor:
        """Nearest code vectors (n, T, c)."""

    def log_likelihood_at(self, batch: Batch, z_q: Tensor) -> Tensor:
        """Log p(x|z_q), (n,), of rows and code vectors."""


class AdversarialModel(Protocol):
    """Generator of rows, and a critic that tells them from data."""

    def generated(self, batch: Batch) -> Tensor:
        """Make rows (n, d) of a batch's noise, under its conditions."""

    def judged(self, x: Tensor, batch: Batch, *, frozen: bool = False) -> Tensor:
        """Judge rows (n, d) under a batch's conditions: (n,), high for data.

        No gradient reaches a critic that is ``frozen``.
        """

    def mixed(self, batch: Batch, x: Tensor) -> Tensor:
        """Return points (n, d) at random places between a batch's rows and others."""

    def discrepancies(self, batch: Batch, x: Tensor, *, quick: bool) -> Tensor:
        """Return terms (n,) whose mean is a distance of the rows' law from that of x.

        A ``quick`` one takes time linear in n, and is less precise.
        """


class NoisedModel(Protocol):
    """Model of rows with noise in them, as a gain over a standard normal density."""

    def baseline(self, x: Tensor) -> Tensor:
        """Bound on log p(x), (n,), of the standard normal."""

    def gains(self, batch: Batch) -> Tensor:
        """Draws (S, n) of what the bound has above it."""


class DensityModel(Protocol):
    """Model whose log-density is exact."""

    def log_density(self, batch: Batch) -> Tensor:
        """Log p(x), (..., n), of rows as they are observed."""
