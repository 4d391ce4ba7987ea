"""Directories of our own, with exact permissions.

A server of layers runs with a umask of 0, because layers have their own modes. So each call here sets
the mode of every directory that it makes; `os.makedirs` sets that of the last one only.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import tempfile
from collections.abc import Iterator

from graphdriver.errors import UnsupportedError
from graphdriver.linux.acl import inherit_nothing

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_WRITE = stat.S_IWGRP | stat.S_IWOTH

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_log = logging.getLogger(__name__)


class OpenDirectory:
    """A descriptor that a ``with`` block closes; a class, since a generator costs microseconds.

    Args:
        fd: the descriptor, which the ``with`` statement returns.
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)


def opened(path: str | bytes, dir_fd: int | None = None) -> OpenDirectory:
    """Open a directory, not a symlink to one, for a ``with`` block.

    Args:
        path: the directory.
        dir_fd: where a relative path begins.

    Raises:
        OSError: it cannot be opened; NotADirectoryError if something else has its name.
    """
    return OpenDirectory(os.open(path, _DIRECTORY, dir_fd=dir_fd))


def why_no_directory(path: str) -> str:
    """Return why a path is not a directory, in words that begin with the path; ``""`` if it is one.

    A symlink to a directory is none: somebody put it there.
    """
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return f"{path} does not exist"
        return f"{path} cannot be read ({error.strerror})"
    if stat.S_ISDIR(mode):
        return ""
    return f"{path} is {'a symlink' if stat.S_ISLNK(mode) else 'a file'}, and not a directory"


def make_directories(path: str, mode: int) -> None:
    """Make a directory and all missing ones above it, with the same permissions.

    Raises:
        OSError: one cannot be made; NotADirectoryError if something else has its name.
    """
    above = os.path.dirname(path)
    if above and not os.path.isdir(above):
        make_directories(above, mode)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)
    if not os.path.isdir(path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)


def make_plain(path: str, mode: int) -> None:
    """Make a directory, unless it exists, that inherits no access control list and no group.

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
    """Make a directory that belongs to this user, or check one that exists (`secure`).

    Raises:
        UnsupportedError: it belongs to another user, or is not a directory.
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
    """Check that a directory belongs to this user, and remove permissions of others beyond ``mode``.

    The owner of a directory, and any user who may write to it, can replace the files in it.

    Args:
        path: the directory.
        mode: the most that others may do.
        flags: more flags for open(2).

    Raises:
        UnsupportedError: it belongs to another user.
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


@contextlib.contextmanager
def new_directory(path: str) -> Iterator[str]:
    """Make a directory that is whole or not there: a ``with`` block fills it under another name.

    Args:
        path: what does not exist yet, or is an empty directory.

    Yields:
        The directory to fill.

    Raises:
        UnsupportedError: something else is there.
        OSError: it cannot be made.
    """
    if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        raise UnsupportedError(
            f"{path} exists and is not an empty directory", hint="remove it, or name another one"
        )
    path = os.path.abspath(path)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=os.path.dirname(path)) as above:
        made = os.path.join(above, "whole")
        os.mkdir(made, 0o755)
        yield made
        os.rename(made, path)
