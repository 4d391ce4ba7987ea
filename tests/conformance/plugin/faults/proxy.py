"""What stands between a daemon and a plugin, and hands every call on as it came.

A body is handed on piece by piece, both ways, and what breaks off on one side breaks off on the other.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import socketserver
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

_PIECE = 64 << 10


class BrokenOffError(Exception):
    """A body ended before it was whole; ``part`` is what came of its last piece."""

    def __init__(self, part: bytes = b"") -> None:
        super().__init__()
        self.part = part


@dataclass
class Request:
    """A call as it came: ``call`` is ``Create``, ``target`` the path with its query."""

    call: str
    target: str
    body: Iterator[bytes]
    headers: Mapping[str, str]

    def whole(self) -> bytes:
        """Read the body, and put it back as one piece."""
        found = b"".join(self.body)
        self.body = iter([found])
        return found


@dataclass
class Answer:
    """An answer on its way; with ``ends`` the connection is closed behind it, without a word."""

    status: int
    body: Iterator[bytes]
    headers: dict[str, str] = field(default_factory=dict)
    ends: bool = False

    @classmethod
    def of(cls, status: int, body: bytes) -> Answer:
        """Make an answer up."""
        kind = "application/vnd.docker.plugins.v1.1+json"
        return cls(status, iter([body]), {"Content-Type": kind, "Content-Length": str(len(body))})

    def whole(self) -> bytes:
        """Read the body, and put it back as one piece."""
        found = b"".join(self.body)
        self.body = iter([found])
        if "Content-Length" in self.headers:
            self.headers["Content-Length"] = str(len(found))
        return found


class _Upstream(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("plugin")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


class Proxy:
    """Hands calls on; one for each connection. A fault overrides `exchange`.

    Args:
        path: the socket of the plugin that works.
    """

    idle: ClassVar[float | None] = None
    """After how many seconds without a call a connection is closed."""

    clears_stale: ClassVar[bool] = True
    """Whether a socket that a former process has left is replaced."""

    def __init__(self, path: str) -> None:
        self._upstream = _Upstream(path)

    def exchange(self, request: Request) -> Answer:
        """Make a call; the answer's body is read later, by who wrote the call."""
        upstream = self._upstream
        upstream.putrequest("POST", request.target, skip_accept_encoding=True)
        upstream.putheader("Transfer-Encoding", "chunked")
        upstream.endheaders()
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for piece in request.body:
                    if piece:
                        upstream.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                upstream.send(b"0\r\n\r\n")
        except BrokenOffError:
            self._break_off()
            raise
        found = upstream.getresponse()
        names = ("Content-Type", "Content-Length")
        headers = {name: found.headers[name] for name in names if name in found.headers}
        return Answer(found.status, _pieces(found), headers)

    def _break_off(self) -> None:
        """Break a body off for the plugin as well, and wait until its call has ended.

        Until then the caller's connection stays open: whoever sees its end relies on that.
        """
        with contextlib.suppress(OSError):
            self._upstream.sock.shutdown(socket.SHUT_WR)
            while self._upstream.sock.recv(_PIECE):
                pass
        self.close()

    def close(self) -> None:
        """End the connection to the plugin."""
        self._upstream.close()


def _pieces(found: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield a body; `read1` tells a cut body only where there are chunks."""
    try:
        while piece := found.read1(_PIECE) if found.chunked else found.read():
            yield piece
    except (http.client.HTTPException, OSError) as error:
        raise BrokenOffError from error


class ProxyServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens as the plugin.

    Args:
        path: where.
        upstream: the socket of the plugin that works.
        kind: what stands between.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: str, upstream: str, kind: type[Proxy]) -> None:
        super().__init__(path, _Connection)
        self.upstream = upstream
        self.kind = kind


class _Connection(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ProxyServer

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.kind.idle)
        self._proxy = self.server.kind(self.server.upstream)

    def finish(self) -> None:
        self._proxy.close()
        with contextlib.suppress(OSError):
            super().finish()

    def do_POST(self) -> None:
        call = self.path.rpartition(".")[2].partition("?")[0]
        request = Request(call, self.path, self._body(), dict(self.headers.items()))
        try:
            answer = self._proxy.exchange(request)
            self._send(answer)
            for _ in request.body:  # what the plugin left unread
                pass
            self.close_connection = self.close_connection or answer.ends
        except (BrokenOffError, OSError, http.client.HTTPException):
            self.close_connection = True

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield self._exactly(int(self.headers.get("Content-Length", "0")))
            return
        while size := int(self._line() or b"0", 16):
            yield self._exactly(size)
            self._line()
        self._line()

    def _line(self) -> bytes:
        line = self.rfile.readline()
        if not line.endswith(b"\n"):
            raise BrokenOffError
        return line.strip()

    def _exactly(self, size: int) -> bytes:
        found = self.rfile.read(size)
        if len(found) < size:
            raise BrokenOffError(found)
        return found

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        is_chunked = "Content-Length" not in answer.headers
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in answer.body:
            if piece:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
        if is_chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        pass
