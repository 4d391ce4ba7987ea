"""What an upper directory changes, found without a mount.

All that a layer changed is in its upper folder, so nothing else need be walked. But not all in there is
a change: a file that was opened for writing, or a folder above a change, was copied up and may be the
same as below. And an opaque folder hides what only the layers below can tell.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from graphdriver.driver import ChangeKind
from graphdriver.layer.change_list import Changed, Way
from graphdriver.layer.changes import same
from graphdriver.layer.overlay.lowers import Below, Level, Lowers
from graphdriver.layer.overlay.whiteout import TRUSTED, Marks, is_opaque, is_whiteout
from graphdriver.layer.tree.trail import Trail


def compare_upper(
    upper_fd: int, lower_fds: Sequence[int], marks: Marks = TRUSTED
) -> Iterator[Changed]:
    """Yield what an upper folder changes in what the folders below it show, siblings in byte order.

    The answer is the one that `graphdriver.layer.changes.compare` gives for the two mounted trees.

    Args:
        upper_fd: the upper folder.
        lower_fds: those below, nearest first.
        marks: where the mount looks for opaque marks.

    Raises:
        BrokenStreamError: a tree was moved about meanwhile.
        OSError: something cannot be read.
    """
    with Trail(upper_fd) as upper, Lowers(lower_fds, marks) as lowers:
        hidden = is_opaque(upper.fd, marks)
        levels = [(hidden, iter(_names(upper.fd, lowers.level, marks, hidden=hidden)))]
        way = Way()
        while levels:
            hidden, names = levels[-1]
            for name in names:
                below = lowers.level.look(name)
                try:
                    found = os.lstat(name, dir_fd=upper.fd)
                except FileNotFoundError:
                    # What was deleted meanwhile is no change of the layer any more.
                    if hidden and below:
                        yield from way.changed(name, ChangeKind.DELETED, None)
                    continue
                kind = _kind(upper.fd, name, found, below)
                if kind is not None:
                    there = None if kind is ChangeKind.DELETED else found
                    yield from way.changed(name, kind, there)
                if stat.S_ISDIR(found.st_mode) and upper.enters(name):
                    lowers.enter(name, below.layers if below else ())
                    way.enter(name, is_listed=kind is not None)
                    hidden = hidden or is_opaque(upper.fd, marks)
                    names = iter(_names(upper.fd, lowers.level, marks, hidden=hidden))
                    levels.append((hidden, names))
                    break
            else:
                levels.pop()
                if levels:
                    upper.leave()
                    lowers.leave()
                    way.leave()


def _names(fd: int, level: Level, marks: Marks, *, hidden: bool) -> list[bytes]:
    """Return the names to look at in an upper folder: if it hides what is below, also those there."""
    names = marks.names_in(fd)
    return sorted(level.listed().union(names)) if hidden else names


def _kind(fd: int, name: bytes, found: os.stat_result, below: Below | None) -> ChangeKind | None:
    if is_whiteout(found):
        return ChangeKind.DELETED if below else None
    if below is None:
        return ChangeKind.ADDED
    return None if same(fd, below.fd, name, found, below.stat, 0) else ChangeKind.MODIFIED
