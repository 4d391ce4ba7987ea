"""What an upper directory changes, found without a mount.

All that a layer changed is in its upper directory, so nothing else need be walked. But not all in there
is a change: a file that was opened for writing, or a directory above a change, was copied up and may be
the same as below. And only the layers below can tell what an opaque directory hides.
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
    """Yield what an upper directory changes in what those below it show, siblings in byte order.

    The answer is the one that `graphdriver.layer.changes.compare` gives for the two mounted trees.

    Args:
        upper_fd: the upper directory; borrowed.
        lower_fds: those below, nearest first; borrowed.
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
                    # What was deleted meanwhile is no change of the layer any more.
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
                    # What an opaque directory hides it hides in all directories below it.
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
    """Return the names to look at in an upper directory: also those below if it hides them."""
    names = marks.names_in(directory)
    return sorted(level.listed().union(names)) if is_hiding else names


def _kind(fd: int, name: bytes, found: os.stat_result, below: Below | None) -> ChangeKind | None:
    if is_whiteout(found):
        return ChangeKind.DELETED if below else None
    if below is None:
        return ChangeKind.ADDED
    return None if same(fd, below.dir.fd, name, found, below.stat, 0) else ChangeKind.MODIFIED
