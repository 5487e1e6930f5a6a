"""Run blocks of Python, and say in text what they print, return and draw.

Nothing here needs Sphinx: `page_outputs.py` puts it into the pages.
"""

from __future__ import annotations

import ast
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

FRAMES = ("display.max_rows", 6, "display.max_columns", 6, "display.precision", 2)
FRAMES += ("display.width", 90)
WIDTH, N_LINES = 80, 24
ARRAYS = {"precision": 3, "suppress": True, "threshold": 20, "edgeitems": 2}


def text_of(value: Any) -> str:
    """Return a value in few digits."""
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, np.generic):
        return str(value)
    if type(value) in (tuple, list):
        ends = "()" if isinstance(value, tuple) else "[]"
        if len(value) == 1 and isinstance(value, tuple):
            return f"({text_of(value[0])},)"
        many = (
            [*map(text_of, value)]
            if len(value) < 9
            else [*map(text_of, value[:3]), "...", *map(text_of, value[-2:])]
        )
        return ", ".join(many).join(ends)
    if type(value) is dict:
        pairs = [f"{k!r}: {text_of(v)}" for k, v in value.items()]
        long = sum(map(len, pairs)) > WIDTH - 2 * len(pairs)
        return (",\n " if long else ", ").join(pairs).join("{}")
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
        said = few_lines(printed.getvalue().rstrip())
        return "\n".join(filter(None, [said, beside(values)]))


def few_lines(text: str) -> str:
    """Return the first and the last lines of a text that is long."""
    lines = text.split("\n")
    if len(lines) > N_LINES:
        lines[5:-3] = ["..."]
    return "\n".join(lines)


def beside(values: list[tuple[str, Any]]) -> str:
    """Return one value as it is, and several beside the expressions that gave them."""
    if len(values) == 1:
        return text_of(values[0][1])
    lines = []
    for source, value in values:
        text = text_of(value)
        if "\n" in text and isinstance(value, np.ndarray):
            text = f"array of shape {value.shape}"
        wraps = "\n" in text or len(source) + len(text) > WIDTH
        lines.append(f"{source}\n{text}" if wraps else f"{source}:  {text}")
    return "\n".join(lines)


def description(figure: Any) -> str:
    """Return what a picture is, for who cannot see it: the words that are in it."""
    words = [figure.get_suptitle()]
    for ax in figure.axes:
        words += [ax.get_title(), ax.get_xlabel(), ax.get_ylabel()]
    return "Picture by the code above: " + "; ".join(dict.fromkeys(filter(None, words)))
