"""A store that is away: a node starts without it, pulls as usual, and uses it when it is there.

For each kind of store, the ways in which it is away.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver.containerd import publishing
from graphdriver.containerd.shared_layers import SharedSnapshots
from graphdriver.drivers.loading import make
from graphdriver.shared import availability
from graphdriver.shared.keys import Link
from graphdriver.shared.layers import SharedLayers
from graphdriver.shared.opening import open_store
from graphdriver.shared.waiting import MOST_ABANDONED
from tests.containerd.test_shared_layers import LAYERS, LINKS, files, pulled
from tests.support.leftovers import mounts_below
from tests.support.registry import registry
from tests.support.seaweedfs import seaweedfs_s3
from tests.support.shared_store import store_with
from tests.support.snapshotter import Snapshotter
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

FEW = LAYERS[:3]
WEED = "127.77.0.2"
USERS = "user:$2b$05$Y.ZOp2NSoBqtRzZjlIlkgObpzVKm72.WRpdSIQ.fwhpXZgidCrCK2"
"""The password is "right"."""


@contextlib.contextmanager
def node(folder: Path, address: str, **options: bool) -> Iterator[SharedSnapshots]:
    """Serve a node's snapshots; each time in a root of its own."""
    root = next(one for n in itertools.count() if not (one := folder / f"root{n}").exists())
    shared = SharedLayers(open_store(address))
    snapshots = SharedSnapshots(
        make("erofs"), str(root), ["sync=none"], shared=shared, wait=20, **options
    )
    with contextlib.closing(snapshots):
        yield snapshots
    for point in mounts_below(root):
        subprocess.run(["umount", "--lazy", point], check=True)


