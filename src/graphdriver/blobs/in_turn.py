"""Tars that are read one after the other, by callers that run at the same time."""

from __future__ import annotations

import threading
from typing import Final, Self

from graphdriver.blobs.read_ahead import ReadAhead

PATIENCE: Final = 0.25
"""How long a tar that has the turn may wait for its next bytes, in seconds."""


class InTurn:
    """A tar that is read while no other one is.

    Python runs one thread at a time, so two layers that are unpacked at the same time take longer than
    one after the other (benchmarks/parallel.py). While a layer waits here, it is inflated ahead. One
    whose tar is read to its end waits for the disk only, and holds up no other. Nor does one whose
    bytes do not come: it gives up its turn, and takes the next one when they are there.

    Args:
        tar: the tar.
        turn: held while the tar is read.
    """

    def __init__(self, tar: ReadAhead, turn: threading.Lock) -> None:
        self._tar = tar
        self._turn = turn
        self._has_turn = False
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def read(self, n: int, /) -> bytes:
        """Read up to a number of bytes; none at the end."""
        if not self._is_over and not (self._has_turn and self._tar.arrives(PATIENCE)):
            self._give_up()
            self._tar.arrives()
            self._turn.acquire()
            self._has_turn = True
        piece = self._tar.read(n)
        if n and not piece:
            self._end()
        return piece

    def _end(self) -> None:
        self._is_over = True
        self._give_up()

    def _give_up(self) -> None:
        if self._has_turn:
            self._has_turn = False
            self._turn.release()
