"""A whole filesystem: its type (statfs(2)), its sync (syncfs(2)), the types in its directories."""

from __future__ import annotations

import ctypes
import errno
import os

from graphdriver.linux.libc import libc, raise_errno

BTRFS = 0x9123683E
EXT4 = 0xEF53
"""Also of ext2 and ext3."""
XFS = 0x58465342
"""Types that `magic_of` returns (linux/magic.h)."""

_WRITE = 2  # SYNC_FILE_RANGE_WRITE
_DT_UNKNOWN = 0
_SIZE = 256  # struct statfs has 120 bytes at most; its first word is the type on every architecture


def magic_of(fd: int) -> int:
    """Return the type of the filesystem of an open file; `os.statvfs` does not have it.

    Raises:
        OSError: the call failed.
    """
    found = (ctypes.c_long * (_SIZE // ctypes.sizeof(ctypes.c_long)))()
    while libc.fstatfs(fd, found):
        if ctypes.get_errno() != errno.EINTR:
            raise_errno("fstatfs")
    return int(found[0]) & 0xFFFFFFFF


def syncfs(fd: int) -> None:
    """Write all changes of a filesystem to its disk, and wait.

    Args:
        fd: anything open on that filesystem, not `O_PATH`. The kernel reports a failed write to
            descriptors that were open at that time (Linux 5.8), so open it before the first write.

    Raises:
        OSError: a write failed, now or since ``fd`` was opened.
    """
    if libc.syncfs(fd):
        raise_errno("syncfs")


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Ask the kernel to write a part of a file to its disk, and do not wait (sync_file_range(2)).

    Args:
        fd: the file.
        offset: where the part begins, in bytes.
        length: in bytes.

    Raises:
        OSError: the filesystem does not do that.
    """
    if libc.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(length), _WRITE):
        raise_errno("sync_file_range")


class _Dirent(ctypes.Structure):
    _fields_ = (
        ("d_ino", ctypes.c_uint64),
        ("d_off", ctypes.c_int64),
        ("d_reclen", ctypes.c_ushort),
        ("d_type", ctypes.c_ubyte),
        ("d_name", ctypes.c_char * 256),
    )


_fdopendir = libc.fdopendir
_fdopendir.restype = ctypes.c_void_p
_readdir = libc.readdir64
_readdir.argtypes = (ctypes.c_void_p,)
_readdir.restype = ctypes.POINTER(_Dirent)
_closedir = libc.closedir
_closedir.argtypes = (ctypes.c_void_p,)


def tells_types(path: str) -> bool:
    """Tell whether the entries of a directory come with their types (``d_type``).

    `os.scandir` hides it: it looks up what the filesystem leaves out.

    Args:
        path: a directory that is not empty.

    Raises:
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stream = _fdopendir(fd)
    if not stream:
        number = ctypes.get_errno()
        os.close(fd)
        raise OSError(number, os.strerror(number), path)
    try:
        while entry := _readdir(stream):
            if entry.contents.d_name not in (b".", b".."):
                return bool(entry.contents.d_type != _DT_UNKNOWN)
        return True
    finally:
        _closedir(stream)
