"""The site that Sphinx makes of docs/: without a warning, and without a link to nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from pages import DOCS


class Page(HTMLParser):
    """Where a page links to, and what in it can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.links += [given[name] for name in ("href", "src") if name in given]
        self.ids |= {given[name] for name in ("id", "name") if name in given}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, if it could be built without a warning; references that lead nowhere are warnings."""
    pytest.importorskip("sphinx", reason="the site needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q"]
    call = [*sphinx, "-d", folder / "trees", DOCS, folder / "html"]
    built = subprocess.run(call, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder / "html"


def test_links_within_the_site_lead_somewhere(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html")}
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = pages[target].ids if target in pages else set()
            if not target.is_file() or (parts.fragment and target in pages and parts.fragment not in known):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert not dead
    assert len(pages) > 15


def test_pages_and_docstrings_are_there(site: Path) -> None:
    for page in DOCS.glob("*.md"):
        name = "index" if page.stem == "README" else page.stem
        title = next(line for line in page.read_text().splitlines() if line.startswith("# ")).removeprefix("# ")
        assert title in (site / f"{name}.html").read_text()
    for name in ("bench.count_flops", "bench.system", "bench.register_formula", "bench.Profile.to_frame"):
        assert name in Page(site / "api" / "bench.html").ids
    text = (site / "api" / "bench.html").read_text()
    assert "Count the operations of" in text  # of the docstring


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        fetched = re.findall(r"<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=\"([^\"]*)", path.read_text("utf-8"))
        assert fetched
        assert not [link for link in fetched if re.match(r"\w+:|//", link)], path
