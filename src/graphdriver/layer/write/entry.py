"""Making one entry in the directory that it is in.

The later entry of a name wins: whatever has the name makes room, also what a hard link shares with a
layer below. A directory over a directory keeps what is in it.
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
    """Makes entries, one after the other, in a tree.

    Args:
        cursor: goes to where they are to be.
        form: what the tree is.
        losses: is told what is left out.

    Attributes:
        inodes: how many inodes were made so far, but for those on the cursor's way.
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
            parent: where it is to be.
            name: its name there.
            entry: what the tar says, with owners and attributes as they are on disk.
            data: its data.

        Raises:
            BadArchiveError: it is a hard link that leads nowhere, or more than memory is given for.
            UnsupportedError: the filesystem cannot keep what the entry says.
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
            # Looked at only now: most names are new, and a look costs a call.
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
        """Make a directory; ``replaced`` is what had its name before."""
        with parent.dir.make(name, inherits=parent.inherits) as made:
            self._form.note_new_directory(made, replaced)
            self.inodes += 1
            set_directory_metadata(made.fd, entry, is_new=True, losses=self._losses)

    def _is_merged(self, parent: Parent, name: bytes, entry: Entry) -> bool:
        """Give a directory that is there already what its entry says; tell whether it is one."""
        there = parent.dir.find(name)
        if there is None or not stat.S_ISDIR(there.st_mode):
            return False
        with parent.dir.open(name) as kept:
            set_directory_metadata(kept.fd, entry, is_new=False, losses=self._losses)
        return True

    def _make_special(self, parent: Parent, name: bytes, entry: Entry) -> bool:
        """Make a symbolic link, a device or a FIFO; tell whether it was made and not left out."""
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
