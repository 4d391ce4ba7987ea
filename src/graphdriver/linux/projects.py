"""Projects: numbers that directories hand on to what is made in them (ioctl_xfs_fssetxattr(2)).

The filesystem counts what each holds, and can limit it (`graphdriver.linux.project_quota`). A rename
into a directory that hands on a project fails with EXDEV for what is in another project.
"""

from __future__ import annotations

import errno
import fcntl
import struct
from dataclasses import astuple, dataclass, replace

FS_IOC_FSGETXATTR = 0x801C581F
FS_IOC_FSSETXATTR = 0x401C5820
FS_XFLAG_PROJINHERIT = 0x200
_FSXATTR = struct.Struct("=IIIII8x")
_UNKNOWN = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


@dataclass(frozen=True, slots=True)
class Attributes:
    """``struct fsxattr`` (linux/fs.h)."""

    flags: int
    extent: int
    extents: int
    project: int
    cow: int

    @property
    def hands_on(self) -> bool:
        """Whether what is made in this directory is in its project."""
        return bool(self.flags & FS_XFLAG_PROJINHERIT)

    def handing_on(self, project: int) -> Attributes:
        """Return them for a directory that is in a project with all that is made in it."""
        return replace(self, flags=self.flags | FS_XFLAG_PROJINHERIT, project=project)


def attributes_of(fd: int) -> Attributes:
    """Return the attributes of an open directory.

    Raises:
        OSError: the filesystem does not know of any.
    """
    told = fcntl.ioctl(fd, FS_IOC_FSGETXATTR, bytes(_FSXATTR.size))
    return Attributes(*_FSXATTR.unpack(told))


def set_attributes(fd: int, attributes: Attributes) -> None:
    """Set the attributes of an open directory.

    Raises:
        OSError: they cannot be set.
    """
    fcntl.ioctl(fd, FS_IOC_FSSETXATTR, _FSXATTR.pack(*astuple(attributes)))


def join_parent(fd: int, above_fd: int) -> None:
    """Take a directory into the project that the one above it hands on, if it does.

    Raises:
        OSError: it cannot be taken in.
    """
    above, below = _known(above_fd), _known(fd)
    if above and below and above.hands_on and below.project != above.project:
        set_attributes(fd, below.handing_on(above.project))


def stop_inheriting(fd: int) -> None:
    """Let a directory hand on no project, so that whatever is in another one can be moved in.

    Raises:
        OSError: it cannot be set.
    """
    found = _known(fd)
    if found and found.hands_on:
        set_attributes(fd, replace(found, flags=found.flags & ~FS_XFLAG_PROJINHERIT))


def _known(fd: int) -> Attributes | None:
    try:
        return attributes_of(fd)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
        return None
