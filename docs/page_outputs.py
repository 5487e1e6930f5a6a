"""A Sphinx extension: below the code of a page, what it prints, returns and draws.

A page of Markdown is run as a notebook is: its blocks of Python in order, in one
namespace. Below a block come what it printed, the values of the lines that are
expressions, and the pictures that it left open. A warning of it is one of the build.
"""

from __future__ import annotations

import ast
import tempfile
import warnings
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from docutils import nodes
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sphinx.application import Sphinx
from sphinx.util import logging

from skgen.display.drawing import COLOURS

logger = logging.getLogger(__name__)
PICTURES = "_outputs"  # beside conf.py, where Sphinx looks for pictures
FRAMES = ("display.max_rows", 6, "display.max_columns", 6, "display.precision", 2)
FRAMES += ("display.width", 100)
ARRAYS = {"precision": 3, "suppress": True, "threshold": 20, "edgeitems": 2}


def text_of(value: Any) -> str:
    """Return a value in few digits."""
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, np.generic):
        return str(value)
    if type(value) in (tuple, list):
        ends = "()" if isinstance(value, tuple) else "[]"
        many = (
            [*map(text_of, value)]
            if len(value) < 9
            else [*map(text_of, value[:3]), "...", *map(text_of, value[-2:])]
        )
        return ", ".join(many).join(ends)
    if type(value) is dict:
        return ", ".join(f"{k!r}: {text_of(v)}" for k, v in value.items()).join("{}")
    return repr(value)


def is_shown(value: Any) -> bool:
    """Return whether a notebook would show more of a value than its code does."""
    drawn = type(value).__module__.startswith(("matplotlib", "skgen.display"))
    return not (value is None or drawn or isinstance(value, BaseEstimator))


def outputs(code: str, names: dict[str, Any]) -> str:
    """Run a block of code; return what it printed, and the values of expressions."""
    printed = StringIO()
    values = []
    with redirect_stdout(printed):
        for line in ast.parse(code).body:
            module = ast.Module([line], type_ignores=[])
            if not isinstance(line, ast.Expr):
                exec(compile(module, "page", "exec"), names)
                continue
            value = eval(compile(ast.Expression(line.value), "page", "eval"), names)
            if is_shown(value):
                values.append((ast.unparse(line), value))
    with pd.option_context(*FRAMES), np.printoptions(**ARRAYS):
        return "\n".join(filter(None, [printed.getvalue().rstrip(), beside(values)]))


def beside(values: list[tuple[str, Any]]) -> str:
    """Return one value as it is, and several beside the expressions that gave them."""
    if len(values) == 1:
        return text_of(values[0][1])
    lines = []
    for source, value in values:
        text = text_of(value)
        if "\n" in text and isinstance(value, np.ndarray):
            text = f"array of shape {value.shape}"
        wraps = "\n" in text or len(source) + len(text) > 80
        lines.append(f"{source}\n{text}" if wraps else f"{source}:  {text}")
    return "\n".join(lines)


def use_palette(*_: Any) -> None:
    """Have the lines of all pictures in the colours of skgen's own."""
    plt.rcParams["axes.prop_cycle"] = cycler(color=COLOURS)


def description(figure: Any) -> str:
    """Return what a picture is, for who cannot see it: the words that are in it."""
    words = [figure.get_suptitle()]
    for ax in figure.axes:
        words += [ax.get_title(), ax.get_xlabel(), ax.get_ylabel()]
    return "Picture by the code above: " + "; ".join(dict.fromkeys(filter(None, words)))


def pictures(folder: Path, name: str) -> list[nodes.image]:
    """Save the pictures that are open, close them, and return their nodes."""
    found = []
    for number in plt.get_fignums():
        figure = plt.figure(number)
        path = folder / f"{name}_{number}.png"
        figure.savefig(path, dpi=200, bbox_inches="tight")  # twice what is shown
        found.append(
            nodes.image(
                uri=f"/{PICTURES}/{path.name}",
                alt=description(figure),
                width=f"{plt.imread(path).shape[1] // 2}px",
                classes=["output"],
            )
        )
    plt.close("all")
    return found


def add_outputs(app: Sphinx, doctree: nodes.document) -> None:
    """Run a page, and put below each block of its code what came out."""
    page = app.env.docname
    is_ours = Path(app.env.doc2path(page)).suffix == ".md"
    if not is_ours or page in app.config.pages_not_run:
        return
    folder = Path(app.srcdir) / PICTURES
    folder.mkdir(exist_ok=True)
    use_palette()
    names: dict[str, Any] = {"__name__": "page"}
    brief = app.config.pages_of_brief_fits
    blocks = [*doctree.findall(nodes.literal_block)]
    with tempfile.TemporaryDirectory() as cwd, chdir(cwd):
        for i, block in enumerate(blocks, start=1):
            if block.get("language") != "python":
                continue
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                text = outputs(block.astext(), names)
                drawn = pictures(folder, f"{page.replace('/', '_')}_{i}")
            for each in said:
                if page in brief and issubclass(each.category, ConvergenceWarning):
                    continue
                logger.warning("the code warns: %s", each.message, location=block)
            told = nodes.literal_block(text, text, language="text", classes=["output"])
            at = block.parent.index(block) + 1
            block.parent[at:at] = [told, *drawn] if text else drawn


def setup(app: Sphinx) -> dict[str, Any]:
    """Run pages before Sphinx looks for the pictures that they have."""
    app.add_config_value("pages_not_run", [], "env")
    app.add_config_value("pages_of_brief_fits", [], "env")
    app.connect("doctree-read", add_outputs, priority=100)
    return {"version": "1", "parallel_read_safe": False}
