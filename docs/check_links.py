"""Find links of the built site that lead nowhere: pages, anchors and pictures.

    python docs/check_links.py [docs/_build/html]

Links to other sites are counted and not followed. The exit status is 1 where one of the
site's own is broken.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links and anchors of an HTML file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what a tag refers to, and what it may be referred to by."""
        for name, value in attrs:
            if value is None:
                continue
            if name in ("href", "src"):
                self.links.append(value)
            elif name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)


def broken_links(root: Path) -> tuple[list[str], int]:
    """Return the broken links of a site, and how many lead to other sites."""
    root = root.resolve()
    paths = sorted(root.rglob("*.html"))
    # The theme's own are templates, not pages.
    pages = {path: Page(path) for path in paths if root / "_static" not in path.parents}
    broken, n_outside = [], 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                n_outside += 1
            elif not leads_somewhere(path, unquote(parts.path), parts.fragment, pages):
                broken.append(f"{path.relative_to(root)}: {link}")
    return broken, n_outside


def leads_somewhere(
    path: Path, target: str, fragment: str, pages: dict[Path, Page]
) -> bool:
    """Return whether a link from a page finds its file and its anchor."""
    found = (path.parent / target).resolve() if target else path
    if found.is_dir():
        found /= "index.html"
    if not found.exists():
        return False
    if not fragment or found not in pages:
        return True
    return unquote(fragment) in pages[found].anchors


def main() -> None:
    """Print the broken links of a site."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/_build/html")
    broken, n_outside = broken_links(root)
    for link in broken:
        print(link)
    print(f"{len(broken)} broken links; {n_outside} lead to other sites")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
