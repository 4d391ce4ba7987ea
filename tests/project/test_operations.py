"""The units that docs/operations.md shows are units that systemd takes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documented import block

PROGRAM = "/opt/graphdriver/bin/graphdriver"


def verify(folder: Path, service: str) -> str:
    """Return what systemd has to say against the units; nothing, if they are good."""
    tool = shutil.which("systemd-analyze")
    assert tool, "systemd is not installed"
    (folder / "py-vfs.socket").write_text(block("docs/operations.md", "ini", "[Socket]"))
    (folder / "py-vfs.service").write_text(service)
    done = subprocess.run(
        [tool, "verify", "--man=no", "./py-vfs.socket", "./py-vfs.service"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


@pytest.fixture
def service() -> str:
    return installed(block("docs/operations.md", "ini", "[Service]"))


def installed(shown: str) -> str:
    """Return a unit with the path of the program that is installed here."""
    assert PROGRAM in shown
    return shown.replace(PROGRAM, f"{Path(sys.executable).parent}/graphdriver")


def test_the_units_are_what_systemd_takes(service: str, tmp_path: Path) -> None:
    assert verify(tmp_path, service) == ""


@pytest.mark.parametrize("wrong", ["KillMod=process", "KillMode=proces", "Requires=none.socket"])
def test_a_mistake_in_them_would_be_seen(service: str, tmp_path: Path, wrong: str) -> None:
    section = "[Unit]" if wrong.startswith("Requires") else "[Service]"
    assert verify(tmp_path, service.replace(section, f"{section}\n{wrong}")) != ""
