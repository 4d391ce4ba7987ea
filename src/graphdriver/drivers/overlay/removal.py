"""Removal of a layer's directory while the daemon waits, if that takes no time."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Final

from graphdriver.drivers.overlay.layout import DIFF, LINK, LOWER, WORK
from graphdriver.layer.tree.remove import remove_small_tree
from graphdriver.linux.openat2 import RESOLVE_NO_XDEV, openat2

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def remove_small_layer(dir_fd: int, name: bytes) -> bool:
    """Remove the directory of a layer if it is small; see `remove_small_tree`."""
    # Nothing was written to most containers' layers. The names in these are known, and to list them
    # takes longer than to remove them. If there are others, a step fails.
    with contextlib.suppress(OSError):
        _remove_unwritten(dir_fd, name)
        return True
    return remove_small_tree(dir_fd, name)


def _remove_unwritten(dir_fd: int, name: bytes) -> None:
    """Remove a layer that is as it was made and mounted.

    Raises:
        OSError: it is not; a part of it may be removed.
    """
    layer = openat2(dir_fd, name, _OPEN, resolve=RESOLVE_NO_XDEV)
    try:
        os.rmdir(DIFF, dir_fd=layer)
        try:
            os.rmdir(WORK, dir_fd=layer)
        except OSError as error:
            # What is not empty is a directory, and nothing is mounted on it: otherwise rmdir(2) fails
            # with ENOTDIR or EBUSY, and what is behind a link or in a mount stays.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            os.rmdir(f"{WORK}/{WORK}", dir_fd=layer)  # made by overlayfs
            os.rmdir(WORK, dir_fd=layer)
        os.unlink(LOWER, dir_fd=layer)
        os.unlink(LINK, dir_fd=layer)
    finally:
        os.close(layer)
    os.rmdir(name, dir_fd=dir_fd)
