"""An uncompressed layer on the same filesystem is shared with containerd, and never changed."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.blobs.formats import TAR
from graphdriver.conformance.plugin import tars
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.layers import SharedLayers
from tests.containerd.test_diff_service import Diffs
from tests.support.command import graphdriver
from tests.support.containerd import Containerd
from tests.support.filesystems import loop, sync
from tests.support.leftovers import mounts_below
from tests.support.mounting import mounted
from tests.support.shared_store import links_of, store_with
from tests.support.snapshotter import Snapshotter
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

LAYER = tars.tar(
    tars.directory(b"d"),
    *(tars.file(b"d/%d" % number, os.urandom(20_000), mtime=number) for number in range(1000)),
)
NOT_HELD = tars.tar(tars.file(b"name", b"content")).replace(b"content\0", b"content!")
"""Behind the content is something else than zeros, which an image would show: it is unpacked."""

UNEVEN = LAYER + b"\0" * 100


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """An ext4 with everything of containerd and of the snapshotter."""
    with loop("ext4", folder, 256 << 20) as place:
        yield place


@pytest.fixture
def snapshotter(disk: Path) -> Iterator[Snapshotter]:
    with Snapshotter(disk, "erofs") as one:
        yield one
    for point in mounts_below(disk):
        subprocess.run(["umount", "--lazy", point], check=True)


@pytest.fixture
def diffs(snapshotter: Snapshotter, disk: Path) -> Iterator[Diffs]:
    with Containerd(disk, snapshotter.address).running() as containerd:
        yield Diffs(snapshotter, containerd)


def blob_of(disk: Path, digest: str) -> Path:
    return disk / "root/io.containerd.content.v1.content/blobs/sha256" / digest[7:]


def used(disk: Path) -> int:
    """Return how many bytes of a filesystem are in use."""
    sync(disk)
    facts = os.statvfs(disk)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


def applied(diffs: Diffs, snapshotter: Snapshotter, layer: bytes) -> str:
    """Apply and commit a layer; return the blob's digest."""
    digest = diffs.ingest(layer)
    mounts = snapshotter.calls.prepare("default/1/one")
    diffs.apply(digest, mounts).result()
    snapshotter.calls.commit("default/2/one", "default/1/one")
    return digest


def test_a_shared_layer_takes_at_most_a_twentieth_of_its_size(
    diffs: Diffs, snapshotter: Snapshotter, disk: Path
) -> None:
    digest = diffs.ingest(LAYER)
    before = used(disk)
    diffs.apply(digest, snapshotter.calls.prepare("default/1/one")).result()
    snapshotter.calls.commit("default/2/one", "default/1/one")
    assert used(disk) - before <= len(LAYER) * 0.05


def test_a_shared_blob_is_never_changed(
    diffs: Diffs, snapshotter: Snapshotter, disk: Path, folder: Path
) -> None:
    calls = snapshotter.calls
    digest = applied(diffs, snapshotter, LAYER)
    blob = blob_of(disk, digest)
    facts = os.stat(blob)
    assert os.path.samestat(facts, os.stat(snapshotter.root / "1/layer.tar"))
    with mounted(calls.prepare("default/3/above", "default/2/one"), folder / "shown") as root:
        (root / "d/7").write_bytes(b"changed")
        (root / "d/8").unlink()
    snapshotter.kill()
    snapshotter.start()
    calls = snapshotter.calls
    with mounted(calls.view("default/4/look", "default/2/one"), folder / "look") as root:
        assert len(os.listdir(root / "d")) == 1000
        assert os.stat(root / "d/7").st_mtime == 7
    assert diffs.diff([], calls.mounts("default/4/look"), TAR).digest == digest
    for key in ("default/3/above", "default/4/look", "default/2/one"):
        calls.remove(key)
    calls.cleanup()
    after = os.stat(blob)
    assert after.st_nlink == facts.st_nlink - 1
    assert (after.st_mode, after.st_mtime_ns) == (facts.st_mode, facts.st_mtime_ns)
    assert f"sha256:{hashlib.sha256(blob.read_bytes()).hexdigest()}" == digest


def test_a_layer_outlives_the_blob_that_it_is_shared_with(
    diffs: Diffs, snapshotter: Snapshotter, disk: Path, folder: Path
) -> None:
    blob_of(disk, applied(diffs, snapshotter, LAYER)).unlink()
    with mounted(snapshotter.calls.view("default/3/l", "default/2/one"), folder / "look") as root:
        assert sum(path.stat().st_size for path in (root / "d").iterdir()) == 20_000_000


