"""A node with --publish puts the layers that it pulled into the shared store, and nothing else."""

from __future__ import annotations

import contextlib
import gzip
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.keys import Link
from graphdriver.shared.layers import SharedLayers
from tests.containerd.test_diff_service import TAR, Diffs
from tests.containerd.test_shared_layers import node, pulled
from tests.support.command import graphdriver
from tests.support.containerd import Containerd
from tests.support.containerd_images import ten_layers
from tests.support.full import tmpfs
from tests.support.leftovers import mounts_below
from tests.support.mounting import mounted
from tests.support.shared_store import links_of
from tests.support.snapshotter import Snapshotter
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

LAYERS = ten_layers(20)
LINKS = links_of(LAYERS)


@pytest.fixture
def shared(folder: Path) -> Iterator[SharedLayers]:
    (folder / "store" / "chains").mkdir(parents=True)
    with contextlib.closing(DirectoryStore(str(folder / "store"))) as store:
        yield SharedLayers(store)


@pytest.fixture
def publisher(folder: Path, shared: SharedLayers) -> Iterator[Snapshotter]:
    with Snapshotter(folder, "erofs", "--shared", shared.store.address, "--publish") as one:
        yield one
    for point in mounts_below(one.root):
        subprocess.run(["umount", "--lazy", point], check=True)


@pytest.fixture
def diffs(folder: Path, publisher: Snapshotter) -> Iterator[Diffs]:
    with Containerd(folder, publisher.address).running() as containerd:
        yield Diffs(publisher, containerd)


def unpack(diffs: Diffs, publisher: Snapshotter, layer: bytes, parent: str, name: str) -> str:
    """Unpack a layer that came compressed, as containerd does; return its snapshot."""
    mounts = publisher.calls.prepare("default/1/extract", parent)
    diffs.apply(diffs.ingest(gzip.compress(layer)), mounts, f"{TAR}+gzip").result()
    publisher.calls.commit(f"default/2/{name}", "default/1/extract")
    return f"default/2/{name}"


def stored(shared: SharedLayers) -> list[str]:
    return [one.key for one in shared.store.stored() if one.key.endswith(".erofs")]


def test_another_node_takes_all_layers_that_one_node_pulled(
    diffs: Diffs, publisher: Snapshotter, shared: SharedLayers, folder: Path
) -> None:
    parent = ""
    for layer, link in zip(LAYERS, LINKS, strict=True):
        parent = unpack(diffs, publisher, layer, parent, link.chain_id)
    wait_until(lambda: all(shared.is_there(link) for link in LINKS))
    (folder / "other").mkdir()
    with node(folder / "other", shared) as snapshots:
        assert pulled(snapshots, LINKS) == len(LAYERS)


def test_what_a_container_wrote_is_never_published(
    diffs: Diffs, publisher: Snapshotter, shared: SharedLayers, folder: Path
) -> None:
    below = unpack(diffs, publisher, LAYERS[0], "", LINKS[0].chain_id)
    with mounted(publisher.calls.prepare("default/3/container", below), folder / "m") as root:
        (root / "secret").write_text("secret")
    for name in ("kept", LINKS[1].chain_id):  # whatever it is called
        key = f"default/4/{name}"
        publisher.calls.commit(key, "default/3/container")
        publisher.calls.prepare("default/3/container", key)
    last = unpack(diffs, publisher, LAYERS[0], "", "last")
    assert last
    wait_until(lambda: shared.is_there(LINKS[0]))
    # One after the other: once this one is there, so would be those before it.
    other = links_of([LAYERS[2]])[0]
    unpack(diffs, publisher, LAYERS[2], "", other.chain_id)
    wait_until(lambda: shared.is_there(other))
    assert len(stored(shared)) == 2


def test_a_layer_under_a_chain_id_that_is_not_its_own_is_not_published(
    diffs: Diffs, publisher: Snapshotter, shared: SharedLayers
) -> None:
    unpack(diffs, publisher, LAYERS[0], "", LINKS[1].chain_id)
    unpack(diffs, publisher, LAYERS[0], "", LINKS[0].chain_id)
    wait_until(lambda: shared.is_there(LINKS[0]))
    assert len(stored(shared)) == 1
    assert shared.link_of(LINKS[1].chain_id) is None


def test_a_store_that_takes_nothing_fails_no_pull(
    diffs: Diffs, publisher: Snapshotter, shared: SharedLayers
) -> None:
    for name in ("sha256", "chained"):
        Path(shared.store.address, name).write_text("in the way")
    assert unpack(diffs, publisher, LAYERS[0], "", LINKS[0].chain_id)
    wait_until(lambda: "was not published" in publisher.log.read_text())


@pytest.mark.long
def test_a_store_that_is_full_gets_no_half_layer_and_the_next_ones_when_there_is_room(
    folder: Path,
) -> None:
    with tmpfs(folder / "full", 30) as place:
        (place / "chains").mkdir()
        one = Snapshotter(folder, "erofs", "--shared", str(place), "--publish")
        with one, Containerd(folder, one.address).running() as containerd:
            diffs = Diffs(one, containerd)
            below = unpack(diffs, one, LAYERS[0], "", LINKS[0].chain_id)
            wait_until(lambda: "was not published: [Errno 28] No space left" in one.log.read_text())
            assert not list(place.rglob("*.erofs"))
            subprocess.run(["mount", "-o", "remount,size=64m", str(place)], check=True)
            shared = SharedLayers(DirectoryStore(str(place)))
            unpack(diffs, one, LAYERS[1], below, LINKS[1].chain_id)
            wait_until(lambda: shared.is_there(LINKS[1]))
        for point in mounts_below(one.root):
            subprocess.run(["umount", "--lazy", point], check=True)


def test_an_empty_layer_is_published_too(
    diffs: Diffs, publisher: Snapshotter, shared: SharedLayers
) -> None:
    empty = tars.tar()
    (link,) = links_of([empty])
    assert link == Link("", link.diff_id)
    unpack(diffs, publisher, empty, "", link.chain_id)
    wait_until(lambda: shared.is_there(link))


def test_publishing_needs_a_store() -> None:
    done = graphdriver("snapshotter", "vfs", "--address", "/nowhere/s.sock", "--publish")
    assert done.returncode == 2
    assert b"--publish needs --shared" in done.stderr
