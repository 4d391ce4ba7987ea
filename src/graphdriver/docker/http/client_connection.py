"""The client's side of HTTP: connections with a deadline for a whole response.

The timeout of Python's sockets limits one read: a plugin that sends a byte now and then would block its
caller for ever.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from typing import Any


class _Deadline(socket.socket):
    """A socket with one deadline for all reads together."""

    deadline: float | None = None
    """A moment of `time.monotonic`."""

    def recv_into(self, buffer: Any, nbytes: Any = 0, flags: int = 0) -> int:
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("the response did not end in time")
            self.settimeout(left)
        return super().recv_into(buffer, nbytes or len(buffer), flags)


class _Socket(_Deadline):
    """A plain one."""


class _TLSSocket(_Deadline, ssl.SSLSocket):
    """One with TLS."""


def tls_connection(
    host: str, port: int | None, timeout: float | None, context: ssl.SSLContext
) -> http.client.HTTPSConnection:
    """Return a connection with TLS; arguments are those of `ClientConnection`, and the own side."""
    context.sslsocket_class = _TLSSocket
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)


class ClientConnection(http.client.HTTPConnection):
    """A connection to a plugin, over a unix socket or TCP.

    Args:
        path: a unix socket's path; "" for TCP.
        host: the Host header; for TCP also what to connect to.
        port: for TCP.
        timeout: seconds for connecting, for each piece of the request, and for a response.
    """

    def __init__(self, path: str, host: str, port: int | None, timeout: float | None) -> None:
        super().__init__(host, port, timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect."""
        if self._path:
            self.sock = _Socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        else:
            connected = socket.create_connection((self.host, self.port), self.timeout)
            self.sock = _Socket(fileno=connected.detach())
            self.sock.settimeout(self.timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def set_deadline(connected: object, timeout: float | None) -> None:
    """Limit how long a request, a response or the next piece of a Diff may take from now on.

    Args:
        connected: the socket of a connection.
        timeout: in seconds; None for no limit.
    """
    if isinstance(connected, _Deadline):
        connected.settimeout(timeout)
        connected.deadline = None if timeout is None else time.monotonic() + timeout
