"""Opening a regular file, and never anything else.

To open a device is to use it: a watchdog starts, a tape winds, and whoever may not do that from a
container could have a root process do it for him. To look first is no help, since what is looked at
and what is opened may be two things. So a name is held with `O_PATH`, which opens nothing, and what is
held is opened once it was seen to be a file.
"""

from __future__ import annotations

import errno
import os
import stat

_HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


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
            raise NotRegularError(errno.EINVAL, "it is no regular file any more", os.fsdecode(name))
        return os.open(b"/proc/self/fd/%d" % held, os.O_RDONLY | os.O_CLOEXEC), found
    finally:
        os.close(held)
