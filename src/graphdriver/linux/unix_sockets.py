"""Checks of a unix socket's path (unix(7))."""

from __future__ import annotations

import os
import socket
import stat
from typing import Final

from graphdriver.errors import UnsupportedError

LONGEST_PATH: Final = 107
"""Bytes that the path of a unix socket may have: sun_path without its NUL."""

_CONNECT_TIMEOUT: Final = 1.0


def has_listener(path: str) -> bool:
    """Tell whether a process listens on the socket at a path.

    Raises:
        OSError: that is unknown: it cannot be connected to for another reason.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_CONNECT_TIMEOUT)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except TimeoutError:
            return True  # a process listens, with a full backlog
        return True


def is_socket(path: str) -> bool:
    """Tell whether a path leads to a socket."""
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def refuse_other(path: str, *, follow: bool = True) -> None:
    """Refuse a path that exists and is not a socket; accept a missing one, which may appear later.

    Args:
        path: it may be missing.
        follow: whether a symbolic link there may lead to the socket.

    Raises:
        UnsupportedError: something else is there.
    """
    try:
        there = os.stat(path, follow_symlinks=follow)
    except OSError:
        return  # the call that uses the path reports the error
    if not stat.S_ISSOCK(there.st_mode):
        raise UnsupportedError(
            f"{path} exists and is not a socket", hint="move it away, or choose another path"
        )
