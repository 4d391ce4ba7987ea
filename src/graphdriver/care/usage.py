"""The disk usage of a stored layer, counted by a walk through its files."""

from __future__ import annotations

import os
import stat

from graphdriver.abilities import Usage
from graphdriver.files.directories import opened
from graphdriver.homes import StoredLayer
from graphdriver.layer.tree.inodes import disk_usage

_BLOCK = 512  # the unit of st_blocks (inode(7))


def count_usage(layer: StoredLayer) -> Usage:
    """Return the disk usage of a layer's own files: whole blocks, and each inode once.

    A process may serve the home meanwhile: what it removes during the walk may be left out.

    Raises:
        BrokenStreamError: a directory was moved meanwhile.
        OSError: it cannot be read.
    """
    size = inodes = 0
    for path in (layer.path, *layer.beside):
        if path:
            found = _usage_of(path)
            size += found.size
            inodes += found.inodes
    return Usage(size, inodes)


def _usage_of(path: str) -> Usage:
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        return Usage(status.st_blocks * _BLOCK, 1)
    with opened(path) as fd:
        return disk_usage(fd)
