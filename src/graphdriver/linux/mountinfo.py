"""/proc/PID/mountinfo (proc(5)): the mounts that a process sees."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One line, without escapes.

    Attributes:
        device: on most filesystems the ``st_dev`` of the files on it (stat(2)).
        root: the directory of the filesystem that is mounted at ``point``.
        point: the path of the mount.
        source: what is mounted, for example a device.
        is_shared: whether mounts below it appear in other mount namespaces (mount_namespaces(7)).
    """

    id: int
    device: int
    root: bytes
    point: bytes
    fstype: str
    source: bytes
    options: bytes
    is_shared: bool


def mount_points(pid: int | str = "self") -> Iterator[MountPoint]:
    """Yield all mounts that a process sees, in the order in which they were made.

    Raises:
        OSError: there is no such process, or this one may not look at it.
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
            any(field.startswith(b"shared:") for field in fields[6:]),
        )


def mounts_in(directory: str) -> dict[str, int]:
    """Count the mounts below a directory by the first name below it.

    Args:
        directory: its absolute path. In a home the names are the layers', for most drivers.

    Raises:
        OSError: /proc cannot be read.
    """
    found: dict[str, int] = {}
    above = os.fsencode(directory) + b"/"
    for one in mount_points():
        if one.point.startswith(above):
            name = os.fsdecode(one.point.removeprefix(above).partition(b"/")[0])
            found[name] = found.get(name, 0) + 1
    return found


def mount_point_of(fd: int) -> MountPoint | None:
    """Return the mount through which an open file was reached; None if it is not visible here.

    Raises:
        OSError: /proc cannot be read.
    """
    wanted = mount_id(fd)
    return next((one for one in mount_points() if one.id == wanted), None)


def fstype_of(fd: int) -> str:
    """Return the name of the filesystem of an open file.

    Raises:
        OSError: /proc cannot be read.
    """
    found = mount_point_of(fd)
    return found.fstype if found else "unknown"


def mount_id(fd: int) -> int:
    """Return the `MountPoint.id` of the mount through which an open file was reached.

    Raises:
        OSError: /proc cannot be read.
    """
    with open(f"/proc/self/fdinfo/{fd}", encoding="utf-8") as file:
        fields = dict(line.split(":", 1) for line in file if ":" in line)
    return int(fields["mnt_id"])


def unescape(field: bytes) -> bytes:
    r"""Undo the escapes of blanks and backslashes, ``\040`` and the like."""
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), field)
