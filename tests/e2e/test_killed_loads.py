"""A plugin or a daemon that is killed while it makes, fills or removes a layer."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from graphdriver.docker.client import Client
from graphdriver.driver import mounted
from graphdriver.errors import RemoteError
from tests.e2e import homes
from tests.e2e.engines import Engines
from tests.e2e.tap import Tap
from tests.support import leftovers
from tests.support.daemon import Daemon
from tests.support.images import LayerTar, digest, image_archive, read_saved
from tests.support.plugin_process import Plugin
from tests.support.waiting import wait_until

POINTS = (1, 50, 99)
"""Where a load is cut off: per cent of the layer's bytes, as the plugin has read them."""

FILES = 2000
FILE_SIZE = 16_384
BUFFER = 1 << 20
ADDED = 8192

Engine = tuple[Daemon, Plugin, Tap]


@dataclass(frozen=True)
class Image:
    """An image of one large layer.

    Attributes:
        name: its tag.
        archive: what ``docker load`` takes.
        id: the image's ID.
        diff_id: the digest of the layer's tar.
        size: the length of the layer's tar in bytes.
    """

    name: str
    archive: Path
    id: str
    diff_id: str
    size: int


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Image]:
    """An image for each of `POINTS`, of 34 MB and 2,000 files each, with nothing in common."""
    folder = tmp_path_factory.mktemp("images")
    return [make_image(folder, f"large-{percent}") for percent in POINTS]


def make_image(folder: Path, name: str) -> Image:
    tar = LayerTar()
    for number in range(FILES):
        if number % 25 == 0:
            tar.folder(f"folder-{number // 25}")
        data = hashlib.shake_128(f"{name} {number}".encode()).digest(FILE_SIZE)
        tar.add(f"folder-{number // 25}/{number}", data=data, owner=(number, 0))
    layer = tar.done()
    path = folder / f"{name}.tar"
    id = image_archive(path, name, [layer], {"Cmd": ["nothing"]})
    return Image(name, path, id, digest(layer), len(layer))


@pytest.fixture(scope="module")
def engine(engines: Engines, driver: str) -> Iterator[Engine]:
    """A daemon, and the plugin that it calls through a tap."""
    with (
        engines.plugin(driver) as plugin,
        Tap(plugin) as tap,
        engines.on_driver(tap.name, behind=driver) as daemon,
    ):
        yield daemon, plugin, tap


