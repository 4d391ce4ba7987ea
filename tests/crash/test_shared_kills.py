"""Kills with -9 just before each call by which a layer gets into a store, out of it, or is removed.

After a kill while it was committed, the next start publishes it. After one while it was published, the
store has each of its objects whole or not at all, and publishing again completes them. After one while
it was fetched, the next pull has all layers, with their content, and nothing is left when its snapshots
are removed. After one while layers were removed from it, all others are there, and the same command
removes the rest.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.containerd import publishing
from graphdriver.containerd.metadata import SnapshotKind
from graphdriver.containerd.shared_layers import REF, SharedSnapshots
from graphdriver.driver import mounted
from graphdriver.drivers.loading import make
from graphdriver.errors import LayerExistsError
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.keys import Link
from graphdriver.shared.layers import SharedLayers
from tests.crash import strace
from tests.crash.sharer import BEGUN
from tests.crash.test_kills import chosen, ground
from tests.support import inspection
from tests.support.shared_store import image_of, links_of, store_with
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(3600)]

LAYERS = [
    tars.tar(tars.directory(b"./"), tars.directory(b"d"), tars.file(b"d/one", b"one")),
    tars.tar(tars.file(b"d/two", b"two")),  # its index depends on the layer below
]
LINKS = links_of(LAYERS)
TAR_AT = 4096
FIVE = [*LAYERS, *(tars.tar(tars.file(b"%d" % number, b"content")) for number in range(3))]


@pytest.fixture
def full(tmp_path: Path) -> SharedLayers:
    """A store with all layers."""
    return store_with(tmp_path, LAYERS)


def objects(store: Path) -> dict[str, bytes]:
    """Return the objects of a store; uploads are none."""
    files = (one for one in store.rglob("*") if one.is_file())
    found = {str(one.relative_to(store)): one.read_bytes() for one in files}
    return {name: content for name, content in found.items() if not name.startswith(".new/")}


def run(first: Sequence[str], *words: str | Path) -> int:
    """Run the program, perhaps by another one; return how it ended."""
    command = [*first, sys.executable, "-m", "tests.crash.sharer", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -9, 137), done.stderr
    return done.returncode


def points(place: Path, *words: str | Path) -> list[strace.Call]:
    """Return the calls of the program that change something; of those alike, the gate takes two."""
    trace = strace.Trace()
    with tempfile.TemporaryDirectory() as folder:
        assert run(strace.start_traced(folder), *words) == 0
        trace.read(folder, place)
    calls = trace.calls[min(trace.calls)]
    (begun,) = (at for at, call in enumerate(calls) if BEGUN in call.line)
    return chosen(calls[begun + 1 :], lambda call: call.name)


@contextlib.contextmanager
def place_in(folder: Path) -> Iterator[Path]:
    """Make a new directory; nothing is mounted below it afterwards."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        yield Path(name)
        assert not inspection.mounted(Path(name))


def test_a_kill_while_a_layer_is_published_leaves_each_object_whole_or_absent(
    full: SharedLayers, tmp_path: Path
) -> None:
    source = full.store.address
    with place_in(tmp_path) as place:
        (place / "store").mkdir()
        calls = points(place, "publish", f"{place}/store", source)
    assert {call.name for call in calls} >= {"fsync", "linkat", "unlinkat", "write"}
    for call in calls:
        with place_in(tmp_path) as place:
            store = place / "store"
            store.mkdir()
            words = ("publish", str(store), source)
            assert run(strace.killed_at(call), *words), f"not reached: {call}"
            left = objects(store)
            assert left.items() <= objects(Path(source)).items(), str(call)
            (place / BEGUN).rmdir()
            assert run([], *words) == 0
            assert objects(store) == objects(Path(source)), str(call)


@pytest.fixture
def five(tmp_path: Path) -> SharedLayers:
    """A store with five layers."""
    return store_with(tmp_path, FIVE)


