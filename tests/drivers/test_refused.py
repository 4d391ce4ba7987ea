"""What overlays refuse, because another layer stands on it, leaves the layer as it was."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Client, Handler, Server, UnixListener
from graphdriver.drivers.loading import make
from graphdriver.errors import InUseError
from tests.drivers.every import OVERLAYS

BIG = bytes(range(256)) * (32 << 10)

pytestmark = pytest.mark.root


@contextlib.contextmanager
def served(driver: str, path: str) -> Iterator[None]:
    with Server(Handler(make(driver)), UnixListener(path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.stop()
        thread.join()


@pytest.fixture(params=OVERLAYS)
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A served driver with the layers ``low`` and, upon it, ``middle`` and ``top``."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as place:
        path = f"{place}/p.sock"
        with served(request.param, path), Client(path, timeout=60) as client:
            client.init(f"{place}/home")
            parent = ""
            for id in ("low", "middle", "top"):
                client.create(id, parent)
                (Path(client.get(id)) / id).write_bytes(BIG)
                client.put(id)
                parent = id
            yield client
            client.cleanup()


def whole(client: Client, id: str, parent: str) -> bytes:
    with client.diff(id, parent) as diff:
        return b"".join(iter(lambda: diff.read(1 << 20), b""))


@pytest.mark.parametrize(("id", "parent"), [("low", ""), ("middle", "low"), ("middle", "")])
def test_a_diff_is_whole_though_a_remove_of_its_layer_was_refused(
    client: Client, id: str, parent: str
) -> None:
    expected = whole(client, id, parent)
    with client.diff(id, parent) as diff:
        begun = diff.read(1 << 20)
        with pytest.raises(InUseError, match=r"is the parent of layer .*; remove that one first"):
            client.remove(id)
        rest = b"".join(iter(lambda: diff.read(1 << 20), b""))
    assert begun + rest == expected
    assert whole(client, id, parent) == expected
    client.remove("top")
    client.remove("middle")
    client.remove("low")
