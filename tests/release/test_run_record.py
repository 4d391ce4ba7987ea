"""``pytest --record FILE`` writes what ran, with what, and how it ended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import graphdriver
from tests.release.records import Record
from tests.support.documented import ROOT
from tests.support.pairings import IMAGE_STORE, Noted, Pairing

TESTS = """
import pytest
from tests.support.pairings import Pairing, noted

@pytest.fixture(scope="session")
def engine():
    return Pairing("Docker 1.2", "Debian", "graph driver plugin", "vfs")

@pytest.mark.parametrize("number", range(3))
def test_engine(engine, number):
    noted.note(engine)
    assert number < 2

def test_alone(): pass
def test_left(): pytest.skip("no reason")
"""


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "side by side"])
def test_a_record_counts_tests_and_what_each_engine_ran(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    subprocess.run(
        [*command, "--record=kept/run.json", str(tmp_path)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "CI"}
        | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    record = Record.read(tmp_path / "kept" / "run.json")
    assert record.version == graphdriver.__version__
    assert record.python == sys.version.split()[0]
    assert record.tests == {"test_it.py": {"passed": 3, "failed": 1, "skipped": 1}}
    assert record.engines == {
        Pairing("Docker 1.2", "Debian", "graph driver plugin", "vfs"): {
            "test_it.py": {"passed": 2, "failed": 1}
        }
    }


def told(driver: str = "py-vfs", *security: str, status: list[list[str]] | None = None) -> object:
    """Return what ``docker info`` answers."""
    return {
        "ServerVersion": "20.10.24+dfsg1",
        "Driver": driver,
        "DriverStatus": status,
        "SecurityOptions": [*security] or None,
    }


@pytest.mark.parametrize(
    ("info", "way"),
    [
        (told(), "graph driver plugin"),
        (told("example/vfs:1"), "managed plugin"),
        (told("py-vfs", "name=userns"), "graph driver plugin, remapped IDs"),
        (
            told("py-vfs", "name=seccomp,profile=x", "name=rootless"),
            "graph driver plugin, rootless",
        ),
    ],
)
def test_a_daemon_tells_how_it_uses_a_driver(tmp_path: Path, info: Any, way: str) -> None:
    (tmp_path / ".graphdriver").mkdir()
    (tmp_path / ".graphdriver" / "home.json").write_text('{"driver": "vfs"}')
    found = Noted().of_docker(info, [tmp_path / "none", tmp_path], "")
    assert found
    assert (found.engine, found.way, found.driver) == ("Docker 20.10.24", way, "vfs")


@pytest.mark.parametrize(
    "info",
    [told("overlay2"), told("overlayfs", status=[IMAGE_STORE]), told("ours", status=[IMAGE_STORE])],
)
def test_a_daemon_on_no_driver_of_ours_is_no_pairing(tmp_path: Path, info: Any) -> None:
    assert Noted().of_docker(info, [tmp_path], "/no/containerd.sock") is None
