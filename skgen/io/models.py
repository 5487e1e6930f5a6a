"""Saving a fitted estimator to one file, and loading it: no pickle, no code run."""

from __future__ import annotations

import copy
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import sklearn
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skgen import __version__
from skgen._files.container import Contents, ModelFileError, read_file, write_file
from skgen._files.values import FLOATS, Reader, Writer, shortened
from skgen._networks.dense import Factory
from skgen._tables.frames import LIBRARIES, Columns
from skgen._utils.parameters import Rule, boolean, check_parameters, integer
from skgen._utils.tensors import resolve_device
from skgen.likelihoods import LIKELIHOODS, Likelihood
from skgen.models.autoencoder import Autoencoder
from skgen.models.base import GenerativeModel, as_fitted_so_far
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

# A file says which of these it holds; no other name is looked up.
ESTIMATORS: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        GaussianDensity,
        GaussianMixtureEM,
        MixtureEM,
        StudentMixtureEM,
        KMeansAutoencoder,
        VAE,
        BetaVAE,
        IWAE,
        InfoVAE,
        TCVAE,
        Autoencoder,
        ConditionalVAE,
        DiscreteVAE,
        FlowDensity,
        GAN,
        Diffusion,
        VQVAE,
        VQVAE2,
        MixedDensity,
    )
}
#: Types of skgen for ``skops.io.load(file, trusted=TRUSTED_TYPES)``: estimators and
#: what they may be given, but for networks of your own.
TRUSTED_TYPES = [
    *(f"{cls.__module__}.{cls.__qualname__}" for cls in ESTIMATORS.values()),
    *(f"{cls.__module__}.{cls.__qualname__}" for cls in LIKELIHOODS.values()),
    "skgen.models.classes.GenerativeClassifier",
    "skgen.outliers.DensityOutlierDetector",
    "skgen.pipeline.GenerativePipeline",
    f"{Columns.__module__}.{Columns.__qualname__}",
    "torch.device",
]
# Parameters that no file has: where on a machine a fit may write.
OF_A_MACHINE = ("checkpoint",)
# What may be inside another: a model with networks, or a density of codes.
INSIDE = (
    *("VAE", "BetaVAE", "IWAE", "InfoVAE", "TCVAE", "VQVAE", "VQVAE2"),
    *("Autoencoder", "FlowDensity", "Diffusion"),
    *("GaussianDensity", "GaussianMixtureEM", "KMeansAutoencoder", "MixtureEM"),
    "StudentMixtureEM",
)
# Names of the dtypes of arrays that tables are made as.
ARRAY_DTYPE = (
    r"u?int(8|16|32|64)|[<>]?[iu][1248]|(datetime64|timedelta64|[<>][mM]8)(\[\w+\])?"
)
# Characters of what went wrong, some of which may be the file's.
MOST_WORDS = 500
# Epochs and iterations that a file may state; seeds are made from them.
MOST_ITERATIONS = 2**31


def _is_text(value: Any) -> bool:
    """Return whether a value is an array (n,) of text."""
    is_array = isinstance(value, np.ndarray) and value.dtype == object
    return is_array and value.ndim == 1 and all(isinstance(v, str) for v in value)


def _is_output(value: Any) -> bool:
    """Return whether a value is what scikit-learn's ``set_output`` leaves."""
    containers = ("default", *LIBRARIES)
    return isinstance(value, dict) and all(
        key == "transform" and each in containers for key, each in value.items()
    )


