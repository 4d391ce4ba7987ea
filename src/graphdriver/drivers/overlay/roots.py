"""The directories of a new layer: the root of its tree, and the work directory of its mount.

Each container makes them, so what is right as it was made is not set again.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from graphdriver.files.directories import opened
from graphdriver.layer.tree.copy import copy_metadata
from graphdriver.linux import xattr


class Root(NamedTuple):
    """The metadata of the root of a layer's tree."""

    found: os.stat_result
    attributes: Mapping[bytes, bytes]


def root_at(path: str) -> Root:
    """Return the metadata of a directory.

    Raises:
        OSError: it cannot be read; NotADirectoryError if something else has its name.
    """
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return Root(found, xattr.get_all(os.fsencode(path)))


def make_root(path: str, owner: tuple[int, int]) -> None:
    """Make the root of a layer without a parent; ``owner`` is a user and a group."""
    os.mkdir(path, 0o755)
    with opened(path) as fd:
        os.fchown(fd, *owner)
        os.fchmod(fd, 0o755)


def make_root_like(path: str, parent: Root) -> None:
    """Make the root of a layer, with the metadata of its parent's."""
    os.mkdir(path, 0o755)
    if parent.attributes or not _is_alike(os.lstat(path), parent.found):
        with opened(path) as fd:
            copy_metadata(fd, *parent)
    else:  # nearly always: both are root's, with mode 755
        os.utime(path, ns=(parent.found.st_atime_ns, parent.found.st_mtime_ns))


def make_work(path: str, owner: tuple[int, int]) -> None:
    """Make the work directory of a mount; ``owner`` is a user and a group."""
    os.mkdir(path, 0o700)
    if owner != (os.geteuid(), os.getegid()):
        os.chown(path, *owner)


def _is_alike(made: os.stat_result, found: os.stat_result) -> bool:
    """Tell whether a new directory has the owner and the mode of another one."""
    mine, other = ((one.st_uid, one.st_gid, one.st_mode) for one in (made, found))
    return mine == other
