"""A recorder between a daemon and a plugin: passes on every byte, and writes a line for each call.

A call's line is written when the call is over::

    07:12:04.512  1  ApplyDiff?id=4f0c&parent=91aa  1.2 MB in  ->  200 {"Size": 1203712}  81.4 ms

It shows the start time, the number of the connection, the request, the response, and the time from the
first byte of the request to the last byte of the response. Bodies that broke off, and calls without a
response, are marked. To the plugin the recorder is the daemon.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Final, TextIO

import httptools

from graphdriver.docker.address.discovery import Address
from graphdriver.docker.address.listeners import Listener
from graphdriver.docker.answers import shown

_LONGEST_TEXT: Final = 2000


class Relay:
    """A relay, which accepts a daemon's connections and opens one to the plugin for each.

    Args:
        listener: where the daemon finds it.
        plugin: the plugin's unix socket.
    """

    def __init__(self, listener: Listener, plugin: Address) -> None:
        self._listener = listener
        self._plugin = plugin
        self._guard = threading.Lock()
        self._open: dict[Connection, threading.Thread] = {}
        self._is_stopped = False

    def joined(self, daemon: socket.socket, plugin: socket.socket) -> Connection:
        """Return an object that passes on the bytes of two connections."""
        return Connection(daemon, plugin)

    def missed(self, error: OSError) -> None:
        """Handle a plugin that accepts no connection; the daemon's connection was closed."""

    def run(self) -> None:
        """Pass on bytes until `stop`; then break off open connections."""
        while True:
            try:
                daemon, _ = self._listener.socket.accept()
            except OSError:
                break
            plugin = socket.socket(socket.AF_UNIX)
            try:
                plugin.connect(self._plugin.path)
            except OSError as error:
                daemon.close()
                plugin.close()
                self.missed(error)
                continue
            connection = self.joined(daemon, plugin)
            thread = threading.Thread(target=self._serve, args=[connection])
            with self._guard:
                self._open[connection] = thread
                thread.start()
            if self._is_stopped:
                break
        with self._guard:
            left = list(self._open.items())
        for connection, thread in left:
            connection.break_off("the recorder was stopped")
            thread.join()

    def stop(self) -> None:
        """Make `run` return; may be called from a signal handler's thread, and more than once."""
        with self._guard:
            was_stopped, self._is_stopped = self._is_stopped, True
        if not was_stopped:
            self._listener.refuse()

    def _serve(self, connection: Connection) -> None:
        connection.run()
        with self._guard:
            del self._open[connection]


class Connection:
    """A daemon's connection, and the one to the plugin."""

    piece: ClassVar[int] = 64 << 10
    """Largest number of bytes that are passed on at a time."""

    def __init__(self, daemon: socket.socket, plugin: socket.socket) -> None:
        self.daemon = daemon
        self.plugin = plugin
        self.ending = ""
        """Reason for its end."""

    def up(self, piece: bytes) -> None:
        """Pass on bytes of the daemon."""
        self.plugin.sendall(piece)

    def down(self, piece: bytes) -> None:
        """Pass on bytes of the plugin."""
        self.daemon.sendall(piece)

    def run(self) -> None:
        """Pass on bytes both ways, until both ends are closed."""
        down = threading.Thread(target=self._hand_down)
        with self.daemon, self.plugin:
            down.start()
            self._hand_up()
            down.join()

    def break_off(self, ending: str) -> None:
        """Shut down both connections."""
        self.ending = self.ending or ending
        for each in (self.daemon, self.plugin):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _hand_up(self) -> None:
        with contextlib.suppress(OSError):
            while piece := self.daemon.recv(self.piece):
                self.up(piece)
            self.ending = self.ending or "the daemon closed the connection"
            # One direction only: the plugin may still send its response.
            self.plugin.shutdown(socket.SHUT_WR)

    def _hand_down(self) -> None:
        with contextlib.suppress(OSError):
            while piece := self.plugin.recv(self.piece):
                self.down(piece)
        self.break_off("the plugin closed the connection")


class Recorder(Relay):
    """A relay that writes a line for each call.

    Args:
        listener: where the daemon finds it.
        plugin: the plugin's unix socket.
        out: where lines are written.
    """

    def __init__(self, listener: Listener, plugin: Address, out: TextIO) -> None:
        super().__init__(listener, plugin)
        self._out = out
        self._writing = threading.Lock()
        self._numbers = itertools.count(1)

    def joined(self, daemon: socket.socket, plugin: socket.socket) -> Connection:
        """Return a connection that records its calls."""
        return _Recorded(next(self._numbers), daemon, plugin, self._write)

    def missed(self, error: OSError) -> None:
        """Record that the plugin takes no connection."""
        number = next(self._numbers)
        self._write(f"{number:>14}  the plugin takes no connection: {error.strerror}")

    def _write(self, line: str) -> None:
        with self._writing:
            print(line, file=self._out, flush=True)


