"""ONNX graphs give what the estimators give, to 1e-5, in onnxruntime."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import skgen
from skgen import (
    VAE,
    VQVAE,
    BetaVAE,
    GaussianDensity,
    GaussianMixtureEM,
    KMeansAutoencoder,
    MixtureEM,
)
from skgen.likelihoods import Bernoulli, DiscretizedLogistic
from tests.estimators import fitted, rows_for

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

pytestmark = [
    pytest.mark.usefixtures("guarded_generators"),
    # Few epochs, on purpose.
    pytest.mark.filterwarnings(
        "ignore:.*maximum iterations:sklearn.exceptions.ConvergenceWarning"
    ),
]

TINY: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
IMAGES: dict[str, Any] = {"architecture": "conv", "image_shape": (8, 8), "channels": 4}


def own(n_inputs: Any, n_outputs: Any) -> Any:
    return nn.Sequential(nn.Linear(n_inputs, 6), nn.GELU(), nn.Linear(6, n_outputs))


MODELS: dict[str, Any] = {
    "gaussian": BetaVAE((3, 2), **TINY),
    "own networks": VAE(2, encoder=own, decoder=own, **TINY),
    "bernoulli": VAE(2, likelihood="bernoulli", **TINY),
    "levels": VQVAE(8, likelihood=DiscretizedLogistic(17), **IMAGES, **TINY),
}


def run(path: Path | bytes, rows: dict[str, Any]) -> Any:
    (out,) = runtime.InferenceSession(path).run(None, rows)
    return out


@pytest.mark.parametrize("name", MODELS)
def test_graphs_give_what_the_estimator_gives(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    X = rows_for(MODELS[name], dtype=np.float32)
    model = clone(MODELS[name]).fit(X)
    paths: dict[str, Any] = {
        part: tmp_path / f"{part}.onnx" for part in ("encoder", "decoder")
    }
    skgen.to_onnx(model, **paths)
    assert "".join(capfd.readouterr()) == ""
    assert sorted(tmp_path.iterdir()) == sorted(paths.values())
    for rows in (X, X[:1]):
        code = run(paths["encoder"], {"X": rows})
        assert code.dtype == np.float32
        assert_allclose(code, model.transform(rows), rtol=1e-5, atol=1e-5)
        decoded = run(paths["decoder"], {"code": code})
        expected = model.inverse_transform(code)
        assert_allclose(decoded, expected, rtol=1e-5, atol=1e-5)


EXACT: dict[str, Any] = {
    "gaussian": GaussianDensity(),
    "axes": GaussianDensity(2),
    "independent": GaussianDensity(covariance_type="diag"),
    "full": GaussianMixtureEM(3, random_state=0),
    "tied": GaussianMixtureEM(3, covariance_type="tied", random_state=0),
    "diag": GaussianMixtureEM(3, covariance_type="diag", random_state=0),
    "centres": KMeansAutoencoder(3, random_state=0),
    "units": KMeansAutoencoder(3, variance="feature", random_state=0),
}


@pytest.mark.parametrize("name", EXACT)
def test_graphs_of_exact_models_score(name: str, tmp_path: Path) -> None:
    X = rows_for(EXACT[name])
    model = clone(EXACT[name]).fit(X)
    # Types of covariance differ in the score alone.
    is_variant = name in ("independent", "tied", "diag", "units")
    asked: dict[str, Any] = {"score": tmp_path / "score.onnx"} if is_variant else {}
    graphs = skgen.to_onnx(model, **asked)
    assert set(graphs) == (set(asked) or {"encoder", "decoder", "score"})
    for rows in (X, X[:1]):
        score = run(graphs["score"], {"X": rows})
        assert_allclose(score, model.score_samples(rows), rtol=1e-9, atol=1e-9)
        if is_variant:
            continue
        code = run(graphs["encoder"], {"X": rows})
        assert_allclose(code, model.transform(rows), rtol=1e-9, atol=1e-9)
        decoded = run(graphs["decoder"], {"code": code})
        assert_allclose(decoded, model.inverse_transform(code), rtol=1e-9, atol=1e-9)


def test_a_graph_is_returned_and_written_as_it_is(tmp_path: Path) -> None:
    model = fitted(EXACT["gaussian"])
    graphs = skgen.to_onnx(model, score=tmp_path / "score.onnx")
    assert [*graphs] == ["score"]
    assert (tmp_path / "score.onnx").read_bytes() == graphs["score"]


def test_what_cannot_be_asked_for_is_an_error(tmp_path: Path) -> None:
    exact, path = fitted(EXACT["gaussian"]), tmp_path / "graph.onnx"
    with pytest.raises(ValueError, match=r"encoder and score are to be written to one"):
        skgen.to_onnx(exact, encoder=path, score=path)
    with pytest.raises(ValueError, match=r"opset must be an integer from 18\. Got 9"):
        skgen.to_onnx(exact, opset=9)
    with pytest.raises(ValueError, match=r"score of VAE is a bound from draws"):
        skgen.to_onnx(fitted(VAE(1, **TINY)), score=path)
    assert not path.exists()


def test_an_opset_is_that_of_the_graph(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = fitted(EXACT["independent"])
    for opset in (18, 20):
        skgen.to_onnx(model, score=tmp_path / "score.onnx", opset=opset)
        graph = onnx.load(tmp_path / "score.onnx")
        assert graph.opset_import[0].version == opset


def test_rows_that_are_drawn_leave_the_decoder(tmp_path: Path) -> None:
    X = np.random.RandomState(0).rand(40, 3)
    model = VAE(1, likelihood=Bernoulli("dynamic"), **TINY).fit(X)
    with pytest.raises(ValueError, match=r"binarises rows .* Leave encoder out"):
        skgen.to_onnx(model, encoder=tmp_path / "encoder.onnx")
    skgen.to_onnx(model, decoder=tmp_path / "decoder.onnx")
    code = model.transform(X).astype(np.float32)
    decoded = run(tmp_path / "decoder.onnx", {"code": code})
    assert_allclose(decoded, model.inverse_transform(code), atol=1e-5)


class FixesRows(nn.Linear):
    def forward(self, x: Any) -> Any:
        out = super().forward(x)
        places = torch.arange(out.shape[1]).expand(len(x), -1)
        return out.new_zeros(len(x), out.shape[1]).scatter_add(1, places, out)


def test_a_graph_of_a_fixed_number_of_rows_is_an_error(tmp_path: Path) -> None:
    X = np.random.RandomState(0).randn(40, 3)
    model = VAE(1, encoder=FixesRows, **TINY).fit(X)
    with pytest.raises(
        ValueError, match="the encoder takes 2 rows and no other number"
    ):
        skgen.to_onnx(model, encoder=tmp_path / "encoder.onnx")


def test_what_has_no_graph_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    with pytest.raises(NotFittedError):
        skgen.to_onnx(VAE(), encoder=path)
    with pytest.raises(TypeError, match=r"or KMeansAutoencoder\. Got MixtureEM"):
        skgen.to_onnx(MixtureEM(), encoder=path)  # type: ignore[arg-type]
    assert not path.exists()


def test_a_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = VAE(1, **TINY).fit(np.random.RandomState(0).randn(30, 2))
    monkeypatch.setattr(sys.modules["skgen.io.onnx"], "find_spec", lambda name: None)
    with pytest.raises(
        ImportError, match=r"onnx and onnxscript: pip install \"scikit-generative\["
    ):
        skgen.to_onnx(model, encoder=tmp_path / "encoder.onnx")


# Whole pipelines, by skl2onnx.


def pipeline_graph(model: Any, rows: Any, **options: Any) -> bytes:
    skl2onnx = pytest.importorskip("skl2onnx")
    skgen.io.register_converters()
    graph = skl2onnx.to_onnx(model, rows[:1], target_opset=18, **options)
    return bytes(graph.SerializeToString())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["network", "mixture"])
def test_a_pipeline_is_one_graph(name: str, dtype: Any) -> None:
    models: dict[str, Any] = {
        "network": VAE(2, **TINY),
        "mixture": GaussianMixtureEM(3, random_state=0),
    }
    X = np.random.RandomState(0).randn(60, 4).astype(dtype)
    steps = StandardScaler(), models[name], LogisticRegression()
    model = make_pipeline(*steps).fit(X, X[:, 0] > 0)
    graph = pipeline_graph(model, X, options={"zipmap": False})
    _, found = runtime.InferenceSession(graph).run(None, {"X": X})
    assert found.dtype == dtype
    assert_allclose(found, model.predict_proba(X), atol=1e-5)


def test_a_density_ends_a_pipeline_with_codes_and_scores() -> None:
    X = np.random.RandomState(0).randn(60, 4) * [1, 2, 3, 4]
    density = GaussianDensity()
    model = skgen.make_generative_pipeline(StandardScaler(), density).fit(X)
    graph = pipeline_graph(model, X, options={id(density): {"score_samples": True}})
    code, log_prob = runtime.InferenceSession(graph).run(None, {"X": X})
    assert_allclose(code, model.transform(X), atol=1e-9)
    log_det = -np.log(model[0].scale_).sum()
    assert_allclose(log_prob + log_det, model.score_samples(X), atol=1e-9)
    with pytest.raises(TypeError, match=r"skgen\.io\.register_converters\(\)"):
        skgen.to_onnx(model)  # type: ignore[arg-type]


def test_graphs_of_pipelines_have_an_opset() -> None:
    skl2onnx = pytest.importorskip("skl2onnx")
    skgen.io.register_converters()
    X = np.random.RandomState(0).randn(20, 2)
    model = make_pipeline(GaussianDensity()).fit(X)
    with pytest.raises(ValueError, match="Give target_opset=18"):
        skl2onnx.to_onnx(model, X[:1], target_opset=15)


def test_without_skl2onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["skgen.io.converters"]
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"skl2onnx: pip install \"scikit-generative"):
        skgen.io.register_converters()
