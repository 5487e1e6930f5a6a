"""Latent-variable generative models as scikit-learn estimators."""

from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from skgen import bijections as bijections
    from skgen import datasets as datasets
    from skgen import display as display
    from skgen import distributed as distributed
    from skgen import exceptions as exceptions
    from skgen import io as io
    from skgen import latent as latent
    from skgen import likelihoods as likelihoods
    from skgen import metrics as metrics
    from skgen import model_selection as model_selection
    from skgen import models as models
    from skgen import objectives as objectives
    from skgen import outliers as outliers
    from skgen import pipeline as pipeline
    from skgen import priors as priors
    from skgen import streams as streams
    from skgen import textures as textures
    from skgen.io import load, save, to_onnx
    from skgen.models.autoencoder import Autoencoder
    from skgen.models.classes import GenerativeClassifier, GenerativeOverSampler
    from skgen.models.conditional import ConditionalVAE
    from skgen.models.diffusion import Diffusion
    from skgen.models.discrete import DiscreteVAE
    from skgen.models.flow import FlowDensity
    from skgen.models.gan import GAN
    from skgen.models.gaussian import GaussianDensity
    from skgen.models.info import TCVAE, InfoVAE
    from skgen.models.kmeans import KMeansAutoencoder
    from skgen.models.mixed import MixedDensity
    from skgen.models.mixture import GaussianMixtureEM
    from skgen.models.mixture_em import MixtureEM
    from skgen.models.student import StudentMixtureEM
    from skgen.models.vae import IWAE, VAE, BetaVAE
    from skgen.models.vqvae import VQVAE
    from skgen.models.vqvae2 import VQVAE2
    from skgen.pipeline import GenerativePipeline, make_generative_pipeline

__all__ = [
    "GAN",
    "IWAE",
    "TCVAE",
    "VAE",
    "VQVAE",
    "VQVAE2",
    "Autoencoder",
    "BetaVAE",
    "ConditionalVAE",
    "Diffusion",
    "DiscreteVAE",
    "FlowDensity",
    "GaussianDensity",
    "GaussianMixtureEM",
    "GenerativeClassifier",
    "GenerativeOverSampler",
    "GenerativePipeline",
    "InfoVAE",
    "KMeansAutoencoder",
    "MixedDensity",
    "MixtureEM",
    "StudentMixtureEM",
    "load",
    "make_generative_pipeline",
    "save",
    "to_onnx",
]

# Names are loaded when they are asked for, as scikit-learn loads its parts: K-means and
# the pipeline need half of it. Where each is:
_MODULES = {
    "models.autoencoder": ("Autoencoder",),
    "models.classes": ("GenerativeClassifier", "GenerativeOverSampler"),
    "models.mixed": ("MixedDensity",),
    "models.gan": ("GAN",),
    "models.gaussian": ("GaussianDensity",),
    "io": ("load", "save", "to_onnx"),
    "models.info": ("TCVAE", "InfoVAE"),
    "models.kmeans": ("KMeansAutoencoder",),
    "models.mixture": ("GaussianMixtureEM",),
    "models.mixture_em": ("MixtureEM",),
    "models.student": ("StudentMixtureEM",),
    "pipeline": ("GenerativePipeline", "make_generative_pipeline"),
    "models.vae": ("IWAE", "VAE", "BetaVAE"),
    "models.vqvae": ("VQVAE",),
    "models.vqvae2": ("VQVAE2",),
    "models.conditional": ("ConditionalVAE",),
    "models.diffusion": ("Diffusion",),
    "models.discrete": ("DiscreteVAE",),
    "models.flow": ("FlowDensity",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # a checker would believe in any name

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        if find_spec(f"{__name__}.{name}"):
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    parts = (each.name for each in iter_modules(__path__))
    public = (name for name in parts if not name.startswith("_"))
    return sorted({*__all__, "__version__", *public})
