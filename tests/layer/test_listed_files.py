"""What was a file when its folder was listed, and is something else when its turn comes."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from graphdriver.layer.overlay.pack import UpperPacker
from graphdriver.layer.pack import Packer, pack
from tests.layer.hostile.ground import opened
from tests.support.opens import watched


def opaque(path: Path) -> None:
    path.mkdir()
    os.setxattr(path, "trusted.overlay.opaque", b"y")


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


REPLACEMENTS: dict[str, Callable[[Path], object]] = {
    "link": lambda path: path.symlink_to("/etc/passwd"),
    "folder": lambda path: path.mkdir(),
    "fifo": os.mkfifo,
    "device": lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    "deletion": lambda path: os.mknod(path, stat.S_IFCHR | 0o600, 0),
    "opaque folder": opaque,
    "socket": socket_at,
    "nothing": lambda _: None,
}


def is_let_be(path: Path, way_to_open: str) -> bool:
    """Tell whether what is there must not be opened, not even to see what it is."""
    if not os.path.lexists(path):
        return False
    kind = stat.S_IFMT(path.lstat().st_mode)
    return way_to_open == "held first" or kind not in (stat.S_IFIFO, stat.S_IFDIR)


def packed(
    folder: Path, packer: Packer, replace: Callable[[Path], object], way_to_open: str
) -> list[tuple[str, bytes]]:
    """Pack, and replace the second file while the first, a big one, is on its way."""
    first = packer.read(1)
    (folder / "b").unlink()
    replace(folder / "b")
    with watched([bytes(folder / "b")] if is_let_be(folder / "b", way_to_open) else []) as opens:
        tar = first + b"".join(iter(lambda: packer.read(1 << 20), b""))
        packer.close()
    assert opens == []
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return [(entry.name, entry.type) for entry in archive if entry.name != "."]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(b"x" * (1 << 20))
    (tmp_path / "b").write_bytes(b"content")
    (tmp_path / "c").write_bytes(b"content")
    return tmp_path


@pytest.mark.parametrize(
    ("replacement", "between"),
    [
        ("link", [("b", tarfile.SYMTYPE)]),
        ("folder", [("b", tarfile.DIRTYPE)]),
        ("fifo", [("b", tarfile.FIFOTYPE)]),
        ("device", [("b", tarfile.CHRTYPE)]),
        ("deletion", [(".wh.b", tarfile.REGTYPE)]),
        ("opaque folder", [("b", tarfile.DIRTYPE), ("b/.wh..wh..opq", tarfile.REGTYPE)]),
        ("socket", []),
        ("nothing", []),
    ],
)
def test_an_upper_folder_is_packed_as_it_is_and_no_device_is_opened(
    folder: Path, replacement: str, between: list[tuple[str, bytes]], way_to_open: str
) -> None:
    with opened(folder) as fd:
        found = packed(folder, UpperPacker(fd), REPLACEMENTS[replacement], way_to_open)
    assert found == [("a", tarfile.REGTYPE), *between, ("c", tarfile.REGTYPE)]


def test_in_a_plain_tree_a_device_is_a_device(folder: Path, way_to_open: str) -> None:
    with opened(folder) as fd:
        found = packed(folder, pack(fd, None), REPLACEMENTS["deletion"], way_to_open)
    assert found[1] == ("b", tarfile.CHRTYPE)
