"""Whiteouts and opaque directories as an overlay keeps them on disk.

A 0:0 character device is a whiteout: its name is deleted. An attribute makes a directory opaque: it
hides the directories of that name in the layers below (kernel, filesystems/overlayfs, "whiteouts and
opaque directories"). `graphdriver.layer.whiteout` has the forms of both in a tar.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from graphdriver.layer.attributes import FUSE_OVERLAYFS, TRUSTED_OVERLAY, USER_OVERLAY
from graphdriver.layer.tar.entry import Entry, EntryType
from graphdriver.layer.tree.directory import Dir
from graphdriver.linux import xattr


@dataclass(frozen=True, slots=True)
class Marks:
    """The form of an overlay's marks.

    Attributes:
        prefix: the start of its attributes: ``trusted.overlay.``, or ``user.overlay.`` if mounted with
            ``userxattr``.
        hidden: names that begin with it are the overlay's own, and not content.
        exact: each mark hides something; fuse-overlayfs also makes marks that hide nothing.
    """

    prefix: bytes
    hidden: bytes = b""
    exact: bool = True

    @property
    def opaque(self) -> bytes:
        """The attribute of an opaque directory."""
        return self.prefix + b"opaque"

    def names_in(self, directory: Dir) -> list[bytes]:
        """Return the names in a directory that are content."""
        names = directory.names()
        return [name for name in names if not self.hides(name)] if self.hidden else names

    def hides(self, name: bytes) -> bool:
        """Tell whether a name is the overlay's own."""
        return bool(self.hidden) and name.startswith(self.hidden)


TRUSTED = Marks(TRUSTED_OVERLAY)
USER = Marks(USER_OVERLAY)
FUSE = Marks(TRUSTED_OVERLAY, b".wh.", exact=False)
"""Those of fuse-overlayfs for root; in a user namespace it is `FUSE_USER`."""
FUSE_USER = Marks(FUSE_OVERLAYFS, b".wh.", exact=False)


def make_whiteout(directory: Dir, name: bytes) -> None:
    """Make a whiteout in a directory.

    Raises:
        FileExistsError: something has that name.
        OSError: it cannot be made.
    """
    os.mknod(name, stat.S_IFCHR, 0, dir_fd=directory.fd)


def is_whiteout(found: os.stat_result) -> bool:
    """Tell whether what lstat(2) found is a whiteout."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def would_be_whiteout(entry: Entry) -> bool:
    """Tell whether an entry of a tar would be a whiteout if it were made unchanged."""
    return entry.type is EntryType.CHARACTER_DEVICE and entry.device == (0, 0)


def make_opaque(directory: Dir, marks: Marks) -> None:
    """Make a directory opaque.

    Raises:
        OSError: its attribute cannot be set.
    """
    xattr.set(directory.fd, marks.opaque, b"y")


def is_opaque(directory: Dir, marks: Marks) -> bool:
    """Tell whether a directory is opaque.

    Raises:
        OSError: its attribute cannot be read.
    """
    return xattr.get(directory.fd, marks.opaque) == b"y"


def is_opaque_at(dir_fd: int, name: bytes, marks: Marks) -> bool:
    """Tell whether a directory is opaque, given its name in an open one, without opening it.

    Raises:
        OSError: its attribute cannot be read.
    """
    return xattr.get_at(dir_fd, name, marks.opaque) == b"y"
