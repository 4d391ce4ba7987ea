"""The signals of a server: some stop it in good order, some are ignored, one logs its stacks.

SIGHUP and SIGUSR2 would end a process that does not handle them, and leave its socket behind. Other
services read their configuration again at these signals, so administrators send them; a plugin has no
configuration to read.

SIGUSR1 writes the stacks of all threads, which show what a plugin is waiting for.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from graphdriver.serving.logs import Form

STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""They stop a server: calls in progress may end, the socket is removed."""

IGNORED: Final = (signal.SIGHUP, signal.SIGUSR2)

_log = logging.getLogger(__name__)


class StoppedError(BaseException):
    """A stop before anything is served; not an `Exception`, so that no driver's code catches it."""


def raise_until_served() -> None:
    """Raise a `StoppedError` at a stop, until `Signals` takes over."""
    for number in STOPS:
        signal.signal(number, _stop)
    for number in IGNORED:
        signal.signal(number, _do_nothing)


class Signals:
    """The signals that this process handles; for the main thread of a program.

    Handlers run only in the main thread, but the kernel may deliver a signal to any thread, and the
    main thread would go on sleeping. So each signal's number is also written to a socket, which wakes
    its loop.

    Args:
        wake: the socket's descriptor; it must not block.
        stop: called for each of `STOPS`.
    """

    def __init__(self, wake: int, stop: Callable[[], None] = lambda: None) -> None:
        self._noted: set[int] = set()
        handlers = dict.fromkeys(IGNORED, _do_nothing)
        handlers |= dict.fromkeys(STOPS, lambda *_: stop())
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def note(self, numbers: bytes) -> bool:
        """Log the ignored ones among these signals, once each; return whether one is a stop."""
        for number in sorted(set(numbers) & set(IGNORED) - self._noted):
            self._noted.add(number)
            _log.info("ignoring %s; the next one is not logged", signal.Signals(number).name)
        return bool(set(numbers) & set(STOPS))

    def close(self) -> None:
        """Stop writing numbers; the handlers stay, since another stop does no harm."""
        signal.set_wakeup_fd(-1)


def _stop(*_: object) -> None:
    raise StoppedError


def _do_nothing(*_: object) -> None:
    pass


def dump_stacks_on_signal(form: Form) -> None:
    """Write the stacks of all threads at SIGUSR1; for the main thread.

    Without a handler SIGUSR1 would end the process.

    As text the stacks are written straight to stderr by the interpreter's own handler, which needs no
    thread of ours to run. As JSON they are one line of the log, so that every line stays an object.

    Args:
        form: how the log is written.
    """
    if form == "text":
        faulthandler.register(signal.SIGUSR1, sys.stderr, all_threads=True)
        return
    requests, wake = os.pipe()
    os.set_blocking(wake, False)

    def note(*_: object) -> None:
        with contextlib.suppress(BlockingIOError):  # the pipe is full of requests
            os.write(wake, b"\0")

    # A handler must not wait for the log's lock, which the interrupted thread may hold.
    threading.Thread(target=_log_stacks, args=(requests,), name="stacks", daemon=True).start()
    signal.signal(signal.SIGUSR1, note)


def _log_stacks(requests: int) -> None:
    while os.read(requests, 1):
        with open(os.memfd_create("stacks"), "w+b") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            stacks = file.read().decode("utf-8", "replace")
        _log.info("the stacks of all threads", extra={"graphdriver": {"stacks": stacks}})
