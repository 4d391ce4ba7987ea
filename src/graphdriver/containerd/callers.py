"""A warning if two containerd daemons are connected to one snapshotter (peer credentials, unix(7)).

They would delete each other's snapshots: at its garbage collection each one removes all snapshots that
are not in its own records. A snapshotter cannot prevent that; it can only log it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
from typing import Final

from graphdriver.linux.processes import process_name

_DAEMON: Final = "containerd"
_CREDENTIALS: Final = struct.Struct("3i")

_log = logging.getLogger(__name__)


class Callers:
    """The processes that call a snapshotter.

    Attributes:
        bound: the path that its socket was bound to; it may have been renamed since.
    """

    def __init__(self) -> None:
        self.bound = ""
        self._warned_of: set[int] = set()

    def warn_of_two(self) -> None:
        """Warn, once, if two containerd daemons are connected."""
        daemons = {pid for pid in self._peers() if process_name(pid) == _DAEMON}
        if len(daemons) < 2 or daemons <= self._warned_of:
            return
        self._warned_of |= daemons
        _log.warning(
            "two containerd daemons use this snapshotter (processes %s): each removes the snapshots of"
            " the other when it collects garbage; give each one a snapshotter with a root of its own",
            " and ".join(map(str, sorted(daemons))),
        )

    def _peers(self) -> set[int]:
        """Return the processes at the other end of the connections to the socket."""
        found = set()
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                # Only sockets: closing a copy of the database's file would end its lock (fcntl(2)).
                if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                    continue
                with socket.fromfd(int(name), socket.AF_UNIX, socket.SOCK_STREAM) as one:
                    if one.getsockname() == self.bound:
                        credentials = one.getsockopt(
                            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
                        )
                        found.add(_CREDENTIALS.unpack(credentials)[0])
        return found - {0, os.getpid()}
