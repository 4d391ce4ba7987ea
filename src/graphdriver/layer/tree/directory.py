"""An open directory as a value.

A `Dir` owns its descriptor. The code that opened it closes it, once, by ``with`` or `Dir.close`. A bare
number (an argument called ``…_fd``) is borrowed: its owner closes it, and nobody else.

The calls that are made for each entry of a tree take the number itself (``os.lstat(name, dir_fd=…)``),
since a method would cost time there. Names are bytes, and one name each: no path is resolved here.
"""

from __future__ import annotations

import os
from typing import Self

from graphdriver.linux.acl import drop_acls

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Dir:
    """An open directory, which owns its descriptor.

    Args:
        fd: an open descriptor of a directory; this object owns it from now on.

    Attributes:
        fd: the descriptor; -1 once closed.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @staticmethod
    def at(dir_fd: int, name: bytes = b".") -> Dir:
        """Open a directory that is in a borrowed one, or that one itself; a link is not followed.

        Args:
            dir_fd: the borrowed one; ``O_PATH`` is enough.
            name: its name there.

        Raises:
            OSError: ENOENT, ENOTDIR or ELOOP if there is no directory of that name.
        """
        return Dir(os.open(name, _OPEN, dir_fd=dir_fd))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; do nothing if it is closed."""
        # The number is cleared first: a second close() of it could close another thread's descriptor.
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def open(self, name: bytes) -> Dir:
        """Open a directory in it; errors as for `at`."""
        return Dir(os.open(name, _OPEN, dir_fd=self.fd))

    def make(self, name: bytes, *, inherits: bool) -> Dir:
        """Make a directory in it, with a mode of 0700, and open it.

        Args:
            name: its name.
            inherits: new files in this directory inherit an access control list; it is removed from
                the new one.

        Raises:
            FileExistsError: something has that name.
            OSError: anything else.
        """
        # Closed to other users until it has its owner and mode.
        os.mkdir(name, 0o700, dir_fd=self.fd)
        made = self.open(name)
        if inherits:
            try:
                drop_acls(made.fd)
            except BaseException:
                made.close()
                raise
        return made

    def find(self, name: bytes) -> os.stat_result | None:
        """Return the result of lstat(2) for a name in it; None if it does not exist."""
        try:
            return os.lstat(name, dir_fd=self.fd)
        except FileNotFoundError:
            return None

    def names(self) -> list[bytes]:
        """Return the names in it, in byte order; none if it was removed meanwhile."""
        try:  # os.listdir of a descriptor gives text
            return sorted(map(os.fsencode, os.listdir(self.fd)))
        except FileNotFoundError:
            return []

    def times(self) -> tuple[int, int]:
        """Return its access and modification time in nanoseconds, as `os.utime` takes them."""
        found = os.fstat(self.fd)
        return found.st_atime_ns, found.st_mtime_ns

    def set_times(self, times: tuple[int, int]) -> None:
        """Set its access and modification time, in nanoseconds."""
        os.utime(self.fd, ns=times)


class LayerDir(Dir):
    """An open directory of a layer that knows where it is.

    Args:
        fd: as for `Dir`.
        path: the names that lead to it from the layer's root, none of them a link.
    """

    __slots__ = ("_inode", "path")

    def __init__(self, fd: int, path: list[bytes]) -> None:
        super().__init__(fd)
        self.path = path
        self._inode: int | None = None

    @property
    def inode(self) -> int:
        """Its inode number."""
        if self._inode is None:
            self._inode = os.fstat(self.fd).st_ino
        return self._inode
