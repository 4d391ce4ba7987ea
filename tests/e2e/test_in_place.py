"""A daemon on erofs whose layers are in a shared store, too: their tars are left there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.shared.layers import SharedLayers
from graphdriver.shared.leases import is_lease
from tests.e2e.engines import Engines
from tests.support.command import graphdriver
from tests.support.containerd_images import ten_layers
from tests.support.daemon import Daemon
from tests.support.plugin_process import Plugin
from tests.support.shared_store import store_with
from tests.support.waiting import wait_until

LAYERS = ten_layers(50)


@pytest.fixture
def shared(tmp_path: Path) -> SharedLayers:
    return store_with(tmp_path, LAYERS)


@pytest.fixture
def on_store(engines: Engines, shared: SharedLayers) -> Iterator[tuple[Daemon, Plugin]]:
    options = ["--shared", shared.store.address, "--in-place"]
    with engines.on_plugin("erofs", options=options) as (daemon, plugin):
        yield daemon, plugin


def home_of(daemon: Daemon, plugin: Plugin) -> Path:
    return daemon.root / plugin.name


def in_place(home: Path) -> list[Path]:
    return [one.parent for one in home.glob("*/layer.place")]


def stored(home: Path) -> int:
    """Return how many bytes the files of the layers' tars and indexes have."""
    return sum(one.stat().st_size for one in home.glob("*/layer.erofs"))


@pytest.mark.reaches("ApplyDiff", "Get", "Put", "Cleanup")
def test_what_is_loaded_is_left_in_the_store_and_runs_from_there(
    on_store: tuple[Daemon, Plugin], shared: SharedLayers, tmp_path: Path
) -> None:
    daemon, plugin = on_store
    name = "ten:1"
    daemon.docker("load", "--input", str(tmp_path / "image.tar"))
    home = home_of(daemon, plugin)
    wait_until(lambda: len(in_place(home)) == len(LAYERS))
    wait_until(lambda: stored(home) < sum(map(len, LAYERS)) / 2)
    assert daemon.run(name, "/bin/busybox", "cat", "/srv/again") == "another"
    saved = tmp_path / "saved.tar"
    daemon.docker("save", "--output", str(saved), name)
    assert saved.stat().st_size > sum(map(len, LAYERS))
    shown = daemon.docker("info")
    assert f"Layers in Place: {len(LAYERS)} in {shared.store.address}" in shown
    assert graphdriver("fsck", str(home)).returncode == 0
    # The next plugin and the next daemon find the layers again.
    daemon.stop()
    plugin.stop()
    plugin.start()
    daemon.start()
    assert daemon.run(name, "/bin/busybox", "cat", "/srv/again") == "another"


@pytest.mark.reaches("ApplyDiff", "Get")
def test_what_the_store_does_not_have_stays_in_the_home(
    on_store: tuple[Daemon, Plugin], shared: SharedLayers, tmp_path: Path
) -> None:
    daemon, plugin = on_store
    for one in list(shared.store.stored()):
        shared.store.remove(one.key)
    daemon.docker("load", "--input", str(tmp_path / "image.tar"))
    assert daemon.run("ten:1", "/bin/busybox", "cat", "/srv/again") == "another"
    assert in_place(home_of(daemon, plugin)) == []


@pytest.mark.reaches("ApplyDiff", "Get")
def test_another_tar_in_the_store_is_not_taken(
    on_store: tuple[Daemon, Plugin], shared: SharedLayers, tmp_path: Path
) -> None:
    daemon, plugin = on_store
    for path in Path(shared.store.address).rglob("*.erofs"):
        content = bytearray(path.read_bytes())
        content[4096 + 512] ^= 1  # in the first file, or in the second header
        path.write_bytes(content)
    daemon.docker("load", "--input", str(tmp_path / "image.tar"))
    wait_until(lambda: plugin.log.read_text().count("stays in the home") == len(LAYERS))
    assert in_place(home_of(daemon, plugin)) == []
    assert daemon.run("ten:1", "/bin/busybox", "cat", "/srv/again") == "another"


@pytest.mark.long
@pytest.mark.reaches("ApplyDiff")
def test_a_store_that_comes_later_is_used_then(
    engines: Engines, shared: SharedLayers, tmp_path: Path
) -> None:
    place = Path(shared.store.address)
    place.rename(tmp_path / "away")
    options = ["--shared", str(place), "--in-place"]
    with engines.on_plugin("erofs", options=options) as (daemon, plugin):
        daemon.docker("load", "--input", str(tmp_path / "image.tar"))
        assert daemon.run("ten:1", "/bin/busybox", "cat", "/srv/again") == "another"
        assert in_place(home_of(daemon, plugin)) == []
        (tmp_path / "away").rename(place)
        wait_until(lambda: len(in_place(home_of(daemon, plugin))) == len(LAYERS))
        assert daemon.run("ten:1", "/bin/busybox", "cat", "/srv/again") == "another"


@pytest.mark.long
@pytest.mark.reaches("ApplyDiff", "Remove")
def test_leases_go_with_the_image(
    on_store: tuple[Daemon, Plugin], shared: SharedLayers, tmp_path: Path
) -> None:
    daemon, plugin = on_store
    daemon.docker("load", "--input", str(tmp_path / "image.tar"))
    wait_until(lambda: len(in_place(home_of(daemon, plugin))) == len(LAYERS))
    assert leases_in(shared)
    daemon.docker("rmi", "ten:1")
    wait_until(lambda: not leases_in(shared))


def leases_in(shared: SharedLayers) -> list[str]:
    return [one.key for one in shared.store.stored() if is_lease(one.key)]
