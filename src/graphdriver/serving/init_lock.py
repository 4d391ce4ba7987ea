"""A readers-writer lock: many calls at once, or one Init."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final

from graphdriver.errors import InUseError

TIMEOUT: Final = 60.0
"""How long Init waits for earlier calls to end, in seconds. New calls wait as long behind it."""


class InitLock:
    """Lets calls run together, or one Init alone. An Init that waits goes before new calls."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)
        self._running = 0
        self._exclusive = 0

    def begin_call(self) -> None:
        """Wait until no Init runs or waits, and run beside other calls until `end_call`."""
        with self._guard:
            # Also for one that waits: otherwise some call would always run, and Init never.
            while self._exclusive:
                self._changed.wait()
            self._running += 1

    def end_call(self) -> bool:
        """End a call; tell whether no other one runs."""
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
            InUseError: calls still ran after that. A caller that never ends its transfer must not
                keep all others waiting.
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
