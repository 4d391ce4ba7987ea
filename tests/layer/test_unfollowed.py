"""Marks of other overlays in upper directories, which our mounts do not follow."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.layer.overlay.unfollowed import Unfollowed, survey
from graphdriver.layer.overlay.whiteout import TRUSTED, USER
from tests.support.ground import require
from tests.support.overlays import mounted_overlay, opened

FOLLOWED_ELSEWHERE = (("redirect_dir", "on"), ("metacopy", "on"))


@pytest.fixture
def directory() -> Iterator[Path]:
    require(os.geteuid() == 0, "mounts need root")
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as made:
        yield Path(made)


@pytest.fixture
def upper(directory: Path) -> Path:
    """An upper directory in which a directory was renamed, and a file's mode was changed."""
    lower = directory / "lower"
    (lower / "a/b").mkdir(parents=True)
    (lower / "a/b/large").write_bytes(b"x" * 100_000)
    (lower / "kept").write_bytes(b"y")
    made = directory / "upper"
    made.mkdir()
    with mounted_overlay(directory, [lower], made, FOLLOWED_ELSEWHERE) as tree:
        (tree / "a/b").rename(tree / "a/c")
        (tree / "a/c/large").chmod(0o600)
        (tree / "new").write_bytes(b"z")
        (tree / "kept").unlink()
    return made


def test_a_renamed_directory_and_a_file_without_its_content_are_found(upper: Path) -> None:
    with opened(upper) as (fd,):
        found = survey(fd, TRUSTED)
    assert found.unfollowed == Unfollowed(b"a/c", "trusted.overlay.redirect", 2)


def test_marks_of_another_form_are_not(upper: Path) -> None:
    with opened(upper) as (fd,):
        assert survey(fd, USER).unfollowed is None


def test_whiteouts_and_opaque_directories_are_followed(directory: Path) -> None:
    lower, made = directory / "lower", directory / "upper"
    (lower / "a/b").mkdir(parents=True)
    (lower / "gone").touch()
    made.mkdir()
    with mounted_overlay(directory, [lower], made) as tree:
        (tree / "gone").unlink()
        (tree / "a/b").rmdir()
        (tree / "a").rmdir()
        (tree / "a").mkdir()
    with opened(made) as (fd,):
        assert survey(fd, TRUSTED).unfollowed is None
