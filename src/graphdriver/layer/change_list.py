"""What changed in a tree, in the order of the tree and without paths.

A change is a name and a depth: a directory comes before what changed in it, so the directory that a
change is in is the last one before it that is one level up. Listed like this, changes take the memory
of their names; whole paths would take the square of that in a deep tree. Paths are made one at a time,
where they are given out.
"""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from graphdriver.driver import Change, ChangeKind
from graphdriver.layer.tree.directory_path import DirectoryPath
from graphdriver.layer.tree.trail import Trail


class Changed(NamedTuple):
    """A change as a comparison finds it.

    ``depth`` is how many directories below the root it is in; ``stat`` tells of what is there now, and
    is None where nothing is, or a directory that is listed only for what changed in it.
    """

    depth: int
    name: bytes
    kind: ChangeKind
    stat: os.stat_result | None


class ChangeReport:
    """Reports changes, and the directories above each as modified, every one once.

    It goes down and up together with a comparison.
    """

    def __init__(self) -> None:
        self._names: list[bytes] = []
        self._listed = 0

    @property
    def depth(self) -> int:
        """How many directories the current one is below the root."""
        return len(self._names)

    def enter(self, name: bytes, *, is_listed: bool) -> None:
        """Go down; say whether the directory was found to have changed itself."""
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
        """Yield a change in the current directory, after the directories that it makes modified."""
        while self._listed < len(self._names):
            yield Changed(self._listed, self._names[self._listed], ChangeKind.MODIFIED, None)
            self._listed += 1
        yield Changed(len(self._names), name, kind, found)


class Place(NamedTuple):
    """Where something changed; ``parent_fd`` is borrowed, and open as long as the place is current."""

    above: DirectoryPath
    name: bytes
    parent_fd: int
    kind: ChangeKind


class ChangeList(Iterable[Change]):
    """Changes, kept as they were found; iterating makes them as drivers give them out.

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
        ends = [1]
        prefix = bytearray(b"/")
        last = b""
        for depth, name, kind in self._entries():
            if depth == len(ends):
                prefix += last + b"/"
                ends.append(len(prefix))
            else:
                del ends[depth + 1 :]
                del prefix[ends[depth] :]
            last = name
            yield Change(os.fsdecode(bytes(prefix) + name), ChangeKind(kind))

    def visit(self, root_fd: int) -> Iterator[Place]:
        """Go to the place of each change in a tree, whether or not something is there.

        What is in a directory that is not there (any more) is passed over.

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


def changed_size(found: Iterable[Changed]) -> int:
    """Return the bytes of what was added or modified.

    Docker's own count: a hard-linked file once, a symbolic link as its target's length, directories
    not.
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
