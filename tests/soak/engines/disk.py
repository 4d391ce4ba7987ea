"""A filesystem of a side's own, which can become full or read-only."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.filesystems import loop, unmount
from tests.support.full import fill

SIZE = 1 << 30
"""Bytes; a vfs copies each layer whole."""


class Disk:
    """A mounted filesystem.

    Args:
        kind: ext4 or btrfs.
        place: where it is mounted.
    """

    def __init__(self, kind: str, place: Path) -> None:
        self.kind = kind
        self.place = place
        self._image = place.with_name(f"{kind}.img")

    @property
    def can_break(self) -> bool:
        """Whether the kernel can make it read-only at once, as after an error of the disk."""
        return self.kind == "ext4"

    def fill(self) -> None:
        fill(self.place)

    def free(self) -> None:
        (self.place / "filler").unlink()

    def break_down(self) -> None:
        """Let the kernel find an error: the filesystem is read-only from then on."""
        subprocess.run(["sync", "--file-system", self.place], check=True)
        self._remount("errors=remount-ro")
        device = os.stat(self.place).st_dev
        name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("1")

    def mend(self) -> None:
        """Mount it again; nobody uses it any more."""
        unmount(self.place)
        attach = ["losetup", "--find", "--show", str(self._image)]
        device = subprocess.run(
            attach, check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()
        try:
            subprocess.run(["mount", device, self.place], check=True)
        finally:
            subprocess.run(["losetup", "--detach", device], check=True)

    def _remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.place], check=True)


@contextlib.contextmanager
def made(kind: str, folder: Path) -> Iterator[Disk]:
    """Make a filesystem for the length of a ``with`` block."""
    with loop(kind, folder, SIZE) as place:
        yield Disk(kind, place)
