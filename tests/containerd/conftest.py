"""What the snapshotter's tests stand on: a driver, a root on tmpfs, a process that serves both."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.snapshotter.calls import Calls
from tests.containerd.served import Snapshotter
from tests.drivers.filesystems import loop
from tests.e2e.ground import require

DRIVERS = ("vfs", "overlay2", "btrfs", "fuse-overlayfs")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name on tmpfs."""
    require(os.geteuid() == 0, "mounts and owners need root")
    with tempfile.TemporaryDirectory(prefix="gds-", dir="/dev/shm") as path:
        yield Path(path)


@pytest.fixture(params=DRIVERS)
def snapshotter(request: pytest.FixtureRequest, folder: Path) -> Iterator[Snapshotter]:
    """A snapshotter that runs, over each driver; on a filesystem of its own where that needs one."""
    with contextlib.ExitStack() as held:
        place = folder
        if request.param == "btrfs":
            place = held.enter_context(loop("btrfs", folder))
        yield held.enter_context(Snapshotter(folder, request.param, root=place / "snapshots"))


@pytest.fixture
def calls(snapshotter: Snapshotter) -> Calls:
    return snapshotter.calls
