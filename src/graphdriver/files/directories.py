"""Making folders and files of our own with the permissions that they shall have, by one at a time.

A server of layers runs with a umask of 0, so that layers get the modes that they say. What is ours
must therefore say its mode each time; `os.makedirs` does so for the last folder only.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat

from graphdriver.errors import UnsupportedError
from graphdriver.linux.acl import inherit_nothing

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WRITE = stat.S_IWGRP | stat.S_IWOTH

_log = logging.getLogger(__name__)


def make_directories(path: str, mode: int) -> None:
    """Make a folder and those above it that are missing, all with the same permissions.

    Raises:
        OSError: one cannot be made; NotADirectoryError if something else is in its place.
    """
    above = os.path.dirname(path)
    if above and not os.path.isdir(above):
        make_directories(above, mode)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def make_plain(path: str, mode: int) -> None:
    """Make a directory, unless it is there, that takes no list and no group from the one above it.

    Raises:
        OSError: it cannot be made.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            inherit_nothing(fd, mode)
        finally:
            os.close(fd)


def make_own(path: str, mode: int) -> None:
    """Make a directory of this user's own, or see that the one there is such.

    Raises:
        UnsupportedError: see `secure`; or something that is no directory is there.
        OSError: it cannot be made.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise UnsupportedError(
            f"{path} is in the way: it is not a directory", hint="move it away, or remove it"
        )
    secure(path, mode, os.O_NOFOLLOW)


def secure(path: str, mode: int, flags: int = 0) -> None:
    """See that a directory is this user's own, and take from others what is not in ``mode``.

    Whoever owns a directory, or may write to it, can put other files in the place of those in it.

    Args:
        path: the directory.
        mode: what others may do at most.
        flags: more flags for open(2).

    Raises:
        UnsupportedError: it is another user's.
        OSError: it cannot be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | flags)
    try:
        there = os.fstat(fd)
        if there.st_uid != os.geteuid():
            raise UnsupportedError(
                f"the directory {path} belongs to user {there.st_uid}, who can change everything in"
                f" it; this process runs as user {os.geteuid()}",
                hint=f"check what is in it, then run: chown {os.geteuid()} {path}",
            )
        too_much = there.st_mode & _OTHERS & ~mode
        if too_much:
            before = stat.S_IMODE(there.st_mode)
            os.fchmod(fd, before & ~too_much)
            _log.warning(
                "the directory %s had mode %04o, which let other users %s; it has mode %04o now%s",
                path,
                before,
                "write to it" if too_much & _WRITE else "in",
                before & ~too_much,
                "; check what is in it" if too_much & _WRITE else "",
            )
    finally:
        os.close(fd)
