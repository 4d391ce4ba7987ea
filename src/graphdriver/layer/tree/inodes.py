"""The inodes of a tree: their disk usage, and a set of inode numbers."""

from __future__ import annotations

import os
import stat

from graphdriver.abilities import Usage
from graphdriver.layer.tree.walk import walk

_BLOCK = 512  # the unit of st_blocks on every filesystem (inode(7))
_BITS = 8
_MASK = (1 << _BITS) - 1


def disk_usage(root_fd: int) -> Usage:
    """Count a directory and all that is below it, as du(1) does: whole blocks, and each inode once.

    Args:
        root_fd: the directory; borrowed.

    Raises:
        BrokenStreamError: a directory was moved meanwhile.
        OSError: a directory cannot be read.
    """
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


class InodeSet:
    """A set of inode numbers that stays small with a million of them.

    Filesystems hand out numbers close together, so they are kept as bits of words.
    """

    def __init__(self) -> None:
        self._words: dict[int, int] = {}

    def add(self, inode: int) -> None:
        """Add a number."""
        word = inode >> _BITS
        self._words[word] = self._words.get(word, 0) | 1 << (inode & _MASK)

    def __contains__(self, inode: int) -> bool:
        return bool(self._words.get(inode >> _BITS, 0) >> (inode & _MASK) & 1)
