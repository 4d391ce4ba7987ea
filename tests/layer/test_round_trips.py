"""Whatever a tree holds comes back: packed, unpacked, compared, and seen through a real overlay."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from graphdriver.driver import ClosableStream
from graphdriver.layer.change_list import ChangeList
from graphdriver.layer.changes import compare
from graphdriver.layer.overlay.form import UpperDirectory
from graphdriver.layer.overlay.pack import UpperPacker
from graphdriver.layer.pack import pack
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.tree_copy import copy_tree
from graphdriver.layer.unpack import unpack
from graphdriver.layer.write.plain_tree import PlainTree
from tests.layer.hostile.ground import OVERLAY_OPTIONS, opened
from tests.support.long import times
from tests.support.trees import TREES, Thing, make, recorded

EDITS = st.lists(st.integers(0, 1 << 16), max_size=4)
"""Which of the things of a parent a child removes, by number."""


@contextmanager
def folders(*names: str) -> Iterator[list[Path]]:
    """New folders side by side, on a filesystem that keeps every time."""
    with tempfile.TemporaryDirectory(prefix="gd-", dir="/dev/shm") as base:
        paths = [Path(base, name) for name in names]
        for path in paths:
            path.mkdir()
        try:
            yield paths
        finally:
            with opened(Path(base)) as fd:
                for name in names:
                    remove_tree(fd, name.encode())


def packed(tree: Path, below: Path | None = None) -> bytes:
    with opened(tree) as root:
        listed = None
        if below is not None:
            with opened(below) as lower:
                listed = ChangeList(compare(root, lower))
        return all_of(pack(root, listed))


def all_of(stream: ClosableStream) -> bytes:
    data = b""
    while piece := stream.read(1 << 20):
        data += piece
    stream.close()
    return data


def copied(source: Path, target: Path) -> None:
    with opened(source) as source_fd, opened(target) as target_fd:
        copy_tree(source_fd, target_fd)


def record(tree: Path) -> dict[bytes, object]:
    with opened(tree) as root:
        return recorded(root)


def remove_some(tree: Path, numbers: list[int]) -> None:
    with opened(tree) as root:
        for number in numbers:
            names = sorted(recorded(root).keys() - {b""})
            if names:
                folder, _, name = names[number % len(names)].rpartition(b"/")
                with opened(Path(os.fsdecode(os.path.join(os.fsencode(tree), folder)))) as above:
                    remove_tree(above, name)


@settings(max_examples=times(gate=150, long=2000))
@given(TREES)
def test_a_tree_packed_and_unpacked_is_the_same_tree(things: list[Thing]) -> None:
    with folders("one", "plain", "upper") as (one, plain, upper):
        make(one, things)
        os.chmod(one, 0o1751)
        os.utime(one, ns=(5, 1_234_567_890_123_456_789))
        tar = packed(one)
        for tree, form in ((plain, PlainTree), (upper, UpperDirectory)):
            with opened(tree) as root:
                unpack(io.BytesIO(tar), root, form=form)
            assert record(tree) == record(one)
            assert packed(tree) == tar


@settings(max_examples=times(gate=100, long=1500))
@given(TREES)
def test_a_copy_of_a_tree_is_the_same_tree_and_no_change(things: list[Thing]) -> None:
    with folders("one", "copy") as (one, copy):
        make(one, things)
        copied(one, copy)
        assert record(copy) == record(one)
        with opened(one) as lower, opened(copy) as upper:
            assert list(compare(upper, lower)) == []


@settings(max_examples=times(gate=100, long=1500))
@given(TREES, EDITS, TREES)
def test_what_a_child_changed_makes_the_child_again_of_the_parent(
    below: list[Thing], removed: list[int], added: list[Thing]
) -> None:
    names = ("parent", "child", "plain", "again", "upper", "work", "merged")
    with folders(*names) as paths:
        parent, child, plain, again_of_parent, upper, work, merged = paths
        make(parent, below)
        copied(parent, child)
        copied(parent, plain)
        copied(parent, again_of_parent)
        remove_some(child, removed)
        make(child, added)
        tar = packed(child, parent)
        with opened(plain) as root:
            unpack(io.BytesIO(tar), root)
        assert comparable(plain) == comparable(child)
        with opened(upper) as root, opened(parent) as lower:
            unpack(io.BytesIO(tar), root, form=lambda fd: UpperDirectory(fd, [lower]))
            again = all_of(UpperPacker(root))
        with opened(again_of_parent) as root:
            unpack(io.BytesIO(again), root)
        assert comparable(again_of_parent) == comparable(child)
        options = f"lowerdir={parent},upperdir={upper},workdir={work},{OVERLAY_OPTIONS}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "none", str(merged)], check=True)
        try:
            assert comparable(merged) == comparable(child)
        finally:
            subprocess.run(["umount", str(merged)], check=True)


def comparable(tree: Path) -> dict[bytes, object]:
    """Leave out what no list of changes tells: the root, folders' times, second names of old files."""
    found: dict[bytes, object] = {}
    for path, facts in record(tree).items():
        if path:
            assert isinstance(facts, tuple)
            metadata, attributes, content, _ = facts
            found[path] = (metadata[: 4 if stat.S_ISDIR(metadata[0]) else 5], attributes, content)
    return found
