"""The code of the README and of the docs runs as it stands."""

import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

matplotlib.use("Agg")

ROOT = Path(__file__).parents[1]

# Few epochs are what the defaults give on 133 rows.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def run(page):
    """Run the blocks of code of a page, one after the other; their names."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names = {}
    for block in blocks:
        exec(block, names)
    assert blocks
    return names


def test_the_code_on_metrics_runs():
    names = run("docs/metrics.md")
    assert names["codes"].shape == (2000, 6)


def test_the_code_on_pipelines_runs():
    names = run("docs/pipelines.md")
    assert list(names["wines"].columns) == list(names["X"].columns)
    assert type(names["search"].best_params_["standardscaler"]).__name__ in names
    assert names["model"].score(names["X"]) < 0


def test_the_code_on_pictures_runs():
    names = run("docs/pictures.md")
    assert names["rows"].shape == (5, 64)
    assert names["space"].figure_ is names["figure"]
    assert names["more_like_zero"].shape == (5, 64)
    plt.close("all")


def test_the_code_on_speed_runs():
    assert run("docs/speed.md")["search"].n_splits_ == 3


def test_the_code_on_files_runs():
    pytest.importorskip("onnxscript")
    names = run("docs/files.md")
    assert names["mean"].shape == (13,)
    assert names["path"].with_name("decoder.onnx").exists()


def test_the_code_of_the_readme_runs():
    names = run("README.md")
    assert names["codes"].shape == (45, 3)
    assert names["new"].shape == (100, 13)
    assert names["search"].best_params_["beta"] in (0.5, 1, 2, 4)
    assert names["model"].fit(names["X_train"], names["X_train"][:, 0] > 13)
