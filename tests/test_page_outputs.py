"""Outputs that pages of the site show below their code; no Sphinx is needed."""

import runpy
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "code_outputs.py"
page = runpy.run_path(str(SCRIPT))


def shown(code: str, **names: Any) -> str:
    """Return what stands below a block of code."""
    text: str = page["outputs"](code, names)
    return text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1 / 3, "0.3333"),
        (np.float32(2.5), "2.5"),
        (np.int64(7), "7"),
        ((0.5, "a"), "(0.5, 'a')"),
        (((2,), (4,)), "((2,), (4,))"),
        ([*range(20)], "[0, 1, 2, ..., 18, 19]"),
        ({"nll": 2 / 3}, "{'nll': 0.6667}"),
        (None, "None"),
    ],
)
def test_a_value_is_told_in_few_digits(value: Any, text: str) -> None:
    assert page["text_of"](value) == text


def test_statements_say_nothing_and_expressions_their_value() -> None:
    assert shown("a = 1\nb = a + 1") == ""
    assert shown("a = 1\na + 1") == "2"


def test_what_is_printed_comes_before_values() -> None:
    assert shown("1 + 1\nprint('first')") == "first\n2"


def test_several_values_stand_beside_what_gave_them() -> None:
    assert shown("a = 2\na + 1\na * a") == "a + 1:  3\na * a:  4"


def test_a_long_array_among_several_values_is_told_by_its_shape() -> None:
    text = shown("x\nx.sum()", x=np.zeros((3, 4)))
    assert text == "x:  array of shape (3, 4)\nx.sum():  0"


def test_a_long_dict_has_a_line_for_each_key() -> None:
    kinds = {f"column {i}": "categorical" for i in range(4)}
    text = page["text_of"](kinds)
    assert [line.strip("{ ,}") for line in text.splitlines()] == [
        f"'column {i}': 'categorical'" for i in range(4)
    ]


def test_of_a_long_text_the_ends_are_shown() -> None:
    text = shown("for i in range(136):\n    print('epoch', i)")
    assert text.splitlines() == [
        *(f"epoch {i}" for i in range(5)),
        "...",
        *(f"epoch {i}" for i in (133, 134, 135)),
    ]


def test_blocks_of_a_page_share_their_names() -> None:
    names: dict[str, Any] = {}
    page["outputs"]("a = 20", names)
    assert page["outputs"]("a + 1", names) == "21"


def test_a_table_is_cut_to_a_few_rows_and_digits() -> None:
    text = shown("t", t=pd.DataFrame({"x": np.arange(50) / 3}))
    assert len(text.splitlines()) < 12
    assert "16.33" in text
    assert "16.333" not in text


@pytest.mark.parametrize("code", ["None", "KMeans()", "plt.gca()"])
def test_nothing_is_told_of_models_and_pictures(code: str) -> None:
    before = "import matplotlib.pyplot as plt\nfrom sklearn.cluster import KMeans\n"
    assert shown(before + code) == ""
    plt.close("all")


def test_an_error_of_the_code_is_one_of_the_page() -> None:
    with pytest.raises(ZeroDivisionError):
        shown("1 / 0")


def test_a_picture_is_described_by_the_words_in_it() -> None:
    figure, axes = plt.subplots(1, 2)
    figure.suptitle("Wine")
    for ax in axes:
        ax.set(xlabel="vae0", ylabel="vae1")
    assert page["description"](figure) == "Picture by the code above: Wine; vae0; vae1"
    plt.close(figure)
