"""What a call writes to the database: one transaction, with what was done behind earlier calls."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from graphdriver.abilities import Usage
from graphdriver.containerd.metadata import Metadata
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.driver import ProtoDriver
from graphdriver.drivers.erofs.driver import ErofsDriver
from graphdriver.drivers.overlay.overlay2 import Overlay2Driver
from graphdriver.drivers.vfs.driver import VfsDriver
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root


@pytest.mark.parametrize("driver", [VfsDriver, Overlay2Driver, ErofsDriver])
def test_each_call_is_one_transaction(folder: Path, driver: Callable[[], ProtoDriver]) -> None:
    with contextlib.closing(Snapshots(driver(), str(folder / "root"))) as snapshots:
        snapshots.prepare("a", "", {})  # reserves the numbers of a hundred
        snapshots.commit("A", "a", {})
        wait_until(lambda: snapshots.stat("A").usage)
        statements: list[str] = []
        snapshots._metadata._database._connection.set_trace_callback(statements.append)

        def transactions_of(call: Callable[[], object]) -> int:
            statements.clear()
            call()
            wait_until(lambda: all(one.usage for one in snapshots.find(["kind==committed"])))
            return sum(one.startswith("COMMIT") for one in statements)

        for call in (
            lambda: snapshots.prepare("b", "A", {}),
            lambda: snapshots.commit("B", "b", {}),
            lambda: snapshots.view("v", "B", {}),
            lambda: snapshots.update("B", {"new": "label"}),
            lambda: snapshots.remove("v"),
            lambda: snapshots.remove("B"),
        ):
            assert transactions_of(call) == 1
        assert transactions_of(lambda: snapshots.usage("A")) == 0


def test_what_was_counted_is_written_with_the_next_call(folder: Path) -> None:
    with contextlib.closing(Snapshots(VfsDriver(), str(folder / "root"))) as snapshots:
        snapshots.prepare("a", "", {})
        snapshots.commit("A", "a", {})
        wait_until(lambda: snapshots.stat("A").usage)
        read = snapshots._metadata._database.read
        assert read("SELECT size FROM snapshots") == [(None,)]
        snapshots.prepare("b", "A", {})
        (counted,) = read("SELECT size FROM snapshots WHERE key = 'A'")
        assert counted == (snapshots.usage("A").size,)


def test_what_was_counted_outlives_an_orderly_end(folder: Path) -> None:
    path = str(folder / "root/.graphdriver/snapshots.db")
    with contextlib.closing(Snapshots(VfsDriver(), str(folder / "root"))) as snapshots:
        snapshots.prepare("a", "", {})
        snapshots.commit("A", "a", {})
        wait_until(lambda: snapshots.stat("A").usage)
        counted = snapshots.stat("A").usage
    with contextlib.closing(Metadata(path, ["1"])) as metadata:
        assert metadata.stat("A").usage == counted != Usage(0, 0)
