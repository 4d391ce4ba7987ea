"""Where a file is nothing but zeros.

A filesystem says where it has holes, but in steps of its own, and not every file that could have some
has them. So a hole here is every block of 4,096 bytes that holds zeros alone, whether it takes space or
not: the same content gives the same answer anywhere. What the filesystem knows to be a hole is not
read (lseek(2), ``SEEK_DATA``).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

BLOCK = 4096
"""How big a hole is at least, in bytes, and where it may begin."""

MOST_RANGES = 20_000
"""How many ranges of data a file may have; their list is some hundred kilobytes of tar then, and no
reader takes more than a mebibyte."""

_PIECE = 1 << 20
_ZEROS = bytes(BLOCK)


def data_ranges(fd: int, size: int) -> list[tuple[int, int]] | None:
    """Return the ranges (offset, length) of a file that are not holes.

    Args:
        fd: the file, open for reading; its position is lost.
        size: its size, in bytes.

    Returns:
        The ranges, in order and apart from each other, or None if they are too many to be listed.

    Raises:
        OSError: it cannot be read.
    """
    ranges: list[tuple[int, int]] = []
    for start, end in _data_blocks(fd, size):
        first, length = ranges[-1] if ranges else (0, 0)
        if ranges and first + length == start:
            ranges[-1] = first, end - first
        elif len(ranges) == MOST_RANGES:
            return None
        else:
            ranges.append((start, end - start))
    return ranges


def _data_blocks(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield where each stretch of blocks that are not zeros begins and ends."""
    at = 0
    while at < size:
        try:
            at = max(at, os.lseek(fd, at, os.SEEK_DATA) // BLOCK * BLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        piece = os.pread(fd, min(_PIECE, size - at), at)
        if not piece:
            return
        for offset in range(0, len(piece), BLOCK):
            block = piece[offset : offset + BLOCK]
            if block != _ZEROS[: len(block)]:
                yield at + offset, at + offset + len(block)
        at += len(piece)
