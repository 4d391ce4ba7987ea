"""A disk whose power can be cut: a filesystem on a loop device, and what was on it at one instant.

The loop device is backed by a file, through the page cache, so that the file holds every write that
the filesystem has handed to its disk, and nothing that it still keeps in memory: files not written
back, a journal not committed. The file lies on an XFS and is cloned (FICLONE), which XFS does with the
file locked, between two writes: the clone is what the disk held at one instant, as a power cut leaves
it. (A copy made by reading would hold early blocks from before later ones, which no disk ever did.)
Mounting the clone replays its journal, as the next boot would.

What this disk does not do is to lose writes that it took and was not asked to flush; so nothing is
proven here about flushes. They are the filesystem's to ask for, in fsync(2) and syncfs(2).
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from graphdriver.linux import reflink
from tests.support.filesystems import loop, unmount
from tests.support.ground import tool

SIZE = 320 << 20
_MAKE = {
    "ext4": ("mkfs.ext4", "-q"),
    "xfs": ("mkfs.xfs", "-q", "-m", "reflink=0"),
    "btrfs": ("mkfs.btrfs", "-q"),
}
_OPTIONS = {"ext4": "loop", "xfs": "loop,nouuid", "btrfs": "loop"}


class Disk:
    """The disk while it is in use; ``place`` is where it is mounted."""

    def __init__(self, image: Path, kind: str, place: Path) -> None:
        self._image = image
        self._kind = kind
        self._cuts = 0
        self.place = place

    def cut(self) -> Path:
        """Return the file of a disk that holds what this one holds now."""
        self._cuts += 1
        taken = self._image.with_name(f"cut{self._cuts}")
        with open(self._image, "rb") as source, open(taken, "xb") as target:
            assert reflink.clone(target.fileno(), source.fileno())
        return taken

    @contextlib.contextmanager
    def mounted(self, taken: Path) -> Iterator[Path]:
        """Mount what `cut` returned, for the length of a ``with`` block; then it is gone."""
        with _mounted(taken, self._kind, self.place.with_name(taken.name)) as place:
            yield place
        taken.unlink()


@contextlib.contextmanager
def disk(kind: str, folder: Path) -> Iterator[Disk]:
    """Make a disk with a new filesystem, ``ext4``, ``xfs`` or ``btrfs``, below a folder on tmpfs."""
    make, *words = _MAKE[kind]
    with loop("xfs", folder) as below:
        image = below / "disk"
        with open(image, "xb") as file:
            file.truncate(SIZE)
        subprocess.run([tool(make), *words, str(image)], check=True, stdout=subprocess.DEVNULL)
        with _mounted(image, kind, folder / "disk") as place:
            yield Disk(image, kind, place)


@contextlib.contextmanager
def _mounted(image: Path, kind: str, place: Path) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-o", _OPTIONS[kind], str(image), str(place)], check=True)
    try:
        yield place
    finally:
        unmount(place, "--recursive")
        place.rmdir()
