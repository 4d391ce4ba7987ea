"""The documentation site: no warning, every link leads somewhere, and the reference is complete."""

from __future__ import annotations

import argparse
import posixpath
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

import graphdriver
from graphdriver.cli import main
from graphdriver.drivers import loading
from tests.support.website import build

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
    directory = tmp_path_factory.mktemp("site")
    build(directory)
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


def test_no_template_and_no_markup_is_left(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = re.sub(r"<(script|pre|code)\b.*?</\1>", "", page.read_text(), flags=re.DOTALL)
        assert not re.search(r"^\s*(:::|```|\|)|\]\([\w./#-]+\)|<autoref", text, re.MULTILINE), page


def options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for action in parser._actions for option in action.option_strings}


def test_every_command_and_every_option_has_its_place(site: Path) -> None:
    text = (site / "reference/command-line.html").read_text()
    (commands,) = (
        action
        for action in main.make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    for name, parser in commands.choices.items():
        section = text.partition(f'<h2 id="{name}">')[2].partition("<h2 ")[0]
        for option in options(parser) - {"-h", "--help"}:
            assert f"<code>{option}" in section, f"graphdriver {name} {option}"


def test_every_public_name_has_its_place(shown: dict[str, Shown]) -> None:
    anchors = {
        anchor for name, page in shown.items() if "python/" in name for anchor in page.anchors
    }
    missing = {name for name in graphdriver.__all__ if f"graphdriver.{name}" not in anchors}
    assert missing == {"__version__"}
    assert "graphdriver.ProtoDriver.create" in anchors


def test_every_option_of_a_driver_has_its_place(site: Path) -> None:
    text = (site / "reference/driver-options.html").read_text()
    for name, cls in loading.available().items():
        assert f"drivers.html#{name}" in text
        for option in getattr(cls, "options", ()):
            assert f"<code>{option.example}</code>" in text


def test_every_file_of_a_home_has_its_place(site: Path) -> None:
    text = (site / "reference/layouts.html").read_text()
    for name in (".staging/ID", "ID/committed", "ID/layer.erofs", "HOME/ID/root", "applying/ID"):
        assert f"<code>{name}</code>" in text
