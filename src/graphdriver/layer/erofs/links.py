"""Hard links in a tree in memory, which may come before or after their targets in a tar.

The rules are those of `graphdriver.layer.write.hard_links`, and so is the order of the work.
"""

from __future__ import annotations

import enum
from typing import Final

from graphdriver.layer.erofs.bounds import ITEM, Budget, CannotHoldError
from graphdriver.layer.erofs.upper_tree import Location, ParentIsFileError, UpperNode, UpperTree
from graphdriver.layer.tar.entry import Entry
from graphdriver.layer.tree.resolver import clean
from graphdriver.layer.write.hard_links import MOST, MOST_BYTES, in_order

_WAITING: Final = 5 * ITEM
"""The cost of a waiting link, besides its names."""


class _Outcome(enum.Enum):
    MADE = enum.auto()
    NO_TARGET = enum.auto()
    LEFT_OUT = enum.auto()  # with its target


class TreeLinks:
    """The hard links of one tar.

    Args:
        tree: the layer's tree.
        budget: the memory that is left.
    """

    def __init__(self, tree: UpperTree, budget: Budget) -> None:
        self._tree = tree
        self._budget = budget
        self._waiting: dict[bytes, bytes] = {}
        self._waiting_bytes = 0
        self._left_out: set[bytes] = set()
        self._left_out_bytes = 0
        self._is_last_chance = False

    def make(self, at: Location, name: bytes, entry: Entry) -> bool:
        """Make a link, or keep it until its target exists.

        Returns:
            False if it is left out, with its target.

        Raises:
            BadArchiveError: it leads out of the layer.
            CannotHoldError: it leads to a directory.
        """
        parts = clean(entry.link)
        if not parts:
            raise CannotHoldError("it is a hard link to the layer's root")
        outcome = self._link(at, name, parts)
        if outcome is not _Outcome.NO_TARGET:
            return outcome is _Outcome.MADE
        # The name belongs to the link from now on: until its target exists, neither an earlier entry
        # nor a layer below may show there.
        self._tree.make_room(at.directory, name)
        self._tree.apply_whiteout(at, name)
        path, target = b"/".join([*at.parts, name]), b"/".join(parts)
        self._budget.spend(_WAITING + len(path) + len(target))
        self._waiting[path] = target  # a later one of that name wins
        self._waiting_bytes += len(path) + len(target)
        if len(self._waiting) > MOST or self._waiting_bytes > MOST_BYTES:
            raise CannotHoldError("too many hard links come before their targets")
        return True

    def leave_out(self, at: Location, name: bytes) -> None:
        """Leave out an entry, and later links to it.

        An earlier entry of this name is removed as well; the layers below show through again.
        """
        self._tree.remove_own(at, name)
        path = b"/".join([*at.path, name])
        self._budget.spend(ITEM + len(path))
        self._left_out.add(path)
        self._left_out_bytes += len(path)
        if len(self._left_out) > MOST or self._left_out_bytes > MOST_BYTES:
            raise CannotHoldError("too many of its devices are left out")

    def note_made(self, at: Location, name: bytes) -> None:
        """Note that a later entry made a name that may have been left out before."""
        if self._left_out:
            self._left_out.discard(b"/".join([*at.path, name]))

    def finish(self) -> None:
        """Make the waiting links.

        Raises:
            CannotHoldError: a target does not exist.
        """
        self._is_last_chance = True
        for path in in_order(self._waiting):
            if self._finish(path, self._waiting[path]) is _Outcome.NO_TARGET:
                raise CannotHoldError("the target of a hard link is not there")

    def _finish(self, path: bytes, target: bytes) -> _Outcome:
        *parts, name = path.split(b"/")
        try:
            at = self._tree.enter(parts)
        except ParentIsFileError:
            return _Outcome.MADE  # a later entry replaced a directory above it
        there = at.directory.entries.get(name)
        if there is not None and not self._tree.is_whiteout(there):
            return _Outcome.MADE  # a later entry has its name
        if b"/".join([*at.path, name]) in self._left_out:
            return _Outcome.LEFT_OUT  # a later entry of its name, left out
        return self._link(at, name, target.split(b"/"))

    def _link(self, at: Location, name: bytes, target: list[bytes]) -> _Outcome:
        """Make a link; return whether it was made, and if not, why."""
        tree = self._tree
        above = tree.find_target(target[:-1])
        if above is None:
            return _Outcome.NO_TARGET
        target_name = target[-1]
        if self._left_out and b"/".join([*above.path, target_name]) in self._left_out:
            self.leave_out(at, name)
            return _Outcome.LEFT_OUT
        entries = above.directory.entries
        source = entries.get(target_name)
        if source is None and tree.copy_up(above, target_name, on_way=False):
            source = entries.get(target_name)
        if source is None or tree.is_whiteout(source):
            return _Outcome.NO_TARGET
        if isinstance(source, UpperNode):
            if self._is_last_chance or tree.is_own(above.directory, target_name, source):
                raise CannotHoldError("it is a hard link to a directory")
            return _Outcome.NO_TARGET  # a later entry may replace the directory by a file
        directory = at.directory
        there = directory.entries.get(name)
        if there is source:
            # If it is the target itself it stays: this may be its only name.
            return _Outcome.MADE
        if isinstance(there, UpperNode) and there in above.way:
            raise CannotHoldError("it replaces the directory of its own target")
        tree.make_room(directory, name)
        tree.link(above.directory, target_name, directory, name)
        return _Outcome.MADE
