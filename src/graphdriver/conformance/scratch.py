"""Temporary directories, emptied without touching what a plugin has mounted in them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from graphdriver.errors import BrokenStreamError
from graphdriver.layer.walk import remove_tree
from graphdriver.linux.mount import MNT_DETACH, mount_copy, unmount
from graphdriver.linux.mountinfo import mount_points


@contextlib.contextmanager
def scratch_directory(above: str | Path | None = None, prefix: str = "") -> Iterator[Path]:
    """Make a directory for the length of a ``with`` block.

    Args:
        above: where it is made; None for the system's directory for temporary files.
        prefix: how its name begins.
    """
    path = Path(tempfile.mkdtemp(dir=above, prefix=prefix)).resolve()
    try:
        yield path
    finally:
        empty(path)
        with contextlib.suppress(
            OSError
        ):  # what is mounted there again stays, and so does its place
            path.rmdir()


def empty(path: str | Path) -> None:
    """Delete all that is in a directory, and nothing of what a plugin has mounted there.

    A plugin may mount a directory of the host's there at any moment. So this is done in a copy of the
    directory's own mount, which shows nothing that is mounted further below.
    """
    start = os.fsencode(path) + b"/"
    for one in reversed(list(mount_points())):
        if one.point.startswith(start):
            with contextlib.suppress(OSError):
                unmount(os.fsdecode(one.point), MNT_DETACH)
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        copy = mount_copy(fd, 0)
    finally:
        os.close(fd)
    try:
        for name in os.listdir(f"/proc/self/fd/{copy}"):
            with contextlib.suppress(OSError, BrokenStreamError):
                remove_tree(copy, os.fsencode(name))
    finally:
        os.close(copy)
