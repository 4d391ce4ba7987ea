from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Driver, IDMap, ProtoDriver
from graphdriver.drivers.fuse_overlayfs import FuseOverlayfsDriver
from graphdriver.errors import GraphDriverError
from graphdriver.plugin.client import RemoteError
from tests.drivers.served import served
from tests.drivers.suite import DriverSuite, Make


def settled(driver: ProtoDriver) -> None:
    """Wait until nothing is deleted any more, so that a filesystem can be unmounted."""
    assert isinstance(driver, FuseOverlayfsDriver)
    driver._layers._store.settle()


class TestFuseOverlayfs(DriverSuite):
    """fuse-overlayfs by itself, on two filesystems: each mount is a process, and takes its time."""

    deletes_all = False

    @pytest.fixture(params=["disk", "tmpfs"])
    def place(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
        if request.param == "disk":
            yield tmp_path
            return
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            yield Path(folder)

    @pytest.fixture
    def make(self, place: Path) -> Iterator[Make]:
        made: list[FuseOverlayfsDriver] = []

        def make(*, maps: tuple[IDMap, ...] = ()) -> Driver:
            home = place / f"home: {len(made)}"
            home.mkdir()
            made.append(FuseOverlayfsDriver())
            made[-1].init(str(home), [], maps, maps)
            return made[-1]

        yield make
        for driver in made:
            driver.cleanup()
            settled(driver)


class TestServedFuseOverlayfs(DriverSuite):
    """The same through the whole plugin, over a socket."""

    deletes_all = False

    def error_of(self, error: type[GraphDriverError]) -> type[GraphDriverError]:
        return RemoteError

    def listed(self, path: bytes) -> str:
        """JSON holds no bytes but UTF-8: each other one is told as U+FFFD."""
        return "/" + re.sub("[\ud800-\udfff]", "\ufffd", os.fsdecode(path))

    @pytest.fixture
    def make(self) -> Iterator[Make]:
        with served(FuseOverlayfsDriver, settled) as make:
            yield make
