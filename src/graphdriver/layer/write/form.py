"""The form of a tree: how it stores the whiteouts and devices of a tar.

`graphdriver.layer.write.plain_tree.PlainTree` is a whole tree, in which whiteouts delete.
`graphdriver.layer.overlay.form.UpperDirectory` is the upper directory of an overlay mount, in which
whiteouts and opaque directories are marks on disk. `graphdriver.layer.overlay.form.MountedOverlay` is
the mount itself.

Only the form decides about a 0:0 character device (`Form.can_hold_device`): it is content in a plain
tree, and a whiteout to an overlay. Attributes that overlays obey are not content in any form
(`graphdriver.layer.attributes`).
"""

from __future__ import annotations

import os
from typing import Protocol

from graphdriver.layer.tar.entry import Entry
from graphdriver.layer.tree.directory import Dir, LayerDir


class Ownership(Protocol):
    """A record of which layer an entry of a tree came from; directories are given by inode number."""

    def is_own(self, inode: int, name: bytes, found: os.stat_result) -> bool:
        """Tell whether an entry of a directory came with this layer."""
        ...

    def is_all_own(self, inode: int) -> bool:
        """Tell whether everything in a directory came with this layer."""
        ...

    def note_cleared(self, inode: int) -> None:
        """Note that everything from the layers below was removed from a directory."""


class Form(Protocol):
    """The form of a tree on disk, while one layer is unpacked into it."""

    def is_all_own(self, inode: int) -> bool:
        """Tell whether everything in a directory is this layer's; then `note_made` may be skipped."""
        ...

    def note_made(self, directory: LayerDir, name: bytes, *, is_link: bool) -> None:
        """Note that this layer has just made a name, with ``is_link`` as a hard link.

        Raises:
            BadArchiveError: the limit of memory for notes is reached.
        """

    def is_own(self, inode: int, name: bytes, found: os.stat_result) -> bool:
        """Tell whether an entry of a directory came with this layer."""
        ...

    def is_whiteout(self, found: os.stat_result) -> bool:
        """Tell whether an entry of a directory is a whiteout."""
        ...

    def copy_up(self, directory: LayerDir, name: bytes, *, on_way: bool) -> bool:
        """Copy a name from the layers below into the tree, where it does not exist.

        Args:
            directory: its directory.
            name: the name.
            on_way: copy only a directory or a symbolic link.

        Returns:
            Whether it was copied.
        """
        ...

    def note_new_directory(self, directory: Dir, replaced: os.stat_result | None) -> None:
        """Note that a directory was made, and what it replaced, which was not a directory."""

    def note_removed(self, path: list[bytes]) -> None:
        """Note that something was removed that may be on the way to a directory."""

    def apply_whiteout(self, directory: LayerDir, name: bytes) -> None:
        """Delete what the layers below have at a name."""

    def apply_opaque(self, directory: LayerDir) -> None:
        """Delete everything that the layers below have in a directory."""

    def note_whiteout_replaced(self, directory: LayerDir, name: bytes) -> None:
        """Note that an entry replaced a whiteout."""

    def restore_whiteout(self, directory: LayerDir, name: bytes) -> None:
        """Delete a name of the layers below again, if the layer deletes it, after its entry is gone."""

    def leave_open(self, path: bytes, target: bytes) -> bool:
        """Take note of a hard link whose target is not there, if the layers below are not known yet.

        Args:
            path: the link, from the root on.
            target: its target, likewise.

        Returns:
            Whether the link is made later; otherwise it is an error.
        """
        return False

    def can_hold_device(self, entry: Entry) -> bool:
        """Tell whether a character device is content here, and not a whiteout."""
        ...

    def close(self) -> None:
        """Close all descriptors, also after an error."""
