"""One connection, server's side: reads requests and sends responses until one side ends it.

A response that fails in its middle closes the connection, so that the caller sees a cut stream and
never a short layer. If the kernel knows that a response never reached the caller
(`graphdriver.docker.http.delivery`), the call is undone if possible.

There is no timeout for the rest of a request's head or for the next request: a caller that was paused
may continue, its call would be lost, and no other connection waits for it.
"""

from __future__ import annotations

import contextlib
import functools
import http
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from graphdriver.docker.codec import encode
from graphdriver.docker.daemon import Peer
from graphdriver.docker.diffs import PIECE, DiffStream
from graphdriver.docker.handler import STATUS, Handler
from graphdriver.docker.http.delivery import reset_means_unread, was_read
from graphdriver.docker.http.requests import (
    ConnectionLostError,
    HeadTooLargeError,
    Message,
    RequestReader,
)
from graphdriver.docker.messages import new_error_response
from graphdriver.docker.request_messages import Request
from graphdriver.errors import BrokenStreamError, GraphDriverError
from graphdriver.serving.call_log import described

if TYPE_CHECKING:
    import ssl

_LINGER: Final = 5.0
"""How long to read what a caller still sends after an error, in seconds."""

_LINGER_BYTES: Final = 16 << 20

_ROOM: Final = 4 * PIECE
"""How much of a Diff should have room in the kernel while it waits for the caller, in bytes."""

_CONTENT_TYPE: Final = b"application/vnd.docker.plugins.v1.1+json"

_log = logging.getLogger(__name__)

_Undo = Callable[[], None] | None


