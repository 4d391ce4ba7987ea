"""An error of the kernel's that a resource ran out names the resource."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver.linux import resources
from graphdriver.linux.resources import error_text, mount_error_text


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 2 MiB and 64 inodes."""
    options = "size=2m,nr_inodes=64"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tiny", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def error_of(call: Callable[[], object]) -> OSError:
    with pytest.raises(OSError) as caught:
        call()
    return caught.value


def test_a_filesystem_without_inodes(tiny: Path) -> None:
    def fill() -> None:
        for number in range(100):
            (tiny / str(number)).touch()

    error = error_of(fill)
    text = "no inodes are left on the filesystem (tmpfs): all 64 are in use"
    assert error_text(error) == error_text(error, str(tiny)) == text


def test_a_filesystem_without_space(tiny: Path) -> None:
    error = error_of(lambda: (tiny / "big").write_bytes(bytes(3 << 20)))
    assert error.filename is None
    fd = os.open(tiny, os.O_RDONLY)
    assert error_text(error, fd) == "no space is left on the filesystem (tmpfs): 0 bytes are free"
    os.close(fd)
    assert error_text(error) == "no space or no inodes are left on the filesystem"


@pytest.mark.parametrize("name", [0, "/proc/self/fd/0", b"/proc/self/fd/0", "relative", "", None])
def test_an_error_that_names_no_lasting_place(name: object) -> None:
    text = error_text(OSError(errno.ENOSPC, "No space left on device", name))
    assert text == "no space or no inodes are left on the filesystem"


def test_a_refusal_on_a_filesystem_that_has_room(tmp_path: Path) -> None:
    assert "though" in error_text(OSError(errno.ENOSPC, ""), str(tmp_path / "not/there"))


def test_a_file_that_is_larger_than_the_process_may_write(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        error = error_of(lambda: (tmp_path / "big").write_bytes(bytes(5000)))
        text = error_text(error, str(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert text.endswith("allows, or than this process may write (RLIMIT_FSIZE: 4096)")


def test_a_process_with_too_many_files_open() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        error = error_of(lambda: os.open("/", os.O_RDONLY))
        text = error_text(error)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert text == "this process has 3 files open, as many as it may (RLIMIT_NOFILE)"


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    error = error_of((tmp_path / ("n" * 256)).touch)
    assert error_text(error).startswith("a name or a path is longer than the filesystem (")


@pytest.mark.parametrize(
    ("number", "named"),
    [
        (errno.EDQUOT, "a quota is used up"),
        (errno.ENFILE, "/proc/sys/fs/file-max"),
        (errno.E2BIG, "arguments of a program, or an attribute"),
        (errno.EROFS, "is read-only, as the kernel makes one after an error (see dmesg)"),
        (errno.EIO, "or its disk failed (see dmesg)"),
        (errno.ENOMEM, "no memory is left for this process"),
    ],
)
def test_what_else_runs_out(number: int, named: str) -> None:
    assert named in error_text(OSError(number, os.strerror(number)))


def test_another_error_stays_as_it_is(tmp_path: Path) -> None:
    assert error_text(error_of((tmp_path / "a").read_bytes)) == "No such file or directory"


@pytest.mark.parametrize("most", ["1", "1000000"])
def test_too_many_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: str) -> None:
    limit = tmp_path / "mount-max"
    limit.write_text(most)
    monkeypatch.setattr(resources, "MOUNT_MAX", str(limit))
    text = mount_error_text(OSError(errno.ENOSPC, ""), str(tmp_path))
    assert text.startswith("there are 1 mounts, " if most == "1" else "no ")
