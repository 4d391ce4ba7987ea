"""Our own snapshotter passes the kit on every driver."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.pytest_plugin import SnapshotCheck
from graphdriver.conformance.snapshotter.subject import SocketSubject
from tests.conformance.snapshotter.starting import started
from tests.support.filesystems import loop

pytestmark = pytest.mark.root

DRIVERS = ("vfs", "overlay2", "btrfs", "fuse-overlayfs")


@pytest.fixture(scope="module", params=DRIVERS)
def snapshotter(request: pytest.FixtureRequest) -> Iterator[SocketSubject]:
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-")))
        place = folder
        if request.param == "btrfs":
            place = held.enter_context(loop("btrfs", folder))
        words = ["-m", "graphdriver", "snapshotter", request.param, "--root", str(place / "root")]
        yield held.enter_context(started([*words, "--address", "{socket}"], folder, place / "root"))


@pytest.mark.conformance(strict=True)
def test_our_snapshotter_conforms(snapshot_case: SnapshotCheck, snapshotter: SocketSubject) -> None:
    snapshot_case(snapshotter)
