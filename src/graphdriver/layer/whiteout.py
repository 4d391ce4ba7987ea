"""Deletions: how a layer's tar says them, and what a tree on disk makes of them.

A file called ``.wh.NAME`` deletes NAME from the layers below, ``.wh..wh..opq`` in a folder all that the
layers below have in that folder (OCI image-spec, layer.md, "Whiteouts"). Other names that begin with
``.wh..wh.`` are AUFS's own.

Both hide only what lies *below*, never what the same layer brings, and wherever in the tar they stand.
So a plain tree, which holds a copy of the parent and is changed in place, must know what came with this
layer. Kept as little as that takes, whatever the tar holds: the inodes of the folders in which all is
this layer's own, because it made or emptied them; in other folders, the inodes that it brought, and the
names of its hard links, whose inodes may be the parent's. A first layer remembers its folders alone.

A tree's *form* says which of two things it is: `PLAIN`, a whole tree in which deletions delete, or
`graphdriver.layer.overlay.form.OVERLAY`, the upper folder of an overlay mount, in which they are marks.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Protocol

from graphdriver.errors import BadArchiveError
from graphdriver.layer.tar.entry import Entry, EntryType
from graphdriver.layer.tree.inodes import InodeSet
from graphdriver.layer.tree.walk import Trail, names_in

PREFIX = b".wh."
"""What the name of a whiteout begins with; the rest is the name that it deletes."""

META_PREFIX = b".wh..wh."
"""What AUFS's own names begin with."""

OPAQUE = b".wh..wh..opq"
"""The opaque mark."""

LINK_TARGETS = b".wh..wh.plnk"
"""A folder in the root with targets of hard links; it is no part of the layer itself."""

MOST_LINKS_SIZE = 8 << 20
"""How much memory the names of hard links may take that are in folders of the layers below."""
_LINK_SIZE = 128


def target(name: bytes) -> bytes:
    """Return the name that a whiteout deletes.

    Raises:
        BadArchiveError: it can be no file's name (``.wh..`` would delete the folder that it is in).
    """
    hidden = name[len(PREFIX) :]
    if hidden in {b"", b".", b".."}:
        raise BadArchiveError("a whiteout for no name")
    return hidden


def mark(name: bytes) -> Entry:
    """Return the entry of a whiteout or an opaque mark: a file whose name alone counts."""
    return Entry(name, EntryType.FILE, mode=0o600)


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

    def can_hold(self, entry: Entry) -> bool:
        """Tell whether a device is content here, and no order to whoever shows the tree."""
        ...

    def close(self) -> None:
        """Close what is open, done or not."""


class PLAIN(Form):
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
