"""Calls inside together, or Init alone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Final

from graphdriver.errors import InUseError

PATIENCE: Final = 60.0
"""How long Init waits for the calls of before, in seconds. Newcomers wait as long behind it."""


class Gate:
    """Lets many pass together, or one alone. Whoever wants to be alone goes before newcomers."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)
        self._inside = 0
        self._alone = 0

    def enter(self) -> None:
        """Be inside with others, until `leave`."""
        with self._guard:
            while self._alone:
                self._changed.wait()
            self._inside += 1

    def leave(self) -> bool:
        """Be inside no longer; tell whether nobody else is."""
        with self._guard:
            self._inside -= 1
            if not self._inside and self._alone:
                self._changed.notify_all()
            return not self._inside

    @contextlib.contextmanager
    def alone(self, patience: float | None = None) -> Iterator[None]:
        """Be inside with nobody else.

        Args:
            patience: how long to wait for those who are inside, in seconds; by default `PATIENCE`.

        Raises:
            InUseError: somebody was still inside after that. A caller that never ends its transfer
                must not keep everybody else waiting for ever.
        """
        patience = PATIENCE if patience is None else patience
        with self._guard:
            self._alone += 1
            if not self._changed.wait_for(lambda: not self._inside, patience):
                self._alone -= 1
                self._changed.notify_all()
                raise InUseError(
                    f"{self._inside} earlier calls did not end within {patience:.0f} s",
                    hint="the plugin's log names those that run long; end what makes them",
                )
            self._inside = 1
        try:
            yield
        finally:
            with self._guard:
                self._inside = 0
                self._alone -= 1
                self._changed.notify_all()
