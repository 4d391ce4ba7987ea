"""A relay between a daemon and its plugin that keeps every byte, call by call."""

from __future__ import annotations

import secrets
import socket
import threading
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs, urlsplit

from graphdriver import UnixListener
from graphdriver.docker.address.discovery import Address
from graphdriver.docker.recorder import Connection, Relay


@dataclass
class Exchange:
    """The bytes of one call: a request, and its response."""

    request: bytearray = field(default_factory=bytearray)
    response: bytearray = field(default_factory=bytearray)

    @property
    def call(self) -> str:
        """The call's name, such as ``Get``."""
        target = bytes(self.request.partition(b" HTTP/")[0])
        return target.partition(b".")[2].partition(b"?")[0].decode()

    @property
    def layer(self) -> str:
        """The ID in the query, which only ApplyDiff has."""
        target = bytes(self.request.split(b" ", 2)[1])
        return parse_qs(urlsplit(target.decode()).query)["id"][0]


class WireBytes(Relay):
    """Listens as a plugin of its own name; a context manager.

    Args:
        socket_path: where the plugin listens.

    Attributes:
        name: the name for the daemon.
        path: the socket of that name.
        exchanges: all calls, in the order in which they began.
    """

    def __init__(self, socket_path: str) -> None:
        self.name = f"wire-{secrets.token_hex(3)}"
        self.exchanges: list[Exchange] = []
        self._thread = threading.Thread(target=self.run)
        listener = UnixListener(self.name)
        self.path = listener.path
        super().__init__(listener, Address(path=socket_path))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self._thread.join()
        self._listener.close()

    def joined(self, daemon: socket.socket, plugin: socket.socket) -> Connection:
        return _Kept(self.exchanges, daemon, plugin)


class _Kept(Connection):
    """A connection; a daemon sends its next request only after a whole response (no pipelining)."""

    def __init__(
        self, exchanges: list[Exchange], daemon: socket.socket, plugin: socket.socket
    ) -> None:
        super().__init__(daemon, plugin)
        self._exchanges = exchanges
        self._now = Exchange()
        self._is_answered = True

    def up(self, piece: bytes) -> None:
        if self._is_answered:
            self._now, self._is_answered = Exchange(), False
            self._exchanges.append(self._now)
        self._now.request += piece
        super().up(piece)

    def down(self, piece: bytes) -> None:
        self._now.response += piece
        self._is_answered = True
        super().down(piece)
