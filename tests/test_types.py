"""Attributes, choices and names of the package, as type checkers see them."""

import ast
import inspect
import pkgutil
import re
import typing
from pathlib import Path
from typing import Any

import pytest

import skgen
from skgen import outliers, textures
from tests.estimators import ESTIMATORS, ONE_OF_EACH, class_name, fitted, name_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

PUBLIC = [name for _, name, _ in pkgutil.iter_modules(skgen.__path__) if name[0] != "_"]
CLASSES = [
    cls
    for home in (skgen, outliers, textures)
    for cls in (getattr(home, name) for name in getattr(home, "__all__", dir(home)))
    if inspect.isclass(cls) and vars(cls).get("_parameters")
]


def own_annotations(cls: Any) -> Any:
    """Types that the body of a class states, by name."""
    return vars(cls).get("__annotations__", {})


def annotations(cls: Any) -> Any:
    """Names that the body of a class, or of a base, gives a type."""
    return {name for base in cls.__mro__ for name in own_annotations(base)}


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)
def test_fitted_attributes_have_types(estimator: Any) -> None:
    model = fitted(estimator)
    own = {name for name in vars(model) if name.endswith("_")}
    # These are scikit-learn's, and declared for checkers alone.
    own -= {"n_features_in_", "feature_names_in_"}
    assert own <= annotations(type(model))


@pytest.mark.parametrize("estimator", ONE_OF_EACH, ids=class_name)
def test_documented_attributes_are_seen(estimator: Any) -> None:
    cls: Any = type(estimator)
    section = cls.__doc__.partition("    Attributes\n")[2].partition("\n\n")[0]
    names = set(re.findall(r"^    (\w+_) :", section, re.MULTILINE))
    seen = {*annotations(cls), "n_features_in_", "feature_names_in_"}
    assert names
    for name in names - seen:
        assert isinstance(inspect.getattr_static(cls, name), property), name


def literals(hint: Any) -> Any:
    """Values of the literals in a type."""
    if typing.get_origin(hint) is typing.Literal:
        return set(typing.get_args(hint))
    return {value for arg in typing.get_args(hint) for value in literals(arg)}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_choices_are_literals(cls: Any) -> None:
    for name, rules in cls._parameters.items():
        words = [rule.words for rule in rules if rule.words.startswith("a str among")]
        owner = next(base for base in cls.__mro__ if name in own_annotations(base))
        written = own_annotations(owner)[name]
        if words and written not in ("Any", "Strategy"):
            found = literals(eval(written, vars(inspect.getmodule(owner))))
            assert found == set(re.findall("'([^']*)'", words[0])), name


def test_the_package_lists_its_modules_and_names() -> None:
    assert dir(skgen) == sorted([*skgen.__all__, *PUBLIC, "__version__"])


def test_checkers_see_the_modules() -> None:
    tree = ast.parse(Path(skgen.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = [a.asname for node in imports for a in node.names if node.module == "skgen"]
    assert seen == PUBLIC
