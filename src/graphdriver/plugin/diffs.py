"""Diffs on their way out.

A Diff's first piece is there before its answer begins, so that what fails early is an answer. It is
read while other calls go on, the layer's own too: what ends a layer or fills it breaks its Diffs off,
since what they would give from then on may be short of something.
"""

from __future__ import annotations

import threading
from typing import Final

from graphdriver import returned
from graphdriver.driver import ClosableStream
from graphdriver.errors import BrokenStreamError, GraphDriverError
from graphdriver.plugin.call_log import Call

PIECE: Final = 256 << 10
"""How much of a Diff is asked for at a time, in bytes."""


class Diffs:
    """The Diffs that are being read, by layer."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._open: dict[str, list[Diff]] = {}

    def begin(self, id: str, stream: ClosableStream) -> Diff:
        """Read a Diff's first piece; if that fails the stream is closed."""
        diff = Diff(self, id, stream)
        with self._guard:
            self._open.setdefault(id, []).append(diff)
        return diff

    def break_off(self, id: str, why: str) -> None:
        """Let no Diff of a layer go on; to be said before the layer is touched."""
        with self._guard:
            for diff in self._open.get(id, ()):
                diff.broken = why

    def closed(self, id: str, diff: Diff) -> None:
        """Forget a Diff."""
        with self._guard:
            others = self._open[id]
            others.remove(diff)
            if not others:
                del self._open[id]


class Diff:
    """One Diff; a stream. ``call`` is what asked for it, which ends when the stream is closed."""

    def __init__(self, diffs: Diffs, id: str, stream: ClosableStream) -> None:
        self._diffs = diffs
        self._id = id
        self._stream = stream
        self.call: Call | None = None
        self.broken = ""
        try:
            self._first: bytes | None = returned.piece(stream.read(PIECE))
        except BaseException:
            stream.close()
            raise

    def read(self, n: int, /) -> bytes:
        """Return the next piece.

        Raises:
            BrokenStreamError: the layer was removed or applied to meanwhile.
        """
        if self._first is not None:
            piece, self._first = self._first[:n], self._first[n:] or None
        else:
            piece = returned.piece(self._stream.read(n))
        if self.broken:
            raise BrokenStreamError(self.broken)
        return piece

    def close(self, error: BaseException | None = None) -> None:
        """Release the layer, and log how it went; never raises.

        Args:
            error: what broke it off, if something did.
        """
        try:
            self._stream.close()
        except Exception as trouble:
            error = error or trouble
        finally:
            self._diffs.closed(self._id, self)
        if self.call and error is None:
            self.call.done()
        elif self.call:
            told = GraphDriverError(f"it broke off: {error or type(error).__name__}")
            expected = isinstance(error, GraphDriverError | OSError)
            told.about(self.call.spoken, self.call.layer)
            self.call.failed(200, told, None if expected else error)
