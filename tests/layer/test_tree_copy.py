"""Hard links in a copy of a tree: the same files have the same names, and nothing else is there."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from graphdriver.layer.tree.tree_copy import copy_tree
from tests.support.filesystems import loop

pytestmark = pytest.mark.root

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
EXT4_LINK_MAX = 65_000


def names_by_inode(root: Path) -> set[tuple[str, ...]]:
    """Return the names of each file that has several, and of every other thing."""
    found = defaultdict(list)
    for path in sorted(root.rglob("*")):
        found[path.lstat().st_ino].append(str(path.relative_to(root)))
    return {tuple(names) for names in found.values()}


def copied(source: Path, target: Path) -> Path:
    target.mkdir()
    source_fd, target_fd = os.open(source, DIRECTORY), os.open(target, DIRECTORY)
    try:
        copy_tree(source_fd, target_fd)
    finally:
        os.close(source_fd)
        os.close(target_fd)
    return target


MAKE: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.write_bytes(b"content"),
    "link": lambda path: path.symlink_to("nowhere"),
    "fifo": os.mkfifo,
    "device": lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_names_of_one_file_are_names_of_one_file(
    tmp_path: Path, kind: str, elsewhere: bool
) -> None:
    source = tmp_path / "source"
    (source / "a/b").mkdir(parents=True)
    (source / "c").mkdir()
    MAKE[kind](source / "a/b/one")
    for name in ("a/two", "c/three", "four"):
        os.link(source / "a/b/one", source / name, follow_symlinks=False)
    (source / "c/another").touch()
    os.link(source / "c/another", source / "a/another")
    if elsewhere:  # a name that the tree does not have: one that is waited for in vain
        os.link(source / "four", tmp_path / "outside", follow_symlinks=False)
    times = source.stat().st_mtime_ns
    copy = copied(source, tmp_path / "copy")
    assert names_by_inode(copy) == names_by_inode(source)
    assert copy.stat().st_mtime_ns == times
    assert (copy / "four").lstat().st_nlink == 4


@pytest.mark.long
def test_a_file_with_as_many_names_as_can_be_is_copied(tmp_path: Path) -> None:
    with loop("ext4", tmp_path) as place:
        source = place / "source"
        source.mkdir()
        (source / "0").touch()
        for number in range(1, EXT4_LINK_MAX):
            os.link(source / "0", source / str(number))
        with pytest.raises(OSError, match="Too many links"):
            os.link(source / "0", source / "one-more")
        copy = copied(source, place / "copy")
        assert (copy / "0").stat().st_nlink == EXT4_LINK_MAX == len(os.listdir(copy))
