"""The changes of an upper directory, found without a mount.

All changes of a layer are in its upper directory, so only that is walked. But not everything in it is a
change: a file that was opened for writing, or a directory above a change, was copied up and may be the
same as below. And what an opaque directory hides is found only in the layers below.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence

from graphdriver.driver import ChangeKind
from graphdriver.layer.change_list import Changed, ChangeReport
from graphdriver.layer.changes import same
from graphdriver.layer.overlay.lowers import Below, Level, Lowers
from graphdriver.layer.overlay.whiteout import TRUSTED, Marks, is_opaque, is_whiteout
from graphdriver.layer.tree.directory import Dir
from graphdriver.layer.tree.trail import Trail


def compare_upper(
    upper_fd: int, lower_fds: Sequence[int], marks: Marks = TRUSTED
) -> Iterator[Changed]:
    """Yield the changes of an upper directory to the layers below it, siblings in byte order.

    The result is the same as that of `graphdriver.layer.changes.compare` for the two mounted trees.

    Args:
        upper_fd: the upper directory; borrowed.
        lower_fds: the directories below it, nearest first; borrowed.
        marks: where the mount looks for opaque marks.

    Raises:
        BrokenStreamError: a directory was moved meanwhile.
        OSError: something cannot be read.
    """
    with Trail(upper_fd) as upper, Lowers(lower_fds, marks) as lowers:
        is_hiding = is_opaque(upper.here, marks)
        levels = [(is_hiding, iter(_names(upper.here, lowers.level, marks, is_hiding=is_hiding)))]
        report = ChangeReport()
        while levels:
            is_hiding, names = levels[-1]
            fd = upper.here.fd
            for name in names:
                below = lowers.level.look(name)
                try:
                    found = os.lstat(name, dir_fd=fd)
                except FileNotFoundError:
                    # An entry that was deleted meanwhile is no longer a change of this layer.
                    if is_hiding and below:
                        yield from report.change(name, ChangeKind.DELETED, None)
                    continue
                kind = _kind(fd, name, found, below)
                if kind is not None:
                    there = None if kind is ChangeKind.DELETED else found
                    yield from report.change(name, kind, there)
                if stat.S_ISDIR(found.st_mode) and upper.enters(name):
                    lowers.enter(name, below.layers if below else ())
                    report.enter(name, is_listed=kind is not None)
                    # An opaque directory also hides the layers below in all directories under it.
                    is_hiding = is_hiding or is_opaque(upper.here, marks)
                    names = iter(_names(upper.here, lowers.level, marks, is_hiding=is_hiding))
                    levels.append((is_hiding, names))
                    break
            else:
                levels.pop()
                if levels:
                    upper.leave()
                    lowers.leave()
                    report.leave()


def _names(directory: Dir, level: Level, marks: Marks, *, is_hiding: bool) -> list[bytes]:
    """Return the names to compare in an upper directory, and those that it hides if it is opaque."""
    names = marks.names_in(directory)
    return sorted(level.listed().union(names)) if is_hiding else names


def _kind(fd: int, name: bytes, found: os.stat_result, below: Below | None) -> ChangeKind | None:
    if is_whiteout(found):
        return ChangeKind.DELETED if below else None
    if below is None:
        return ChangeKind.ADDED
    return None if same(fd, below.dir.fd, name, found, below.stat, 0) else ChangeKind.MODIFIED
