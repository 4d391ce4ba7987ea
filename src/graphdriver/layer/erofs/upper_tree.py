"""A layer's tree in memory while its tar is applied: an upper directory that is not on disk.

Each operation does what `graphdriver.layer.write.cursor.Cursor` does on disk with the form
`graphdriver.layer.overlay.form.UpperDirectory`. What that refuses ends in a `CannotHoldError`, since
then the unpacker decides.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from graphdriver.layer.erofs.below import LayersBelow
from graphdriver.layer.erofs.bounds import (
    DIRECTORY,
    INODE,
    ITEM,
    NAME,
    PACKED,
    Budget,
    CannotHoldError,
)
from graphdriver.layer.erofs.copied import CopiedData
from graphdriver.layer.erofs.tree import Directory, Inode, Node, unpacked_file
from graphdriver.layer.overlay.whiteout import TRUSTED
from graphdriver.layer.tree.resolver import MOST_LINKS, NO_STEP

_MOST_LOOKUPS: Final = 20_000
"""How many names of links may be looked up for one path; the unpacker admits more."""


class ParentIsFileError(CannotHoldError):
    """The same layer has something other than a directory at the path of an entry's parent."""


@dataclass(slots=True, eq=False)
class UpperNode(Directory):
    """A directory of the tree.

    Attributes:
        copied_up: names in it that belong to the layers below; None: none.
        deleted: names that the layer both deletes and makes; None: none.
    """

    copied_up: set[bytes] | None = None
    deleted: set[bytes] | None = None

    @property
    def is_opaque(self) -> bool:
        """Whether it hides the layers below."""
        return self.xattrs is not None and TRUSTED.opaque in self.xattrs

    def make_opaque(self) -> None:
        """Let it hide the layers below."""
        self.xattrs = {**(self.xattrs or {}), TRUSTED.opaque: b"y"}


@dataclass(slots=True)
class Location:
    """A directory and the way to it.

    Attributes:
        parts: its path in the tar, which may lead through links.
        path: its path without links.
        way: the directories from the root on; the last one is the directory itself.
    """

    parts: list[bytes]
    path: list[bytes] = field(default_factory=list)
    way: list[UpperNode] = field(default_factory=list)

    @property
    def directory(self) -> UpperNode:
        """The directory."""
        return self.way[-1]

    @property
    def is_root(self) -> bool:
        """Whether it is the layer's root."""
        return len(self.way) == 1


