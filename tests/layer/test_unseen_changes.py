"""Changes that leave size and time as they were: none is missed, on any filesystem, at any instant."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from graphdriver.layer.changes import CLOCK_TICK_NS
from tests.layer.listed import changes
from tests.layer.test_changes import FOLDER, compare
from tests.support.tree_work import clock_of, exchange, pass_a_tick, put_times_back

_libc = ctypes.CDLL(None, use_errno=True)
_PUNCH_HOLE_KEEP_SIZE = 3


def rewrite(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"other")


def replace(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(b"other" + data[5:])


def punch_a_hole(path: Path) -> None:
    with open(path, "r+b") as file:
        offset, length = ctypes.c_long(0), ctypes.c_long(4096)
        done = _libc.fallocate(file.fileno(), _PUNCH_HOLE_KEEP_SIZE, offset, length)
        assert done == 0, os.strerror(ctypes.get_errno())


def write_a_mapped_page(path: Path) -> None:
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:5] = b"other"


def read_a_mapped_page_then_write_it(path: Path) -> None:
    """On tmpfs this changes a file and none of its times."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        assert mapped[0]
        mapped[:5] = b"other"


def label(path: Path) -> None:
    os.setxattr(path, "user.label", b"new")


@pytest.fixture
def trees(place: Path) -> tuple[Path, Path]:
    """A parent, and a child that is a faithful copy; two folders and their files differ in content."""
    lower, upper = place / "lower", place / "upper"
    for folder in ("one", "two"):
        (lower / folder / "sub").mkdir(parents=True)
        (lower / folder / "sub" / "file").write_bytes(folder.encode() * 2000)
        os.utime(lower / folder / "sub" / "file", ns=(0, 1_000_000_001))
    (lower / "link").symlink_to("1")
    subprocess.run(["cp", "-a", str(lower), str(upper)], check=True)
    return lower, upper


AT_ONCE = pytest.mark.parametrize("at_once", [True, False], ids=["in the same tick", "later"])
"""Whether the change is in the same tick of the clock as the end of the copy."""


def found_after(
    trees: tuple[Path, Path], at_once: bool, change: Callable[[Path], object]
) -> list[str]:
    """Let time pass or not, change the child, and compare as for a driver that keeps a stamp."""
    lower, upper = trees
    if not at_once:
        pass_a_tick(lower.parent)
    stamp = clock_of(lower.parent)
    if not at_once:
        pass_a_tick(lower.parent)
    change(upper)
    return compare(upper, lower, untouched=stamp)


@AT_ONCE
@pytest.mark.parametrize(
    "write",
    [
        rewrite,
        replace,
        punch_a_hole,
        write_a_mapped_page,
        read_a_mapped_page_then_write_it,
        label,
    ],
)
def test_a_file_that_was_changed_and_got_its_time_back_is_found(
    trees: tuple[Path, Path], at_once: bool, write: Callable[[Path], None]
) -> None:
    def change(upper: Path) -> None:
        path = upper / "one" / "sub" / "file"
        found = path.stat()
        write(path)
        if write is not read_a_mapped_page_then_write_it:
            put_times_back(path, found)

    assert found_after(trees, at_once, change) == ["C /one", "C /one/sub", "C /one/sub/file"]


def test_a_parent_that_somebody_wrote_to_after_the_copy_is_compared_as_it_is(
    trees: tuple[Path, Path],
) -> None:
    def change(upper: Path) -> None:
        path = trees[0] / "one" / "sub" / "file"
        found = path.stat()
        rewrite(path)
        put_times_back(path, found)

    assert found_after(trees, False, change) == ["C /one", "C /one/sub", "C /one/sub/file"]


def test_a_link_that_was_turned_and_got_its_time_back_is_found(trees: tuple[Path, Path]) -> None:
    def change(upper: Path) -> None:
        found = (upper / "link").lstat()
        (upper / "link").unlink()
        (upper / "link").symlink_to("2")
        put_times_back(upper / "link", found)

    assert found_after(trees, False, change) == ["C /link"]


@AT_ONCE
@pytest.mark.parametrize("depth", ["", "sub", "sub/file"])
def test_what_changed_places_is_found_with_all_that_it_brought(
    trees: tuple[Path, Path], at_once: bool, depth: str
) -> None:
    def change(upper: Path) -> None:
        exchange(upper / "one" / depth, upper / "two" / depth)

    assert found_after(trees, at_once, change) == [
        f"C /{folder}{below}" for folder in ("one", "two") for below in ("", "/sub", "/sub/file")
    ]


def test_a_file_that_was_not_touched_is_not_read_where_change_times_tell(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    read = []

    def note(*_: object) -> bool:
        read.append(1)
        return True

    monkeypatch.setattr("graphdriver.layer.changes._same_file", note)
    assert found_after(trees, False, lambda upper: None) == []
    on_tmpfs = request.node.callspec.params["filesystem"] == "tmpfs"
    assert len(read) == (2 if on_tmpfs else 0)


def test_what_a_stamp_cannot_tell_apart_is_read(trees: tuple[Path, Path]) -> None:
    lower, upper = trees
    found = (upper / "one" / "sub" / "file").stat()
    rewrite(upper / "one" / "sub" / "file")
    put_times_back(upper / "one" / "sub" / "file", found)
    with_fd = os.open(upper, FOLDER), os.open(lower, FOLDER)
    stamp = (upper / "one" / "sub" / "file").stat().st_ctime_ns
    try:
        for later, seen in ((0, True), (CLOCK_TICK_NS, True), (CLOCK_TICK_NS + 1, False)):
            told = changes(*with_fd, untouched_before_ns=stamp + later)
            assert bool(told) is (seen or lower.parent.parent == Path("/dev/shm"))
    finally:
        for fd in with_fd:
            os.close(fd)
