from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.linux.mountinfo import mount_points
from graphdriver.linux.regular_file import (
    NotRegularError,
    open_and_stat_nodev,
    open_beneath,
    open_nodev,
    open_regular,
)
from tests.support.opens import watched


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def make_one_of_each(folder: Path) -> None:
    """Make whatever is no file, under its own name."""
    (folder / "target").touch()
    (folder / "link").symlink_to("target")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))


def test_a_file_is_opened_for_reading(folder: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content")
    fd = open_regular(folder, b"f")
    assert os.read(fd, 100) == b"content"
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_nothing_else_is_opened_not_even_to_see_what_it_is(folder: int, tmp_path: Path) -> None:
    make_one_of_each(tmp_path)
    names = ("target", "folder", "fifo", "device", "socket")
    with watched(bytes(tmp_path / name) for name in names) as opened:
        for name in ("link", "folder", "fifo", "device", "socket"):
            with pytest.raises(OSError, match="not a regular file") as error:
                open_regular(folder, name.encode())
            assert error.value.errno == errno.EINVAL
    assert opened == []


def test_the_same_at_the_end_of_a_path(folder: int, tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    make_one_of_each(below)
    os.mknod(below / "nobodys", stat.S_IFCHR | 0o600, os.makedev(4000, 1))
    names = ("link", "target", "folder", "fifo", "device", "socket", "nobodys")
    with watched(bytes(below / name) for name in names) as opened:
        for name in set(names) - {"target"}:
            with pytest.raises(NotRegularError):
                open_beneath(folder, f"below/{name}")
    assert opened == []
    with open(open_beneath(folder, "below/target"), "rb") as file:
        assert file.read() == b""
        assert not os.get_inheritable(file.fileno())


def test_no_link_is_followed_on_the_way(folder: int, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").touch()
    (tmp_path / "way").symlink_to("real")
    for path in ("way/file", "real/../real/../../file", "/real/file"):
        with pytest.raises(OSError, match=r"symbolic links|cross-device|No such file"):
            open_beneath(folder, path)


def test_an_opened_device_would_have_been_noticed(tmp_path: Path) -> None:
    os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with watched([bytes(tmp_path / "device")]) as opened:
        os.close(os.open(tmp_path / "device", os.O_PATH))
        os.close(os.open(tmp_path / "device", os.O_RDONLY))
    assert opened == [bytes(tmp_path / "device")]


def test_what_is_not_there_is_an_error(folder: int) -> None:
    with pytest.raises(FileNotFoundError):
        open_regular(folder, b"f")


# --- where no device can be opened ----------------------------------------------------------------


@pytest.fixture
def copy(folder: int) -> Iterator[int]:
    """The folder in a copy of its mount."""
    fd = open_nodev(folder)
    assert fd is not None
    yield fd
    os.close(fd)


def test_there_a_file_is_opened_for_reading_too(copy: int, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content")
    fd, found = open_and_stat_nodev(copy, b"f")
    assert os.read(fd, 100) == b"content"
    assert found.st_size == 7
    assert not os.get_inheritable(fd)
    os.close(fd)
    with pytest.raises(FileNotFoundError):
        open_and_stat_nodev(copy, b"g")


def test_there_nothing_else_is_taken_for_a_file_and_no_device_is_opened(
    copy: int, tmp_path: Path
) -> None:
    make_one_of_each(tmp_path)
    with watched(bytes(tmp_path / name) for name in ("target", "device", "socket")) as opened:
        for name in ("link", "folder", "fifo", "device", "socket"):
            before = len(os.listdir("/proc/self/fd"))
            with pytest.raises(OSError, match="not a regular file") as error:
                open_and_stat_nodev(copy, name.encode())
            assert error.value.errno == errno.EINVAL
            assert len(os.listdir("/proc/self/fd")) == before
    assert opened == []


def test_there_not_even_who_means_to_can_open_a_device(copy: int, tmp_path: Path) -> None:
    os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    with pytest.raises(PermissionError):
        os.open("device", os.O_RDONLY, dir_fd=copy)


def test_there_a_file_that_somebody_has_a_lease_on_is_waited_for(copy: int, tmp_path: Path) -> None:
    holder = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    asked = []

    def give_up(*_: object) -> None:
        asked.append(fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_UNLCK))

    before = signal.signal(signal.SIGIO, give_up)
    try:
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fd, _ = open_and_stat_nodev(copy, b"f")
        os.close(fd)
    finally:
        signal.signal(signal.SIGIO, before)
        os.close(holder)
    assert asked


def test_the_copy_shows_what_lies_below_a_mount_and_is_seen_by_nobody(
    folder: int, tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "below").touch()
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "m"], check=True)
    try:
        fd = open_nodev(folder)
        assert fd is not None
        assert os.path.exists(f"/proc/self/fd/{fd}/m/below")
        below = os.stat(tmp_path / "m").st_dev
        assert [one.point for one in mount_points() if one.device == below] == [
            os.fsencode(tmp_path / "m")
        ]
        os.close(fd)
    finally:
        subprocess.run(["umount", tmp_path / "m"], check=True)


def test_who_may_not_mount_has_no_copy(folder: int) -> None:
    child = os.fork()
    if not child:
        os.setresuid(65534, 65534, 65534)
        os._exit(0 if open_nodev(folder) is None else 1)
    assert os.waitpid(child, 0)[1] == 0
