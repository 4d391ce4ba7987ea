"""What is copied up from the layers below is as it was there, wherever it is put."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.layer.overlay.form import UpperDirectory
from tests.layer.conftest import Layer

NOBODY = 0xFFFFFFFF
ENTRIES = [(1, 7, NOBODY), (2, 7, 1000), (4, 5, NOBODY), (16, 7, NOBODY), (32, 5, NOBODY)]
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in ENTRIES)
"""What ``setfacl -m u:1000:rwx`` sets, as the kernel keeps it (linux/posix_acl_xattr.h)."""


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    lower = tmp_path / "lower"
    (lower / "d/sub").mkdir(parents=True)
    (lower / "d/f").write_bytes(b"x")
    (lower / "d/s").symlink_to("f")
    os.mkfifo(lower / "d/p")
    return lower


def test_it_takes_no_access_control_list_from_the_directory_that_it_is_put_in(
    layer: Layer, lower: Path
) -> None:
    tar = tars.tar(
        tars.pax([(b"SCHILY.xattr.system.posix_acl_default", ACL)]),
        tars.directory(b"d"),
        tars.file(b"d/sub/new"),
        *(tars.hard_link(b"d/" + one + b"2", b"d/" + one) for one in (b"f", b"s", b"p")),
    )
    with opened(lower) as fd:
        layer.unpack(tar, form=partial(UpperDirectory, lowers=[fd]))
    assert os.listxattr(layer.root / "d") == ["system.posix_acl_default"]
    for name in ("d/sub", "d/sub/new", "d/f", "d/s", "d/p"):
        assert os.listxattr(layer.root / name, follow_symlinks=False) == [], name
        if name != "d/sub/new":
            assert layer.stat(name).st_mode == (lower / name).lstat().st_mode


def test_marks_of_the_overlay_that_it_was_in_do_not_come_along(layer: Layer, lower: Path) -> None:
    """The kernel leaves some on what it copies up itself; they speak of another file."""
    for name in ("d/sub", "d/f"):
        os.setxattr(lower / name, "trusted.overlay.origin", b"x")
        os.setxattr(lower / name, "trusted.kept", b"x")
    tar = tars.tar(tars.file(b"d/sub/new"), tars.hard_link(b"h", b"d/f"))
    with opened(lower) as fd:
        layer.unpack(tar, form=partial(UpperDirectory, lowers=[fd]))
    for name in ("d/sub", "d/f"):
        assert os.listxattr(layer.root / name) == ["trusted.kept"]
