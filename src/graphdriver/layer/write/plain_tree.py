"""A whole tree: it begins as a copy of the parent's, and whiteouts delete.

Whiteouts delete only entries of the layers *below*, never entries of the same layer, and their place in
the tar does not matter. So a plain tree must know what came with this layer. It keeps as little as
possible: the inodes of directories that this layer made or emptied, so that everything in them is its
own; in other directories, the inodes that it made, and the names of its hard links, since their inodes
may be the parent's. For a first layer it keeps only the directories.
"""

from __future__ import annotations

import errno
import os
import stat

from graphdriver.errors import BadArchiveError
from graphdriver.layer.tar.entry import Entry
from graphdriver.layer.tree.directory import Dir, LayerDir
from graphdriver.layer.tree.inodes import InodeSet
from graphdriver.layer.tree.trail import Trail
from graphdriver.layer.write.form import Form, Ownership

MOST_LINKS_SIZE = 8 << 20
"""The limit in bytes for the names of hard links in directories of the layers below."""
_LINK_SIZE = 128  # the memory of one name besides its own bytes


class PlainTree(Form):
    """The form of a whole tree.

    Args:
        root_fd: the tree's root; borrowed.
    """

    def __init__(self, root_fd: int) -> None:
        self._all_own = InodeSet()
        self._made = InodeSet()
        self._links: dict[int, set[bytes]] = {}
        self._links_size = 0
        if not os.listdir(root_fd):
            self._all_own.add(os.fstat(root_fd).st_ino)

    def is_all_own(self, inode: int) -> bool:
        """Tell whether this layer made or emptied the directory."""
        return inode in self._all_own

    def note_made(self, directory: LayerDir, name: bytes, *, is_link: bool) -> None:
        """Keep its inode, or the name of a hard link, since its inode may be the parent's."""
        inode = directory.inode
        if not is_link:
            self._made.add(os.lstat(name, dir_fd=directory.fd).st_ino)
        elif name not in self._links.setdefault(inode, set()):
            self._links_size += _LINK_SIZE + len(name)
            if self._links_size > MOST_LINKS_SIZE:
                raise BadArchiveError("too many hard links are in directories of the layers below")
            self._links[inode].add(name)

    def is_own(self, inode: int, name: bytes, found: os.stat_result) -> bool:
        """Tell whether this layer made the inode or the name."""
        return (
            inode in self._all_own
            or found.st_ino in self._made
            or name in self._links.get(inode, ())
        )

    def is_whiteout(self, found: os.stat_result) -> bool:
        """Return False: a plain tree has no whiteouts."""
        return False

    def copy_up(self, directory: LayerDir, name: bytes, *, on_way: bool) -> bool:
        """Do nothing: everything that the layers below show is in the tree."""
        return False

    def note_cleared(self, inode: int) -> None:
        """Keep its inode: everything in it is this layer's from now on."""
        self._all_own.add(inode)

    def note_new_directory(self, directory: Dir, replaced: os.stat_result | None) -> None:
        """Keep its inode: everything in it will be new."""
        inode = os.fstat(directory.fd).st_ino
        self._all_own.add(inode)
        self._made.add(inode)

    def apply_whiteout(self, directory: LayerDir, name: bytes) -> None:
        """Remove the name and everything below it, except entries of this layer."""
        if directory.inode not in self._all_own:
            remove_foreign(directory, directory.inode, [name], self)

    def apply_opaque(self, directory: LayerDir) -> None:
        """Remove everything in the directory, except entries of this layer."""
        if directory.inode not in self._all_own:
            remove_foreign(directory, directory.inode, directory.names(), self)
            self.note_cleared(directory.inode)

    def can_hold_device(self, entry: Entry) -> bool:
        """Return True: a plain tree holds every device."""
        return True


def remove_foreign(directory: Dir, inode: int, names: list[bytes], ownership: Ownership) -> None:
    """Remove names of a directory and everything below them, except entries of the layer.

    A directory that stays, because an entry of the layer is in it, keeps its times.

    Args:
        directory: the directory; borrowed.
        inode: its inode number.
        names: the names; the list is emptied.
        ownership: tells which entries stay.
    """
    entered: list[tuple[bytes, bool, tuple[int, int]]] = []
    levels = [(inode, names)]
    with Trail(directory.fd) as trail:
        while True:
            inode, names = levels[-1]
            if names:
                name = names.pop()
                found = trail.here.find(name)
                if found is None:
                    continue
                is_own = ownership.is_own(inode, name, found)
                if not stat.S_ISDIR(found.st_mode):
                    if not is_own:
                        os.unlink(name, dir_fd=trail.here.fd)
                elif not ownership.is_all_own(found.st_ino):
                    # Entered even if it is the layer's own: the parent's entries in it are removed.
                    trail.enter(name)
                    entered.append((name, is_own, (found.st_atime_ns, found.st_mtime_ns)))
                    levels.append((found.st_ino, trail.here.names()))
                elif not is_own:  # a directory of the layers below that was emptied before
                    _rmdir_if_empty(trail.here, name)
                continue
            levels.pop()
            if not levels:
                return
            ownership.note_cleared(inode)
            name, is_own, times = entered.pop()
            trail.here.set_times(times)
            trail.leave()
            if not is_own:
                _rmdir_if_empty(trail.here, name)


def _rmdir_if_empty(directory: Dir, name: bytes) -> None:
    """Remove a directory, unless an entry of the layer is in it."""
    try:
        os.rmdir(name, dir_fd=directory.fd)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
