"""Hard links, whatever comes first in the tar: the link or its target.

A link leads to what has its target's name when it comes, in this layer or in those below. One whose
target is not there waits for the end. Then the order is found from the targets, which may be waiting
links themselves: a link goes behind the one that is its target, and each is tried once, so the work is
linear. How many may wait is bounded, since their names are kept in memory.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from graphdriver.errors import BadArchiveError
from graphdriver.layer.blame import raise_about
from graphdriver.layer.cursor import Cursor, InTheWayError, look
from graphdriver.layer.fields import show
from graphdriver.layer.header import Entry
from graphdriver.layer.place import Folder
from graphdriver.layer.rootfd import clean
from graphdriver.layer.whiteout import Form

MOST = 1 << 16
"""How many hard links may wait for a target that comes later."""

MOST_BYTES = 8 << 20
"""How long their names may be together."""


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
        self._lost: set[bytes] = set()
        self._is_last_chance = False

    def make(self, folder: Folder, name: bytes, entry: Entry) -> None:
        """Make a link, or let it wait.

        Raises:
            BadArchiveError: it leads out of the layer or to a folder, or too many wait.
        """
        try:
            parts = clean(entry.link)
        except BadArchiveError:
            raise BadArchiveError(f"its target {show(entry.link)} climbs above the root") from None
        if not parts:
            raise BadArchiveError("it is a hard link to the layer's root")
        if self._is_linked(folder, name, parts):
            return
        self._cursor.make_room(folder, name)
        self._form.hide(folder.fd, folder.inode, folder.path, name)
        path, target = b"/".join([*folder.parts, name]), b"/".join(parts)
        self._waiting[path] = _Waiting(entry, target)  # a later one of that name wins
        self._bytes += len(path) + len(target)
        if len(self._waiting) > MOST or self._bytes > MOST_BYTES:
            raise BadArchiveError("too many hard links come before their targets")

    def lost(self, folder: Folder, name: bytes) -> None:
        """Take note that what should have this name is lost by agreement, and its links with it."""
        if len(self._lost) < MOST:
            self._lost.add(b"/".join([*folder.parts, name]))

    def finish(self) -> None:
        """Make all links final.

        Raises:
            BadArchiveError: a target never came; the text names link and target.
        """
        self._is_last_chance = True
        for path, link in self._in_order():
            try:
                is_made = self._is_made(path, link)
            except BadArchiveError as error:
                raise BadArchiveError(f"{show(link.entry.name)}: {error.problem}") from error
            except OSError as error:
                raise_about(link.entry, error)
            if not is_made and link.target in self._lost:
                self._lost.add(path)
            elif not is_made:
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

    def _is_made(self, path: bytes, link: _Waiting) -> bool:
        *parts, name = path.split(b"/")
        try:
            folder = self._cursor.enter(parts)
        except InTheWayError:
            return True  # a later entry took the place of a folder above it
        there = look(folder.fd, name)
        if there is not None and not self._form.is_deletion(there):
            return True  # a later entry has its name
        return self._is_linked(folder, name, link.target.split(b"/"))

    def _is_linked(self, folder: Folder, name: bytes, target: list[bytes]) -> bool:
        """Make a link, or tell that its target is not there."""
        reached = self._cursor.open_target(target[:-1])
        if reached is None:
            return False
        target_fd, path = reached
        try:
            source = look(target_fd, target[-1])
            if source is None and self._cursor.bring_up(target_fd, path, target[-1], on_way=False):
                source = look(target_fd, target[-1])
            if source is None or self._form.is_deletion(source):
                return False
            if stat.S_ISDIR(source.st_mode):
                inode = os.fstat(target_fd).st_ino
                if self._is_last_chance or self._form.is_own(inode, target[-1], source):
                    raise BadArchiveError("it is a hard link to a folder")
                return False  # a file may yet come in its place
            there = look(folder.fd, name)
            if there is not None:
                if (there.st_dev, there.st_ino) == (source.st_dev, source.st_ino):
                    return True
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
        return True
