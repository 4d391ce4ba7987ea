"""The signals of a server: some stop it in good order, some are ignored.

SIGHUP and SIGUSR2 would end a process that does not handle them, and leave its socket behind. Other
services take them for "read your configuration again", so people send them; a plugin reads none.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Final

STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""They stop a server: calls under way may end, the socket is removed."""

IGNORED: Final = (signal.SIGHUP, signal.SIGUSR2)

_log = logging.getLogger(__name__)


class StoppedError(BaseException):
    """A stop that came before anything was served; no driver's code catches it as its own failure."""


def raise_until_served() -> None:
    """Raise a `StoppedError` at a stop, until `Signals` takes over."""
    for number in STOPS:
        signal.signal(number, _stop)
    for number in IGNORED:
        signal.signal(number, _do_nothing)


class Signals:
    """The signals that this process takes. For the main thread of a program.

    Handlers run in the main thread alone, but any thread may take a signal, and that would leave the
    main one asleep. So each signal's number is also written to a socket, for the main thread's loop.

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
        """Log the ignored ones of these signals, once each; tell whether another one is a stop."""
        for number in sorted(set(numbers) & set(IGNORED) - self._noted):
            self._noted.add(number)
            _log.info("ignoring %s; the next one is not logged", signal.Signals(number).name)
        return bool(set(numbers) & set(STOPS))

    def close(self) -> None:
        """Write no more numbers. The handlers stay: a stop that comes once more does no harm."""
        signal.set_wakeup_fd(-1)


def _stop(*_: object) -> None:
    raise StoppedError


def _do_nothing(*_: object) -> None:
    pass
