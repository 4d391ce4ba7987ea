"""Marks in an upper directory that our mounts do not follow: what they show is elsewhere, or missing.

The kernel makes them where an overlay is mounted with ``redirect_dir`` or ``metacopy`` (kernel,
filesystems/overlayfs), which a kernel's configuration or an administrator may set for all overlays:

- ``redirect``: the directory's content is that of a directory of another name below.
- ``metacopy``: the file's content is that of a file below; its own is a hole.
- ``whiteout``: the file is a whiteout (Linux 6.7, for overlays that are layers of others).
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Final, NamedTuple

from graphdriver.layer.overlay.whiteout import Marks
from graphdriver.layer.tree.walk import walk_to_files
from graphdriver.linux import xattr

_NAMES: Final = (b"redirect", b"metacopy", b"whiteout")


class Unfollowed(NamedTuple):
    """A mark that is not followed.

    Attributes:
        path: the entry that has it, relative to the upper directory.
        attribute: the name of the attribute.
    """

    path: bytes
    attribute: str


def unfollowed_marks(root_fd: int, marks: Marks) -> Iterator[Unfollowed]:
    """Yield the marks in an upper directory that our mounts do not follow.

    Args:
        root_fd: the upper directory; borrowed.
        marks: the form of the overlay's marks.

    Raises:
        BrokenStreamError: a directory was moved meanwhile.
        OSError: something cannot be read.
    """
    unfollowed = {marks.prefix + name for name in _NAMES}
    for above, name, parent_fd, found in walk_to_files(root_fd):
        if found is None or stat.S_ISDIR(found.st_mode):
            for attribute in sorted(unfollowed & xattr.get_all_at(parent_fd, name).keys()):
                yield Unfollowed(above.prefix() + name, attribute.decode())
