"""The upper folder of an overlay mount as a layer: unpacked into without a mount.

In it deletions are marks (kernel documentation, filesystems/overlayfs, "whiteouts and opaque
directories"): a 0:0 character device for a name that is gone, an attribute for a folder that hides all
below it. An upper folder begins empty, so what is in it is the layer's own, with one exception: what
the layers below show and the tar takes for granted - a folder that entries are made in, a link on the
way there, the target of a hard link - is brought up, as the kernel would copy it, and counts as theirs.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from graphdriver.errors import BadArchiveError
from graphdriver.layer.overlay.lowers import Descent
from graphdriver.layer.overlay.whiteout import (
    TRUSTED,
    Marks,
    is_whiteout,
    make_opaque,
    make_whiteout,
)
from graphdriver.layer.tar.entry import Entry, EntryType
from graphdriver.layer.tree.copy import Copier, copy_metadata
from graphdriver.layer.tree.walk import names_in
from graphdriver.layer.write.entry import make_folder
from graphdriver.layer.write.form import Form, Ownership
from graphdriver.layer.write.plain_tree import PlainTree, remove_foreign
from graphdriver.linux import xattr
from graphdriver.linux.acl import has_default_acl

MOST_NAMES_SIZE = 32 << 20
"""How much memory the names may take of what is brought up."""
_NAME_SIZE = 128

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UpperDirectory(Form):
    """The form of an upper folder.

    Args:
        root_fd: the upper folder.
        lowers: those below it, nearest first; they stay the caller's.
        marks: where the mount looks for opaque marks.
    """

    def __init__(self, root_fd: int, lowers: Sequence[int] = (), marks: Marks = TRUSTED) -> None:
        self._below = Descent(root_fd, lowers, marks)
        self._is_first = not lowers
        self._root_inode = os.fstat(root_fd).st_ino
        self._marks = marks
        self._copier = Copier()
        self._brought = _BroughtUp()
        self._deleted = _Names("it deletes too much that it brings itself")
        """What the layers below have of names that the layer both deletes and brings."""
        self._has_whiteouts = False

    def is_all_own(self, inode: int) -> bool:
        """Tell that it is so on a first layer, where nothing can be brought up."""
        return self._is_first

    def brought(self, fd: int, inode: int, name: bytes, *, link: bool) -> None:
        """Take note that a name is not merely brought up any more."""
        self._brought.discard(inode, name)

    def is_own(self, inode: int, name: bytes, found: os.stat_result) -> bool:
        """Tell whether it is neither a whiteout nor brought up."""
        return self._brought.is_own(inode, name, found)

    def is_deletion(self, found: os.stat_result) -> bool:
        """Tell whether it is a whiteout."""
        return is_whiteout(found)

    def bring_up(self, fd: int, path: list[bytes], name: bytes, *, on_way: bool) -> bool:
        """Copy it up, unless something in the upper folder hides it."""
        if self._is_first:
            return False
        below = self._below.level(path).look(name)
        if below is None or stat.S_ISSOCK(below.stat.st_mode):
            return False
        if stat.S_ISDIR(below.stat.st_mode):
            self._bring_up_folder(fd, name, below.fd)
        elif on_way and not stat.S_ISLNK(below.stat.st_mode):
            return False
        else:
            self._copier.copy(below.fd, name, below.stat, fd, inherits=has_default_acl(fd))
        self._brought.add(os.fstat(fd).st_ino, name)
        return True

    def folder_made(self, fd: int, replaced: os.stat_result | None) -> None:
        """Make it opaque if something had to go for it."""
        # An earlier folder may have had its inode number.
        inode = os.fstat(fd).st_ino
        self._brought.forget(inode)
        self._deleted.forget(inode)
        if replaced is not None:
            # A whiteout, or a file, hid the folder below; the new one must not bring it back.
            make_opaque(fd, self._marks)

    def way_changed(self, path: list[bytes]) -> None:
        """Look the directories below up anew if that was one of them."""
        self._below.removed(path)

    def hide(self, fd: int, inode: int, path: list[bytes], name: bytes) -> None:
        """Put a whiteout there, or make the layer's own folder opaque.

        Not where nothing is below: of a folder that it does not merge with another the kernel lists
        all that is in it, whiteouts too. The root is always merged, opaque or not.
        """
        if self._is_first or not (self._below.level(path) or inode == self._root_inode):
            return
        self._clear(fd, inode, [name])
        try:
            make_whiteout(fd, name)
            self._has_whiteouts = True
            self._brought.discard(inode, name)
        except FileExistsError:
            self._deleted.add(inode, name)
            try:
                folder = os.open(name, _FOLDER, dir_fd=fd)
            except NotADirectoryError:
                return  # the layer's own file hides what is below as well
            try:
                make_opaque(folder, self._marks)
                self._below.became_opaque([*path, name])
            finally:
                os.close(folder)

    def hide_all(self, fd: int, inode: int, path: list[bytes]) -> None:
        """Make the folder opaque.

        The root of a mount is merged whatever its attributes say, so there each name gets a whiteout.
        """
        if inode == self._root_inode and not self._is_first:
            for name in self._below.level([]).names():
                self.hide(fd, inode, [], name)
        else:
            self._clear(fd, inode, names_in(fd))
            self._brought.cleared(inode)
        make_opaque(fd, self._marks)
        self._below.became_opaque(path)

    def whiteout_replaced(self, inode: int, name: bytes) -> None:
        """Take note of it: no whiteout tells of it any more."""
        self._deleted.add(inode, name)

    def withdrawn(self, fd: int, inode: int, path: list[bytes], name: bytes) -> None:
        """Put a whiteout there again, if there was one or would have been."""
        if self._deleted.has(inode, name):
            self.hide(fd, inode, path, name)

    def can_hold(self, entry: Entry) -> bool:
        """Tell whether it is no deletion to overlayfs."""
        return not _is_deletion(entry)

    def close(self) -> None:
        """Close what is open of the layers below."""
        self._below.close()

    def _bring_up_folder(self, fd: int, name: bytes, below_fd: int) -> None:
        source = os.open(name, _FOLDER, dir_fd=below_fd)
        try:
            made = make_folder(fd, name, has_default_acl(fd))
            try:
                copy_metadata(made, os.fstat(source), xattr.get_all(source))
            finally:
                os.close(made)
        finally:
            os.close(source)

    def _clear(self, fd: int, inode: int, names: list[bytes]) -> None:
        """Remove what was brought up, and whiteouts, which nothing is left for to hide."""
        if self._brought or self._has_whiteouts:
            remove_foreign(fd, inode, names, self._brought)


class MountedOverlay(PlainTree):
    """The form of a mounted overlay: a whole tree, but devices may be orders to the kernel."""

    def can_hold(self, entry: Entry) -> bool:
        """Tell whether it is no deletion to overlayfs."""
        return not _is_deletion(entry)


def _is_deletion(entry: Entry) -> bool:
    return entry.type is EntryType.CHARACTER_DEVICE and entry.device == (0, 0)


class _Names:
    """Names of entries, by the inode of their directory.

    Args:
        too_many: the error if they take more than `MOST_NAMES_SIZE`.
    """

    def __init__(self, too_many: str) -> None:
        self._too_many = too_many
        self._names: dict[int, set[bytes]] = {}
        self._size = 0

    def __bool__(self) -> bool:
        return bool(self._names)

    def add(self, inode: int, name: bytes) -> None:
        """Take note of one.

        Raises:
            BadArchiveError: it is more than anybody can take note of.
        """
        self._size += _NAME_SIZE + len(name)
        if self._size > MOST_NAMES_SIZE:
            raise BadArchiveError(self._too_many)
        self._names.setdefault(inode, set()).add(name)

    def discard(self, inode: int, name: bytes) -> None:
        """Forget one."""
        if self._names:
            self._names.get(inode, set()).discard(name)

    def forget(self, inode: int) -> None:
        """Forget those of a directory."""
        self._names.pop(inode, None)

    def has(self, inode: int, name: bytes) -> bool:
        """Tell whether note was taken of one."""
        return name in self._names.get(inode, ())


class _BroughtUp(_Names, Ownership):
    """The names, by directory, that are in the upper one but are the layers' below."""

    def __init__(self) -> None:
        super().__init__("it takes too much of the layers below for granted")

    def is_own(self, inode: int, name: bytes, found: os.stat_result) -> bool:
        """Tell whether it is neither a whiteout nor brought up."""
        return not is_whiteout(found) and not self.has(inode, name)

    def is_all_own(self, inode: int) -> bool:
        """Tell that it is not so: a folder of the layer's may hold the target of a hard link."""
        return False

    def cleared(self, inode: int) -> None:
        """Forget what was in it."""
        self.forget(inode)
