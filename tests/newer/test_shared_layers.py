"""A node whose layers come from a shared store: containerd fetches none of them from the registry."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.shared import leases
from tests.support.containerd_images import busybox
from tests.support.fuse_store import fuse_store
from tests.support.kubernetes import Node
from tests.support.leftovers import mounts_below
from tests.support.registry import push, registry
from tests.support.seaweedfs import mounted_weed, seaweedfs, seaweedfs_s3
from tests.support.shared_store import store_with
from tests.support.snapshotter import Snapshotter
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root

LAYERS = [
    busybox(),
    tars.tar(tars.directory(b"data"), tars.file(b"data/kept", b"kept"), tars.file(b"data/old")),
    tars.tar(tars.whiteout(b"data/.wh.old"), tars.file(b"data/new", b"new")),
]
SUM = ("/bin/busybox", "sha256sum", "/bin/busybox")


def sum_of_busybox() -> str:
    """Return what `SUM` prints."""
    with tarfile.open(fileobj=io.BytesIO(LAYERS[0])) as tar:
        file = tar.extractfile("bin/busybox")
        assert file
        return f"{hashlib.sha256(file.read()).hexdigest()}  /bin/busybox\n"


def fetched(folder: Path, image: str) -> set[str]:
    """Return the digests of the blobs of an image that were fetched from the registry."""
    log = (folder / "registry.log").read_text()
    return set(re.findall(rf'"GET /v2/{image}/blobs/(sha256:[0-9a-f]{{64}})', log))


@contextlib.contextmanager
def placed(kind: str, folder: Path, registry: str) -> Iterator[str]:
    """Yield the address of an empty store of a kind; ``""`` for a local directory."""
    match kind:
        case "registry":
            yield f"oci+http://{registry}/layers"
        case "s3":
            server = seaweedfs_s3(folder, "127.77.0.3", "layers")
            with server as environment, pytest.MonkeyPatch.context() as patch:
                for name, value in environment.items():
                    patch.setenv(name, value)
                yield "s3://layers"
        case "mount":
            with (
                seaweedfs(folder, "127.77.0.3") as filer,
                mounted_weed(filer, folder / "mount") as mount,
            ):
                yield str(mount)
        case _:
            yield ""


@pytest.mark.parametrize(
    ("driver", "kind", "option"),
    [
        ("overlay2", "directory", ""),
        ("erofs", "directory", ""),
        ("erofs", "directory", "--in-place"),
        ("overlay2", "registry", ""),
        pytest.param("erofs", "s3", "", marks=pytest.mark.long),
        pytest.param("erofs", "mount", "", marks=pytest.mark.long),
    ],
)
def test_a_pod_runs_with_no_byte_of_its_layers_from_the_registry(
    driver: str, kind: str, option: str, folder: Path
) -> None:
    with registry(folder) as address, placed(kind, folder, address) as place:
        sandbox = push(address, "sandbox", [busybox()], ("/bin/busybox", "sleep", "1000000"))
        web = push(address, "web", LAYERS)
        shared = store_with(folder, LAYERS, place)
        options = ["--shared", shared.store.address, *filter(None, [option])]
        snapshotter = Snapshotter(folder, driver, *options)
        with snapshotter, Node(folder, snapshotter, sandbox).running() as node:
            id = node.pull(web)
            assert fetched(folder, "web") == {id}  # the configuration
            pod = node.pod()
            container = pod.run(id, "/bin/sh", "-c", "cat /data/*; echo; sleep 1000000")
            container.expect_prints("keptnew")
            places = list(snapshotter.root.glob("*/layer.place"))
            assert len(places) == (len(LAYERS) if option else 0)
            container.remove()
            pod.remove()
            for image in (web, sandbox):
                node.remove_image(image)
            wait_until(lambda: not snapshotter.layers())
        for point in mounts_below(snapshotter.root):
            subprocess.run(["umount", "--lazy", point], check=True)


def test_a_layer_that_is_damaged_in_the_store_is_pulled(folder: Path) -> None:
    with registry(folder) as address:
        sandbox = push(address, "sandbox", [busybox()], ("/bin/busybox", "sleep", "1000000"))
        web = push(address, "web", LAYERS)
        shared = store_with(folder, LAYERS)
        damaged = hashlib.sha256(LAYERS[0]).hexdigest()
        (image,) = Path(shared.store.address).rglob(f"{damaged}.erofs")
        content = bytearray(image.read_bytes())
        content[4096 + len(LAYERS[0]) // 2] ^= 1
        image.write_bytes(content)
        snapshotter = Snapshotter(folder, "overlay2", "--shared", shared.store.address)
        with snapshotter, Node(folder, snapshotter, sandbox).running() as node:
            id = node.pull(web)
            assert len(fetched(folder, "web")) > 1
            pod = node.pod()
            container = pod.run(id, "/bin/sh", "-c", "cat /data/*; echo; sleep 1000000")
            container.expect_prints("keptnew")
            container.remove()
            pod.remove()
        assert f"not sha256:{damaged}" in snapshotter.log.read_text()


def objects(store: Path) -> set[Path]:
    """Return the files of a store that are no leases."""
    return {one for one in store.rglob("*") if one.is_file() and one.suffix != ".lease"}


GC = [sys.executable, "-m", "graphdriver", "share", "gc", "--unused-for", "0s", "--remove"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("at", "nth", "behind"),
    [
        ("open", 1, 0),  # before it is looked for
        ("open", 2, 0),  # between that and the first byte
        ("read", 1, 4096 + len(LAYERS[0]) // 2),
    ],
)
def test_layers_that_gc_removes_during_a_pull_come_from_the_registry(
    at: str, nth: int, behind: int, folder: Path
) -> None:
    backing = Path(store_with(folder, LAYERS).store.address)
    with registry(folder) as address, fuse_store(backing, folder / "mount") as store:
        sandbox = push(address, "sandbox", [busybox()], ("/bin/busybox", "sleep", "1000000"))
        web = push(address, "web", LAYERS)
        options = ["--shared", str(store.point), "--shared-wait", "60"]
        snapshotter = Snapshotter(folder, "erofs", *options)
        with snapshotter, Node(folder, snapshotter, sandbox).running() as node:
            digest = hashlib.sha256(LAYERS[0]).hexdigest()
            gc = [*GC, str(store.point)]
            store.faults(suffix=f"{digest}.erofs", at=at, nth=nth, behind=behind, run=gc)
            id = node.pull(web)
            assert len(fetched(folder, "web")) == 1 + len(LAYERS)
            assert not list(backing.rglob("*.erofs"))
            pod = node.pod()
            container = pod.run(id, "/bin/sh", "-c", "cat /data/*; echo; sleep 1000000")
            container.expect_prints("keptnew")
            assert container.inside(*SUM) == sum_of_busybox()
            container.remove()
            pod.remove()
        for point in mounts_below(snapshotter.root):
            subprocess.run(["umount", "--lazy", point], check=True)


@pytest.mark.long
def test_a_layer_that_a_container_reads_in_place_is_kept_as_long_as_its_lease(folder: Path) -> None:
    with registry(folder) as address:
        sandbox = push(address, "sandbox", [busybox()], ("/bin/busybox", "sleep", "1000000"))
        web = push(address, "web", LAYERS)
        place = Path(store_with(folder, LAYERS).store.address)
        snapshotter = Snapshotter(folder, "erofs", "--shared", str(place), "--in-place")
        gc, whole = [*GC, str(place)], objects(place)
        with snapshotter, Node(folder, snapshotter, sandbox).running() as node:
            id = node.pull(web)
            pod = node.pod()
            container = pod.run(id, "/bin/sh", "-c", "sleep 1000000")
            subprocess.run(gc, check=True)
            assert objects(place) == whole
            assert len(list(place.rglob("*.lease"))) == len(LAYERS)
            assert container.inside(*SUM) == sum_of_busybox()
            container.remove()
            pod.remove()
            snapshotter.kill()  # the node dies
        then = time.time() - leases.GRACE - 60
        for lease in place.rglob("*.lease"):
            os.utime(lease, (then, then))
        subprocess.run(gc, check=True)
        assert not [path for path in place.rglob("*") if path.is_file()]
        for point in mounts_below(snapshotter.root):
            subprocess.run(["umount", "--lazy", point], check=True)
