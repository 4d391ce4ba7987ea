"""The server: accepts connections, gives each a thread, and stops in good order.

Each connection has a thread of its own: a daemon makes calls while it reads the response to another
one, and none of them waits for a call that takes long. A daemon keeps two or three connections; for
these, one thread that waits for all of them was measured to be no faster.

An idle connection is never closed while the server runs, because the daemon's next call would be lost
with it. For the same reason a connection that cannot be served yet (no descriptor, no thread, or more
than `MAX_CONNECTIONS` of them) is not refused; it waits in the kernel's queue or here.

With TLS a caller is not trusted until the handshake ends, which may take `HANDSHAKE_TIMEOUT` seconds;
at most `MAX_HANDSHAKES` run at a time.

A stop (`Server.close`) serves callers that have connected, and rejects new ones. A caller that has sent
no request yet has `FIRST_REQUEST` seconds for it. Running calls may end within `GRACE` seconds. Then
their connections are cut, and they have `RELEASE` seconds to release their locks. Mounts stay:
containers may use them, and only the daemon's Cleanup ends them.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, Self

from graphdriver.docker.address.listeners import Listener
from graphdriver.docker.handler import Handler
from graphdriver.docker.http.connection import Connection
from graphdriver.errors import BrokenStreamError
from graphdriver.linux.libc import limit_arenas
from graphdriver.linux.resources import error_text
from graphdriver.linux.unix_sockets import peer_of
from graphdriver.serving.call_log import described
from graphdriver.serving.peers import PeerLog
from graphdriver.serving.signals import Signals

if TYPE_CHECKING:
    import ssl

GRACE: Final = 9.0
"""How long a running call may take at a stop, in seconds."""

FIRST_REQUEST: Final = 0.5
"""How long a caller that has just connected may take for its first request at a stop, in seconds."""

RELEASE: Final = 1.0
"""How long a call that was cut may take, in seconds. Container engines kill 10 s after SIGTERM."""

HANDSHAKE_TIMEOUT: Final = 10.0
"""How long a TLS handshake may take, in seconds."""

MAX_HANDSHAKES: Final = 64
"""How many handshakes may run at a time. The next caller is rejected, and a daemon retries: callers
without a certificate must not take all connections."""

MAX_CONNECTIONS: Final = 1024
"""How many connections, and so threads, there are at a time. At most half of the descriptors that the
process may have: the driver needs the others."""

_PAUSE: Final = 0.1
"""How long to wait before trying again, in seconds."""

_HEAPS: Final = 2
"""How many heaps the C library may make: by default it makes eight for each core, one per thread, and
freed memory stays in each."""

_log = logging.getLogger(__name__)


class Server:
    """A server for a handler on listeners; a context manager that closes both at its end.

    Args:
        handler: answers the calls.
        listeners: where to accept connections; one listener, or several.

    Raises:
        OSError: no descriptors are free.
        TypeError: an argument has another type.
    """

    def __init__(self, handler: Handler, listeners: Listener | Iterable[Listener]) -> None:
        if not isinstance(handler, Handler):
            raise TypeError(
                f"Server takes a Handler, not {handler!r}; make one with Handler(driver)"
            )
        self._handler = handler
        self._listeners = expect_listeners(listeners)
        handler.served.listens_at([listener.address for listener in self._listeners])
        self._connections: dict[Connection, threading.Thread] = {}
        self._most = min(
            MAX_CONNECTIONS, max(64, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        )
        self._peers = PeerLog()
        self._changed = threading.Condition()
        self._stopping = False
        self._has_logged = False
        self._handshakes = threading.BoundedSemaphore(MAX_HANDSHAKES)
        self._signals: Signals | None = None
        # All descriptors that serving needs are opened here: a server that was called ready must not
        # end because no more were free.
        with contextlib.ExitStack() as held:
            self._wake, self._woken = map(held.enter_context, socket.socketpair())
            self._wake.setblocking(False)
            self._selector = held.enter_context(selectors.DefaultSelector())
            self._selector.register(self._woken, selectors.EVENT_READ)
            for listener in self._listeners:
                listener.socket.setblocking(False)
                self._selector.register(listener.socket, selectors.EVENT_READ, listener)
            self._held = held.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def install_signal_handlers(self) -> None:
        """Stop at SIGTERM, SIGINT and SIGQUIT; for the main thread."""
        self._signals = Signals(self._wake.fileno(), self.stop)

    def stop(self) -> None:
        """Make `serve_forever` return; may be called from any thread or signal handler."""
        self._stopping = True
        with contextlib.suppress(OSError):  # full: it wakes anyway; or closed
            self._wake.send(b"\0")

    def serve_forever(
        self, interval: float | None = None, is_alive: Callable[[], None] = lambda: None
    ) -> None:
        """Accept connections until `stop` is called.

        Args:
            interval: after how many seconds without a connection ``is_alive`` is called.
            is_alive: called then, and after each connection.
        """
        limit_arenas(_HEAPS)
        while not self._stopping:
            for key, _ in self._selector.select(interval):
                if key.data is not None:
                    self._accept(key.data)
                    continue
                numbers = self._woken.recv(64)
                if self._signals:
                    self._signals.note(numbers)
            is_alive()

    def close(self) -> None:
        """Serve callers that have connected, wait for running calls, and release the home."""
        self.stop()
        for listener in self._listeners:
            with contextlib.suppress(OSError):  # closed before
                # First reject new callers, then accept those in the queue: a caller that could connect
                # has sent its call, which would be lost.
                listener.refuse()
                while self._accept(listener):
                    pass
            listener.close()
        with self._changed:
            deadline = time.monotonic() + GRACE
            threads = list(self._connections.values())
            for connection in self._connections:
                connection.finish()
            self._changed.wait_for(self._has_no_new_connection, min(FIRST_REQUEST, GRACE))
            for connection in self._connections:
                connection.finish(even_new=True)
            if not self._all_end_within(deadline - time.monotonic()):
                # Cut, since a service manager would soon kill the process, in the middle of its work.
                calls = ", ".join(self._handler.running()) or "a connection"
                _log.warning("cut off after %.0f s: %s", GRACE, calls)
                for connection in self._connections:
                    connection.cut()
            all_ended = self._all_end_within(RELEASE)
        if all_ended:  # otherwise a call still works in the home, which must stay locked
            for thread in threads:
                thread.join()
            self._handler.close()
        if self._signals:
            self._signals.close()
        self._held.close()

    def _has_no_new_connection(self) -> bool:
        return not any(connection.is_new for connection in self._connections)

    def _all_end_within(self, seconds: float) -> bool:
        return self._changed.wait_for(lambda: not self._connections, seconds)

    def _accept(self, listener: Listener) -> bool:
        """Accept one connection; return whether there was one."""
        if len(self._connections) >= self._most:
            self._log_once(f"{self._most} connections are open; others wait until one ends")
            time.sleep(_PAUSE)
            return False
        try:
            accepted, _ = listener.socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False
        except OSError as error:
            if not self._stopping:
                self._log_once(f"cannot accept a connection, which waits: {error_text(error)}")
                time.sleep(_PAUSE)  # most likely no descriptor is free
            return False
        if listener.tls and not self._handshakes.acquire(blocking=False):
            _log.warning("rejecting a connection: %d TLS handshakes are running", MAX_HANDSHAKES)
            accepted.close()
            return True
        accepted.setblocking(True)
        if accepted.family == socket.AF_UNIX:
            self._peers.note(peer_of(accepted))
        self._start(accepted, listener.tls)
        return True

    def _start(self, accepted: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Serve a connection in a thread of its own; wait until there is one, and a buffer."""
        connection: Connection | None = None
        while True:
            try:
                if connection is None:  # once: only `close` frees a buffer immediately
                    connection = Connection(accepted, self._handler, finishing=self._stopping)
                thread = threading.Thread(
                    target=self._serve, args=(connection, tls), name="connection", daemon=True
                )
                with self._changed:  # a thread that ends at once must find itself in the list
                    thread.start()
                    self._connections[connection] = thread
            except (RuntimeError, MemoryError) as error:
                reason = str(error) or "no memory is free"
                self._log_once(f"cannot serve a connection, which waits: {reason}")
                if self._stopping:
                    (connection or accepted).close()
                    return
                time.sleep(_PAUSE)
            else:
                self._has_logged = False
                return

    def _serve(self, connection: Connection, tls: ssl.SSLContext | None) -> None:
        """Serve a connection to its end."""
        try:
            if tls:
                self._shake_hands(connection, tls)
            connection.serve()
        except (BrokenStreamError, OSError) as error:
            _log.warning("%s", described(error))
        except Exception:
            _log.exception("a connection failed")
        finally:
            connection.close()
            with self._changed:
                del self._connections[connection]
                self._changed.notify_all()

    def _shake_hands(self, connection: Connection, tls: ssl.SSLContext) -> None:
        try:
            connection.shake_hands(tls, HANDSHAKE_TIMEOUT)
        finally:
            self._handshakes.release()

    def _log_once(self, text: str) -> None:
        """Log why connections wait; only once until one is served again."""
        if not self._has_logged:
            _log.error("%s", text)
            self._has_logged = True


def expect_listeners(listeners: Listener | Iterable[Listener]) -> list[Listener]:
    """Return a list of one listener or several.

    Raises:
        TypeError: one of them is not a listener.
    """
    found = list(listeners) if isinstance(listeners, Iterable) else [listeners]
    for one in found:
        if not hasattr(one, "socket"):
            raise TypeError(
                f"a server takes listeners, not {listeners!r}; make one with UnixListener(address)"
            )
    return found
