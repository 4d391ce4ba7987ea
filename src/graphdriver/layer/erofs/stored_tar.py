"""A layer's stored tar: its checksums, and a stream that reads it back and checks it.

Nothing on the way from the disk checks content. So the tar is checked when it is given out again: what
a disk has damaged is a broken stream, and never another tar.

The check is a CRC-32 of each piece, before any of the piece is given out. The SHA-256 of the whole tar
is known only at its end, and takes three times as long as zlib's CRC-32. A CRC-32 detects every change
of up to 32 adjacent bits, and others all but once in 2^32. It is not meant against attackers: whoever
can write to the file is root, and can write to its record as well.

If the package isal is installed, it computes the CRC-32: for a tar of 211 MB in 4 ms of a processor,
where zlib takes 50 ms, twice as long as reading it from memory. Both give the same numbers.

A piece is sent from the memory in which it was checked: sendfile(2) alone may read it from the disk
again after the check. Where the kernel can lock the pages of the file in memory
(`graphdriver.linux.locked_pages`), they are checked where they are, and sent from there by sendfile(2):
on two idle cores that takes half the time. Otherwise a copy is checked and sent.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from graphdriver.errors import BrokenStreamError
from graphdriver.linux.locked_pages import LockedPages

try:
    from isal.isal_zlib import crc32
except ImportError:
    crc32 = zlib.crc32

HAS_FAST_SUMS: Final = crc32 is not zlib.crc32
"""Whether the package isal is installed."""

PIECE: Final = 256 << 10
"""How many bytes of a tar have one checksum; the last piece may have fewer."""

AT_ONCE: Final = 4 * PIECE
"""How many bytes are locked in memory at a time, at most."""

_LEAST_AHEAD: Final = 4096
"""How many bytes are read at once where headers and data alternate."""

_SUM: Final = 4
"""Bytes of a checksum, big-endian."""


@dataclass(frozen=True, slots=True)
class TarSums:
    """The length of a tar and its checksums.

    Attributes:
        size: its length in bytes.
        sha256: the SHA-256 of all of it: the layer's diff ID.
        pieces: the CRC-32 of each `PIECE`, one after the other, 4 bytes each, big-endian.
    """

    size: int
    sha256: bytes
    pieces: bytes


class PieceSums:
    """Computes `TarSums.pieces` of a tar that comes in portions of any length."""

    def __init__(self) -> None:
        self._size = 0
        self._pieces = bytearray()
        self._crc = 0

    def add(self, portion: bytes | memoryview) -> None:
        """Add the next bytes of the tar."""
        left = memoryview(portion)
        while left:
            part = left[: PIECE - self._size % PIECE]
            self._crc = crc32(part, self._crc)
            self._size += len(part)
            left = left[len(part) :]
            if self._size % PIECE == 0:
                self._pieces += self._crc.to_bytes(_SUM, "big")
                self._crc = 0

    def sums(self) -> bytes:
        """Return the sums of what was added so far."""
        last = self._crc.to_bytes(_SUM, "big") if self._size % PIECE else b""
        return bytes(self._pieces) + last


class FilePart(NamedTuple):
    """A part of an open file; ``offset`` and ``size`` are in bytes."""

    fd: int
    offset: int
    size: int


class StoredTar:
    """A stored tar as a `graphdriver.driver.ClosableStream`.

    Args:
        fd: the file that holds it, opened for reading; closed by `close`.
        offset: where it begins in the file, in bytes.
        size: its length in bytes.
        pieces: `TarSums.pieces`, as recorded.
        is_local: whether only this machine can change the file.

    Attributes:
        size: its length in bytes: what `read` returns in all, unless it raises an error.
    """

    def __init__(
        self, fd: int, offset: int, size: int, pieces: bytes, *, is_local: bool = False
    ) -> None:
        self.size = size
        self._may_lock = is_local
        self._fd = fd
        self._offset = offset
        self._pieces = pieces
        self._done = 0
        self._piece = b""
        self._at = 0

    def read(self, n: int, /) -> bytes:
        """Return up to ``n`` bytes, ``b""`` at the end.

        Raises:
            BrokenStreamError: what is on disk is not the tar that was stored.
            OSError: it cannot be read.
        """
        if self._at == len(self._piece):
            self._piece, self._at = self._next(), 0
        part = self._piece[self._at : self._at + n]
        self._at += len(part)
        return part

    @contextlib.contextmanager
    def in_memory(self) -> Iterator[FilePart | None]:
        """Check the next bytes where they are in memory, and keep them there for a ``with`` block.

        Yields:
            Where they are in the file; they count as read. None if they must be read with `read`, which
            tells what is wrong with them.
        """
        size = min(AT_ONCE, self.size - self._done)
        is_new = self._at == len(self._piece)
        pages = self._lock(size) if self._may_lock and is_new and size else None
        if pages is None:
            yield None
            return
        part = FilePart(self._fd, self._offset + self._done, size)
        self._done += size
        try:
            yield part
        finally:
            pages.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _lock(self, size: int) -> LockedPages | None:
        """Lock the next bytes in memory; return None if that is impossible, or they are wrong."""
        try:
            pages = LockedPages(self._fd, self._offset + self._done, size)
        except OSError:
            self._may_lock = False
            return None
        try:
            is_right = all(
                self._is_right(pages.data[start : start + PIECE], self._done + start)
                for start in range(0, size, PIECE)
            )
        finally:
            pages.end_lease()
        if is_right:
            return pages
        pages.close()
        self._may_lock = False
        return None

    def _next(self) -> bytes:
        """Return the next piece, checked; ``b""`` at the end."""
        size = min(PIECE, self.size - self._done)
        piece = os.pread(self._fd, size, self._offset + self._done)
        if len(piece) < size or not self._is_right(piece, self._done):
            raise BrokenStreamError(
                f"the layer's tar is damaged on disk at byte {self._done} of {self.size}",
                hint="remove the layer and load it again; check the disk",
            )
        self._done += size
        return piece

    def _is_right(self, piece: bytes | memoryview, at: int) -> bool:
        """Tell whether a piece that begins at ``at`` is the one that was stored."""
        found = crc32(piece).to_bytes(_SUM, "big") if piece else b""
        start = -(-at // PIECE) * _SUM
        # Behind the last piece no checksum may be left: a recorded size may be damaged, too. That is
        # seen before the last bytes are given out: who knows the length reads no further.
        is_last = at + len(piece) == self.size
        return found == (self._pieces[start:] if is_last else self._pieces[start : start + _SUM])


class StoredHeaders:
    """A stored tar whose reader passes over the files' data (`SkippableStream`); nothing is checked.

    Args:
        fd: the file that holds it; borrowed.
        offset: where it begins in the file, in bytes.
        size: its length in bytes.
    """

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd = fd
        self._at = offset
        self._end = offset + size
        self._ahead = _LEAST_AHEAD

    def read(self, n: int, /) -> bytes:
        """Return up to ``n`` bytes, ``b""`` at the end.

        Raises:
            BrokenStreamError: the file is shorter.
            OSError: they cannot be read.
        """
        # Little behind a gap, since a file's data may follow at once; more if they do not.
        piece = os.pread(self._fd, min(n, self._ahead, self._end - self._at), self._at)
        if not piece and self._at < self._end:
            raise BrokenStreamError(f"the layer's tar ends {self._end - self._at} bytes early")
        self._at += len(piece)
        self._ahead = min(self._ahead * 2, PIECE)
        return piece

    def skip(self, n: int) -> int:
        """Pass over the next ``n`` bytes; return how many there were."""
        passed = min(n, self._end - self._at)
        self._at += passed
        if n > self._ahead:  # a call for each of many small files takes longer than their data
            self._ahead = _LEAST_AHEAD
        return passed
