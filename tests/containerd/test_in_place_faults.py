"""A store that fails under containers that read layers in place, and comes back.

The store is mounted through FUSE here; the errors are those that NFS gives, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from graphdriver.containerd.shared_layers import REF, SharedSnapshots
from graphdriver.errors import LayerDamagedError
from graphdriver.shared import in_place as node_of_a_store
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.layers import SharedLayers
from tests.containerd.test_in_place import (
    LAYERS,
    LINKS,
    found,
    in_place,
    node,
    pulled,
    unmount_images,
)
from tests.support.filesystems import unmount
from tests.support.fuse_store import FuseStore, fuse_store
from tests.support.mounting import mount
from tests.support.page_cache import forget
from tests.support.shared_store import image_of, store_with
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

BUSYBOX = "bin/busybox"


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FuseStore]:
    """A store with an image, mounted through FUSE."""
    monkeypatch.setattr(node_of_a_store, "QUIET", 0.01)
    backing = Path(store_with(folder, LAYERS).store.address)
    with fuse_store(backing, folder / "mount") as one:
        yield one


def shared_in(store: FuseStore) -> SharedLayers:
    return SharedLayers(DirectoryStore(str(store.point)))


@contextlib.contextmanager
def container(
    snapshots: SharedSnapshots, name: str, place: Path, number: int = 1
) -> Iterator[Path]:
    """Mount a new snapshot of a layer as a container's root, for the length of a ``with`` block."""
    key = f"default/9/{name}"
    (one,) = snapshots.prepare(key, found(snapshots, number).key, {})
    place.mkdir(exist_ok=True)
    mount(one.type, one.source, str(place), ",".join(one.options))
    try:
        yield place
    finally:
        unmount(place)
        snapshots.remove(key)


def forget_busybox(root: Path, store: FuseStore) -> None:
    """Drop the pages of busybox: those of the container's file, and of the store's."""
    for path in (root / BUSYBOX, image_of(shared_in(store), LINKS[0])):
        forget(path)


@contextlib.contextmanager
def not_proving(snapshots: SharedSnapshots) -> Iterator[None]:
    """Prove nothing for the length of a ``with`` block."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(snapshots._in_place, "prove_soon", lambda: None)
        yield


@pytest.mark.parametrize(
    "error",
    [
        errno.ESTALE,
        *(pytest.param(one, marks=pytest.mark.long) for one in (errno.EIO, errno.ENOTCONN)),
    ],
)
def test_a_store_that_fails_gives_errors_and_no_bytes_and_goes_on_by_itself(
    error: int, store: FuseStore, folder: Path
) -> None:
    with node(folder, shared_in(store)) as snapshots:
        assert pulled(snapshots, 2) == 2
        wait_until(lambda: all(one.is_proved for one in in_place(snapshots)))
        with container(snapshots, "c", folder / "c") as root:
            content = (root / BUSYBOX).read_bytes()
            assert content in LAYERS[0]
            store.faults(read=error)
            forget_busybox(root, store)
            with pytest.raises(OSError, match="Input/output error"):
                (root / BUSYBOX).read_bytes()
            (root / "own").write_text("a container's own files need no store")
            snapshots.prepare("default/8/own", "", {})  # the plugin goes on
            store.faults()
            assert (root / BUSYBOX).read_bytes() == content
            assert not any(one.wrong for one in in_place(snapshots))


MIDDLE = 4096 + len(LAYERS[0]) // 2


@pytest.mark.parametrize(
    ("faults", "wrong"),
    [
        ({"flip": MIDDLE}, "has the tar sha256:"),
        pytest.param({"short": True, "behind": MIDDLE}, "bytes early", marks=pytest.mark.long),
    ],
)
def test_wrong_bytes_end_the_use_of_a_layer_and_its_snapshots_are_named(
    faults: Mapping[str, Any],
    wrong: str,
    store: FuseStore,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with node(folder, shared_in(store)) as snapshots:
        with not_proving(snapshots):
            assert pulled(snapshots, 2) == 2
        with container(snapshots, "runs", folder / "c"):
            store.faults(suffix=image_of(shared_in(store), LINKS[0]).name, **faults)
            snapshots._in_place.prove_soon()  # type: ignore[union-attr]
            wait_until(lambda: "a layer that is read in place is wrong" in caplog.text)
            assert wrong in caplog.text
            for key in (found(snapshots, 0).key, found(snapshots, 1).key, "default/9/runs"):
                assert repr(key) in caplog.text
            store.faults()  # also if the store is right again
            for call in (snapshots.prepare, snapshots.view):
                with pytest.raises(LayerDamagedError, match=wrong):
                    call("default/9/more", found(snapshots, 1).key, {})
            assert snapshots.prepare("default/8/own", "", {})


@pytest.mark.long
def test_a_tar_that_cannot_be_read_is_told_and_proved_when_it_can(
    store: FuseStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with node(folder, shared_in(store)) as snapshots:
        with not_proving(snapshots):
            assert pulled(snapshots, 2) == 2
        store.faults(read=errno.EIO)
        snapshots._in_place.prove_soon()  # type: ignore[union-attr]
        wait_until(lambda: caplog.text.count("and is not proved: [Errno 5]") == 2)
        for number in (0, 1):
            assert f"of {found(snapshots, number).key!r}" in caplog.text
        assert not any(one.is_proved or one.wrong for one in in_place(snapshots))
        store.faults()
        snapshots._in_place.prove_soon()  # type: ignore[union-attr]
        wait_until(lambda: all(one.is_proved for one in in_place(snapshots)))


def test_a_tar_that_is_cut_off_after_its_proof_is_found_when_leases_are_renewed(
    store: FuseStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with node(folder, shared_in(store)) as snapshots:
        assert pulled(snapshots, 2) == 2
        wait_until(lambda: all(one.is_proved for one in in_place(snapshots)))
        os.truncate(image_of(shared_in(store), LINKS[0]), MIDDLE)
        snapshots._in_place.prove_soon()  # type: ignore[union-attr]
        wait_until(lambda: "a layer that is read in place is wrong" in caplog.text)
        assert f"has {MIDDLE} bytes" in caplog.text
        with pytest.raises(LayerDamagedError, match=f"has {MIDDLE} bytes"):
            snapshots.prepare("default/9/more", found(snapshots, 1).key, {})


@pytest.mark.long
def test_a_store_that_died_and_came_back_serves_new_containers_once_the_old_ones_ended(
    store: FuseStore, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with node(folder, shared_in(store)) as snapshots:
        assert pulled(snapshots, 2) == 2
        with container(snapshots, "old", folder / "old") as root:
            content = (root / BUSYBOX).read_bytes()
            forget_busybox(root, store)
            store.kill()
            for _ in range(2):  # also once it is mounted again
                with pytest.raises(OSError, match="Input/output error"):
                    (root / BUSYBOX).read_bytes()
                if not os.path.exists(store.point):
                    assert snapshots.prepare("default/7/pull", "", {REF: LINKS[5].chain_id})
                    subprocess.run(["umount", "--lazy", str(store.point)], check=True)
                    store.start()
        unmount_images(snapshots)  # or some seconds later, by itself
        with container(snapshots, "new", folder / "new") as root:
            assert (root / BUSYBOX).read_bytes() == content
        assert not any(one.wrong for one in in_place(snapshots))
    with node(folder, shared_in(store)) as snapshots:  # pulls see it after a restart
        assert pulled(snapshots, 3) == 3
        assert len(in_place(snapshots)) == 3
