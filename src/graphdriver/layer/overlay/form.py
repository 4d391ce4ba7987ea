"""The forms of an overlay while a layer is unpacked into it: the upper directory, and the mount.

In an upper directory deletions are marks (`graphdriver.layer.overlay.whiteout`). It starts empty, so
everything in it is the layer's own, except what is copied up: a tar may have an entry in a directory,
an entry behind a symbolic link, or a hard link to a file, that only the layers below have. Those
directories, links and files are copied up, as the kernel does it, and still count as the lower layers'
own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from graphdriver.errors import BadArchiveError
from graphdriver.layer.overlay.lowers import Below, Descent
from graphdriver.layer.overlay.whiteout import (
    TRUSTED,
    Marks,
    is_whiteout,
    make_opaque,
    make_whiteout,
    would_be_whiteout,
)
from graphdriver.layer.tar.entry import Entry
from graphdriver.layer.tree.copy import Copier, copy_metadata
from graphdriver.layer.tree.directory import Dir, LayerDir
from graphdriver.layer.write.form import Form, Ownership
from graphdriver.layer.write.plain_tree import PlainTree, remove_foreign
from graphdriver.linux import xattr
from graphdriver.linux.acl import has_default_acl

MOST_NAMES_SIZE = 32 << 20
"""The limit in bytes for the names that are copied up, and for the names that are deleted."""
_NAME_SIZE = 128  # the memory of one name besides its own bytes


class UpperDirectory(Form):
    """The form of an upper directory.

    Args:
        root_fd: the upper directory; borrowed.
        lowers: the directories below it, nearest first; borrowed.
        marks: where the mount looks for opaque marks.
    """

    def __init__(self, root_fd: int, lowers: Sequence[int] = (), marks: Marks = TRUSTED) -> None:
        self._below = Descent(root_fd, lowers, marks)
        self._is_first = not lowers
        self._root_inode = os.fstat(root_fd).st_ino
        self._marks = marks
        self._copier = Copier()
        self._copied_up = _CopiedUp()
        # Names of the layers below that this layer both deletes and makes.
        self._deleted = _Names("it deletes too many names that it also contains")
        self._has_whiteouts = False

    def is_all_own(self, inode: int) -> bool:
        """Tell whether this is a first layer, in which nothing can be copied up."""
        return self._is_first

    def note_made(self, directory: LayerDir, name: bytes, *, is_link: bool) -> None:
        """Note that a name is the layer's own now, and no longer a copy from below."""
        if self._copied_up:
            self._copied_up.discard(directory.inode, name)

    def is_own(self, inode: int, name: bytes, found: os.stat_result) -> bool:
        """Tell whether an entry is neither a whiteout nor copied up."""
        return self._copied_up.is_own(inode, name, found)

    def is_whiteout(self, found: os.stat_result) -> bool:
        """Tell whether an entry is a whiteout."""
        return is_whiteout(found)

    def copy_up(self, directory: LayerDir, name: bytes, *, on_way: bool) -> bool:
        """Copy a name from the layers below, unless the upper directory hides it."""
        if self._is_first:
            return False
        below = self.look_below(directory, name)
        # A tar cannot hold a socket, so no entry can depend on one.
        if below is None or stat.S_ISSOCK(below.stat.st_mode):
            return False
        if stat.S_ISDIR(below.stat.st_mode):
            self._copy_directory_up(directory, name, below.dir)
        elif on_way and not stat.S_ISLNK(below.stat.st_mode):
            return False
        else:
            inherits = has_default_acl(directory.fd)
            self._copier.copy(below.dir.fd, name, below.stat, directory.fd, inherits=inherits)
        self._copied_up.add(directory.inode, name)
        return True

    def note_new_directory(self, directory: Dir, replaced: os.stat_result | None) -> None:
        """Make it opaque if something had to go for it."""
        self._forget_former(directory)
        if replaced is not None:
            # A whiteout or a file hid the directory below; the new one must not show it again.
            make_opaque(directory, self._marks)

    def note_removed(self, path: list[bytes]) -> None:
        """Look up the directories below again if the removed one was among them."""
        self._below.removed(path)

    def apply_whiteout(self, directory: LayerDir, name: bytes) -> None:
        """Make a whiteout, or make the layer's own directory of that name opaque.

        Without a directory below nothing is made: in a directory that is not merged the kernel lists
        whiteouts as files. The root is always merged, opaque or not.
        """
        if not self.is_merged(directory):
            return
        self._clear(directory, [name])
        try:
            make_whiteout(directory, name)
            self._has_whiteouts = True
            self._copied_up.discard(directory.inode, name)
        except FileExistsError:
            self._deleted.add(directory.inode, name)
            # The layer's own entry is there and stays: whiteouts hide only the layers below.
            try:
                own = directory.open(name)
            except NotADirectoryError:
                return  # the layer's own file hides what is below as well
            with own:
                make_opaque(own, self._marks)
                self._below.became_opaque([*directory.path, name])

    def is_merged(self, directory: LayerDir) -> bool:
        """Tell whether the mount merges a directory with one of the layers below."""
        is_root = directory.inode == self._root_inode
        return not self._is_first and (is_root or bool(self._below.level(directory.path)))

    def look_below(self, directory: LayerDir, name: bytes) -> Below | None:
        """Return what the layers below show at a name, unless the upper directory hides it."""
        return self._below.level(directory.path).look(name)

    def apply_opaque(self, directory: LayerDir) -> None:
        """Make the directory opaque.

        The kernel ignores the opaque attribute of a mount's root, so in the root each name gets a
        whiteout.
        """
        if directory.inode == self._root_inode and not self._is_first:
            for name in self._below.level([]).names():
                self.apply_whiteout(directory, name)
        else:
            self._clear(directory, directory.names())
            self._copied_up.note_cleared(directory.inode)
        # The root too, so that a diff of this layer has the opaque entry of its tar.
        make_opaque(directory, self._marks)
        self._below.became_opaque(directory.path)

    def note_whiteout_replaced(self, directory: LayerDir, name: bytes) -> None:
        """Note the name, since the whiteout on disk is gone."""
        self._deleted.add(directory.inode, name)

    def restore_whiteout(self, directory: LayerDir, name: bytes) -> None:
        """Make a whiteout, if the layer deletes the name."""
        if self._deleted.has(directory.inode, name):
            self.apply_whiteout(directory, name)

    def can_hold_device(self, entry: Entry) -> bool:
        """Tell whether a device would not be a whiteout."""
        return not would_be_whiteout(entry)

    def close(self) -> None:
        """Close the directories of the layers below."""
        self._below.close()

    def _copy_directory_up(self, directory: Dir, name: bytes, below: Dir) -> None:
        inherits = has_default_acl(directory.fd)
        with below.open(name) as source, directory.make(name, inherits=inherits) as made:
            self._forget_former(made)
            copy_metadata(made.fd, os.fstat(source.fd), xattr.get_all(source.fd))

    def _forget_former(self, made: Dir) -> None:
        """Forget what was noted of a directory that is gone, and had the inode number of a new one."""
        inode = os.fstat(made.fd).st_ino
        self._copied_up.forget(inode)
        self._deleted.forget(inode)

    def _clear(self, directory: LayerDir, names: list[bytes]) -> None:
        """Remove names that were copied up, and whiteouts, which have nothing to hide any more."""
        if self._copied_up or self._has_whiteouts:
            remove_foreign(directory, directory.inode, names, self._copied_up)


