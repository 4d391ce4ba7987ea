from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.linux.regular import open_regular
from tests.linux.opens import watched


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_a_file_is_opened_for_reading(folder: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content")
    fd = open_regular(folder, b"f")
    assert os.read(fd, 100) == b"content"
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_nothing_else_is_opened_not_even_to_see_what_it_is(folder: int, tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    names = ("target", "folder", "fifo", "device", "socket")
    with watched(bytes(tmp_path / name) for name in names) as opened:
        for name in ("link", "folder", "fifo", "device", "socket"):
            with pytest.raises(OSError, match="no regular file") as error:
                open_regular(folder, name.encode())
            assert error.value.errno == errno.EINVAL
    assert opened == []


def test_an_opened_device_would_have_been_noticed(tmp_path: Path) -> None:
    os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with watched([bytes(tmp_path / "device")]) as opened:
        os.close(os.open(tmp_path / "device", os.O_PATH))
        os.close(os.open(tmp_path / "device", os.O_RDONLY))
    assert opened == [bytes(tmp_path / "device")]


def test_what_is_not_there_is_an_error(folder: int) -> None:
    with pytest.raises(FileNotFoundError):
        open_regular(folder, b"f")
