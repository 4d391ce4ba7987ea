"""The trees of an overlay while a layer is unpacked into them: the upper directory, and the mount.

In an upper directory deletions are marks (`graphdriver.layer.overlay.whiteout`). It begins empty, so
what is in it is the layer's own, with one exception: what is copied up. A tar may have entries in a
directory, reach them through a link, or link to a file, that only the layers below have. Those are
copied up, as the kernel would do it, and still count as theirs.
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
"""How many bytes of memory the names of what is copied up may take, and of what is deleted."""
_NAME_SIZE = 128  # what one takes besides its own bytes


class UpperDirectory(Form):
    """The form of an upper directory.

    Args:
        root_fd: the upper directory; borrowed.
        lowers: those below it, nearest first; borrowed.
        marks: where the mount looks for opaque marks.
    """

    def __init__(self, root_fd: int, lowers: Sequence[int] = (), marks: Marks = TRUSTED) -> None:
        self._below = Descent(root_fd, lowers, marks)
        self._is_first = not lowers
        self._root_inode = os.fstat(root_fd).st_ino
        self._marks = marks
        self._copier = Copier()
        self._copied_up = _CopiedUp()
        # What the layers below have of names that the layer both deletes and brings.
        self._deleted = _Names("it deletes too much that it brings itself")
        self._has_whiteouts = False

    def is_all_own(self, inode: int) -> bool:
        """Tell that it is so on a first layer, where nothing can be copied up."""
        return self._is_first

    def note_made(self, directory: LayerDir, name: bytes, *, is_link: bool) -> None:
        """Take note that a name is not merely copied up any more."""
        if self._copied_up:
            self._copied_up.discard(directory.inode, name)

    def is_own(self, inode: int, name: bytes, found: os.stat_result) -> bool:
        """Tell whether it is neither a whiteout nor copied up."""
        return self._copied_up.is_own(inode, name, found)

    def is_whiteout(self, found: os.stat_result) -> bool:
        """Tell whether it is a whiteout."""
        return is_whiteout(found)

    def copy_up(self, directory: LayerDir, name: bytes, *, on_way: bool) -> bool:
        """Copy it from the layers below, unless something in the upper directory hides it."""
        if self._is_first:
            return False
        below = self._below.level(directory.path).look(name)
        # No tar holds a socket, so no tar can take one for granted.
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
        # A directory that was removed may have had its inode number.
        inode = os.fstat(directory.fd).st_ino
        self._copied_up.forget(inode)
        self._deleted.forget(inode)
        if replaced is not None:
            # A whiteout or a file hid the directory below; the new one must not show it again.
            make_opaque(directory, self._marks)

    def note_removed(self, path: list[bytes]) -> None:
        """Look the directories below up anew if that was one of them."""
        self._below.removed(path)

    def apply_whiteout(self, directory: LayerDir, name: bytes) -> None:
        """Make a whiteout, or make the layer's own directory of that name opaque.

        Not where nothing is below: in a directory that it does not merge with another the kernel lists
        whiteouts too. The root is always merged, opaque or not.
        """
        is_root = directory.inode == self._root_inode
        if self._is_first or not (self._below.level(directory.path) or is_root):
            return
        self._clear(directory, [name])
        try:
            make_whiteout(directory, name)
            self._has_whiteouts = True
            self._copied_up.discard(directory.inode, name)
        except FileExistsError:
            self._deleted.add(directory.inode, name)
            # What is there is the layer's own, and stays: whiteouts hide only what lies below.
            try:
                own = directory.open(name)
            except NotADirectoryError:
                return  # the layer's own file hides what is below as well
            with own:
                make_opaque(own, self._marks)
                self._below.became_opaque([*directory.path, name])

    def apply_opaque(self, directory: LayerDir) -> None:
        """Make the directory opaque.

        The root of a mount is merged whatever its attributes say, so there each name gets a whiteout.
        """
        if directory.inode == self._root_inode and not self._is_first:
            for name in self._below.level([]).names():
                self.apply_whiteout(directory, name)
        else:
            self._clear(directory, directory.names())
            self._copied_up.note_cleared(directory.inode)
        # The root too: so a diff of this layer says again what its tar said.
        make_opaque(directory, self._marks)
        self._below.became_opaque(directory.path)

    def note_whiteout_replaced(self, directory: LayerDir, name: bytes) -> None:
        """Take note of it: no whiteout on disk tells of it any more."""
        self._deleted.add(directory.inode, name)

    def restore_whiteout(self, directory: LayerDir, name: bytes) -> None:
        """Make a whiteout, if there was one or would have been."""
        if self._deleted.has(directory.inode, name):
            self.apply_whiteout(directory, name)

    def can_hold_device(self, entry: Entry) -> bool:
        """Tell whether it would not be a whiteout."""
        return not would_be_whiteout(entry)

    def close(self) -> None:
        """Close what is open of the layers below."""
        self._below.close()

    def _copy_directory_up(self, directory: Dir, name: bytes, below: Dir) -> None:
        inherits = has_default_acl(directory.fd)
        with below.open(name) as source, directory.make(name, inherits=inherits) as made:
            copy_metadata(made.fd, os.fstat(source.fd), xattr.get_all(source.fd))

    def _clear(self, directory: LayerDir, names: list[bytes]) -> None:
        """Remove what was copied up, and whiteouts, which have nothing left to hide."""
        if self._copied_up or self._has_whiteouts:
            remove_foreign(directory, directory.inode, names, self._copied_up)


class MountedOverlay(PlainTree):
    """The form of a mounted overlay: a whole tree, in which some devices would be whiteouts."""

    def can_hold_device(self, entry: Entry) -> bool:
        """Tell whether it would not be a whiteout."""
        return not would_be_whiteout(entry)


class _Names:
    """Names of entries, by the inode number of their directory.

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
        """Add one.

        Raises:
            BadArchiveError: they take more memory than `MOST_NAMES_SIZE`.
        """
        self._size += _NAME_SIZE + len(name)
        if self._size > MOST_NAMES_SIZE:
            raise BadArchiveError(self._too_many)
        self._names.setdefault(inode, set()).add(name)

    def discard(self, inode: int, name: bytes) -> None:
        """Forget one."""
        self._names.get(inode, set()).discard(name)

    def forget(self, inode: int) -> None:
        """Forget those of a directory."""
        self._names.pop(inode, None)

    def has(self, inode: int, name: bytes) -> bool:
        """Tell whether one was added."""
        return name in self._names.get(inode, ())


class _CopiedUp(_Names, Ownership):
    """The names that are in the upper directory but belong to the layers below."""

    def __init__(self) -> None:
        super().__init__("it takes too much of the layers below for granted")

    def is_own(self, inode: int, name: bytes, found: os.stat_result) -> bool:
        """Tell whether it is neither a whiteout nor copied up."""
        return not is_whiteout(found) and not self.has(inode, name)

    def is_all_own(self, inode: int) -> bool:
        """Tell that it is not so: a directory of the layer may hold a hard link's target, copied up."""
        return False

    def note_cleared(self, inode: int) -> None:
        """Forget what was in it."""
        self.forget(inode)
