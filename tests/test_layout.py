"""The order of the house: what may import what."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, cast

import pytest

ROOT = Path(__file__).parents[1] / "skgen"
# From the bottom up: a package imports itself and packages of the lines above it here.
FLOORS = (
    "exceptions",
    "_utils",
    "_training",
    "priors",
    "_networks",
    "likelihoods",
    "objectives",
    "_em",
    "_tables",
    "_search",
    "_files",
    "models",
    "bijections",
    "latent",
    "metrics",
    "datasets",
    "textures",
    "streams",
    "distributed",
    "outliers",
    "pipeline",
    "model_selection",
    "io",
    "display",
)


def name_of(path: Any) -> Any:
    """Dotted name of a module, without ``skgen``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported_by(path: Any) -> Iterator[Any]:
    """Modules of the package that a file imports when it runs."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("skgen"):
            home = cast(str, node.module).removeprefix("skgen").removeprefix(".")
            for alias in node.names:
                inside = f"{home}.{alias.name}".removeprefix(".")
                yield inside if inside in MODULES else home
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("skgen."):
                    yield alias.name.removeprefix("skgen.")


IMPORTS = {name: set(imported_by(path)) for name, path in MODULES.items()}


def test_no_two_modules_import_each_other() -> None:
    graph = {
        # A package imports its parts for its users; that is no dependence of theirs.
        name: {m for m in found if m != name and not name.startswith(f"{m}.")}
        for name, found in IMPORTS.items()
    }
    list(TopologicalSorter(graph).static_order())  # CycleError names a circle


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_module_imports_from_below(name: str) -> None:
    floor = FLOORS.index(name.partition(".")[0])
    for other in IMPORTS[name] - {""}:
        package = other.partition(".")[0]
        assert FLOORS.index(package) <= floor, f"{name} imports {other}, from above"


def test_the_top_level_has_few_public_names() -> None:
    top = {name.partition(".")[0] for name in MODULES} - {""}
    assert top == set(FLOORS)
    assert len([name for name in top if not name.startswith("_")]) <= 20


def n_lines(function: Any) -> Any:
    """Lines of the body of a function, without its docstring."""
    has_docstring = ast.get_docstring(function) is not None
    body = function.body[has_docstring:]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_functions_are_short() -> None:
    trees = [ast.parse(path.read_text()) for path in MODULES.values()]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    lines = sorted(n_lines(n) for n in nodes if isinstance(n, ast.FunctionDef))
    assert lines[len(lines) // 2] <= 5
    assert lines[-1] <= 50


def names_of(path: str, name: str) -> set[Any]:
    """Names that a class defines in its body."""
    tree = ast.parse((ROOT / path).read_text())
    body = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    defined = set()
    for node in body.body:
        if isinstance(node, ast.FunctionDef):
            defined.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            defined.add(cast(ast.Name, node.target).id)
        elif isinstance(node, ast.Assign):
            defined |= {cast(ast.Name, target).id for target in node.targets}
    return {each for each in defined if each.startswith("_") and each[1] != "_"}


@pytest.mark.parametrize(
    "path", ["vae", "vqvae", "conditional", "gan", "diffusion", "flow"]
)
def test_a_model_of_networks_sees_few_names_of_its_base(path: str) -> None:
    base = names_of("models/neural.py", "TrainedModel")
    base |= names_of("models/neural.py", "NeuralModel")
    tree = ast.parse((ROOT / f"models/{path}.py").read_text())
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    seen = set()
    for node in (part for each in classes for part in ast.walk(each)):
        if isinstance(node, ast.FunctionDef):
            seen.add(node.name)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in (
            "self",
            "super()",
        ):
            seen.add(node.attr)
        elif isinstance(node, ast.AnnAssign):
            seen.add(ast.unparse(node.target))
    assert len(seen & base) < 20, sorted(seen & base)
