"""Removing a directory tree, whatever is done to it meanwhile.

What a container made immutable is removed all the same. A folder that something else is mounted on is
not emptied: what lies there is not the layer's (`graphdriver.layer.tree.trail`).
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable

from graphdriver.layer.tree.trail import NO_DIRECTORY_HERE, Trail
from graphdriver.linux import inode_flags

REMOVE_TRIES = 1000
"""How often a removal that somebody works against begins again at a name before it gives up."""

REMOVE_NAMES = 10_000
"""How many names of a folder a removal holds at a time."""


def remove_tree(dir_fd: int, name: bytes) -> None:
    """Remove ``name``, whatever it is, and all that is below it. Absence is success.

    Links are removed, never followed; who swaps folders for links meanwhile loses the links.

    Args:
        dir_fd: the folder that ``name`` is in.
        name: one name, not a path.

    Raises:
        BrokenStreamError: the tree was moved about meanwhile.
        OSError: something cannot be removed.
    """
    tries = 0
    entered: list[tuple[bytes, bool]] = []
    with Trail(dir_fd) as trail:
        levels = [[name]]
        while levels:
            todo = levels[-1]
            if todo:
                if _unlinked(trail, todo[-1]):
                    todo.pop()
                    continue
                try:
                    trail.enter(todo[-1])
                except OSError as error:
                    tries += 1
                    if error.errno not in NO_DIRECTORY_HERE or tries > REMOVE_TRIES:
                        raise
                    continue
                names = _some_names_in(trail.fd)
                entered.append((todo.pop(), len(names) == REMOVE_NAMES))
                levels.append(names)
                continue
            levels.pop()
            if not levels:
                return
            trail.leave()
            folder, there_is_more = entered.pop()
            try:
                _remove(os.rmdir, trail, folder)
            except FileNotFoundError:
                pass
            except OSError as error:
                tries += not there_is_more
                again = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
                if error.errno not in again or tries > REMOVE_TRIES:
                    raise
                levels[-1].append(folder)


def _some_names_in(fd: int) -> list[bytes]:
    """Return a folder's first names, in no order."""
    try:
        with os.scandir(fd) as entries:
            return [os.fsencode(entry.name) for entry in itertools.islice(entries, REMOVE_NAMES)]
    except FileNotFoundError:  # it was removed meanwhile, so it holds nothing
        return []


def _unlinked(trail: Trail, name: bytes) -> bool:
    """Remove what is no folder; tell whether ``name`` is gone."""
    try:
        _remove(os.unlink, trail, name)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        return False
    return True


def _remove(remove: Callable[..., None], trail: Trail, name: bytes) -> None:
    """Remove with one of `os.unlink` and `os.rmdir`, whatever flags somebody set against that."""
    try:
        remove(name, dir_fd=trail.fd)
    except PermissionError:
        if trail.depth:  # else the folder is not of the tree that is to go
            inode_flags.allow_changes(trail.fd)
        inode_flags.allow_changes_at(trail.fd, name)
        remove(name, dir_fd=trail.fd)
