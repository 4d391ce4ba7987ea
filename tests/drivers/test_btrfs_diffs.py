"""Diffs by what btrfs says was touched: the same as by looking at everything."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphdriver import Change, ChangeKind, NaiveDiffDriver
from graphdriver.abilities import Touched
from graphdriver.drivers.btrfs.driver import BtrfsDriver
from graphdriver.linux import btrfs as calls
from tests.drivers.layers import layer, read_diff
from tests.support.tree_work import (
    DEEDS,
    TREES,
    Work,
    grow,
    put_times_back,
    told_by_looking_at_everything,
    work,
)

Deeds = list[tuple[Work, int, int, bytes]]


class ComparesAll(BtrfsDriver):
    """The same driver without what btrfs says."""

    touched_since = None  # type: ignore[assignment]
    untouched_since = None  # type: ignore[assignment]


@pytest.fixture
def home(btrfs: Path) -> str:
    return tempfile.mkdtemp(dir=btrfs)


@pytest.fixture
def driver(home: str) -> Iterator[NaiveDiffDriver]:
    driver = BtrfsDriver()
    driver.init(home, [], [], [])
    yield NaiveDiffDriver(driver)
    driver._store.settle()


@pytest.fixture
def compares_all(home: str, driver: NaiveDiffDriver) -> NaiveDiffDriver:
    plain = NaiveDiffDriver(ComparesAll())
    plain.init(home, [], [], [])
    return plain


def root(driver: NaiveDiffDriver, id: str) -> Path:
    return Path(driver.get(id, ""))


def touched(driver: NaiveDiffDriver, id: str, parent: str) -> Touched | None:
    proto = driver.proto
    assert isinstance(proto, BtrfsDriver)
    upper, lower = (os.open(root(driver, one), os.O_RDONLY) for one in (id, parent))
    try:
        return proto.touched_since(upper, lower)
    finally:
        os.close(upper)
        os.close(lower)


def much(at: Path) -> None:
    """More than fits into one node of a tree, so that some stay as old as they are."""
    for directory in "efghijkl":
        (at / directory).mkdir()
        for file in range(20):
            (at / directory / f"{file} in a long name").write_text("much" * 50)


def test_no_work_in_a_snapshot_is_missed_and_nothing_is_made_up(
    driver: NaiveDiffDriver, compares_all: NaiveDiffDriver
) -> None:
    layer(driver, "much", "", much)

    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(tree=TREES, below=DEEDS, deeds=DEEDS, is_still=st.booleans())
    def run(tree: dict[str, object], below: Deeds, deeds: Deeds, is_still: bool) -> None:
        driver.create("a", "much", "", {})
        try:
            grow(root(driver, "a"), tree)
            driver.create("b", "a", "", {})
            for deed in deeds:
                work(root(driver, "b"), deed)
            for deed in [] if is_still else below:  # it should not be written to, but it may
                work(root(driver, "a"), deed)
            told = [f"{'CAD'[one.kind]} {one.path}" for one in driver.changes("b", "a")]
            paths = root(driver, "b"), root(driver, "a")
            assert sorted(told) == sorted(told_by_looking_at_everything(*paths))
            assert touched(driver, "b", "a") is not None
            assert read_diff(driver, "b", "a") == read_diff(compares_all, "b", "a")
            assert driver.diff_size("b", "a") == compares_all.diff_size("b", "a")
        finally:
            driver.remove("b")
            driver.remove("a")

    run()


def test_only_what_was_touched_is_looked_at(driver: NaiveDiffDriver) -> None:
    layer(driver, "a", "", much)
    driver.create("b", "a", "", {})
    empty = touched(driver, "b", "a")
    assert empty and not empty.inodes and not empty.names
    file = root(driver, "b") / "k" / "7 in a long name"
    file.chmod(0o600)
    found = touched(driver, "b", "a")
    assert found and found.inodes == {file.stat().st_ino}
    top, directory = root(driver, "b").stat(), file.parent.stat()
    assert found.names == {top.st_ino: {b"k"}, directory.st_ino: {os.fsencode(file.name)}}
    assert [change.path for change in driver.changes("b", "a")] == ["/k", f"/k/{file.name}"]


def test_another_layer_than_the_parent_is_compared_as_a_whole(driver: NaiveDiffDriver) -> None:
    layer(driver, "a", "", lambda at: (at / "one").touch())
    layer(driver, "b", "a", lambda at: (at / "two").touch())
    layer(driver, "c", "b", lambda at: (at / "three").touch())
    assert touched(driver, "c", "b") is not None
    assert touched(driver, "c", "a") is None
    assert [change.path for change in driver.changes("c", "a")] == ["/three", "/two"]
    driver.remove("a")
    layer(
        driver, "a", "", lambda at: (at / "other").touch()
    )  # of the same name, but not the parent
    assert touched(driver, "b", "a") is None
    assert [change.path for change in driver.changes("b", "a")] == ["/one", "/other", "/two"]


def without_copies(path: Path) -> None:
    """A file of which no write makes a copy, unless it is shared (chattr +C)."""
    with open(path, "xb") as file:
        fcntl.ioctl(file, 0x40086602, struct.pack("I", 0x00800000))
        file.write(b"1" * 100_000)


@contextlib.contextmanager
def mapped(path: Path, data: bytes) -> Iterator[None]:
    """Written through memory that stays mapped, and that nobody has synced."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[50_000 : 50_000 + len(data)] = data
        yield


