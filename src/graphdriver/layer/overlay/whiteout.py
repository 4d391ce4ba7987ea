"""Whiteouts and opaque directories as an overlay keeps them on disk.

A 0:0 character device is a whiteout: its name is deleted. An attribute makes a directory opaque: all
below it is hidden (kernel, filesystems/overlayfs, "whiteouts and opaque directories").
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from graphdriver.layer.attributes import FUSE_OVERLAYFS, TRUSTED_OVERLAY, USER_OVERLAY
from graphdriver.layer.tree.walk import names_in
from graphdriver.linux import xattr


@dataclass(frozen=True, slots=True)
class Marks:
    """How an overlay keeps its marks.

    ``prefix`` begins its attributes: ``trusted.``, or ``user.`` if mounted with ``userxattr``. Names
    that begin with ``hidden`` are the overlay's own, and no content. Below each mark is something if
    they are ``exact``; fuse-overlayfs marks whatever it makes or deletes.
    """

    prefix: bytes
    hidden: bytes = b""
    exact: bool = True

    @property
    def opaque(self) -> bytes:
        """The attribute of a folder that hides all below it."""
        return self.prefix + b"opaque"

    def names_in(self, fd: int) -> list[bytes]:
        """Return the names of an open folder that are content."""
        names = names_in(fd)
        return [name for name in names if not self.hides(name)] if self.hidden else names

    def hides(self, name: bytes) -> bool:
        """Tell whether a name is the overlay's own."""
        return bool(self.hidden) and name.startswith(self.hidden)


TRUSTED = Marks(TRUSTED_OVERLAY)
USER = Marks(USER_OVERLAY)
FUSE = Marks(TRUSTED_OVERLAY, b".wh.", exact=False)
"""Those of fuse-overlayfs for root; in a user namespace it is `FUSE_USER`."""
FUSE_USER = Marks(FUSE_OVERLAYFS, b".wh.", exact=False)


def is_whiteout(found: os.stat_result) -> bool:
    """Tell whether it is a 0:0 character device, overlayfs's word for a deletion."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def make_whiteout(dir_fd: int, name: bytes) -> None:
    """Make a whiteout in an open directory.

    Raises:
        FileExistsError: something has that name.
        OSError: it cannot be made.
    """
    os.mknod(name, stat.S_IFCHR, 0, dir_fd=dir_fd)


def make_opaque(fd: int, marks: Marks) -> None:
    """Make an open directory opaque.

    Raises:
        OSError: it cannot be made so.
    """
    xattr.set(fd, marks.opaque, b"y")


def is_opaque(fd: int, marks: Marks) -> bool:
    """Tell whether an open directory is opaque.

    Raises:
        OSError: that cannot be read.
    """
    return xattr.get(fd, marks.opaque) == b"y"


def is_opaque_at(dir_fd: int, name: bytes, marks: Marks) -> bool:
    """Tell whether a directory in an open one is opaque.

    Raises:
        OSError: that cannot be read.
    """
    return xattr.get_at(dir_fd, name, marks.opaque) == b"y"
