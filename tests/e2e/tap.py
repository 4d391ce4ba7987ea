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
import fcntl
import secrets
import socket
import termios
import threading
import time
import urllib.parse
from typing import Self

import httptools

from graphdriver import UnixListener
from graphdriver.docker.address.discovery import Address
from graphdriver.docker.recorder import Connection, Relay
from tests.support.plugin_process import Plugin

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


class Tap(Relay):
    """Listens as a plugin of its own name; a context manager.

    Args:
        plugin: where calls are handed on to.
    """

    def __init__(self, plugin: Plugin) -> None:
        self.name = f"tap-{secrets.token_hex(3)}"
        self._holds: list[Hold] = []
        self._held = threading.Lock()
        self._thread = threading.Thread(target=self.run)
        super().__init__(UnixListener(self.name), Address(path=str(plugin.socket)))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.let_go()
        self.stop()
        self._thread.join()
        self._listener.close()

    def joined(self, daemon: socket.socket, plugin: socket.socket) -> Connection:
        return _Tapped(self, daemon, plugin)

    def hold(self, call: str, at: int = 0) -> Hold:
        """Stop the next call of this name once ``at`` bytes of its body were handed on.

        A hold at 0 lets the whole request through, and stops the answer alone.
        """
        with self._held:
            self._holds.append(Hold(call, at))
            return self._holds[-1]

    def let_go(self) -> None:
        """Hand on all that was held."""
        with self._held:
            for hold in self._holds:
                hold.may_go.set()

    def cut(self) -> None:
        """Break off all that was held, as if the plugin's answer had never been sent."""
        with self._held:
            for hold in self._holds:
                hold.is_cut = True
        self.let_go()

    def find(self, call: str) -> Hold | None:
        """Return the first hold for such a call that nobody has met yet."""
        with self._held:
            waiting = (each for each in self._holds if each.call == call and not each.layer)
            return next(waiting, None)


class _Tapped(Connection):
    """A connection whose calls can be held."""

    piece = 4096
    """By so much at most a hold comes late."""

    def __init__(self, tap: Tap, daemon: socket.socket, plugin: socket.socket) -> None:
        super().__init__(daemon, plugin)
        self._tap = tap
        self._parser = httptools.HttpRequestParser(self)
        self._hold: Hold | None = None
        self._call = self._layer = ""
        self._body = 0
        self._is_whole = False

    def up(self, piece: bytes) -> None:
        self._parser.feed_data(piece)
        hold = self._met()
        super().up(piece)
        if hold:
            self._wait_until_read()
            hold.is_there.set()
            self._wait_for(hold)
            self._hold = None

    def down(self, piece: bytes) -> None:
        if hold := self._hold:
            self._wait_for(hold)
        super().down(piece)

    def _wait_for(self, hold: Hold) -> None:
        hold.may_go.wait()
        if hold.is_cut:
            self.break_off("a test cut it")
            raise ConnectionAbortedError

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
            fcntl.ioctl(self.plugin, termios.TIOCOUTQ, unread)

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
