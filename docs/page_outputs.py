"""A Sphinx extension: below the code of a page, what it prints, returns and draws.

A page of Markdown is run as a notebook is: its blocks of Python in order, in one
namespace. Below a block come what it printed, the values of the lines that are
expressions, and the pictures that it left open. A warning of it is one of the build.
"""

from __future__ import annotations

import tempfile
import warnings
from contextlib import chdir
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from code_outputs import description, outputs
from cycler import cycler
from docutils import nodes
from sklearn.exceptions import ConvergenceWarning
from sphinx.application import Sphinx
from sphinx.util import logging

from skgen.display.drawing import COLOURS

logger = logging.getLogger(__name__)
PICTURES = "_outputs"  # beside conf.py, where Sphinx looks for pictures


def use_palette(*_: Any) -> None:
    """Have the lines of all pictures in the colours of skgen's own."""
    plt.rcParams["axes.prop_cycle"] = cycler(color=COLOURS)


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
