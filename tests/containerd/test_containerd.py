"""A real containerd keeps its images and containers on a driver."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.kit.tree import Facts, record
from graphdriver.linux.mountinfo import mount_points
from tests.support.containerd import IMAGE, Containerd, imported, shown
from tests.support.containerd_images import busybox, chain_id, ten_layers, write_image
from tests.support.long import times
from tests.support.snapshotter import Snapshotter

FILES = times(gate=4000, long=20_000)


@pytest.fixture
def containerd(folder: Path, snapshotter: Snapshotter) -> Iterator[Containerd]:
    with Containerd(folder, snapshotter.address).running() as running:
        yield running


def becomes(true: Callable[[], object]) -> None:
    """See that something becomes true: containerd collects garbage when it likes."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def differing(one: dict[bytes, Facts], other: dict[bytes, Facts]) -> set[bytes]:
    """Return the paths at which two trees are not the same."""
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}


@pytest.mark.root
def test_an_image_is_unpacked_as_containerds_own_snapshotter_does(
    containerd: Containerd, folder: Path
) -> None:
    layers = ten_layers(FILES)
    imported(containerd, folder, layers)
    containerd.ctr("image", "import", "--snapshotter", "overlayfs", str(folder / "image.tar"))
    name = chain_id(layers)
    with shown(containerd, "overlayfs", name, folder / "theirs") as root:
        theirs = record(root)
    with shown(containerd, "ours", name, folder / "ours") as root:
        ours = record(root)
    assert len(theirs) > FILES - 1100
    assert {path: (theirs.get(path), ours.get(path)) for path in differing(ours, theirs)} == {}


@pytest.mark.root
def test_containers_run_and_are_committed_and_nothing_is_left_of_them(
    containerd: Containerd, snapshotter: Snapshotter, folder: Path
) -> None:
    imported(containerd, folder, [busybox()])
    use = ("--snapshotter", "ours")
    once, stays = containerd.named("once"), containerd.named("stays")
    # Told by its exit code: ctr may lose what a container prints shortly before it ends.
    script = "echo written > /tmp/file; read -r back < /tmp/file; [ $back = written ]"
    containerd.ctr("run", "--rm", *use, IMAGE, once, "/bin/sh", "-c", script)
    containerd.ctr("run", "-d", *use, IMAGE, stays, "/bin/sh", "-c", "echo x >/new; sleep 600")
    becomes(lambda: containerd.inside(stays, "/bin/cat", "/new") == "x\n")
    assert containerd.snapshots()[stays] == "Active"
    containerd.ctr("task", "kill", "-s", "9", stays)
    becomes(lambda: "STOPPED" in containerd.ctr("task", "ls"))
    containerd.ctr("task", "rm", stays)
    containerd.ctr("snapshot", *use, "commit", "kept", stays)
    containerd.ctr("snapshot", *use, "prepare", "upon", "kept")
    assert containerd.snapshots()["kept"] == "Committed"
    for key in ("upon", "kept"):
        containerd.ctr("snapshot", *use, "rm", key)
    containerd.ctr("container", "rm", stays)
    containerd.ctr("image", "rm", "--sync", IMAGE)
    becomes(lambda: not containerd.snapshots())
    becomes(lambda: not snapshotter.layers())
    mounted = [one.point for one in mount_points() if str(snapshotter.root).encode() in one.point]
    assert mounted == []


@pytest.mark.root
def test_a_container_lives_on_when_the_snapshotter_is_killed(
    containerd: Containerd, snapshotter: Snapshotter, folder: Path
) -> None:
    imported(containerd, folder, [busybox()])
    lives = containerd.named("lives")
    loop = "n=0; while :; do n=$((n+1)); echo $n >> /tmp/log; sleep 0.05; done"
    containerd.ctr("run", "-d", "--snapshotter", "ours", IMAGE, lives, "/bin/sh", "-c", loop)

    def lines() -> list[str]:
        return containerd.inside(lives, "/bin/cat", "/tmp/log").split()

    becomes(lambda: len(lines()) > 3)
    snapshotter.kill()
    before = len(lines())
    becomes(lambda: len(lines()) > before + 3)
    snapshotter.start()
    after = lines()
    assert after == [str(number + 1) for number in range(len(after))]
    containerd.sees_the_snapshotter()
    assert containerd.snapshots()[lives] == "Active"
    containerd.ctr("task", "kill", "-s", "9", lives)
    becomes(lambda: "STOPPED" in containerd.ctr("task", "ls"))
    containerd.ctr("task", "rm", lives)
    containerd.ctr("container", "rm", lives)
    becomes(lambda: lives not in containerd.snapshots())


@pytest.mark.root
def test_an_import_during_which_the_snapshotter_is_killed_can_be_repeated(
    containerd: Containerd, snapshotter: Snapshotter, folder: Path
) -> None:
    layers = ten_layers(2000)
    write_image(folder / "image.tar", "image:latest", layers)
    words = ("image", "import", "--snapshotter", "ours", str(folder / "image.tar"))
    importing = threading.Thread(target=lambda: containerd.run(*words))
    importing.start()
    becomes(lambda: len(snapshotter.layers()) >= 2)
    snapshotter.kill()
    importing.join()
    snapshotter.start()
    containerd.sees_the_snapshotter()
    containerd.ctr(*words)
    with shown(containerd, "ours", chain_id(layers), folder / "ours") as root:
        assert (Path(root) / "srv/again").read_bytes() == b"another"
        assert not (Path(root) / "srv/one").exists()
    containerd.ctr("image", "rm", "--sync", IMAGE)
    becomes(lambda: not containerd.snapshots())
    snapshotter.calls.cleanup()
    becomes(lambda: not snapshotter.layers())
