"""Upper directories of an overlay that has followed marks which our mounts do not follow.

With ``redirect_dir`` a renamed directory is found below by its old name, and with ``metacopy`` a file
whose metadata changed has its content below. Both are extended attributes in the upper directory
(kernel documentation, filesystems/overlayfs). Some kernels have them on by default. Our mounts never
follow either, since a tar could have brought it (`graphdriver.drivers.overlay`): there the directory
would be empty, and the file too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from graphdriver.files.directories import opened
from graphdriver.layer.attributes import TRUSTED_OVERLAY, USER_OVERLAY
from graphdriver.layer.tree.inodes import InodeSet
from graphdriver.layer.tree.walk import walk
from graphdriver.linux import xattr
from graphdriver.linux.namespaces import in_user_namespace

_BLOCK: Final = 512  # the unit of st_blocks (inode(7))
_REDIRECT: Final = b"redirect"
_METACOPY: Final = b"metacopy"


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark that our mounts do not follow.

    Attributes:
        kind: ``redirect`` or ``metacopy``.
        path: the directory or file that has it, in the upper directory.
    """

    kind: str
    path: bytes


@dataclass(slots=True)
class Survey:
    """What a walk through an upper directory has found.

    Attributes:
        size: its disk usage in bytes.
        first: the first mark; None: there is none.
        count: how many marks there are.
    """

    size: int = 0
    first: Mark | None = None
    count: int = 0


def survey(path: str) -> Survey:
    """Walk through an upper directory once.

    Raises:
        OSError: it cannot be read.
        BrokenStreamError: a directory was moved meanwhile.
    """
    found = Survey()
    prefix = USER_OVERLAY if in_user_namespace() else TRUSTED_OVERLAY
    seen = InodeSet()
    with opened(path) as root:
        found.size = os.fstat(root).st_blocks * _BLOCK
        for node in walk(root):
            mode = node.stat.st_mode
            if node.stat.st_nlink > 1 and not stat.S_ISDIR(mode):
                if node.stat.st_ino in seen:
                    continue
                seen.add(node.stat.st_ino)
            found.size += node.stat.st_blocks * _BLOCK
            for kind in _possible(mode):
                if xattr.get_at(node.parent_fd, node.name, prefix + kind) is not None:
                    found.count += 1
                    found.first = found.first or Mark(kind.decode(), node.path)
    return found


def _possible(mode: int) -> Iterator[bytes]:
    if stat.S_ISDIR(mode):
        yield _REDIRECT
    elif stat.S_ISREG(mode):
        # A file that was renamed in addition has a redirect as well.
        yield _METACOPY
