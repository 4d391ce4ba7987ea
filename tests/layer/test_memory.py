"""Memory is bounded whatever the tar says, and whatever is in a tree."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.layer.tree.remove import remove_tree
from tests.layer.bounded import CASES, TREES
from tests.layer.hostile.ground import opened

REFUSED = {
    "hard_links_to_old_files": "too many hard links",
    "links_that_wait": "too many hard links",
    "headers_without_end": "behind a header that describes the next entry",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Quick, and no memory of the process that fills it."""
    with tempfile.TemporaryDirectory(prefix="gd-", dir="/dev/shm") as path:
        yield Path(path)
        with opened(Path(path)) as fd:
            remove_tree(fd, b"tree")
            remove_tree(fd, b"copy")


def said(name: str, folder: Path, form: str = "plain") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.layer.bounded", name, str(folder), form],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"what_is_kept"}))
def test_a_tar_takes_no_more_memory_than_it_may(name: str, folder: Path) -> None:
    result = said(name, folder)
    if name in REFUSED:
        assert REFUSED[name] in result
    else:
        assert result.startswith("Unpacked(")


@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if case.below))
def test_the_same_upon_an_overlays_lower_folder(name: str, folder: Path) -> None:
    assert said(name, folder, "overlay").startswith("Unpacked(")


@pytest.mark.parametrize("name", sorted(TREES))
def test_a_tree_takes_no_more_memory_than_it_may(name: str, folder: Path) -> None:
    """What grows with a folder's names is a list of them, for a while."""
    assert said(name, folder).startswith(("packed ", "listed "))


def test_the_limit_is_one(folder: Path) -> None:
    assert said("what_is_kept", folder) == "too much\n"
