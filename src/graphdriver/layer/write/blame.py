"""Whose fault it is when the kernel refuses an entry: the tar's, the filesystem's, or the machine's."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

from graphdriver.errors import BadArchiveError, GraphDriverError, UnsupportedError
from graphdriver.layer.tar.entry import Entry, EntryType, show
from graphdriver.linux.resources import error_text, filesystem_name

_BAD_WAY = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL})
_NOT_HERE = frozenset(
    {errno.ENAMETOOLONG, errno.EOPNOTSUPP, errno.EMLINK, errno.EFBIG, errno.EPERM}
)


def raise_about(entry: Entry, error: OSError, root_fd: int) -> NoReturn:
    """Say of which entry, and whose fault it is.

    Args:
        entry: what was to be made.
        error: what the kernel said.
        root_fd: the root of the tree that it was to be made in.

    Raises:
        GraphDriverError: always.
    """
    match error.errno:
        case errno.ENAMETOOLONG:
            reason = _too_long(entry, root_fd)
        case errno.EFBIG:
            reason = f"its size is {entry.size} bytes: {error_text(error, root_fd)}"
        case _:
            reason = error_text(error, root_fd)
    problem = f"{show(entry.name)}: {reason}"
    if error.errno in _BAD_WAY:
        raise BadArchiveError(problem) from error
    if error.errno in _NOT_HERE:
        raise UnsupportedError(problem) from error
    raise GraphDriverError(problem) from error


def _too_long(entry: Entry, root_fd: int) -> str:
    longest = max(map(len, entry.name.split(b"/")))
    most = os.fstatvfs(root_fd).f_namemax
    where = filesystem_name(root_fd)
    if longest > most:
        return f"its name is too long: a part of it has {longest} bytes, {where} takes {most}"
    if entry.link:
        kind = "text" if entry.type is EntryType.SYMLINK else "target's name"
        return f"its {kind} is too long for {where}: {len(entry.link)} bytes"
    return f"its name is too long for {where}: {len(entry.name)} bytes"
