"""What a kill between two steps leaves, and who removes it."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from graphdriver.abilities import Usage
from graphdriver.containerd import held_gets
from graphdriver.containerd.metadata import AT_A_TIME, Metadata
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.drivers.vfs.driver import VfsDriver
from tests.support.waiting import wait_until


class Stubborn(VfsDriver):
    """A driver that cannot remove a layer, for a while."""

    refuses = ""
    error: BaseException = OSError(16, "somebody holds it")
    driver_name = "vfs"

    def put(self, id: str) -> None:
        super().put(id)
        if id == self.refuses:
            raise self.error

    def remove(self, id: str) -> None:
        if id == self.refuses:
            raise self.error
        super().remove(id)


class Unshowable(VfsDriver):
    """A driver that cannot show a layer, for a while."""

    shows = False
    driver_name = "vfs"

    def get(self, id: str, mount_label: str) -> str:
        if not self.shows:
            raise OSError(5, "nothing to show")
        return super().get(id, mount_label)


class Counting(VfsDriver):
    """A driver that counts gets, and knows its counts after a restart, but not after a boot."""

    driver_name = "vfs"
    counts: ClassVar[Counter[str]] = Counter()

    def daemon_began(self) -> None:
        raise AssertionError("no daemon sends Init to a snapshotter")

    def get(self, id: str, mount_label: str) -> str:
        self.counts[id] += 1
        return super().get(id, mount_label)

    def put(self, id: str) -> None:
        assert self.counts[id], f"{id} is put more often than it was got"
        self.counts[id] -= 1
        super().put(id)


@pytest.fixture
def counts() -> Iterator[Counter[str]]:
    Counting.counts.clear()
    yield Counting.counts
    Counting.counts.clear()


@contextlib.contextmanager
def counting(folder: Path) -> Iterator[Snapshots]:
    with contextlib.closing(Snapshots(Counting(), str(folder / "root"))) as snapshots:
        yield snapshots
        wait_until(lambda: not snapshots._metadata.uncounted())


def test_what_a_driver_counts_is_put_by_whoever_serves_when_the_snapshot_goes(
    folder: Path, counts: Counter[str]
) -> None:
    with counting(folder) as snapshots:
        snapshots.prepare("a", "", {})
        snapshots.commit("A", "a", {})
        for key in ("one", "two"):
            snapshots.view(key, "A", {})
        snapshots.prepare("b", "A", {})
    assert counts == {"1": 3, "4": 1}
    with counting(folder) as snapshots:
        for key in ("one", "two", "b"):
            snapshots.mounts(key)
        assert counts == {"1": 3, "4": 1}
        snapshots.remove("one")
        assert counts["1"] == 2
    with counting(folder) as snapshots:
        for key in ("two", "b", "A"):
            snapshots.remove(key)
    assert not counts.total()
    assert not any((folder / "root/.graphdriver/got").iterdir())


def test_what_was_got_before_a_boot_is_put_by_nobody(
    folder: Path, counts: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with counting(folder) as snapshots:
        snapshots.prepare("a", "", {})
        snapshots.commit("A", "a", {})
        for key in ("one", "two"):
            snapshots.view(key, "A", {})
    counts.clear()
    monkeypatch.setattr(held_gets, "boot_id", lambda: "the next boot")
    with counting(folder) as snapshots:
        snapshots.mounts("one")
        assert counts == {"1": 1}
        for key in ("one", "two"):
            snapshots.remove(key)
    assert not counts.total()


def test_what_was_got_for_a_snapshot_that_was_never_noted_is_put_at_the_next_start(
    folder: Path, counts: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with counting(folder) as snapshots:
        snapshots.prepare("a", "", {})
        snapshots.commit("A", "a", {})
        wait_until(lambda: snapshots.stat("A").usage)  # it is got to be counted
        monkeypatch.setattr(snapshots._metadata, "add", lambda *_: None)  # as a kill before it
        snapshots.view("lost", "A", {})
        assert counts == {"1": 2}
    with counting(folder):
        assert counts == {"1": 1}


def test_a_layer_that_was_made_for_no_snapshot_goes_at_the_next_start(folder: Path) -> None:
    driver = VfsDriver()
    snapshots = Snapshots(driver, str(folder / "root"))
    snapshots.prepare("a", "", {})
    driver.create("57", "", "", {})  # as a kill before the row is written leaves it
    snapshots.close()
    snapshots = Snapshots(VfsDriver(), str(folder / "root"))
    try:
        assert [one.key for one in snapshots.find(())] == ["a"]
        assert sorted(p.name for p in (folder / "root").iterdir() if p.name.isdecimal()) == ["1"]
    finally:
        snapshots.close()


def test_a_layer_that_outlived_its_snapshot_goes_at_the_next_start(folder: Path) -> None:
    driver = VfsDriver()
    snapshots = Snapshots(driver, str(folder / "root"))
    snapshots.prepare("a", "", {})
    for _ in range(AT_A_TIME):  # it is none of the last ones, which are looked for anyway
        snapshots._metadata.next_number()
    snapshots._metadata.remove(snapshots.stat("a"))  # and then it was killed
    assert driver.exists("1")
    snapshots.close()
    driver = VfsDriver()
    snapshots = Snapshots(driver, str(folder / "root"))
    try:
        assert not driver.exists("1")
    finally:
        snapshots.close()


@pytest.mark.parametrize("error", [Stubborn.error, SystemExit(3)], ids=repr)
def test_a_layer_that_cannot_be_removed_holds_up_nobody(
    folder: Path, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    driver = Stubborn()
    driver.error = error
    snapshots = Snapshots(driver, str(folder / "root"))
    try:
        for key in ("a", "b"):
            snapshots.prepare(key, "", {})
        driver.refuses = "1"
        for key in ("a", "b"):
            snapshots.remove(key)
        assert "the layer 1 cannot be put" in caplog.text
        assert "the layer 1 cannot be removed" in caplog.text
        assert (driver.exists("1"), driver.exists("2")) == (True, False)
        assert snapshots.cleanup() == []
        driver.refuses = ""
        with caplog.at_level(logging.INFO):
            assert snapshots.cleanup() == ["1"]
        assert "removed 1 layers that belonged to no snapshot: 1" in caplog.text
        assert snapshots.cleanup() == []
    finally:
        snapshots.close()


def test_a_number_is_never_given_twice(folder: Path) -> None:
    given: list[int] = []
    for _ in range(3):
        metadata = Metadata(str(folder / "db"))
        given += [metadata.next_number() for _ in range(AT_A_TIME + 3)]
        metadata.close()
    assert len(set(given)) == len(given)


class ExitsAtFirst(VfsDriver):
    """Ends the thread, or so it thinks, when the first layer is counted."""

    def usage(self, id: str) -> Usage:
        if id == "1":
            sys.exit(3)
        return Usage(7, 1)


def test_a_driver_that_exits_leaves_its_layer_uncounted_and_no_other(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(Snapshots(ExitsAtFirst(), str(folder / "root"))) as snapshots:
        for key in ("a", "b"):
            snapshots.prepare(key, "", {})
            snapshots.commit(key.upper(), key, {})
        wait_until(lambda: snapshots.stat("B").usage)
        assert snapshots.stat("A").usage is None
    assert caplog.messages == ["the snapshot A cannot be counted: SystemExit: 3"]


def test_what_was_committed_uncounted_is_counted_at_the_next_start(folder: Path) -> None:
    snapshots = Snapshots(VfsDriver(), str(folder / "root"))
    snapshots.prepare("a", "", {})
    snapshots._metadata.commit(snapshots.stat("a"), "one", {})  # and then it was killed
    assert snapshots.stat("one").usage is None
    snapshots.close()
    snapshots = Snapshots(VfsDriver(), str(folder / "root"))
    try:
        wait_until(lambda: snapshots.stat("one").usage)
        assert snapshots.stat("one").usage == snapshots.usage("one")
        assert snapshots.usage("one").inodes == 1
    finally:
        snapshots.close()


def test_a_prepare_that_fails_at_its_end_leaves_nothing(folder: Path) -> None:
    driver = Unshowable()
    snapshots = Snapshots(driver, str(folder / "root"))
    try:
        with pytest.raises(OSError, match="nothing to show"):
            snapshots.prepare("a", "", {})
        assert snapshots.find(()) == []
        assert not driver.exists("1")
        driver.shows = True
        snapshots.prepare("a", "", {})
    finally:
        snapshots.close()
