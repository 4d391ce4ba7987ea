"""A pull that leaves layers in a shared store and reads them there: with a lease, and a proof later.

The calls are those of containerd's unpacker with remote snapshots, as in `test_shared_layers`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from graphdriver.containerd.metadata import Snapshot
from graphdriver.containerd.shared_layers import REF, SharedSnapshots
from graphdriver.drivers.loading import make
from graphdriver.errors import LayerDamagedError, LayerExistsError, UnsupportedError
from graphdriver.in_place import TarInPlace
from graphdriver.layer.erofs.tar_headers import compressed, headers_of
from graphdriver.shared import in_place as node_of_a_store
from graphdriver.shared import leases
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.keys import link_key
from graphdriver.shared.layers import SharedLayers
from tests.support.containerd_images import ten_layers
from tests.support.leftovers import mounts_below
from tests.support.shared_store import image_of, links_of, store_with
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

LAYERS = ten_layers(50)
LINKS = links_of(LAYERS)


@pytest.fixture
def shared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SharedLayers:
    monkeypatch.setattr(node_of_a_store, "QUIET", 0.01)
    return store_with(folder, LAYERS)


@contextlib.contextmanager
def node(folder: Path, shared: SharedLayers, wait: float = 20) -> Iterator[SharedSnapshots]:
    """Serve a node's snapshots."""
    root = folder / "root"
    snapshots = SharedSnapshots(
        make("erofs"), str(root), ["sync=none"], shared=shared, wait=wait, in_place=True
    )
    with contextlib.closing(snapshots):
        yield snapshots
    for point in mounts_below(root):
        subprocess.run(["umount", "--lazy", point], check=True)


def pulled(snapshots: SharedSnapshots, count: int = len(LINKS)) -> int:
    """Pull layers as containerd does; return how many came from the store before the first miss."""
    parent = ""
    for number, link in enumerate(LINKS[:count]):
        try:
            snapshots.prepare(
                f"default/{number}/extract {link.chain_id}", parent, {REF: link.chain_id}
            )
        except LayerExistsError:
            parent = found(snapshots, number).key
        else:
            return number
    return count


def found(snapshots: SharedSnapshots, number: int) -> Snapshot:
    (one,) = snapshots.find([f'labels."{REF}"=={LINKS[number].chain_id}'])
    return snapshots.stat(one.key)


def in_place(snapshots: SharedSnapshots) -> list[TarInPlace]:
    keeper = snapshots._in_place
    assert keeper
    return list(keeper.driver.tars_in_place())


def shown(snapshots: SharedSnapshots, number: int, name: str) -> bytes:
    layer, driver = found(snapshots, number).layer, snapshots.served.driver
    try:
        return Path(driver.get(layer, ""), name).read_bytes()
    finally:
        driver.put(layer)


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def unmount_images(snapshots: SharedSnapshots) -> None:
    driver = snapshots.served.driver
    driver._layers._images.unmount_unused(driver._layers._store.layers())  # type: ignore[attr-defined]


def test_layers_stay_in_the_store_and_are_proved(folder: Path, shared: SharedLayers) -> None:
    with node(folder, shared) as snapshots:
        assert pulled(snapshots) == len(LAYERS)
        assert len(in_place(snapshots)) == len(LAYERS)
        assert shown(snapshots, len(LAYERS) - 1, "many/0/7") == b"7"
        assert shown(snapshots, len(LAYERS) - 1, "srv/again") == b"another"
        wait_until(lambda: all(one.is_proved for one in in_place(snapshots)))


