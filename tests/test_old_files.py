"""Files that skgen 0.1 wrote: they load, score and encode as they did, and go on."""

import warnings
from pathlib import Path

import make_reference_files as reference
import numpy as np
import pytest
from estimators import dense
from numpy.testing import assert_allclose

import skgen

FOLDER = Path(__file__).with_name("files_0_1")
NAMES = sorted(path.stem for path in FOLDER.glob("*.safetensors"))

every_file = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def expected():
    return dict(np.load(FOLDER / "expected.npz"))


@every_file
def test_a_file_saved_by_0_1_loads_and_scores_the_same(name, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = skgen.load(FOLDER / f"{name}.safetensors")
    rows = reference.rows_of(name, expected)
    assert_allclose(model.score_samples(rows), expected[f"{name}/scores"], 1e-6, 1e-6)
    codes = np.asarray(dense(model.transform(rows)))
    assert_allclose(codes, expected[f"{name}/codes"], 1e-6, 1e-6)
    assert np.asarray(model.sample(3, random_state=0)).shape == (3, rows.shape[1])


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_partial")])
def test_a_file_saved_by_0_1_goes_on(name, expected):
    model = skgen.load(FOLDER / f"{name}.safetensors")
    rows = reference.rows_of(name, expected)
    assert np.isfinite(model.partial_fit(rows).score_samples(rows)).all()


def test_files_of_0_1_hold_every_estimator(expected):
    classes = {type(skgen.load(path)) for path in FOLDER.glob("*.safetensors")}
    assert classes == set(skgen.io.models.ESTIMATORS.values())
    assert {key.partition("/")[0] for key in expected} == set(NAMES)
