from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Driver, IDMap, NaiveDiffDriver, ProtoDriver
from graphdriver.drivers.btrfs import BtrfsDriver
from graphdriver.errors import GraphDriverError
from graphdriver.plugin.client import RemoteError
from tests.drivers.served import served
from tests.drivers.suite import DriverSuite, Make


def settled(driver: ProtoDriver) -> None:
    """Wait until nothing is deleted any more, so that a filesystem can be unmounted."""
    assert isinstance(driver, BtrfsDriver)
    driver._store.settle()


class TestBtrfs(DriverSuite):
    """Btrfs by itself."""

    @pytest.fixture
    def make(self, btrfs: Path) -> Iterator[Make]:
        made: list[BtrfsDriver] = []

        def make(*, maps: tuple[IDMap, ...] = ()) -> Driver:
            home = tempfile.mkdtemp(prefix="home: ", dir=btrfs)
            made.append(BtrfsDriver())
            driver = NaiveDiffDriver(made[-1])
            driver.init(home, [], maps, maps)
            return driver

        yield make
        for one in made:
            settled(one)


class TestServedBtrfs(DriverSuite):
    """The same through the whole plugin, over a socket."""

    def error_of(self, error: type[GraphDriverError]) -> type[GraphDriverError]:
        return RemoteError

    def listed(self, path: bytes) -> str:
        """JSON holds no bytes but UTF-8: each other one is told as U+FFFD."""
        return "/" + re.sub("[\ud800-\udfff]", "\ufffd", os.fsdecode(path))

    @pytest.fixture
    def make(self, btrfs: Path) -> Iterator[Make]:
        with served(BtrfsDriver, settled, str(btrfs)) as make:
            yield make
