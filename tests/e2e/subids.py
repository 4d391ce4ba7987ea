"""A range of subordinate ids for a daemon with remapped ids, as long as a test needs it.

A dockerd takes the range of a user from /etc/subuid and /etc/subgid (subuid(5)); a test's daemon is
given one of the system's own users, which has none. The files are as before afterwards. Who wants a
range waits until nobody else has one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

USER = "daemon"
"""There is one on every Debian, with a group of the same name."""

FIRST = 100_000
"""What root in a container is on the host; its other ids follow."""

COUNT = 65_536


@contextlib.contextmanager
def subordinate_ids() -> Iterator[None]:
    """Let `USER` have the range for a ``with`` block."""
    with _line_in(Path("/etc/subuid")), _line_in(Path("/etc/subgid")):
        yield


@contextlib.contextmanager
def _line_in(path: Path) -> Iterator[None]:
    line = f"{USER}:{FIRST}:{COUNT}\n"
    with open(path, "r+", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = file.read()
        _write(file.fileno(), before.replace(line, "") + line)
        try:
            yield
        finally:
            _write(file.fileno(), before.replace(line, ""))


def _write(descriptor: int, text: str) -> None:
    os.pwrite(descriptor, text.encode(), 0)
    os.truncate(descriptor, len(text))
