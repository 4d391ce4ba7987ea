"""Waiting for what another thread or process does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def wait_until(true: Callable[[], object]) -> None:
    """Return as soon as something is true; fail if it does not become so."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def connections() -> int:
    """Count the connections that are served in this process."""
    return sum(thread.name == "connection" for thread in threading.enumerate())