# Fitted attributes that select what is done, in any class; a class checks its own.
STATE_RULES: dict[str, Rule] = {
    "n_features_in_": integer(1),
    "feature_names_in_": Rule(_is_text, "an array of text"),
    "n_iter_": integer(0, MOST_ITERATIONS),
    "device_": Rule(
        lambda value: (
            isinstance(value, str)
            and bool(re.fullmatch(r"cpu|mps|cuda(:\d{1,4})?", value))
        ),
        "'cpu', 'cuda', 'cuda:<index>' or 'mps'",
    ),
    "_dtype": Rule(
        lambda value: isinstance(value, np.dtype) and value.name in FLOATS,
        "the dtype float32 or float64",
    ),
    "_is_objects": boolean,
    "_array_dtype": Rule(
        lambda value: (
            value is None
            or (
                isinstance(value, str)
                and bool(re.fullmatch(ARRAY_DTYPE, value, re.ASCII))
            )
        ),
        "the name of a dtype of integers or times",
    ),
    "_weight_exponent": integer(-1100, 1100),
    "_sklearn_output_config": Rule(
        _is_output, f"the output 'default', {', '.join(map(repr, LIBRARIES))}"
    ),
}


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """Save a fitted estimator to one file, which `load` reads and no code is in.

    A file holds what a pickle holds: parameters, fitted attributes, weights, the noise
    of scores, and where ``partial_fit`` and ``warm_start`` go on; but for callbacks and
    requests of metadata, which are of the session. Networks and likelihoods of your own
    are code: the file holds their weights, and `load` takes them again.

    The file is written beside its place and then moved there, so that a failure leaves
    what was there before. The model is rebuilt from what is to be written, first.

    At the end of an iteration, a callback may save the estimator or the
    ``fitted_estimator`` that it is given: the file is that of a fit that ended there.

    Parameters
    ----------
    model : estimator
        A fitted estimator of skgen, of exactly one of its classes.
    path : path-like
        Where to; ``.safetensors`` is a fitting suffix, since the format is that.

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    TypeError
        If it is of another class, or has a parameter that is code, such as a callable
        ``init`` of ``KMeansAutoencoder``.
    ValueError
        If it cannot be rebuilt from its state, as when an architecture was changed
        after ``fit``.
    OSError
        If the file cannot be written, or ``path`` is there and no regular file.

    See Also
    --------
    load : The way back.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_wine
    >>> import skgen
    >>> X = load_wine().data
    >>> model = skgen.GaussianDensity().fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skgen.save(model, Path(folder, "wine.safetensors"))
    ...     same = skgen.load(Path(folder, "wine.safetensors"))
    >>> same.score(X) == model.score(X)
    True
    """
    contents, own = describe(model)
    try:
        restore(contents, own, device="cpu")
    except Exception as error:
        raise ValueError(
            f"This {type(model).__name__} was not saved, since it cannot be rebuilt "
            f"from its parameters and its state: {str(error).rstrip('.')}. Were "
            "parameters changed after the fit? Fit it again."
        ) from error
    write_file(path, contents, __version__)


def load(
    path: str | os.PathLike[str],
    device: str | None = None,
    *,
    encoder: nn.Module | Factory | None = None,
    decoder: nn.Module | Factory | None = None,
    likelihood: Likelihood | None = None,
) -> Any:
    """Load an estimator that `save` wrote. Nothing in a file is run.

    Checksums tell a file that was damaged, not one that was made to deceive: they are
    in the file itself. Such a file can hold a model that is wrong, but no code.

    Parameters
    ----------
    path : path-like
        Where from.
    device : str, default=None
        Where the model goes, and its ``device`` parameter: "cpu", "cuda",
        "cuda:<index>", "mps" or "auto". ``None`` is where it was if that is here, and
        the CPU otherwise.
    encoder, decoder : Module or callable, default=None
        The networks, where the user's own were given to the estimator: as they were
        given. Their weights are those of the file.
    likelihood : Likelihood, default=None
        Likewise of a likelihood of the user's own.

    Returns
    -------
    model : estimator
        As it was saved: scores, codes and draws are the same to the bit on the same
        machine, and ``partial_fit`` goes on.

    Raises
    ------
    ModelFileError
        If the file is of another kind, is truncated or altered, has a later format, or
        does not make a model that works; or if it needs a network that is not given.
    ValueError
        If a network is given that the file does not need, or ``device`` is not here.
    ImportError
        If the model is of tables of pandas or polars, or a ``FlowDensity``, and that
        or zuko is not installed.
    OSError
        If the file cannot be opened.

    See Also
    --------
    save : Where the files come from.

    Examples
    --------
    A network of your own is passed again:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_wine
    >>> from torch import nn
    >>> import skgen
    >>> def encoder(n_inputs, n_outputs):
    ...     hidden = [nn.Linear(n_inputs, 8), nn.Tanh()]
    ...     return nn.Sequential(*hidden, nn.Linear(8, n_outputs))
    >>> X = load_wine().data
    >>> model = skgen.VAE(2, encoder=encoder, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     skgen.save(model, Path(folder, "wine.safetensors"))
    ...     same = skgen.load(Path(folder, "wine.safetensors"), encoder=encoder)
    >>> same.score(X) == model.score(X)
    True
    """
    if device is not None:
        resolve_device(device, "skgen.load")
    given = {"encoder": encoder, "decoder": decoder, "likelihood": likelihood}
    contents = read_file(path)
    with _explained(path):
        return restore(contents, given, device)