def test_a_shared_layer_that_gets_its_parent_later_has_its_index_written_again(
    diffs: Diffs, snapshotter: Snapshotter, disk: Path, folder: Path
) -> None:
    calls = snapshotter.calls
    applied(diffs, snapshotter, tars.tar(tars.directory(b"d", mode=0o1777)))
    digest = diffs.ingest(tars.tar(tars.file(b"d/new", b"new")))  # what is d? that is below
    diffs.apply(digest, calls.prepare("default/3/two")).result()
    calls.commit("default/4/two", "default/3/two", "default/2/one")
    look = calls.view("default/5/look", "default/4/two")
    with mounted(look, folder / "look") as root:
        assert os.stat(root / "d").st_mode & 0o7777 == 0o1777
        assert (root / "d/new").read_bytes() == b"new"
    assert os.path.samefile(blob_of(disk, digest), snapshotter.root / "2/layer.tar")
    assert f"sha256:{hashlib.sha256(blob_of(disk, digest).read_bytes()).hexdigest()}" == digest


@pytest.mark.long
@pytest.mark.parametrize("layer", [NOT_HELD, UNEVEN], ids=["not held", "uneven"])
def test_a_layer_that_is_no_image_with_its_blob_is_the_same_layer(
    diffs: Diffs, snapshotter: Snapshotter, folder: Path, layer: bytes
) -> None:
    digest = applied(diffs, snapshotter, layer)
    look = snapshotter.calls.view("default/3/look", "default/2/one")
    with mounted(look, folder / "look") as root:
        assert len([path for path in root.rglob("*") if path.is_file()]) in (1, 1000)
    assert diffs.diff([], look, TAR).digest == digest


def test_the_loss_of_a_shared_tar_is_found(
    diffs: Diffs, snapshotter: Snapshotter, capfd: pytest.CaptureFixture[str]
) -> None:
    applied(diffs, snapshotter, LAYER)
    snapshotter.kill()
    (snapshotter.root / "1/layer.tar").unlink()
    done = graphdriver("fsck", str(snapshotter.root))
    assert done.returncode
    assert b"layer.tar" in done.stdout
    snapshotter.start()


@pytest.mark.long
def test_a_blob_on_another_filesystem_is_stored(folder: Path, disk: Path) -> None:
    with (
        Snapshotter(folder, "erofs", root=disk / "snapshots") as snapshotter,
        Containerd(folder, snapshotter.address).running() as containerd,
    ):
        applied(Diffs(snapshotter, containerd), snapshotter, LAYER)
        assert not (snapshotter.root / "1/layer.tar").exists()
        look = snapshotter.calls.view("default/3/look", "default/2/one")
        with mounted(look, folder / "look") as root:
            assert len(os.listdir(root / "d")) == 1000
    for point in mounts_below(disk):
        subprocess.run(["umount", "--lazy", point], check=True)


def test_such_a_layer_is_published_as_an_image_in_one_file(disk: Path, folder: Path) -> None:
    first = tars.tar(tars.directory(b"d", mode=0o1777), tars.file(b"d/one", b"one"))
    second = tars.tar(tars.file(b"d/two", b"two"), tars.hard_link(b"d/again", b"d/one"))
    store = folder / "store"
    (store / "chains").mkdir(parents=True)
    with (
        Snapshotter(disk, "erofs", "--shared", str(store), "--publish") as snapshotter,
        Containerd(disk, snapshotter.address).running() as containerd,
    ):
        diffs, calls = Diffs(snapshotter, containerd), snapshotter.calls
        shared = SharedLayers(DirectoryStore(str(store)))
        parent = ""
        for number, (layer, link) in enumerate(
            zip((first, second), links_of([first, second]), strict=True), start=1
        ):
            mounts = calls.prepare(f"default/{number}/extract", parent)
            diffs.apply(diffs.ingest(layer), mounts).result()
            parent = f"default/{number}/{link.chain_id}"
            calls.commit(parent, f"default/{number}/extract")
            assert (snapshotter.root / f"{number}/layer.tar").exists()
            wait_until(lambda: shared.is_there(link))  # noqa: B023
        images = [one for one in shared.store.stored() if one.key.endswith(".erofs")]
        assert [shared.wrong(one) for one in images] == [None, None]
        # The same bytes as of a node that has each layer in one file.
        (folder / "other").mkdir()
        other = store_with(folder / "other", [first, second])
        for one in images:
            assert (store / one.key).read_bytes() == Path(other.store.address, one.key).read_bytes()
        assert not {name for name in os.listdir(snapshotter.root) if name.startswith("tmp")}
    for point in mounts_below(disk):
        subprocess.run(["umount", "--lazy", point], check=True)
