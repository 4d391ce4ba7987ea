"""A tree 3,000 folders deep, whose paths no system call would take: in, compared, out and removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.layer.overlay.form import UpperDirectory
from graphdriver.layer.write.form import Form
from graphdriver.layer.write.plain_tree import PlainTree
from tests.layer.conftest import Layer, remove
from tests.layer.test_changes import compare
from tests.layer.test_pack import changed, packed, unpacked

DEPTH = 3000
FOLDER = os.O_RDONLY | os.O_DIRECTORY


def layer_tar(content: bytes = b"bottom") -> bytes:
    """A folder for each level, with a time of its own, and a file and its hard link at the bottom."""
    path = b""
    made = []
    for depth in range(DEPTH):
        path += b"d/"
        made += [tars.gnu_long(b"L", path), tars.directory(b"", mtime=depth)]
    made += [tars.gnu_long(b"L", path + b"file"), tars.file(b"", content)]
    made += [tars.gnu_long(b"L", path + b"link"), tars.gnu_long(b"K", path + b"file")]
    return tars.tar(*made, tars.hard_link(b"", b""))


@pytest.fixture
def deep(layer: Layer) -> Layer:
    layer.unpack(layer_tar())
    return layer


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Path]:
    """A second tree."""
    root = tmp_path / "other"
    root.mkdir()
    yield root
    remove(root)


def open_bottom(root: Path) -> int:
    fd = os.open(root, FOLDER)
    for _ in range(DEPTH):
        below = os.open("d", FOLDER, dir_fd=fd)
        os.close(fd)
        fd = below
    return fd


@pytest.mark.parametrize("form", [PlainTree, UpperDirectory])
def test_it_arrives_with_every_folders_time(layer: Layer, form: type[Form]) -> None:
    layer.unpack(layer_tar(), form=form)
    fd = os.open(layer.root, FOLDER)
    for depth in range(DEPTH):
        below = os.open("d", FOLDER, dir_fd=fd)
        os.close(fd)
        fd = below
        assert os.fstat(fd).st_mtime == depth
    assert sorted(os.listdir(fd)) == ["file", "link"]
    assert os.stat("file", dir_fd=fd).st_ino == os.stat("link", dir_fd=fd).st_ino
    os.close(fd)


def test_it_leaves_as_it_came(deep: Layer, other: Path) -> None:
    data = packed(deep.root)
    unpacked(data, other)
    assert compare(other, deep.root) == []
    assert packed(other) == data


def test_what_changed_at_its_bottom_is_found_and_brought_over(deep: Layer, other: Path) -> None:
    unpacked(layer_tar(b"BOTTOM"), other)
    bottom = open_bottom(other)
    os.unlink("link", dir_fd=bottom)
    os.mkdir("new", dir_fd=bottom)
    os.close(bottom)
    listed = changed(other, deep.root)
    path = "/d" * DEPTH
    assert [(change.path, change.kind.name) for change in list(listed)[-4:]] == [
        (path, "MODIFIED"),
        (path + "/file", "MODIFIED"),
        (path + "/link", "DELETED"),
        (path + "/new", "ADDED"),
    ]
    assert len(listed) == DEPTH + 3
    deep.unpack(packed(other, listed))
    assert compare(deep.root, other) == []


def test_it_goes_by_a_whiteout_and_by_an_opaque_mark(deep: Layer) -> None:
    deep.unpack(tars.tar(tars.file(b"d/d/stays"), tars.whiteout(b"d/d/.wh..wh..opq")))
    assert deep.names() == [b"d", b"d/d", b"d/d/stays"]
    deep.unpack(tars.tar(tars.whiteout(b".wh.d")))
    assert deep.names() == []


def test_it_is_replaced_by_a_file(deep: Layer) -> None:
    deep.unpack(tars.tar(tars.file(b"d", b"instead")))
    assert deep.names() == [b"d"]
