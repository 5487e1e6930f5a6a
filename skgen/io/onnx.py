"""Encoders, decoders and exact scores as ONNX graphs, for runtimes without Python."""

from __future__ import annotations

import copy
import io
import logging
import os
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skgen._em.steps import log_peaks
from skgen._files.container import place_of, write_atomically
from skgen._utils.tensors import forked_rng, make_generator
from skgen.models.gaussian import GaussianDensity
from skgen.models.kmeans import KMeansAutoencoder
from skgen.models.mixture import GaussianMixtureEM
from skgen.models.neural import NeuralModel

Path = str | os.PathLike[str]
# Models whose density is a mixture, or one Gaussian.
Exact = GaussianDensity | GaussianMixtureEM | KMeansAutoencoder
# Rows of the examples that graphs are traced with; theirs is the free dimension.
EXAMPLES = 2


Function = Callable[[Tensor], Tensor]
PIPELINES = (
    " Of a pipeline, skl2onnx makes a graph after skgen.io.register_converters()."
)
# Opset of ONNX that graphs are written in where none is asked for.
OPSET = 18


class Part(nn.Module):
    """A function of rows, as a module."""

    def __init__(self, part: Function) -> None:
        super().__init__()
        # A method of a module brings the weights of the module with it.
        self.module, self.part = getattr(part, "__self__", None), part

    def forward(self, x: Tensor) -> Tensor:
        """Call it on rows."""
        return self.part(x)


class Traced(NamedTuple):
    """Part of a model for a graph: a function, an example, names of both ends."""

    part: Function
    example: Tensor
    takes: str
    gives: str


def to_onnx(
    model: NeuralModel | Exact,
    *,
    encoder: Path | None = None,
    decoder: Path | None = None,
    score: Path | None = None,
    opset: int = OPSET,
) -> dict[str, bytes]:
    """Return a fitted model as ONNX graphs, and write those that have a path.

    The encoder maps ``X`` (n, n_features) to ``code``, as ``transform`` does; the
    decoder maps ``code`` to ``X``, as ``inverse_transform`` does; the score, of models
    whose density is exact, maps ``X`` to ``log_prob`` (n,), as ``score_samples`` does:
    rows in their units, any number of them. Graphs of networks are in float32, those
    of the others in float64. The code of a ``VQVAE`` is its code vectors, and that of
    ``KMeansAutoencoder`` is one-hot, whatever its ``encode``. Rows may have no missing
    cells. This needs an extra: ``pip install "scikit-generative[onnx]"``.

    Parameters
    ----------
    model : estimator
        A fitted model with an encoder and a decoder (VAE, BetaVAE, IWAE, InfoVAE,
        TCVAE, DiscreteVAE, Autoencoder, VQVAE, VQVAE2; ConditionalVAE as without y),
        with networks of skgen or your own; GaussianDensity, GaussianMixtureEM or
        KMeansAutoencoder.
    encoder, decoder, score : path-like, default=None
        Where to write each. All files are written, or none.
    opset : int, default=18
        Version of ONNX's operators, from 18.

    Returns
    -------
    graphs : dict of str to bytes
        Graphs by name: those with a path, or, where no path is given, all that the
        model has.

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    TypeError
        If there is no graph of such a model.
    ValueError
        If its encoder binarises rows by a hash of their bits, which ONNX has not; if a
        score is asked for and is no exact one; if a network of your own fixes the
        number of rows; or if torch cannot write the opset.
    ImportError
        If onnx or onnxscript is missing.
    OSError
        If a file cannot be written, or something is there that is no regular file.

    See Also
    --------
    skgen.save : The whole of a model.
    skgen.io.register_converters : Whole pipelines, by skl2onnx.

    References
    ----------
    The Open Neural Network Exchange, https://onnx.ai.
    """
    paths = {"encoder": encoder, "decoder": decoder, "score": score}
    asked = {name: path for name, path in paths.items() if path is not None}
    places = {name: place_of(path) for name, path in asked.items()}
    if len({*places.values()}) < len(places):
        raise ValueError(
            f"{' and '.join(places)} are to be written to one file, "
            f"{str(next(iter(asked.values())))!r}. Give each its own."
        )
    _check(model, opset)
    with torch.no_grad(), forked_rng(0):
        parts = parts_of(model, asked)
        graphs = {name: graph_of(name, parts[name], opset) for name in asked or parts}
    write_atomically({place: [graphs[name]] for name, place in places.items()})
    return graphs


