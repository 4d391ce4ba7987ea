"""The folder that entries are made in at present, and the way to it.

One folder is open at a time. It is looked up anew whenever an entry goes elsewhere; and if the way to
it leads through links, after anything but a file was replaced or deleted. A folder gets its times back
when it is left, so that only an entry of its own changes them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from graphdriver.driver import IDMap
from graphdriver.errors import BadArchiveError
from graphdriver.layer.idmap import to_host
from graphdriver.layer.tar.entry import show
from graphdriver.layer.tree.remove import remove_tree
from graphdriver.layer.tree.resolver import Resolver
from graphdriver.layer.write import entry as place
from graphdriver.layer.write.entry import Folder
from graphdriver.layer.write.form import Form
from graphdriver.linux.acl import has_default_acl


class InTheWayError(BadArchiveError):
    """Something of the layer's own, and no folder, stands where a folder is to be."""


class Cursor:
    """Goes from folder to folder of a tree, and makes those that are missing.

    Args:
        root: the tree's.
        form: what the tree is.
        uid_maps: folders that no entry names are of the root under these.
        gid_maps: likewise for groups.

    Attributes:
        folder: where it is, if anywhere.
        way_changed: something was replaced that the way to it may lead through; see `look_again`.
        inodes: how many things it made on the way.
        root_fd: the tree's root.
    """

    def __init__(
        self, root: Resolver, form: Form, uid_maps: Sequence[IDMap], gid_maps: Sequence[IDMap]
    ) -> None:
        self.folder: Folder | None = None
        self.way_changed = False
        self.inodes = 0
        self.root_fd = root.fd
        self._root = root
        self._form = form
        self._uid_maps = uid_maps
        self._gid_maps = gid_maps

    def enter(self, parts: list[bytes]) -> Folder:
        """Go to this folder of the tree; make it if it is missing.

        Raises:
            InTheWayError: something of this layer stands there.
            OSError: it cannot be made or opened.
        """
        folder = self.folder
        fd = None
        if folder is not None:
            if parts == folder.parts:
                return folder
            depth = len(folder.parts)
            if len(parts) > depth and parts[:depth] == folder.parts:
                fd = self._root.open_below(folder.fd, parts[depth:])
                path = folder.path + parts[depth:]
            try:
                self.leave()
            except BaseException:
                if fd is not None:
                    os.close(fd)
                raise
        if fd is None:
            fd, path = self._root.open_folder(parts, self._make_missing)
        try:
            found = os.fstat(fd)
            self.folder = Folder(
                parts,
                path,
                fd,
                found.st_ino,
                (found.st_atime_ns, found.st_mtime_ns),
                self._form.is_all_own(found.st_ino),
                has_default_acl(fd),
            )
        except BaseException:
            os.close(fd)
            raise
        return self.folder

    def leave(self) -> None:
        """Leave the folder, and give it its times back."""
        folder = self.folder
        if folder is not None:
            self.folder = None
            try:
                os.utime(folder.fd, ns=folder.times)
            finally:
                os.close(folder.fd)

    def close(self) -> None:
        """Close what is open, whatever its times are."""
        if self.folder:
            os.close(self.folder.fd)
            self.folder = None

    def make_room(self, folder: Folder, name: bytes) -> None:
        """Remove what has a name that an entry is to have."""
        found = look(folder.fd, name)
        if found is not None:
            if not stat.S_ISREG(found.st_mode):
                self.way_changed = True
                self._form.way_changed([*folder.path, name])
            remove_tree(folder.fd, name)
            if self._form.is_deletion(found):
                self._form.whiteout_replaced(folder.inode, name)

    def withdraw(self, folder: Folder, name: bytes) -> None:
        """Remove what this layer itself has put under a name.

        What lies below shows again, unless the layer deletes it.
        """
        found = look(folder.fd, name)
        if found is not None and self._form.is_own(folder.inode, name, found):
            self.make_room(folder, name)
            self._form.withdrawn(folder.fd, folder.inode, folder.path, name)

    def look_again(self) -> None:
        """Leave the folder if what was replaced in it may be a link on the very way to it."""
        self.way_changed = False
        if self.folder and self.folder.parts != self.folder.path:
            self.leave()

    def bring_up(self, fd: int, path: list[bytes], name: bytes, *, on_way: bool) -> bool:
        """Have in the tree what the layers below show under a name; see `Form.bring_up`."""
        times = times_of(fd)
        brought = self._form.bring_up(fd, path, name, on_way=on_way)
        if brought:
            self.inodes += 1
            os.utime(fd, ns=times)
        return brought

    def open_target(self, parts: list[bytes]) -> tuple[int, list[bytes]] | None:
        """Open the folder that a hard link's target is in, and say where it is; None if there is none.

        Raises:
            OSError: the way there has no end.
        """
        try:
            return self._root.open_folder(parts, self._bring_up_way)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _bring_up_way(self, fd: int, path: list[bytes], name: bytes) -> None:
        if look(fd, name) is not None or not self.bring_up(fd, path, name, on_way=True):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _make_missing(self, fd: int, path: list[bytes], name: bytes) -> None:
        """Make a folder that entries take for granted."""
        times = times_of(fd)
        inode = os.fstat(fd).st_ino
        replaced = look(fd, name)
        if replaced is None:
            if self.bring_up(fd, path, name, on_way=True):
                return
        else:
            if stat.S_ISDIR(replaced.st_mode):
                return
            if self._form.is_own(inode, name, replaced):
                raise InTheWayError(f"it is to be in {show(name)}, which is no folder")
            os.unlink(name, dir_fd=fd)
            if self._form.is_deletion(replaced):
                self._form.whiteout_replaced(inode, name)
        made = place.make_folder(fd, name, has_default_acl(fd))
        try:
            os.fchown(made, to_host(self._uid_maps, 0), to_host(self._gid_maps, 0))
            os.fchmod(made, 0o755)
            self._form.folder_made(made, replaced)
        finally:
            os.close(made)
        self.inodes += 1
        os.utime(fd, ns=times)


def times_of(fd: int) -> tuple[int, int]:
    """Return an open folder's times, as `os.utime` takes them."""
    found = os.fstat(fd)
    return found.st_atime_ns, found.st_mtime_ns


def look(dir_fd: int, name: bytes) -> os.stat_result | None:
    """Return what has a name in a folder, if anything has."""
    try:
        return os.lstat(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return None
