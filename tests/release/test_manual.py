"""The man pages, as their readers' programs see them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from graphdriver.cli.command import CODES_HELP
from graphdriver.cli.main import COMMANDS
from tests.support.documented import ROOT
from tests.support.ground import tool


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, "-m", "release.manual", directory], cwd=ROOT, check=True)
    return directory


def test_each_command_has_a_page_and_the_overview_names_it(written: Path) -> None:
    pages = {one.name for one in written.iterdir()}
    assert pages == {"graphdriver.1"} | {f"graphdriver-{one.name}.1" for one in COMMANDS}
    overview = read(written / "graphdriver.1")
    for command in COMMANDS:
        assert f"graphdriver-{command.name}(1)" in overview


def test_a_page_has_no_warning_and_all_sections(written: Path) -> None:
    for page in written.iterdir():
        checked = subprocess.run(
            [tool("mandoc"), "-T", "lint", "-W", "warning", page], capture_output=True, text=True
        )
        assert (checked.returncode, checked.stdout) == (0, "")
        shown = read(page)
        assert f"{page.stem} - " in shown
        for section in ("SYNOPSIS", "EXAMPLES", "EXIT STATUS"):
            assert re.search(f"^{section}$", shown, re.MULTILINE), (page, section)
        assert CODES_HELP.split()[-1] in shown


def test_examples_and_options_are_shown_as_they_are_typed(written: Path) -> None:
    shown = read(written / "graphdriver-migrate.1")
    (migrate,) = (one for one in COMMANDS if one.name == "migrate")
    for line in migrate.examples.splitlines()[1:]:
        assert line.strip() in shown
    assert re.search(r"^ +--from DRIVER$", shown, re.MULTILINE)
    assert "`docker info`" in shown


def read(page: Path) -> str:
    """Return what a reader sees."""
    command = [tool("mandoc"), "-T", "utf8", "-O", "width=200", str(page)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.sub(r".\x08", "", shown)
