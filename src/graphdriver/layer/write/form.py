"""The form of a tree: what whiteouts and devices of a tar become in it.

`graphdriver.layer.write.plain_tree.PlainTree` is a whole tree, in which whiteouts delete.
`graphdriver.layer.overlay.form.UpperDirectory` is the upper directory of an overlay mount, in which
whiteouts and opaque directories are marks on disk. `graphdriver.layer.overlay.form.MountedOverlay` is
the mount itself.

The form alone decides what becomes of a 0:0 character device (`Form.can_hold_device`): it is content in
a plain tree, and a whiteout to an overlay. Attributes that overlays obey are not content in any form
(`graphdriver.layer.attributes`).
"""

from __future__ import annotations

import os
from typing import Protocol

from graphdriver.layer.tar.entry import Entry
from graphdriver.layer.tree.directory import Dir, LayerDir


class Ownership(Protocol):
    """Tells which layer something in a tree came from; directories are given by inode number."""

    def is_own(self, inode: int, name: bytes, found: os.stat_result) -> bool:
        """Tell whether what was found in a directory came with this layer."""
        ...

    def is_all_own(self, inode: int) -> bool:
        """Tell whether all that is in a directory came with this layer."""
        ...

    def note_cleared(self, inode: int) -> None:
        """Take note that all that did not come with this layer is gone from a directory."""


class Form(Protocol):
    """How one tree on disk keeps deletions, while one layer is unpacked into it."""

    def is_all_own(self, inode: int) -> bool:
        """Tell whether all in a directory is this layer's, so that `note_made` need not be called."""
        ...

    def note_made(self, directory: LayerDir, name: bytes, *, is_link: bool) -> None:
        """Take note of what this layer has just made in a directory; ``is_link``: as a hard link.

        Raises:
            BadArchiveError: it is more than memory is given for.
        """

    def is_own(self, inode: int, name: bytes, found: os.stat_result) -> bool:
        """Tell whether what was found in a directory came with this layer."""
        ...

    def is_whiteout(self, found: os.stat_result) -> bool:
        """Tell whether what was found says that nothing is there."""
        ...

    def copy_up(self, directory: LayerDir, name: bytes, *, on_way: bool) -> bool:
        """Make in the tree what the layers below show under a name that nothing has there.

        Args:
            directory: where.
            name: the name.
            on_way: only a directory or a symbolic link will do.

        Returns:
            Whether there is something now.
        """
        ...

    def note_new_directory(self, directory: Dir, replaced: os.stat_result | None) -> None:
        """Take note of a directory just made, and of what stood there before and was none."""

    def note_removed(self, path: list[bytes]) -> None:
        """Take note that a directory or a symbolic link is removed, through which ways may lead."""

    def apply_whiteout(self, directory: LayerDir, name: bytes) -> None:
        """Delete what the layers below have of this name in this directory."""

    def apply_opaque(self, directory: LayerDir) -> None:
        """Delete all that the layers below have in this directory."""

    def note_whiteout_replaced(self, directory: LayerDir, name: bytes) -> None:
        """Take note that a whiteout in this directory made room for an entry."""

    def restore_whiteout(self, directory: LayerDir, name: bytes) -> None:
        """Delete again what is below a name whose entry was removed, if the layer deletes it."""

    def can_hold_device(self, entry: Entry) -> bool:
        """Tell whether a character device is content here, and not a whiteout."""
        ...

    def close(self) -> None:
        """Close what is open, done or not."""
