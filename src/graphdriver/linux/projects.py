"""Projects: numbers of directories that new files in them inherit (ioctl_xfs_fssetxattr(2)).

The filesystem counts the usage of each, and can limit it (`graphdriver.linux.project_quota`). A rename
into a directory with an inherited project fails with EXDEV for files of another project.
"""

from __future__ import annotations

import errno
import fcntl
import struct
from typing import NamedTuple

FS_IOC_FSGETXATTR = 0x801C581F
FS_IOC_FSSETXATTR = 0x401C5820
FS_XFLAG_PROJINHERIT = 0x200
_FSXATTR = struct.Struct("=IIIII8x")
_UNKNOWN = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


class Attributes(NamedTuple):
    """``struct fsxattr`` (linux/fs.h)."""

    flags: int
    extent: int
    extents: int
    project: int
    cow: int

    @property
    def is_inherited(self) -> bool:
        """Whether new files in this directory are in its project."""
        return bool(self.flags & FS_XFLAG_PROJINHERIT)

    def with_project(self, project: int) -> Attributes:
        """Return them with a project that new files inherit."""
        return self._replace(flags=self.flags | FS_XFLAG_PROJINHERIT, project=project)


def attributes_of(fd: int) -> Attributes:
    """Return the attributes of an open directory.

    Raises:
        OSError: the filesystem has none.
    """
    found = fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(_FSXATTR.size))
    return Attributes(*_FSXATTR.unpack(found))


def set_attributes(fd: int, attributes: Attributes) -> None:
    """Set the attributes of an open directory.

    Raises:
        OSError: they cannot be set.
    """
    fcntl.ioctl(fd, FS_IOC_FSSETXATTR, _FSXATTR.pack(*attributes))


def is_inherited(fd: int) -> bool:
    """Tell whether new files in an open directory are in its project.

    Raises:
        OSError: its attributes cannot be read.
    """
    found = _known(fd)
    return found is not None and found.is_inherited


def join_parent(fd: int, above_fd: int) -> None:
    """Put a directory into the project of the one above it, if that project is inherited.

    Raises:
        OSError: it cannot be set.
    """
    above = _known(above_fd)
    if above is None or not above.is_inherited:
        return
    below = _known(fd)
    if below and below.project != above.project:
        set_attributes(fd, below.with_project(above.project))


def stop_inheriting(fd: int) -> None:
    """Clear the inheritance of a directory's project, so that files of other projects can be moved in.

    Raises:
        OSError: it cannot be set.
    """
    found = _known(fd)
    if found and found.is_inherited:
        set_attributes(fd, found._replace(flags=found.flags & ~FS_XFLAG_PROJINHERIT))


def _known(fd: int) -> Attributes | None:
    try:
        return attributes_of(fd)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        return None
