"""Latent-variable generative models as scikit-learn estimators."""

__version__ = "0.1.0"

from skgen.compose import MixedDensity
from skgen.gaussian import GaussianDensity
from skgen.io import load, save, to_onnx
from skgen.kmeans import KMeansAutoencoder
from skgen.mixture import GaussianMixtureEM
from skgen.pipeline import GenerativePipeline, make_generative_pipeline
from skgen.vae import IWAE, VAE, BetaVAE
from skgen.vqvae import VQVAE

__all__ = [
    "IWAE",
    "VAE",
    "VQVAE",
    "BetaVAE",
    "GaussianDensity",
    "GaussianMixtureEM",
    "GenerativePipeline",
    "KMeansAutoencoder",
    "MixedDensity",
    "load",
    "make_generative_pipeline",
    "save",
    "to_onnx",
]
