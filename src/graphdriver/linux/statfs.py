"""Which filesystem something is on (statfs(2)); `os.statvfs` does not tell."""

from __future__ import annotations

import ctypes
import errno

from graphdriver.linux.libc import libc, raise_errno

BTRFS = 0x9123683E
EXT4 = 0xEF53
"""Also of ext2 and ext3."""
OVERLAYFS = 0x794C7630
TMPFS = 0x01021994
XFS = 0x58465342
"""What `filesystem_of` returns of the filesystems that matter here (linux/magic.h)."""

_SIZE = 256  # struct statfs has 120 bytes at most; its first word is the type on every architecture


def filesystem_of(fd: int) -> int:
    """Return the type of the filesystem that an open descriptor is on.

    Raises:
        OSError: it cannot be told.
    """
    told = (ctypes.c_long * (_SIZE // ctypes.sizeof(ctypes.c_long)))()
    while libc.fstatfs(fd, told):
        if ctypes.get_errno() != errno.EINTR:
            raise_errno("fstatfs")
    return int(told[0]) & 0xFFFFFFFF
