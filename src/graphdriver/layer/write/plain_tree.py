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
from graphdriver.layer.tree.inodes import InodeSet
from graphdriver.layer.tree.trail import Trail
from graphdriver.layer.tree.walk import names_in
from graphdriver.layer.write.form import Form, Ownership

MOST_LINKS_SIZE = 8 << 20
"""How much memory the names of hard links may take that are in folders of the layers below."""
_LINK_SIZE = 128


class PlainTree(Form):
    """A whole tree: it begins as a copy of the parent's, and deletions delete."""

    def __init__(self, root_fd: int) -> None:
        self._all_own = InodeSet()
        self._brought = InodeSet()
        self._links: dict[int, set[bytes]] = {}
        self._links_size = 0
        if not os.listdir(root_fd):
            self._all_own.add(os.fstat(root_fd).st_ino)

    def is_all_own(self, inode: int) -> bool:
        """Tell by what was remembered."""
        return inode in self._all_own

    def brought(self, fd: int, inode: int, name: bytes, *, link: bool) -> None:
        """Remember its inode, of a hard link its name."""
        if not link:
            self._brought.add(os.lstat(name, dir_fd=fd).st_ino)
        elif name not in self._links.setdefault(inode, set()):
            self._links_size += _LINK_SIZE + len(name)
            if self._links_size > MOST_LINKS_SIZE:
                raise BadArchiveError("too many hard links are in folders of the layers below")
            self._links[inode].add(name)

    def is_own(self, inode: int, name: bytes, found: os.stat_result) -> bool:
        """Tell by what was remembered."""
        return (
            inode in self._all_own
            or found.st_ino in self._brought
            or name in self._links.get(inode, ())
        )

    def is_deletion(self, found: os.stat_result) -> bool:
        """Tell that a plain tree has none."""
        return False

    def bring_up(self, fd: int, path: list[bytes], name: bytes, *, on_way: bool) -> bool:
        """Do nothing: all that the layers below show is in the tree."""
        return False

    def cleared(self, inode: int) -> None:
        """Remember it: all in it is this layer's now."""
        self._all_own.add(inode)

    def folder_made(self, fd: int, replaced: os.stat_result | None) -> None:
        """Remember it: all in it will be new."""
        inode = os.fstat(fd).st_ino
        self._all_own.add(inode)
        self._brought.add(inode)

    def hide(self, fd: int, inode: int, path: list[bytes], name: bytes) -> None:
        """Remove it, and what was below it."""
        if inode not in self._all_own:
            remove_foreign(fd, inode, [name], self)

    def hide_all(self, fd: int, inode: int, path: list[bytes]) -> None:
        """Remove all that was there."""
        if inode not in self._all_own:
            remove_foreign(fd, inode, names_in(fd), self)
            self.cleared(inode)

    def can_hold(self, entry: Entry) -> bool:
        """Tell that a plain tree holds every device."""
        return True


def remove_foreign(fd: int, inode: int, names: list[bytes], ownership: Ownership) -> None:
    """Remove these names of a folder and all below them, but what is the layer's own.

    A folder that must stay, because something of the layer is in it, keeps its times.

    Args:
        fd: the folder.
        inode: its inode number.
        names: what to remove; used up.
        ownership: tells what stays.
    """
    entered: list[tuple[bytes, bool, tuple[int, int]]] = []
    levels = [(inode, names)]
    with Trail(fd) as trail:
        while True:
            inode, names = levels[-1]
            if names:
                name = names.pop()
                try:
                    found = os.lstat(name, dir_fd=trail.fd)
                except FileNotFoundError:
                    continue
                own = ownership.is_own(inode, name, found)
                if not stat.S_ISDIR(found.st_mode):
                    if not own:
                        os.unlink(name, dir_fd=trail.fd)
                elif not ownership.is_all_own(found.st_ino):
                    trail.enter(name)
                    entered.append((name, own, (found.st_atime_ns, found.st_mtime_ns)))
                    levels.append((found.st_ino, names_in(trail.fd)))
                elif not own:  # a folder of the layers below that was emptied before
                    _rmdir_if_empty(trail.fd, name)
                continue
            levels.pop()
            if not levels:
                return
            ownership.cleared(inode)
            name, own, times = entered.pop()
            os.utime(trail.fd, ns=times)
            trail.leave()
            if not own:
                _rmdir_if_empty(trail.fd, name)


def _rmdir_if_empty(dir_fd: int, name: bytes) -> None:
    try:
        os.rmdir(name, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
