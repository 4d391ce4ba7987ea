"""Maps of sparse files: the ranges of a file that are in the tar; the rest are holes.

There are four forms, all from GNU tar ("Sparse Formats" in its manual): the old one in the header and
in blocks after it, and with PAX 0.0 (repeated records), 0.1 (one record) and 1.0 (in front of the
data). All are checked alike: the ranges are in order, do not overlap, lie inside the file, and are
together as long as the data in the tar. A map takes at most a mebibyte of the tar (CVE-2025-58183).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphdriver.errors import BadArchiveError
from graphdriver.layer.tar import pax
from graphdriver.layer.tar.entry import Entry
from graphdriver.layer.tar.header import BLOCK, number

_IN_HEADER = (386, 4)  # the offset in the block, and the number of pairs
_IN_EXTENSION = (0, 21)
_HEADER_GOES_ON = 482
_EXTENSION_GOES_ON = 504
_REAL_SIZE = slice(483, 495)
_DAMAGED = "the map of its holes is damaged"


def is_pax(records: pax.Records) -> bool:
    """Tell whether an extended header is that of a sparse file.

    Raises:
        BadArchiveError: its version is unknown.
    """
    version = (records.get(b"GNU.sparse.major", b""), records.get(b"GNU.sparse.minor", b""))
    if version == (b"", b""):
        return pax.SPARSE_MAP in records
    if version not in {(b"0", b"0"), (b"0", b"1"), (b"1", b"0")}:
        raise BadArchiveError("the version of its sparse map is unknown")
    return True


def read_pax(entry: Entry, records: pax.Records, take: Callable[[int], bytes]) -> None:
    """Make ``entry`` the sparse file that its extended header describes.

    Args:
        entry: its ``stored`` is the size of all that follows in the tar.
        records: of the header.
        take: returns the next bytes of the tar; version 1.0 keeps its map there.

    Raises:
        BadArchiveError: the map is damaged or too long.
    """
    entry.name = records.get(b"GNU.sparse.name") or entry.name
    size = records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size")
    if size:
        entry.size = pax.number(size)
    if records.get(b"GNU.sparse.major") == b"1":
        numbers, length = _in_front_of_data(entry.stored, take)
        entry.stored -= length
    else:
        numbers = [pax.number(n) for n in records.get(pax.SPARSE_MAP, b"").split(b",") if n]
    _set(entry, numbers)


def _in_front_of_data(stored: int, take: Callable[[int], bytes]) -> tuple[list[int], int]:
    """Read a map of version 1.0; return its numbers and its length in bytes."""
    text = b""
    blocks: list[bytes] = []
    lines = 0
    wanted = 1  # the first line is the number of pairs
    length = 0
    while lines < wanted:
        # Checked before each block is read: the count in the first line may be any number.
        length += BLOCK
        if length > min(stored, pax.LIMIT):
            raise BadArchiveError(_DAMAGED)
        block = take(BLOCK)
        blocks.append(block)
        if not lines:
            text = b"".join(blocks)
            if b"\n" not in text:
                continue
            wanted += 2 * pax.number(text[: text.index(b"\n")])
        lines += block.count(b"\n")
    return [pax.number(line) for line in b"".join(blocks).split(b"\n")[1:wanted]], length


def read_old(entry: Entry, header: bytes, take: Callable[[int], bytes]) -> None:
    """Make ``entry`` the sparse file that an old GNU header (type ``S``) describes.

    Args:
        entry: its ``stored`` is the size of the data after the map.
        header: the header block.
        take: returns the next bytes of the tar; long maps continue there.

    Raises:
        BadArchiveError: the map is damaged or too long.
    """
    entry.size = number(header[_REAL_SIZE])
    numbers: list[int] = []
    block, (at, pairs), goes_on, blocks = header, _IN_HEADER, header[_HEADER_GOES_ON], 0
    while True:
        for offset in range(at, at + 24 * pairs, 12):
            field = block[offset : offset + 12]
            if not field[0]:
                break
            numbers.append(number(field))
        if not goes_on:
            break
        blocks += 1
        if blocks * BLOCK > pax.LIMIT:
            raise BadArchiveError(_DAMAGED)
        block = take(BLOCK)
        (at, pairs), goes_on = _IN_EXTENSION, block[_EXTENSION_GOES_ON]
    _set(entry, numbers)


def _set(entry: Entry, numbers: Sequence[int]) -> None:
    if len(numbers) % 2:
        raise BadArchiveError(_DAMAGED)
    at = 0
    ranges: list[tuple[int, int]] = []
    for offset, length in zip(numbers[::2], numbers[1::2], strict=True):
        if offset < at or length < 0:
            raise BadArchiveError(_DAMAGED)
        at = offset + length
        if length:
            ranges.append((offset, length))
    if at > entry.size or sum(length for _, length in ranges) != entry.stored:
        raise BadArchiveError(_DAMAGED)
    entry.sparse = ranges
