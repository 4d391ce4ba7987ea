"""The changes of a tree, in the order of the tree and without paths.

A change is a name and a depth. A directory comes before the changes in it, so the directory of a change
is the last one before it that is one level up. A list of this form takes only the memory of the names;
whole paths would take memory that grows with the square of the depth. Paths are built one at a time,
when they are needed.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from graphdriver.driver import Change, ChangeKind
from graphdriver.homes import SizedChange
from graphdriver.layer.tree.directory_path import DirectoryPath
from graphdriver.layer.tree.trail import Trail


class Changed(NamedTuple):
    """A change as a comparison finds it.

    ``depth`` is the number of directories between it and the root. ``stat`` describes what is there
    now; it is None if nothing is there, and for a directory that is listed only for the changes in it.
    """

    depth: int
    name: bytes
    kind: ChangeKind
    stat: os.stat_result | None


class ChangeReport:
    """A report of changes, with each directory above a change once, as modified.

    It follows a comparison down and up the tree.
    """

    def __init__(self) -> None:
        self._names: list[bytes] = []
        self._listed = 0

    @property
    def depth(self) -> int:
        """How many directories the current one is below the root."""
        return len(self._names)

    def enter(self, name: bytes, *, is_listed: bool) -> None:
        """Go down; ``is_listed``: the directory itself is reported as changed already."""
        self._names.append(name)
        if is_listed:
            self._listed = len(self._names)

    def leave(self) -> None:
        """Go up."""
        self._names.pop()
        self._listed = min(self._listed, len(self._names))

    def change(
        self, name: bytes, kind: ChangeKind, found: os.stat_result | None
    ) -> Iterator[Changed]:
        """Yield a change in the current directory, after the directories above it as modified."""
        while self._listed < len(self._names):
            yield Changed(self._listed, self._names[self._listed], ChangeKind.MODIFIED, None)
            self._listed += 1
        yield Changed(len(self._names), name, kind, found)


class Place(NamedTuple):
    """The place of a change; ``parent_fd`` is borrowed, and open as long as the place is current."""

    above: DirectoryPath
    name: bytes
    parent_fd: int
    kind: ChangeKind


class ChangeList(Iterable[Change]):
    """Changes as they were found; iterating yields them as `Driver.changes` returns them.

    Args:
        found: in the order of the tree.
    """

    def __init__(self, found: Iterable[Changed]) -> None:
        self._names: list[bytes] = []
        self._depths = array("I")
        self._kinds = bytearray()
        for depth, name, kind, _ in found:
            self._names.append(name)
            self._depths.append(depth)
            self._kinds.append(kind)

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Change]:
        paths = _Paths()
        for depth, name, kind in self._entries():
            yield Change(paths.next(depth, name), ChangeKind(kind))

    def visit(self, root_fd: int) -> Iterator[Place]:
        """Go to the place of each change in a tree, even if nothing is there.

        Changes in a directory that does not exist (any more) are skipped.

        Args:
            root_fd: the tree's root; borrowed as long as the visit lasts.

        Raises:
            BrokenStreamError: a directory was moved meanwhile.
            OSError: a directory cannot be opened.
        """
        above, last, missing = DirectoryPath(), b"", False
        with Trail(root_fd) as trail:
            for depth, name, kind in self._entries():
                if depth <= above.depth:
                    missing = False
                elif not missing:
                    missing = not trail.enters(last)
                    above = above if missing else DirectoryPath(above, last)
                if missing:
                    continue
                while depth < above.depth:
                    trail.leave()
                    assert above.above is not None
                    above = above.above
                last = name
                yield Place(above, name, trail.here.fd, ChangeKind(kind))

    def _entries(self) -> Iterator[tuple[int, bytes, int]]:
        return zip(self._depths, self._names, self._kinds, strict=True)


class _Paths:
    """The paths of changes in the order of the tree, each built from the one before."""

    def __init__(self) -> None:
        self._ends = [1]
        self._prefix = bytearray(b"/")
        self._last = b""

    def next(self, depth: int, name: bytes) -> str:
        """Return the path of the next change."""
        if depth == len(self._ends):
            self._prefix += self._last + b"/"
            self._ends.append(len(self._prefix))
        else:
            del self._ends[depth + 1 :]
            del self._prefix[self._ends[depth] :]
        self._last = name
        return os.fsdecode(bytes(self._prefix) + name)


def sized(found: Iterable[Changed]) -> Iterator[SizedChange]:
    """Yield changes with their paths and sizes; a hard-linked file has its size once.

    Args:
        found: in the order of the tree.
    """
    paths = _Paths()
    seen = set()
    for depth, name, kind, there in found:
        path = paths.next(depth, name)
        size = 0
        if kind is ChangeKind.DELETED:
            pass
        elif there is None or stat.S_ISDIR(there.st_mode):
            path += "/"
        elif stat.S_ISREG(there.st_mode) and (there.st_dev, there.st_ino) not in seen:
            size = there.st_size
            if there.st_nlink > 1:
                seen.add((there.st_dev, there.st_ino))
        yield SizedChange(path, kind, size)


def changed_size(found: Iterable[Changed]) -> int:
    """Return the size in bytes of the added and modified files.

    They are counted as by Docker: a hard-linked file once, a symbolic link as the length of its target,
    directories not at all.
    """
    seen = set()
    total = 0
    for change in found:
        there = change.stat
        if there is None or stat.S_ISDIR(there.st_mode):
            continue
        if there.st_nlink > 1:
            inode = there.st_dev, there.st_ino
            if inode in seen:
                continue
            seen.add(inode)
        total += there.st_size
    return total
