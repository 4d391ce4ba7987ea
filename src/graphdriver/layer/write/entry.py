"""The writer of single entries, each in its directory.

The later entry of a name wins: it replaces what is there, and never writes to it, since a hard link may
share the inode with a layer below. A directory over a directory keeps its content.
"""

from __future__ import annotations

import os
import stat

from graphdriver.layer.tar.entry import Entry, EntryType, show
from graphdriver.layer.write.cursor import Cursor, Parent
from graphdriver.layer.write.form import Form
from graphdriver.layer.write.hard_links import HardLinks
from graphdriver.layer.write.inode import Data, make_file, make_special
from graphdriver.layer.write.metadata import set_directory_metadata
from graphdriver.layer.write.refusals import Losses


class EntryWriter:
    """A writer of entries, one after the other, into a tree.

    Args:
        cursor: the position in the tree.
        form: the form of the tree.
        losses: warns of what is left out.

    Attributes:
        inodes: how many inodes were made so far, without those that the cursor made.
    """

    def __init__(self, cursor: Cursor, form: Form, losses: Losses) -> None:
        self.inodes = 0
        self._cursor = cursor
        self._form = form
        self._losses = losses
        self._links = HardLinks(cursor, form)

    def write(self, parent: Parent, name: bytes, entry: Entry, data: Data) -> None:
        """Make an entry.

        Args:
            parent: its directory.
            name: its name there.
            entry: the entry, with owners and attributes as they are on disk.
            data: its data.

        Raises:
            BadArchiveError: it is a hard link without a valid target, or a limit of memory is reached.
            UnsupportedError: the filesystem cannot store the entry.
            OSError: anything else.
        """
        made = True
        replaced = None
        for is_last_try in (False, True):
            try:
                match entry.type:
                    case EntryType.FILE:
                        make_file(parent, name, entry, data, self._losses)
                        self.inodes += 1
                    case EntryType.DIRECTORY:
                        self._make_directory(parent, name, entry, replaced)
                    case EntryType.HARD_LINK:
                        made = self._links.make(parent, name, entry)
                    case _:
                        made = self._make_special(parent, name, entry)
                break
            # Only now is the name looked up: most names are new, and a lookup costs a system call.
            except FileExistsError:
                if is_last_try:
                    raise
                if entry.type is EntryType.DIRECTORY and self._is_merged(parent, name, entry):
                    break
                replaced = self._cursor.make_room(parent.dir, name)
        if made:
            self._links.note_made(parent.dir, name)
            if not parent.is_all_own:
                is_link = entry.type is EntryType.HARD_LINK
                self._form.note_made(parent.dir, name, is_link=is_link)

    def finish(self) -> None:
        """Make the hard links that wait for their targets; see `HardLinks.finish`."""
        self._links.finish()

    def _make_directory(
        self, parent: Parent, name: bytes, entry: Entry, replaced: os.stat_result | None
    ) -> None:
        """Make a directory; ``replaced`` describes what it replaced."""
        with parent.dir.make(name, inherits=parent.inherits) as made:
            self._form.note_new_directory(made, replaced)
            self.inodes += 1
            set_directory_metadata(made.fd, entry, is_new=True, losses=self._losses)

    def _is_merged(self, parent: Parent, name: bytes, entry: Entry) -> bool:
        """Set the metadata of an existing directory; return whether the name is a directory."""
        there = parent.dir.find(name)
        if there is None or not stat.S_ISDIR(there.st_mode):
            return False
        with parent.dir.open(name) as kept:
            set_directory_metadata(kept.fd, entry, is_new=False, losses=self._losses)
        return True

    def _make_special(self, parent: Parent, name: bytes, entry: Entry) -> bool:
        """Make a symbolic link, a device or a FIFO; return whether it was made and not left out."""
        is_device = entry.type is EntryType.CHARACTER_DEVICE
        if is_device and not self._form.can_hold_device(entry):
            self._losses.note(
                "deletions",
                f"{show(entry.name)}: a 0:0 character device is a deletion to overlay filesystems:"
                " left out",
            )
        elif make_special(parent, name, entry, self._losses):
            self.inodes += 1
            return True
        self._links.leave_out(parent.dir, name)
        return False