class MountedOverlay(PlainTree):
    """The form of a mounted overlay: a whole tree, in which some devices would be whiteouts."""

    def can_hold_device(self, entry: Entry) -> bool:
        """Tell whether a device would not be a whiteout."""
        return not would_be_whiteout(entry)


class _Names:
    """Names of entries, by the inode number of their directory.

    Args:
        too_many: the text of the error if they take more than `MOST_NAMES_SIZE`.
    """

    def __init__(self, too_many: str) -> None:
        self._too_many = too_many
        self._names: dict[int, set[bytes]] = {}
        self._size = 0

    def __bool__(self) -> bool:
        return bool(self._names)

    def add(self, inode: int, name: bytes) -> None:
        """Add a name.

        Raises:
            BadArchiveError: they take more memory than `MOST_NAMES_SIZE`.
        """
        self._size += _NAME_SIZE + len(name)
        if self._size > MOST_NAMES_SIZE:
            raise BadArchiveError(self._too_many)
        self._names.setdefault(inode, set()).add(name)

    def discard(self, inode: int, name: bytes) -> None:
        """Remove a name."""
        self._names.get(inode, set()).discard(name)

    def forget(self, inode: int) -> None:
        """Remove the names of a directory."""
        self._names.pop(inode, None)

    def has(self, inode: int, name: bytes) -> bool:
        """Tell whether a name was added."""
        return name in self._names.get(inode, ())


class _CopiedUp(_Names, Ownership):
    """The names that are in the upper directory but belong to the layers below."""

    def __init__(self) -> None:
        super().__init__("it needs too many names of the layers below to be copied up")

    def is_own(self, inode: int, name: bytes, found: os.stat_result) -> bool:
        """Tell whether an entry is neither a whiteout nor copied up."""
        return not is_whiteout(found) and not self.has(inode, name)

    def is_all_own(self, inode: int) -> bool:
        """Return False: a directory of the layer may contain the copied-up target of a hard link."""
        return False

    def note_cleared(self, inode: int) -> None:
        """Remove the names of the directory."""
        self.forget(inode)
