"""Warnings and errors for what the kernel refuses to store.

An image that Docker loads must load here. So metadata that this machine, filesystem or type of file
cannot store is left out if the file is still the same file without it, with one warning for each kind
and layer. Content, types, modes, owners and links are never left out, and some attributes are not
either (`graphdriver.layer.attributes`): there the error names the entry.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import NoReturn

from graphdriver.errors import BadArchiveError, GraphDriverError, UnsupportedError
from graphdriver.layer.tar.entry import Entry, EntryType, show
from graphdriver.linux.resources import error_text, filesystem_name, has_room

_log = logging.getLogger(__name__)

_ARCHIVE_IS_WRONG = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL})
_FILESYSTEM_CANNOT = frozenset(
    {errno.ENAMETOOLONG, errno.EOPNOTSUPP, errno.EMLINK, errno.EFBIG, errno.EPERM}
)
_LONGEST_ATTRIBUTE = 255, 1 << 16  # its name and its value, in bytes (linux/limits.h)


class Losses:
    """The warnings of what is left out of one layer."""

    def __init__(self) -> None:
        self._noted: set[str] = set()

    def note(self, kind: str, problem: str) -> None:
        """Warn, unless something of this kind was left out of this layer before.

        Args:
            kind: the kind of loss; the number of kinds must not depend on the tar.
            problem: what is left out of which entry, and why.
        """
        if kind not in self._noted:
            self._noted.add(kind)
            _log.warning("%s; more of the kind in this layer is not logged", problem)

    def note_attribute(self, entry: bytes, name: bytes, reason: str) -> None:
        """Warn of an attribute that the kernel refused, and that may be lost.

        Args:
            entry: the name of the entry.
            name: the attribute.
            reason: the text of the kernel's error.
        """
        self.note(
            f"attributes {name.partition(b'.')[0]!r}",
            f"{show(entry)}: the attribute {show(name)} cannot be kept: {reason}",
        )


def raise_refused(entry: Entry, error: OSError, root_fd: int) -> NoReturn:
    """Raise an error that names the entry and whether tar, filesystem or machine is the cause.

    Args:
        entry: the entry that could not be made.
        error: the kernel's error.
        root_fd: the root of the tree; borrowed.

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
    if error.errno in _ARCHIVE_IS_WRONG:
        raise BadArchiveError(problem) from error
    if error.errno in _FILESYSTEM_CANNOT:
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


def attribute_error(
    problem: str, target: int | bytes, name: bytes, value: bytes, error: OSError
) -> GraphDriverError:
    """Return an error that explains why an attribute cannot be set.

    The kernel's errors for large ones are misleading: "No space left on device" on a disk with space.

    Args:
        problem: which attribute of which entry cannot be kept.
        target: the inode, as `graphdriver.linux.xattr` takes it.
        name: the attribute's name.
        value: its value.
        error: the kernel's error.
    """
    longest_name, longest_value = _LONGEST_ATTRIBUTE
    match error.errno:
        case errno.ERANGE:
            reason = f"its name has {len(name)} bytes, and Linux takes {longest_name}"
        case errno.E2BIG if len(value) > longest_value:
            reason = f"it has {len(value)} bytes, and Linux takes {longest_value}"
        case errno.E2BIG | errno.ENOSPC if error.errno == errno.E2BIG or has_room(target):
            where = filesystem_name(target)
            return UnsupportedError(
                f"{problem}: its {len(value)} bytes are more than {where} holds for one file",
                hint="keep layers on XFS, which holds attributes of 64 KiB",
            )
        case errno.ENOSPC | errno.EDQUOT:
            return GraphDriverError(f"{problem}: {error_text(error, target)}")
        case _:
            reason = error_text(error, target)
    return UnsupportedError(f"{problem}: {reason}")