@contextlib.contextmanager
def written(path: Path, data: bytes) -> Iterator[None]:
    """Written with the same size, and the time put back."""
    found = path.stat()
    with open(path, "r+b") as file:
        file.seek(50_000)
        file.write(data)
    put_times_back(path, found)
    yield


Way = Callable[[Path, bytes], contextlib.AbstractContextManager[None]]


@pytest.mark.parametrize("way", [mapped, written])
def test_a_file_that_is_never_copied_is_found_when_it_is_overwritten(
    driver: NaiveDiffDriver, way: Way
) -> None:
    layer(driver, "a", "", lambda at: without_copies(at / "file"))
    for id, parent in (("b", "a"), ("c", "b")):
        driver.create(id, parent, "", {})
        assert not list(driver.changes(id, parent))
        for _ in range(2):  # the first write of a shared piece makes a copy all the same
            with way(root(driver, id) / "file", id.encode()):
                expected = [Change("/file", ChangeKind.MODIFIED)]
                assert list(driver.changes(id, parent)) == expected


def test_a_file_with_more_names_than_fit_into_a_node_is_found_by_each(
    driver: NaiveDiffDriver, compares_all: NaiveDiffDriver
) -> None:
    def fill(at: Path) -> None:
        (at / "first").write_text("one")
        for directory in "ab":
            (at / directory).mkdir()
            for number in range(400):
                os.link(at / "first", at / directory / f"{number:0>200}")

    layer(driver, "a", "", fill)
    layer(driver, "b", "a", lambda at: (at / "first").write_text("two"))
    assert len(list(driver.changes("b", "a"))) == 803
    assert read_diff(driver, "b", "a") == read_diff(compares_all, "b", "a")


def test_what_was_only_read_is_not_read_again(
    driver: NaiveDiffDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer(driver, "a", "", lambda at: (at / "file").write_text("1"))
    os.utime(root(driver, "a") / "file", ns=(0, 0))
    driver.create("b", "a", "", {})
    clock = root(driver, "b") / "clock"
    clock.touch()
    while clock.stat().st_ctime_ns < (root(driver, "a") / "file").stat().st_ctime_ns + 50_000_000:
        clock.touch()
    driver.create("c", "b", "", {})
    (root(driver, "c") / "file").read_text()
    found = touched(driver, "c", "b")
    assert found and found.inodes == {(root(driver, "c") / "file").stat().st_ino}
    monkeypatch.setattr("graphdriver.layer.changes._same_file", None)
    assert not list(driver.changes("c", "b"))


def test_where_a_container_made_subvolumes_all_is_compared(driver: NaiveDiffDriver) -> None:
    layer(driver, "a", "", lambda at: (at / "file").touch())
    driver.create("b", "a", "", {})
    at = os.open(root(driver, "b"), os.O_RDONLY)
    calls.create_subvolume(at, b"inner")
    os.close(at)
    (root(driver, "b") / "inner" / "file").touch()
    assert touched(driver, "b", "a") is None
    assert [change.path for change in driver.changes("b", "a")] == ["/inner", "/inner/file"]
    driver.create("c", "b", "", {})
    assert (root(driver, "c") / "inner" / "file").exists()
    assert not list(driver.changes("c", "b"))
    (root(driver, "c") / "inner" / "file").unlink()
    assert list(driver.changes("c", "b")) == [
        Change("/inner", ChangeKind.MODIFIED),
        Change("/inner/file", ChangeKind.DELETED),
    ]
