"""Facts: what the layers below show at a path, as texts that are equal if they show the same.

The image of a tar that needs the layers below depends on them, and its facts say how: the same tar and
the same facts give the same image.
"""

from __future__ import annotations

from typing import Final

from graphdriver.layer.erofs.tree import Directory, Inode

ABSENT: Final = "absent"
"""Nothing that the tar could need."""

IS_DIRECTORY: Final = "directory"
"""A directory; its metadata were not needed."""


def fact_of(node: Directory | Inode, digest: bytes = b"") -> str:
    """Return the fact of a copy, with all that is copied.

    Args:
        node: the copy.
        digest: the SHA-256 of a regular file's data.
    """
    words = [f"{node.mode:o}", str(node.uid), str(node.gid), str(node.mtime_ns)]
    if isinstance(node, Inode):
        target = node.data if isinstance(node.data, bytes) else b""
        words += [str(node.size), str(node.rdev), digest.hex() or target.hex()]
    for name, value in sorted((node.xattrs or {}).items()):
        words.append(f"{name.hex()}={value.hex()}")
    return " ".join(words)
