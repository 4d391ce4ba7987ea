"""Hard links, whatever comes first in the tar: the link or its target.

A link leads to what has its target's name when the link comes, in this layer or in those below. A link
whose target is not there waits for the end of the tar. Then the order is found from the targets, which
may be waiting links themselves: a link is made after the one that is its target, and each is tried
once, so the work is linear. How many may wait is bounded, since their names are kept in memory.

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
from graphdriver.layer.tree.directory import LayerDir
from graphdriver.layer.tree.resolver import clean
from graphdriver.layer.write.cursor import Cursor, Parent, ParentIsFileError
from graphdriver.layer.write.form import Form
from graphdriver.layer.write.refusals import raise_refused

MOST = 1 << 16
"""How many hard links may wait for their targets, and how many names may be left out."""

MOST_BYTES = 8 << 20
"""How many bytes the names of waiting links may have together, and how many those left out."""


class _Outcome(enum.Enum):
    MADE = enum.auto()
    NO_TARGET = enum.auto()
    LEFT_OUT = enum.auto()  # with its target


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

    def make(self, parent: Parent, name: bytes, entry: Entry) -> bool:
        """Make a link, or let it wait.

        Returns:
            False if it is left out, with its target.

        Raises:
            BadArchiveError: it leads out of the layer or to a directory, or too many wait.
        """
        try:
            parts = clean(entry.link)
        except BadArchiveError:
            raise BadArchiveError(f"its target {show(entry.link)} climbs above the root") from None
        if not parts:
            raise BadArchiveError("it is a hard link to the layer's root")
        outcome = self._link(parent.dir, name, parts)
        if outcome is not _Outcome.NO_TARGET:
            return outcome is _Outcome.MADE
        # The name is the link's from now on: nothing of the tar or the layers below may show there
        # until the target comes.
        self._cursor.make_room(parent.dir, name)
        self._form.apply_whiteout(parent.dir, name)
        path, target = b"/".join([*parent.parts, name]), b"/".join(parts)
        self._waiting[path] = _Waiting(entry, target)  # a later one of that name wins
        self._bytes += len(path) + len(target)
        if len(self._waiting) > MOST or self._bytes > MOST_BYTES:
            raise BadArchiveError("too many hard links come before their targets")
        return True

    def leave_out(self, directory: LayerDir, name: bytes) -> None:
        """Leave out what an entry brings, and whatever is linked to it later.

        What the tar had under this name before goes as well; what lies below stays.

        Raises:
            BadArchiveError: too much was left out.
        """
        self._cursor.remove_own(directory, name)
        path = b"/".join([*directory.path, name])
        if path not in self._left_out:
            self._left_out.add(path)
            self._left_out_bytes += len(path)
            if len(self._left_out) > MOST or self._left_out_bytes > MOST_BYTES:
                raise BadArchiveError("too many of its devices cannot be made here")

    def note_made(self, directory: LayerDir, name: bytes) -> None:
        """Take note that a later entry made what may have been left out before."""
        if self._left_out:
            self._left_out.discard(b"/".join([*directory.path, name]))

    def finish(self) -> None:
        """Make the links that wait.

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
                raise_refused(link.entry, error, self._cursor.root_fd)
            if outcome is _Outcome.NO_TARGET:
                raise BadArchiveError(
                    f"{show(link.entry.name)} is a hard link to {show(link.entry.link)},"
                    " which is not there"
                )

    def _in_order(self) -> Iterator[tuple[bytes, _Waiting]]:
        """Yield the links that wait, each after the one that is its target."""
        by_target: dict[bytes, list[bytes]] = {}
        for path, link in self._waiting.items():
            by_target.setdefault(link.target, []).append(path)
        todo = deque(target for target in by_target if target not in self._waiting)
        # Links that lead to each other in a circle are tried too, and fail like others without target.
        todo.extend(target for target in by_target if target in self._waiting)
        while todo:
            for path in by_target.pop(todo.popleft(), ()):
                yield path, self._waiting[path]
                if path in by_target:
                    todo.appendleft(path)

    def _finish(self, path: bytes, link: _Waiting) -> _Outcome:
        *parts, name = path.split(b"/")
        try:
            directory = self._cursor.enter(parts).dir
        except ParentIsFileError:
            return _Outcome.MADE  # a later entry took the place of a directory above it
        there = directory.find(name)
        if there is not None and not self._form.is_whiteout(there):
            return _Outcome.MADE  # a later entry has its name
        if b"/".join([*directory.path, name]) in self._left_out:
            return _Outcome.LEFT_OUT  # a later entry of its name
        return self._link(directory, name, link.target.split(b"/"))

    def _link(self, directory: LayerDir, name: bytes, target: list[bytes]) -> _Outcome:
        """Make a link, or tell why not."""
        target_dir = self._cursor.open_target(target[:-1])
        if target_dir is None:
            return _Outcome.NO_TARGET
        target_name = target[-1]
        with target_dir:
            if self._left_out and b"/".join([*target_dir.path, target_name]) in self._left_out:
                self.leave_out(directory, name)
                return _Outcome.LEFT_OUT
            source = target_dir.find(target_name)
            # link(2) needs an inode of this tree: in an upper directory the target is copied up first.
            if source is None and self._cursor.copy_up(target_dir, target_name, on_way=False):
                source = target_dir.find(target_name)
            if source is None or self._form.is_whiteout(source):
                return _Outcome.NO_TARGET
            if stat.S_ISDIR(source.st_mode):
                is_own = self._form.is_own(target_dir.inode, target_name, source)
                if self._is_last_chance or is_own:
                    raise BadArchiveError("it is a hard link to a directory")
                return _Outcome.NO_TARGET  # a file may yet come in its place
            there = directory.find(name)
            if there is not None:
                # Not removed if it is the target itself: its only name may be this one.
                if (there.st_dev, there.st_ino) == (source.st_dev, source.st_ino):
                    return _Outcome.MADE
                self._cursor.make_room(directory, name)
            # A symbolic link gets a second name itself; where it leads may be out of the layer.
            os.link(
                target_name,
                name,
                src_dir_fd=target_dir.fd,
                dst_dir_fd=directory.fd,
                follow_symlinks=False,
            )
        return _Outcome.MADE
