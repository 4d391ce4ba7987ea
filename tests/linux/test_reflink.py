from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphdriver.linux import reflink
from tests.support.filesystems import loop, sync

_BLOCK = 64 << 10  # a hole of this size is one on every filesystem here


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A folder on each filesystem that can share blocks."""
    with ExitStack() as held:
        yield {
            kind: held.enter_context(loop(kind, tmp_path_factory.mktemp(kind)))
            for kind in ("xfs", "btrfs")
        }


def written(path: Path, ranges: list[tuple[int, bytes]], size: int) -> bytes:
    """Write a file with holes and return its content."""
    with open(path, "wb") as file:
        for start, data in ranges:
            file.seek(start)
            file.write(data)
        file.truncate(size)
        os.fsync(file.fileno())  # delayed allocation is no hole, but its blocks are not counted yet
    return path.read_bytes()


def data_of(path: Path) -> list[tuple[int, int]]:
    """Return the ranges that hold data, in blocks: filesystems round up as they like."""
    ranges: list[tuple[int, int]] = []
    end = 0
    with open(path, "rb") as file:
        while True:
            try:
                start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:
                return ranges
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            ranges.append((start // _BLOCK, -(-end // _BLOCK)))


def copied(source: Path, target: Path) -> None:
    with open(source, "rb") as one, open(target, "wb") as other:
        reflink.copy(other.fileno(), one.fileno(), os.fstat(one.fileno()).st_size)
        os.fsync(other.fileno())


@pytest.mark.parametrize("kind", ["disk", "xfs", "btrfs"])
def test_holes_stay_holes(kind: str, places: dict[str, Path], tmp_path: Path) -> None:
    place = places.get(kind, tmp_path)
    source, target = place / "holes", place / "copy"
    ranges = [(4 * _BLOCK, b"one" * _BLOCK), (100 * _BLOCK, b"x")]
    content = written(source, ranges, 200 * _BLOCK)
    copied(source, target)
    assert target.read_bytes() == content
    assert len(data_of(source)) == 2
    assert data_of(target) == data_of(source)
    assert os.stat(target).st_blocks * 512 < 10 * _BLOCK


@given(
    blocks=st.lists(st.tuples(st.integers(0, 20), st.integers(1, 2 * _BLOCK)), max_size=5),
    tail=st.integers(0, 3 * _BLOCK),
)
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_content_is_equal_whatever_holes_there_are(
    tmp_path: Path, blocks: list[tuple[int, int]], tail: int
) -> None:
    ranges = [(block * _BLOCK, os.urandom(16) * (length // 16 + 1)) for block, length in blocks]
    size = max((start + len(data) for start, data in ranges), default=0) + tail
    content = written(tmp_path / "source", ranges, size)
    copied(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == content
    assert data_of(tmp_path / "target") == data_of(tmp_path / "source")


def test_a_copy_goes_from_one_filesystem_to_another(
    places: dict[str, Path], tmp_path: Path
) -> None:
    content = written(tmp_path / "source", [(_BLOCK, os.urandom(3 * _BLOCK + 5))], 9 * _BLOCK)
    for place in (*places.values(), Path("/dev/shm")):
        target = place / f"copy-{os.getpid()}"
        try:
            copied(tmp_path / "source", target)
            assert target.read_bytes() == content
        finally:
            target.unlink()


def test_what_is_cut_short_meanwhile_is_filled_with_a_hole(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"short")
    with open(tmp_path / "source", "rb") as one, open(tmp_path / "target", "wb") as other:
        reflink.copy(other.fileno(), one.fileno(), 5000)
    assert (tmp_path / "target").read_bytes() == b"short" + bytes(4995)


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_a_clone_shares_content_but_not_changes(kind: str, places: dict[str, Path]) -> None:
    source, target = places[kind] / "source", places[kind] / "clone"
    content = written(source, [(0, os.urandom(_BLOCK)), (9 * _BLOCK, b"x")], 10 * _BLOCK)
    with open(source, "rb") as one, open(target, "wb") as other:
        assert reflink.clone(other.fileno(), one.fileno())
    assert target.read_bytes() == content
    with open(target, "r+b") as other:
        other.write(b"changed")
    assert source.read_bytes() == content


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_a_clone_takes_no_space(kind: str, places: dict[str, Path]) -> None:
    source = places[kind] / "large"
    written(source, [(0, os.urandom(1 << 20) * 32)], 32 << 20)
    sync(places[kind])
    before = os.statvfs(places[kind]).f_bfree * os.statvfs(places[kind]).f_frsize
    for number in range(4):
        with open(source, "rb") as one, open(places[kind] / f"large{number}", "wb") as other:
            assert reflink.clone(other.fileno(), one.fileno())
    sync(places[kind])
    after = os.statvfs(places[kind]).f_bfree * os.statvfs(places[kind]).f_frsize
    assert before - after < 16 << 20


def test_no_clone_where_blocks_cannot_be_shared(places: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"content")
    # Not on ext4 at all, nor between two filesystems of which one could.
    for target in (tmp_path / "target", places["btrfs"] / "target"):
        with open(tmp_path / "source", "rb") as one, open(target, "wb") as other:
            assert not reflink.clone(other.fileno(), one.fileno())
        assert target.read_bytes() == b""


def test_another_failure_is_raised(places: dict[str, Path]) -> None:
    (places["xfs"] / "there").write_bytes(b"content")
    with open(places["xfs"] / "there", "rb") as one, pytest.raises(OSError, match="descriptor"):
        reflink.clone(one.fileno(), one.fileno())  # not open for writing
