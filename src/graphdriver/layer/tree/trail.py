"""The way down a directory tree: descriptors from its root to the current directory.

The rules:

- No path is ever resolved. Each folder is opened by its name in the folder above it, never through a
  link, so neither the depth of a tree nor the length of its paths has a limit here.
- No recursion, and a bounded number of descriptors: of the folders on the way down only the
  innermost stay open. One that was closed is opened again as ``..`` of the folder below it, and must
  then be the folder that it was: what moves while it is walked is an error, not a way out.
- A folder that something else is mounted on is not entered: what lies there is not the layer's.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import Self

from graphdriver.errors import BrokenStreamError
from graphdriver.linux.openat2 import RESOLVE_NO_XDEV, openat2

_log = logging.getLogger(__name__)

OPEN_FOLDERS = 64
"""How many folders of one way down are open at a time."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
NO_DIRECTORY_HERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Trail:
    """The open folders from a root down to the one that is current.

    Args:
        root_fd: a folder's descriptor, ``O_PATH`` will do; it stays the caller's.
        keep: how many folders stay open at a time.
    """

    def __init__(self, root_fd: int, keep: int = OPEN_FOLDERS) -> None:
        self._keep = keep
        self.fd = os.open(".", _FOLDER, dir_fd=root_fd)
        self._open = [self.fd]
        try:
            self._known = [_identity(self.fd)]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def depth(self) -> int:
        """How many folders the current one is below the root."""
        return len(self._open) - 1

    def enters(self, name: bytes) -> bool:
        """Go down into the folder ``name``, or tell that there is none (any more) to go into."""
        try:
            self.enter(name)
        except OSError as error:
            if error.errno not in NO_DIRECTORY_HERE and error.errno != errno.EXDEV:
                raise
            _log.warning("%r vanished, or is a mount, while its tree was read: left out", name)
            return False
        return True

    def enter(self, name: bytes) -> None:
        """Go down into the folder ``name`` of the current one.

        Raises:
            OSError: ENOENT, ENOTDIR or ELOOP if there is no folder of that name (any more), EXDEV
                if something is mounted on it.
        """
        fd = openat2(self.fd, name, _FOLDER, resolve=RESOLVE_NO_XDEV)
        self._open.append(fd)
        self._known.append(_identity(fd))
        self.fd = fd
        outer = len(self._open) - 1 - self._keep
        if outer >= 0 and self._open[outer] >= 0:
            os.close(self._open[outer])
            self._open[outer] = -1

    def leave(self) -> None:
        """Go up again.

        Raises:
            BrokenStreamError: the folder is no longer where it was.
        """
        below = self._open.pop()
        self._known.pop()
        try:
            if self._open[-1] < 0:
                self._open[-1] = os.open("..", _FOLDER, dir_fd=below)
                if _identity(self._open[-1]) != self._known[-1]:
                    raise BrokenStreamError("a folder was moved while its tree was read")
        finally:
            os.close(below)
        self.fd = self._open[-1]

    def close(self) -> None:
        """Close every folder that is open."""
        for fd in self._open:
            if fd >= 0:
                os.close(fd)
        self._open.clear()


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
