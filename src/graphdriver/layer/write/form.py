"""The form of a tree: what whiteouts and devices of a tar become in it.

`graphdriver.layer.write.plain_tree.PlainTree` is a whole tree in which deletions delete;
`graphdriver.layer.overlay.form.UpperDirectory` is the upper directory of an overlay mount, in which
they are marks.
"""

from __future__ import annotations

import os
from typing import Protocol

from graphdriver.layer.tar.entry import Entry


class Ownership(Protocol):
    """Whose what is in a tree is; folders are given by their inode numbers."""

    def is_own(self, inode: int, name: bytes, found: os.stat_result) -> bool:
        """Tell whether what was found in a folder came with this layer."""
        ...

    def is_all_own(self, inode: int) -> bool:
        """Tell whether all that is in a folder came with this layer."""
        ...

    def cleared(self, inode: int) -> None:
        """Take note that what did not is gone from a folder."""


class Form(Protocol):
    """How one tree on disk keeps deletions, while one layer is unpacked into it.

    Folders are given as an open descriptor, their inode number, and their path without links.
    """

    def is_all_own(self, inode: int) -> bool:
        """Tell whether what is made in this folder need not be told by `brought`."""
        ...

    def brought(self, fd: int, inode: int, name: bytes, *, link: bool) -> None:
        """Take note of what this layer has just made in a folder; ``link``: as a hard link.

        Raises:
            BadArchiveError: it is more than anybody can take note of.
        """

    def is_own(self, inode: int, name: bytes, found: os.stat_result) -> bool:
        """Tell whether what was found in a folder came with this layer."""
        ...

    def is_deletion(self, found: os.stat_result) -> bool:
        """Tell whether what was found says that nothing is there."""
        ...

    def bring_up(self, fd: int, path: list[bytes], name: bytes, *, on_way: bool) -> bool:
        """Make in the tree what the layers below show under a name that nothing has there.

        Args:
            fd: the folder.
            path: its path.
            name: the name.
            on_way: only a folder or a link will do.

        Returns:
            Whether there is something now.
        """
        ...

    def folder_made(self, fd: int, replaced: os.stat_result | None) -> None:
        """Take note of a new folder, and of what stood there before that was none."""

    def way_changed(self, path: list[bytes]) -> None:
        """Take note that a directory or a link is removed, through which ways may have led."""

    def hide(self, fd: int, inode: int, path: list[bytes], name: bytes) -> None:
        """Delete what the layers below have of this name in this folder."""

    def hide_all(self, fd: int, inode: int, path: list[bytes]) -> None:
        """Delete all that the layers below have in this folder."""

    def whiteout_replaced(self, inode: int, name: bytes) -> None:
        """Take note that an entry has the place of a whiteout in this directory."""

    def withdrawn(self, fd: int, inode: int, path: list[bytes], name: bytes) -> None:
        """Delete again what is below a name whose entry was removed, if the layer deletes it."""

    def can_hold(self, entry: Entry) -> bool:
        """Tell whether a device is content here, and no order to whoever shows the tree."""
        ...

    def close(self) -> None:
        """Close what is open, done or not."""
