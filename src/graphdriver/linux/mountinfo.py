"""/proc/self/mountinfo (proc(5)): what is mounted, as this process sees it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One line, with escapes undone.

    ``point`` is where it is, ``source`` what is mounted, ``root`` the part of it that is seen there.
    ``device`` is what stat(2) tells as ``st_dev`` of what is on it, on most filesystems.
    """

    id: int
    device: int
    root: bytes
    point: bytes
    fstype: str
    source: bytes
    options: bytes


def mount_points(pid: int | str = "self") -> Iterator[MountPoint]:
    """Yield all mounts that a process sees, in the order in which they were made.

    Raises:
        OSError: there is no such process, or it may not be looked at.
    """
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        text = file.read()
    for line in text.splitlines():
        before, _, after = line.partition(b" - ")
        fields = before.split(b" ")
        fstype, source, options = [*after.split(b" "), b""][:3]
        major, _, minor = fields[2].partition(b":")
        yield MountPoint(
            int(fields[0]),
            os.makedev(int(major), int(minor)),
            unescape(fields[3]),
            unescape(fields[4]),
            fstype.decode(),
            unescape(source),
            options,
        )


def fstype_of(fd: int) -> str:
    """Return the name of the filesystem that an open file is on.

    Raises:
        OSError: /proc cannot be read.
    """
    wanted = mount_id(fd)
    return next((one.fstype for one in mount_points() if one.id == wanted), "unknown")


def mount_id(fd: int) -> int:
    """Return the `MountPoint.id` of the mount that an open file was reached through.

    Raises:
        OSError: /proc cannot be read.
    """
    with open(f"/proc/self/fdinfo/{fd}", encoding="utf-8") as file:
        said = dict(line.split(":", 1) for line in file if ":" in line)
    return int(said["mnt_id"])


def unescape(field: bytes) -> bytes:
    r"""Undo the escapes of blanks and backslashes, ``\040`` and the like."""
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), field)
