"""The disk usage of a layer without what it shares with its parent, read from btrfs's trees.

No directory is walked: a search skips the nodes that are as old as the snapshot, so the work grows with
what the layer changed. The trees do not contain writes that are not on disk yet; the kernel writes them
within 30 seconds (``commit=`` in btrfs(5)).
"""

from __future__ import annotations

import os
from typing import Final

from graphdriver.abilities import Usage
from graphdriver.linux import btrfs

_LAST: Final = ((1 << 64) - 256, 0xFF, (1 << 64) - 1)
"""Behind the last item of a file or a directory (BTRFS_LAST_FREE_OBJECTID)."""

_NO_PARENT: Final = bytes(16)


def own_usage(fd: int) -> Usage:
    """Count what a subvolume, and those within it, have changed since they were made.

    Args:
        fd: its root directory; borrowed.

    Raises:
        OSError: the trees cannot be searched.
    """
    size = inodes = 0
    pending = [btrfs.subvolume_of(fd).id]
    for id in pending:  # it grows meanwhile
        pending += [inner for inner, _ in btrfs.subvolumes_in(fd, id)]
        since = _made_in(fd, id)
        first = btrfs.FIRST_FREE_OBJECTID, 0, 0
        for item in btrfs.search(fd, id, first, _LAST, younger_than=since):
            if item.type == btrfs.INODE_ITEM_KEY:
                inodes += btrfs.Inode.parse(item).changed_in > since
            elif item.type == btrfs.EXTENT_DATA_KEY:
                extent = btrfs.Extent.parse(item)
                size += extent.size if extent.made_in > since else 0
    return Usage(size, inodes)


def _made_in(fd: int, id: int) -> int:
    """Return the transaction that made a snapshot; -1 for a subvolume that began empty."""
    root = btrfs.open_directory(fd, id)
    try:
        made = btrfs.subvolume_of(root)
    finally:
        os.close(root)
    # The transaction that makes an empty subvolume may write files into it as well.
    return -1 if made.parent_uuid == _NO_PARENT else made.made_in
