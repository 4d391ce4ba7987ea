"""Hard links, which may come before or after their targets in a tar.

A link is made to the file that has its target's name at that point, in this layer or in those below. If
the target does not exist yet, the link waits for the end of the tar. Then the links are ordered by
their targets, which may be waiting links themselves: each link is made after its target and tried once,
so the work is linear. The number of waiting links is limited, since their names are kept in memory.

A link to an entry that was left out is left out as well, even if a layer below has a file of that name:
it is another file.
"""

from __future__ import annotations

import enum
import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphdriver.errors import BadArchiveError
from graphdriver.layer.tar.entry import Entry, show
from graphdriver.layer.tree.directory import LayerDir
from graphdriver.layer.tree.resolver import clean
from graphdriver.layer.write.cursor import Cursor, Parent, ParentIsFileError
from graphdriver.layer.write.form import Form
from graphdriver.layer.write.refusals import raise_refused

MOST = 1 << 16
"""The limit of hard links that wait for their targets, and of names that are left out."""

MOST_BYTES = 8 << 20
"""The limit in bytes for the names of waiting links, and for the names that are left out."""


def in_order(targets: Mapping[bytes, bytes]) -> Iterator[bytes]:
    """Yield the paths of waiting links, each after its target if that is a waiting link.

    Args:
        targets: paths of links to paths of their targets.
    """
    by_target: dict[bytes, list[bytes]] = {}
    for path, target in targets.items():
        by_target.setdefault(target, []).append(path)
    todo = deque(target for target in by_target if target not in targets)
    # Links that are each other's targets are tried too, and fail like others without a target.
    todo.extend(target for target in by_target if target in targets)
    while todo:
        for path in by_target.pop(todo.popleft(), ()):
            yield path
            if path in by_target:
                todo.appendleft(path)


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
        cursor: the position in the tree.
        form: the form of the tree.
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
        """Make a link, or keep it until its target exists.

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
        # The name belongs to the link from now on: until its target exists, neither an earlier entry
        # nor a layer below may show there.
        self._cursor.make_room(parent.dir, name)
        self._form.apply_whiteout(parent.dir, name)
        self.wait(b"/".join([*parent.parts, name]), b"/".join(parts), entry)
        return True

    def wait(self, path: bytes, target: bytes, entry: Entry) -> None:
        """Keep a link until `finish`.

        Args:
            path: the link, from the root on.
            target: its target, likewise.
            entry: its entry.

        Raises:
            BadArchiveError: too many wait.
        """
        self._waiting[path] = _Waiting(entry, target)  # a later one of that name wins
        self._bytes += len(path) + len(target)
        if len(self._waiting) > MOST or self._bytes > MOST_BYTES:
            raise BadArchiveError("too many hard links come before their targets")

    def leave_out(self, directory: LayerDir, name: bytes) -> None:
        """Leave out an entry, and later links to it.

        An earlier entry of this name is removed as well; the layers below show through again.

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
        """Note that a later entry made a name that may have been left out before."""
        if self._left_out:
            self._left_out.discard(b"/".join([*directory.path, name]))

    def finish(self) -> None:
        """Make the waiting links.

        Raises:
            BadArchiveError: a target does not exist; the text names link and target.
        """
        self._is_last_chance = True
        for path in in_order({path: link.target for path, link in self._waiting.items()}):
            link = self._waiting[path]
            try:
                outcome = self._finish(path, link)
            except BadArchiveError as error:
                raise BadArchiveError(f"{show(link.entry.name)}: {error.problem}") from error
            except OSError as error:
                raise_refused(link.entry, error, self._cursor.root_fd)
            if outcome is _Outcome.NO_TARGET and not self._form.leave_open(path, link.target):
                raise BadArchiveError(
                    f"{show(link.entry.name)} is a hard link to {show(link.entry.link)},"
                    " which is not there"
                )

    def _finish(self, path: bytes, link: _Waiting) -> _Outcome:
        *parts, name = path.split(b"/")
        try:
            directory = self._cursor.enter(parts).dir
        except ParentIsFileError:
            return _Outcome.MADE  # a later entry replaced a directory above it
        there = directory.find(name)
        if there is not None and not self._form.is_whiteout(there):
            return _Outcome.MADE  # a later entry has its name
        if b"/".join([*directory.path, name]) in self._left_out:
            return _Outcome.LEFT_OUT  # a later entry of its name, left out
        return self._link(directory, name, link.target.split(b"/"))

    def _link(self, directory: LayerDir, name: bytes, target: list[bytes]) -> _Outcome:
        """Make a link; return whether it was made, and if not, why."""
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
                return _Outcome.NO_TARGET  # a later entry may replace the directory by a file
            there = directory.find(name)
            if there is not None:
                # If it is the target itself it stays: this may be its only name.
                if (there.st_dev, there.st_ino) == (source.st_dev, source.st_ino):
                    return _Outcome.MADE
                self._cursor.make_room(directory, name)
            # A symbolic link is linked itself and not followed: it may lead out of the layer.
            os.link(
                target_name,
                name,
                src_dir_fd=target_dir.fd,
                dst_dir_fd=directory.fd,
                follow_symlinks=False,
            )
        return _Outcome.MADE
