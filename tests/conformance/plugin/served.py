"""A plugin in this process, with a fault or none, behind a proxy: it is there at once."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from graphdriver import Client, Handler, Server, UnixListener
from graphdriver.conformance.kit.case import Need
from graphdriver.conformance.kit.scratch import scratch_directory
from graphdriver.conformance.plugin.subject import SocketSubject
from graphdriver.docker.address.discovery import Address
from graphdriver.driver import Driver, IDMap
from tests.conformance.plugin.faults.fault import Broken
from tests.conformance.plugin.faults.proxy import Proxy, ProxyServer

Planted = type[Broken | Proxy]


def parts(planted: Planted) -> tuple[type[Broken], type[Proxy]]:
    """Return the driver and the proxy, of which one has the fault."""
    return (planted, Proxy) if issubclass(planted, Broken) else (Broken, planted)


@contextlib.contextmanager
def served(planted: Planted, directory: Path) -> Iterator[ProxyServer]:
    """Serve a plugin for the length of a ``with`` block."""
    driver, proxy = parts(planted)
    path = str(directory / f"{secrets.token_hex(4)}.sock")
    handler = Handler(driver(), state_dir=f"{path}.state")
    with (
        Server(handler, [UnixListener(f"{path}.whole")]) as server,
        ProxyServer(path, f"{path}.whole", proxy) as between,
    ):
        threads = [
            threading.Thread(target=server.serve_forever),
            # It looks so often whether it is to end; half a second by default, for each fault.
            threading.Thread(target=between.serve_forever, args=[0.01]),
        ]
        for thread in threads:
            thread.start()
        try:
            yield between
        finally:
            between.shutdown()
            server.stop()
            for thread in threads:
                thread.join()


class ServedSubject(SocketSubject):
    """A plugin with a fault, which nobody can kill.

    Args:
        planted: the fault.
        directory: a directory for what the cases need, and for homes.
    """

    offers = frozenset({Need.SOCKET, Need.HOMES})

    def __init__(self, planted: Planted, directory: Path) -> None:
        self._planted = planted
        with contextlib.ExitStack() as held:
            home = held.enter_context(scratch_directory(directory, "home-"))
            plugin = held.enter_context(served(planted, directory))
            super().__init__(Address.parse(str(plugin.server_address)), directory, str(home))
            self._held = held.pop_all()

    def __exit__(self, *exc: object) -> None:
        with self._held:
            super().__exit__()

    @contextlib.contextmanager
    def another(
        self, *, maps: Sequence[IDMap] = (), options: Sequence[str] = (), home: str = ""
    ) -> Iterator[Driver]:
        with (
            scratch_directory(self._directory, "home-") as new,
            self.homes.admitted(home or str(new)),
            served(self._planted, self._directory) as plugin,
            Client(str(plugin.server_address), 60) as client,
        ):
            client.init(home or str(new), options, maps, maps)
            yield client
            client.cleanup()
