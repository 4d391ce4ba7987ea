"""Inode flags that forbid even root to change or delete something: chattr(1), ``+i`` and ``+a``."""

from __future__ import annotations

import fcntl
import os
import struct

from graphdriver.linux.regular_file import open_regular

# ioctl_iflags(2)
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FORBID = 0x10 | 0x20  # immutable, append only


def allow_changes(fd: int) -> None:
    """Clear the flags of a file or directory that forbid changes, if it has any.

    Args:
        fd: its descriptor, not `O_PATH`.

    Raises:
        OSError: they cannot be cleared.
    """
    try:
        flags = struct.unpack("I", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(4)))[0]
    except OSError:  # the filesystem has no flags
        return
    if flags & _FORBID:
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("I", flags & ~_FORBID))


def allow_changes_at(dir_fd: int, name: bytes) -> None:
    """Clear these flags of a name in an open directory; only files and directories have them.

    Raises:
        OSError: they cannot be cleared.
    """
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)
    except NotADirectoryError:
        try:
            fd = open_regular(dir_fd, name)
        except OSError:
            return
    try:
        allow_changes(fd)
    finally:
        os.close(fd)
