"""Files that skgen 0.1 wrote: they load, score and encode as they did, and go on.

They are also the files in which each array in turn gets a number that is not finite.
"""

import hashlib
import json
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import skgen
from skgen._files.container import sealed
from skgen.io import ModelFileError
from tests import make_reference_files as reference
from tests.estimators import dense

FOLDER = Path(__file__).with_name("files_0_1")
NAMES = sorted(path.stem for path in FOLDER.glob("*.safetensors"))

every_file = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return dict(np.load(FOLDER / "expected.npz"))


@every_file
def test_a_file_saved_by_0_1_loads_and_scores_the_same(
    name: str, expected: dict[str, Any]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = skgen.load(FOLDER / f"{name}.safetensors")
    rows = reference.rows_of(name, expected)
    assert_allclose(model.score_samples(rows), expected[f"{name}/scores"], 1e-6, 1e-6)
    codes = np.asarray(dense(model.transform(rows)))
    assert_allclose(codes, expected[f"{name}/codes"], 1e-6, 1e-6)
    assert np.asarray(model.sample(3, random_state=0)).shape == (3, rows.shape[1])


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_partial")])
def test_a_file_saved_by_0_1_goes_on(name: str, expected: dict[str, Any]) -> None:
    model = skgen.load(FOLDER / f"{name}.safetensors")
    rows = reference.rows_of(name, expected)
    assert np.isfinite(model.partial_fit(rows).score_samples(rows)).all()


def test_files_of_0_1_hold_every_estimator(expected: dict[str, Any]) -> None:
    headers = (_header(path.read_bytes()) for path in FOLDER.glob("*.safetensors"))
    classes = {json.loads(each["__metadata__"]["model"])["class"] for each in headers}
    later = {"Autoencoder", "ConditionalVAE", "FlowDensity", "GAN", "MixtureEM"}
    later |= {
        "Diffusion",
        "DiscreteVAE",
        "InfoVAE",
        "TCVAE",
        "StudentMixtureEM",
        "VQVAE2",
    }
    assert classes == set(skgen.io.models.ESTIMATORS) - later
    assert {key.partition("/")[0] for key in expected} == set(NAMES)


def _header(data: bytes) -> Any:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


DTYPES: dict[str, Any] = {"F64": np.float64, "F32": np.float32}


def _with_a_number(data: Any, name: str, value: Any, rng: Any) -> bytes:
    """Return a file in which one number of an array is another, with its checksums."""
    n = int.from_bytes(data[:8], "little")
    header, payload = _header(data), bytearray(data[8 + n :])
    start, stop = header[name]["data_offsets"]
    number = DTYPES[header[name]["dtype"]](value).tobytes()
    at = rng.randrange(start, stop, len(number))
    payload[at : at + len(number)] = number
    header["__metadata__"]["payload_sha256"] = hashlib.sha256(payload).hexdigest()
    return b"".join([*sealed(header), payload])


def _float_arrays(data: bytes) -> Iterator[Any]:
    """Yield the names of the arrays of floats that are not empty."""
    for name, entry in _header(data).items():
        is_empty = name == "__metadata__" or 0 in entry["shape"]
        if not is_empty and entry["dtype"] in DTYPES:
            yield name


@every_file
def test_a_number_that_is_not_finite_is_refused(name: str, tmp_path: Path) -> None:
    data, rng = (FOLDER / f"{name}.safetensors").read_bytes(), random.Random(name)
    arrays = [*_float_arrays(data)]
    assert arrays
    for array in arrays:
        value = rng.choice([np.nan, np.inf, -np.inf])
        (tmp_path / "forged").write_bytes(_with_a_number(data, array, value, rng))
        with pytest.raises(ModelFileError, match="has values that are not finite"):
            skgen.load(tmp_path / "forged")


def test_a_model_with_numbers_that_are_not_finite_is_not_saved(tmp_path: Path) -> None:
    model = skgen.load(FOLDER / "vae.safetensors")
    with torch.no_grad():
        model.module_.decoder[-1].bias[0] = np.nan
    with pytest.raises(ValueError, match=r"was not saved, .*bias' has values that"):
        skgen.save(model, tmp_path / "model")
    assert [*tmp_path.iterdir()] == []
