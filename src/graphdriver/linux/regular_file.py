"""Opening a regular file, and never anything else.

To open a device is to use it: a watchdog starts, a tape winds, and whoever may not do that from a
container could have a root process do it for him. To look first is no help, since what is looked at
and what is opened may be two things.

- Anywhere: a name is held with `O_PATH`, which opens nothing, and what is held is opened once it was
  seen to be a file.
- In half of the time, where there is a copy of the mount without devices (`open_nodev`): a name is
  opened at once, and then seen to be a file. There a device or a socket cannot be opened. A FIFO can:
  nothing waits for it, and its other end sees somebody come and go who reads nothing.
"""

from __future__ import annotations

import errno
import os
import stat

from graphdriver.linux.mount import MOUNT_ATTR_NODEV, mount_copy

_HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_AT_ONCE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_PERHAPS_NO_FILE = frozenset({errno.EACCES, errno.ELOOP, errno.ENXIO, errno.EWOULDBLOCK})
"""How a device, a link and a socket refuse, and a file that somebody has a lease on (fcntl(2))."""


class NotRegularError(OSError):
    """What was to be opened is no regular file (any more)."""


def open_regular(dir_fd: int, name: bytes) -> int:
    """Open a regular file for reading; a link is not followed. See `open_and_stat`."""
    return open_and_stat(dir_fd, name)[0]


def open_and_stat(dir_fd: int, name: bytes) -> tuple[int, os.stat_result]:
    """Open a regular file for reading; a link is not followed.

    Args:
        dir_fd: the folder it is in.
        name: one name, not a path.

    Returns:
        Its descriptor, the caller's, and what fstat(2) says of it.

    Raises:
        NotRegularError: it is something else.
        OSError: ENOENT if there is nothing of that name.
    """
    held = os.open(name, _HOLD, dir_fd=dir_fd)
    try:
        found = os.fstat(held)
        if not stat.S_ISREG(found.st_mode):
            raise _not_regular(name)
        return os.open(b"/proc/self/fd/%d" % held, os.O_RDONLY | os.O_CLOEXEC), found
    finally:
        os.close(held)


def open_nodev(folder_fd: int) -> int | None:
    """Open a folder in a copy of its mount that lets nobody open a device; None where there is none.

    It takes Linux 5.12 and CAP_SYS_ADMIN.
    """
    try:
        copy = mount_copy(folder_fd, MOUNT_ATTR_NODEV)
    except OSError:
        return None
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=copy)
    finally:
        os.close(copy)


def open_and_stat_nodev(dir_fd: int, name: bytes) -> tuple[int, os.stat_result]:
    """Do what `open_and_stat` does, below a folder of `open_nodev`."""
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
    return NotRegularError(errno.EINVAL, "it is no regular file any more", os.fsdecode(name))
