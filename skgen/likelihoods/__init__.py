"""Decoders' densities p(x|z): log-density, mean, draw.

A likelihood turns the outputs of a decoder network into a density of a row. The
leading dimensions of ``outputs`` (draws, rows) are free; sums run over features.
"""

from typing import Any

from skgen.likelihoods.autoregressive import Autoregressive
from skgen.likelihoods.base import Likelihood
from skgen.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli
from skgen.likelihoods.cells import Cells
from skgen.likelihoods.gaussian import Gaussian
from skgen.likelihoods.levels import Categorical, DiscretizedLogistic
from skgen.likelihoods.mixed import Mixed
from skgen.likelihoods.noised import Noised
from skgen.likelihoods.tails import Laplace, StudentT

__all__ = [
    "LIKELIHOODS",
    "NAMES",
    "Autoregressive",
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Gaussian",
    "Laplace",
    "Likelihood",
    "Mixed",
    "StudentT",
    "as_likelihood",
    "known_likelihood",
    "name_of_likelihood",
]

_BY_NAME: dict[str, type[Any]] = {
    "gaussian": Gaussian,
    "laplace": Laplace,
    "student_t": StudentT,
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "discretized_logistic": DiscretizedLogistic,
    "categorical": Categorical,
}
#: What an estimator's ``likelihood`` may be called.
NAMES = tuple(_BY_NAME)
#: Likelihoods by name. Four are names in files only: one needs the kinds of the
#: columns, one is for flows, one is around another, and one for diffusion models.
LIKELIHOODS: dict[str, type[Any]] = {
    **_BY_NAME,
    "mixed": Mixed,
    "cells": Cells,
    "autoregressive": Autoregressive,
    "noised": Noised,
}


def known_likelihood(name: str, **options: Any) -> Likelihood:
    """Return a new likelihood of a name, with options of its constructor."""
    if name not in LIKELIHOODS:
        known = ", ".join(LIKELIHOODS)
        raise ValueError(f"{name!r} is none of the likelihoods {known}.")
    found: Likelihood = LIKELIHOODS[name](**options)
    return found


def name_of_likelihood(likelihood: Likelihood) -> str | None:
    """Return the name of a likelihood; None for one of the user's own class."""
    names = {cls: name for name, cls in LIKELIHOODS.items()}
    return names.get(type(likelihood))


def as_likelihood(likelihood: str | Likelihood) -> Likelihood:
    """Return the likelihood of a name; an object as it is."""
    return known_likelihood(likelihood) if isinstance(likelihood, str) else likelihood
