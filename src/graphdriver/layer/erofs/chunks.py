"""Sparse files in an image: a list names the first block of each chunk, or says that it is a hole.

All chunks of a file have one size, a power of two and a block at least. A list has a number for each
chunk of the whole file: a tar of a few bytes may claim a file of exabytes, so lists have a limit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from graphdriver.layer.erofs.structures import BLOCK
from graphdriver.layer.erofs.tree import Extent

LIST_MAX: Final = 1 << 20
"""The limit of a list in bytes; it is 1 % of the file's data if that is more."""

_BITS_MAX: Final = 31
_BLOCK_BITS: Final = BLOCK.bit_length() - 1
_HOLE: Final = b"\xff\xff\xff\xff"
_AT_ONCE: Final = 1 << 14


def chunk_bits(size: int, extents: Sequence[Extent]) -> int | None:
    """Return the size of a sparse file's chunks in blocks, as a power of two.

    It is the largest one: each chunk is a hole, or lies in one extent.

    Args:
        size: of the file, in bytes.
        extents: its data, in order.

    Returns:
        None if no size is possible: an extent is not on the grid of blocks, the extents are not in
        order, or the list of chunks would be too long.
    """
    borders = end = data = 0
    for at, _, offset, length in extents:
        if offset % BLOCK or at < end or length <= 0:
            return None
        end = at + length
        data += length
        borders |= at
        if end != size:
            borders |= end
    if borders % BLOCK or end > size:
        return None
    bits = _bits_of_one_chunk(size)
    if borders:
        bits = min(bits, (borders & -borders).bit_length() - 1 - _BLOCK_BITS)
    return bits if list_size(size, bits) <= _list_limit(data) else None


def smallest_bits(size: int, data: int) -> int | None:
    """Return the size of the smallest chunks with which a sparse file's list is not too long.

    It is a power of two in blocks, as `chunk_bits` returns it.

    Args:
        size: of the file, in bytes.
        data: how many bytes of it are data.

    Returns:
        None if the list is too long even with the largest chunks.
    """
    for bits in range(_bits_of_one_chunk(size) + 1):
        if list_size(size, bits) <= _list_limit(data):
            return bits
    return None


def list_size(size: int, bits: int) -> int:
    """Return how many bytes the list of a sparse file's chunks has.

    Args:
        size: of the file, in bytes.
        bits: its chunks' size, as `chunk_bits` returns it.
    """
    return -(-size >> bits + _BLOCK_BITS) * len(_HOLE)


def chunk_list(size: int, bits: int, extents: Iterable[tuple[int, int, int]]) -> Iterator[bytes]:
    """Yield the list of a sparse file's chunks in pieces.

    Args:
        size: of the file, in bytes.
        bits: its chunks' size, as `chunk_bits` returns it.
        extents: where each begins in the file, in bytes; its length; and its first block.
    """
    shift = bits + _BLOCK_BITS
    done = 0
    for at, length, block in extents:
        yield from _holes((at >> shift) - done)
        done = -(-(at + length) >> shift)
        count = done - (at >> shift)
        for first in range(0, count, _AT_ONCE):
            some = min(_AT_ONCE, count - first)
            blocks = range(block + (first << bits), block + (first + some << bits), 1 << bits)
            yield struct.pack(f"<{some}I", *blocks)
    yield from _holes(-(-size >> shift) - done)


def _holes(count: int) -> Iterator[bytes]:
    for first in range(0, count, _AT_ONCE):
        yield _HOLE * min(_AT_ONCE, count - first)


def _bits_of_one_chunk(size: int) -> int:
    return min(_BITS_MAX, max(0, -(-size // BLOCK) - 1).bit_length())


def _list_limit(data: int) -> int:
    return max(LIST_MAX, data // 100)
