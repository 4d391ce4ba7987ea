"""Filesystems of their own for tests: an image on a loop device, mounted as long as it is needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.linux import filesystem
from tests.support.waiting import wait_until

_MAKE = {
    "ext4": ("mkfs.ext4", "-q"),
    "ext4-1k": ("mkfs.ext4", "-q", "-b", "1024"),
    "ext4-on-4k-blocks": ("mkfs.ext4", "-q"),
    "ext4-few-inodes": ("mkfs.ext4", "-q", "-N", "160"),
    "ext4-untyped": ("mkfs.ext4", "-q", "-O", "^filetype"),
    "xfs": ("mkfs.xfs", "-q", "-m", "reflink=1"),
    "xfs-few-inodes": ("mkfs.xfs", "-q", "-m", "reflink=1", "-i", "maxpct=1"),
    "btrfs": ("mkfs.btrfs", "-q"),
    "btrfs-small-metadata": ("mkfs.btrfs", "-q", "-m", "single", "-d", "single"),
}


_SECTORS = {"ext4-on-4k-blocks": "4096"}
"""The logical blocks of the device, in bytes, where they are not of 512."""


@contextlib.contextmanager
def loop(kind: str, folder: Path, size: int = 512 << 20) -> Iterator[Path]:
    """Mount a new filesystem of a kind, one of `_MAKE`, and a size in bytes below a directory."""
    make = _MAKE[kind]
    if os.geteuid() or not shutil.which(make[0]):
        pytest.skip(f"needs root and {make[0]}")
    image = folder / f"{kind}.img"
    with open(image, "xb") as file:
        file.truncate(size)
    _made(*make, str(image))
    place = folder / kind
    place.mkdir()
    attach = ["losetup", "--find", "--show", "--sector-size", _SECTORS.get(kind, "512"), str(image)]
    device = subprocess.run(attach, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    try:
        subprocess.run(["mount", device, str(place)], check=True)
    finally:  # once it is mounted, it is detached at the unmount
        subprocess.run(["losetup", "--detach", device], check=True)
    try:
        yield place
    finally:
        unmount(place)
        image.unlink()


def sync(place: Path) -> None:
    """Write all changes of a directory's filesystem to its disk; those of others may take long."""
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        filesystem.syncfs(fd)
    finally:
        os.close(fd)


def unmount(place: Path, *options: str) -> None:
    """Unmount as soon as nobody uses it: for a moment others may.

    The helper of a FUSE mount ends some time after its mount, a loop device lets go of its file some
    time after it was detached, and whoever asks for a filesystem's free space holds it meanwhile.
    """
    wait_until(lambda: subprocess.run(["umount", *options, str(place)]).returncode == 0)


def _made(*command: str) -> None:
    """Make a filesystem."""

    def is_made() -> bool:
        done = subprocess.run(command, capture_output=True, text=True)
        # mkfs.btrfs looks into every loop device of the machine. Where one is just being detached, it
        # fails, or calls a new image mounted.
        misled = ("cannot check mount status", "is mounted")
        assert done.returncode == 0 or any(what in done.stderr for what in misled), done.stderr
        return done.returncode == 0

    wait_until(is_made)