def expect_used_when_it_is_back(
    snapshots: SharedSnapshots, come_back: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    """Pull three times without the store, and once with it."""
    wait_until(lambda: "is away" in caplog.text)  # before anybody asked for a layer
    for number in range(3):
        assert pulled(snapshots, LINKS[:3]) == 0
        snapshots.remove(f"default/0/extract {LINKS[0].chain_id}")
        assert caplog.text.count("is away, and layers are pulled as usual") == 1, number
    come_back()
    snapshots._availability._silent_until = 0.0
    assert pulled(snapshots, LINKS[:3]) == 3
    assert files(snapshots, LINKS[2])
    assert caplog.text.count(f"the store {snapshots._shared.store.address} is back") == 1
    assert "is not taken from the store" not in caplog.text


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("is_mount_point", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_directory_that_is_not_mounted_yet(
    in_place: bool, is_mount_point: bool, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    place = Path(store_with(folder, FEW).store.address)
    place.rename(folder / "away")
    if is_mount_point:
        place.mkdir()

    def come_back() -> None:
        if is_mount_point:
            assert os.listdir(place) == []
            place.rmdir()
        (folder / "away").rename(place)

    with node(folder, str(place), in_place=in_place) as snapshots:
        expect_used_when_it_is_back(snapshots, come_back, caplog)
        if snapshots._in_place:
            assert len(list(snapshots._in_place.driver.tars_in_place())) == 3


def test_a_registry_that_refuses_connections(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    with registry(folder) as host:
        store_with(folder, FEW, f"oci+http://{host}/layers").store.close()
        with socket.socket() as port, contextlib.ExitStack() as held:
            port.bind(("127.0.0.1", 0))
            gate = Gate(port, host)
            with node(folder, f"oci+http://127.0.0.1:{gate.port}/layers") as snapshots:
                expect_used_when_it_is_back(
                    snapshots, lambda: held.enter_context(gate.opened()), caplog
                )


def test_a_registry_that_refuses_these_credentials(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    config = folder / "config.json"
    with registry(folder, users=USERS) as host:

        def log_in(password: str) -> None:
            entry = {"username": "user", "password": password}
            config.write_text(json.dumps({"auths": {host: entry}}))

        log_in("right")
        store_with(folder, FEW, f"oci+http://{host}/layers").store.close()
        log_in("wrong")
        with node(folder, f"oci+http://{host}/layers") as snapshots:
            expect_used_when_it_is_back(snapshots, lambda: log_in("right"), caplog)
    assert "401" in caplog.text
    assert "wrong" not in caplog.text


def test_credentials_that_are_damaged(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    (folder / "config.json").write_text("{")
    with (
        registry(folder, users=USERS) as host,
        node(folder, f"oci+http://{host}/layers") as snapshots,
    ):
        wait_until(lambda: "are damaged" in caplog.text)
        assert pulled(snapshots, LINKS[:3]) == 0
        assert caplog.text.count("is away") == 1


def test_a_name_that_nobody_knows(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with node(folder, "oci://registry.invalid/layers") as snapshots:
        wait_until(lambda: "is away" in caplog.text)
        assert pulled(snapshots, LINKS[:1]) == 0


def test_a_bucket_whose_server_refuses_connections(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port.getsockname()[1]}")
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "access")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-key")
        with node(folder, "s3://layers/site") as snapshots:
            wait_until(lambda: "is away" in caplog.text)
            assert pulled(snapshots, LINKS[:1]) == 0
    assert "secret-key" not in caplog.text


@pytest.mark.long
def test_a_bucket_that_comes_back(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    with seaweedfs_s3(folder, WEED, "layers") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        store_with(folder, FEW, "s3://layers/site").store.close()
        with socket.socket() as port, contextlib.ExitStack() as held:
            port.bind(("127.0.0.1", 0))
            gate = Gate(port, environment["AWS_ENDPOINT_URL"].removeprefix("http://"))
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{gate.port}")
            with node(folder, "s3://layers/site") as snapshots:
                expect_used_when_it_is_back(
                    snapshots, lambda: held.enter_context(gate.opened()), caplog
                )


def test_a_store_that_lets_pulls_wait_is_left_alone_for_a_while(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    is_over = threading.Event()

    def hang(_: SharedLayers, chain_id: str) -> Link | None:
        asked.append(chain_id)
        is_over.wait(60)
        return None

    monkeypatch.setattr(availability, "PAUSE", 600.0)
    shared = store_with(folder, FEW)
    with node(folder, shared.store.address) as snapshots:
        snapshots._wait = 0.1
        with monkeypatch.context() as patch:
            patch.setattr(SharedLayers, "link_of", hang)
            for _ in range(5):
                assert pulled(snapshots, LINKS[:1]) == 0
                snapshots.remove(f"default/0/extract {LINKS[0].chain_id}")
                wait_until(lambda: asked == [LINKS[0].chain_id])
            assert caplog.text.count("no answer in 0.1 s") == 1
            assert snapshots._availability._silent_until > time.monotonic()
            for _ in range(2 * MOST_ABANDONED):
                snapshots._availability._silent_until = 0.0
                assert pulled(snapshots, LINKS[:1]) == 0
                snapshots.remove(f"default/0/extract {LINKS[0].chain_id}")
        wait_until(lambda: len(asked) == MOST_ABANDONED)
        is_over.set()
        wait_until(lambda: not any(one.name == "shared" for one in threading.enumerate()))
        assert caplog.text.count("no answer") == 1
        snapshots._availability._silent_until = 0.0
        snapshots._wait = 20
        assert pulled(snapshots, LINKS[:3]) == 3


def test_what_waits_for_the_store_is_published_when_it_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(availability, "AGAIN", 0.05)
    monkeypatch.setattr(publishing, "QUIET", 0.0)
    full = store_with(folder, FEW)
    place = folder / "other"
    place.mkdir()
    with (
        node(folder, full.store.address) as source,
        contextlib.closing(open_store(str(place))) as store,
    ):
        shared = SharedLayers(store)
        assert pulled(source, LINKS[:3]) == 3
        away = availability.Availability(store)
        publisher = publishing.Publisher(source.served, shared, away)
        below = ""
        for link in LINKS[:3]:
            (one,) = source.find([f'labels."containerd.io/snapshot.ref"=={link.chain_id}'])
            publisher.publish(one.layer, below, link.chain_id)
            below = link.chain_id
        wait_until(lambda: away._is_away)
        assert os.listdir(place) == []
        (place / "chains").mkdir()
        wait_until(lambda: all(shared.is_there(link) for link in LINKS[:3]))
        publisher.close()


def test_what_nobody_expected_of_a_store_ends_no_publishing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(publishing, "QUIET", 0.0)
    full = store_with(folder, FEW)
    (folder / "other/chains").mkdir(parents=True)
    link_of = SharedLayers.link_of

    def fails_once(shared: SharedLayers, chain_id: str) -> Link | None:
        if chain_id == LINKS[0].chain_id:
            raise RuntimeError("nobody expected this")
        return link_of(shared, chain_id)

    with (
        node(folder, full.store.address) as source,
        contextlib.closing(open_store(str(folder / "other"))) as store,
    ):
        assert pulled(source, LINKS[:2]) == 2
        shared = SharedLayers(store)
        monkeypatch.setattr(SharedLayers, "link_of", fails_once)
        publisher = publishing.Publisher(source.served, shared, availability.Availability(store))
        below = ""
        for link in LINKS[:2]:
            (one,) = source.find([f'labels."containerd.io/snapshot.ref"=={link.chain_id}'])
            publisher.publish(one.layer, below, link.chain_id)
            below = link.chain_id
        wait_until(lambda: shared.is_there(LINKS[1]))
        publisher.close()
    assert "nobody expected this" in caplog.text


def test_a_snapshotter_starts_without_its_store(folder: Path) -> None:
    options = ["--shared", str(folder / "store"), "--in-place", "--publish"]
    with Snapshotter(folder, "erofs", *options) as one:
        wait_until(lambda: "is away" in one.log.read_text())
        assert one.calls.prepare("default/1/own", "")
        assert "Traceback" not in one.log.read_text()
    for point in mounts_below(one.root):
        subprocess.run(["umount", "--lazy", point], check=True)


class Gate:
    """A port that refuses connections until it leads to a server.

    Args:
        port: bound, and not listening.
        server: its address and port.
    """

    def __init__(self, port: socket.socket, server: str) -> None:
        self._socket = port
        self._server = server
        self.port = port.getsockname()[1]

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        self._socket.listen()
        threading.Thread(target=self._run, daemon=True).start()
        try:
            yield
        finally:
            self._socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._lead, args=(near,), daemon=True).start()

    def _lead(self, near: socket.socket) -> None:
        host, _, port = self._server.rpartition(":")
        with near, socket.create_connection((host, int(port))) as far:
            back = threading.Thread(target=_copy, args=(far, near))
            back.start()
            _copy(near, far)
            back.join()


def _copy(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := one.recv(1 << 16):
            other.sendall(piece)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)
