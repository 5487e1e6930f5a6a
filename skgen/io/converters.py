"""Estimators in pipelines that skl2onnx makes ONNX graphs of."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skgen._utils.tensors import forked_rng
from skgen.io.onnx import OPSET, Part, Traced, graph_of, parts_of
from skgen.models.autoencoder import Autoencoder
from skgen.models.discrete import DiscreteVAE
from skgen.models.gaussian import GaussianDensity
from skgen.models.info import TCVAE, InfoVAE
from skgen.models.kmeans import KMeansAutoencoder
from skgen.models.mixture import GaussianMixtureEM
from skgen.models.vae import IWAE, VAE, BetaVAE
from skgen.models.vqvae import VQVAE

# Models whose encoder has a graph, and of them those with an exact score.
CONVERTED: tuple[type, ...] = (
    *(GaussianDensity, GaussianMixtureEM, KMeansAutoencoder),
    *(VAE, BetaVAE, IWAE, InfoVAE, TCVAE, DiscreteVAE, Autoencoder, VQVAE),
)
SCORED = CONVERTED[:3]


def register_converters() -> None:
    """Let skl2onnx convert pipelines with estimators of skgen in them.

    After it ``skl2onnx.to_onnx(pipeline, X[:1], target_opset=18)`` takes a ``Pipeline``
    or a ``GenerativePipeline`` with a density of skgen as any of its steps. A density
    gives its latent code; with ``options={id(density): {"score_samples": True}}`` one
    whose score is exact gives ``log_prob`` too, in the units behind the steps before
    it: ``GenerativePipeline.score_samples`` adds their log-determinants. This needs an
    extra: ``pip install "scikit-generative[onnx]"``.

    Raises
    ------
    ImportError
        If skl2onnx is missing.

    See Also
    --------
    skgen.to_onnx : Graphs of an estimator by itself, its decoder among them.

    References
    ----------
    The Open Neural Network Exchange, https://onnx.ai; sklearn-onnx,
    https://onnx.ai/sklearn-onnx.

    Examples
    --------
    >>> from skgen.io import register_converters
    >>> register_converters()  # doctest: +SKIP
    """
    if find_spec("skl2onnx") is None:
        raise ImportError(
            'register_converters needs skl2onnx: pip install "scikit-generative[onnx]".'
        )
    skl2onnx = import_module("skl2onnx")
    for model in CONVERTED:
        has_score = model in SCORED
        skl2onnx.update_registered_converter(
            model,
            f"Skgen{model.__name__}",
            _set_shapes,
            _convert,
            parser=_declare_outputs,
            options={"score_samples": [False, True]} if has_score else None,
        )


def _wants_score(scope: Any, model: Any) -> bool:
    options = scope.get_options(model, {"score_samples": False}, fail=False)
    return bool(options and options["score_samples"])


def _declare_outputs(
    scope: Any, model: Any, inputs: Any, custom_parsers: Any = None
) -> Any:
    """Declare the variables that an estimator gives, in the dtype of its rows."""
    types = import_module("skl2onnx.common.data_types")
    operator = scope.declare_local_operator(f"Skgen{type(model).__name__}", model)
    operator.inputs = inputs
    names = ["code", "log_prob"] if _wants_score(scope, model) else ["code"]
    for name in names:
        dtype = types.guess_tensor_type(inputs[0].type)
        operator.outputs.append(scope.declare_local_variable(name, dtype))
    return operator.outputs


def _set_shapes(operator: Any) -> None:
    n_latent = len(operator.raw_operator.get_feature_names_out())
    n_rows = operator.inputs[0].get_first_dimension()
    shapes = [[n_rows, n_latent], [n_rows]]
    for output, shape in zip(operator.outputs, shapes):
        output.type.shape = shape


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add the graphs of an estimator to that of the pipeline."""
    helpers, onnx = import_module("skl2onnx.helpers"), import_module("onnx")
    is_double = "Double" in type(operator.inputs[0].type).__name__
    dtype = torch.float64 if is_double else torch.float32
    if container.target_opset < OPSET:
        raise ValueError(
            f"Graphs of skgen are in opset {OPSET} or later, and this is to be in "
            f"{container.target_opset}. Give target_opset={OPSET}."
        )
    names = ["encoder", "score"][: len(operator.outputs)]
    with torch.no_grad(), forked_rng(0):
        parts = parts_of(operator.raw_operator, names)
        graphs = [graph_of(name, _cast(parts[name], dtype), OPSET) for name in names]
    for graph, output in zip(graphs, operator.outputs):
        one = _Ends(operator.inputs, [output])
        helpers.add_onnx_graph(scope, one, container, onnx.load_from_string(graph))


class _Ends(NamedTuple):
    """One output of an operator, as the helper of skl2onnx takes them."""

    inputs: Any
    outputs: Any


def _cast(traced: Traced, dtype: torch.dtype) -> Traced:
    """Return a part that takes and gives a dtype, and computes in its own."""
    part = Cast(Part(traced.part), traced.example.dtype)
    return traced._replace(part=part.forward, example=traced.example.to(dtype))


class Cast(nn.Module):
    """A function of rows in a dtype of its own."""

    def __init__(self, part: nn.Module, own: torch.dtype) -> None:
        super().__init__()
        self.part, self.own = part, own

    def forward(self, x: Tensor) -> Tensor:
        """Call it on rows of any dtype."""
        found: Tensor = self.part(x.to(self.own))
        return found.to(x.dtype)
