"""Hard links, whatever comes first in the tar: the link or its target.

A link leads to what has its target's name when it comes, in this layer or in those below. One whose
target is not there waits for the end. Then the order is found from the targets, which may be waiting
links themselves: a link goes behind the one that is its target, and each is tried once, so the work is
linear. How many may wait is bounded, since their names are kept in memory.

A link to what was left out is left out as well, also where a layer below has something of its target's
name: that is another file.
"""

from __future__ import annotations

import enum
import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from graphdriver.errors import BadArchiveError
from graphdriver.layer.tar.entry import Entry, show
from graphdriver.layer.tree.resolver import clean
from graphdriver.layer.write.blame import raise_about
from graphdriver.layer.write.cursor import Cursor, InTheWayError, look
from graphdriver.layer.write.entry import Folder
from graphdriver.layer.write.form import Form

MOST = 1 << 16
"""How many hard links may wait for a target that comes later, and how much may be left out."""

MOST_BYTES = 8 << 20
"""How long the names of the ones may be together, and those of the others."""


class _Outcome(enum.Enum):
    MADE = enum.auto()
    NO_TARGET = enum.auto()
    LEFT_OUT = enum.auto()


@dataclass(slots=True)
class _Waiting:
    """A link that has no target yet."""

    entry: Entry
    target: bytes


class HardLinks:
    """The hard links of one tar.

    Args:
        cursor: goes to where they are to be.
        form: what the tree is.
    """

    def __init__(self, cursor: Cursor, form: Form) -> None:
        self._cursor = cursor
        self._form = form
        self._waiting: dict[bytes, _Waiting] = {}
        self._bytes = 0
        self._left_out: set[bytes] = set()
        self._left_out_bytes = 0
        self._is_last_chance = False

    def make(self, folder: Folder, name: bytes, entry: Entry) -> bool:
        """Make a link, or let it wait.

        Returns:
            False if it is left out, with its target.

        Raises:
            BadArchiveError: it leads out of the layer or to a folder, or too many wait.
        """
        try:
            parts = clean(entry.link)
        except BadArchiveError:
            raise BadArchiveError(f"its target {show(entry.link)} climbs above the root") from None
        if not parts:
            raise BadArchiveError("it is a hard link to the layer's root")
        outcome = self._link(folder, name, parts)
        if outcome is not _Outcome.NO_TARGET:
            return outcome is _Outcome.MADE
        self._cursor.make_room(folder, name)
        self._form.hide(folder.fd, folder.inode, folder.path, name)
        path, target = b"/".join([*folder.parts, name]), b"/".join(parts)
        self._waiting[path] = _Waiting(entry, target)  # a later one of that name wins
        self._bytes += len(path) + len(target)
        if len(self._waiting) > MOST or self._bytes > MOST_BYTES:
            raise BadArchiveError("too many hard links come before their targets")
        return True

    def leave_out(self, folder: Folder, name: bytes) -> None:
        """Leave out what an entry brings, and whatever is linked to it later.

        What the tar had under this name before goes as well; what lies below stays.

        Raises:
            BadArchiveError: it is more than anybody can take note of.
        """
        self._cursor.withdraw(folder, name)
        path = b"/".join([*folder.path, name])
        if path not in self._left_out:
            self._left_out.add(path)
            self._left_out_bytes += len(path)
            if len(self._left_out) > MOST or self._left_out_bytes > MOST_BYTES:
                raise BadArchiveError("too many of its devices cannot be made here")

    def appeared(self, folder: Folder, name: bytes) -> None:
        """Take note that a name is there after all, by a later entry."""
        if self._left_out:
            self._left_out.discard(b"/".join([*folder.path, name]))

    def finish(self) -> None:
        """Make all links final.

        Raises:
            BadArchiveError: a target never came; the text names link and target.
        """
        self._is_last_chance = True
        for path, link in self._in_order():
            try:
                outcome = self._finish(path, link)
            except BadArchiveError as error:
                raise BadArchiveError(f"{show(link.entry.name)}: {error.problem}") from error
            except OSError as error:
                raise_about(link.entry, error, self._cursor.root_fd)
            if outcome is _Outcome.NO_TARGET:
                raise BadArchiveError(
                    f"{show(link.entry.name)} is a hard link to {show(link.entry.link)},"
                    " which is not there"
                )

    def _in_order(self) -> Iterator[tuple[bytes, _Waiting]]:
        """Yield each link that waits behind the one that is its target."""
        by_target: dict[bytes, list[bytes]] = {}
        for path, link in self._waiting.items():
            by_target.setdefault(link.target, []).append(path)
        todo = deque(target for target in by_target if target not in self._waiting)
        todo.extend(target for target in by_target if target in self._waiting)  # also in circles
        while todo:
            for path in by_target.pop(todo.popleft(), ()):
                yield path, self._waiting[path]
                if path in by_target:
                    todo.appendleft(path)

    def _finish(self, path: bytes, link: _Waiting) -> _Outcome:
        *parts, name = path.split(b"/")
        try:
            folder = self._cursor.enter(parts)
        except InTheWayError:
            return _Outcome.MADE  # a later entry took the place of a folder above it
        there = look(folder.fd, name)
        if there is not None and not self._form.is_deletion(there):
            return _Outcome.MADE  # a later entry has its name
        if b"/".join([*folder.path, name]) in self._left_out:
            return _Outcome.LEFT_OUT  # a later entry of its name
        return self._link(folder, name, link.target.split(b"/"))

    def _link(self, folder: Folder, name: bytes, target: list[bytes]) -> _Outcome:
        """Make a link, or tell why not."""
        reached = self._cursor.open_target(target[:-1])
        if reached is None:
            return _Outcome.NO_TARGET
        target_fd, path = reached
        try:
            if self._left_out and b"/".join([*path, target[-1]]) in self._left_out:
                self.leave_out(folder, name)
                return _Outcome.LEFT_OUT
            source = look(target_fd, target[-1])
            if source is None and self._cursor.bring_up(target_fd, path, target[-1], on_way=False):
                source = look(target_fd, target[-1])
            if source is None or self._form.is_deletion(source):
                return _Outcome.NO_TARGET
            if stat.S_ISDIR(source.st_mode):
                inode = os.fstat(target_fd).st_ino
                if self._is_last_chance or self._form.is_own(inode, target[-1], source):
                    raise BadArchiveError("it is a hard link to a folder")
                return _Outcome.NO_TARGET  # a file may yet come in its place
            there = look(folder.fd, name)
            if there is not None:
                if (there.st_dev, there.st_ino) == (source.st_dev, source.st_ino):
                    return _Outcome.MADE
                self._cursor.make_room(folder, name)
            os.link(
                target[-1],
                name,
                src_dir_fd=target_fd,
                dst_dir_fd=folder.fd,
                follow_symlinks=False,
            )
        finally:
            os.close(target_fd)
        return _Outcome.MADE
