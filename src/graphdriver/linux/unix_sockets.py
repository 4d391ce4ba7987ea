"""What is at the path of a unix socket (unix(7))."""

from __future__ import annotations

import os
import stat

from graphdriver.errors import UnsupportedError


def is_socket(path: str) -> bool:
    """Tell whether a path leads to a socket."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def refuse_other(path: str, *, follow: bool = True) -> None:
    """Refuse a path with something else than a socket at it; a missing one may come yet.

    Args:
        path: it may be missing.
        follow: whether a symbolic link there may lead to the socket.

    Raises:
        UnsupportedError: something else is there.
    """
    try:
        there = os.stat(path, follow_symlinks=follow)
    except OSError:
        return  # what is wrong is said by the call that uses it
    if not stat.S_ISSOCK(there.st_mode):
        raise UnsupportedError(
            f"{path} exists and is not a socket", hint="move it away, or choose another path"
        )
