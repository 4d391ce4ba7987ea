"""A real browser without a screen: Debian's chromium."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement


class Browser:
    """A page that is open in the browser, as a person uses it."""

    def __init__(self, chrome: Chrome, pictures: Path) -> None:
        self._chrome = chrome
        self._pictures = pictures

    def open(self, file: Path, *, dark: bool = False, narrow: bool = False) -> None:
        """Open a file, in the colours that the person's system asks for; narrow: on a telephone."""
        self._chrome.set_window_size(500 if narrow else 1400, 900)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self._chrome.get(file.as_uri())

    def all(self, css: str) -> list[WebElement]:
        return self._chrome.find_elements(By.CSS_SELECTOR, css)

    def one(self, css: str, text: str = "") -> WebElement:
        """Return the first element that contains a text."""
        found = [element for element in self.all(css) if text in element.text]
        assert found, f"no {css} shows {text!r}"
        return found[0]

    def text(self, css: str) -> str:
        return self.one(css).text

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        for key in keys:
            self._chrome.switch_to.active_element.send_keys(key)

    def write(self, css: str, text: str) -> None:
        """Write a text into a field, instead of the one that is there."""
        field = self.one(css)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text or Keys.BACKSPACE)

    def result(self, script: str) -> object:
        return self._chrome.execute_script(f"return {script}")

    def complaints(self) -> list[str]:
        """Return what the browser wrote to its console: errors, and what the policy refused."""
        return [line["message"] for line in self._chrome.get_log("browser")]  # type: ignore[no-untyped-call]

    def picture(self, name: str) -> None:
        """Keep a picture of the window, for people to look at."""
        assert self._chrome.save_screenshot(str(self._pictures / f"{name}.png"))


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Browser]:
    """Run a browser for the length of a ``with`` block; its files and pictures are in a directory."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, path in programs.items() if path is None]:
        pytest.fail(
            f"{' and '.join(missing)} not found:"
            " apt install chromium chromium-driver fonts-dejavu-core"
        )
    options = ChromeOptions()
    options.binary_location = programs["chromium"] or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",  # the sandbox refuses root
        "--disable-dev-shm-usage",
        "--window-size=1400,900",
        f"--user-data-dir={directory / 'profile'}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=Service(programs["chromedriver"]))
    try:
        yield Browser(chrome, directory)
    finally:
        chrome.quit()
