"""A stream that is read in pieces of exact size.

`read` of a sender returns the bytes that have arrived, and a tar consists of blocks of 512 bytes.
Between them is one buffer of at most a mebibyte, or of the largest piece that is read at once. Its size
does not depend on what a tar claims to hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from graphdriver.driver import ReadStream
from graphdriver.errors import BadArchiveError

_PIECE = 1 << 20
"""The size in bytes of one read from the sender."""


@runtime_checkable
class SkippableStream(ReadStream, Protocol):
    """A stream that can pass over bytes without reading them."""

    def skip(self, n: int) -> int:
        """Pass over the next ``n`` bytes; return how many there were."""
        ...


class ExactStream:
    """A `ReadStream` that is read in exact pieces."""

    def __init__(self, archive: ReadStream) -> None:
        self._archive = archive
        # Once: the check takes longer than most skips.
        self._skip = archive.skip if isinstance(archive, SkippableStream) else None
        self._buffer = b""
        self._at = 0
        self._dropped = 0
        self._ended = False

    def tell(self) -> int:
        """Return how many bytes were taken or skipped so far."""
        return self._dropped + self._at

    def take(self, n: int) -> bytes:
        """Return the next ``n`` bytes; fewer only at the end of the stream."""
        end = self._at + n
        if end > len(self._buffer):
            self._fill(n)
            end = n
        piece = self._buffer[self._at : end]
        self._at += len(piece)
        return piece

    def exactly(self, n: int) -> bytes:
        """Return the next ``n`` bytes.

        Raises:
            BadArchiveError: the stream ends before that.
        """
        piece = self.take(n)
        if len(piece) < n:
            raise BadArchiveError("the tar ends in the middle of this entry")
        return piece

    def pieces(self, n: int) -> Iterator[memoryview]:
        """Yield the next ``n`` bytes, in pieces as they arrive.

        Raises:
            BadArchiveError: the stream ends before that.
        """
        while n:
            if self._at == len(self._buffer):
                self._fill(1)
                if not self._buffer:
                    raise BadArchiveError("the tar ends in the middle of this entry")
            piece = memoryview(self._buffer)[self._at : self._at + n]
            self._at += len(piece)
            n -= len(piece)
            yield piece

    def skip(self, n: int) -> None:
        """Skip the next ``n`` bytes.

        Raises:
            BadArchiveError: the stream ends before that.
        """
        end = self._at + n
        if end <= len(self._buffer):
            self._at = end
        elif self._skip:
            missing = end - len(self._buffer)
            self._dropped += end
            self._buffer, self._at = b"", 0
            if self._skip(missing) < missing:
                raise BadArchiveError("the tar ends in the middle of this entry")
        else:
            for _ in self.pieces(n):
                pass

    def drain(self) -> None:
        """Read to the end of the stream, and ignore the rest."""
        self._buffer = b""
        self._at = 0
        while not self._ended:
            self._ended = not self._archive.read(_PIECE)

    def _fill(self, n: int) -> None:
        """Fill the buffer to ``n`` bytes or more, if the stream has so many."""
        self._dropped += self._at
        have = len(self._buffer) - self._at
        pieces = [self._buffer[self._at :]] if have else []  # one alone is joined without a copy
        while have < n and not self._ended:
            piece = self._archive.read(_PIECE)
            self._ended = not piece
            pieces.append(piece)
            have += len(piece)
        self._buffer = b"".join(pieces)
        self._at = 0