class Connection:
    """A connection, served by one thread at a time and ended by another.

    Args:
        accepted: its socket, which `close` closes.
        handler: answers the calls.
        finishing: end after the first call.
    """

    def __init__(
        self, accepted: socket.socket, handler: Handler, *, finishing: bool = False
    ) -> None:
        self._socket = accepted
        self._reader = RequestReader(accepted)
        self._handler = handler
        self._undo: _Undo = None
        """Undoes the last call, if its caller never reads the response."""
        self._state = threading.Lock()
        self._busy = False
        self._is_new = True
        self._finishing = finishing

    # --- called by other threads ----------------------------------------------------------------------

    @property
    def is_new(self) -> bool:
        """Whether its caller has sent no request yet."""
        return self._is_new

    def finish(self, *, even_new: bool = False) -> None:
        """End after the running call; at once if no call runs.

        Args:
            even_new: also if no request came yet; otherwise after the first one.
        """
        with self._state:
            self._finishing = True
            if not self._busy and (even_new or not self._is_new):
                # Only this direction: a request that came already is still read and answered.
                self._shut(socket.SHUT_RD)

    def cut(self) -> None:
        """End now, in the middle of a call too."""
        with self._state:
            self._shut(socket.SHUT_RDWR)

    # --- called by the thread that serves it ----------------------------------------------------------

    def shake_hands(self, tls: ssl.SSLContext, seconds: float) -> None:
        """Start TLS on the connection.

        Args:
            tls: the plugin's side.
            seconds: how long the whole handshake may take.

        Raises:
            BrokenStreamError: the handshake failed or took longer.
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
        """Answer calls until the caller ends the connection, or `finish` is called.

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
        self._set_busy(True)
        try:
            if self._answer(message):
                if self._undo and not was_read(self._socket):
                    self._undo()
                return False
        finally:
            self._set_busy(False)
        if self._finishing:
            self._shut(socket.SHUT_RD)
        return True

    def close(self) -> None:
        """Close the socket and release its buffers."""
        self._reader.close()
        self._socket.close()

    def _next(self) -> Message | None:
        """Return the next request, None at the end; undo the last call if its response was not read."""
        try:
            message = self._reader.next()
        except ConnectionLostError:
            if self._undo and reset_means_unread(self._socket):
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
        if message is None and self._undo and not was_read(self._socket):
            self._undo()
        return message

    def _answer(self, message: Message) -> bool:
        """Answer one request; return whether it was the last."""
        self._undo = None
        try:
            peer = self._peer
        except OSError as error:  # no descriptor is free to read its record in /proc
            refusal = described(error)
            _log.warning("%s", refusal)
            self._send_whole(500, encode(new_error_response(refusal)), last=True)
            self._linger()
            return True
        path, _, query = message.target.partition(b"?")
        answer = self._handler.handle(
            Request(
                message.method,
                path.decode("utf-8", "replace"),
                query.decode("utf-8", "replace"),
                message,
                peer,
                message.by_hand,
            )
        )
        last = (
            self._finishing
            or not message.keep_alive
            or not message.is_whole
            or message.method != "POST"  # after a HEAD the body would be read as the next response
        )
        if isinstance(answer.body, DiffStream):
            is_whole = self._send_stream(answer.status, answer.body, last=last)
            return last or not is_whole
        try:
            self._send_whole(answer.status, answer.body, last=last)
        except ConnectionLostError as error:
            with answer.call.resumed() if answer.call else contextlib.nullcontext():
                _log.warning("%s", error)
            if answer.undo:
                answer.undo()
            return True
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
        else:  # sent apart: joining would copy a long body
            self._send(head)
            self._send(body)

    def _send_stream(self, status: int, diff: DiffStream, *, last: bool) -> bool:
        """Send a Diff and close it, which logs a failure; return whether all was sent."""
        if self._socket.family == socket.AF_UNIX:
            # So that the next piece is made while the caller reads this one: by default there is room
            # for less than a piece. The kernel allows net.core.wmem_max, which is twice as much.
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
        try:
            if diff.size is None:
                self._send_chunks(status, diff, last=last)
            else:
                self._send_known(status, diff, diff.size, last=last)
        except (Exception, SystemExit) as error:
            # Without the last chunk, or the last byte, the caller sees that the stream was cut.
            diff.close(error)
            return False
        diff.close(None)
        return True

    def _send_known(self, status: int, diff: DiffStream, size: int, *, last: bool) -> None:
        self._send(
            b"%bContent-Type: application/x-tar\r\nContent-Length: %d\r\n\r\n"
            % (_head(status, last), size)
        )
        # No further: with the last byte the caller has it all, and what happens to the layer from then
        # on must not end the connection, on which the caller may send its next request.
        is_plain = type(self._socket) is socket.socket  # with TLS, bytes are encrypted here
        while size:
            if is_plain and (sent := self._send_in_memory(diff)):
                size -= sent
                continue
            piece = diff.read(PIECE)
            self._send(piece)
            size -= len(piece)

    def _send_chunks(self, status: int, diff: DiffStream, *, last: bool) -> None:
        self._send(
            b"%bContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n"
            % _head(status, last)
        )
        while piece := diff.read(PIECE):
            self._send(b"%x\r\n" % len(piece))
            self._send(piece)
            self._send(b"\r\n")
        self._send(b"0\r\n\r\n")

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise _closed(error) from error

    def _send_in_memory(self, diff: DiffStream) -> int:
        """Send what can be sent from the file's pages; return how many bytes that were."""
        with diff.in_memory() as part:
            if part is None:
                return 0
            done = 0
            while done < part.size:
                try:
                    sent = os.sendfile(
                        self._socket.fileno(), part.fd, part.offset + done, part.size - done
                    )
                except OSError as error:
                    raise _closed(error) from error
                if not sent:
                    raise BrokenStreamError("the file became shorter while it was sent")
                done += sent
            return done

    def _linger(self) -> None:
        """Read what the caller still sends, so that it reads our response.

        Closing a connection with unread data resets it, and the response is lost.
        """
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

    def _set_busy(self, busy: bool) -> None:
        with self._state:
            self._busy = busy
            self._is_new = False

    def _shut(self, how: int) -> None:
        """Close one direction of the connection, or both.

        This calls the plain socket's method: the one of an SSLSocket also drops TLS, and what another
        thread still sends would go out unencrypted.
        """
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, how)


def _closed(error: OSError) -> ConnectionLostError:
    reason = error.strerror or str(error)
    return ConnectionLostError(f"the caller closed the connection: {reason}")


@functools.cache
def _head(status: int, last: bool) -> bytes:
    phrase = http.HTTPStatus(status).phrase.encode()
    return b"HTTP/1.1 %d %b\r\n%b" % (status, phrase, b"Connection: close\r\n" if last else b"")
