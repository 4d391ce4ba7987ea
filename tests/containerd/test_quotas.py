"""The label ``containerd.io/snapshot/max-size``: a limit on what a container writes."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from graphdriver.containerd.snapshots import MAX_SIZE, Snapshots
from graphdriver.driver import ProtoDriver
from graphdriver.drivers.erofs.driver import ErofsDriver
from graphdriver.drivers.overlay import layers
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from tests.support.containerd import IMAGE, Containerd, imported
from tests.support.containerd_images import busybox
from tests.support.snapshotter import Snapshotter, on_driver
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root


MB = 1 << 20


@pytest.fixture
def snapshotter(folder: Path) -> Iterator[Snapshotter]:
    with on_driver("btrfs", folder) as one:
        yield one


@pytest.fixture
def containerd(folder: Path, snapshotter: Snapshotter) -> Iterator[Containerd]:
    with Containerd(folder, snapshotter.address).running() as running:
        imported(running, folder, [busybox()])
        yield running


def test_a_container_on_btrfs_cannot_write_more(
    containerd: Containerd, snapshotter: Snapshotter
) -> None:
    for count, is_fine in ((5, True), (20, False)):
        # Told by its exit code: ctr may lose what a container prints shortly before it ends.
        script = f"busybox dd if=/dev/zero of=/file bs=1M count={count} && busybox sync"
        label = f"{MAX_SIZE}=10M"
        words = ("--rm", "--snapshotter", "ours", "--snapshotter-label", label, IMAGE)
        limited = containerd.named("limited")
        done = containerd.run("run", *words, limited, "/bin/sh", "-c", f"{script} || exit 3")
        assert done.returncode == (0 if is_fine else 3), done.stderr
    assert "ignoring label" not in snapshotter.log.read_text()


def test_usage_of_a_running_container_on_btrfs_is_its_own(
    containerd: Containerd, snapshotter: Snapshotter
) -> None:
    script = "busybox dd if=/dev/zero of=/file bs=1M count=5; busybox sync; exec busybox sleep 600"
    runs = containerd.named("runs")
    words = ("-d", "--snapshotter", "ours", IMAGE, runs, "/bin/sh", "-c", script)
    containerd.ctr("run", *words)
    (key,) = (one.name for one in snapshotter.calls.list("kind==active"))
    wait_until(lambda: snapshotter.calls.usage(key).size >= 5 * MB)
    assert snapshotter.calls.usage(key).size < 5 * MB + len(busybox())
    containerd.ctr("task", "kill", "-s", "9", runs)


@pytest.mark.parametrize("driver", [Overlay2Driver, ErofsDriver])
def test_it_is_a_project_quota_on_overlays(
    driver: type[ProtoDriver], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited: list[tuple[list[str], int]] = []

    def limit(directories: Sequence[str], size: int) -> None:
        limited.append(([os.path.basename(one) for one in directories], size))

    monkeypatch.setattr(layers, "limit_tree", limit)
    with contextlib.closing(Snapshots(driver(), str(folder / "root"))) as snapshots:
        snapshots.prepare("a", "", {MAX_SIZE: "10M"})
        snapshots.commit("A", "a", {MAX_SIZE: "10M"})
        snapshots.prepare("b", "A", {MAX_SIZE: "1048576"})
        snapshots.prepare("c", "A", {})
        snapshots.view("v", "A", {MAX_SIZE: "10M"})
    assert limited == [(["diff"], 10 << 20), (["diff", "work"], 1 << 20)]


@pytest.mark.parametrize("driver", [Overlay2Driver, ErofsDriver])
def test_a_limit_that_cannot_be_set_is_an_error_and_leaves_nothing(
    driver: type[ProtoDriver], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limit(directories: Sequence[str], size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), directories[0])

    monkeypatch.setattr(layers, "limit_tree", limit)
    with contextlib.closing(Snapshots(driver(), str(folder / "root"))) as snapshots:
        with pytest.raises(OSError, match="Input/output error"):
            snapshots.prepare("a", "", {MAX_SIZE: "10M"})
        assert snapshots.find(()) == []
        assert not [name for name in os.listdir(folder / "root") if name.isdecimal()]
        snapshots.prepare("a", "", {})


def test_a_value_that_is_no_size_is_ignored_and_told_as_often_as_it_changes(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(Snapshots(Overlay2Driver(), str(folder / "root"))) as snapshots:
        for number, size in enumerate(("much", "much", "more", "")):
            snapshots.prepare(f"s{number}", "", {MAX_SIZE: size})
        assert len(snapshots.find(())) == 4
    told = [one for one in caplog.messages if f"ignoring label {MAX_SIZE}" in one]
    wanted = ["'much' is not a size", "'more' is not a size", "'' is not a size"]
    assert [one.partition(": ")[2].partition(";")[0] for one in told] == wanted
