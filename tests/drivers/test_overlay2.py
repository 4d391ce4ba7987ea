from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver import Driver, IDMap, ProtoDriver
from graphdriver.drivers.overlay2 import Overlay2Driver
from graphdriver.errors import GraphDriverError
from graphdriver.plugin.client import RemoteError
from tests.drivers.served import served
from tests.drivers.suite import DriverSuite, Make


def settled(driver: ProtoDriver) -> None:
    """Wait until nothing is deleted any more, so that a filesystem can be unmounted."""
    assert isinstance(driver, Overlay2Driver)
    driver._layers._store.settle()


class TestOverlay2(DriverSuite):
    """overlay2 by itself, on each filesystem."""

    @pytest.fixture
    def make(self, place: Path) -> Iterator[Make]:
        made: list[Overlay2Driver] = []

        def make(*, maps: tuple[IDMap, ...] = ()) -> Driver:
            home = place / f"home: {len(made)}"
            home.mkdir()
            made.append(Overlay2Driver())
            made[-1].init(str(home), [], maps, maps)
            return made[-1]

        yield make
        for driver in made:
            driver.cleanup()
            settled(driver)


class TestServedOverlay2(DriverSuite):
    """The same through the whole plugin, over a socket."""

    def error_of(self, error: type[GraphDriverError]) -> type[GraphDriverError]:
        return RemoteError

    def listed(self, path: bytes) -> str:
        """JSON holds no bytes but UTF-8: each other one is told as U+FFFD."""
        return "/" + re.sub("[\ud800-\udfff]", "\ufffd", os.fsdecode(path))

    @pytest.fixture
    def make(self) -> Iterator[Make]:
        with served(Overlay2Driver, settled) as make:
            yield make
