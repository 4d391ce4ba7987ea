"""The headers of a tar apart from it: all of the tar that its index is made from.

They are everything outside of the files' data: pieces of the tar with their places in it, compressed.
Whoever makes an index of a tar behind a network needs no other part of it. To pass over the data in the
tar itself does not help there: a network's filesystem reads far ahead.

The same tar has the same headers, byte for byte. Nothing proves that some headers are those of a tar,
but to make them of the whole tar again: so whoever took them from others keeps their SHA-256.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from graphdriver.driver import ReadStream
from graphdriver.errors import BadArchiveError
from graphdriver.layer.erofs.stored_tar import StoredHeaders
from graphdriver.layer.tar.reader import TarReader
from graphdriver.layer.tar.stream import SkippableStream

LIMIT: Final = 64 << 20
"""The most bytes of a tar's headers, not compressed; a node keeps them in memory."""

_START: Final = struct.Struct("<12sQ")
"""The format with its version, and the tar's length."""
_FORMAT: Final = b"tar-headers1"
_PLACE: Final = struct.Struct("<QI")
"""Where a piece begins in the tar, and its length; its bytes follow."""
_READ: Final = 1 << 20
_MOST_AHEAD: Final = 4 << 20
"""More than a reader of tars reads ahead: it may be data, and does not count against `LIMIT`."""


def headers_of(tar: ReadStream, size: int) -> bytes | None:
    """Return a tar's headers; None if they have more than `LIMIT` bytes, or the tar is damaged.

    Args:
        tar: it is read to its end in any case, and its errors are passed on. One that can pass over
            bytes is asked to pass over the files' data.
        size: its length in bytes.
    """
    outside = _OutsideOfData(tar, size)
    reader = TarReader(outside)
    try:
        for _ in reader:
            if reader.data_start < reader.data_end:
                outside.leave_out(reader.data_start, reader.data_end)
    except BadArchiveError:
        while tar.read(_READ):
            pass
        return None
    return outside.headers()


def compressed(headers: bytes) -> bytes:
    """Return headers compressed."""
    return zlib.compress(headers)


def inflated(data: bytes, size: int) -> bytes:
    """Return headers that were compressed; at most `LIMIT` bytes.

    Args:
        data: the compressed headers, which nobody has checked.
        size: the length of their tar in bytes.

    Raises:
        ValueError: they are damaged, too long, or those of a tar of another length.
    """
    inflating = zlib.decompressobj()
    try:
        headers = inflating.decompress(data, LIMIT + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(headers) > LIMIT:
        raise ValueError(f"they have more than {LIMIT} bytes")
    if not inflating.eof or inflating.unused_data:
        raise ValueError("they are cut off, or something follows them")
    if len(headers) < _START.size or _START.unpack_from(headers) != (_FORMAT, size):
        raise ValueError("they are of another format, or of a tar of another length")
    end = 0
    for start, piece in _pieces(headers):
        if start < end:
            raise ValueError("their pieces are in disorder")
        end = start + len(piece)
    if end > size:
        raise ValueError("a piece lies behind the end of the tar")
    return headers


class KeptHeaders:
    """A tar of which the headers are in memory, as a `SkippableStream`; nothing is checked.

    Args:
        headers: from `headers_of` or `inflated`.
        tar: the whole tar, at its beginning. Only what is missing in the headers is read from it.
    """

    def __init__(self, headers: bytes, tar: StoredHeaders) -> None:
        self._pieces = _pieces(headers)
        self._size: int = _START.unpack_from(headers)[1]
        self._tar = tar
        self._passed_in_tar = 0
        self._at = 0
        self._start, self._piece = self._next()

    def read(self, n: int, /) -> bytes:
        """Return up to ``n`` bytes, ``b""`` at the end; errors are those of `StoredHeaders.read`."""
        while self._at >= self._start + len(self._piece) and self._start < self._size:
            self._start, self._piece = self._next()
        if self._at < self._start:
            self._tar.skip(self._at - self._passed_in_tar)
            found = self._tar.read(min(n, self._start - self._at))
            self._passed_in_tar = self._at + len(found)
        else:
            found = bytes(self._piece[self._at - self._start :][:n])
        self._at += len(found)
        return found

    def skip(self, n: int) -> int:
        """Pass over the next ``n`` bytes; return how many there were."""
        passed = min(n, self._size - self._at)
        self._at += passed
        return passed

    def _next(self) -> tuple[int, memoryview]:
        return next(self._pieces, (self._size, memoryview(b"")))


def _pieces(headers: bytes) -> Iterator[tuple[int, memoryview]]:
    """Yield where in the tar each piece begins, and the piece.

    Raises:
        ValueError: one is empty or cut off.
    """
    # One after the other: a list of the smallest pieces would take many times the headers' memory.
    view, at = memoryview(headers), _START.size
    while at < len(view):
        if at + _PLACE.size > len(view):
            raise ValueError("a piece is cut off")
        start, length = _PLACE.unpack_from(view, at)
        at += _PLACE.size
        if not 0 < length <= len(view) - at:
            raise ValueError("a piece is empty or cut off")
        yield start, view[at : at + length]
        at += length


class _OutsideOfData:
    """A tar that is passed on, as a `SkippableStream`; what is outside of the files' data is kept."""

    def __init__(self, tar: ReadStream, size: int) -> None:
        self._tar = tar
        self._skip = tar.skip if isinstance(tar, SkippableStream) else None
        self._kept = bytearray(_START.pack(_FORMAT, size))
        self._is_too_long = False
        # What was passed on and is not kept yet, and where it begins in the tar.
        self._ahead = bytearray()
        self._start = 0
        self._data_end = 0

    def read(self, n: int, /) -> bytes:
        piece = self._tar.read(n)
        if not self._is_too_long:
            data = min(max(self._data_end - self._start, 0), len(piece))
            self._start += data  # if these are data, nothing is ahead
            self._ahead += piece[data:] if data else piece
            self._expect_short(LIMIT + _MOST_AHEAD)
        return piece

    def skip(self, n: int) -> int:
        """Pass over data, which were left out."""
        if self._skip:
            passed = self._skip(n)
            self._start += passed
            return passed
        left = n
        while left and (piece := self.read(min(left, _READ))):
            left -= len(piece)
        return n - left

    def leave_out(self, start: int, end: int) -> None:
        """Leave out the data of a file; the reader is at their beginning."""
        if self._is_too_long:
            return
        self._keep(start - self._start)
        data = min(end - start, len(self._ahead))
        del self._ahead[:data]
        self._start += data
        self._data_end = end

    def headers(self) -> bytes | None:
        """Return the headers, after the end of the tar; None if they are too long."""
        if not self._is_too_long:
            self._keep(len(self._ahead))
            self._expect_short(LIMIT)
        return None if self._is_too_long else bytes(self._kept)

    def _keep(self, count: int) -> None:
        if count:
            self._kept += _PLACE.pack(self._start, count)
            self._kept += self._ahead[:count]
            del self._ahead[:count]
            self._start += count

    def _expect_short(self, limit: int) -> None:
        if len(self._kept) + len(self._ahead) > limit:
            self._is_too_long = True
            self._kept.clear()
            self._ahead.clear()
