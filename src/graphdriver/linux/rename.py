"""renameat2(2): renames that the standard library does not have."""

from __future__ import annotations

import os

from graphdriver.linux.libc import libc, raise_errno
from graphdriver.linux.openat2 import AT_FDCWD

_RENAME_EXCHANGE = 2


def exchange(one: str, other: str) -> None:
    """Exchange two names, of whatever type, in one step; both exist.

    Raises:
        OSError: they cannot be exchanged; EINVAL if the filesystem does not do that.
    """
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE):
        raise_errno(f"{one} and {other}")
