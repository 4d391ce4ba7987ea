"""Functions that serve a driver in one line, for programs that do nothing else."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from graphdriver.docker.address.listeners import Listener, TCPListener, UnixListener
from graphdriver.docker.address.spec_files import SpecFile
from graphdriver.docker.handler import Handler, expect_driver
from graphdriver.docker.http.server import Server, expect_listeners
from graphdriver.docker.state import make_state_directory, state_name
from graphdriver.driver import ProtoDriver
from graphdriver.serving import logs, process
from graphdriver.serving.notify import Notifier
from graphdriver.serving.signals import dump_stacks_on_signal

if TYPE_CHECKING:
    import ssl

    from graphdriver.docker.address.discovery import ClientTLS

_log = logging.getLogger(__name__)


def serve(driver: ProtoDriver | Handler, *listeners: Listener) -> None:
    """Serve a driver until SIGTERM, SIGINT or SIGQUIT.

    Init is remembered under the first listener's address, so a plugin that is restarted there knows
    its home. The process's umask becomes 0. The log goes to stderr if the root logger has no handler;
    signals are handled if this is the main thread.

    Args:
        driver: keeps the layers; or a `Handler` for it, which then decides what is remembered.
        listeners: accept the connections; they are closed at the end.

    Raises:
        UnsupportedError: this process does not run as root, or Init cannot be remembered.
    """
    _serve(driver, listeners)


def _serve(driver: ProtoDriver | Handler, listeners: Sequence[Listener], name: str = "") -> None:
    if not isinstance(driver, Handler):
        expect_driver(driver)
    if not expect_listeners(listeners):
        raise TypeError("serve takes at least one listener; make one with UnixListener(address)")
    with contextlib.ExitStack() as held:
        for listener in listeners:
            held.callback(listener.close)
        process.prepare()
        if not logging.getLogger().handlers:
            logs.set_up(verbose=False, form="text")
            if _in_main_thread():
                dump_stacks_on_signal("text")
        if not isinstance(driver, Handler):
            driver = Handler(driver, state_dir=make_state_directory(state_name(listeners[0], name)))
        run(driver, listeners, Notifier.wanted())


def run(
    handler: Handler,
    listeners: Sequence[Listener],
    notifier: Notifier | None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve calls in a process that is prepared, until it is stopped.

    Args:
        handler: answers the calls; the home of the remembered Init is opened again first.
        listeners: accept the connections; they are closed at the end.
        notifier: tells systemd when the plugin is ready, and when it stops.
        ready: called when calls can be answered.
    """
    driver = handler.served.driver_name
    where = ", ".join(getattr(one, "path", "") or one.address for one in listeners)
    with Server(handler, listeners) as server:
        if _in_main_thread():
            server.install_signal_handlers()
        handler.resume()
        if notifier:
            addresses = ", ".join(listener.address for listener in listeners)
            notifier.ready(f"serving {driver} on {addresses}")
        ready()
        _log.info("serving %s on %s", driver, where)
        if notifier:
            server.serve_forever(notifier.interval, notifier.is_alive)
        else:
            server.serve_forever()
        _log.info("stopping")
        if notifier:
            notifier.stopping()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def serve_unix(driver: ProtoDriver | Handler, address: str, group: str | int | None = None) -> None:
    """Serve a driver on a unix socket, as `serve` does.

    Args:
        driver: keeps the layers.
        address: the plugin's name, for ``/run/docker/plugins/NAME.sock``, or an absolute path.
        group: the name or number of a group that may call it besides root.

    Raises:
        InUseError: another process listens there.
        UnsupportedError: the path or the group cannot be used.
    """
    serve(driver, UnixListener(address, group=group))


def serve_tcp(
    driver: ProtoDriver | Handler,
    name: str,
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    daemon_tls: ClientTLS | None = None,
    allow_plain: bool = False,
) -> None:
    """Serve a driver on TCP, as `serve` does, and write the file by which a daemon finds it.

    Args:
        driver: keeps the layers.
        name: the plugin's name.
        host: where to listen.
        port: likewise; 0 lets the kernel choose.
        tls: the plugin's side of TLS, from `graphdriver.docker.address.tls.server_side`.
        daemon_tls: the daemon's side of it, for ``NAME.json``.
        allow_plain: see `TCPListener`.

    Raises:
        InUseError: the port is taken, or a daemon would find another plugin by this name.
        UnsupportedError: plain TCP beyond loopback was not allowed.
    """
    listener = TCPListener(host, port, tls=tls, allow_plain=allow_plain)
    with (
        contextlib.closing(listener),
        contextlib.closing(SpecFile(name, listener.address, daemon_tls)),
    ):
        _serve(driver, [listener], name)
