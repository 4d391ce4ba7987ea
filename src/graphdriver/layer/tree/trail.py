"""The way down a directory tree: the open directories from its root to the current one.

- No path is ever resolved. Each directory is opened by its name in its parent, so trees of any depth
  and paths of any length work.
- The number of descriptors is bounded: only the innermost directories stay open.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import Self

from graphdriver.errors import BrokenStreamError
from graphdriver.layer.tree.directory import Dir
from graphdriver.linux.openat2 import RESOLVE_NO_XDEV, openat2

_log = logging.getLogger(__name__)

OPEN_DIRECTORIES = 64
"""How many directories of one way down are open at a time."""

NO_DIRECTORY = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""The errors of opening a name that is not a directory (any more)."""

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Trail:
    """A way down a tree; its last directory is the current one.

    Args:
        root_fd: the tree's root, ``O_PATH`` is enough; borrowed.
        keep: how many directories stay open at a time.

    Attributes:
        here: the current directory.
    """

    def __init__(self, root_fd: int, keep: int = OPEN_DIRECTORIES) -> None:
        self._keep = keep
        self.here = Dir.at(root_fd)
        self._way = [self.here]
        try:
            self._identities = [_identity(self.here)]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def depth(self) -> int:
        """How many directories the current one is below the root."""
        return len(self._way) - 1

    def enters(self, name: bytes) -> bool:
        """Go down into the directory ``name``; warn and return False if it is not one."""
        try:
            self.enter(name)
        except OSError as error:
            if error.errno not in NO_DIRECTORY and error.errno != errno.EXDEV:
                raise
            _log.warning("%r vanished, or is a mount, while its tree was read: left out", name)
            return False
        return True

    def enter(self, name: bytes) -> None:
        """Go down into the directory ``name`` of the current one.

        Raises:
            OSError: ENOENT, ENOTDIR or ELOOP if there is no directory of that name (any more), EXDEV
                if something is mounted on it.
        """
        # Never into another mount: its files are not the layer's, and would be packed or removed.
        self.here = Dir(openat2(self.here.fd, name, _OPEN, resolve=RESOLVE_NO_XDEV))
        self._way.append(self.here)
        self._identities.append(_identity(self.here))
        outermost = len(self._way) - 1 - self._keep
        if outermost >= 0:
            self._way[outermost].close()

    def leave(self) -> None:
        """Go up again.

        Raises:
            BrokenStreamError: the directory is no longer where it was.
        """
        self._identities.pop()
        with self._way.pop() as left:
            if self._way[-1].fd < 0:
                self._way[-1] = Dir(os.open("..", _OPEN, dir_fd=left.fd))
                # If the directory was moved meanwhile, ``..`` leads out of the tree.
                if _identity(self._way[-1]) != self._identities[-1]:
                    raise BrokenStreamError("a directory was moved while its tree was read")
        self.here = self._way[-1]

    def close(self) -> None:
        """Close every directory that is open."""
        for directory in self._way:
            directory.close()
        self._way.clear()


def _identity(directory: Dir) -> tuple[int, int]:
    found = os.fstat(directory.fd)
    return found.st_dev, found.st_ino
