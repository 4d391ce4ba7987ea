"""The option ``--metrics`` of the commands that serve: pages for programs that watch this process.

Nothing that makes these pages is imported without the option.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from graphdriver.cli.places import host_and_port
from graphdriver.docker.address.listeners import Listener, TCPListener, UnixListener, is_loopback
from graphdriver.errors import MalformedRequestError, UnsupportedError

if TYPE_CHECKING:
    from graphdriver.serving.served_home import ServedHome


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--metrics",
        metavar="ADDRESS",
        help="serve /metrics for Prometheus, /healthz and /readyz on HOST:PORT or unix:///PATH",
    )
    parser.add_argument(
        "--allow-remote-metrics",
        action="store_true",
        help="allow a HOST beyond loopback: whoever reaches the port can read the metrics",
    )


@contextlib.contextmanager
def watched(arguments: argparse.Namespace, served: ServedHome) -> Iterator[None]:
    """Serve the pages for the length of a ``with`` block, if the user asked for them.

    Args:
        arguments: the options of `configure`.
        served: what is watched.

    Raises:
        InUseError: another process listens at the address.
        MalformedRequestError: the options are wrong.
        UnsupportedError: prometheus-client is not installed, or the address cannot be used.
    """
    if arguments.metrics is None:
        if arguments.allow_remote_metrics:
            raise MalformedRequestError(
                "--allow-remote-metrics goes with --metrics", hint="add that, or leave this out"
            )
        yield
        return
    try:
        from graphdriver.serving.watch_pages import pages_of
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise UnsupportedError(
            "--metrics needs prometheus-client, which is not installed",
            hint="pip install 'graphdriver[metrics]'",
        ) from error

    import logging

    from graphdriver.serving.page_server import PageServer

    with (
        contextlib.closing(_listener(arguments)) as listener,
        PageServer(listener.socket, pages_of(served)),
    ):
        where = listener.address.replace("tcp://", "http://", 1)
        logging.getLogger(__name__).info("metrics on %s, at /metrics", where)
        yield


def _listener(arguments: argparse.Namespace) -> Listener:
    address: str = arguments.metrics
    if address.startswith("unix://"):
        path = address.removeprefix("unix://")
        if not path.startswith("/"):
            raise MalformedRequestError(
                f"--metrics {address} is not an absolute path", hint="write unix:///PATH"
            )
        # Whoever may enter its directory may connect, as every user of this machine may connect to
        # loopback: the pages can only be read.
        return UnixListener(path, mode=0o666)
    listener = TCPListener(*host_and_port("--metrics", address), allow_plain=True)
    reached = str(listener.socket.getsockname()[0])
    if not (arguments.allow_remote_metrics or is_loopback(reached)):
        listener.close()  # nobody was answered yet
        raise UnsupportedError(
            f"--metrics {address}: other machines can reach {reached}, and read the metrics there",
            hint="listen on 127.0.0.1, or add --allow-remote-metrics",
        )
    return listener
