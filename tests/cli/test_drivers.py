"""``graphdriver drivers``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from graphdriver.cli.main import main
from tests.support.command import Serving, environment, graphdriver, install


def drivers(folder: Path) -> str:
    """Return what ``graphdriver drivers`` says where ``folder`` has packages besides ours."""
    result = subprocess.run(
        [sys.executable, "-m", "graphdriver", "drivers"],
        capture_output=True,
        text=True,
        env=environment(path=str(folder)),
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_each_driver_is_told_with_whether_it_works_and_why() -> None:
    result = graphdriver("drivers", "--data-root", "/tmp/not/there/yet")
    assert result.returncode == 0
    lines = result.stdout.decode().splitlines()
    assert lines[0].startswith("overlay2        works: unchanged files are shared, on ")
    assert lines[1].startswith("erofs           works: layers are stored as they come, on ")
    assert lines[2].startswith("fuse-overlayfs  works: unchanged files are shared through the")
    assert lines[3] == "vfs             works: each layer is a full copy, on any filesystem"


def test_what_would_make_erofs_faster_is_told(folder: Path) -> None:
    assert "pip install" not in drivers(folder)
    (folder / "isal.py").write_text("raise ImportError\n")
    assert "; pip install 'graphdriver[erofs]' makes diffs twice as fast\n" in drivers(folder)


def test_programs_read_the_same() -> None:
    result = graphdriver("drivers", "--data-root", "/tmp/not/there/yet", "--json")
    assert result.returncode == 0
    found = json.loads(result.stdout)
    works = [one["name"] for one in found if one["works"]]
    assert works[:3] == ["overlay2", "erofs", "fuse-overlayfs"]
    assert {"name", "works", "rank", "reason"} == set(found[0])
    lines = graphdriver("drivers", "--data-root", "/tmp/not/there/yet").stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == [one["name"] for one in found]


def test_who_is_not_root_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["drivers"]) == 7
    assert "which only root can make; run it as root" in capsys.readouterr().err


def test_the_drivers_of_other_packages_are_beside_ours(folder: Path) -> None:
    install(folder, "plain", "plain_folders:PlainFolders")
    lines = drivers(folder).splitlines()
    assert "plain           works: not probed: its class has no probe" in lines
    assert "vfs             works: each layer is a full copy, on any filesystem" in lines


def test_a_package_whose_driver_is_not_there_harms_no_other(folder: Path) -> None:
    install(folder, "absent", "nowhere_at_all:Driver")
    said = drivers(folder)
    assert "absent          does not work: " in said
    assert "No module named 'nowhere_at_all'" in said
    one = Serving(folder, "--data-root", str(folder), path=str(folder)).ready()
    try:
        assert one.out.read_text().startswith("serving overlay2 (")
    finally:
        one.end()