def layer_files(shared: SharedLayers, link: Link) -> list[Path]:
    """Return the image of a layer, its record and its headers."""
    return [image_of(shared, link).with_suffix(end) for end in (".erofs", ".json", ".headers")]


def without(all_of: dict[str, bytes], store: str, files: Iterable[Path]) -> dict[str, bytes]:
    gone = {str(one.relative_to(store)) for one in files}
    return {name: content for name, content in all_of.items() if name not in gone}


def test_a_kill_while_damaged_layers_are_removed_leaves_nothing_damaged_unseen(
    five: SharedLayers, tmp_path: Path
) -> None:
    whole, damaged = tmp_path / "whole", five.store.address
    shutil.copytree(damaged, whole)
    links = links_of(FIVE)[2:]
    for link, file in zip(links, range(3), strict=True):  # an image, a record, headers
        path = layer_files(five, link)[file]
        content = bytearray(path.read_bytes())
        content[TAR_AT if file == 0 else 40] ^= 1
        path.write_bytes(content)
    sound = without(objects(whole), damaged, (f for one in links for f in layer_files(five, one)))
    with place_in(tmp_path) as place:
        calls = points(place, "verify", shutil.copytree(damaged, place / "store"))
        assert objects(place / "store") == sound
    assert {call.name for call in calls} >= {"unlinkat", "renameat"}
    for call in calls:
        with place_in(tmp_path) as place:
            store = shutil.copytree(damaged, place / "store")
            assert run(strace.killed_at(call), "verify", store), f"not reached: {call}"
            assert sound.items() <= objects(store).items(), str(call)
            (place / BEGUN).rmdir()
            assert run([], "verify", store) == 0
            left = objects(store)
            assert sound.items() <= left.items(), str(call)
            (place / BEGUN).rmdir()
            assert run([], "publish", str(store), str(whole)) == 0
            assert objects(store).items() >= objects(whole).items(), str(call)


def test_a_kill_while_unused_layers_are_removed_loses_none_that_is_used(
    five: SharedLayers, tmp_path: Path
) -> None:
    whole, source = objects(Path(five.store.address)), five.store.address
    late, *unused = links_of(FIVE)[2:]
    for link in (late, *unused):
        for path in layer_files(five, link):
            os.utime(path, (0, 0))
    image = str(image_of(five, late).relative_to(source))
    kept = without(whole, source, (f for one in unused for f in layer_files(five, one)))
    with place_in(tmp_path) as place:
        calls = points(place, "gc", shutil.copytree(source, place / "store"), image)
        assert without_leases(place / "store") == kept
    assert {call.name for call in calls} >= {"unlinkat", "renameat", "linkat"}
    for call in calls:
        with place_in(tmp_path) as place:
            store = shutil.copytree(source, place / "store")
            assert run(strace.killed_at(call), "gc", store, image), f"not reached: {call}"
            left = objects(store)
            assert kept[image] in (left.get(image), left.get(f"{image}.removed")), str(call)
            assert kept.keys() - left.keys() <= {image}, str(call)
            (place / BEGUN).rmdir()
            assert run([], "gc", store, image) == 0
            assert without_leases(store) == kept, str(call)


def without_leases(store: Path) -> dict[str, bytes]:
    return {name: content for name, content in objects(store).items() if "leases/" not in name}


@pytest.mark.parametrize("driver", ["overlay2", "erofs"])
def test_a_kill_while_a_layer_is_fetched_stops_no_later_pull(
    driver: str, full: SharedLayers
) -> None:
    ids = [link.chain_id for link in LINKS]
    with ground(driver) as folder:
        for _ in range(2):  # in the first run other calls come before: it makes what others find
            with place_in(folder) as place:
                root = place / "root"
                calls = points(place, "fetch", full.store.address, str(root), driver, *ids)
                remove_all(root, full, driver)
        assert {call.name for call in calls} >= {"mkdir", "write", "fsync"}
        reached = 0
        for call in calls:
            with place_in(folder) as place:
                root = place / "root"
                words = ("fetch", full.store.address, str(root), driver, *ids)
                reached += run(strace.killed_at(call), *words) != 0
                expect_pulled(root, full, driver)
                remove_all(root, full, driver)
        assert reached > len(calls) * 0.8  # a start looks at what else runs on this machine


