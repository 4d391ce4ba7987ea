"""The directory of the current entry, and the way to it.

One directory is open at a time. When an entry is in another directory, that one is resolved. The times
of a directory are restored when it is left, so only an entry of its own changes them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from graphdriver.driver import IDMap
from graphdriver.errors import BadArchiveError
from graphdriver.layer.idmap import to_host
from graphdriver.layer.tar.entry import show
from graphdriver.layer.tree.directory import LayerDir
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.resolver import Resolver
from graphdriver.layer.write.form import Form
from graphdriver.linux.acl import has_default_acl


class ParentIsFileError(BadArchiveError):
    """The same layer has something other than a directory at the path of an entry's parent."""


@dataclass(slots=True)
class Parent:
    """The open directory that entries are made in.

    Attributes:
        dir: the directory, and its path without links.
        parts: its path in the tar, which may lead through links.
        times: its access and modification time, restored when it is left.
        is_all_own: everything in it came with this layer.
        inherits: new files in it inherit an access control list.
        owner: the owner of new files in it; None until one was made.
    """

    dir: LayerDir
    parts: list[bytes]
    times: tuple[int, int]
    is_all_own: bool
    inherits: bool
    owner: tuple[int, int] | None = None


class Cursor:
    """A position in a tree, which moves from directory to directory and makes missing ones.

    Args:
        resolver: the tree's resolver.
        form: the form of the tree.
        uid_maps: missing directories belong to the root of these maps.
        gid_maps: likewise for groups.

    Attributes:
        parent: the current directory; None before the first one and after `leave`.
        has_replaced: something other than a file was removed since `leave_if_replaced`.
        inodes: how many inodes the cursor made.
        root_fd: the tree's root, borrowed.
    """

    def __init__(
        self, resolver: Resolver, form: Form, uid_maps: Sequence[IDMap], gid_maps: Sequence[IDMap]
    ) -> None:
        self.parent: Parent | None = None
        self.has_replaced = False
        self.inodes = 0
        self.root_fd = resolver.root_fd
        self._resolver = resolver
        self._form = form
        self._uid_maps = uid_maps
        self._gid_maps = gid_maps

    def enter(self, parts: list[bytes]) -> Parent:
        """Go to this directory of the tree; make it if it is missing.

        Raises:
            ParentIsFileError: this layer has something else there.
            OSError: it cannot be made or opened.
        """
        parent = self.parent
        reached = None
        if parent is not None:
            if parts == parent.parts:
                return parent
            depth = len(parent.parts)
            if len(parts) > depth and parts[:depth] == parent.parts:
                reached = self._resolver.open_below(parent.dir, parts[depth:])
            try:
                self.leave()
            except BaseException:
                if reached is not None:
                    reached.close()
                raise
        if reached is None:
            # From the root and not by ``..``: the way to the last directory may lead through a link.
            reached = self._resolver.open(parts, self._make_missing)
        try:
            found = os.fstat(reached.fd)
            times = found.st_atime_ns, found.st_mtime_ns
            is_all_own = self._form.is_all_own(found.st_ino)
            self.parent = Parent(reached, parts, times, is_all_own, has_default_acl(reached.fd))
        except BaseException:
            reached.close()
            raise
        return self.parent

    def leave(self) -> None:
        """Leave the directory, and restore its times."""
        parent = self.parent
        if parent is not None:
            self.parent = None  # first: after an error here the directory must not be left twice
            with parent.dir:
                parent.dir.set_times(parent.times)

    def close(self) -> None:
        """Close the directory without restoring its times."""
        if self.parent:
            self.parent.dir.close()
            self.parent = None

    def make_room(self, directory: LayerDir, name: bytes) -> os.stat_result | None:
        """Remove what is at the name of a new entry; return the result of lstat(2) for it."""
        found = directory.find(name)
        if found is not None:
            if not stat.S_ISREG(found.st_mode):
                self.has_replaced = True
                self._form.note_removed([*directory.path, name])
            remove_tree(directory.fd, name)
            if self._form.is_whiteout(found):
                self._form.note_whiteout_replaced(directory, name)
        return found

    def remove_own(self, directory: LayerDir, name: bytes) -> None:
        """Remove what this layer itself made at a name.

        The layers below show through again, unless the layer deletes the name.
        """
        found = directory.find(name)
        if found is not None and self._form.is_own(directory.inode, name, found):
            self.make_room(directory, name)
            self._form.restore_whiteout(directory, name)

    def leave_if_replaced(self) -> None:
        """Leave the directory if what was removed may be a link on the way to it.

        The open descriptor would still lead to the directory behind the removed link, although its path
        in the tar now leads elsewhere (CVE-2025-47290).
        """
        self.has_replaced = False
        if self.parent and self.parent.parts != self.parent.dir.path:
            self.leave()

    def copy_up(self, directory: LayerDir, name: bytes, *, on_way: bool) -> bool:
        """Copy up what the layers below show at a name; see `Form.copy_up`."""
        times = directory.times()
        copied = self._form.copy_up(directory, name, on_way=on_way)
        if copied:
            self.inodes += 1
            directory.set_times(times)
        return copied

    def open_target(self, parts: list[bytes]) -> LayerDir | None:
        """Open the directory of a hard link's target; return None if it does not exist.

        Raises:
            OSError: too many links are on the way.
        """
        try:
            return self._resolver.open(parts, self._copy_up_way)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _copy_up_way(self, directory: LayerDir, name: bytes) -> None:
        if directory.find(name) is not None or not self.copy_up(directory, name, on_way=True):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _make_missing(self, directory: LayerDir, name: bytes) -> None:
        """Make a directory that has no entry before the entries in it."""
        times = directory.times()
        replaced = directory.find(name)
        if replaced is None:
            if self.copy_up(directory, name, on_way=True):
                return
        else:
            if stat.S_ISDIR(replaced.st_mode):
                return  # it was created meanwhile
            # The layer's directory replaces a file of the layers below, but not a file of the same tar.
            if self._form.is_own(directory.inode, name, replaced):
                raise ParentIsFileError(f"it is in {show(name)}, which is not a directory")
            os.unlink(name, dir_fd=directory.fd)
            if self._form.is_whiteout(replaced):
                self._form.note_whiteout_replaced(directory, name)
        with directory.make(name, inherits=has_default_acl(directory.fd)) as made:
            os.fchown(made.fd, to_host(self._uid_maps, 0), to_host(self._gid_maps, 0))
            os.fchmod(made.fd, 0o755)
            self._form.note_new_directory(made, replaced)
        self.inodes += 1
        directory.set_times(times)
