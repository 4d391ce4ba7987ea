"""The runtime directory: what is kept until the next boot, and how its files are named."""

from __future__ import annotations

import os
from typing import Final

RUNTIME: Final = "/run/graphdriver"
"""Root's own; nobody else can open anything in it."""

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