class UpperTree:
    """An upper directory in memory.

    Args:
        root_owner: user and group of directories that no entry names.
        below: the layers below.
        copied: takes the data of files that are copied up.
        budget: the memory and the steps that are left.

    Attributes:
        root: the layer's root.
        has_moved: a path may lead elsewhere than before, since something was removed on the way.
    """

    def __init__(
        self, root_owner: tuple[int, int], below: LayersBelow, copied: CopiedData, budget: Budget
    ) -> None:
        self.root = UpperNode(stat.S_IFDIR | 0o755, *root_owner, 0)
        self.has_moved = False
        self._root_owner = root_owner
        self._below = below
        self._copied = copied
        self._budget = budget
        self._whiteout = Inode(stat.S_IFCHR, 0, 0, 0)
        self._has_whiteouts = False
        self._has_copied_up = False

    # --- the way to a directory -------------------------------------------------------------------

    def enter(self, parts: list[bytes]) -> Location:
        """Return a directory; make it if it is missing.

        Raises:
            ParentIsFileError: this layer has something else there.
            CannotHoldError: too many links are on the way.
        """
        place = self._resolve(parts, self._make_missing)
        assert place is not None
        return place

    def find_target(self, parts: list[bytes]) -> Location | None:
        """Return the directory of a hard link's target; None if it does not exist.

        Raises:
            CannotHoldError: too many links are on the way.
        """
        return self._resolve(parts, self._copy_up_way)

    def _resolve(
        self, parts: list[bytes], make: Callable[[Location, bytes], bool]
    ) -> Location | None:
        """Follow a path, as `graphdriver.layer.tree.resolver.Resolver.open` does.

        Args:
            parts: the path.
            make: called for what is missing on the way; returns whether to try again.
        """
        root = self.root
        at = Location(parts, [], [root])
        todo = parts[::-1]
        links = lookups = 0
        while todo:
            name = todo.pop()
            if links:
                self._budget.step()
                lookups += 1 + len(at.path) if name == b".." else 1
                if links > MOST_LINKS or lookups > _MOST_LOOKUPS:
                    raise CannotHoldError("too many links are on the way to it")
            if name == b"..":
                if at.path:
                    at.path.pop()
                    at.way.pop()
                continue
            found = at.way[-1].entries.get(name)
            if isinstance(found, UpperNode):
                at.path.append(name)
                at.way.append(found)
            elif isinstance(found, Inode) and isinstance(found.data, bytes):
                links += 1
                target = found.data
                todo += [step for step in reversed(target.split(b"/")) if step not in NO_STEP]
                lookups += len(todo)
                self._budget.step(len(todo))
                if target.startswith(b"/"):
                    at = Location(parts, [], [root])
            elif make(at, name):
                todo.append(name)
            else:
                return None
        return at

    def _make_missing(self, at: Location, name: bytes) -> bool:
        directory = at.directory
        replaced = directory.entries.get(name)
        if replaced is None:
            if self.copy_up(at, name, on_way=True):
                return True
        else:
            # The layer's directory replaces a file of the layers below, but not a file of the same tar.
            if self.is_own(directory, name, replaced):
                raise ParentIsFileError("it is in something that is not a directory")
            self._remove(directory, name, replaced)
        made = UpperNode(stat.S_IFDIR | 0o755, *self._root_owner, 0)
        if replaced is not None:
            made.make_opaque()
        self.put(directory, name, made)
        return True

    def _copy_up_way(self, at: Location, name: bytes) -> bool:
        return name not in at.directory.entries and self.copy_up(at, name, on_way=True)

    # --- names in a directory ---------------------------------------------------------------------

    def put(self, directory: UpperNode, name: bytes, node: Node) -> None:
        """Make a name, which must be free."""
        if isinstance(node, bytes):
            kind = PACKED
        else:
            kind = DIRECTORY if isinstance(node, UpperNode) else INODE
        self._budget.spend(NAME + kind + len(name))
        directory.entries[name] = node

    def link(self, above: UpperNode, target: bytes, directory: UpperNode, name: bytes) -> None:
        """Give a file another name, which must be free.

        Args:
            above: the directory of its first name.
            target: its first name, not that of a directory.
            directory: the directory of the other name.
            name: the other name.
        """
        node = above.entries[target]
        if isinstance(node, bytes):
            node = above.entries[target] = unpacked_file(node)
            self._budget.spend(INODE)
        self._budget.spend(2 * NAME + len(name))  # the index writer keeps the inode's number
        directory.entries[name] = node

    def is_whiteout(self, node: Node) -> bool:
        """Tell whether something is a whiteout."""
        return node is self._whiteout

    def is_own(self, directory: UpperNode, name: bytes, node: Node) -> bool:
        """Tell whether an entry is neither a whiteout nor copied up."""
        return node is not self._whiteout and name not in (directory.copied_up or ())

    def make_room(self, directory: UpperNode, name: bytes) -> None:
        """Remove what is at the name of a new entry, if anything is."""
        found = directory.entries.get(name)
        if found is not None:
            if not isinstance(found, bytes) and not stat.S_ISREG(found.mode):
                self.has_moved = True
            self._remove(directory, name, found)

    def note_made(self, directory: UpperNode, name: bytes) -> None:
        """Note that a name is the layer's own now, and no longer a copy from below."""
        if directory.copied_up:
            directory.copied_up.discard(name)

    def remove_own(self, at: Location, name: bytes) -> None:
        """Remove what this layer itself made at a name.

        The layers below show through again, unless the layer deletes the name.
        """
        directory = at.directory
        found = directory.entries.get(name)
        if found is not None and self.is_own(directory, name, found):
            self.make_room(directory, name)
            if directory.deleted and name in directory.deleted:
                self.apply_whiteout(at, name)

    def copy_up(self, at: Location, name: bytes, *, on_way: bool) -> bool:
        """Copy up what the layers below show at a name.

        Args:
            at: its directory.
            name: the name, which must be free.
            on_way: copy only a directory or a symbolic link.

        Returns:
            Whether it was copied.
        """
        if self._hides_below(at):
            return False
        copy = self._below.copy(at.path, name, on_way=on_way)
        if copy is None:
            return False
        directory = at.directory
        if isinstance(copy, Directory):
            made = UpperNode(copy.mode, copy.uid, copy.gid, copy.mtime_ns, copy.xattrs)
            self.put(directory, name, made)
        else:
            self.put(directory, name, copy)
            if stat.S_ISREG(copy.mode):
                self._copied.add_lower(copy, at.path.copy(), name)
        self._budget.spend(ITEM * len(copy.xattrs or ()))
        self._has_copied_up = True
        self._budget.spend(ITEM)
        if directory.copied_up is None:
            directory.copied_up = set()
        directory.copied_up.add(name)
        return True

    # --- deletions --------------------------------------------------------------------------------

    def apply_whiteout(self, at: Location, name: bytes) -> None:
        """Make a whiteout, or make the layer's own directory of that name opaque.

        Without a directory below nothing is made, as the unpacker does it. An opaque root hides all
        that is below it without whiteouts.
        """
        is_hidden = self._hides_below(at)
        if not (at.is_root if is_hidden else self._below.has_directory(at.path)):
            return
        directory = at.directory
        self._clear(directory, [name])
        if is_hidden:
            return
        found = directory.entries.get(name)
        if found is None:
            self.put(directory, name, self._whiteout)
            self._has_whiteouts = True
            if directory.copied_up:
                directory.copied_up.discard(name)
            return
        self._note_deleted(directory, name)
        # The layer's own entry is there and stays: whiteouts hide only the layers below.
        if isinstance(found, UpperNode):
            found.make_opaque()

    def apply_opaque(self, at: Location) -> None:
        """Make the directory opaque.

        The kernel ignores the mark of a layer's root: whoever mounts the layer ends its chain there.
        """
        directory = at.directory
        self._clear(directory, list(directory.entries))
        if at.is_root:  # a directory that stays for what is in it stays theirs
            directory.copied_up = {*directory.entries} & (directory.copied_up or set())
        else:
            directory.copied_up = None
        directory.make_opaque()

    def _hides_below(self, at: Location) -> bool:
        return any(one.is_opaque for one in at.way)

    def _remove(self, directory: UpperNode, name: bytes, found: Node) -> None:
        """Remove a name; if it is a whiteout, keep in mind that the layer deletes the name."""
        del directory.entries[name]
        if found is self._whiteout:
            self._note_deleted(directory, name)

    def _note_deleted(self, directory: UpperNode, name: bytes) -> None:
        self._budget.spend(ITEM + len(name))
        if directory.deleted is None:
            directory.deleted = set()
        directory.deleted.add(name)

    def _clear(self, directory: UpperNode, names: list[bytes]) -> None:
        """Remove names that were copied up, and whiteouts, which have nothing to hide any more.

        It is `graphdriver.layer.write.plain_tree.remove_foreign` in memory.
        """
        if not self._has_copied_up and not self._has_whiteouts:
            return
        self.has_moved = True
        levels = [(directory, names)]
        while True:
            inner, names = levels[-1]
            if names:
                self._budget.step()
                name = names[-1]
                found = inner.entries.get(name)
                if isinstance(found, UpperNode):
                    levels.append((found, list(found.entries)))
                    continue
                names.pop()
                if found is not None and not self.is_own(inner, name, found):
                    del inner.entries[name]
                continue
            levels.pop()
            if not levels:
                return
            inner.copied_up = None
            outer, names = levels[-1]
            name = names.pop()
            if not inner.entries and name in (outer.copied_up or ()):
                del outer.entries[name]
