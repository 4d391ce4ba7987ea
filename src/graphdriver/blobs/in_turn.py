"""Tars that are read one after the other, by callers that run at the same time."""

from __future__ import annotations

import threading
from typing import Self

from graphdriver.driver import ReadStream


class InTurn:
    """A tar that is read while no other one is.

    Python runs one thread at a time, so two layers that are unpacked at the same time take longer than
    one after the other (benchmarks/parallel.py). While a layer waits here, it is inflated ahead. One
    whose tar is read to its end waits for the disk only, and holds up no other.

    Args:
        tar: the tar.
        turn: held from the first read to the end of the tar.
    """

    def __init__(self, tar: ReadStream, turn: threading.Lock) -> None:
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
        if not self._has_turn and not self._is_over:
            self._turn.acquire()
            self._has_turn = True
        piece = self._tar.read(n)
        if n and not piece:
            self._end()
        return piece

    def _end(self) -> None:
        self._is_over = True
        if self._has_turn:
            self._has_turn = False
            self._turn.release()
