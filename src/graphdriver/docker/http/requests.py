"""HTTP/1.1 on one connection, server's side: requests in, in order, and their bodies as streams.

The parser is `httptools`; it sets no limits, so they are set here. The rules:

- A body is whole only when the parser said so; a connection that ends before is a broken stream, and
  `Message.read` says so instead of ending.
- No more is read from the socket than what somebody waits for, and nothing is gathered: at most one
  read of the socket is held. Pipelined requests wait their turn.
- What is wrong is told where it stands: what came whole before it is served first, however the bytes
  were cut on their way, and nothing is read after it.
- Header lines and trailers (which are ignored) may take 64 KiB together; of what stands between two
  pieces of a body no more than some reads of the socket is borne.
- ``Upgrade`` is refused, and so is every transfer coding but ``chunked``: what is packed in another
  way would pass for the body itself.
- ``Graphdriver-By-Hand`` marks a call that a person makes; `graphdriver.docker.session` has the rule.
- ``Origin`` is refused. Browsers send it with every POST and nobody else does: no web page that is
  opened on this machine may call a plugin that listens on loopback.
"""

from __future__ import annotations

import collections
import socket
from typing import Final, NoReturn

import httptools

from graphdriver.errors import (
    BrokenStreamError,
    GraphDriverError,
    Kind,
    MalformedRequestError,
)

HEADER_LIMIT: Final = 64 << 10
"""Bytes that the head of a request, or what stands between its body's pieces, may take."""

BY_HAND: Final = "Graphdriver-By-Hand"
"""The header by which ``graphdriver call`` marks its calls; other plugins ignore it."""

_READ: Final = 128 << 10
_BY_HAND: Final = BY_HAND.lower().encode()
_HEEDED: Final = frozenset({b"expect", b"origin", b"transfer-encoding", _BY_HAND})


class HeadTooLargeError(GraphDriverError):
    """The head of a request is over `HEADER_LIMIT`."""

    kind = Kind.TOO_LARGE


class ConnectionLostError(BrokenStreamError):
    """The connection did not end in good order: the caller reset it, or the network failed."""


class Message:
    """A request whose head has come; its body may still be on its way."""

    __slots__ = (
        "_at",
        "_pieces",
        "_reader",
        "by_hand",
        "expects_continue",
        "has_head",
        "head_bytes",
        "is_whole",
        "keep_alive",
        "method",
        "target",
    )

    def __init__(self, reader: RequestReader) -> None:
        self._reader = reader
        self._pieces: collections.deque[bytes] = collections.deque()
        self._at = 0
        self.target = b""
        self.method = ""
        self.head_bytes = 0
        self.by_hand = False
        self.expects_continue = False
        self.keep_alive = True
        self.has_head = False
        self.is_whole = False

    def add(self, piece: bytes) -> None:
        """Take what the parser found of the body."""
        self._pieces.append(piece)

    def read(self, n: int, /) -> bytes:
        """Return up to ``n`` bytes of the body, ``b""`` at its end.

        Raises:
            BrokenStreamError: the connection ended before the body did.
            MalformedRequestError: the body is not framed as HTTP/1.1 has it.
        """
        while not self._pieces:
            if self.is_whole:
                return b""
            if self.expects_continue:
                self.expects_continue = False
                self._reader.go_on()
            if not self._reader.receive():
                raise BrokenStreamError("the body broke off: the caller closed the connection")
        piece = self._pieces[0]
        part = piece[self._at : self._at + n]
        self._at += len(part)
        if self._at == len(piece):
            self._pieces.popleft()
            self._at = 0
        return part


class RequestReader:
    """Reads requests from a connected socket, one after the other.

    Args:
        connection: the socket.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._parser = httptools.HttpRequestParser(self)
        # One buffer for the connection's life: making a fresh one costs more than a small call.
        self._buffer = memoryview(bytearray(_READ))
        self._messages: collections.deque[Message] = collections.deque()
        self._fault: GraphDriverError | None = None
        self._between = 0
        self._got_on = False

    def next(self) -> Message | None:
        """Return the next request as soon as its head is there; None at the connection's end.

        Raises:
            MalformedRequestError: it is no HTTP/1.1 request, or one that is refused (see above).
            HeadTooLargeError: its head is too large.
            BrokenStreamError: the connection ended within its head.
            ConnectionLostError: it did not end in good order.
        """
        if self._messages and self._messages[0].has_head:
            self._messages.popleft()
        while not (self._messages and self._messages[0].has_head):
            if not self.receive():
                if self._messages:
                    raise BrokenStreamError("the connection ended within a request's head")
                return None
        return self._messages[0]

    def close(self) -> None:
        """Let go of the parser and of what it found; they hold each other, and the buffer, too."""
        del self._parser
        self._messages.clear()
        self._fault = None

    def receive(self) -> bool:
        """Read once from the socket and parse it; False at the connection's end."""
        if self._fault:
            raise self._fault
        try:
            size = self.socket.recv_into(self._buffer)
        except OSError as error:  # TLS has errors of its own
            raise ConnectionLostError(f"the connection broke: {error.strerror or error}") from error
        if not size:
            return False
        self._got_on = False
        try:
            self._parser.feed_data(self._buffer[:size])
        except httptools.HttpParserError as error:
            self._fault = self._fault or MalformedRequestError(f"this is no HTTP/1.1: {error}")
        self._between = 0 if self._got_on else self._between + size
        if self._between > 2 * HEADER_LIMIT:
            self._fault = self._fault or _head_too_large()
        return True

    def go_on(self) -> None:
        """Tell the caller to send the body that it holds back."""
        try:
            self.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        except OSError as error:
            raise ConnectionLostError(f"the connection broke: {error.strerror or error}") from error

    # --- what the parser calls --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._messages.append(Message(self))
        self._got_on = True

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        message = self._messages[-1]
        message.target += url
        self._count(message, len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header line, or a trailer."""
        message = self._messages[-1]
        self._count(message, len(name) + len(value) + 4)
        name = name.lower()
        if name not in _HEEDED or message.has_head:  # most are not, and a trailer is not
            return
        if name == b"expect":
            message.expects_continue = value.lower() == b"100-continue"
        elif name == _BY_HAND:
            message.by_hand = True
        elif name == b"origin":
            self._refuse(
                MalformedRequestError("web pages may not call a plugin: Origin is refused")
            )
        elif value.lower() != b"chunked":
            self._refuse(MalformedRequestError("Transfer-Encoding must be chunked or absent"))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        message = self._messages[-1]
        if self._parser.get_http_version() != "1.1":
            self._refuse(MalformedRequestError("a plugin speaks HTTP/1.1 and no other"))
        if self._parser.should_upgrade():
            self._refuse(MalformedRequestError("a plugin's connection is not upgraded"))
        message.has_head = True
        message.method = self._parser.get_method().decode("ascii", "replace")
        message.keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._got_on = True
        self._messages[-1].add(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._messages[-1].is_whole = True

    def _count(self, message: Message, size: int) -> None:
        message.head_bytes += size
        if message.head_bytes > HEADER_LIMIT:
            self._refuse(_head_too_large())

    def _refuse(self, fault: GraphDriverError) -> NoReturn:
        """Parse no further: the parser stops at what its callbacks raise."""
        self._fault = fault
        # Not the fault itself: it would hold this frame, which holds it.
        raise httptools.HttpParserCallbackError(str(fault))


def _head_too_large() -> HeadTooLargeError:
    return HeadTooLargeError(f"the head of the request is over {HEADER_LIMIT} bytes")
