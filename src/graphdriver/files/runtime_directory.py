"""The runtime directory: what is kept until the next boot, and how its files are named."""

from __future__ import annotations

import contextlib
import os
from typing import Final

RUNTIME: Final = "/run/graphdriver"
"""Root's own; nobody else can open anything in it."""

_VIEW: Final = ".view"

_LONGEST: Final = 255  # NAME_MAX of linux/limits.h


def file_name(path: str) -> str:
    """Return a file's name for a path, another one for each path.

    ``%`` and ``/`` are escaped, as in URLs. A name that would be too long is a digest instead; no
    escaped path has its ``=``.
    """
    escaped = path.replace("%", "%25").replace("=", "%3D").replace("/", "%2F")
    if len(os.fsencode(escaped)) <= _LONGEST:
        return escaped
    import hashlib  # rarely, and a socket is bound before anything slow is imported

    return f"sha256={hashlib.sha256(os.fsencode(path)).hexdigest()}"


def path_of(name: str) -> str | None:
    """Return the path that `file_name` made a name of; None if it was too long for that."""
    if "=" in name:
        return None
    return name.replace("%2F", "/").replace("%3D", "=").replace("%25", "%")


def mark_namespaces(directory: str) -> None:
    """Note in a directory from which namespaces its paths and process IDs were seen."""
    mark = os.path.join(directory, _VIEW)
    if not is_of_our_namespaces(directory):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(mark)
        with contextlib.suppress(FileExistsError):
            os.symlink(_view(), mark)


def is_of_our_namespaces(directory: str) -> bool:
    """Tell whether they were seen from this process's namespaces.

    In others a home, a socket or a process may live that is not to be seen here.
    """
    with contextlib.suppress(OSError):
        return os.readlink(os.path.join(directory, _VIEW)) == _view()
    return False


def remove_directory(directory: str) -> None:
    """Remove a directory that holds nothing more than the mark of `mark_namespaces`, if anything."""
    with contextlib.suppress(OSError):
        if os.listdir(directory) == [_VIEW]:
            os.unlink(os.path.join(directory, _VIEW))
        os.rmdir(directory)


def _view() -> str:
    return " ".join(os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "pid"))


def boot_id() -> str:
    """Return the ID of this boot, a UUID."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
