"""Latent-variable generative models as scikit-learn estimators."""

from skgen.gaussian import GaussianDensity
from skgen.kmeans import KMeansAutoencoder
from skgen.mixture import GaussianMixtureEM

__version__ = "0.1.0"

__all__ = ["GaussianDensity", "GaussianMixtureEM", "KMeansAutoencoder"]
