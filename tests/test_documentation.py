"""The HTML representation of an estimator, and where its links lead."""

import re
import runpy
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

import skgen
from skgen import VAE, GenerativePipeline
from skgen._utils.documentation import DISTRIBUTION, documentation_url
from skgen.model_selection import BatchedGridSearchCV
from tests.estimators import ONE_OF_EACH, class_name, features

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SEARCH = BatchedGridSearchCV(VAE(2), {"max_iter": [1]})
PIPELINE = GenerativePipeline([("scale", StandardScaler()), ("vae", VAE(2))])
OURS = [*ONE_OF_EACH, SEARCH, PIPELINE]
PAGES = {
    "BatchedGridSearchCV": "skgen.model_selection.BatchedGridSearchCV",
    "GenerativePipeline": "skgen.GenerativePipeline",
}


class Own(VAE):
    """A subclass of a user's."""


@pytest.fixture
def declare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Install a distribution that declares project URLs."""

    def install(*urls: Any) -> None:
        folder = tmp_path / "scikit_generative-9.9.9.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", "Name: scikit-generative", "Version: 9.9.9"]
        lines += [f"Project-URL: {url}" for url in urls]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")
        monkeypatch.syspath_prepend(tmp_path)
        documentation_url.cache_clear()

    yield install
    documentation_url.cache_clear()


def links(estimator: Any) -> list[Any]:
    return re.findall(r'href="([^"]*)"', estimator._repr_html_())


@pytest.mark.parametrize("estimator", OURS, ids=class_name)
def test_an_estimator_links_to_its_own_page(
    estimator: Any, declare: Callable[..., Any]
) -> None:
    declare("Source, https://code.test/", "Documentation, https://docs.test/skgen/")
    name = class_name(estimator)
    page = f"https://docs.test/skgen/api/generated/{PAGES.get(name, f'skgen.{name}')}"
    found = links(estimator)
    assert f"{page}.html" in found
    for link in found:
        if not link.startswith("https://scikit-learn.org/"):
            # A link to a parameter is that of the page, with a text to look for.
            address, _, path = link.partition("/api/generated/")
            module, _, name = path.partition(".html")[0].rpartition(".")
            assert address == "https://docs.test/skgen"
            assert getattr(import_module(module), name).__module__.startswith("skgen.")


@pytest.mark.parametrize("estimator", OURS, ids=class_name)
def test_without_an_address_there_is_no_link_of_ours(
    estimator: Any, declare: Callable[..., Any]
) -> None:
    declare("Source, https://code.test/")
    assert estimator._get_doc_link() == ""
    assert not [link for link in links(estimator) if "skgen" in link]


def test_a_subclass_of_a_user_has_no_page(declare: Callable[..., Any]) -> None:
    declare("Documentation, https://docs.test")
    assert Own()._get_doc_link() == ""
    assert links(Own()) == []


def test_a_fitted_estimator_says_so() -> None:
    model = clone(VAE(2, max_iter=1, random_state=0))
    assert "Not fitted" in model._repr_html_()
    assert "<span>Fitted</span>" in model.fit(features())._repr_html_()


ROOT = Path(__file__).parents[1]


def test_the_distribution_has_one_name_and_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION
    # Where the pages are is not declared before they are there.
    assert "Documentation" not in project["urls"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {skgen.__version__}\n" in citation
    citing = (ROOT / "docs" / "citing.md").read_text()
    assert f"version = {{{skgen.__version__}}}" in citing
    extras = project["optional-dependencies"].values()
    with_extras = [each for extra in extras for each in extra if "[" in each]
    assert {each.partition("[")[0] for each in with_extras} == {
        DISTRIBUTION,
        "dask",
        "ray",
    }


def luminance(colour: str) -> float:
    """Relative luminance of a colour, as WCAG defines it."""
    levels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04 else ((v + 0.055) / 1.055) ** 2.4 for v in levels]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_code_of_the_site_has_the_contrast_of_wcag_aa(theme: str) -> None:
    pytest.importorskip("a11y_pygments")
    styles = pytest.importorskip("pygments.styles")
    sheet = (ROOT / "docs" / "_static" / "skgen.css").read_text()
    grounds = dict(re.findall(r'data-theme="(\w+)".*?(#\w{6});', sheet))
    # No other colour is set: the rest is the theme's.
    assert set(re.findall(r"#[0-9a-f]{3,8}\b|rgb", sheet)) == set(grounds.values())
    conf = (ROOT / "docs" / "conf.py").read_text()
    name = re.findall(rf'"pygments_{theme}_style": "(.*)"', conf)
    tokens = [token for _, token in styles.get_style_by_name(name[0]) if token["color"]]
    assert len(tokens) > 20
    for token in tokens:
        ground = f"#{token['bgcolor']}" if token["bgcolor"] else grounds[theme]
        assert contrast(f"#{token['color']}", ground) >= 4.5


# Words that people search for, and the page that has them in its titles or, of the
# glossary, in its names: the search of the site ranks these before text. Which page
# comes first, only a browser shows.
FOUND = {
    "anomaly": "howto/outliers.md",
    "dimensionality reduction": "howto/two_dimensions.md",
    "missing values": "howto/missing_cells.md",
    "synthetic": "howto/synthetic.md",
    "hyper-parameters": "howto/search.md",
    "large data": "howto/large_data.md",
    "export": "howto/files.md",
    "deployment": "howto/serving.md",
    "progress bar": "howto/callbacks.md",
    "overfitting": "glossary.md",
    "early stopping": "glossary.md",
    "density estimation": "glossary.md",
    "posterior collapse": "glossary.md",
}


@pytest.mark.parametrize(("words", "page"), FOUND.items())
def test_a_page_has_the_words_that_are_searched_in_its_titles(
    words: str, page: str
) -> None:
    text = (ROOT / "docs" / page).read_text()
    names = re.findall(r"^# .*|^\w.*(?=\n  \w)", text, re.MULTILINE)
    assert any(words in name.lower() for name in names)


def test_the_picture_of_the_first_page_is_of_the_code_beside_it() -> None:
    drawn = (ROOT / "examples" / "one_model.py").read_text()
    code = (ROOT / "docs" / "index.md").read_text().split("{code-block} python")[1]
    made = re.findall(r"^X, moon = .*?^\).fit\(X\)$", code, re.DOTALL | re.MULTILINE)
    assert made
    assert made[0] in drawn


def test_links_of_the_site_that_lead_nowhere_are_found(tmp_path: Path) -> None:
    found = runpy.run_path(str(ROOT / "docs" / "check_links.py"))["broken_links"]
    (tmp_path / "a").mkdir()
    (tmp_path / "index.html").write_text(
        '<p id="top"></p><a href="#top">1</a><a href="a/b.html#x">2</a>'
        '<a href="a/c.html">3</a><img src="no.png"><a href="https://x.example">4</a>'
        '<a href="a">5</a><a href="#none">6</a>'
    )
    (tmp_path / "a" / "b.html").write_text('<a id="x" href="../index.html#top">1</a>')
    (tmp_path / "a" / "index.html").write_text('<a href="b.html#y">1</a>')
    links, n_outside = found(tmp_path)
    assert links == [
        "a/index.html: b.html#y",
        *(f"index.html: {link}" for link in ("a/c.html", "no.png", "#none")),
    ]
    assert n_outside == 1
