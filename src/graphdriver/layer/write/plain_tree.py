"""A whole tree: it begins as a copy of the parent's, and whiteouts delete.

Whiteouts hide only what lies *below*, never what the same layer brings, and wherever in the tar they
stand. So a plain tree must know what came with this layer. It keeps as little as that takes: the inodes
of the directories in which all is this layer's own, because it made or emptied them; in other
directories, the inodes that it brought, and the names of its hard links, whose inodes may be the
parent's. A first layer remembers its directories alone.
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
"""How many bytes of memory the names of hard links in directories of the layers below may take."""
_LINK_SIZE = 128  # what one takes besides its own bytes


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
        """Tell by what was remembered."""
        return inode in self._all_own

    def note_made(self, directory: LayerDir, name: bytes, *, is_link: bool) -> None:
        """Remember its inode, of a hard link its name: its inode may be one of the parent's files."""
        inode = directory.inode
        if not is_link:
            self._made.add(os.lstat(name, dir_fd=directory.fd).st_ino)
        elif name not in self._links.setdefault(inode, set()):
            self._links_size += _LINK_SIZE + len(name)
            if self._links_size > MOST_LINKS_SIZE:
                raise BadArchiveError("too many hard links are in directories of the layers below")
            self._links[inode].add(name)

    def is_own(self, inode: int, name: bytes, found: os.stat_result) -> bool:
        """Tell by what was remembered."""
        return (
            inode in self._all_own
            or found.st_ino in self._made
            or name in self._links.get(inode, ())
        )

    def is_whiteout(self, found: os.stat_result) -> bool:
        """Tell that a plain tree has none."""
        return False

    def copy_up(self, directory: LayerDir, name: bytes, *, on_way: bool) -> bool:
        """Do nothing: all that the layers below show is in the tree."""
        return False

    def note_cleared(self, inode: int) -> None:
        """Remember it: all in it is this layer's now."""
        self._all_own.add(inode)

    def note_new_directory(self, directory: Dir, replaced: os.stat_result | None) -> None:
        """Remember it: all in it will be new."""
        inode = os.fstat(directory.fd).st_ino
        self._all_own.add(inode)
        self._made.add(inode)

    def apply_whiteout(self, directory: LayerDir, name: bytes) -> None:
        """Remove what has the name, and what is below it, unless this layer brought it."""
        if directory.inode not in self._all_own:
            remove_foreign(directory, directory.inode, [name], self)

    def apply_opaque(self, directory: LayerDir) -> None:
        """Remove all that this layer did not bring."""
        if directory.inode not in self._all_own:
            remove_foreign(directory, directory.inode, directory.names(), self)
            self.note_cleared(directory.inode)

    def can_hold_device(self, entry: Entry) -> bool:
        """Tell that a plain tree holds every device."""
        return True


def remove_foreign(directory: Dir, inode: int, names: list[bytes], ownership: Ownership) -> None:
    """Remove these names of a directory and all below them, but what is the layer's own.

    A directory that must stay, because something of the layer is in it, keeps its times.

    Args:
        directory: the directory; borrowed.
        inode: its inode number.
        names: what to remove; used up.
        ownership: tells what stays.
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
                    # Entered even if it is the layer's own: what the parent had in it is to go.
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
    """Remove a directory, unless something of the layer is in it."""
    try:
        os.rmdir(name, dir_fd=directory.fd)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
