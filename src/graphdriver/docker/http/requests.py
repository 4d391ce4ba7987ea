"""HTTP/1.1 on one connection, server's side: requests in their order, and their bodies as streams.

The parser is `httptools`; it sets no limits, so they are set here. The rules:

- A body is complete only when the parser reports its end. If the connection ends before, `Message.read`
  raises an error.
- The socket is read only when a caller of this module waits for data, and at most one read of it is
  kept in memory. Pipelined requests wait their turn.
- An error is raised at its place: requests that came complete before it are served first, however
  the bytes were split on their way. Nothing is read after it.
- Header lines and trailers (which are ignored) may have 64 KiB together. The bytes between two pieces
  of a body, such as chunk extensions, are limited too.
- ``Upgrade`` is rejected, and so is every transfer coding except ``chunked``: a compressed body would
  be taken for the body itself.
- ``Graphdriver-By-Hand`` marks a call that a person makes; `graphdriver.docker.session` has the rule.
- ``Origin`` is rejected. Only browsers send it, with every POST: a web page that is open on this
  machine must not call a plugin that listens on loopback.
- A daemon sends few different heads again and again. One that is the same, byte for byte, as an earlier
  one of its connection is not parsed again (`_KnownHead`): parsing takes a fifth of a small call.
"""

from __future__ import annotations

import collections
import socket
from typing import Final, NamedTuple, NoReturn

import httptools

from graphdriver.errors import (
    BrokenStreamError,
    GraphDriverError,
    Kind,
    MalformedRequestError,
)

HEADER_LIMIT: Final = 64 << 10
"""The most bytes of a request's head."""

BY_HAND: Final = "Graphdriver-By-Hand"
"""The header by which ``graphdriver call`` marks its calls; other plugins ignore it."""

_READ: Final = 128 << 10
"""How much to read from the socket at a time, in bytes."""

_BY_HAND: Final = BY_HAND.lower().encode()
_USED_HEADERS: Final = frozenset({b"expect", b"origin", b"transfer-encoding", _BY_HAND})

_END: Final = b"\r\n\r\n"
"""The end of a head."""

_MOST_KNOWN: Final = 64
"""How many heads are remembered for a connection: a daemon sends some 20."""

_LONGEST_KNOWN: Final = 4096
"""The longest request of which the head is remembered, in bytes; a daemon's have some 300."""


class HeadTooLargeError(GraphDriverError):
    """The head of a request is larger than `HEADER_LIMIT`."""

    kind = Kind.TOO_LARGE


class ConnectionLostError(BrokenStreamError):
    """The connection did not end regularly: the caller reset it, or the network failed."""


class _KnownHead(NamedTuple):
    """What the parser made of a head, for a request that came as a whole with nothing behind it.

    The same bytes mean the same at the beginning of any request, also how long the body is.

    Attributes:
        method: the request's method.
        target: its target.
        by_hand: whether it has the header `BY_HAND`.
        body: the length of its body, in bytes.
    """

    method: str
    target: bytes
    by_hand: bool
    body: int


