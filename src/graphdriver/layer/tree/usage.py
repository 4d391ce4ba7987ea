"""What a tree takes on disk, as du(1) counts: whole blocks, and what has several names once."""

from __future__ import annotations

import os
import stat

from graphdriver.driver import Usage
from graphdriver.layer.tree.inodes import InodeSet
from graphdriver.layer.tree.walk import walk

_BLOCK = 512  # the unit of st_blocks, whatever the filesystem's own blocks are (inode(7))


def disk_usage(root_fd: int) -> Usage:
    """Count a folder and all that is below it."""
    size, inodes = os.fstat(root_fd).st_blocks * _BLOCK, 1
    seen = InodeSet()
    for node in walk(root_fd):
        if node.stat.st_nlink > 1 and not stat.S_ISDIR(node.stat.st_mode):
            if node.stat.st_ino in seen:
                continue
            seen.add(node.stat.st_ino)
        size += node.stat.st_blocks * _BLOCK
        inodes += 1
    return Usage(size, inodes)
