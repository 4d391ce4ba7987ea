"""A unix socket's path, and the process at its other end (unix(7))."""

from __future__ import annotations

import os
import socket
import stat
import struct
from typing import Final, NamedTuple

from graphdriver.errors import UnsupportedError

LONGEST_PATH: Final = 107
"""Bytes that the path of a unix socket may have: sun_path without its NUL."""

_CONNECT_TIMEOUT: Final = 1.0
_UCRED: Final = struct.Struct("3i")


class Credentials(NamedTuple):
    """The process at the other end of a connection, as it was when it connected.

    Attributes:
        pid: its number in this process's PID namespace; 0 if it is not in that one.
        uid: its effective user.
        gid: its effective group.
    """

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> Credentials:
    """Return the process at the other end of a unix socket: SO_PEERCRED.

    Raises:
        OSError: it is no unix socket.
    """
    answer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return Credentials(*_UCRED.unpack(answer))


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