class Message:
    """A request; its head has arrived, and its body may follow."""

    __slots__ = (
        "_at",
        "_pieces",
        "_reader",
        "by_hand",
        "expects_continue",
        "has_head",
        "has_length",
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
        self.has_length = True
        """Whether the head tells the length of the body; with chunks it does not."""
        self.is_whole = False

    @classmethod
    def of(cls, reader: RequestReader, head: _KnownHead, body: bytes) -> Message:
        """Return a request with a known head that has come as a whole."""
        message = cls(reader)
        message.method, message.target, message.by_hand, _ = head
        message.has_head = message.is_whole = True
        if body:
            message.add(body)
        return message

    def add(self, piece: bytes) -> None:
        """Add a piece of the body, from the parser."""
        self._pieces.append(piece)

    def waiting(self) -> int:
        """Return how many bytes of the body have come, and were not read."""
        return sum(map(len, self._pieces)) - self._at

    def read(self, n: int, /) -> bytes:
        """Return up to ``n`` bytes of the body, ``b""`` at its end.

        Raises:
            BrokenStreamError: the connection ended before the body did.
            MalformedRequestError: the body is not framed as in HTTP/1.1.
        """
        while not self._pieces:
            if self.is_whole:
                return b""
            if self.expects_continue:
                self.expects_continue = False
                self._reader.send_continue()
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
    """A reader of requests from a connected socket, one after the other.

    Args:
        connection: the socket; with TLS, `socket` is replaced after the handshake.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._parser = httptools.HttpRequestParser(self)
        # One buffer for the whole connection: allocating a new one costs more than a small call.
        self._buffer = memoryview(bytearray(_READ))
        self._messages: collections.deque[Message] = collections.deque()
        self._fault: GraphDriverError | None = None
        self._between = 0
        self._progressed = False
        self._known: dict[bytes, _KnownHead] = {}

    def next(self) -> Message | None:
        """Return the next request when its head has arrived; None at the end of the connection.

        Raises:
            MalformedRequestError: it is not HTTP/1.1, or it is rejected (see above).
            HeadTooLargeError: its head is too large.
            BrokenStreamError: the connection ended in the middle of its head.
            ConnectionLostError: the connection did not end regularly.
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
        """Release the parser and the messages, which refer to each other and to the buffer."""
        del self._parser
        self._messages.clear()
        self._fault = None

    def receive(self) -> bool:
        """Read once from the socket and parse; return False at the end of the connection."""
        if self._fault:
            raise self._fault
        try:
            size = self.socket.recv_into(self._buffer)
        except OSError as error:  # TLS has errors of its own
            raise ConnectionLostError(f"the connection broke: {error.strerror or error}") from error
        if not size:
            return False
        if not self._messages and size <= _LONGEST_KNOWN:
            # The parser is between two requests. It stays there if it sees nothing of this one.
            request = bytes(self._buffer[:size])
            end = request.find(_END) + len(_END)
            head = self._known.get(request[:end])
            if head and end + head.body == size:
                self._messages.append(Message.of(self, head, request[end:]))
                self._between = 0
                return True
            self._parse(size)
            if len(self._messages) == 1 and len(self._known) < _MOST_KNOWN:
                self._remember(request[:end], size)
        else:
            self._parse(size)
        return True

    def _parse(self, size: int) -> None:
        """Parse what was read, and keep an error until it is due."""
        self._progressed = False
        try:
            self._parser.feed_data(self._buffer[:size])
        except httptools.HttpParserError as error:
            self._fault = self._fault or MalformedRequestError(
                f"the request is not HTTP/1.1: {error}"
            )
        # The parser reports no chunk extensions: without this count they could go on for ever.
        self._between = 0 if self._progressed else self._between + size
        if self._between > 2 * HEADER_LIMIT:
            self._fault = self._fault or _head_too_large()

    def _remember(self, head: bytes, size: int) -> None:
        """Remember the head of the only request in what was read, if the head tells its end."""
        message = self._messages[0]
        body = message.waiting()
        if (
            message.is_whole
            and message.has_length
            and message.keep_alive
            and not message.expects_continue
            and not self._fault
            and len(head) + body == size  # else the parser saw the end of the head elsewhere
        ):
            self._known[head] = _KnownHead(message.method, message.target, message.by_hand, body)

    def send_continue(self) -> None:
        """Send 100 Continue: the caller waits for it before it sends the body."""
        try:
            self.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        except OSError as error:
            raise ConnectionLostError(f"the connection broke: {error.strerror or error}") from error

    # --- what the parser calls --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Handle the beginning of a request."""
        self._messages.append(Message(self))
        self._progressed = True

    def on_url(self, url: bytes) -> None:
        """Handle a piece of the target."""
        message = self._messages[-1]
        message.target += url
        self._count(message, len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Handle a header line, or a trailer."""
        message = self._messages[-1]
        self._count(message, len(name) + len(value) + 4)
        name = name.lower()
        if name not in _USED_HEADERS or message.has_head:  # a trailer is never used
            return
        if name == b"expect":
            message.expects_continue = value.lower() == b"100-continue"
        elif name == _BY_HAND:
            message.by_hand = True
        elif name == b"origin":
            self._refuse(
                MalformedRequestError(
                    "the header Origin is rejected: web pages may not call a plugin"
                )
            )
        elif value.lower() != b"chunked":
            self._refuse(MalformedRequestError("Transfer-Encoding must be chunked or absent"))
        else:
            message.has_length = False

    def on_headers_complete(self) -> None:
        """Handle the end of the head."""
        message = self._messages[-1]
        if self._parser.get_http_version() != "1.1":
            self._refuse(MalformedRequestError("the request is not HTTP/1.1"))
        if self._parser.should_upgrade():
            self._refuse(MalformedRequestError("the header Upgrade is rejected: use HTTP/1.1"))
        message.has_head = True
        message.method = self._parser.get_method().decode("ascii", "replace")
        message.keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Handle a piece of the body."""
        self._progressed = True
        self._messages[-1].add(body)

    def on_message_complete(self) -> None:
        """Handle the end of the request."""
        self._messages[-1].is_whole = True

    def _count(self, message: Message, size: int) -> None:
        message.head_bytes += size
        if message.head_bytes > HEADER_LIMIT:
            self._refuse(_head_too_large())

    def _refuse(self, fault: GraphDriverError) -> NoReturn:
        """Stop the parser by an exception, and keep the error until it is due."""
        self._fault = fault
        # Not the fault itself: its traceback would refer to this frame, and the frame to it.
        raise httptools.HttpParserCallbackError(str(fault))


def _head_too_large() -> HeadTooLargeError:
    return HeadTooLargeError(f"the head of the request is larger than {HEADER_LIMIT} bytes")
