from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from graphdriver.linux import xattr
from graphdriver.linux.filesystem import BTRFS, EXT4, XFS, magic_of, start_writeback, syncfs
from graphdriver.linux.openat2 import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_SYMLINKS,
    openat2,
)
from tests.support.filesystems import loop


def test_syncfs_takes_any_descriptor_and_tells_of_bad_ones(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    syncfs(fd)
    os.close(fd)
    with pytest.raises(OSError) as error:
        syncfs(fd)
    assert error.value.errno == errno.EBADF


def test_the_writeback_of_a_file_is_requested_and_that_of_a_pipe_refused(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb", buffering=0) as file:
        file.write(bytes(1 << 20))
        start_writeback(file.fileno(), 4096, 1 << 19)
    for end in os.pipe():
        with pytest.raises(OSError, match="Illegal seek"):
            start_writeback(end, 0, 4096)
        os.close(end)


def test_openat2_keeps_inside_what_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "root" / "link").symlink_to("/etc")
    fd = os.open(tmp_path / "root", os.O_RDONLY)
    opened = openat2(fd, b"link", os.O_RDONLY, 0, RESOLVE_IN_ROOT)
    assert os.fstat(opened).st_ino == (tmp_path / "root" / "etc").stat().st_ino
    assert os.get_inheritable(opened) is False
    os.close(opened)
    for resolve, number in (
        (RESOLVE_BENEATH, errno.EXDEV),
        (RESOLVE_NO_SYMLINKS, errno.ELOOP),
    ):
        with pytest.raises(OSError) as error:
            openat2(fd, b"link", os.O_RDONLY, 0, resolve)
        assert error.value.errno == number
    with pytest.raises(ValueError, match="null"):
        openat2(fd, b"etc\0", os.O_RDONLY)
    os.close(fd)


def test_openat2_makes_files_with_their_mode(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    os.close(openat2(fd, b"new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, RESOLVE_BENEATH))
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600
    os.close(fd)


def test_attributes_of_files_and_of_links_themselves(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        fd = os.open(tmp_path / name, os.O_PATH | os.O_NOFOLLOW)
        target = xattr.path_of(fd)
        assert xattr.get_all(target) == {}
        xattr.set(target, b"trusted.\xff", name.encode())
        assert xattr.get_all(target) == {b"trusted.\xff": name.encode()}
        assert xattr.get(target, b"trusted.\xff") == name.encode()
        os.close(fd)
    fd = os.open(tmp_path / "link", os.O_PATH | os.O_NOFOLLOW)
    xattr.remove(xattr.path_of(fd), b"trusted.\xff")
    xattr.remove(xattr.path_of(fd), b"trusted.\xff")
    assert xattr.get(xattr.path_of(fd), b"trusted.\xff") is None
    os.close(fd)
    assert os.listxattr(tmp_path / "file") == ["trusted.\udcff"]


def test_a_filesystem_without_attributes_has_none() -> None:
    assert xattr.get_all(b"/proc/self/status") == {}
    assert xattr.get(b"/proc/self/status", b"user.x") is None


def test_filesystems_are_told_apart_as_the_kernels_own_tools_do(tmp_path: Path) -> None:
    for path in ("/dev/shm", "/proc", str(tmp_path)):
        fd = os.open(path, os.O_RDONLY)
        told = subprocess.run(
            ["stat", "--file-system", "--format=%t", path],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert magic_of(fd) == int(told, 16)
        os.close(fd)
    with pytest.raises(OSError, match="fstatfs"):
        magic_of(fd)


def test_the_filesystems_that_have_names_here_have_their_own(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    for kind, type in (("ext4", EXT4), ("xfs", XFS), ("btrfs", BTRFS)):
        with loop(kind, tmp_path_factory.mktemp(kind)) as place:
            fd = os.open(place, os.O_RDONLY)
            assert magic_of(fd) == type
            os.close(fd)
