"""The code of docs/howto/distributed.md under Ray and Spark: `make test-clusters`."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import skgen

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "distributed.md"
# What starts an engine on this machine, and makes the code one of two workers.
BEFORE = {
    "Ray": "import ray; ray.init(num_cpus=2, include_dashboard=False)",
    "Spark": (
        "from pyspark.sql import SparkSession; SparkSession.builder.master('local[2]')"
        ".config('spark.ui.enabled', 'false').getOrCreate()"
    ),
}
SMALLER = {
    "num_workers=4": "num_workers=2",
    "num_processes=4, local_mode=False": "num_processes=2, local_mode=True",
    "skgen.VAE(8": "skgen.VAE(2",
    "EM(8": "EM(2",
}


def code_of(engine: str, folder: Path) -> str:
    """Return the code of a section of the page, for two workers here."""
    code = PAGE.read_text().split(f"## {engine}\n")[1].split("```")[1]
    for old, new in {**SMALLER, '"/shared"': repr(str(folder))}.items():
        code = code.replace(old, new)
    lines = [BEFORE[engine], *code.splitlines()]
    return "if __name__ == '__main__':\n" + "\n".join(f"    {x}" for x in lines) + "\n"


@pytest.mark.parametrize(
    ("engine", "library", "name"),
    [("Ray", "ray", "vae"), ("Spark", "pyspark", "mixture")],
)
def test_two_workers_fit_one_model(
    engine: str, library: str, name: str, tmp_path: Path
) -> None:
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed: make test-clusters")
    for rank in range(2):
        rows = np.random.default_rng(rank).normal(size=(500, 5)).astype(np.float32)
        np.save(tmp_path / f"rows-{rank}.npy", rows)
    script = tmp_path / "howto.py"
    script.write_text(code_of(engine, tmp_path))
    subprocess.run([sys.executable, script], check=True, timeout=900)
    model = skgen.load(tmp_path / name)
    assert model.n_features_in_ == 5
    assert np.isfinite(model.score(rows))
