"""What an earlier run left mounted is no hindrance for the next one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import unmount_what_dead_runs_left

pytestmark = pytest.mark.root

PYPROJECT = str(Path(__file__).parents[2] / "pyproject.toml")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[list[Path]]:
    """Mounts in the directories of a run that was killed, one that has ended, and one that goes on."""
    killed = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, check=True).stdout.strip()
    points = []
    for name, lock in (
        ("pytest-0", killed),
        ("garbage-\\ a", None),
        ("pytest-2", str(os.getpid()).encode()),
    ):
        run = tmp_path / "pytest-of-root" / name
        points.append(run / "a disk")
        points[-1].mkdir(parents=True)
        if lock:
            (run / ".lock").write_bytes(lock)
        subprocess.run(["mount", "-t", "tmpfs", "none", points[-1]], check=True)
    yield points
    for point in points:
        subprocess.run(["umount", "--quiet", point], check=False)


def test_mounts_of_runs_that_are_over_are_gone(mounted: list[Path], tmp_path: Path) -> None:
    unmount_what_dead_runs_left(tmp_path)
    assert [point.is_mount() for point in mounted] == [False, False, True]


def test_a_run_that_a_test_begins_removes_no_directory_of_others(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(tmp_path): print(tmp_path)\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-qs", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.stdout.startswith(os.environ["PYTEST_DEBUG_TEMPROOT"]), done.stdout


def test_a_directory_of_an_earlier_run_that_cannot_be_removed_is_left(tmp_path: Path) -> None:
    """Pytest warns of it, which would be an error, at the end of a run without a failure."""
    (tmp_path / "test_it.py").write_text("def test_it(tmp_path): pass\n")
    for number in range(6):
        (tmp_path / f"pytest-of-root/pytest-{number}/disk").mkdir(parents=True)
    busy = tmp_path / "pytest-of-root/pytest-0/disk"
    subprocess.run(["mount", "-t", "tmpfs", "none", busy], check=True)
    try:
        words = ["-qs", "-p", "no:cacheprovider", "-c", PYPROJECT, f"--rootdir={tmp_path}"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words, str(tmp_path / "test_it.py")],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTEST_DEBUG_TEMPROOT": str(tmp_path)},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert not (tmp_path / "pytest-of-root/pytest-1").exists()
    finally:
        for place in (tmp_path / "pytest-of-root").glob("*/disk"):
            subprocess.run(["umount", "--quiet", place], check=False)
