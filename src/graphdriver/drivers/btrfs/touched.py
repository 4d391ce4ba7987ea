"""What was touched in a subvolume since a transaction: by its tree, not by walking through its folders.

Each node of a tree tells in which transaction it was written, and each inode in which it was changed.
So a search passes over all that is older; where it finds an inode that is younger, the inode's
names, and those of the folders above it, lead there.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from graphdriver.driver import Touched
from graphdriver.linux import btrfs

_LAST_FREE_OBJECTID: Final = (1 << 64) - 256
_MOST: Final = (1 << 64) - 1
_NAMES: Final = (btrfs.INODE_REF_KEY, btrfs.INODE_EXTREF_KEY)


def touched_since(upper_fd: int, lower_fd: int, transaction: int) -> Touched:
    """Tell where two subvolumes can differ that were one.

    Args:
        upper_fd: the root folder of the snapshot.
        lower_fd: that of what it is a snapshot of.
        transaction: the one that it was made in. All that was written since is committed.

    Raises:
        OSError: the trees cannot be searched.
    """
    inodes: set[int] = set()
    names: defaultdict[int, set[bytes]] = defaultdict(set)
    for fd in (upper_fd, lower_fd):
        tree = _Tree(fd, transaction)
        inodes.update(tree.touched)
        tree.add_ways(names)
    return Touched(os.fstat(upper_fd).st_dev, os.fstat(lower_fd).st_dev, inodes, names)


class _Tree:
    """What the young nodes of a subvolume's tree hold.

    Attributes:
        touched: the inodes that were changed, and how many names each has.
    """

    def __init__(self, fd: int, transaction: int) -> None:
        self._fd = fd
        self._id = btrfs.subvolume_of(fd).id
        self.touched: dict[int, int] = {}
        self._names: defaultdict[int, list[btrfs.Name]] = defaultdict(list)
        first, last = (btrfs.FIRST_FREE_OBJECTID, 0, 0), (_LAST_FREE_OBJECTID, 0xFF, _MOST)
        for item in btrfs.search(fd, self._id, first, last, younger_than=transaction):
            if item.type == btrfs.INODE_ITEM_KEY:
                inode = btrfs.Inode.parse(item)
                if inode.changed_in > transaction:
                    self.touched[item.object] = inode.links
            elif item.type in _NAMES:
                self._names[item.object] += btrfs.names_of(item)

    def add_ways(self, ways: defaultdict[int, set[bytes]]) -> None:
        """Add, for each folder on the way to a touched inode, the name that leads on."""
        pending = list(self.touched)
        known = {btrfs.FIRST_FREE_OBJECTID, *pending}
        while pending:
            inode = pending.pop()
            if inode == btrfs.FIRST_FREE_OBJECTID:
                continue
            for folder, name in self._names_of(inode):
                ways[folder].add(name)
                if folder not in known:
                    known.add(folder)
                    pending.append(folder)

    def _names_of(self, inode: int) -> Sequence[btrfs.Name]:
        """Return all names of an inode, of which some may be in nodes that are not young."""
        found = self._names.get(inode, ())
        if len(found) >= self.touched.get(inode, 1):
            return found
        first, last = (inode, btrfs.INODE_REF_KEY, 0), (inode, btrfs.INODE_EXTREF_KEY, _MOST)
        items = btrfs.search(self._fd, self._id, first, last)
        return [name for item in items for name in btrfs.names_of(item)]
