"""The proof that no engine runs: the locks on its databases.

dockerd and containerd lock each of their bolt databases (flock(2)) from their start to their end.
Whoever holds such a lock knows that no engine with this database runs, in whatever namespace, and keeps
the next one from starting until it lets go. A record that is not written yet exists only in the memory
of an engine that runs, so with the locks held all layers that are ever recorded are recorded already.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from typing import Final

from graphdriver.errors import GraphDriverError, InUseError
from graphdriver.linux.processes import lock_holders

DOCKER: Final = (
    "volumes/metadata.db",
    "buildkit/snapshots.db",
    "buildkit/metadata_v2.db",
    "buildkit/containerdmeta.db",
    "buildkit/cache.db",
)
"""The databases in a data root; the first one is opened before any layer is made."""

CONTAINERD: Final = ("io.containerd.metadata.v1.bolt/meta.db",)
"""The database in containerd's root."""


@contextlib.contextmanager
def at_rest(root: str, databases: Sequence[str]) -> Iterator[None]:
    """Keep the engine of a directory from running for the length of a ``with`` block.

    Args:
        root: Docker's data root, or containerd's root.
        databases: `DOCKER` or `CONTAINERD`.

    Raises:
        InUseError: the engine runs; the text names its process.
        GraphDriverError: there is no database, so nothing tells whether it runs.
        OSError: a database cannot be opened.
    """
    with contextlib.ExitStack() as held:
        locked = [name for name in databases if _lock(os.path.join(root, name), held)]
        if databases[0] not in locked:
            raise GraphDriverError(
                f"{os.path.join(root, databases[0])} is missing, so it is unknown whether an engine"
                " runs",
                hint=f"see that {root} is the engine's own directory; each start of the engine makes"
                " the file",
            )
        yield


def _lock(path: str, held: contextlib.ExitStack) -> bool:
    """Lock a database as long as ``held`` is open; return whether it exists."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    held.callback(os.close, fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holders = ", ".join(lock_holders([path])) or "a process that is not visible from here"
        raise InUseError(f"{path} is in use by {holders}", hint="stop it first") from None
    return True
