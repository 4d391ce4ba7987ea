"""A stream that a second thread reads ahead.

Receiving a blob, checking its digest and decompressing it release the interpreter's lock, and so does
writing the layer: in two threads they take the time of the longer one.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final, Self

from graphdriver.driver import ReadStream

_PIECE: Final = 256 << 10
_PIECES: Final = 16
"""How many pieces are read ahead at most."""


class ReadAhead:
    """A stream that is read in a thread, for the length of a ``with`` block.

    What reading raises there, `read` raises.

    Args:
        stream: what is read; only the thread uses it.
        break_off: lets a read that waits for bytes raise an error; called at the end of the block if
            the stream is not at its end.
    """

    def __init__(self, stream: ReadStream, break_off: Callable[[], None] = lambda: None) -> None:
        self._stream = stream
        self._break_off = break_off
        self._pieces: queue.Queue[bytes | BaseException] = queue.Queue(_PIECES)
        self._piece = memoryview(b"")
        self._end: BaseException | None = None
        self._is_over = False
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_closing = True
        if not self._is_over:
            self._break_off()
        while self._thread.is_alive():  # it may wait for room
            try:
                self._pieces.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()

    def arrives(self, within: float | None = None) -> bool:
        """Wait until the next `read` has not to wait; return whether that is so.

        Args:
            within: how long to wait at most, in seconds; None: as long as it takes.
        """
        if not self._piece and not self._is_over:
            try:
                got = self._pieces.get(timeout=within)
            except queue.Empty:
                return False
            if isinstance(got, BaseException):
                self._end = got
            self._is_over = not isinstance(got, bytes) or not got
            self._piece = memoryview(got if isinstance(got, bytes) else b"")
        return True

    def read(self, n: int, /) -> bytes:
        """Return up to ``n`` bytes, ``b""`` at the end."""
        self.arrives()
        if self._end:
            raise self._end
        part = bytes(self._piece[:n])
        self._piece = self._piece[n:]
        return part

    def _run(self) -> None:
        try:
            while not self._is_closing:
                piece = self._stream.read(_PIECE)
                self._pieces.put(piece)
                if not piece:
                    return
        except BaseException as error:
            self._pieces.put(error)
