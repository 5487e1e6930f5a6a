"""What ``import skgen`` loads, and that nobody notices what it does not."""

import importlib
import subprocess
import sys
from typing import Any

import pytest

import skgen

HEAVY = (
    "matplotlib",
    "rich",
    "pandas",
    "polars",
    "pyarrow",
    "onnx",
    "onnxscript",
    "zuko",
)
ADDED = """
import sys
import torch, sklearn
before = set(sys.modules)
{statement}
print(*sorted({{name.partition('.')[0] for name in set(sys.modules) - before}}))
"""


def packages_added_by(statement: str) -> set[Any]:
    """Packages that a statement loads in a process with torch and scikit-learn."""
    code = ADDED.format(statement=statement)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_import_loads_nothing_heavy() -> None:
    added = packages_added_by("import skgen")
    assert "skgen" in added
    assert not added & {*HEAVY, "sklearn", "torch", "safetensors"}


def test_no_name_loads_what_is_optional() -> None:
    added = packages_added_by("from skgen import *")
    # scikit-learn's callbacks look for rich, and load it where it is.
    assert not added & {*HEAVY} - {"rich"}


def test_names_are_where_they_are_said_to_be() -> None:
    assert sorted(skgen._HOMES) == sorted(skgen.__all__)
    for name, module in skgen._HOMES.items():
        home = importlib.import_module(f"skgen.{module}")
        assert getattr(skgen, name) is getattr(home, name)


def test_the_package_shows_its_names() -> None:
    assert {*skgen.__all__, "__version__"} <= set(dir(skgen))
    names: dict[str, Any] = {}
    exec("from skgen import *", names)
    assert {*skgen.__all__} <= set(names)


def test_modules_are_attributes() -> None:
    added = packages_added_by("import skgen; skgen.likelihoods.Gaussian, skgen.metrics")
    assert "skgen" in added


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'skgen' has no attribute 'Gan'"):
        _ = skgen.Gan  # type: ignore[attr-defined]
    with pytest.raises(ImportError, match="Gan"):
        from skgen import Gan  # type: ignore[attr-defined]  # noqa: F401
