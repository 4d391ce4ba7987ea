"""The listening socket that systemd passes to a service: sd_listen_fds(3).

The protocol is a few variables and a descriptor, and needs no library. The variables are removed from
the environment: a child process would take them for its own.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

from graphdriver.docker.address.listeners import (
    ready_for_calls,
    refuse_beyond_loopback,
    tcp_address,
    unix_address,
)
from graphdriver.errors import UnsupportedError

if TYPE_CHECKING:
    import ssl

_FIRST: Final = 3  # SD_LISTEN_FDS_START


def inherited_socket() -> socket.socket | None:
    """Return the listening socket that systemd passed to this process; None if it passed none.

    Raises:
        UnsupportedError: systemd passed several sockets, or something else.
    """
    pid, count, _ = (
        os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    if pid != str(os.getpid()) or count in ("", "0"):
        return None
    if count != "1":
        raise UnsupportedError(
            f"systemd passed {count} sockets, and a plugin serves one",
            hint="leave one ListenStream= in the .socket unit",
        )
    try:
        passed = socket.socket(fileno=_FIRST)
    except OSError as error:
        raise UnsupportedError(f"descriptor {_FIRST} is not a socket: {error.strerror}") from error
    passed.set_inheritable(False)
    listens = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if passed.type != socket.SOCK_STREAM or not listens:
        passed.close()
        raise UnsupportedError(
            "systemd passed a socket that does not listen for connections",
            hint="use ListenStream= and Accept=no in the .socket unit",
        )
    return passed


class InheritedListener:
    """A socket that another process bound, and keeps open after this one ends.

    Args:
        inherited: the listening socket, a unix socket with a path, or TCP.
        tls: the plugin's side of TLS, for TCP.
        allow_plain: as in `graphdriver.TCPListener`.

    Raises:
        UnsupportedError: any user of this machine, or another machine, could connect.
    """

    def __init__(
        self,
        inherited: socket.socket,
        *,
        tls: ssl.SSLContext | None = None,
        allow_plain: bool = False,
    ) -> None:
        self.socket = inherited
        self.tls = tls
        self.path = ""
        where = inherited.getsockname()
        if inherited.family == socket.AF_UNIX:
            self.path = _owned_path(where)
            self.address = unix_address(self.path)
        elif inherited.family in (socket.AF_INET, socket.AF_INET6):
            if tls is None and not allow_plain:
                refuse_beyond_loopback(where[0])
            ready_for_calls(inherited)
            self.address = tcp_address(*where[:2], tls=tls is not None)
        else:
            raise UnsupportedError(f"systemd passed a socket of family {inherited.family}")

    def refuse(self) -> None:
        """Do nothing: systemd keeps new callers for the next process that it starts."""

    def close(self) -> None:
        """Close our descriptor; the socket continues to listen."""
        self.socket.close()


def _owned_path(where: object) -> str:
    if not isinstance(where, str) or not where.startswith("/"):
        raise UnsupportedError(
            f"the socket {where!r} has no owner and no mode: any user could connect and become root",
            hint="use a path in the .socket unit's ListenStream=",
        )
    try:
        mode = os.stat(where).st_mode
    except OSError as error:
        raise UnsupportedError(
            f"cannot tell who may connect to {where}: {error.strerror}"
        ) from error
    if mode & 0o002:
        raise UnsupportedError(
            f"any user may connect to {where} and become root",
            hint="put SocketMode=0660 into the .socket unit",
        )
    return where
