"""Texts of errors, with the name of the resource that ran out.

errno(3) is less exact: ``ENOSPC`` means bytes, inodes, a project's limit or the attributes of one file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from typing import Final

from graphdriver.linux.mountinfo import fstype_of, mount_points

Place = int | str | bytes
"""An open descriptor or a path on the filesystem of the failed call."""

_MUCH: Final = 1 << 20
"""A filesystem with this many free bytes has run out of something else."""

_FILE_MAX: Final = "/proc/sys/fs/file-max"
_DESCRIPTORS: Final = b"/proc/self/fd/"
MOUNT_MAX: Final = "/proc/sys/fs/mount-max"


def error_text(error: OSError, place: Place | None = None) -> str:
    """Return the text of an error; it names the resource if one ran out.

    Args:
        error: any.
        place: where; unless given, the path that the error names.
    """
    if place is None:
        place = _place_of(error)
    match error.errno:
        case errno.ENOSPC:
            return _no_space(place)
        case errno.EDQUOT:
            return (
                "a quota is used up: the layer's size limit, or one that the filesystem sets for a"
                " user, a group, a project or a subvolume"
            )
        case errno.EFBIG:
            return (
                f"the file is larger than {filesystem_name(place)} allows,"
                f" or than {_limit_of_files()}"
            )
        case errno.ENAMETOOLONG:
            return f"a name or a path is longer than {filesystem_name(place)} or Linux allows"
        case errno.EMFILE:
            most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            return f"this process has {most} files open, as many as it may (RLIMIT_NOFILE)"
        case errno.ENFILE:
            return f"the machine has as many files open as it may ({_FILE_MAX})"
        case errno.EROFS:
            return (
                f"{filesystem_name(place)} is read-only, as the kernel makes one after an error"
                " (see dmesg)"
            )
        case errno.EIO:
            return f"{filesystem_name(place)} or its disk failed (see dmesg)"
        case errno.ENOMEM:
            return "no memory is left for this process (see RLIMIT_AS and its cgroup)"
        case errno.E2BIG:
            return "the arguments of a program, or an attribute, are longer than Linux allows"
        case _:
            return error.strerror or str(error)


def mount_error_text(error: OSError, place: Place) -> str:
    """Return the text of a failed mount's error; there may also be too many mounts.

    Args:
        error: any.
        place: where.
    """
    if error.errno == errno.ENOSPC:
        with contextlib.suppress(OSError), open(MOUNT_MAX, encoding="utf-8") as file:
            most = int(file.read())
            if sum(1 for _ in mount_points()) >= most:
                return f"there are {most} mounts, as many as there may be ({MOUNT_MAX})"
    return error_text(error, place)


def filesystem_name(place: Place | None) -> str:
    """Return the name of a filesystem, for an error's text."""
    with contextlib.suppress(OSError), _held(place) as fd:
        return f"the filesystem ({fstype_of(fd)})"
    return "the filesystem"


def has_room(place: Place) -> bool:
    """Tell whether bytes and inodes are left, so that ENOSPC had another reason.

    Raises:
        OSError: the filesystem cannot be reached.
    """
    with _held(place) as fd:
        found = os.fstatvfs(fd)
    return found.f_bavail * found.f_frsize >= _MUCH and not _lacks_inodes(found)


def _place_of(error: OSError) -> Place | None:
    """Return the path that an error names, unless it is a descriptor, which may be reused by now."""
    path = error.filename
    if not isinstance(path, str | bytes) or os.fsencode(path).startswith(_DESCRIPTORS):
        return None
    return path


def _no_space(place: Place | None) -> str:
    try:
        with _held(place) as fd:
            found = os.fstatvfs(fd)
    except OSError:
        return "no space or no inodes are left on the filesystem"
    if _lacks_inodes(found):
        return f"no inodes are left on {filesystem_name(place)}: all {found.f_files} are in use"
    free = found.f_bavail * found.f_frsize
    if free < _MUCH:
        return f"no space is left on {filesystem_name(place)}: {free} bytes are free"
    return (
        f"no room is left on {filesystem_name(place)}, though {free} bytes are free: a quota of a"
        " project is used up, or what it keeps for metadata"
    )


def _lacks_inodes(found: os.statvfs_result) -> bool:
    return bool(found.f_files) and not found.f_favail


def _limit_of_files() -> str:
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    unlimited = most == resource.RLIM_INFINITY
    return f"this process may write (RLIMIT_FSIZE: {'unlimited' if unlimited else most})"


@contextlib.contextmanager
def _held(place: Place | None) -> Iterator[int]:
    """Open a place on a filesystem for a ``with`` block; for a missing path, the directory above it.

    Raises:
        OSError: the place is unknown.
    """
    if isinstance(place, int):
        yield place
        return
    path = os.fsencode(place or b"")
    if not path.startswith(b"/"):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    while not os.path.exists(path):
        path = os.path.dirname(path)
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
