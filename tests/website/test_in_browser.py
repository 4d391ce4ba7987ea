"""A person reads the documentation site in a real browser, which opens its files without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser, running
from tests.support.waiting import wait_until
from tests.support.website import build

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    build(directory)
    return directory


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with running(tmp_path) as one:
        yield one
        assert one.complaints() == []


def loaded_from_elsewhere(browser: Browser) -> object:
    return browser.result(
        "performance.getEntriesByType('resource').map(one => one.name)"
        ".filter(name => !name.startsWith('file:') && !name.startsWith('data:'))"
    )


def test_every_page_can_be_opened(browser: Browser, site: Path) -> None:
    for file in sorted(site.rglob("*.html")):
        if file.name == "404.html":  # its links are for a server
            continue
        browser.open(file)
        assert browser.text("h1")
        assert loaded_from_elsewhere(browser) == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("narrow", [False, True])
def test_a_page_fits_its_window(browser: Browser, site: Path, *, dark: bool, narrow: bool) -> None:
    for name in ("index", "drivers", "operations", "reference/command-line"):
        browser.open(site / f"{name}.html", dark=dark, narrow=narrow)
        scheme = browser.result("document.body.getAttribute('data-md-color-scheme')")
        assert scheme == ("slate" if dark else "default")
        wide = browser.result("document.documentElement.scrollWidth - window.innerWidth")
        assert isinstance(wide, int)
        assert wide <= 0, "wide tables and code scroll by themselves"
        browser.picture(f"{name.replace('/', '-')}-{dark=}-{narrow=}")


def test_the_search_finds_an_option_and_leads_to_it(browser: Browser, site: Path) -> None:
    browser.open(site / "index.html")
    browser.press("/", "mountopt")
    wait_until(lambda: bool(browser.all(".md-search-result__link")))
    browser.picture("search")
    links = {str(one.get_attribute("href")) for one in browser.all(".md-search-result__link")}
    assert any("reference/driver-options.html" in link for link in links)
    assert loaded_from_elsewhere(browser) == []
