"""Nothing that frees room needs any: on a filesystem without blocks or inodes snapshots are removed."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver.containerd.snapshots import Snapshots
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import GraphDriverError
from tests.drivers.filesystems import loop
from tests.e2e.ground import tool

pytestmark = pytest.mark.root

SIZE = 320 << 20
VIEWS = 60


@contextlib.contextmanager
def tmpfs(folder: Path) -> Iterator[Path]:
    place = folder / "tmpfs"
    place.mkdir()
    options = f"size={SIZE >> 3},nr_inodes=600"
    subprocess.run([tool("mount"), "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run([tool("umount"), place], check=True)


@pytest.fixture(params=["tmpfs", "ext4", "xfs", "btrfs"])
def disk(request: pytest.FixtureRequest, folder: Path) -> Iterator[Path]:
    """A small filesystem, one after the other."""
    with tmpfs(folder) if request.param == "tmpfs" else loop(request.param, folder, SIZE) as place:
        yield place


class Filler:
    """Takes all blocks of a filesystem, or all inodes."""

    def __init__(self, disk: Path) -> None:
        self._folder = disk / "filler"
        self._folder.mkdir()
        self._names = itertools.count()

    def blocks(self) -> None:
        """Write until nothing more can be written, in pieces that become small."""
        with contextlib.suppress(OSError), open(self._new(), "wb", buffering=0) as file:
            size = 1 << 20
            while size:
                try:
                    file.write(bytes(size))
                except OSError as error:
                    assert error.errno == errno.ENOSPC
                    size //= 4
            os.fsync(file.fileno())

    def inodes(self) -> None:
        """Make files until no more can be made."""
        with contextlib.suppress(OSError):
            while True:
                self._new().touch()

    def _new(self) -> Path:
        return self._folder / str(next(self._names))


@contextlib.contextmanager
def served(disk: Path) -> Iterator[Snapshots]:
    with contextlib.closing(Snapshots(VfsDriver(), str(disk / "root"), sync=False)) as snapshots:
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
    with tmpfs(folder) as disk:
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
    with tmpfs(folder) as disk:
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