# Between a model and the contents of a file.


def describe(model: Any) -> tuple[Contents, dict[str, Any]]:
    """Take a fitted model apart: class, parameters, state; and what is the user's."""
    name = type(model).__name__
    if ESTIMATORS.get(name) is not type(model):
        raise TypeError(
            f"skgen.save takes an estimator of skgen: {', '.join(ESTIMATORS)}. Got "
            f"{type(model)!r}, which a file could not name without code; use "
            "joblib.dump."
        )
    check_is_fitted(model)
    model = as_fitted_so_far(model)
    writer = ModelWriter()
    described = writer.write_model(model, "", fitted=True)
    return Contents(described, writer.arrays), writer.own


class ModelWriter(Writer):
    """Writes estimators, and those that are inside others."""

    def write(self, value: Any, where: str) -> Any:
        """Return the JSON of a value, or of an estimator."""
        if type(value).__name__ in INSIDE and type(value) in ESTIMATORS.values():
            fitted = "parameters" not in where.split("/")
            return {"estimator": self.write_model(value, f"{where}/", fitted=fitted)}
        return super().write(value, where)

    def write_model(self, model: Any, where: str, *, fitted: bool) -> dict[str, Any]:
        """Return the class, the parameters, and the state where there is one."""
        parameters = model.get_params(deep=False)
        for name in OF_A_MACHINE:
            parameters.pop(name, None)
        found = {
            "class": type(model).__name__,
            "parameters": self.write_all(parameters, f"{where}parameters"),
        }
        if fitted:
            found["fitted"] = self.write_all(model._file_state(), f"{where}fitted")
        return found


class ModelReader(Reader):
    """Reads estimators, and those that are inside others."""

    def __init__(
        self,
        arrays: Mapping[str, Any],
        given: Mapping[str, Any],
        device: str | None,
    ) -> None:
        super().__init__(arrays, given)
        self.device = device

    def _tagged(self, node: dict[str, Any]) -> Any:
        match node:
            case {"estimator": {"class": str(name)} as model} if name in INSIDE:
                return self.read_model(model, fitted="fitted" in model)
        return super()._tagged(node)

    def read_model(self, model: Any, *, fitted: bool) -> Any:
        """Put an estimator together, by the rules of its class."""
        cls = _known(_entry(model, "class", str))
        parameters = self.read_all(_entry(model, "parameters", dict))
        state = self.read_all(_entry(model, "fitted", dict)) if fitted else {}
        if self.device is not None and "device" in cls._parameters:
            parameters["device"] = self.device
            if fitted:
                state["device_"] = str(resolve_device(self.device, cls.__name__))
        found = _with_parameters(cls, parameters)
        if fitted:
            found._set_file_state(_checked_state(cls._upgraded(state), cls))
        return found


def restore(contents: Contents, given: Mapping[str, Any], device: str | None) -> Any:
    """Put a model together, by the rules of its estimator, and try it.

    ``given`` has what is the user's own: "encoder", "decoder", "likelihood".
    """
    reader = ModelReader(contents.arrays, given, device)
    with sklearn.config_context(skip_parameter_validation=False):
        model = reader.read_model(contents.model, fitted=True)
    if reader.arrays:
        raise ValueError(f"nothing refers to the array {next(iter(reader.arrays))!r}")
    _check_given(given, reader.asked)
    _try(model)
    return model


