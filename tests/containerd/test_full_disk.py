"""Nothing that frees room needs any: on a filesystem without blocks or inodes snapshots are removed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver.containerd.snapshots import Snapshots
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import GraphDriverError
from tests.support.filesystems import loop
from tests.support.full import Filler, small_tmpfs

pytestmark = pytest.mark.root

SIZE = 320 << 20
VIEWS = 60


@pytest.fixture(params=["tmpfs", "ext4", "xfs", "btrfs"])
def disk(request: pytest.FixtureRequest, folder: Path) -> Iterator[Path]:
    """A small filesystem, one after the other."""
    kind = request.param
    with small_tmpfs(folder) if kind == "tmpfs" else loop(kind, folder, SIZE) as place:
        yield place


@contextlib.contextmanager
def served(disk: Path) -> Iterator[Snapshots]:
    with contextlib.closing(Snapshots(VfsDriver(), str(disk / "root"), ["sync=none"])) as snapshots:
        yield snapshots


def prepare_story(snapshots: Snapshots) -> None:
    snapshots.prepare("a", "", {})
    snapshots.commit("A", "a", {})
    for number in range(VIEWS):
        snapshots.view(f"view{number}", "A", {"of": "A" * 100})
    snapshots.prepare("b", "A", {})


def remove_all(snapshots: Snapshots, fill: Callable[[], None]) -> None:
    """Remove what frees nothing, then what does; nobody leaves any room meanwhile."""
    for number in range(VIEWS):
        fill()
        snapshots.remove(f"view{number}")
    for key in ("b", "A"):
        snapshots.remove(key)
    snapshots.cleanup()
    assert snapshots.find(()) == []


def test_snapshots_are_removed_where_no_block_is_free(disk: Path) -> None:
    filler = Filler(disk)
    with served(disk) as snapshots:
        prepare_story(snapshots)
        filler.blocks()
        with pytest.raises((GraphDriverError, OSError)) as refused:
            for number in range(1000):
                snapshots.view(f"more{number}", "A", {"of": "A" * 1000})
        assert "full" in str(refused.value) or "space" in str(refused.value)
        for one in snapshots.find(('name~="more"',)):
            snapshots.remove(one.key)
        remove_all(snapshots, filler.blocks)


def test_snapshots_are_removed_after_a_start_where_no_block_is_free(disk: Path) -> None:
    filler = Filler(disk)
    with served(disk) as snapshots:
        prepare_story(snapshots)
    filler.blocks()
    for _ in range(3):
        with served(disk) as snapshots:
            assert len(snapshots.find(())) == VIEWS + 2
        filler.blocks()
    with served(disk) as snapshots:
        remove_all(snapshots, filler.blocks)


def test_snapshots_are_removed_after_a_start_where_no_inode_is_free(folder: Path) -> None:
    with small_tmpfs(folder) as disk:
        filler = Filler(disk)
        with served(disk) as snapshots:
            prepare_story(snapshots)
        filler.inodes()
        for _ in range(3):
            with served(disk) as snapshots:
                assert len(snapshots.find(())) == VIEWS + 2
            filler.inodes()
        with served(disk) as snapshots:
            remove_all(snapshots, filler.inodes)


def test_the_reserve_is_made_again_when_there_is_room(folder: Path) -> None:
    with small_tmpfs(folder) as disk:
        filler = Filler(disk)
        reserve = disk / "root" / ".graphdriver" / "snapshots.db.reserve"

        def sizes() -> list[int]:
            return [path.stat().st_blocks * 512 for path in sorted(reserve.iterdir())]

        with served(disk) as snapshots:
            prepare_story(snapshots)
            whole = sizes()
            filler.blocks()
            for number in range(VIEWS):
                filler.blocks()
                snapshots.remove(f"view{number}")
            filler.blocks()
            assert sum(sizes()) < sum(whole)
            for path in (disk / "filler").iterdir():
                path.unlink()
            snapshots.cleanup()
            assert sizes() == whole
