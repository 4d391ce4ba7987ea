"""The documentation site: it is built without a warning, and every link in it leads somewhere."""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.documented import ROOT

LOADS = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
"""What a browser loads while it shows a page."""


@dataclass
class Shown(HTMLParser):
    """What a page of the site has: anchors, links, and what it loads."""

    anchors: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    loads: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.anchors.add(value or "")
            elif (tag, name) in LOADS:
                self.loads.add(value or "")
            elif (tag, name) == ("a", "href"):
                self.links.add(value or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as ``make docs`` does."""
    directory = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(directory)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return directory


@pytest.fixture(scope="module")
def shown(site: Path) -> dict[str, Shown]:
    """Return each page of the site by its path."""
    pages = {}
    for file in sorted(site.rglob("*.html")):
        page = pages[str(file.relative_to(site))] = Shown()
        page.feed(file.read_text())
    return pages


def missing(site: Path, shown: dict[str, Shown]) -> Iterator[tuple[str, str]]:
    """Yield each link that leads nowhere, with its page."""
    for page, found in shown.items():
        for link in found.links | found.loads:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc or page == "404.html":
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), parts.path))
            target = urllib.parse.unquote(path if parts.path else page)
            if (site / target).is_dir():
                target = f"{target}/index.html".removeprefix("./")
            anchor = urllib.parse.unquote(parts.fragment)
            is_there = (site / target).is_file()
            if not is_there or (anchor and anchor not in shown[target].anchors):
                yield page, link


def test_every_link_leads_somewhere(site: Path, shown: dict[str, Shown]) -> None:
    assert sum(len(page.links) for page in shown.values()) > 100
    assert list(missing(site, shown)) == []


def test_a_link_that_leads_nowhere_would_be_seen(site: Path) -> None:
    for link in ("gone.html", "index.html#gone", "#gone", "assets/gone.css"):
        assert list(missing(site, {"index.html": Shown(links={link})})) == [("index.html", link)]


def test_no_page_loads_anything_from_elsewhere(site: Path, shown: dict[str, Shown]) -> None:
    assert not {(name, load) for name, page in shown.items() for load in page.loads if "//" in load}
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//", sheet.read_text()), sheet
