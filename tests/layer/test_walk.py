"""Walking and removing trees of any depth, whoever works against it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.errors import BrokenStreamError
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.trail import OPEN_DIRECTORIES, Trail
from graphdriver.layer.tree.walk import walk

FOLDER = os.O_RDONLY | os.O_DIRECTORY
DEPTH = 3000


@pytest.fixture
def deep() -> Iterator[int]:
    """A folder with a tree of 3,000 folders in it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        root = os.open(path, FOLDER)
        at = os.dup(root)
        for _ in range(DEPTH):
            os.mkdir("d", dir_fd=at)
            below = os.open("d", FOLDER, dir_fd=at)
            os.close(at)
            at = below
        os.close(at)
        try:
            yield root
        finally:
            remove_tree(root, b"d")
            os.close(root)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_tree_of_3000_folders_is_walked_with_few_descriptors(deep: int) -> None:
    before = open_descriptors()
    most = 0
    count = 0
    for node in walk(deep):
        count += 1
        most = max(most, open_descriptors())
        assert len(node.path) == 2 * count - 1
    assert count == DEPTH
    assert most - before <= OPEN_DIRECTORIES + 4
    assert open_descriptors() == before


def test_a_tree_of_3000_folders_is_removed(deep: int) -> None:
    remove_tree(deep, b"d")
    assert os.listdir(deep) == []


def test_a_folder_comes_before_what_it_holds_and_siblings_in_byte_order(tmp_path: Path) -> None:
    for name in (b"b", b"a", b"a-", b"\xff", b"a/z", b"a/\n"):
        os.makedirs(os.path.join(os.fsencode(tmp_path), name), exist_ok=True)
    root = os.open(tmp_path, FOLDER)
    try:
        assert [node.path for node in walk(root)] == [b"a", b"a/\n", b"a/z", b"a-", b"b", b"\xff"]
    finally:
        os.close(root)


def test_removing_follows_no_link_and_what_is_absent_is_success(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "link").symlink_to(tmp_path / "kept")
    root = os.open(tmp_path, FOLDER)
    try:
        remove_tree(root, b"gone")
        remove_tree(root, b"gone")
        remove_tree(root, b"never")
    finally:
        os.close(root)
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "file"]


@pytest.mark.parametrize("place", ["/dev/shm", "/var/tmp"])
def test_what_was_made_immutable_is_removed(place: str) -> None:
    with tempfile.TemporaryDirectory(dir=place) as path:
        tree = Path(path, "tree")
        (tree / "d" / "e").mkdir(parents=True)
        for file in (tree / "f", tree / "d" / "f", tree / "d" / "e" / "f"):
            file.touch()
        for flag, name in (("+a", "d/e"), ("+i", "d/f"), ("+i", "d"), ("+a", "f"), ("+i", "")):
            subprocess.run(["chattr", flag, str(tree / name)], check=True)
        root = os.open(path, FOLDER)
        try:
            with pytest.raises(PermissionError):
                os.unlink("tree/f", dir_fd=root)
            remove_tree(root, b"tree")
            assert os.listdir(root) == []
        finally:
            os.close(root)


def test_the_folder_that_a_tree_is_in_keeps_its_flags(tmp_path: Path) -> None:
    (tmp_path / "kept" / "tree").mkdir(parents=True)
    subprocess.run(["chattr", "+i", str(tmp_path / "kept")], check=True)
    root = os.open(tmp_path / "kept", FOLDER)
    try:
        with pytest.raises(PermissionError):
            remove_tree(root, b"tree")
    finally:
        os.close(root)
        subprocess.run(["chattr", "-i", str(tmp_path / "kept")], check=True)


def test_a_folder_of_many_names_is_removed_a_part_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{remove_tree.__module__}.REMOVE_NAMES", 10)
    monkeypatch.setattr(f"{remove_tree.__module__}.REMOVE_TRIES", 0)
    for n in range(101):
        (tmp_path / "tree" / f"d{n}" / "e").mkdir(parents=True)
    root = os.open(tmp_path, FOLDER)
    try:
        remove_tree(root, b"tree")
    finally:
        os.close(root)
    assert os.listdir(tmp_path) == []


def test_who_moves_a_folder_away_meanwhile_leads_nobody_out_of_the_tree(tmp_path: Path) -> None:
    """The folders far above are closed by then, and ``..`` is another one."""
    outside = tmp_path / "outside"
    outside.mkdir()
    top = tmp_path / "tree" / "top"
    deep = top
    for _ in range(OPEN_DIRECTORIES + 5):
        deep /= "d"
    deep.mkdir(parents=True)
    root = os.open(tmp_path / "tree", FOLDER)
    try:
        with Trail(root) as trail:
            for name in deep.relative_to(tmp_path / "tree").parts:
                trail.enter(name.encode())
            (top / "d").rename(outside / "d")
            with pytest.raises(BrokenStreamError, match="moved"):
                while trail.depth:
                    trail.leave()
            assert trail.depth > 0
    finally:
        os.close(root)
