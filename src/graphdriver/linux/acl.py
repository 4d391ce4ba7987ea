"""Access control lists that new files and directories inherit.

acl(5), "OBJECT CREATION AND DEFAULT ACLs". Set-group-ID is inherited in the same way (inode(7)), and so
is a project (`graphdriver.linux.projects`).
"""

from __future__ import annotations

import os
from typing import Final

from graphdriver.linux import xattr

ACCESS_ACL: Final = b"system.posix_acl_access"
DEFAULT_ACL: Final = b"system.posix_acl_default"


def has_default_acl(fd: int) -> bool:
    """Tell whether new files in an open directory inherit an access control list."""
    return xattr.get(fd, DEFAULT_ACL) is not None


def has_acl(directory: str) -> bool:
    """Tell whether a new directory has inherited an access control list.

    Raises:
        OSError: its attributes cannot be read.
    """
    return not xattr.names(directory).isdisjoint((ACCESS_ACL, DEFAULT_ACL))


def drop_acl(target: int | bytes) -> None:
    """Remove the inherited access control list of a new file that is not a directory or a link.

    Args:
        target: a descriptor, or the `xattr.path_of` one.

    Raises:
        OSError: it cannot be removed.
    """
    xattr.remove(target, ACCESS_ACL)


def inherit_nothing(fd: int, mode: int) -> None:
    """Remove everything that a new, open directory inherited, and set its mode.

    Raises:
        OSError: it cannot be removed.
    """
    drop_acls(fd)
    os.fchmod(fd, mode)  # also clears an inherited set-group-ID bit


def drop_acls(fd: int) -> None:
    """Remove the inherited lists of a new, open directory: its own, and its default list.

    Raises:
        OSError: they cannot be removed.
    """
    xattr.remove(fd, ACCESS_ACL)
    xattr.remove(fd, DEFAULT_ACL)
