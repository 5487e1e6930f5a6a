"""Links from the HTML representation of an estimator to its page of the documentation.

scikit-learn's ``BaseEstimator`` knows scikit-learn's pages only. Where ours are is what
the installed package says: the ``Documentation`` among its project URLs. Without one
there is no link, rather than a broken one.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata

DISTRIBUTION = "scikit-generative"


@cache
def documentation_url() -> str | None:
    """Return the address of the documentation, or None where none is declared."""
    try:
        urls = metadata(DISTRIBUTION).get_all("Project-URL", [])
    except PackageNotFoundError:  # a source tree that is not installed
        return None
    declared = dict(url.split(", ", 1) for url in urls)
    return declared.get("Documentation")


class DocumentationLinks:
    """Give an estimator of this package the link to its own page."""

    def _get_doc_link(self) -> str:
        """Address of the class's page, named as by Sphinx; empty where none is."""
        base, cls = documentation_url(), type(self)
        package = cls.__module__.partition(".")[0]
        if base is None or package != "skgen":  # a user's subclass has no page
            return ""
        is_top = cls.__name__ in import_module(package).__all__
        module = package if is_top else cls.__module__
        return f"{base.rstrip('/')}/api/generated/{module}.{cls.__name__}.html"
