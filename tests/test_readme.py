"""The code of the README and of the docs runs as it stands."""

import re
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pytest
from joblib import parallel_config

from tests.brief import brief_fits

matplotlib.use("Agg")
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

# Few epochs are what the defaults give on 133 rows.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def blocks(page: Path) -> list[Any]:
    """Blocks of Python code of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


def run(page: Path) -> dict[str, Any]:
    """Run the blocks of code of a page, one after the other; their names."""
    names: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page):
        exec(block, names)
    return names


# What a page says about its results, beyond that its code runs.
SAID: dict[str, Any] = {
    "README.md": lambda names: [
        names["codes"].shape == (45, 3),
        names["new"].shape == (100, 13),
        names["same"].score(names["X_test"]) == names["vae"].score(names["X_test"]),
        names["search"].best_params_["beta"] in (0.5, 1, 2, 4),
        Path("samples.png").exists(),  # the picture that docs/images has
        names["model"].fit(names["X_train"], names["X_train"][:, 0] > 13),
    ],
    "docs/tour.md": lambda names: [
        names["classifier"].score(names["X_test"], names["y_test"]) > 0.9,
        names["new"].shape == (100, 13),
        names["careful"].mean_log_prob > names["vae"].score(names["X_test"]),
    ],
    "docs/howto/gpu.md": lambda names: [names["codes"].shape == (2_000, 2)],
    "docs/howto/metrics.md": lambda names: [
        names["codes"].shape == (2000, 6),
        names["whole"].loc["column_shape", "value"] > 0.85,
        names["whole"].loc["copied_rows", "value"] == 0,
    ],
    "docs/howto/pipelines.md": lambda names: [
        list(names["wines"].columns) == list(names["X"].columns),
        type(names["search"].best_params_["standardscaler"]).__name__ in names,
        names["model"].score(names["X"]) < 0,
    ],
    "docs/howto/tables.md": lambda names: [
        names["density"].kinds_["species"] == "categorical",
        not names["filled"].isna().any().any(),
        len(names["draws"]) == 5,
    ],
    "docs/howto/pictures.md": lambda names: [
        names["rows"].shape == names["more_like_zero"].shape == (5, 64),
        names["space"].figure_ is names["figure"],
    ],
    "docs/speed.md": lambda names: [names["search"].n_splits_ == 3],
    "docs/howto/callbacks.md": lambda names: [
        len(names["watch"].scores) > 1,
        names["watch"].scores[-1] > names["watch"].scores[0],
    ],
    "docs/howto/files.md": lambda names: [
        names["mean"].shape == (13,),
        names["path"].with_name("decoder.onnx").exists(),
    ],
}
# Pages that say how good a model is; on others, a few epochs will do.
WHOLE = [
    "docs/tour.md",
    "docs/howto/callbacks.md",
    "docs/howto/pipelines.md",
]
# Pages on libraries that warn of what they are to change.
OF_OTHERS = ["docs/howto/serving.md", "docs/howto/mlflow.md"]
NEEDS = {
    "docs/howto/serving.md": "fastapi",
    "docs/howto/mlflow.md": "mlflow",
    "docs/howto/files.md": "skl2onnx",
    "docs/howto/callbacks.md": "rich",
    "docs/faq.md": "rich",
}
PAGES = [
    str(page.relative_to(ROOT))
    for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
    if blocks(page)
]


@pytest.mark.parametrize("name", PAGES)
def test_the_code_of_a_page_runs_and_gives_what_it_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(NEEDS.get(name, "skgen"))
    monkeypatch.chdir(tmp_path)  # where its files go
    # Workers of another process would be told neither of few epochs nor of folders.
    with (
        warnings.catch_warnings(),
        parallel_config("threading"),
        nullcontext() if name in WHOLE else brief_fits(),
    ):
        if name in OF_OTHERS:
            warnings.simplefilter("ignore")
        names = run(ROOT / name)
    plt.close("all")
    assert all(SAID.get(name, lambda names: [])(names))


def test_what_pages_say_is_about_pages() -> None:
    assert set(SAID) <= set(PAGES)


def test_the_page_on_benchmarks_shows_every_result() -> None:
    page = (DOCS / "benchmarks.md").read_text()
    shown = set(re.findall(r"results/(\S+\.(?:txt|md))", page))
    results = (ROOT / "benchmarks" / "results").iterdir()
    assert shown == {path.name for path in results if path.suffix in (".txt", ".md")}
