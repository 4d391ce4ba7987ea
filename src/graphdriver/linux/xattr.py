"""Extended attributes as bytes, of files of any type, by descriptor.

The standard library gives names as text and refuses descriptors of `O_PATH`, the only kind that links
and devices can have. Here names are bytes, and a *target* is a descriptor or, for one of `O_PATH`, its
path in /proc (`path_of`), which leads to the file itself, even to a link.
"""

from __future__ import annotations

import errno
import os

_NONE = frozenset({errno.ENOTSUP, errno.ENODATA})


def path_of(fd: int) -> bytes:
    """Return the path in /proc that leads to an open file, even to a link."""
    return b"/proc/self/fd/%d" % fd


def get_all(target: int | bytes) -> dict[bytes, bytes]:
    """Return all extended attributes; none if the filesystem does not support them.

    Args:
        target: a descriptor, or the `path_of` one.

    Raises:
        OSError: they cannot be read.
    """
    return _all(target, follow=True)


def get_all_at(dir_fd: int, name: bytes) -> dict[bytes, bytes]:
    """Return all extended attributes of a name in an open directory; a link is not followed.

    It is for files that cannot or need not be opened.

    Args:
        dir_fd: the directory.
        name: one name, not a path.

    Raises:
        OSError: they cannot be read, or the name does not exist.
    """
    return _all(b"/proc/self/fd/%d/%b" % (dir_fd, name), follow=False)


def get_at(dir_fd: int, name: bytes, attribute: bytes) -> bytes | None:
    """Return one extended attribute of a name in an open directory, as `get` and `get_all_at` do.

    Raises:
        OSError: it cannot be read, or the name does not exist.
    """
    return _one(b"/proc/self/fd/%d/%b" % (dir_fd, name), attribute, follow=False)


def get(target: int | bytes, name: bytes) -> bytes | None:
    """Return one extended attribute, or None if it is not there.

    Raises:
        OSError: it cannot be read.
    """
    return _one(target, name, follow=True)


def set(target: int | bytes, name: bytes, value: bytes) -> None:
    """Set one extended attribute, new or not.

    Raises:
        OSError: the filesystem cannot store it (ENOTSUP, EPERM, ENOSPC, ERANGE), or the kernel rejects
            the value for that name (EINVAL).
    """
    os.setxattr(target, name, value)


def remove(target: int | bytes, name: bytes) -> None:
    """Remove one extended attribute; succeed if it is not there.

    Raises:
        OSError: it is there and cannot be removed.
    """
    try:
        os.removexattr(target, name)
    except OSError as error:
        if error.errno not in _NONE:
            raise


def names(path: str) -> frozenset[bytes]:
    """Return the names of all extended attributes of a file; a link is not followed.

    Raises:
        OSError: they cannot be read.
    """
    return frozenset(_names(path, follow=False))


def _names(target: int | bytes | str, *, follow: bool) -> list[bytes]:
    try:
        return [os.fsencode(name) for name in os.listxattr(target, follow_symlinks=follow)]
    except OSError as error:
        if error.errno in _NONE:
            return []
        raise


def _all(target: int | bytes, *, follow: bool) -> dict[bytes, bytes]:
    found = {}
    for name in _names(target, follow=follow):
        value = _one(target, name, follow=follow)
        if value is not None:
            found[name] = value
    return found


def _one(target: int | bytes, name: bytes, *, follow: bool) -> bytes | None:
    try:
        return os.getxattr(target, name, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NONE:
            return None
        raise
