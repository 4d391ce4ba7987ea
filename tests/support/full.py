"""Filesystems without room."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.filesystems import unmount

PAGE = os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def tmpfs(place: Path, pages: int) -> Iterator[Path]:
    """Mount a tmpfs of so many pages, for the length of a ``with`` block."""
    place.mkdir()
    size = f"size={pages * PAGE}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tiny", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", str(place)], check=True)


def fill(place: Path, *, leave: int = 0) -> None:
    """Fill a filesystem with a file called ``filler``; of a tmpfs leave so many pages free."""
    with open(place / "filler", "ab", buffering=0) as file:
        size, piece = 0, 1 << 30
        while piece >= PAGE:
            try:
                os.posix_fallocate(file.fileno(), size, piece)
            except OSError as error:
                assert error.errno in (errno.ENOSPC, errno.EDQUOT), error
                piece //= 2
            else:
                size += piece
        file.truncate(max(size - leave * PAGE, 0))


def use_up_inodes(place: Path) -> None:
    """Make files until there is no inode left."""
    (place / "fillers").mkdir()
    with contextlib.suppress(OSError):
        for number in range(100_000):
            os.close(os.open(place / "fillers" / str(number), os.O_CREAT | os.O_WRONLY))


@contextlib.contextmanager
def small_tmpfs(folder: Path) -> Iterator[Path]:
    """Mount a tmpfs of 40 MiB and 600 inodes in a directory, for the length of a ``with`` block."""
    place = folder / "tmpfs"
    place.mkdir()
    options = f"size={40 << 20},nr_inodes=600"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        unmount(place)


class Filler:
    """Takes all blocks of a filesystem, or all inodes."""

    def __init__(self, disk: Path) -> None:
        self._folder = disk / "filler"
        self._folder.mkdir()
        self._names = itertools.count()

    def blocks(self) -> None:
        """Write until nothing more can be written, in pieces that become small."""
        with contextlib.suppress(OSError), open(self._new(), "wb", buffering=0) as file:
            size = 1 << 20
            while size:
                try:
                    file.write(bytes(size))
                except OSError as error:
                    assert error.errno == errno.ENOSPC
                    size //= 4
            os.fsync(file.fileno())

    def inodes(self) -> None:
        """Make files until no more can be made."""
        with contextlib.suppress(OSError):
            while True:
                self._new().touch()

    def _new(self) -> Path:
        return self._folder / str(next(self._names))
