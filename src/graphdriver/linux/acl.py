"""Access control lists that a directory gives to whatever is made in it.

acl(5), "OBJECT CREATION AND DEFAULT ACLs". inode(7) says what set-group-ID does in the same way; a
project is `graphdriver.linux.projects`.
"""

from __future__ import annotations

import os
from typing import Final

from graphdriver.linux import xattr

ACCESS_ACL: Final = b"system.posix_acl_access"
DEFAULT_ACL: Final = b"system.posix_acl_default"


def has_default_acl(fd: int) -> bool:
    """Tell whether an open directory gives what is made in it an access control list."""
    return xattr.get(fd, DEFAULT_ACL) is not None


def drop_acl(target: int | bytes) -> None:
    """Take from what is no directory, and is not a link, the access control list that it was given.

    Args:
        target: a descriptor, or the `xattr.path_of` one.

    Raises:
        OSError: it cannot be taken away.
    """
    xattr.remove(target, ACCESS_ACL)


def inherit_nothing(fd: int, mode: int) -> None:
    """Take from an open directory, made just now, all that it was given, and set its mode.

    What is made in it then is nobody's but its maker's, and has the mode that its maker says.

    Raises:
        OSError: it cannot be taken away.
    """
    drop_acls(fd)
    os.fchmod(fd, mode)  # and not set-group-ID


def drop_acls(fd: int) -> None:
    """Take from an open directory the lists that it was given: its own, and that for what is in it.

    Raises:
        OSError: they cannot be taken away.
    """
    xattr.remove(fd, ACCESS_ACL)
    xattr.remove(fd, DEFAULT_ACL)
