"""The driver's own status, for questions that must not wait for a driver."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Final

PATIENCE: Final = 0.5
"""How long a question waits for the driver, in seconds."""

Pairs = Sequence[tuple[str, str]]


class DriverStatus:
    """The pairs of a driver's status, asked for in a thread of its own.

    Args:
        ask: asks the driver; returns None if it serves no home. May raise anything, or take for ever.
    """

    def __init__(self, ask: Callable[[], Pairs | None]) -> None:
        self._ask = ask
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pairs: Pairs | None = None

    def pairs(self) -> Pairs | None:
        """Return the pairs, or those of an earlier time if the driver takes longer than `PATIENCE`."""
        with self._guard:
            thread = self._thread
            if thread is None or not thread.is_alive():
                thread = threading.Thread(target=self._run, name="driver status", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no thread now
                    return self._pairs
                self._thread = thread
        thread.join(PATIENCE)
        return self._pairs

    def _run(self) -> None:
        with contextlib.suppress(Exception, SystemExit):
            self._pairs = self._ask()
