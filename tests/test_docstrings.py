"""Docstrings say what the code does: complete in the source, defaults as they are."""

import ast
import inspect
import runpy
from pathlib import Path
from typing import Any, cast

import pytest

import skgen
import skgen.outliers
import skgen.textures
from tests.estimators import VARIANTS

ROOT = Path(__file__).parents[1]
COPIES = runpy.run_path(str(ROOT / "docs" / "docstrings.py"))
CLASSES = [
    *(getattr(skgen, name) for name in skgen.__all__ if name[0].isupper()),
    *(
        getattr(skgen.textures, name)
        for name in skgen.textures.__all__
        if name != "tile"
    ),
    skgen.outliers.DensityOutlierDetector,
]


def parameters_of(cls: type[Any]) -> list[Any]:
    return list(inspect.signature(cls).parameters.values())


def test_shared_docstrings_are_copied() -> None:
    stale = [
        path.name
        for path, text in COPIES["written"]().items()
        if path.read_text() != text
    ]
    assert not stale, "run: make docstrings"


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_source_has_the_docstring_that_is_shown(cls: Any) -> None:
    source = inspect.getsource(cls)
    node: Any = ast.parse(source).body[0]
    assert inspect.cleandoc(cast(str, ast.get_docstring(node))) == inspect.cleandoc(
        cls.__doc__
    )


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_parameter_is_described_with_its_default(cls: type[Any]) -> None:
    entries = COPIES["entries"](f'    """{cls.__doc__}')
    described = {
        name: entry.split("\n")[0]
        for names, entry in entries.items()
        for name in names.split(", ")
    }
    for each in parameters_of(cls):
        line = described[each.name]
        if each.default is not inspect.Parameter.empty:
            _, _, default = line.partition("default=")
            assert ast.literal_eval(default) == each.default, line


def test_all_estimators_have_one_style_of_constructor() -> None:
    names = [cls for cls in CLASSES if cls.__name__ in VARIANTS]
    assert all(hasattr(cls, "__dataclass_fields__") for cls in names)
