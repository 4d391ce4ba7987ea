"""Serving a driver in a line or two, for programs that do nothing else."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from graphdriver.driver import ProtoDriver
from graphdriver.plugin.handler import Handler
from graphdriver.plugin.listeners import Listener, TCPListener, UnixListener
from graphdriver.plugin.server import Server
from graphdriver.plugin.spec import SpecFile

if TYPE_CHECKING:
    import ssl

    from graphdriver.plugin.discovery import ClientTLS


def serve(driver: ProtoDriver | Handler, *listeners: Listener) -> None:
    """Serve a driver until SIGTERM or SIGINT. Call it from the main thread.

    Args:
        driver: what keeps the layers, or a `Handler` that was made for it.
        listeners: where calls come from; they are closed at the end.
    """
    handler = driver if isinstance(driver, Handler) else Handler(driver)
    with Server(handler, listeners) as server:
        server.install_signal_handlers()
        handler.resume()
        server.serve_forever()


def serve_unix(driver: ProtoDriver | Handler, address: str, group: str | int | None = None) -> None:
    """Serve a driver on a unix socket, as `serve` does.

    Args:
        driver: what keeps the layers.
        address: the plugin's name, for ``/run/docker/plugins/NAME.sock``, or an absolute path.
        group: who besides root may call it: a group's name or number.

    Raises:
        InUseError: another process listens there.
        UnsupportedError: the path or the group will not do.
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
        driver: what keeps the layers.
        name: the plugin's name.
        host: where to listen.
        port: likewise; 0 lets the kernel choose.
        tls: the plugin's side of TLS, from `graphdriver.plugin.tls.server_side`.
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
        serve(driver, listener)
