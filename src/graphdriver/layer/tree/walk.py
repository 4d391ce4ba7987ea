"""Walking a directory tree: each directory before what it holds, siblings in byte order.

- No recursion: a container can make a tree deeper than any stack (`graphdriver.layer.tree.trail`).
- No path is built, whose length would grow with the depth: a directory is known by its name and the one
  above it (`graphdriver.layer.tree.directory_path`).
- Nothing but directories is opened.
- What vanishes between being listed and being looked at is left out, with a warning.
- A directory that something else is mounted on is listed, but not entered.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from graphdriver.layer.tree.directory_path import DirectoryPath
from graphdriver.layer.tree.trail import Trail
from graphdriver.linux.xattr import path_of

_log = logging.getLogger(__name__)


class Node(NamedTuple):
    """Something in a tree, other than its root.

    ``above`` is the directory that it is in, as a path; ``parent_fd`` is that directory's descriptor,
    borrowed, and open as long as the node is current.
    """

    above: DirectoryPath
    name: bytes
    parent_fd: int
    stat: os.stat_result

    @property
    def path(self) -> bytes:
        """Its path relative to the root, without a leading slash; as long as it is deep."""
        return self.above.prefix() + self.name


def walk(root_fd: int) -> Iterator[Node]:
    """Yield all that is below a directory: a directory before what it holds, siblings in byte order.

    Args:
        root_fd: the directory; borrowed as long as the walk lasts.

    Raises:
        BrokenStreamError: a directory was moved meanwhile.
        OSError: a directory cannot be read.
    """
    for above, name, parent_fd, seen in walk_to_files(root_fd):
        found = seen or look_at(above, name, parent_fd)
        if found is not None:
            yield Node(above, name, parent_fd, found)


def walk_to_files(
    root_fd: int,
) -> Iterator[tuple[DirectoryPath, bytes, int, os.stat_result | None]]:
    """Yield what `walk` does, but without lstat(2) of regular files, for callers that open them anyway.

    Arguments and errors as for `walk`; of what was listed as a regular file the last member is None.
    """
    with Trail(root_fd) as trail:
        levels = [(DirectoryPath(), iter(_listed(trail.here.fd)))]
        while levels:
            above, names = levels[-1]
            fd = trail.here.fd
            for listed in names:
                if listed[-1]:
                    yield above, listed, fd, None
                    continue
                name = listed[:-1]
                found = look_at(above, name, fd)
                if found is None:
                    continue
                yield above, name, fd, found
                if stat.S_ISDIR(found.st_mode) and trail.enters(name):
                    levels.append((DirectoryPath(above, name), iter(_listed(trail.here.fd))))
                    break
            else:
                levels.pop()
                if levels:
                    trail.leave()


def _listed(fd: int) -> list[bytes]:
    """Return a directory's names in byte order; a NUL is appended to those that are no regular file.

    No name holds a NUL, and a list of names takes less memory than one of pairs.
    """
    names = []
    try:
        with os.scandir(path_of(fd)) as entries:  # of a descriptor it gives text
            for entry in entries:
                name = entry.name
                names.append(name if entry.is_file(follow_symlinks=False) else name + b"\0")
    except FileNotFoundError:  # it was removed meanwhile, so it holds nothing
        return []
    names.sort()
    return names


def look_at(above: DirectoryPath, name: bytes, parent_fd: int) -> os.stat_result | None:
    """Return what has a name in a directory; None, with a warning, if it vanished."""
    try:
        return os.lstat(name, dir_fd=parent_fd)
    except FileNotFoundError:
        _log.warning("%r vanished while its tree was read: left out", above.show(name))
        return None
