"""Walking a directory tree.

- What vanishes between being listed and being looked at is left out, with a warning.
- A directory is known by its name and the one above it: no path is built, whose length would grow with
  the depth (`graphdriver.layer.tree.directory_path`).
- A folder that something else is mounted on is listed, but not entered.
- Nothing is opened but folders.
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
    """Something in a tree: not its root, which has no name.

    ``above`` is the directory that it is in; ``name`` is to be used with ``parent_fd``, which is open
    as long as the node is current.
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
    """Yield all that is below a folder: a folder before what it holds, siblings in byte order.

    Args:
        root_fd: the folder's descriptor; it stays the caller's and must live as long as the walk.

    Raises:
        BrokenStreamError: the tree was moved about meanwhile.
        OSError: a folder cannot be read.
    """
    for above, name, parent_fd, seen in walk_to_files(root_fd):
        found = seen or look_at(above, name, parent_fd)
        if found is not None:
            yield Node(above, name, parent_fd, found)


def walk_to_files(
    root_fd: int,
) -> Iterator[tuple[DirectoryPath, bytes, int, os.stat_result | None]]:
    """Yield what `walk` does, but without a look at regular files, for those who open them anyway.

    Arguments and errors as for `walk`; of what was listed as a regular file the last member is None.
    """
    with Trail(root_fd) as trail:
        levels = [(DirectoryPath(), iter(_listed(trail.fd)))]
        while levels:
            above, names = levels[-1]
            fd = trail.fd
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
                    levels.append((DirectoryPath(above, name), iter(_listed(trail.fd))))
                    break
            else:
                levels.pop()
                if levels:
                    trail.leave()


def _listed(fd: int) -> list[bytes]:
    """Return a folder's names in byte order; a NUL stands behind those of what is no regular file."""
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
    """Return what is found at a name, or warn that it vanished."""
    try:
        return os.lstat(name, dir_fd=parent_fd)
    except FileNotFoundError:
        _log.warning("%r vanished while its tree was read: left out", above.show(name))
        return None


def names_in(fd: int) -> list[bytes]:
    """Return a folder's names in byte order (`os.listdir` of a descriptor gives them as text)."""
    try:
        return sorted(map(os.fsencode, os.listdir(fd)))
    except FileNotFoundError:  # it was removed meanwhile, so it holds nothing
        return []
