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


def read(path: str) -> str:
    """Return what a small file holds, without white space around it.

    Raises:
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        held = b""
        while more := os.read(fd, 65536):
            held += more
    finally:
        os.close(fd)
    return held.decode("utf-8", "replace").strip()


def write(path: str, text: str) -> None:
    """Write a whole small file; it is not synced."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
