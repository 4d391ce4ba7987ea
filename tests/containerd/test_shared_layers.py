"""A pull takes from a shared store what is there, and everything else is the ordinary pull.

The calls are those of containerd's unpacker with remote snapshots: Prepare with the chain ID in a
label, List and Stat after "exists already".
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from graphdriver.containerd.metadata import Snapshot, SnapshotKind
from graphdriver.containerd.shared_layers import DIFF_ID, REF, SharedSnapshots
from graphdriver.driver import ClosableStream
from graphdriver.drivers.loading import make
from graphdriver.errors import LayerExistsError
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.keys import Link, link_key
from graphdriver.shared.layers import SharedLayers
from tests.support.containerd_images import ten_layers
from tests.support.full import PAGE, tmpfs
from tests.support.leftovers import mounts_below
from tests.support.shared_store import image_of, links_of, store_with

pytestmark = pytest.mark.root

LAYERS = ten_layers(50)
LINKS = links_of(LAYERS)


@pytest.fixture
def shared(folder: Path) -> SharedLayers:
    return store_with(folder, LAYERS)


@contextlib.contextmanager
def node(
    folder: Path, shared: SharedLayers, driver: str = "overlay2", wait: float = 20
) -> Iterator[SharedSnapshots]:
    """Serve a node's snapshots."""
    root = folder / "root"
    snapshots = SharedSnapshots(make(driver), str(root), ["sync=none"], shared=shared, wait=wait)
    with contextlib.closing(snapshots):
        yield snapshots
    for point in mounts_below(root):
        subprocess.run(["umount", "--lazy", point], check=True)


def pulled(
    snapshots: SharedSnapshots, links: Sequence[Link], *, tells_diff_ids: bool = False
) -> int:
    """Pull layers as containerd does; return how many came from the store before the first miss."""
    parent = ""
    for number, link in enumerate(links):
        labels = {REF: link.chain_id} | ({DIFF_ID: link.diff_id} if tells_diff_ids else {})
        try:
            snapshots.prepare(f"default/{number}/extract {link.chain_id}", parent, labels)
        except LayerExistsError:
            parent = found(snapshots, parent, link).key
        else:
            return number
    return len(links)


def found(snapshots: SharedSnapshots, parent: str, link: Link) -> Snapshot:
    """Return the snapshot that containerd looks for after "exists already"."""
    (one,) = snapshots.find([f'labels."{REF}"=={link.chain_id},parent=="{parent}"'])
    assert one.kind is SnapshotKind.COMMITTED
    return snapshots.stat(one.key)


def files(snapshots: SharedSnapshots, link: Link) -> dict[str, bytes]:
    """Return what a layer shows, with those below it."""
    (one,) = snapshots.find([f'labels."{REF}"=={link.chain_id}'])
    driver = snapshots.served.driver
    top = driver.get(one.layer, "")
    try:
        names = [os.path.join(at, name) for at, _, names in os.walk(top) for name in names]
        return {
            name.removeprefix(top): Path(name).read_bytes()
            for name in names
            if os.path.isfile(name) and not os.path.islink(name)
        }
    finally:
        driver.put(one.layer)


@pytest.mark.parametrize("tells_diff_ids", [False, True])
@pytest.mark.parametrize("driver", ["vfs", "overlay2", "erofs"])
def test_all_layers_come_from_the_store(
    driver: str, tells_diff_ids: bool, folder: Path, shared: SharedLayers
) -> None:
    with node(folder, shared, driver) as snapshots:
        assert pulled(snapshots, LINKS, tells_diff_ids=tells_diff_ids) == len(LAYERS)
        shown = files(snapshots, LINKS[-1])
        assert shown["/srv/again"] == b"another"
        assert "/srv/one" not in shown
        assert shown["/many/0/7"] == b"7"


def test_what_is_there_is_fetched_once(folder: Path, shared: SharedLayers) -> None:
    with node(folder, shared) as snapshots:
        pulled(snapshots, LINKS)
        layers = len(snapshots.find([]))
        subprocess.run(["rm", "-r", shared.store.address], check=True)
        assert pulled(snapshots, LINKS) == len(LAYERS)
        assert len(snapshots.find([])) == layers


