"""The opening of regular files, and never of anything else.

Opening a device uses it: a watchdog starts, a tape winds. A container that may not do that could make a
root process do it. A check before the open does not help, because the name may change in between.

- Everywhere: the name is opened with `O_PATH`, which touches no device; if that is a regular file, the
  same file is opened for reading through /proc.
- In half of the time, in a copy of the mount without devices (`open_nodev`): the name is opened first
  and then checked. Devices and sockets cannot be opened there. A FIFO can, without waiting; its other
  end sees a reader for a moment.
"""

from __future__ import annotations

import errno
import os
import stat

from graphdriver.linux.mount import MOUNT_ATTR_NODEV, mount_copy
from graphdriver.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

_HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_AT_ONCE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_PERHAPS_NO_FILE = frozenset({errno.EACCES, errno.ELOOP, errno.ENXIO, errno.EWOULDBLOCK})
"""Errors of devices, links and sockets, and of a file that somebody holds a lease on (fcntl(2))."""


class NotRegularError(OSError):
    """The name does not lead to a regular file (any more)."""


def open_regular(dir_fd: int, name: bytes) -> int:
    """Open a regular file for reading, as `open_and_stat` does; a link is not followed."""
    return open_and_stat(dir_fd, name)[0]


def open_and_stat(dir_fd: int, name: bytes) -> tuple[int, os.stat_result]:
    """Open a regular file for reading; a link is not followed.

    Args:
        dir_fd: its open directory.
        name: one name, not a path.

    Returns:
        Its descriptor, which the caller closes, and the result of fstat(2).

    Raises:
        NotRegularError: it is something else.
        OSError: ENOENT if the name does not exist.
    """
    held = os.open(name, _HOLD, dir_fd=dir_fd)
    try:
        found = os.fstat(held)
        if not stat.S_ISREG(found.st_mode):
            raise _not_regular(name)
        return os.open(b"/proc/self/fd/%d" % held, os.O_RDONLY | os.O_CLOEXEC), found
    finally:
        os.close(held)


def open_beneath(dir_fd: int, path: str) -> int:
    """Open a regular file below a directory for reading; no link is followed on the way to it.

    Returns:
        Its descriptor, which the caller closes.

    Raises:
        NotRegularError: it is something else.
        OSError: see openat2(2).
    """
    held = openat2(dir_fd, os.fsencode(path), _HOLD, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    try:
        if not stat.S_ISREG(os.fstat(held).st_mode):
            raise NotRegularError(errno.EINVAL, "it is not a regular file", path)
        return os.open(b"/proc/self/fd/%d" % held, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(held)


def open_nodev(directory_fd: int) -> int | None:
    """Open a directory in a ``nodev`` copy of its mount, on which no device can be opened.

    Returns:
        Its descriptor, which the caller closes; None before Linux 5.12 or without CAP_SYS_ADMIN.
    """
    try:
        copy = mount_copy(directory_fd, MOUNT_ATTR_NODEV)
    except OSError:
        return None
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=copy)
    finally:
        os.close(copy)


def open_and_stat_nodev(dir_fd: int, name: bytes) -> tuple[int, os.stat_result]:
    """Open a regular file as `open_and_stat` does, in a directory below one of `open_nodev`."""
    try:
        fd = os.open(name, _AT_ONCE, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in _PERHAPS_NO_FILE:
            raise
        return open_and_stat(dir_fd, name)
    try:
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode):
            return fd, found
        raise _not_regular(name)
    except BaseException:
        os.close(fd)
        raise


def _not_regular(name: bytes) -> NotRegularError:
    return NotRegularError(errno.EINVAL, "it is not a regular file any more", os.fsdecode(name))
