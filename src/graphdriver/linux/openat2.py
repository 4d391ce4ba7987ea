"""openat2(2): open a path under restrictions on how it is resolved."""

from __future__ import annotations

import ctypes
import errno
import functools
import os

from graphdriver.linux.libc import libc, raise_errno

AT_FDCWD = -100
"""In the place of an open directory, for an absolute path."""

RESOLVE_NO_XDEV = 0x01
"""Never cross into another mount."""
RESOLVE_NO_MAGICLINKS = 0x02
"""Never follow the magic links of /proc."""
RESOLVE_NO_SYMLINKS = 0x04
"""Never follow a symbolic link, on the way or at the end: ELOOP."""
RESOLVE_BENEATH = 0x08
"""Never leave the starting directory or follow an absolute link: EXDEV."""
RESOLVE_IN_ROOT = 0x10
"""Use the starting directory as the root, as chroot(2) does."""

_SYS_OPENAT2 = 437  # the same on every architecture, as for all calls since Linux 5.1


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_HOW_SIZE = ctypes.c_size_t(ctypes.sizeof(_OpenHow))
_syscall = libc.syscall


@functools.lru_cache(maxsize=64)
def _how(flags: int, mode: int, resolve: int) -> object:
    # The kernel only reads it, so one serves all threads; making it costs as much as the call.
    return ctypes.byref(_OpenHow(flags | os.O_CLOEXEC, mode, resolve))


def openat2(dir_fd: int, path: bytes, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open ``path``, starting from ``dir_fd``, under the restrictions of ``resolve``.

    Args:
        dir_fd: an open directory.
        path: at most 4,095 bytes, without NUL.
        flags: as for `os.open`; `O_CLOEXEC` is added.
        mode: permission bits of a file that `O_CREAT` makes; must be 0 otherwise.
        resolve: any of the ``RESOLVE_`` bits above.

    Returns:
        The new descriptor.

    Raises:
        OSError: EAGAIN if something was renamed meanwhile; then the call may be repeated. See
            openat2(2).
        ValueError: ``path`` holds a NUL.
    """
    if b"\0" in path:
        raise ValueError("embedded null byte")
    while True:
        fd: int = _syscall(_SYS_OPENAT2, dir_fd, path, _how(flags, mode, resolve), _HOW_SIZE)
        if fd >= 0:
            return fd
        if ctypes.get_errno() != errno.EINTR:
            raise_errno(os.fsdecode(path[:200]))