class Wakes:
    """An event that is set so many times, at times of a clock of its own."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.now = 0.0

    def wait(self, seconds: float) -> bool:
        self.times -= 1
        self.now += 6.0 if self.times >= 0 else seconds
        return self.times >= 0

    def clear(self) -> None:
        pass


@pytest.mark.parametrize(("made", "begins"), [(0, 10.0), (5, 40.0), (1000, 300.0)])
def test_a_proof_waits_until_the_node_is_quiet_but_not_for_ever(
    made: int, begins: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: Any = SimpleNamespace(address="")
    keeper = node_of_a_store.InPlace(nothing, nothing, lambda: None, lambda *_: None)
    wakes = Wakes(made)
    keeper._wake = wakes  # type: ignore[assignment]
    monkeypatch.setattr(node_of_a_store, "time", SimpleNamespace(monotonic=lambda: wakes.now))
    keeper._wait_until_quiet()
    assert wakes.now == begins


def test_a_node_has_one_name_however_many_pulls_begin_at_once(
    folder: Path, shared: SharedLayers
) -> None:
    with node(folder, shared) as snapshots:
        keeper = snapshots._in_place
        assert keeper
        for _ in range(20):
            (folder / "root" / ".graphdriver" / "node").unlink(missing_ok=True)
            with ThreadPoolExecutor(4) as pool:
                names = [pool.submit(keeper._node) for _ in range(4)]
            assert len({one.result() for one in names}) == 1


@pytest.mark.parametrize("name", ["", "../../elsewhere", "a b", "n" * 200])
def test_a_name_that_was_damaged_is_replaced(folder: Path, shared: SharedLayers, name: str) -> None:
    with node(folder, shared) as snapshots:
        keeper = snapshots._in_place
        assert keeper
        (folder / "root" / ".graphdriver" / "node").write_text(name)
        made = keeper._node()
        assert made not in ("", name)
        assert keeper._node() == made
        pulled(snapshots, 1)
        assert have_lease(shared, 0) == [made]


def test_leases_and_proofs_go_on_after_what_nobody_expects(
    folder: Path, shared: SharedLayers, caplog: pytest.LogCaptureFixture
) -> None:
    look, failed = node_of_a_store.InPlace.look_after_all, threading.Event()

    def fail_once(keeper: node_of_a_store.InPlace) -> None:
        if not failed.is_set():
            failed.set()
            raise KeyError("unexpected")
        look(keeper)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(node_of_a_store.InPlace, "look_after_all", fail_once)
        with node(folder, shared) as snapshots:
            assert failed.wait(60)
            pulled(snapshots, 1)
            wait_until(lambda: all(one.is_proved for one in in_place(snapshots)))
    assert "unexpected" in caplog.text


def test_each_layer_in_place_has_a_lease(folder: Path, shared: SharedLayers) -> None:
    with node(folder, shared) as snapshots:
        pulled(snapshots)
    for one in shared.store.stored():
        os.utime(Path(shared.store.address, one.key), (0, 0))
    with node(folder, shared) as snapshots:  # the leases are renewed at once
        wait_until(lambda: all(have_lease(shared, number) for number in range(len(LAYERS))))
        assert snapshots.find([])
    left = {one.key for one in shared.unused(86_400.0)}
    assert not [one for one in left if one.endswith(".erofs")]


def have_lease(shared: SharedLayers, number: int) -> list[str]:
    """Return the nodes that have a lease for a layer."""
    assert shared.store.in_place
    key = image_of(shared, LINKS[number]).relative_to(shared.store.address)
    return leases.nodes(shared.store.in_place, str(key))


def test_a_node_needs_to_write_nothing_but_leases(
    folder: Path, shared: SharedLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch = DirectoryStore.touch

    def of_leases(store: DirectoryStore, key: str) -> None:
        if not leases.is_lease(key):
            raise PermissionError(errno.EPERM, "not the owner", key)
        touch(store, key)

    monkeypatch.setattr(DirectoryStore, "touch", of_leases)
    with node(folder, shared) as snapshots:
        assert pulled(snapshots, 2) == 2
        assert len(in_place(snapshots)) == 2


def test_without_a_lease_a_layer_is_fetched(
    folder: Path, shared: SharedLayers, caplog: pytest.LogCaptureFixture
) -> None:
    (Path(shared.store.address) / "leases").write_text("in the way")
    with node(folder, shared) as snapshots:
        assert pulled(snapshots) == len(LAYERS)
        assert in_place(snapshots) == []
        assert shown(snapshots, 0, "bin/busybox")
    assert "is not read in place" in caplog.text


def test_what_the_store_lacks_is_an_ordinary_pull(folder: Path, shared: SharedLayers) -> None:
    Path(shared.store.address, link_key(LINKS[2].chain_id)).unlink()
    with node(folder, shared) as snapshots:
        assert pulled(snapshots) == 2


def test_a_layer_that_is_cut_off_is_an_ordinary_pull(folder: Path, shared: SharedLayers) -> None:
    path = image_of(shared, LINKS[1])
    os.truncate(path, path.stat().st_size // 2)
    with node(folder, shared) as snapshots:
        assert pulled(snapshots) == 1
        assert len(in_place(snapshots)) == 1
        layers = [name for name in os.listdir(folder / "root") if name.isdecimal()]
        assert len(layers) == 2  # the layer in place, and the ordinary pull's


def test_a_forged_index_is_never_mounted(folder: Path, shared: SharedLayers) -> None:
    path = image_of(shared, LINKS[0])
    content = path.read_bytes()
    end = 4096 + len(LAYERS[0])
    path.write_bytes(b"\0" * 4096 + content[4096:end] + b"\xff" * (len(content) - end))
    with node(folder, shared) as snapshots:
        assert pulled(snapshots, 1) == 1
        assert len(in_place(snapshots)) == 1
        assert shown(snapshots, 0, "bin/busybox")


def test_a_flipped_bit_ends_the_use_of_the_layer_and_names_the_snapshots(
    folder: Path,
    shared: SharedLayers,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flip(image_of(shared, LINKS[0]), 4096 + len(LAYERS[0]) // 2)  # in a file's content
    with node(folder, shared) as snapshots:
        with monkeypatch.context() as patched:
            patched.setattr(snapshots._in_place, "prove_soon", lambda: None)
            assert pulled(snapshots, 2) == 2
        snapshots._in_place.prove_soon()  # type: ignore[union-attr]
        wait_until(lambda: any(one.wrong for one in in_place(snapshots)))
        wait_until(lambda: "a layer that is read in place is wrong" in caplog.text)
        for number in (0, 1):
            assert repr(found(snapshots, number).key) in caplog.text
            with pytest.raises(LayerDamagedError, match="its tar in a store is wrong"):
                snapshots.prepare(f"default/{number}/container", found(snapshots, number).key, {})
        keys = [found(snapshots, number).key for number in (1, 0)]
        for key in keys:
            snapshots.remove(key)
        assert in_place(snapshots) == []


def headers_file(shared: SharedLayers, number: int) -> Path:
    return image_of(shared, LINKS[number]).with_suffix(".headers")


def mode_of_busybox(snapshots: SharedSnapshots) -> int:
    layer, driver = found(snapshots, 0).layer, snapshots.served.driver
    try:
        return Path(driver.get(layer, ""), "bin/busybox").stat().st_mode & 0o7777
    finally:
        driver.put(layer)


def test_the_headers_are_those_beside_the_image_and_the_tar_is_not_read(
    folder: Path, shared: SharedLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = image_of(shared, LINKS[0]).read_bytes()
    image_of(shared, LINKS[0]).write_bytes(content[:4096] + bytes(1024) + content[4096 + 1024 :])
    with node(folder, shared) as snapshots:
        monkeypatch.setattr(snapshots._in_place, "prove_soon", lambda: None)
        assert pulled(snapshots, 1) == 1
        assert len(in_place(snapshots)) == 1
        assert mode_of_busybox(snapshots) == 0o755


def test_forged_headers_of_a_right_tar_end_the_use_of_the_layer(
    folder: Path, shared: SharedLayers, caplog: pytest.LogCaptureFixture
) -> None:
    # The sum of the digits stays, and with it the checksum of each header.
    forged = headers_of(io.BytesIO(LAYERS[0].replace(b"0000755", b"0000575")), size=len(LAYERS[0]))
    assert forged
    headers_file(shared, 0).write_bytes(compressed(forged))
    with node(folder, shared) as snapshots:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(snapshots._in_place, "prove_soon", lambda: None)
            assert pulled(snapshots, 2) == 2
            assert mode_of_busybox(snapshots) == 0o575
        snapshots._in_place.prove_soon()  # type: ignore[union-attr]
        wait_until(lambda: "a layer that is read in place is wrong" in caplog.text)
        assert "has a tar with other headers than those in the store" in caplog.text
        for number in (0, 1):
            assert repr(found(snapshots, number).key) in caplog.text
            with pytest.raises(LayerDamagedError, match="its tar in a store is wrong"):
                snapshots.prepare(f"default/{number}/container", found(snapshots, number).key, {})


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_without_headers_beside_the_image_they_are_read_from_the_tar(
    content: bytes | None, folder: Path, shared: SharedLayers, caplog: pytest.LogCaptureFixture
) -> None:
    headers_file(shared, 0).unlink()
    if content:
        headers_file(shared, 0).write_bytes(content)
    with node(folder, shared) as snapshots:
        assert pulled(snapshots, 1) == 1
        assert [one.headers for one in in_place(snapshots)] == [""]
        assert mode_of_busybox(snapshots) == 0o755
        wait_until(lambda: all(one.is_proved for one in in_place(snapshots)))
    assert ("is not used" in caplog.text) == bool(content)


def test_forged_headers_that_no_image_holds_are_no_layer_in_place(
    folder: Path, shared: SharedLayers
) -> None:
    tar = LAYERS[0]
    forged = headers_of(io.BytesIO(tar), len(tar))
    assert forged
    headers_file(shared, 0).write_bytes(compressed(forged.replace(b"0000755", b"0000777")))
    with node(folder, shared) as snapshots:
        assert pulled(snapshots, 1) == 1  # it is fetched
        assert in_place(snapshots) == []
        assert mode_of_busybox(snapshots) == 0o755


def test_the_next_process_finds_its_layers_and_proves_the_rest(
    folder: Path, shared: SharedLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(node_of_a_store.InPlace, "look_after_all", lambda _: None)
        with node(folder, shared) as snapshots:
            pulled(snapshots)
            assert not any(one.is_proved for one in in_place(snapshots))
            unmount_images(snapshots)
    with node(folder, shared) as snapshots:
        assert shown(snapshots, len(LAYERS) - 1, "many/0/7") == b"7"
        wait_until(lambda: all(one.is_proved for one in in_place(snapshots)))


def test_without_the_store_its_layers_say_so_and_others_go_on(
    folder: Path, shared: SharedLayers
) -> None:
    place = Path(shared.store.address)
    with node(folder, shared) as snapshots:
        pulled(snapshots)
        wait_until(lambda: all(one.is_proved for one in in_place(snapshots)))
        snapshots.prepare("default/1/own", "", {})
        snapshots.commit("default/1/other", "default/1/own", {})
        unmount_images(snapshots)
    place.rename(folder / "away")
    place.mkdir()  # the directory that the store is mounted on
    with node(folder, SharedLayers(DirectoryStore(str(place)))) as snapshots:
        with pytest.raises(LayerDamagedError, match=f"in the store {place}.*mount the store"):
            snapshots.prepare("default/2/container", found(snapshots, 9).key, {})
        assert snapshots.prepare("default/3/container", "default/1/other", {})
        assert not any(one.wrong for one in in_place(snapshots))
        place.rmdir()
        (folder / "away").rename(place)
        assert snapshots.prepare("default/4/container", found(snapshots, 9).key, {})


def test_a_store_that_does_not_answer_is_an_ordinary_pull_after_the_wait(
    folder: Path, shared: SharedLayers, caplog: pytest.LogCaptureFixture
) -> None:
    is_over = threading.Event()

    class Slow(DirectoryStore):
        def open(self, key: str) -> int:
            is_over.wait(60)
            return super().open(key)

    with node(folder, SharedLayers(Slow(shared.store.address)), wait=0.1) as snapshots:
        assert pulled(snapshots) == 0
    is_over.set()
    wait_until(lambda: not any(one.name == "shared" for one in threading.enumerate()))
    assert caplog.text.count("no answer in 0.1 s") == 1  # it is not asked a second time


def test_a_driver_that_cannot_do_it_is_refused(folder: Path, shared: SharedLayers) -> None:
    with pytest.raises(UnsupportedError, match="the driver overlay2 cannot do that"):
        SharedSnapshots(make("overlay2"), str(folder / "root"), shared=shared, in_place=True)
