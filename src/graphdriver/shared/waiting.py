"""Calls to a store, each in a thread, which is abandoned if the store does not answer in time."""

from __future__ import annotations

import contextlib
import errno
import queue
import threading
from collections.abc import Callable
from typing import Final, TypeVar, cast

from graphdriver.errors import BrokenStreamError, GraphDriverError
from graphdriver.shared.layers import FoundLayer, SharedLayers
from graphdriver.shared.store import NotStoredError

STALLED: Final = 30.0
"""How long the next bytes of a layer are waited for, in seconds."""

MOST_ABANDONED: Final = 4
"""How many abandoned calls may be without an answer; while there are so many, nothing is asked."""

_PIECE: Final = 256 << 10
_PIECES: Final = 16
"""How many pieces are read ahead at most."""

_T = TypeVar("_T")


class Calls:
    """Calls to a store, each in a thread, which is abandoned if the store does not answer.

    The thread stays until the store answers: that of a mount whose server is away may never do so. So
    a store that has left `MOST_ABANDONED` calls without an answer is not asked before one comes back.

    Args:
        address: the store, for errors.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._abandoned: list[threading.Thread] = []

    def start(self, run: Callable[[], None]) -> threading.Thread:
        """Start a thread that asks the store.

        Raises:
            TimeoutError: too many calls have no answer.
        """
        with self._lock:
            self._abandoned = [one for one in self._abandoned if one.is_alive()]
            if len(self._abandoned) >= MOST_ABANDONED:
                raise TimeoutError(
                    errno.ETIMEDOUT,
                    f"no answer to {len(self._abandoned)} calls yet; see whether its mount or server"
                    " hangs",
                    self._address,
                )
        thread = threading.Thread(target=run, name="shared", daemon=True)
        thread.start()
        return thread

    def abandon(self, thread: threading.Thread) -> None:
        """Count a thread whose answer nobody waits for any more, until it ends."""
        with self._lock:
            self._abandoned.append(thread)

    def answer_within(self, seconds: float, ask: Callable[[], _T]) -> _T:
        """Ask a store in a thread, which is abandoned if it does not answer.

        Raises:
            OSError: no answer came in this time; and whatever asking raised.
        """
        answers: queue.SimpleQueue[tuple[_T, None] | tuple[None, Exception]] = queue.SimpleQueue()

        def run() -> None:
            try:
                answers.put((ask(), None))
            except Exception as error:
                answers.put((None, error))

        thread = self.start(run)
        try:
            answer, error = answers.get(timeout=seconds)
        except queue.Empty:
            self.abandon(thread)
            raise _no_answer(seconds, self._address) from None
        if error:
            raise error
        return cast(_T, answer)


def _no_answer(seconds: float, address: str) -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, f"no answer in {seconds:g} s", address)


class Fetch:
    """A layer's tar, read in a thread, which is abandoned if the store does not answer.

    Args:
        shared: the layers in the store.
        layer: one of them.
        calls: counts the thread if it is abandoned.

    Raises:
        TimeoutError: too many calls have no answer.
    """

    def __init__(self, shared: SharedLayers, layer: FoundLayer, calls: Calls) -> None:
        self._shared = shared
        self._layer = layer
        self._pieces: queue.Queue[bytes | Exception | None] = queue.Queue(_PIECES)
        self._piece = memoryview(b"")
        self._is_over = False
        self._is_closed = threading.Event()
        self._calls = calls
        self._thread = calls.start(self._run)

    def begins_within(self, seconds: float) -> bool:
        """Wait for the first bytes; return whether the store still has the layer.

        Raises:
            OSError: it did not answer in this time, or failed.
        """
        first = self._next(seconds)
        self._piece = memoryview(first or b"")
        self._is_over = not first
        return first is not None

    def read(self, n: int, /) -> bytes:
        """Return up to ``n`` bytes, ``b""`` at the end.

        Raises:
            BadArchiveError: it is at its end, and another tar.
            BrokenStreamError: the store has less of it, does not answer any more, or failed.
        """
        if not self._piece and not self._is_over:
            try:
                piece = self._next(STALLED)
            except GraphDriverError:
                raise
            except Exception as error:  # a driver would take an OSError for one of its own disk
                raise BrokenStreamError(f"the store failed: {error}") from error
            self._is_over = not piece
            self._piece = memoryview(piece or b"")
        part = bytes(self._piece[:n])
        self._piece = self._piece[n:]
        return part

    def close(self) -> None:
        """Abandon what was not read."""
        self._is_closed.set()
        with contextlib.suppress(queue.Empty):
            self._pieces.get_nowait()  # its thread may wait for room
        if not self._is_over:  # else the thread ends
            self._calls.abandon(self._thread)

    def _next(self, seconds: float) -> bytes | None:
        try:
            got = self._pieces.get(timeout=seconds)
        except queue.Empty:
            raise _no_answer(seconds, self._shared.store.address) from None
        if isinstance(got, Exception):
            raise got
        return got

    def _run(self) -> None:
        try:
            with contextlib.closing(self._shared.tar(self._layer)) as tar:
                while not self._is_closed.is_set():
                    piece = tar.read(_PIECE)
                    self._pieces.put(piece)
                    if not piece:
                        return
        except NotStoredError:  # removed meanwhile
            self._pieces.put(None)
        except Exception as error:
            self._pieces.put(error)