@contextmanager
def loads_held_up(
    daemon: Daemon, tap: Tap, images: list[Image]
) -> Iterator[tuple[list[str], list[subprocess.Popen[bytes]]]]:
    """Load all images at once, each up to its point; give the layers and the commands."""
    layers, loads = [], []
    try:
        for image, percent in zip(images, POINTS, strict=True):
            hold = tap.hold("ApplyDiff", at=image.size * percent // 100)
            loads.append(daemon.begin_docker("load", "--input", str(image.archive)))
            layers.append(hold.wait())
            # All but headers, padding, and what the plugin has read and is just about to write; and
            # what the driver adds to a tar that it stores.
            most = image.size * percent // 100
            least = most * 0.95 - BUFFER
            wait_until(lambda: homes.size_on_disk(daemon, layers[-1]) >= least)  # noqa: B023
            assert homes.size_on_disk(daemon, layers[-1]) <= most + ADDED
        yield sorted(layers), loads
    finally:
        tap.let_go()
        for load in loads:
            load.communicate()


def nothing_is_half_there(daemon: Daemon) -> None:
    """See that each layer on disk is the daemon's or marked, and that nothing else is left."""
    assert homes.unswept(daemon) == []
    there, known = {*homes.layers(daemon)}, {*homes.known(daemon)}
    assert known <= there
    assert there <= known | {*homes.unfinished(daemon)} | {*homes.being_removed(daemon)}
    assert leftovers.layers_mounted(homes.home_of(daemon)) == []


def all_load(daemon: Daemon, images: list[Image], folder: Path) -> None:
    """Load the images and see by their digests that every byte is there."""
    for image in images:
        daemon.docker("load", "--input", str(image.archive))
        daemon.docker_to_file(folder / "saved.tar", "save", image.name)
        saved = read_saved(folder / "saved.tar")
        assert saved.id == image.id
        assert saved.diff_ids == saved.found_diff_ids == [image.diff_id]
    nothing_is_half_there(daemon)


@pytest.mark.reaches("Create", "ApplyDiff", "Remove", "Get", failing=("ApplyDiff",))
def test_a_plugin_killed_in_the_middle_of_loads_leaves_no_half_layer(
    engine: Engine, images: list[Image], tmp_path: Path
) -> None:
    daemon, plugin, tap = engine
    daemon.clear()
    with loads_held_up(daemon, tap, images) as (layers, loads):
        plugin.kill()
        assert homes.unfinished(daemon) == homes.layers(daemon) == layers
        tap.cut()
        begun = plugin.mark()
        plugin.start()
        for load in loads:
            said, _ = load.communicate(timeout=120)
            assert (load.returncode, b"/GraphDriver.ApplyDiff" in said) == (1, True), said
    # Each was sent again, four times, with a body that breaks off at once. The last ones may come
    # behind their layer's Remove, on another connection.
    sent = [call for call in plugin.calls(begun) if call.method == "ApplyDiff"]
    assert all(call.status == 500 for call in sent)
    first = {call.layer: call.line for call in reversed(sent)}
    assert sorted(first) == layers
    for line in first.values():
        assert "its first transfer broke off; remove it and load again" in line
    assert daemon.docker("images", "--all", "--quiet") == ""
    assert homes.layers(daemon) == []
    nothing_is_half_there(daemon)
    all_load(daemon, images, tmp_path)


@pytest.mark.reaches("Create", "ApplyDiff", "Remove", "Get", failing=("ApplyDiff", "Get"))
def test_a_daemon_killed_in_the_middle_of_loads_leaves_no_half_layer(
    engine: Engine, images: list[Image], tmp_path: Path
) -> None:
    daemon, plugin, tap = engine
    daemon.clear()
    with loads_held_up(daemon, tap, images) as (layers, loads):
        daemon.kill()
        tap.let_go()
        for load in loads:
            load.communicate(timeout=120)
            assert load.returncode == 1
    # It could not say Remove, and knows nothing of the layers when it comes again. Their marks
    # outlive the plugin too.
    plugin.kill()
    assert homes.unfinished(daemon) == homes.layers(daemon) == layers
    plugin.start()
    daemon.start()
    assert daemon.docker("images", "--all", "--quiet") == ""
    nothing_is_half_there(daemon)
    with Client(str(plugin.socket)) as client:
        for layer in layers:
            with pytest.raises(RemoteError, match="its transfer did not finish; remove it"):
                client.get(layer, "")
        all_load(daemon, images, tmp_path)
        for layer in layers:
            client.remove(layer)
    nothing_is_half_there(daemon)
    assert homes.unfinished(daemon) == []


@pytest.mark.reaches("CreateReadWrite", "Remove", failing=("CreateReadWrite", "Get"))
def test_a_plugin_killed_while_it_makes_a_layer_leaves_no_half_layer(
    engine: Engine, images: list[Image]
) -> None:
    daemon, plugin, tap = engine
    image = images[0]
    daemon.docker("load", "--input", str(image.archive))
    hold = tap.hold("CreateReadWrite")
    making = daemon.begin_docker("create", "--name=made", image.name)
    hold.wait()
    plugin.kill()
    tap.cut()
    plugin.start()
    # The daemon sends the call again without its body, and would take a 200 for a layer.
    said, _ = making.communicate(timeout=120)
    assert making.returncode == 1
    assert b"ID is missing" in said, said
    # If the plugin was quick enough, there is a layer that nobody asked for twice; a whole one.
    with Client(str(plugin.socket)) as client:
        for layer in {*homes.layers(daemon)} - {*homes.known(daemon)}:
            with mounted(client, layer) as root:
                assert len(list(Path(root).glob("folder-*/*"))) == FILES
            client.remove(layer)
    nothing_is_half_there(daemon)
    daemon.docker("create", "--name=made", image.name)
    daemon.docker("rm", "made")
    nothing_is_half_there(daemon)


@pytest.mark.reaches("Remove")
def test_a_removed_layer_that_was_not_deleted_is_so_when_the_plugin_is_started_again(
    engine: Engine, images: list[Image], driver: str
) -> None:
    daemon, plugin, _ = engine
    daemon.clear()
    for image in images:
        daemon.docker("load", "--input", str(image.archive))
    home = homes.home_of(daemon)
    # What something is mounted on cannot be deleted: so the deletion is not over at the kill. A
    # subvolume goes whatever is mounted within it; an image is a file, beside an upper directory.
    within = {"btrfs": "root", "erofs": "diff"}.get(driver, "*/folder-7")
    (place,) = (home / homes.layers(daemon)[0]).glob(within)
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    try:
        daemon.docker("rmi", *(image.name for image in images))
        assert homes.layers(daemon) == []
        deadline = time.monotonic() + 60
        while "cannot be deleted" not in plugin.log.read_text():
            assert time.monotonic() < deadline, "all was deleted"
            time.sleep(0.02)
        plugin.kill()
    finally:
        for point in leftovers.mounts_below(home):
            subprocess.run(["umount", point], check=True)
    assert any((home / ".trash").glob(f"*/{within}"))
    plugin.start()
    nothing_is_half_there(daemon)
