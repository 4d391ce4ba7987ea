"""Callers over TCP, whose process cannot be told."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Client, Handler, Server, TCPListener
from graphdriver.errors import RemoteError
from tests.support.tarbox import TarBox


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A plugin that remembers in ``folder`` what was said to it; yields its address."""
    handler = Handler(TarBox(), state_dir=str(folder / "state"))
    listener = TCPListener("127.0.0.1", 0)
    with Server(handler, [listener]) as server:
        handler.resume()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield listener.address
        server.stop()
        thread.join()


def init(address: str, home: Path) -> None:
    with Client(address, timeout=60) as daemon:
        daemon.init(str(home), [], [], [])


def refused(address: str, home: Path, other: Path) -> None:
    said = f"this plugin serves {home} for a daemon whose process is unknown.*{other}.*Cleanup"
    with pytest.raises(RemoteError, match=said):
        init(address, other)


def test_a_second_daemon_with_another_home_is_refused_as_long_as_the_first_may_live(
    tmp_path: Path,
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with served(tmp_path) as address:
        init(address, one)
        refused(address, one, two)
        init(address, one)  # the same daemon, started again
        refused(address, one, two)
    with served(tmp_path) as address:  # the plugin, started again
        refused(address, one, two)
        with Client(address, timeout=60) as daemon:
            assert not daemon.exists("a")
            daemon.cleanup()
        init(address, two)
        refused(address, two, one)
