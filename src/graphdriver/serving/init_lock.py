"""A readers-writer lock: many calls at once, or one Init."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final

from graphdriver.errors import InUseError

TIMEOUT: Final = 60.0
"""How long Init waits for earlier calls to end, in seconds. New calls wait until Init is over."""


class InitLock:
    """A readers-writer lock: many calls at once, or one Init. A waiting Init goes before new calls."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)
        self._running = 0
        self._exclusive = 0

    def begin_call(self) -> None:
        """Wait until no Init runs or waits, and keep Init out until `end_call`."""
        with self._guard:
            # Also for an Init that waits: under constant calls it would never run otherwise.
            while self._exclusive:
                self._changed.wait()
            self._running += 1

    def end_call(self) -> bool:
        """End a call; return whether no other call runs."""
        with self._guard:
            self._running -= 1
            if not self._running and self._exclusive:
                self._changed.notify_all()
            return not self._running

    @contextlib.contextmanager
    def exclusive(self, timeout: float | None = None) -> Iterator[None]:
        """Keep all calls out for the length of a ``with`` block.

        Args:
            timeout: how long to wait for calls that run, in seconds; by default `TIMEOUT`.

        Raises:
            InUseError: calls still ran after that. The time is limited because a caller that never ends
                its transfer would block all others.
        """
        timeout = TIMEOUT if timeout is None else timeout
        with self._guard:
            self._exclusive += 1
            if not self._changed.wait_for(lambda: not self._running, timeout):
                self._exclusive -= 1
                self._changed.notify_all()
                raise InUseError(
                    f"{self._running} earlier calls did not end within {timeout:.0f} s",
                    hint="the plugin's log names those that run long; end what makes them",
                )
            self._running = 1  # two Inits exclude each other, too
        try:
            yield
        finally:
            with self._guard:
                self._running = 0
                self._exclusive -= 1
                self._changed.notify_all()
