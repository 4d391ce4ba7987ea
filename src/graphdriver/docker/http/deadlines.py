"""Connections on which a whole answer must come in time, in however many pieces it comes."""

from __future__ import annotations

import http.client
import socket
import time
from typing import Any


class _Socket(socket.socket):
    """A socket that is read until a moment, not for so long at each read."""

    until: float | None = None

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        if self.until is not None:
            left = self.until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the answer has not come to its end in time")
            self.settimeout(left)
        return super().recv_into(buffer, nbytes, flags)


class Connection(http.client.HTTPConnection):
    """A connection to a plugin, over a unix socket or TCP.

    Args:
        path: a unix socket's path; "" for TCP.
        host: as it is told to the plugin, and where it is dialled without a path.
        port: for TCP.
        timeout: how long connecting, a piece of the request and an answer may take, in seconds.
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
            dialled = socket.create_connection((self.host, self.port), self.timeout)
            self.sock = _Socket(fileno=dialled.detach())
            self.sock.settimeout(self.timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def give_time(connected: object, timeout: float | None) -> None:
    """Let a request, an answer or the next piece of a Diff take so many seconds from now.

    Args:
        connected: the socket of a `Connection`. On one with TLS the time is that of each read.
        timeout: None: as long as it takes.
    """
    if isinstance(connected, _Socket):
        connected.settimeout(timeout)
        connected.until = None if timeout is None else time.monotonic() + timeout
