"""The log of calls: a line for each at its end, and a warning while one runs long.

Lines go to the logger ``graphdriver.calls``; their members (call, layer or snapshot, parent,
milliseconds, status) are in ``extra={"graphdriver": …}``. A Diff ends when its stream is closed, not
when its answer begins.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Iterator
from threading import get_ident
from typing import TYPE_CHECKING, Final, Protocol

from graphdriver.errors import GraphDriverError
from graphdriver.linux.resources import error_text
from graphdriver.serving.figures import Figures

if TYPE_CHECKING:
    from graphdriver.serving.spans import CallSpan, Tracing

SLOW: Final = 30.0
"""After how many seconds a running call is logged as slow; again whenever its time has doubled."""

_calls = logging.getLogger("graphdriver.calls")


_running: Final[dict[int, Call]] = {}
"""The running calls, by the thread that makes each (`threading.get_ident`)."""


def current_call() -> Call | None:
    """Return the call that this thread makes, if it makes one."""
    return _running.get(get_ident())


class Caller(Protocol):
    """A process that calls."""

    @property
    def pid(self) -> int:
        """Its ID in our PID namespace."""
        ...

    @property
    def command(self) -> str:
        """The name of its program."""
        ...


class CallLog:
    """The running calls, and one thread that looks for slow ones among them.

    Args:
        tracing: begins a span for each call; None: calls are not traced.

    Attributes:
        figures: each call is counted in these at its end.
    """

    def __init__(self, tracing: Tracing | None = None) -> None:
        self.figures = Figures()
        self._tracing = tracing
        self._busy = threading.Event()
        self._closed = threading.Event()
        self._guard = threading.Lock()
        self._watcher: threading.Thread | None = None

    def begin(self, name: str) -> Call:
        """Begin a call; the caller ends it."""
        call = Call(self, name)
        _running[call.thread] = call
        if self._tracing is not None:
            call.span = self._tracing.begin(name)
        if not self._busy.is_set():  # at most once in `SLOW` seconds
            self._watch()
        return call

    def running(self) -> list[str]:
        """Return the running calls as errors name them, the oldest first."""
        return [call.asked for call in self.in_flight()]

    def in_flight(self) -> list[Call]:
        """Return the running calls, the oldest first."""
        mine = [call for call in list(_running.values()) if call.log is self]
        return sorted(mine, key=lambda call: call.started)

    def close(self) -> None:
        """Stop looking for slow calls. May be repeated."""
        with self._guard:
            watcher, self._watcher = self._watcher, None
            self._closed.set()  # even without a thread: a call still on its way must start none
        if watcher:
            self._busy.set()
            watcher.join()

    def _watch(self) -> None:
        with self._guard:
            if self._watcher is None and not self._closed.is_set():
                watcher = threading.Thread(target=self._look, name="slow calls", daemon=True)
                with contextlib.suppress(RuntimeError):  # no thread now: the next call tries again
                    watcher.start()
                    self._watcher = watcher
            self._busy.set()

    def _look(self) -> None:
        while True:
            self._busy.wait()
            running = self.in_flight()
            if not running:
                # All calls have ended. Sleep all the same: a caller that makes one small call after
                # another must not pay for waking this thread each time.
                pause = SLOW
            else:
                pause = max(0.0, min(call.due for call in running) - time.monotonic())
            if self._closed.wait(pause):
                return
            now = time.monotonic()
            for call in self.in_flight():
                if call.due <= now:
                    call.warn(now)
            if not self.in_flight():
                self._busy.clear()
                if self.in_flight():
                    self._busy.set()


class Call:
    """One call, from its request's head to its answer, or to the end of its stream.

    One thread makes it, from its beginning to its end.

    Attributes:
        log: the log that it is in.
        started: when it began, by `time.monotonic`.
        thread: the thread that makes it (`threading.get_ident`).
        peer: the process that calls, if it is known.
        bytes: bytes of a layer's tar that were moved so far.
        name: the protocol's name for it: ``CreateReadWrite``.
        layer: the layer that it is for.
        parent: that layer's parent, if the request names one.
        snapshot: the key of the snapshot that it is for.
        span: its span, if calls are traced.
    """

    __slots__ = (
        "bytes",
        "due",
        "layer",
        "log",
        "name",
        "parent",
        "peer",
        "snapshot",
        "span",
        "started",
        "thread",
    )

    def __init__(self, log: CallLog, name: str) -> None:
        self.log = log
        self.started = time.monotonic()
        self.due = self.started + SLOW
        self.name = name
        self.thread = get_ident()
        self.bytes = 0
        self.peer: Caller | None = None
        self.layer: str | None = None
        self.parent: str | None = None
        self.snapshot: str | None = None
        self.span: CallSpan | None = None

    @property
    def spoken(self) -> str:
        """The name in errors: ``create``, ``CreateReadWrite``."""
        return self.name.lower() if self.name.istitle() else self.name

    @property
    def asked(self) -> str:
        """The call and its layer or snapshot: ``create 4f0c…``."""
        subject = self.snapshot or self.layer
        return f"{self.spoken} {subject}" if subject else self.spoken

    @property
    def seconds(self) -> float:
        """How long it has been running, in seconds."""
        return time.monotonic() - self.started

    def end(
        self, answered: GraphDriverError | None = None, cause: BaseException | None = None
    ) -> None:
        """End the call without a line in the log, and without counting it.

        Args:
            answered: the error that the caller gets, if the call failed.
            cause: the exception that was raised, if there is one.
        """
        if _running.get(self.thread) is self:
            del _running[self.thread]
        if self.span is not None:
            self.span.end(self, answered, cause)

    @contextlib.contextmanager
    def resumed(self) -> Iterator[None]:
        """Make a call that has ended the one of its thread again, for the log of a ``with`` block."""
        _running[self.thread] = self
        try:
            yield
        finally:
            del _running[self.thread]

    def came_in(self, count: int) -> None:
        """Count bytes of a layer's tar that came in."""
        self.bytes += count
        self.log.figures.came_in(count)

    def went_out(self, count: int) -> None:
        """Count bytes of a layer's tar that went out."""
        self.bytes += count
        self.log.figures.went_out(count)

    def _count(self, error: str) -> None:
        self.log.figures.ended(self.name, self.seconds, error)

    def done(self, status: int | str) -> None:
        """Log a success.

        Args:
            status: the protocol's status code.
        """
        self.end()
        self._count("")
        if _calls.isEnabledFor(logging.DEBUG):
            _calls.debug("%s", self.name, extra={"graphdriver": self._members(status)})

    def failed(
        self, status: int | str, answered: GraphDriverError, cause: BaseException | None
    ) -> None:
        """Log a failure, with a trace if it is an unexpected one.

        Args:
            status: the protocol's status code.
            answered: the error that the caller gets.
            cause: the exception that was raised.
        """
        self.end(answered, cause)
        self._count(answered.kind.value)
        _calls.warning(
            "%s",
            answered,
            exc_info=_unexpected(cause),
            extra={"graphdriver": self._members(status)},
        )

    def undone(self, trouble: BaseException | None) -> None:
        """Log that the caller disconnected before its answer, and whether the call was undone."""
        then = f"cannot be undone: {described(trouble)}" if trouble else "was undone"
        _calls.warning(
            "%s: the caller was gone before it had the answer; the call %s",
            self.asked,
            then,
            exc_info=_unexpected(trouble),
            extra={"graphdriver": self._members(None)},
        )

    def warn(self, now: float) -> None:
        """Log that the call still runs."""
        self.due = now + (now - self.started)
        _calls.warning(
            "%s has been running for %.0f s and still is",
            self.asked,
            now - self.started,
            extra={"graphdriver": self._members(None)},
        )

    def subject(self) -> dict[str, object]:
        """Return what every line of the log has that this call causes: itself, and what it is for."""
        members: dict[str, object] = {"call": self.name}
        if self.layer is not None:
            members["layer"] = self.layer
        if self.snapshot is not None:
            members["snapshot"] = self.snapshot
        return members

    def _members(self, status: int | str | None) -> dict[str, object]:
        members = self.subject()
        if self.parent:
            members["parent"] = self.parent
        members["ms"] = round(self.seconds * 1000, 3)
        if status is not None:
            members["status"] = status
        return members


def described(error: BaseException) -> GraphDriverError:
    """Return an exception as an error with a text; a driver may raise anything."""
    try:
        if isinstance(error, GraphDriverError):
            str(error)
            return error
        if isinstance(error, OSError) and error.strerror:
            return GraphDriverError(f"{error_text(error)}{_named(error.filename)}")
        if isinstance(error, MemoryError):
            error = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            return GraphDriverError(error_text(error))
        return GraphDriverError(f"{type(error).__name__}: {error}")
    except Exception:
        return GraphDriverError(f"{type(error).__name__}, which cannot be put into words")


def _named(file: object) -> str:
    """Return the file of an error as the end of its text; ``.`` tells nothing."""
    name = os.fsdecode(file) if isinstance(file, str | bytes) else ""
    return f": {name}" if name not in ("", ".") else ""


def _unexpected(error: BaseException | None) -> BaseException | None:
    """Return an error if its trace should be logged: one that is not the contract's or the kernel's."""
    return None if isinstance(error, GraphDriverError | OSError) else error
