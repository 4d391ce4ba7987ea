"""Temporary directories, emptied without touching mounts that a plugin made in them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Container, Iterator
from pathlib import Path

from graphdriver.errors import BrokenStreamError
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.linux.mount import MNT_DETACH, mount_copy, unmount
from graphdriver.linux.mountinfo import mount_points


@contextlib.contextmanager
def scratch_directory(above: str | Path | None = None, prefix: str = "") -> Iterator[Path]:
    """Make a directory for the length of a ``with`` block.

    Args:
        above: its parent directory; None for the system's directory for temporary files.
        prefix: the start of its name.
    """
    path = Path(tempfile.mkdtemp(dir=above, prefix=prefix)).resolve()
    try:
        with emptied(path):
            yield path
    finally:
        with contextlib.suppress(OSError):  # a mount that came back keeps its directory
            path.rmdir()


@contextlib.contextmanager
def emptied(path: str | Path) -> Iterator[None]:
    """Delete the content of a directory at the end of a ``with`` block, and nothing else.

    A plugin may mount a host's directory anywhere, also at the directory itself. So new mounts are
    unmounted first, and the files are deleted in a copy of the mount that the directory was on before,
    which shows no mount there or further below.
    """
    # Not by the ID alone: the kernel reuses the ID of a mount that is gone.
    mounted_before = {(one.id, one.point) for one in mount_points()}
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield
    finally:
        _unmount(os.fsencode(path), mounted_before)
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


def _unmount(path: bytes, mounted_before: Container[tuple[int, bytes]]) -> None:
    """Unmount new mounts at a path or below it, the last one first."""
    for one in reversed(list(mount_points())):
        is_new = (one.id, one.point) not in mounted_before
        if is_new and (one.point + b"/").startswith(path + b"/"):
            with contextlib.suppress(OSError):
                unmount(os.fsdecode(one.point), MNT_DETACH)
