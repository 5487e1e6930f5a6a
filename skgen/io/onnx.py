"""Encoders and decoders as ONNX graphs, for runtimes without Python."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skgen._files.container import place_of, write_atomically
from skgen._utils.tensors import forked_rng, make_generator
from skgen.models.evaluation import BoundedModel
from skgen.models.neural import NeuralModel

Path = str | os.PathLike[str]
# Rows of the examples that graphs are traced with; theirs is the free dimension.
EXAMPLES = 2


class Part(nn.Module):
    """One method of a fitted model, as a module."""

    def __init__(self, model: BoundedModel, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, x: Tensor) -> Tensor:
        """Call it on rows."""
        out: Tensor = getattr(self.model, self.method)(x)
        return out


def to_onnx(
    model: NeuralModel, *, encoder: Path | None = None, decoder: Path | None = None
) -> None:
    """Write the encoder and the decoder of a fitted model as ONNX graphs.

    The encoder maps ``X`` (n, n_features) to ``code``, as ``transform`` does; the
    decoder maps ``code`` to ``X``, as ``inverse_transform`` does: rows in their units,
    any number of them, in float32. The code of a ``VQVAE`` is its code vectors,
    whatever its ``encode``. A graph has neither the density nor the prior. This needs
    an extra: ``pip install "scikit-generative[onnx]"``.

    Parameters
    ----------
    model : VAE, BetaVAE, IWAE or VQVAE
        A fitted estimator with networks, skgen's or your own.
    encoder, decoder : path-like, default=None
        Where to write each; ``None`` leaves it out. Both files are written, or none.

    Raises
    ------
    NotFittedError
        If the model is not fitted.
    TypeError
        If it has no networks.
    ValueError
        If its encoder binarises rows by a hash of their bits, which ONNX has not, or
        a network of your own fixes the number of rows.
    ImportError
        If onnx or onnxscript is missing.
    OSError
        If a file cannot be written, or something is there that is no regular file.

    See Also
    --------
    skgen.save : The whole of a model.

    References
    ----------
    The Open Neural Network Exchange, https://onnx.ai.
    """
    _check(model, encoder)
    places = {
        method: place_of(path)
        for method, path in (("encode", encoder), ("decode", decoder))
        if path is not None
    }
    if len({*places.values()}) < len(places):
        raise ValueError(
            f"encoder and decoder are one file, {encoder!r}. Give each its own."
        )
    module = copy.deepcopy(model.module_).cpu()
    with torch.no_grad(), forked_rng(0):
        graphs = {place: [GRAPHS[method](module)] for method, place in places.items()}
    write_atomically(graphs)


def _encoder_graph(module: BoundedModel) -> bytes:
    rows = module.standardizer.inverse(
        torch.zeros(EXAMPLES, len(module.standardizer.shift))
    )
    return _graph(module, "encode", rows, "X", "code")


def _decoder_graph(module: BoundedModel) -> bytes:
    codes = module.draw_codes(EXAMPLES, make_generator(0, torch.device("cpu")))
    return _graph(module, "decode", codes, "code", "X")


GRAPHS = {"encode": _encoder_graph, "decode": _decoder_graph}


def _check(model: Any, encoder: Path | None) -> None:
    name = type(model).__name__
    if not isinstance(model, NeuralModel):
        raise TypeError(
            f"to_onnx takes a fitted VAE, BetaVAE, IWAE or VQVAE. Got {name}."
        )
    check_is_fitted(model)
    if encoder is not None and model.module_.likelihood.draws_rows:
        raise ValueError(
            f"The encoder of this {name} binarises rows by a hash of their bits, which "
            "ONNX has no operator for. Leave encoder out, or fit on binary rows with "
            "likelihood='bernoulli'."
        )
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"to_onnx needs {' and '.join(missing)}: pip install "
            '"scikit-generative[onnx]".'
        )


def _graph(
    module: BoundedModel, method: str, example: Tensor, takes: str, gives: str
) -> bytes:
    """Trace a method, and return its graph."""
    with _quiet():
        program: Any = torch.onnx.export(
            Part(module, method).eval(),
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[takes],
            output_names=[gives],
            dynamic_shapes=({0: torch.export.Dim("n")},),
        )
    graph = program.model_proto.graph
    if not graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise ValueError(
            f"Traced, {method!r} takes {EXAMPLES} rows and no other number, because a "
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