class _Recorded(Connection):
    """A connection that records each call when it is over, and at its own end the unanswered ones."""

    def __init__(
        self,
        number: int,
        daemon: socket.socket,
        plugin: socket.socket,
        write: Callable[[str], None],
    ) -> None:
        super().__init__(daemon, plugin)
        self._number = number
        self._write = write
        self._calls: deque[_Call] = deque()
        """Calls without a complete response, the oldest first."""
        self._requests = _Requests(self._calls)
        self._answers = _Answers(self._calls, lambda call: write(call.line(number)))

    def up(self, piece: bytes) -> None:
        self._requests.feed(piece)
        super().up(piece)

    def down(self, piece: bytes) -> None:
        self._answers.feed(piece)
        super().down(piece)

    def run(self) -> None:
        super().run()
        for call in self._calls:
            self._write(call.line(self._number, self.ending))


class _Call:
    """A call, and the part of its response that has arrived."""

    def __init__(self, target: str) -> None:
        self.began = time.monotonic()
        self.at = datetime.datetime.now().astimezone()
        self.target = target
        self.sent = bytearray()
        self.came = bytearray()
        self.sent_size = self.came_size = 0
        self.status = 0
        self.first = 0.0

    @property
    def name(self) -> str:
        name = self.target.rpartition("/")[2]
        return name.partition(".")[2] or name

    @property
    def kind(self) -> str:
        return self.name.partition("?")[0]

    def line(self, number: int, ending: str = "") -> str:
        asked = shown(self.name)
        if self.kind == "ApplyDiff":
            asked += f"  {_size(self.sent_size)} in"
        elif self.sent.strip():
            asked += f" {_text(self.sent, self.sent_size)}"
        answer = f"{self.status}" if self.status else "no answer"
        if self.status == 200 and self.kind == "Diff":
            answer += (
                f" {_size(self.came_size)} out, the first after {_ms(self.first - self.began)}"
            )
        elif self.came.strip():
            answer += f" {_text(self.came, self.came_size)}"
        if ending:
            answer += f", {ending}"
        took = _ms(time.monotonic() - self.began)
        return f"{self.at:%H:%M:%S.%f}"[:12] + f"  {number:<3}{asked}  ->  {answer}  {took}"


def _text(body: bytearray, size: int) -> str:
    """Return the start of a body, safe for a terminal, which obeys control characters."""
    text = shown(" ".join(body.decode("utf-8", "backslashreplace").split()))
    return text if len(body) == size else f"{text}… ({size} B in all)"


def _keep(kept: bytearray, piece: bytes) -> None:
    """Append to the start of a body, up to the length that a line shows."""
    kept += piece[: max(0, _LONGEST_TEXT - len(kept))]


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} B"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


class _Reader:
    """A parser that is fed until its first error; the bytes are passed on in any case."""

    def __init__(self, calls: deque[_Call], parse: Callable[[bytes], None]) -> None:
        self._calls = calls
        self._parse = parse
        self._is_lost = False

    def feed(self, piece: bytes) -> None:
        if not self._is_lost:
            try:
                self._parse(piece)
            except httptools.HttpParserError:
                self._is_lost = True


class _Requests(_Reader):
    """Callbacks of the parser of requests."""

    def __init__(self, calls: deque[_Call]) -> None:
        super().__init__(calls, httptools.HttpRequestParser(self).feed_data)

    def on_message_begin(self) -> None:
        self._call = _Call("")

    def on_url(self, url: bytes) -> None:
        """Append to the target: the parser reports each piece that it was fed."""
        if not self._call.target:
            self._calls.append(self._call)
        if len(self._call.target) < _LONGEST_TEXT:
            self._call.target += url.decode("utf-8", "backslashreplace")

    def on_body(self, body: bytes) -> None:
        self._call.sent_size += len(body)
        if self._call.kind != "ApplyDiff":
            _keep(self._call.sent, body)


class _Answers(_Reader):
    """Callbacks of the parser of responses; each belongs to the oldest call without one."""

    def __init__(self, calls: deque[_Call], ended: Callable[[_Call], None]) -> None:
        self._parser = httptools.HttpResponseParser(self)
        super().__init__(calls, self._parser.feed_data)
        self._ended = ended

    def on_headers_complete(self) -> None:
        self._call = self._calls[0] if self._calls else _Call("an answer to nothing")
        self._call.status = self._parser.get_status_code()
        self._call.first = time.monotonic()

    def on_body(self, body: bytes) -> None:
        self._call.came_size += len(body)
        if self._call.kind != "Diff" or self._call.status != 200:
            _keep(self._call.came, body)

    def on_message_complete(self) -> None:
        if self._calls:
            self._calls.popleft()
        self._ended(self._call)
