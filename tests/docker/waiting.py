"""Waiting for what another thread or process does."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from graphdriver import Server


def wait_until(true: Callable[[], object]) -> None:
    """Return as soon as something is true; fail if it does not become so."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def connections() -> int:
    """Count the connections that are served in this process."""
    servers = [one for one in gc.get_objects() if type(one) is Server]
    return sum(len(one._connections) for one in servers)