def _entry(model: Any, key: str, kind: type) -> Any:
    if not isinstance(model, dict) or not isinstance(model.get(key), kind):
        raise ValueError(f"there is no {key!r}")
    return model[key]


def _known(name: str) -> type[Any]:
    if name not in ESTIMATORS:
        raise ValueError(
            f"it holds a {name!r}, and this version of skgen has "
            f"{', '.join(ESTIMATORS)}"
        )
    return ESTIMATORS[name]


def _with_parameters(cls: type[Any], parameters: dict[str, Any]) -> Any:
    """Make an estimator; what a file of an earlier version lacks has its default."""
    known = set(cls._get_param_names()) - set(OF_A_MACHINE)
    for name in set(parameters) - known:
        raise ValueError(f"this version of {cls.__name__} has no parameter {name!r}")
    model = cls(**parameters)
    check_parameters(model, cls._parameters)
    return model


def _check_given(given: Mapping[str, Any], asked: set[str]) -> None:
    """Raise a ValueError where something is given in vain."""
    for part, value in given.items():
        if value is not None and part not in asked:
            raise ValueError(
                f"{part}={value!r} was given, but that of the model is skgen's own. "
                f"Leave {part} out."
            )


def _checked_state(state: dict[str, Any], cls: type[Any]) -> dict[str, Any]:
    """Return fitted attributes; a ValueError for one that no fit sets, or of no use.

    Names that end with an underscore are fitted attributes; private ones must be
    declared in the body of the class. None may hide a method.
    """
    for name, value in state.items():
        if hasattr(cls, name) or not _is_fitted_attribute(name, cls):
            raise ValueError(
                f"{name!r} is not a fitted attribute that {cls.__name__} declares"
            )
        rule = STATE_RULES.get(name)
        if rule is not None and not rule.accepts(value):
            raise ValueError(f"{name!r} must be {rule.words}. Got {shortened(value)}")
    names = state.get("feature_names_in_")
    if names is not None and len(names) != state["n_features_in_"]:
        raise ValueError("there are other names of features than features")
    return state


def _is_fitted_attribute(name: str, cls: type[Any]) -> bool:
    if name.isidentifier() and name.endswith("_") and not name.startswith("_"):
        return True
    declared = {
        each for base in cls.__mro__ for each in vars(base).get("__annotations__", ())
    }
    return name in declared or name in STATE_RULES


def _try(model: Any) -> None:
    """Call what a fitted model has to do, on one row that it draws."""
    if isinstance(model, GenerativeModel):
        model = model._unconditional()
    bare = copy.copy(model)
    for name in ("feature_names_in_", "_sklearn_output_config"):
        bare.__dict__.pop(name, None)
    with warnings.catch_warnings(), sklearn.config_context(transform_output="default"):
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)  # NumPy's, of a number at fault
        if not hasattr(bare, "sample"):  # an autoencoder with no density of its codes
            bare.transform(bare.inverse_transform(np.zeros((1, bare._n_features_out))))
            return
        x = bare.sample(1, random_state=0)
        if x.shape != (1, model.n_features_in_):
            raise ValueError(f"rows have {x.shape[1]} features by its arrays")
        if hasattr(bare, "score_samples"):
            if not np.isfinite(bare.score_samples(x)).all():
                raise ValueError("the score of a row that it draws is not finite")
            if hasattr(bare, "reconstruct"):  # else rows have no codes
                bare.reconstruct(x)
                bare.inverse_transform(bare.transform(x))
        if "_sklearn_output_config" in vars(model):
            with suppress(ImportError):  # until its library is installed
                model.sample(1, random_state=0)


@contextmanager
def _explained(path: Any) -> Iterator[None]:
    """Give all that goes wrong in putting a model together one error of our own."""
    try:
        yield
    except (ModelFileError, ImportError):
        raise
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        what = f"{kind}{error}".rstrip(".")[:MOST_WORDS]
        raise ModelFileError(
            f"{path} does not make a model that works: {what}. If you passed a "
            "network or a likelihood, pass what the model was fitted with; otherwise "
            "the file was altered: take another copy of it, or save the model again."
        ) from error
