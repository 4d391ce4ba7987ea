"""A small tree can be removed before a call is answered, a large one never."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.layer.tree.remove import SMALL, SMALL_FILE, remove_small_tree


@pytest.fixture
def above(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir()
    return tree


def test_a_small_tree_is_removed_with_all_that_is_in_it(above: int, tree: Path) -> None:
    outside = tree.parent / "outside"
    outside.write_text("kept")
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/file").write_text("x")
    (tree / "link").symlink_to("../outside")
    (tree / "directory").symlink_to("..")
    os.mkfifo(tree / "fifo")
    os.mknod(tree / "whiteout", 0o20000, 0)
    assert remove_small_tree(above, b"tree")
    assert os.listdir(tree.parent) == ["outside"]


def test_a_tree_of_many_entries_is_left(above: int, tree: Path) -> None:
    (tree / "below").mkdir()
    for number in range(SMALL):
        (tree / "below" / str(number)).touch()
    assert not remove_small_tree(above, b"tree")
    assert tree.exists()


def test_as_many_entries_as_a_small_tree_may_have_are_removed(above: int, tree: Path) -> None:
    (tree / "below").mkdir()
    for number in range(SMALL - 1):
        (tree / "below" / str(number)).touch()
    assert remove_small_tree(above, b"tree")
    assert not tree.exists()


def test_a_large_file_is_left(above: int, tree: Path) -> None:
    (tree / "large").write_bytes(b"x" * (SMALL_FILE + 4096))
    assert not remove_small_tree(above, b"tree")
    assert (tree / "large").stat().st_size > SMALL_FILE


def test_a_file_that_is_large_by_its_holes_alone_is_removed(above: int, tree: Path) -> None:
    with open(tree / "holes", "wb") as file:
        file.truncate(1 << 40)
    assert remove_small_tree(above, b"tree")


def test_what_is_mounted_in_the_tree_is_left(above: int, tree: Path) -> None:
    """Also a directory of the same filesystem, which has the same device number."""
    shown = tree.parent / "shown"
    shown.mkdir()
    (shown / "file").touch()
    (tree / "point").mkdir()
    subprocess.run(["mount", "--bind", shown, tree / "point"], check=True)
    try:
        assert not remove_small_tree(above, b"tree")
        assert (shown / "file").exists()
    finally:
        subprocess.run(["umount", tree / "point"], check=True)
