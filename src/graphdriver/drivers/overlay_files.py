"""The small files of a layer on overlays."""

from __future__ import annotations

import os

from graphdriver.errors import GraphDriverError


def lost(what: str) -> GraphDriverError:
    """Tell of a file that is not whole: none of them is synced when it is made."""
    return GraphDriverError(
        f"{what} was lost, in a power cut most likely",
        hint="remove it; an image can be loaded again",
    )


def write(path: str, text: str) -> None:
    """Write a whole small file; it is not synced."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
