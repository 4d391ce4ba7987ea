"""The streams of Diffs that are being sent.

A Diff's first piece is read before its response begins, so that an early failure is a response. The
rest is read while other calls run, also calls for the same layer. While one of them may remove or fill
the layer, its Diffs send nothing: a piece that was read meanwhile may be incomplete. They break off as
soon as the layer is changed, and continue if the driver refuses the call, since that changes nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Final

from graphdriver import returned
from graphdriver.driver import ClosableStream
from graphdriver.errors import BrokenStreamError, GraphDriverError, InUseError
from graphdriver.layer.erofs.stored_tar import FilePart, StoredTar
from graphdriver.serving.call_log import Call, described

PIECE: Final = 256 << 10
"""How much of a Diff is read at a time, in bytes."""

TIMEOUT: Final = 60.0
"""How long a Diff waits for a call that may change its layer, in seconds; then it breaks off."""


class OpenDiffs:
    """The open Diffs, by layer."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._decided = threading.Condition(self._guard)
        self._open: dict[str, list[DiffStream]] = {}

    def begin(self, id: str, stream: ClosableStream) -> DiffStream:
        """Read a Diff's first piece; close the stream if that fails."""
        diff = DiffStream(self, id, stream)
        with self._guard:
            self._open.setdefault(id, []).append(diff)
        return diff

    @contextlib.contextmanager
    def paused(self, id: str, why: str) -> Iterator[Callable[[], None]]:
        """Stop all Diffs of a layer while a ``with`` block may change the layer.

        At the end of the block they break off, unless it raises `InUseError`: then the driver has
        refused the call and changed nothing.

        Args:
            id: the layer; its lock keeps new Diffs from beginning meanwhile.
            why: the text of the error that readers get.

        Yields:
            A function that breaks them off before the end.
        """
        with self._guard:
            held = list(self._open.get(id, ()))
            for diff in held:
                diff.paused = True
        if not held:  # most often: no other can begin meanwhile
            yield lambda: None
            return

        def go_on(broken: str) -> None:
            with self._guard:
                for diff in held:
                    diff.broken = diff.broken or broken
                    diff.paused = False
                self._decided.notify_all()

        try:
            yield lambda: go_on(why)
        except InUseError:
            go_on("")
            raise
        except BaseException:
            go_on(why)
            raise
        go_on(why)

    def settle(self, diff: DiffStream) -> None:
        """Wait until it is known whether a piece is valid; `DiffStream.broken` has the result."""
        with self._guard:
            if not self._decided.wait_for(lambda: not diff.paused, TIMEOUT):
                diff.broken = f"another call has been at the layer for {TIMEOUT:.0f} s"

    def closed(self, id: str, diff: DiffStream) -> None:
        """Remove a closed Diff."""
        with self._guard:
            others = self._open[id]
            others.remove(diff)
            if not others:
                del self._open[id]


class DiffStream:
    """The stream of one Diff.

    Attributes:
        call: its entry in the log, which ends when the stream is closed.
        size: its length in bytes, if that is known.
    """

    def __init__(self, diffs: OpenDiffs, id: str, stream: ClosableStream) -> None:
        self.size = stream.size if isinstance(stream, StoredTar) else None
        self._diffs = diffs
        self._id = id
        self._stream = stream
        self.call: Call | None = None
        self.paused = False
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
        self._give_out(len(piece))
        return piece

    @contextlib.contextmanager
    def in_memory(self) -> Iterator[FilePart | None]:
        """Check the next bytes in memory and keep them there, as `StoredTar.in_memory`.

        Raises:
            BrokenStreamError: the layer was removed or applied to meanwhile.
        """
        if self._first is not None or not isinstance(self._stream, StoredTar):
            yield None
            return
        with self._stream.in_memory() as part:
            if part:
                self._give_out(part.size)
            yield part

    def _give_out(self, size: int) -> None:
        """Wait until it is known whether bytes that were read are valid, and count them."""
        self._diffs.settle(self)
        if self.broken:
            raise BrokenStreamError(self.broken)
        if self.call:
            self.call.went_out(size)

    def close(self, error: BaseException | None = None) -> None:
        """Close the driver's stream, and log how the Diff ended; never raises.

        Args:
            error: the error that broke it off, if there is one.
        """
        try:
            self._stream.close()
        except (Exception, SystemExit) as trouble:
            error = error or trouble
        finally:
            self._diffs.closed(self._id, self)
        if self.call is None:
            return
        if error is None:
            self.call.done(200)
        else:
            broken = GraphDriverError(f"it broke off: {described(error)}")
            broken.about(self.call.spoken, self.call.layer)
            self.call.failed(200, broken, error)
