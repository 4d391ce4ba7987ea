"""A driver behind the whole plugin: handler, server, socket, client."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator

from graphdriver import Client, Driver, Handler, IDMap, ProtoDriver, Server, UnixListener


@contextlib.contextmanager
def served(
    new: Callable[[], ProtoDriver], settle: Callable[[ProtoDriver], None], above: str | None = None
) -> Iterator[Callable[..., Driver]]:
    """Give what makes a driver that has taken up a new home and is called over a socket.

    Args:
        new: makes the driver that is served.
        settle: waits until it deletes nothing any more.
        above: the folder in which homes are made.
    """
    with contextlib.ExitStack() as held:

        def make(*, maps: tuple[IDMap, ...] = ()) -> Driver:
            folder = held.enter_context(tempfile.TemporaryDirectory(prefix="gd-", dir=above))
            driver = new()
            handler = Handler(driver, state_dir=os.path.join(folder, "state"))
            socket = os.path.join(folder, "p.sock")
            server = held.enter_context(Server(handler, [UnixListener(socket)]))
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            held.callback(settle, driver)
            held.callback(thread.join)
            held.callback(server.stop)
            client = held.enter_context(Client(socket, timeout=60))
            client.init(os.path.join(folder, "home"), [], maps, maps)
            held.callback(client.cleanup)
            return client

        yield make