def _check(model: Any, opset: int) -> None:
    if not isinstance(model, NeuralModel | Exact):
        raise TypeError(
            "to_onnx takes a fitted model with an encoder and a decoder, such as VAE "
            "or VQVAE, GaussianDensity, GaussianMixtureEM or KMeansAutoencoder. Got "
            f"{type(model).__name__}.{PIPELINES if hasattr(model, 'steps') else ''}"
        )
    check_is_fitted(model)
    if not (isinstance(opset, int) and opset >= OPSET):
        raise ValueError(f"opset must be an integer from {OPSET}. Got {opset!r}.")
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"to_onnx needs {' and '.join(missing)}: pip install "
            '"scikit-generative[onnx]".'
        )


def parts_of(model: Any, asked: Collection[str]) -> dict[str, Traced]:
    """Return the parts of a model that have a graph."""
    name = type(model).__name__
    if isinstance(model, Exact):
        return _parts_of_exact(model)
    parts = _parts_of_networks(copy.deepcopy(model.module_).cpu())
    if "encoder" in asked and "encoder" not in parts:
        raise ValueError(
            f"The encoder of this {name} binarises rows by a hash of their bits, which "
            "ONNX has no operator for. Leave encoder out, or fit on binary rows with "
            "likelihood='bernoulli'."
        )
    if "score" in asked:
        raise ValueError(
            f"The score of {name} is a bound from draws, which has no graph. Leave "
            "score out, or take a model whose density is exact."
        )
    return parts


def _parts_of_networks(module: Any) -> dict[str, Traced]:
    codes = module.draw_codes(EXAMPLES, make_generator(0, torch.device("cpu")))
    parts = {"decoder": Traced(module.decode, codes, "code", "X")}
    if not module.likelihood.draws_rows:
        zeros = torch.zeros(EXAMPLES, len(module.standardizer.shift))
        rows = module.standardizer.inverse(zeros)
        parts["encoder"] = Traced(module.encode, rows, "X", "code")
    return parts


def _parts_of_exact(model: Exact) -> dict[str, Traced]:
    """Parts of a mixture, or of one Gaussian: rows seen directly, without a centre."""
    fitted = model._mixture()
    kind, theta = fitted.kind, fitted.given
    joint = kind.row_log_masses(theta.means, theta.roots, log_peaks(kind, theta))
    rows = theta.means[:1].expand(EXAMPLES, -1).clone()
    encode: Function = lambda x: joint(x).softmax(0).T  # noqa: E731
    decode: Function = lambda code: code @ theta.means  # noqa: E731
    if isinstance(model, GaussianDensity):
        whole = model._whole_model(torch.float64)
        encode, decode = whole.encode, whole.decode
    if isinstance(model, KMeansAutoencoder):
        units = model._units.to(theta.means)
        encode = _one_hot_of_nearest(theta.means / units, units)
    return {
        "encoder": Traced(encode, rows, "X", "code"),
        "decoder": Traced(decode, encode(rows), "code", "X"),
        "score": Traced(lambda x: joint(x).logsumexp(0), rows, "X", "log_prob"),
    }


def _one_hot_of_nearest(centres: Tensor, units: Tensor) -> Function:
    """Make a function from rows (n, d) to one-hot rows (n, K) of the nearest centre."""
    eye = torch.eye(len(centres)).to(centres)

    def encode(x: Tensor) -> Tensor:
        differences = (x / units)[:, None] - centres  # (n, K, d)
        return eye[differences.square().sum(-1).argmin(1)]

    return encode


def graph_of(name: str, traced: Traced, opset: int) -> bytes:
    """Trace a part, and return its graph."""
    with _quiet():
        program: Any = torch.onnx.export(
            Part(traced.part).eval(),
            (traced.example,),
            dynamo=True,
            verbose=False,
            opset_version=opset,
            input_names=[traced.takes],
            output_names=[traced.gives],
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )
    written = program.model_proto.opset_import[0].version
    if written != opset:
        raise ValueError(
            f"opset={opset} cannot be written by torch {torch.__version__}, which gave "
            f"{written}. Take opset={written}, or another torch."
        )
    graph = program.model_proto.graph
    if not graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise ValueError(
            f"Traced, the {name} takes {EXAMPLES} rows and no other number, because a "
            "network makes a tensor of as many rows as it is given, or loops over "
            "them. Write it with operations on whole tensors."
        )
    serialized: bytes = program.model_proto.SerializeToString()
    return serialized


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what torch says of itself, and of packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
