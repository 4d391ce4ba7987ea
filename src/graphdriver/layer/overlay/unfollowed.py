"""Marks in an upper directory that our mounts do not follow: what they show is elsewhere, or missing.

The kernel makes them where an overlay is mounted with ``redirect_dir`` or ``metacopy`` (kernel,
filesystems/overlayfs), which a kernel's configuration or an administrator may set for all overlays:

- ``redirect``: the directory's content is that of a directory of another name below.
- ``metacopy``: the file's content is that of a file below; its own is a hole.
- ``whiteout``: the file is a whiteout (Linux 6.7, for overlays that are layers of others).

Our mounts never follow them, since they could come from a tar (`graphdriver.drivers.overlay`).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Final

from graphdriver.layer.overlay.whiteout import Marks
from graphdriver.layer.tree.inodes import InodeSet
from graphdriver.layer.tree.walk import walk
from graphdriver.linux import xattr

_BLOCK: Final = 512  # the unit of st_blocks (inode(7))
_NAMES: Final = (b"redirect", b"metacopy", b"whiteout")


@dataclass(frozen=True, slots=True)
class Unfollowed:
    """Marks that are not followed.

    Attributes:
        path: the first entry that has one, relative to the upper directory.
        attribute: the name of its attribute.
        count: how many entries have one.
    """

    path: bytes
    attribute: str
    count: int


@dataclass(frozen=True, slots=True)
class Survey:
    """What a walk through an upper directory has found.

    Attributes:
        size: its disk usage in bytes.
        unfollowed: the marks that our mounts do not follow; None: there are none.
    """

    size: int
    unfollowed: Unfollowed | None


def survey(root_fd: int, marks: Marks) -> Survey:
    """Walk through an upper directory once.

    Args:
        root_fd: the upper directory; borrowed.
        marks: the form of the overlay's marks.

    Raises:
        BrokenStreamError: a directory was moved meanwhile.
        OSError: something cannot be read.
    """
    wanted = {marks.prefix + name for name in _NAMES}
    first: tuple[bytes, bytes] | None = None
    count = 0
    blocks = os.fstat(root_fd).st_blocks
    seen = InodeSet()
    for node in walk(root_fd):
        mode = node.stat.st_mode
        if node.stat.st_nlink > 1 and not stat.S_ISDIR(mode):
            if node.stat.st_ino in seen:
                continue
            seen.add(node.stat.st_ino)
        blocks += node.stat.st_blocks
        if stat.S_ISDIR(mode) or stat.S_ISREG(mode):
            found = wanted & xattr.get_all_at(node.parent_fd, node.name).keys()
            if found:
                count += 1
                first = first or (node.path, min(found))
    unfollowed = Unfollowed(first[0], first[1].decode(), count) if first else None
    return Survey(blocks * _BLOCK, unfollowed)
