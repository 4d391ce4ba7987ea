"""A small HTTP server of pages to read, in threads of its own.

It is for programs that watch this one, and makes no calls to the driver. Whoever can connect is not
trusted:

- A connection has one request, a GET or a HEAD for one of a few fixed pages. The path is only compared
  with their names; it leads to no file.
- A request's head has at most `HEAD_LIMIT` bytes, and a body is not read. Request and response together
  have `TIMEOUT` seconds: a caller that sends or reads slowly is cut off.
- At most `MAX_CONNECTIONS` are served at a time; others wait in the kernel's queue.
"""

from __future__ import annotations

import contextlib
import http
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Self

import httptools

HEAD_LIMIT: Final = 16 << 10
"""The most bytes of a request's head."""

TIMEOUT: Final = 10.0
"""How long a request and its response may take on their way, in seconds."""

MAX_CONNECTIONS: Final = 16
"""How many connections, and so threads, there are at a time."""

_PAUSE: Final = 0.1
"""How long to wait before trying again, in seconds."""

_RELEASE: Final = 1.0
"""How long a stop waits for pages that are being made, in seconds."""

_log = logging.getLogger(__name__)


class Page(NamedTuple):
    """What a request is answered with.

    Attributes:
        body: the content.
        content_type: its type, as the header of that name.
        status: the HTTP status.
    """

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: http.HTTPStatus = http.HTTPStatus.OK


MakePage = Callable[[str], Page]
"""Makes a page; it gets the request's ``Accept`` header, ``""`` if it has none."""


class PageServer:
    """A server of pages; a context manager that stops it at its end.

    Args:
        listening: the socket on which it accepts connections; the caller closes it afterwards.
        pages: the pages by their paths, such as ``/metrics``.
    """

    def __init__(self, listening: socket.socket, pages: Mapping[str, MakePage]) -> None:
        self._listening = listening
        self._pages = pages
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._guard = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._accept_all, name="pages", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop accepting, and cut connections; a page that is being made is waited for a moment."""
        with self._guard:
            self._closed = True
            threads = [*self._open.values()]
            for connection in self._open:
                _shut(connection)
        _shut(self._listening)  # wakes accept(2)
        self._thread.join(_RELEASE)
        deadline = time.monotonic() + _RELEASE
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _accept_all(self) -> None:
        while True:
            self._free.acquire()
            try:
                connection, _ = self._listening.accept()
            except OSError as error:
                self._free.release()
                if self._closed:
                    return
                _log.debug("cannot accept a connection for a page: %s", error)
                time.sleep(_PAUSE)  # most likely no descriptor is free
                continue
            if not self._start(connection):
                connection.close()
                self._free.release()

    def _start(self, connection: socket.socket) -> bool:
        thread = threading.Thread(target=self._serve, args=(connection,), name="page", daemon=True)
        with self._guard:  # a thread that ends at once must find itself in the list
            if self._closed:
                return False
            try:
                thread.start()
            except RuntimeError:  # no thread is free; the caller tries again
                return False
            self._open[connection] = thread
            return True

    def _serve(self, connection: socket.socket) -> None:
        try:
            self._answer(connection)
        except OSError as error:  # cut off, by either side or by the deadline
            _log.debug("a request for a page broke off: %s", error)
        finally:
            with self._guard:
                del self._open[connection]
            connection.close()
            self._free.release()

    def _answer(self, connection: socket.socket) -> None:
        deadline = time.monotonic() + TIMEOUT
        head = _read_head(connection, deadline)
        if head is None:
            return
        page = self._page(head)
        body = b"" if head.method == b"HEAD" else page.body
        _limit(connection, deadline)
        connection.sendall(_head_of(page) + body)
        # Closing with unread bytes, such as a body that was not asked for, resets the connection, and
        # the response could be lost. The caller closes after it has read the response.
        connection.shutdown(socket.SHUT_WR)
        _read_rest(connection, deadline)

    def _page(self, head: _Head) -> Page:
        if head.fault:
            return _refusal(head.fault)
        if head.method not in (b"GET", b"HEAD"):
            return _refusal(http.HTTPStatus.METHOD_NOT_ALLOWED)
        path = head.target.partition(b"?")[0].decode("ascii", "replace")
        make = self._pages.get(path)
        if make is None:
            return _refusal(http.HTTPStatus.NOT_FOUND, f"there are only: {' '.join(self._pages)}")
        try:
            return make(head.accept)
        except Exception:
            _log.exception("the page %s cannot be made", path)
            return _refusal(http.HTTPStatus.INTERNAL_SERVER_ERROR)


class _Head:
    """The head of a request, filled by the parser."""

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.accept = ""
        self.is_whole = False
        self.fault: http.HTTPStatus | None = None

    def on_url(self, url: bytes) -> None:
        """Handle a piece of the target."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Handle a header line."""
        if name.lower() == b"accept":
            self.accept = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Handle the end of the head."""
        self.is_whole = True


def _read_head(connection: socket.socket, deadline: float) -> _Head | None:
    """Return the head of the request, None if the caller ends the connection before."""
    head, size = _Head(), 0
    parser = httptools.HttpRequestParser(head)
    while not (head.is_whole or head.fault):
        _limit(connection, deadline)
        piece = connection.recv(HEAD_LIMIT)
        if not piece:
            return None
        size += len(piece)
        try:
            parser.feed_data(piece)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not head.is_whole:  # what follows a head is not looked at
                head.fault = http.HTTPStatus.BAD_REQUEST
        if size > HEAD_LIMIT:
            head.fault = http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    if head.is_whole:
        head.method = parser.get_method()
    return head


def _limit(connection: socket.socket, deadline: float) -> None:
    """Let the next send or receive take no longer than until a time.

    Raises:
        TimeoutError: that time is over.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("it took too long")
    connection.settimeout(left)


def _read_rest(connection: socket.socket, deadline: float) -> None:
    size = 0
    while size <= HEAD_LIMIT:
        _limit(connection, deadline)
        piece = connection.recv(HEAD_LIMIT)
        if not piece:
            return
        size += len(piece)


def _refusal(status: http.HTTPStatus, why: str = "") -> Page:
    text = status.phrase + (f"; {why}" if why else "")
    return Page(f"{text}\n".encode(), status=status)


def _head_of(page: Page) -> bytes:
    lines = [
        f"HTTP/1.1 {page.status.value} {page.status.phrase}",
        f"Content-Type: {page.content_type}",
        f"Content-Length: {len(page.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if page.status is http.HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join((*lines, "", "")).encode()


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
