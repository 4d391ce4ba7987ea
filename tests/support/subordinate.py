"""A user namespace's ids, given to it by its parent as newuidmap(1) does."""

from __future__ import annotations

import os
import time
from pathlib import Path

FIRST = 100_000
"""Which id outside is the namespace's id 0; but for root, who reads the interpreter's own files."""


def give_ids(pid: int) -> None:
    """Wait until a process is in a user namespace of its own, and give that one ids."""
    outside = os.readlink("/proc/self/ns/user")
    while os.readlink(f"/proc/{pid}/ns/user") == outside:
        time.sleep(0.01)
    for kind in ("uid", "gid"):
        Path(f"/proc/{pid}/{kind}_map").write_text(f"0 0 1\n1 {FIRST + 1} 65535\n")
