"""One connection: requests in, answers out, until one side has enough.

An answer that fails in its middle breaks the connection off, so that the caller sees a cut stream and
never a short layer. An answer that never reached the caller has its call undone, where that can be
and as far as it can be known (`graphdriver.docker.http.delivery`).

A head that has come half is waited for without end, like the next request: a caller that was stopped
may go on, its call would be lost, and nobody else is held up.
"""

from __future__ import annotations

import contextlib
import functools
import http
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from graphdriver.docker.codec import encode
from graphdriver.docker.daemon import Peer
from graphdriver.docker.diffs import PIECE, DiffStream
from graphdriver.docker.handler import STATUS, Handler
from graphdriver.docker.http.delivery import tells_of_the_unread, was_taken
from graphdriver.docker.http.requests import (
    ConnectionLostError,
    HeadTooLargeError,
    Message,
    RequestReader,
)
from graphdriver.docker.messages import new_error_response
from graphdriver.docker.request_messages import Request
from graphdriver.errors import BrokenStreamError, GraphDriverError

if TYPE_CHECKING:
    import ssl

_LINGER: Final = 5.0
_LINGER_BYTES: Final = 16 << 20
_CONTENT_TYPE: Final = b"application/vnd.docker.plugins.v1.1+json"

_log = logging.getLogger(__name__)

_Undo = Callable[[], None] | None


class Connection:
    """A connection, served by one thread at a time and ended by another.

    Args:
        accepted: its socket, which is closed at the end.
        handler: answers the calls.
        finishing: the first call is the last one.
    """

    def __init__(
        self, accepted: socket.socket, handler: Handler, *, finishing: bool = False
    ) -> None:
        self._socket = accepted
        self._reader = RequestReader(accepted)
        self._handler = handler
        self._undo: _Undo = None
        """Takes back the call that was answered last, if its caller never got the answer."""
        self._state = threading.Lock()
        self._busy = False
        self._finishing = finishing

    # --- from the outside -------------------------------------------------------------------------

    def finish(self) -> None:
        """Answer the call that is under way, and then end; if there is none, end."""
        with self._state:
            self._finishing = True
            if not self._busy:
                self._shut(socket.SHUT_RD)

    def cut(self) -> None:
        """End now."""
        with self._state:
            self._shut(socket.SHUT_RDWR)

    # --- in the thread that serves it -------------------------------------------------------------

    def shake_hands(self, tls: ssl.SSLContext, seconds: float) -> None:
        """Speak TLS from here on.

        Raises:
            BrokenStreamError: the caller did not shake hands, or not within so many seconds.
        """
        with self._state:
            secured = tls.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
            self._socket = secured
        self._reader.socket = secured
        try:
            secured.settimeout(seconds)
            secured.do_handshake()
            secured.settimeout(None)
        except OSError as error:
            raise BrokenStreamError(f"a caller's TLS handshake failed: {error}") from error

    def serve(self) -> None:
        """Answer calls until the caller sends no more, or the connection finishes.

        Raises:
            BrokenStreamError: the connection broke.
        """
        while self._serve_one():
            pass

    @functools.cached_property
    def _peer(self) -> Peer | None:
        return Peer.of(self._socket)

    def _serve_one(self) -> bool:
        message = self._next()
        if message is None:
            return False
        self._is_busy(True)
        try:
            if self._answer(message):
                if self._undo and not was_taken(self._socket):
                    self._undo()
                return False
        finally:
            self._is_busy(False)
        if self._finishing:
            self._shut(socket.SHUT_RD)
        return True

    def close(self) -> None:
        """Close the socket, and let go of what came over it."""
        self._reader.close()
        self._socket.close()

    def _next(self) -> Message | None:
        """Return the next request, None at the end; undo the last one if its answer was not taken."""
        try:
            message = self._reader.next()
        except ConnectionLostError:
            if self._undo and tells_of_the_unread(self._socket):
                self._undo()
            raise
        except BrokenStreamError:
            raise
        except GraphDriverError as error:
            status = 431 if isinstance(error, HeadTooLargeError) else STATUS[error.kind]
            _log.warning("%s", error)
            self._send_whole(status, encode(new_error_response(error)), last=True)
            self._linger()
            return None
        if message is None and self._undo and not was_taken(self._socket):
            self._undo()
        return message

    def _answer(self, message: Message) -> bool:
        """Answer one request; tell whether it was the last."""
        self._undo = None
        path, _, query = message.target.partition(b"?")
        answer = self._handler.handle(
            Request(
                message.method,
                path.decode("utf-8", "replace"),
                query.decode("utf-8", "replace"),
                message,
                self._peer,
                message.by_hand,
            )
        )
        last = (
            self._finishing
            or not message.keep_alive
            or not message.is_whole
            or message.method != "POST"  # to a HEAD this body would be the next answer
        )
        if isinstance(answer.body, DiffStream):
            is_whole = self._send_stream(answer.status, answer.body, last=last)
            return last or not is_whole
        try:
            self._send_whole(answer.status, answer.body, last=last)
        except ConnectionLostError:
            if answer.undo:
                answer.undo()
            raise
        if not message.is_whole:
            self._linger()
        self._undo = answer.undo
        return last

    def _send_whole(self, status: int, body: bytes, *, last: bool) -> None:
        head = b"%bContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (
            *(_head(status, last), _CONTENT_TYPE),
            len(body),
        )
        if len(body) <= PIECE:
            self._send(head + body)
        else:  # not copied: it may be long
            self._send(head)
            self._send(body)

    def _send_stream(self, status: int, diff: DiffStream, *, last: bool) -> bool:
        """Send a Diff and close it; tell whether all was sent. What went wrong stands in the log."""
        try:
            self._send(
                b"%bContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n"
                % _head(status, last)
            )
            while piece := diff.read(PIECE):
                self._send(b"%x\r\n" % len(piece))
                self._send(piece)
                self._send(b"\r\n")
            self._send(b"0\r\n\r\n")
        except (Exception, SystemExit) as error:
            diff.close(error)
            return False
        diff.close(None)
        return True

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConnectionLostError(f"the caller has hung up: {reason}") from error

    def _linger(self) -> None:
        """Take in what is still being sent, so that the caller reads our answer first."""
        with contextlib.suppress(OSError):
            self._shut(socket.SHUT_WR)
            self._socket.settimeout(1)
            deadline = time.monotonic() + _LINGER
            taken = 0
            while time.monotonic() < deadline and taken < _LINGER_BYTES:
                piece = self._socket.recv(PIECE)
                if not piece:
                    return
                taken += len(piece)

    def _is_busy(self, busy: bool) -> None:
        with self._state:
            self._busy = busy

    def _shut(self, how: int) -> None:
        """Close the connection one way, or both.

        It is the descriptor that is shut: an SSLSocket's own method would also make what is still
        sent go out in the clear.
        """
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, how)


@functools.cache
def _head(status: int, last: bool) -> bytes:
    phrase = http.HTTPStatus(status).phrase.encode()
    return b"HTTP/1.1 %d %b\r\n%b" % (status, phrase, b"Connection: close\r\n" if last else b"")