def test_pulls_at_once_fetch_each_layer_once(folder: Path, shared: SharedLayers) -> None:
    with node(folder, shared) as snapshots:
        counts: list[int] = []
        threads = [
            threading.Thread(target=lambda: counts.append(pulled(snapshots, LINKS)))
            for _ in range(3)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert counts == [len(LAYERS)] * 3
        assert len(snapshots.find([])) == len(LAYERS)


def test_a_layer_upon_one_that_containerd_unpacked_comes_from_the_store(
    folder: Path, shared: SharedLayers
) -> None:
    with node(folder, shared) as snapshots:
        snapshots.prepare("default/1/extract", "", {})
        below = f"default/2/{LINKS[0].chain_id}"
        snapshots.commit(below, "default/1/extract", {})
        with pytest.raises(LayerExistsError):
            snapshots.prepare("default/3/extract", below, {REF: LINKS[1].chain_id})
        assert found(snapshots, below, LINKS[1]).parent == below


def test_a_layer_of_no_bytes_comes_from_the_store(folder: Path) -> None:
    layers = [b"", LAYERS[0]]
    with node(folder, store_with(folder, layers)) as snapshots:
        assert pulled(snapshots, links_of(layers)) == 2


def test_a_snapshot_that_a_kill_left_is_not_taken_for_the_layer(
    folder: Path, shared: SharedLayers, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise KilledError

    with node(folder, shared) as snapshots:
        with monkeypatch.context() as patched, pytest.raises(KilledError):
            patched.setattr(snapshots, "_filler", SimpleNamespace(fill=killed))
            patched.setattr(snapshots, "remove", lambda _: None)
            pulled(snapshots, LINKS[:1])
        assert [one.kind for one in snapshots.find([])] == [SnapshotKind.ACTIVE]
    with node(folder, shared) as snapshots:
        with pytest.raises(LayerExistsError):
            snapshots.prepare("default/9/extract", "", {REF: LINKS[0].chain_id})
        assert found(snapshots, "", LINKS[0]).kind is SnapshotKind.COMMITTED


def test_without_a_label_nothing_is_fetched(folder: Path, shared: SharedLayers) -> None:
    with node(folder, shared) as snapshots:
        assert snapshots.prepare("default/1/extract", "", {})
        assert len(snapshots.find([])) == 1


def missed(folder: Path, shared: SharedLayers, number: int, wait: float = 20) -> None:
    """Pull; the layer of this number is the first that is not taken, and nothing is left of it."""
    with node(folder, shared, wait=wait) as snapshots:
        assert pulled(snapshots, LINKS) == number
        kinds = [one.kind for one in snapshots.find([])]
        assert kinds.count(SnapshotKind.COMMITTED) == number
        assert kinds.count(SnapshotKind.ACTIVE) == 1  # the ordinary pull's
        layers = [name for name in os.listdir(folder / "root") if name.isdecimal()]
        assert len(layers) == number + 1


def test_a_store_without_the_layer_is_a_miss(folder: Path, shared: SharedLayers) -> None:
    Path(shared.store.address, link_key(LINKS[2].chain_id)).unlink()
    missed(folder, shared, 2)


def test_a_flipped_bit_is_a_miss(
    folder: Path, shared: SharedLayers, caplog: pytest.LogCaptureFixture
) -> None:
    path = image_of(shared, LINKS[0])
    content = bytearray(path.read_bytes())
    content[4096 + len(LAYERS[0]) // 2] ^= 1  # in a file's content
    path.write_bytes(content)
    missed(folder, shared, 0)
    assert f"not {LINKS[0].diff_id}" in caplog.text


def test_a_lying_link_is_a_miss(folder: Path, shared: SharedLayers) -> None:
    path = Path(shared.store.address, link_key(LINKS[0].chain_id))
    path.write_text(LINKS[1].text())
    missed(folder, shared, 0)


def test_a_layer_cut_off_is_a_miss(folder: Path, shared: SharedLayers) -> None:
    path = image_of(shared, LINKS[1])
    os.truncate(path, path.stat().st_size // 2)
    missed(folder, shared, 1)


def test_a_forged_index_is_never_mounted(folder: Path, shared: SharedLayers) -> None:
    path = image_of(shared, LINKS[0])
    content = path.read_bytes()
    tar_end = 4096 + len(LAYERS[0])
    path.write_bytes(b"\0" * 4096 + content[4096:tar_end] + b"\xff" * (len(content) - tar_end))
    with node(folder, shared, "erofs") as snapshots:
        assert pulled(snapshots, LINKS[:1]) == 1
        assert "/bin/busybox" in files(snapshots, LINKS[0])


class SlowStore(DirectoryStore):
    """A store that does not answer for a time."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.answers = threading.Event()

    def read(self, key: str, start: int = 0) -> ClosableStream:
        self.answers.wait(60)
        return super().read(key, start)


def test_a_store_that_does_not_answer_is_a_miss_after_the_wait(
    folder: Path, shared: SharedLayers, caplog: pytest.LogCaptureFixture
) -> None:
    slow = SlowStore(shared.store.address)
    before = time.monotonic()
    missed(folder, SharedLayers(slow), 0, wait=0.1)
    assert time.monotonic() - before < 60  # it did not wait for the store
    assert "no answer in 0.1 s" in caplog.text
    slow.answers.set()


class BrokenStore(DirectoryStore):
    """A store that fails in the middle of an image."""

    def read(self, key: str, start: int = 0) -> ClosableStream:
        if not key.endswith(".erofs"):
            return super().read(key, start)
        with contextlib.closing(super().read(key, start)) as stream:
            content = stream.read(700)

        class Broken(io.BytesIO):
            def read(self, n: int | None = -1, /) -> bytes:
                if piece := super().read(n):
                    return piece
                raise OSError(5, "the server is gone")

        return Broken(content)


def test_a_store_that_fails_in_the_middle_is_a_miss(
    folder: Path, shared: SharedLayers, caplog: pytest.LogCaptureFixture
) -> None:
    missed(folder, SharedLayers(BrokenStore(shared.store.address)), 0)
    assert "the server is gone" in caplog.text


class MadStore(DirectoryStore):
    """A store whose code fails in a way that nobody expects."""

    def __init__(self, path: str, where: str) -> None:
        super().__init__(path)
        self.where = where

    def size(self, key: str) -> int:
        if self.where == "size" and key.endswith(".erofs"):
            raise KeyError("unexpected")
        return super().size(key)

    def read(self, key: str, start: int = 0) -> ClosableStream:
        if key.endswith(".erofs"):
            return _Mad()
        return super().read(key, start)


class _Mad(io.BytesIO):
    def read(self, n: int | None = -1, /) -> bytes:
        if self.tell():
            raise KeyError("unexpected")
        self.seek(1)
        return bytes(700)


@pytest.mark.parametrize("where", ["size", "middle"])
def test_what_nobody_expects_is_a_miss(
    where: str, folder: Path, shared: SharedLayers, caplog: pytest.LogCaptureFixture
) -> None:
    missed(folder, SharedLayers(MadStore(shared.store.address, where)), 0)
    assert "unexpected" in caplog.text


@pytest.mark.parametrize("driver", ["overlay2", pytest.param("erofs", marks=pytest.mark.long)])
def test_a_node_without_room_has_no_half_layer_and_all_of_them_when_there_is_room(
    driver: str, folder: Path, shared: SharedLayers, caplog: pytest.LogCaptureFixture
) -> None:
    with tmpfs(folder / "small", 250) as place:
        with node(place, shared, driver) as snapshots:
            count = pulled(snapshots, LINKS)
            assert count < len(LINKS)
            kinds = [one.kind for one in snapshots.find([])]
            assert kinds.count(SnapshotKind.COMMITTED) == count
            for one in snapshots.find([]):
                if one.kind is SnapshotKind.ACTIVE:  # of the ordinary pull, which fails likewise
                    snapshots.remove(one.key)
        assert "is not taken from the store" in caplog.text
        assert "no space" in caplog.text.lower()
        size = f"remount,size={50_000 * PAGE}"
        subprocess.run(["mount", "-o", size, str(place)], check=True)
        with node(place, shared, driver) as snapshots:
            assert pulled(snapshots, LINKS) == len(LINKS)
            assert files(snapshots, LINKS[-1])["/srv/again"] == b"another"
