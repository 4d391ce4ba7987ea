"""A tap on the wire between a daemon and its plugin, by which a test stops a call on its way.

The daemon knows the tap as its plugin. Every byte is handed on as it came, both ways, until a call
comes that a test waits for (`Tap.hold`): its body is handed on up to a byte and no further, and no
answer to it either, until the test lets it go or cuts it. So a test knows to some kilobytes what the
plugin has seen of a layer, and has all the time that it needs.

While the plugin is gone the tap takes a connection and closes it at once; to the daemon that is a
connection that broke before it was answered.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import secrets
import socket
import termios
import threading
import time
import urllib.parse
from typing import Self

import httptools

from tests.e2e.plugin import SOCKETS, Plugin

PIECE = 4096
"""Bytes that are handed on at a time; by so much at most a hold comes late."""

TIMEOUT = 60.0


class Hold:
    """A call that is, or will be, stopped on its way."""

    def __init__(self, call: str, at: int) -> None:
        self.call = call
        self.at = at
        self.layer = ""
        self.is_there = threading.Event()
        self.may_go = threading.Event()
        self.is_cut = False

    def wait(self) -> str:
        """Wait until the plugin has read what it gets of the call; return the layer's ID, if told."""
        assert self.is_there.wait(TIMEOUT), f"no {self.call} came to byte {self.at} of its body"
        return self.layer


class Tap:
    """Listens as a plugin of its own name; a context manager.

    Args:
        plugin: where calls are handed on to.
    """

    def __init__(self, plugin: Plugin) -> None:
        self.name = f"tap-{secrets.token_hex(3)}"
        self._plugin = plugin
        self._path = SOCKETS / f"{self.name}.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._guard = threading.Lock()
        self._holds: list[Hold] = []
        self._connections: list[_Connection] = []
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self._path.unlink()
        self.let_go()
        for connection in self._connections:
            connection.end()

    def hold(self, call: str, at: int = 0) -> Hold:
        """Stop the next call of this name once ``at`` bytes of its body were handed on.

        A hold at 0 lets the whole request through, and stops the answer alone.
        """
        with self._guard:
            self._holds.append(Hold(call, at))
            return self._holds[-1]

    def let_go(self) -> None:
        """Hand on all that was held."""
        with self._guard:
            for hold in self._holds:
                hold.may_go.set()

    def cut(self) -> None:
        """Break off all that was held, as if the plugin's answer had never been sent."""
        with self._guard:
            for hold in self._holds:
                hold.is_cut = True
        self.let_go()

    def find(self, call: str) -> Hold | None:
        """Return the first hold for such a call that nobody has met yet."""
        with self._guard:
            waiting = (each for each in self._holds if each.call == call and not each.layer)
            return next(waiting, None)

    def _accept(self) -> None:
        while True:
            try:
                daemon, _ = self._listener.accept()
            except OSError:
                return
            plugin = socket.socket(socket.AF_UNIX)
            try:
                plugin.connect(str(self._plugin.socket))
            except OSError:
                plugin.close()
                daemon.close()
                continue
            self._connections.append(_Connection(self, daemon, plugin))


class _Connection:
    """One connection of a daemon, and the one to the plugin that it is joined to."""

    def __init__(self, tap: Tap, daemon: socket.socket, plugin: socket.socket) -> None:
        self._tap = tap
        self._daemon = daemon
        self._plugin = plugin
        self._hold: Hold | None = None
        self._call = self._layer = ""
        self._body = 0
        self._is_whole = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> None:
        """Break off both ways, and wait until that is done."""
        self._break_off()
        self._thread.join()

    def _run(self) -> None:
        down = threading.Thread(target=self._hand_down)
        with self._daemon, self._plugin:
            down.start()
            self._hand_up()
            down.join()

    def _break_off(self) -> None:
        for each in (self._daemon, self._plugin):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _hand_down(self) -> None:
        with contextlib.suppress(OSError):
            while piece := self._plugin.recv(PIECE):
                hold = self._hold
                if hold:
                    hold.may_go.wait()
                    if hold.is_cut:
                        break
                self._daemon.sendall(piece)
        self._break_off()

    def _hand_up(self) -> None:
        parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(OSError):
            while piece := self._daemon.recv(PIECE):
                parser.feed_data(piece)
                hold = self._met()
                self._plugin.sendall(piece)
                if hold:
                    self._wait_until_read()
                    hold.is_there.set()
                    hold.may_go.wait()
                    if hold.is_cut:
                        break
                    self._hold = None
            self._plugin.shutdown(socket.SHUT_WR)

    def _met(self) -> Hold | None:
        """Tell whether this piece is the one to stop at; no answer is handed on from now on."""
        hold = self._tap.find(self._call)
        if hold is None or self._body < hold.at or not (hold.at or self._is_whole):
            return None
        hold.layer = self._layer or "?"
        self._hold = hold
        return hold

    def _wait_until_read(self) -> None:
        """Wait until the plugin has nothing more to read (SIOCOUTQ, unix(7))."""
        unread = array.array("i", [1])
        deadline = time.monotonic() + TIMEOUT
        while unread[0] and time.monotonic() < deadline:
            fcntl.ioctl(self._plugin, termios.TIOCOUTQ, unread)

    # What the parser tells of the request that comes just now.

    def on_url(self, url: bytes) -> None:
        path, _, query = url.decode().rpartition("/")[2].partition("?")
        self._call = path.partition(".")[2]
        self._layer = urllib.parse.parse_qs(query).get("id", [""])[0]
        self._body, self._is_whole = 0, False

    def on_body(self, body: bytes) -> None:
        self._body += len(body)

    def on_message_complete(self) -> None:
        self._is_whole = True
