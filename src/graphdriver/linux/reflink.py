"""Copies of a file's content inside the kernel, if it supports that.

`FICLONE` shares the blocks (btrfs, xfs with reflink); `copy_file_range` copies inside the kernel;
otherwise reads and writes do it. Holes stay holes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator

FICLONE = 0x40049409
"""ioctl_ficlonerange(2): make a file share all blocks of another."""

_UNSUPPORTED = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ETXTBSY}
)
_PIECE = 1 << 30
_BUFFER = 1 << 20


def clone(target_fd: int, source_fd: int) -> bool:
    """Make the target share the source's blocks; return False if that is not possible.

    Raises:
        OSError: it failed for another reason (ENOSPC, EIO).
    """
    try:
        fcntl.ioctl(target_fd, FICLONE, source_fd)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True


def works_in(directory: str) -> bool:
    """Tell whether files in a directory can share blocks.

    Raises:
        OSError: no file can be made there.
    """
    with (
        tempfile.TemporaryFile(dir=directory) as one,
        tempfile.TemporaryFile(dir=directory) as other,
    ):
        one.write(b"x" * 4096)
        one.flush()
        return clone(other.fileno(), one.fileno())


def copy(target_fd: int, source_fd: int, size: int) -> None:
    """Copy ``size`` bytes of content into an empty file, its holes as holes.

    Raises:
        OSError: it failed.
    """
    os.truncate(target_fd, size)
    for start, end in _data_of(source_fd, size):
        _copy_range(target_fd, source_fd, start, end)


def _data_of(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges that hold data (lseek(2), SEEK_DATA and SEEK_HOLE)."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, min(end, size)


def _copy_range(target_fd: int, source_fd: int, start: int, end: int) -> None:
    while start < end:
        try:
            copied = os.copy_file_range(
                source_fd, target_fd, min(end - start, _PIECE), start, start
            )
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            piece = os.pread(source_fd, min(end - start, _BUFFER), start)
            copied = os.pwrite(target_fd, piece, start)
        if not copied:
            return  # the source became shorter meanwhile: the rest stays a hole
        start += copied
