from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.filesystems import loop
from tests.support.ground import require

DRIVERS = ("overlay2", "erofs", "fuse-overlayfs", "btrfs", "vfs")


@pytest.fixture(scope="session")
def btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with loop("btrfs", tmp_path_factory.mktemp("btrfs"), 1 << 30) as place:
        yield place


@pytest.fixture(params=DRIVERS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of one driver after another."""
    return str(request.param)


@pytest.fixture
def place(name: str, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A new directory on a filesystem that suits the driver."""
    require(os.geteuid() == 0, "mounts need root")
    above = request.getfixturevalue("btrfs") if name == "btrfs" else "/dev/shm"
    with tempfile.TemporaryDirectory(dir=above, prefix="gd-") as directory:
        yield Path(directory)
