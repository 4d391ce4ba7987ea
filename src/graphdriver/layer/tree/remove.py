"""Removal of a directory tree, which may change meanwhile.

Links are removed and never followed. A directory with a mount on it is not entered, so the removal
fails there (`graphdriver.layer.tree.trail`).
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterator

from graphdriver.layer.tree.directory import Dir
from graphdriver.layer.tree.trail import NO_DIRECTORY, Trail
from graphdriver.linux import inode_flags
from graphdriver.linux.openat2 import RESOLVE_NO_XDEV, openat2

REMOVE_TRIES = 1000
"""How often a removal starts again at names that another process changes meanwhile."""

REMOVE_NAMES = 10_000
"""How many names of a directory a removal holds at a time."""

SMALL = 32
"""The limit of entries in a small tree."""

SMALL_FILE = 1 << 20
"""The limit of disk space for a file in a small tree, in bytes."""

_NOT_EMPTY = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR})
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def remove_tree(dir_fd: int, name: bytes) -> None:
    """Remove ``name``, of any type, and everything below it; succeed if it does not exist.

    Args:
        dir_fd: the directory of ``name``; borrowed.
        name: one name, not a path.

    Raises:
        BrokenStreamError: a directory of the tree was moved meanwhile.
        OSError: something cannot be removed.
    """
    # Usually it is a file, which needs no walk.
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass  # a directory, or immutable
    else:
        return
    tries = 0
    entered: list[tuple[bytes, bool]] = []
    with Trail(dir_fd) as trail:
        levels = [[name]]
        while levels:
            names = levels[-1]
            if names:
                # unlink(2) first, and open only what it reports as a directory: no link is ever opened.
                try:
                    _remove(os.unlink, trail, names[-1])
                except FileNotFoundError:
                    pass
                except IsADirectoryError:
                    try:
                        trail.enter(names[-1])
                    except OSError as error:
                        # It was replaced meanwhile: start again at this name, but not without end.
                        tries += 1
                        if error.errno not in NO_DIRECTORY or tries > REMOVE_TRIES:
                            raise
                        continue
                    below = _some_names(trail.here)
                    entered.append((names.pop(), len(below) == REMOVE_NAMES))
                    levels.append(below)
                    continue
                names.pop()
                continue
            levels.pop()
            if not levels:
                return
            trail.leave()
            emptied, has_more = entered.pop()
            try:
                _remove(os.rmdir, trail, emptied)
            except FileNotFoundError:
                pass
            except OSError as error:
                # Names are left for another round, or were added meanwhile: empty it once more.
                tries += not has_more
                if error.errno not in _NOT_EMPTY or tries > REMOVE_TRIES:
                    raise
                levels[-1].append(emptied)


def remove_small_tree(dir_fd: int, name: bytes) -> bool:
    """Remove the directory ``name`` if its tree is small, which takes well under a millisecond.

    Args:
        dir_fd: the directory of ``name``; borrowed.
        name: one name, not a path.

    Returns:
        Whether it is removed. If not, a part of it may be.
    """
    try:
        _remove_small(dir_fd, name, iter(range(SMALL)))
    except (OSError, _NotSmallError):
        return False
    return True


class _NotSmallError(Exception):
    """A tree is not small."""


def _remove_small(dir_fd: int, name: bytes | str, allowed: Iterator[int]) -> None:
    """Remove a directory; ``allowed`` has one item for each entry that its tree may have."""
    try:
        os.rmdir(name, dir_fd=dir_fd)
    except OSError as error:
        if error.errno not in _NOT_EMPTY:
            raise
    else:
        return
    fd = openat2(dir_fd, os.fsencode(name), _OPEN, resolve=RESOLVE_NO_XDEV)
    try:
        with os.scandir(fd) as listed:
            entries = list(itertools.islice(listed, SMALL))
        for entry in entries:
            if next(allowed, None) is None:
                raise _NotSmallError
            if entry.is_dir(follow_symlinks=False):
                _remove_small(fd, entry.name, allowed)
            elif entry.stat(follow_symlinks=False).st_blocks * 512 > SMALL_FILE:
                raise _NotSmallError
            else:
                os.unlink(entry.name, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=dir_fd)


def _some_names(directory: Dir) -> list[bytes]:
    """Return a directory's first names, in no order; not all, since there may be millions."""
    try:
        with os.scandir(directory.fd) as entries:
            return [os.fsencode(entry.name) for entry in itertools.islice(entries, REMOVE_NAMES)]
    except FileNotFoundError:  # it was removed meanwhile, so it is empty
        return []


def _remove(remove: Callable[..., None], trail: Trail, name: bytes) -> None:
    """Remove with `os.unlink` or `os.rmdir`, even if a container made it immutable (chattr(1))."""
    try:
        remove(name, dir_fd=trail.here.fd)
    except PermissionError:
        if trail.depth:  # the directory that contains the tree is not ours to change
            inode_flags.allow_changes(trail.here.fd)
        inode_flags.allow_changes_at(trail.here.fd, name)
        remove(name, dir_fd=trail.here.fd)
