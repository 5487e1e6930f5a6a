"""Decoders' densities p(x|z): log-density, mean, draw.

A likelihood turns the outputs of a decoder network into a density of a row. The
leading dimensions of ``outputs`` (draws, rows) are free; sums run over features.
"""

from skgen.likelihoods.base import Likelihood
from skgen.likelihoods.bernoulli import Bernoulli, ContinuousBernoulli
from skgen.likelihoods.gaussian import Gaussian
from skgen.likelihoods.levels import Categorical, DiscretizedLogistic

__all__ = [
    "NAMES",
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Gaussian",
    "Likelihood",
    "as_likelihood",
]

_BY_NAME: dict[str, type[Likelihood]] = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "continuous_bernoulli": ContinuousBernoulli,
    "discretized_logistic": DiscretizedLogistic,
    "categorical": Categorical,
}
#: What an estimator's ``likelihood`` may be called.
NAMES = tuple(_BY_NAME)


def as_likelihood(likelihood: str | Likelihood) -> Likelihood:
    """Return the likelihood of a name; an object as it is."""
    return _BY_NAME[likelihood]() if isinstance(likelihood, str) else likelihood
