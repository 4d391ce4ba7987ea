"""A walk through a directory tree: each directory before its entries, siblings in byte order.

- No recursion: a container can make a tree deeper than any stack (`graphdriver.layer.tree.trail`).
- No paths, since their length grows with the depth: a directory is known by its name and its parent
  (`graphdriver.layer.tree.directory_path`).
- Only directories are opened.
- Entries that vanish between listing and lstat(2) are left out, with a warning.
- A directory with a mount on it is listed, but not entered.
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
    """An entry of a tree, not its root.

    ``above`` is the path of its directory; ``parent_fd`` is that directory's descriptor, borrowed, and
    open as long as the node is current.
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
    """Yield everything below a directory: a directory before its entries, siblings in byte order.

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
    """Yield the same as `walk`, without lstat(2) of regular files, for callers that open them anyway.

    Arguments and errors as for `walk`; the last member is None for an entry listed as a regular file.
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
    """Return a directory's names in byte order; a NUL is appended to those that are not regular files.

    No name contains a NUL, and a list of names takes less memory than a list of pairs.
    """
    names = []
    try:
        with os.scandir(path_of(fd)) as entries:  # given a descriptor it returns text, not bytes
            for entry in entries:
                name = entry.name
                names.append(name if entry.is_file(follow_symlinks=False) else name + b"\0")
    except FileNotFoundError:  # it was removed meanwhile, so it is empty
        return []
    names.sort()
    return names


def look_at(above: DirectoryPath, name: bytes, parent_fd: int) -> os.stat_result | None:
    """Return the result of lstat(2) for a name in a directory; warn and return None if it vanished."""
    try:
        return os.lstat(name, dir_fd=parent_fd)
    except FileNotFoundError:
        _log.warning("%r vanished while its tree was read: left out", above.show(name))
        return None
