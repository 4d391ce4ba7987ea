"""The runtime directory: files that are valid until the next boot, and their names."""

from __future__ import annotations

import contextlib
import os
from typing import Final

RUNTIME: Final = "/run/graphdriver"
"""Belongs to root; no other user can open anything in it."""

_VIEW: Final = ".view"
_LONGEST: Final = 255  # NAME_MAX of linux/limits.h


def file_name(path: str) -> str:
    """Return a file name for a path, a different one for each path.

    ``%``, ``=`` and ``/`` are escaped, as in URLs. If that is too long for a name, the name is a digest
    with an ``=``, which no escaped path has.
    """
    escaped = path.replace("%", "%25").replace("=", "%3D").replace("/", "%2F")
    if len(os.fsencode(escaped)) <= _LONGEST:
        return escaped
    import hashlib  # rarely, and a socket is bound before anything slow is imported

    return f"sha256={hashlib.sha256(os.fsencode(path)).hexdigest()}"


def path_of(name: str) -> str | None:
    """Return the path for a name from `file_name`; None if the name is a digest."""
    if "=" in name:
        return None
    return name.replace("%2F", "/").replace("%3D", "=").replace("%25", "%")


def mark_namespaces(directory: str) -> None:
    """Record in a directory the namespaces in which its paths and process IDs are valid."""
    mark = os.path.join(directory, _VIEW)
    if not is_of_our_namespaces(directory):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(mark)
        with contextlib.suppress(FileExistsError):
            os.symlink(_view(), mark)


def is_of_our_namespaces(directory: str) -> bool:
    """Tell whether the paths and process IDs in a directory are valid in this process's namespaces.

    In others there may be homes, sockets and processes that cannot be seen from here.
    """
    with contextlib.suppress(OSError):
        return os.readlink(os.path.join(directory, _VIEW)) == _view()
    return False


def remove_directory(directory: str) -> None:
    """Remove a directory if it is empty except for the mark of `mark_namespaces`."""
    with contextlib.suppress(OSError):
        if os.listdir(directory) == [_VIEW]:
            os.unlink(os.path.join(directory, _VIEW))
        os.rmdir(directory)


def _view() -> str:
    return " ".join(os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "pid"))


def boot_id() -> str:
    """Return the ID of this boot, a UUID (random(4)): files outlive a boot, and mounts do not."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
