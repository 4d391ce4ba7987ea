"""The changes of a subvolume since a transaction, read from btrfs's trees without a directory walk.

Each node of a tree holds the number of the transaction in which it was written, and each inode that of
its last change. So a search skips all older nodes. For each younger inode that it finds, the names of
the inode and of the directories above it give the path.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from graphdriver.abilities import Touched
from graphdriver.linux import btrfs
from graphdriver.linux.filesystem import syncfs

_LAST_FREE_OBJECTID: Final = (1 << 64) - 256
_MAX_OFFSET: Final = (1 << 64) - 1
_NAMES: Final = (btrfs.INODE_REF_KEY, btrfs.INODE_EXTREF_KEY)


def made_since(upper_fd: int, lower_fd: int) -> int | None:
    """Return when a subvolume was made as a snapshot of another, in nanoseconds; None: it was not.

    Args:
        upper_fd: its root directory.
        lower_fd: the root directory of the other.

    Raises:
        OSError: they are not subvolumes.
    """
    made, source = btrfs.subvolume_of(upper_fd), btrfs.subvolume_of(lower_fd)
    return made.made_ns if made.parent_uuid == source.uuid else None


def touched_since(upper_fd: int, lower_fd: int) -> Touched | None:
    """Return where a snapshot and its source can differ.

    Args:
        upper_fd: the root directory of the snapshot.
        lower_fd: the root directory of its source.

    Returns:
        None if that is unknown: the other is not its source, or one of them holds subvolumes.

    Raises:
        OSError: the trees cannot be searched.
    """
    made, source = btrfs.subvolume_of(upper_fd), btrfs.subvolume_of(lower_fd)
    if made.parent_uuid != source.uuid or any(
        True for one in (made, source) for _ in btrfs.subvolumes_in(upper_fd, one.id)
    ):
        return None
    syncfs(upper_fd)  # the trees do not contain changes that are not written yet
    transaction = made.made_in
    inodes: set[int] = set()
    names: defaultdict[int, set[bytes]] = defaultdict(set)
    for fd in (upper_fd, lower_fd):
        tree = _Tree(fd, transaction)
        inodes.update(tree.touched)
        tree.add_paths(names)
    return Touched(os.fstat(upper_fd).st_dev, os.fstat(lower_fd).st_dev, inodes, names)


class _Tree:
    """The nodes of a subvolume's tree that are younger than a transaction.

    Attributes:
        touched: the numbers of the inodes that changed, and how many names each has.
    """

    def __init__(self, fd: int, transaction: int) -> None:
        self._fd = fd
        self._id = btrfs.subvolume_of(fd).id
        self.touched: dict[int, int] = {}
        self._names: defaultdict[int, list[btrfs.Name]] = defaultdict(list)
        first, last = (btrfs.FIRST_FREE_OBJECTID, 0, 0), (_LAST_FREE_OBJECTID, 0xFF, _MAX_OFFSET)
        for item in btrfs.search(fd, self._id, first, last, younger_than=transaction):
            if item.type == btrfs.INODE_ITEM_KEY:
                inode = btrfs.Inode.parse(item)
                if inode.changed_in > transaction:
                    self.touched[item.object] = inode.links
            elif item.type in _NAMES:
                self._names[item.object] += btrfs.names_of(item)

    def add_paths(self, paths: defaultdict[int, set[bytes]]) -> None:
        """Add, for each directory above a touched inode, the names that lead to such inodes."""
        pending = list(self.touched)
        known = {btrfs.FIRST_FREE_OBJECTID, *pending}
        while pending:
            inode = pending.pop()
            if inode == btrfs.FIRST_FREE_OBJECTID:
                continue
            for directory, name in self._names_of(inode):
                paths[directory].add(name)
                if directory not in known:
                    known.add(directory)
                    pending.append(directory)

    def _names_of(self, inode: int) -> Sequence[btrfs.Name]:
        """Return all names of an inode; some may be in older nodes."""
        found = self._names.get(inode, ())
        if len(found) >= self.touched.get(inode, 1):
            return found
        first, last = (inode, btrfs.INODE_REF_KEY, 0), (inode, btrfs.INODE_EXTREF_KEY, _MAX_OFFSET)
        items = btrfs.search(self._fd, self._id, first, last)
        return [name for item in items for name in btrfs.names_of(item)]
