"""How much of a file is in the page cache (mincore(2))."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)


def pages_in_memory(path: Path) -> int:
    """Return how many pages of a file, which is not empty, the page cache has."""
    size = path.stat().st_size
    found = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
    with open(path, "rb") as file, mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE) as mapped:
        start = ctypes.c_char.from_buffer(mapped)
        failed = _libc.mincore(ctypes.addressof(start), size, found)
        del start
        if failed:
            raise OSError(ctypes.get_errno(), "mincore")
    return sum(one & 1 for one in found.raw)


def forget(path: Path) -> None:
    """Write a file to its disk, and drop its pages."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
