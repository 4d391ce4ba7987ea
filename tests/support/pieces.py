"""A tar that is made while it is read."""

from __future__ import annotations

from collections.abc import Iterator


class Pieces:
    """A stream of pieces as they are made; the last is followed by the end of a tar."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, n: int, /) -> bytes:
        piece = self._rest or next(self._pieces, b"")
        self._rest = piece[n:]
        return piece[:n]
