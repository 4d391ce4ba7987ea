"""A plugin that listens in this process, and ways to speak to it as a daemon does."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from graphdriver import Client, Handler, Server, TCPListener, UnixListener
from graphdriver.conformance.plugin.wire import Wire
from tests.support.tarbox import TarBox


class Plugin:
    """A served driver: ``box`` is the driver, ``path`` the socket, ``home`` where Init points.

    It listens on TCP as well.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = str(folder / "p.sock")
        self.home = str(folder / "home")
        self.box = TarBox()
        self.start()

    def start(self) -> None:
        self.handler = Handler(self.box, state_dir=str(self.folder / "state"))
        tcp = TCPListener("127.0.0.1", 0)
        self.port = tcp.port
        self.server = Server(self.handler, [UnixListener(self.path), tcp])
        self.handler.resume()
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def stop(self) -> None:
        self.server.stop()
        self.thread.join()
        self.server.close()

    def restart(self) -> None:
        self.stop()
        self.box = TarBox()
        self.start()

    def client(self) -> Client:
        return Client(self.path, timeout=60)

    def wire(self, *, tcp: bool = False) -> Wire:
        return Wire(("127.0.0.1", self.port) if tcp else self.path)

    def raw(self, *pieces: bytes, until_closed: bool = True) -> bytes:
        """Send bytes as they are and return what comes back."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(60)
            connection.connect(self.path)
            for piece in pieces:
                connection.sendall(piece)
            if until_closed:
                connection.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
                if not until_closed and b"}" in answer:
                    break
            return answer


@contextlib.contextmanager
def served() -> Iterator[Plugin]:
    """Serve one that got no Init yet, for the length of a ``with`` block."""
    with tempfile.TemporaryDirectory(prefix="gd-") as folder:
        plugin = Plugin(Path(folder))
        try:
            yield plugin
        finally:
            plugin.stop()
