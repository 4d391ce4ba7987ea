"""The copied data of an image: data that have no blocks of their own in the tar.

These are sparse files with pieces that are not on the grid of blocks, and files of the layers below
that a hard link leads to. They are written when the tar is whole, since they stand behind it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Container, Sequence
from typing import Final

from graphdriver.layer.erofs.below import LayersBelow
from graphdriver.layer.erofs.bounds import ITEM, Budget, CannotHoldError
from graphdriver.layer.erofs.chunks import list_size, smallest_bits
from graphdriver.layer.erofs.part_writer import PartWriter
from graphdriver.layer.erofs.structures import BLOCK
from graphdriver.layer.erofs.tree import Area, Extent, Inode
from graphdriver.layer.write.inode import is_zeros

MOST_FROM_BELOW: Final = 16 << 30
"""The limit of data from the layers below, holes included, in bytes: they are read to the last byte."""

_PIECE: Final = 1 << 20
_ZEROS: Final = bytes(_PIECE)
_PAGE: Final = 4096  # what one byte between holes takes on ext4
_MOST_PADDING: Final = 1 << 16

Range = tuple[int, int, int]
"""Where a piece of a file begins in the file, its length, and where it begins in the tar; in bytes."""


class CopiedData:
    """The data of one image that are copied.

    Args:
        budget: the memory that is left.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._ranges: list[tuple[Inode, list[Range], int]] = []
        """With the unit of each file's extents, in bytes."""
        self._lower: list[tuple[Inode, list[bytes], bytes]] = []
        self._from_below = 0

    def __bool__(self) -> bool:
        return bool(self._ranges or self._lower)

    def add_ranges(self, inode: Inode, ranges: list[Range]) -> None:
        """Take pieces of a file out of the tar.

        Raises:
            CannotHoldError: the index of the file would be too long.
        """
        data = sum(length for _, length, _ in ranges)
        bits = smallest_bits(inode.size, data)
        if bits is None:
            raise CannotHoldError("the list of its holes is too long")
        unit = BLOCK << bits
        padding = _padded(ranges, unit) - max(2 * data, _PAGE * len(ranges))
        if padding > _MOST_PADDING:
            raise CannotHoldError("the list of its holes is too long")
        self._budget.spend_on_disk(list_size(inode.size, bits) + max(0, padding), data)
        self._budget.spend(2 * ITEM * (1 + len(ranges)))
        self._ranges.append((inode, ranges, unit))

    def add_lower(self, inode: Inode, path: list[bytes], name: bytes) -> None:
        """Take the data of a file of the layers below.

        Raises:
            CannotHoldError: it is too much.
        """
        self._from_below += inode.size
        if self._from_below > MOST_FROM_BELOW:
            raise CannotHoldError("its hard links lead to too much data of the layers below")
        self._budget.spend(2 * ITEM + sum(map(len, path)) + ITEM * len(path))
        self._lower.append((inode, path, name))

    def write(
        self,
        fd: int,
        start: int,
        tar_fd: int,
        tar_start: int,
        below: LayersBelow,
        shown: Container[int],
    ) -> int:
        """Write them, and set the extents of their inodes.

        Args:
            fd: the image.
            start: where they begin in it, in bytes.
            tar_fd: the file with the tar.
            tar_start: where the tar begins in that, in bytes.
            below: the layers below.
            shown: the `id` of each inode that is still in the tree.

        Returns:
            Their size in bytes.

        Raises:
            OSError: they cannot be read or written.
        """
        writer = _ExtentWriter(fd, start)
        for inode, ranges, unit in self._ranges:
            if id(inode) not in shown:
                continue
            writer.begin(inode.size, unit)
            for at, length, offset in ranges:
                for done in range(0, length, _PIECE):
                    count = min(_PIECE, length - done)
                    writer.add(at + done, _exactly(tar_fd, count, tar_start + offset + done))
            inode.data = writer.end()
        for inode, path, name in self._lower:
            if id(inode) not in shown:
                continue
            digest = hashlib.sha256()
            writer.begin(inode.size, BLOCK)
            file = below.open_file(path, name)
            try:
                for at in range(0, inode.size, _PIECE):
                    piece = _exactly(file, min(_PIECE, inode.size - at), at)
                    digest.update(piece)
                    if not is_zeros(piece):
                        writer.add(at, piece)
            finally:
                os.close(file)
            below.note_file(path, name, inode, digest.digest())
            inode.data = writer.end()
        return writer.finish()


class _ExtentWriter:
    """Writes the copied data, file by file, and makes the files' extents."""

    def __init__(self, fd: int, start: int) -> None:
        self._start = start
        self._out = PartWriter(fd, start)
        self._file_size = 0
        self._unit = BLOCK
        self._extents: list[Extent] = []
        self._first = self._end = self._offset = -1

    def begin(self, size: int, unit: int) -> None:
        """Begin a file of a size; its extents are multiples of ``unit`` but at its end."""
        self._file_size = size
        self._unit = unit
        self._extents = []
        self._first = -1

    def add(self, at: int, data: bytes) -> None:
        """Add data of the file; what lies between two extents is a hole."""
        first = at - at % self._unit
        if self._first < 0 or first > self._end + -self._end % self._unit:
            self._end_extent()
            self._first = self._end = first
            self._offset = self._size()
        self._write_zeros(at - self._end)
        self._out.write(data)
        self._end = at + len(data)

    def end(self) -> int | tuple[Extent, ...]:
        """Return what the file's inode has as data."""
        self._end_extent()
        return tuple(self._extents) if self._file_size else 0

    def finish(self) -> int:
        """Write all that is held; return the size of the area."""
        self._out.flush()
        return self._size()

    def _size(self) -> int:
        return self._out.tell() - self._start

    def _end_extent(self) -> None:
        if self._first >= 0:
            end = min(self._end + -self._end % self._unit, self._file_size)
            self._write_zeros(end - self._end)
            self._extents.append(Extent(self._first, Area.COPIED, self._offset, end - self._first))
            self._out.pad(BLOCK)

    def _write_zeros(self, count: int) -> None:
        for done in range(0, count, _PIECE):
            self._out.write(_ZEROS[: min(_PIECE, count - done)])


def _padded(ranges: Sequence[Range], unit: int) -> int:
    """Return how many bytes the units take that have something of the ranges."""
    size = end = 0
    for at, length, _ in ranges:
        first = max(at - at % unit, end)
        end = max(end, at + length + -(at + length) % unit)
        size += end - first
    return size


def _exactly(fd: int, count: int, at: int) -> bytes:
    """Read a piece of a file.

    Raises:
        CannotHoldError: it has become shorter.
    """
    piece = os.pread(fd, count, at)
    if len(piece) < count:
        raise CannotHoldError("a file became shorter while it was copied")
    return piece