def test_a_kill_while_a_layer_is_committed_forgets_none_that_waits_to_be_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publishing, "QUIET", 0.0)
    (link,) = links_of(LAYERS[:1])
    outcomes = set()
    with ground("erofs") as folder:
        (folder / "tar").write_bytes(LAYERS[0])
        for _ in range(2):  # in the first run other calls come before: it makes what others find
            with place_in(folder) as place:
                calls = points(place, *commit_in(place, folder, link))
        assert {call.name for call in calls} >= {
            "mkdir",
            "openat",
            "syncfs",
            "pwrite64",
            "fdatasync",
        }
        for call in calls:
            with place_in(folder) as place:
                words = commit_in(place, folder, link)
                run(strace.killed_at(call), *words)
                outcomes.add(published_later(place, link))
    assert outcomes == {False, True}


def commit_in(place: Path, folder: Path, link: Link) -> list[str]:
    """Return the words of a commit where the store is away."""
    (place / "store").mkdir()
    return ["commit", f"{place}/store", f"{place}/root", f"{folder}/tar", link.chain_id]


def published_later(place: Path, link: Link) -> bool:
    """Start the node again, with the store; return whether it had committed the layer.

    If it had, the layer is published.
    """
    store = place / "store"
    (store / "chains").mkdir()
    shared = SharedLayers(DirectoryStore(str(store)))
    snapshots = SharedSnapshots(make("erofs"), f"{place}/root", shared=shared, publishes=True)
    with contextlib.closing(snapshots):
        found = snapshots.find([])
        is_committed = any(one.kind is SnapshotKind.COMMITTED for one in found)
        if is_committed:
            wait_until(lambda: shared.is_there(link))
        noted = place / "root/.graphdriver/unpublished"
        wait_until(lambda: not noted.exists() or not os.listdir(noted))
        assert is_committed or not objects(store)
        for one in found:
            snapshots.remove(one.key)
    return is_committed


def expect_pulled(root: Path, full: SharedLayers, driver: str) -> None:
    """Pull, and see that all came from the store and is right."""
    with node(root, full, driver) as snapshots:
        below = ""
        for number, link in enumerate(LINKS):
            with pytest.raises(LayerExistsError):
                snapshots.prepare(f"default/{number + 10}/extract", below, {REF: link.chain_id})
            (one,) = snapshots.find([f'labels."{REF}"=={link.chain_id},parent=="{below}"'])
            below = one.key
        with mounted(snapshots.served.driver, one.layer) as tree:
            assert (Path(tree) / "d/one").read_text() == "one"
            assert (Path(tree) / "d/two").read_text() == "two"


def remove_all(root: Path, full: SharedLayers, driver: str) -> None:
    """Remove all snapshots as a garbage collection does; see that nothing is left."""
    with node(root, full, driver) as snapshots:
        while found := snapshots.find([]):
            parents = {one.parent for one in found}
            for one in found:
                if one.key not in parents:
                    snapshots.remove(one.key)
        snapshots.cleanup()
    assert not [one for one in root.iterdir() if one.name.isdecimal()]


@contextlib.contextmanager
def node(root: Path, full: SharedLayers, driver: str) -> Iterator[SharedSnapshots]:
    """Serve the snapshots of a root in this process."""
    shared = SharedLayers(DirectoryStore(full.store.address))
    snapshots = SharedSnapshots(make(driver), str(root), ["sync=none"], shared=shared, wait=60)
    with contextlib.closing(snapshots):
        yield snapshots
