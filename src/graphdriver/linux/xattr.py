"""Extended attributes as bytes, of whatever a descriptor holds.

The standard library gives names as text and refuses descriptors that were opened with `O_PATH`, the
only kind that links and devices can have. Both is mended here: a *target* is a descriptor, or, for
one of `O_PATH`, its path in /proc (`path_of`), which leads to the thing itself even if it is a link.
"""

from __future__ import annotations

import errno
import os

_NONE = frozenset({errno.ENOTSUP, errno.ENODATA})


def path_of(fd: int) -> bytes:
    """Return the path in /proc that leads to what ``fd`` holds, a link not being followed."""
    return b"/proc/self/fd/%d" % fd


def get_all(target: int | bytes) -> dict[bytes, bytes]:
    """Return all extended attributes; none where the filesystem has no such thing.

    Args:
        target: a descriptor, or the `path_of` one.

    Raises:
        OSError: they cannot be read.
    """
    return _all(target, follow=True)


def get_all_at(dir_fd: int, name: bytes) -> dict[bytes, bytes]:
    """Return all extended attributes of a name in an open folder; a link is not followed.

    For what cannot be opened, or is not worth it.

    Args:
        dir_fd: the folder.
        name: one name, not a path.

    Raises:
        OSError: they cannot be read, or there is nothing of that name.
    """
    return _all(b"/proc/self/fd/%d/%b" % (dir_fd, name), follow=False)


def get_at(dir_fd: int, name: bytes, attribute: bytes) -> bytes | None:
    """Return one extended attribute of a name in an open folder, as `get` and `get_all_at` do.

    Raises:
        OSError: it cannot be read, or there is nothing of that name.
    """
    return _one(b"/proc/self/fd/%d/%b" % (dir_fd, name), attribute, follow=False)


def get(target: int | bytes, name: bytes) -> bytes | None:
    """Return one extended attribute, or None if it is not there.

    Raises:
        OSError: it cannot be read.
    """
    return _one(target, name, follow=True)


def set(target: int | bytes, name: bytes, value: bytes) -> None:
    """Set one extended attribute, there already or not.

    Raises:
        OSError: the filesystem cannot keep it (ENOTSUP, EPERM, ENOSPC, ERANGE), or its value is not
            what the kernel takes under that name (EINVAL).
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


def _all(target: int | bytes, *, follow: bool) -> dict[bytes, bytes]:
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NONE:
            return {}
        raise
    if not names:
        return {}
    found = {}
    for name in map(os.fsencode, names):
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
