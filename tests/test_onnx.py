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
from torch import nn

import skgen
from skgen import VAE, VQVAE, BetaVAE, GaussianDensity
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


def run(path: Path, rows: dict[str, Any]) -> Any:
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
    with pytest.raises(ValueError, match="'encode' takes 2 rows and no other number"):
        skgen.to_onnx(model, encoder=tmp_path / "encoder.onnx")


def test_what_has_no_graph_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    with pytest.raises(NotFittedError):
        skgen.to_onnx(VAE(), encoder=path)
    with pytest.raises(TypeError, match=r"VAE, BetaVAE, IWAE or VQVAE\. Got GaussianD"):
        skgen.to_onnx(fitted(GaussianDensity()), encoder=path)
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
