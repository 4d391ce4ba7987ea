"""What the snapshotter's tests stand on: a driver, a root on tmpfs, a process that serves both."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.snapshotter.calls import Calls
from tests.support.ground import require
from tests.support.snapshotter import DRIVERS, Snapshotter, on_driver


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name on tmpfs."""
    require(os.geteuid() == 0, "mounts and owners need root")
    with tempfile.TemporaryDirectory(prefix="gds-", dir="/dev/shm") as path:
        yield Path(path)


@pytest.fixture(params=DRIVERS)
def snapshotter(request: pytest.FixtureRequest, folder: Path) -> Iterator[Snapshotter]:
    """A snapshotter that runs, over each driver; on a filesystem of its own where that needs one."""
    with on_driver(request.param, folder) as one:
        yield one


@pytest.fixture
def calls(snapshotter: Snapshotter) -> Calls:
    return snapshotter.calls
