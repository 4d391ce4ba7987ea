"""The server: listeners and connections, nothing of what comes over them.

Each connection has a thread of its own: a daemon makes calls while it reads the response to another
one, and none of them waits for a call that takes long. A daemon keeps two or three connections; for
these, one thread that waits for all of them was measured to be no faster.

An idle connection is never closed while the server runs, because the daemon's next call would be lost
with it. For the same reason a connection that cannot be served yet (no descriptor, no thread, or more
than `MOST` of them) is not refused; it waits in the kernel's queue or here.

Over TLS a caller is nobody until the handshake is over, which may take `HANDSHAKE` seconds; no more
than `HANDSHAKES` are under way at a time.

At a stop who has connected is served and nobody else can connect; calls under way may end within
`GRACE` seconds; what still runs is cut off and may let go of what it holds, `RELEASE` seconds long.
Mounts stay as they are: containers may live on them, and a daemon that wants them gone says Cleanup.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import selectors
import socket
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Self

from graphdriver.docker.address.listeners import Listener
from graphdriver.docker.handler import Handler
from graphdriver.docker.http.connection import Connection
from graphdriver.errors import BrokenStreamError
from graphdriver.linux.libc import limit_arenas
from graphdriver.serving.signals import Signals

if TYPE_CHECKING:
    import ssl

GRACE: Final = 9.0
"""How long calls under way may take at a stop, in seconds."""

RELEASE: Final = 1.0
"""How long after that; together no more than the 10 s after which container engines kill."""

HANDSHAKE: Final = 10.0
"""How long a caller may take to show its certificate, in seconds."""

HANDSHAKES: Final = 64
"""How many callers may be at that; the next one is turned away, and a daemon comes again."""

MOST: Final = 1024
"""How many connections are served at a time, if the process may have twice as many descriptors:
the other half is the driver's."""

_PAUSE: Final = 0.1
_HEAPS: Final = 2

_log = logging.getLogger(__name__)


class Server:
    """Serves a handler on listeners; a context manager that closes both.

    Args:
        handler: answers the calls.
        listeners: where they come from; one listener, or several.

    Raises:
        TypeError: one of them is something else.
    """

    def __init__(self, handler: Handler, listeners: Listener | Iterable[Listener]) -> None:
        if not isinstance(handler, Handler):
            raise TypeError(
                f"Server takes a Handler, not {handler!r}; make one with Handler(driver)"
            )
        self._handler = handler
        self._listeners = several(listeners)
        self._connections: dict[Connection, threading.Thread] = {}
        self._most = min(MOST, max(64, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
        self._changed = threading.Condition()
        self._stopping = False
        self._in_trouble = False
        self._handshakes = threading.BoundedSemaphore(HANDSHAKES)
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._signals: Signals | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def install_signal_handlers(self) -> None:
        """Stop at SIGTERM, SIGINT and SIGQUIT. For the main thread of a program."""
        self._signals = Signals(self._wake.fileno(), self.stop)

    def stop(self) -> None:
        """Make `serve_forever` return. May be called from anywhere, signal handlers too."""
        self._stopping = True
        with contextlib.suppress(OSError):  # woken already, or closed
            self._wake.send(b"\0")

    def serve_forever(self) -> None:
        """Accept connections until `stop`."""
        limit_arenas(_HEAPS)
        with selectors.DefaultSelector() as selector:
            selector.register(self._woken, selectors.EVENT_READ)
            for listener in self._listeners:
                listener.socket.setblocking(False)
                selector.register(listener.socket, selectors.EVENT_READ, listener)
            while not self._stopping:
                for key, _ in selector.select():
                    if key.data is not None:
                        self._accept(key.data)
                        continue
                    numbers = self._woken.recv(64)
                    if self._signals:
                        self._signals.note(numbers)

    def close(self) -> None:
        """Serve who has connected, let calls under way end, and let go of the home."""
        self.stop()
        for listener in self._listeners:
            with contextlib.suppress(OSError):  # closed before
                listener.refuse()
                listener.socket.setblocking(False)
                while self._accept(listener):
                    pass
            listener.close()
        with self._changed:
            threads = list(self._connections.values())
            for connection in self._connections:
                connection.finish()
            if not self._all_end_within(GRACE):
                calls = ", ".join(self._handler.running()) or "a connection"
                _log.warning("cut off after %.0f s: %s", GRACE, calls)
                for connection in self._connections:
                    connection.cut()
            all_ended = self._all_end_within(RELEASE)
        if all_ended:  # else the home stays locked as long as somebody is at it
            for thread in threads:
                thread.join()
            self._handler.close()
        if self._signals:
            self._signals.close()
        self._wake.close()
        self._woken.close()

    def _all_end_within(self, seconds: float) -> bool:
        return self._changed.wait_for(lambda: not self._connections, seconds)

    def _accept(self, listener: Listener) -> bool:
        """Take one connection; tell whether there was one."""
        if len(self._connections) >= self._most:
            self._tell_trouble(f"{self._most} connections are open; others wait until one ends")
            time.sleep(_PAUSE)
            return False
        try:
            accepted, _ = listener.socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as error:
            if not self._stopping:
                self._tell_trouble(f"cannot accept a connection, which waits: {error}")
                time.sleep(_PAUSE)  # out of descriptors, most likely: let some go
            return False
        if listener.tls and not self._handshakes.acquire(blocking=False):
            _log.warning("%d handshakes are under way: a connection is turned away", HANDSHAKES)
            accepted.close()
            return True
        accepted.setblocking(True)
        self._start(Connection(accepted, self._handler, finishing=self._stopping), listener.tls)
        return True

    def _start(self, connection: Connection, tls: ssl.SSLContext | None) -> None:
        """Serve a connection in a thread of its own, as soon as there can be one more."""
        while True:
            thread = threading.Thread(
                target=self._serve, args=(connection, tls), name="connection", daemon=True
            )
            try:
                with self._changed:  # which a thread that ends at once waits for
                    thread.start()
                    self._connections[connection] = thread
            except RuntimeError as error:
                self._tell_trouble(f"cannot serve a connection, which waits: {error}")
                if self._stopping:
                    connection.close()
                    return
                time.sleep(_PAUSE)
            else:
                self._in_trouble = False
                return

    def _serve(self, connection: Connection, tls: ssl.SSLContext | None) -> None:
        """Serve a connection to its end."""
        try:
            if tls:
                self._shake_hands(connection, tls)
            connection.serve()
        except (BrokenStreamError, OSError) as error:
            _log.warning("%s", error)
        except Exception:
            _log.exception("a connection failed")
        finally:
            connection.close()
            with self._changed:
                del self._connections[connection]
                self._changed.notify_all()

    def _shake_hands(self, connection: Connection, tls: ssl.SSLContext) -> None:
        try:
            connection.shake_hands(tls, HANDSHAKE)
        finally:
            self._handshakes.release()

    def _tell_trouble(self, text: str) -> None:
        """Log what keeps connections waiting; once, until one is served again."""
        if not self._in_trouble:
            _log.error("%s", text)
            self._in_trouble = True


def several(listeners: Listener | Iterable[Listener]) -> list[Listener]:
    """Return one listener, or several, as a list.

    Raises:
        TypeError: one of them is something else.
    """
    found = list(listeners) if isinstance(listeners, Iterable) else [listeners]
    for one in found:
        if not hasattr(one, "socket"):
            raise TypeError(
                f"calls come from listeners, not {listeners!r}; make one with UnixListener(address)"
            )
    return found
