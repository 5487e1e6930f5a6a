"""What Sphinx needs to know: `make docs` builds the site into docs/_build/html."""

import inspect
import re
import shutil
import sys
import textwrap
from html import escape
from importlib import import_module
from pathlib import Path

import matplotlib
import torch
from docutils import nodes

import skgen

sys.path.insert(0, str(Path(__file__).parent))  # page_outputs, code_outputs
matplotlib.use("Agg")
torch.set_num_threads(1)  # small tensors: more threads only wait for each other

project = "skgen"
author = "the skgen developers"
copyright = f"{author}, BSD-3-Clause"
version = release = skgen.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # the site needs no network, its formulas neither
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "page_outputs",
]
# No whole program; a minute of searches; libraries that the site is built without.
pages_not_run = ["index", "howto/distributed", "howto/search", "howto/files"]
pages_not_run += ["howto/mlflow", "howto/serving"]
# Pages whose fits are cut short, to show how and no more.
pages_of_brief_fits = ["family_tree"]
pages_of_brief_fits += [f"howto/{name}" for name in ("images", "large_data", "metrics")]
pages_of_brief_fits += ["howto/networks", "howto/pictures"]
pages_of_brief_fits += [
    f"models/{name}" for name in ("diffusion", "discrete_vae", "flow", "gan", "vqvae2")
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]


def own_methods(module, name):
    """Return the public methods of a class that are ours, not scikit-learn's."""
    classes = reversed(getattr(import_module(module), name).__mro__)
    ours = [cls for cls in classes if cls.__module__.startswith("skgen")]
    members = {name: inspect.unwrap(f) for c in ours for name, f in vars(c).items()}
    return [
        name
        for name, member in members.items()
        if inspect.isfunction(member)
        and member.__module__.startswith("skgen")
        and not name.startswith("_")
    ]


SUMMARY = (
    "Latent-variable generative models as scikit-learn estimators: dimensionality "
    "reduction, density estimation, anomaly detection, synthetic tables"
)

# The gallery has the order of the examples' own index.
EXAMPLES = Path(__file__).parents[1] / "examples"
INDEX = re.findall(r"^\| \[(\w+\.py)\]", (EXAMPLES / "README.md").read_text(), re.M)


def place_in_index(script):
    """Return the key that scripts of a section are sorted by."""
    return INDEX.index(script)


# Docstrings: numpydoc has the types, so that signatures need none.
autodoc_typehints = "none"
autosummary_generate = True
autosummary_context = {"own_methods": own_methods}
suppress_warnings = ["config.cache"]  # of functions, which no cache can hold
numpydoc_show_class_members = False
toc_object_entries_show_parents = "hide"

# Each name that a page of ours refers to has to exist; names of other projects
# cannot be looked up, since a build needs no network.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!skgen).*")]

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

# A prompt and what was printed are not copied.
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_selector = "div:not(.output) > div.highlight > pre"

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "subsection_order": [
        f"../examples/{f}" for f in ("densities", "codes", "training", "textures")
    ],
    "within_subsection_order": place_in_index,
    "filename_pattern": ".py",
    "ignore_pattern": r"run\.py",
    "abort_on_example_error": True,
    "capture_repr": (),  # what is printed and drawn says more
    "backreferences_dir": "api/backreferences",
    "doc_module": ("skgen",),
    "min_reported_time": 3600,
    "thumbnail_size": (400, 280),
    "image_srcset": ["2x"],
    "reset_modules": ("matplotlib", "page_outputs.use_palette"),
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "remove_config_comments": True,
}

html_theme = "pydata_sphinx_theme"
html_title = f"skgen {release}"
html_static_path = ["_static"]
html_css_files = ["skgen.css"]
html_js_files = ["skgen.js"]
html_favicon = "_static/favicon.svg"
html_show_sourcelink = False
html_context = {"default_mode": "auto"}
ALONE = [
    "install",
    "tour",
    "which_model",
    "family_tree",
    "speed",
    "benchmarks",
    "layout",
    "changelog",
    "contributing",
    "glossary",
    "faq",
    "coming_from",
    "citing",
]
html_sidebars = {page: [] for page in ALONE}  # no section, no list of its pages
html_theme_options = {
    "logo": {"text": "skgen"},
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "header_links_before_dropdown": 8,
    "navbar_align": "left",
    "show_prev_next": True,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "icon_links": [
        {
            "name": "Source",
            "url": "https://github.com/scikit-generative/skgen",
            "icon": "fa-brands fa-github",
        }
    ],
}


def describe(app, page, template, context, doctree):
    """Say what a page is about where search engines look: in its first words."""
    paragraphs = doctree.findall(nodes.paragraph) if doctree else []
    text = next((p.astext() for p in paragraphs if len(p.astext()) > 40), "")
    words = textwrap.shorten(text or SUMMARY, 160, placeholder=" ...")
    meta = f'<meta name="description" content="{escape(words)}" />'
    context["metatags"] = context.get("metatags", "") + meta


def keep_what_formulas_use(app, exception):
    """Remove the nine tenths of MathJax that pages of TeX in HTML never load."""
    mathjax = Path(app.outdir) / "_static" / "mathjax"
    for path in mathjax.iterdir() if mathjax.is_dir() else ():
        if path.is_dir() and path.name not in ("input", "output"):
            shutil.rmtree(path)
        elif path.is_file() and path.name != "tex-chtml.js":
            path.unlink()
    shutil.rmtree(mathjax / "output" / "svg", ignore_errors=True)


def setup(app):
    """Add what is ours to the building of a page."""
    app.connect("html-page-context", describe)
    app.connect("build-finished", keep_what_formulas_use, priority=900)
