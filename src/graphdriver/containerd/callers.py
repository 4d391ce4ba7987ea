"""The processes that are connected to a snapshotter: a log of them, and a warning.

Two containerd daemons on one snapshotter would delete each other's snapshots: at its garbage collection
each one removes all snapshots that are not in its own records. A snapshotter cannot prevent that, it
can only log it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from typing import Final, NamedTuple

from graphdriver.linux.processes import process_name
from graphdriver.linux.unix_sockets import Credentials, peer_of
from graphdriver.serving.peers import PeerLog

_DAEMON: Final = "containerd"

_log = logging.getLogger(__name__)


class ContainerdDaemon(NamedTuple):
    """A daemon that is connected (`graphdriver.serving.call_log.Caller`)."""

    pid: int
    command: str


class Callers:
    """The processes that call a snapshotter.

    Attributes:
        bound: the path that its socket was bound to; it may have been renamed since.
    """

    def __init__(self) -> None:
        self.bound = ""
        self._log = PeerLog()
        self._warned_of: set[int] = set()

    def look(self) -> None:
        """Log the connected processes, each once; warn if two of them are containerd daemons."""
        peers = self._peers()
        for peer in sorted(peers):
            self._log.note(peer)
        daemons = {peer.pid for peer in peers if process_name(peer.pid) == _DAEMON}
        if len(daemons) < 2 or daemons <= self._warned_of:
            return
        self._warned_of |= daemons
        _log.warning(
            "two containerd daemons use this snapshotter (processes %s): each removes the snapshots of"
            " the other when it collects garbage; give each one a snapshotter with a root of its own",
            " and ".join(map(str, sorted(daemons))),
        )

    def daemon(self) -> ContainerdDaemon | None:
        """Return the containerd daemon that makes the calls; None if that is unknown.

        gRPC does not tell which connection a call came on.
        """
        daemons = {peer.pid for peer in self._peers() if process_name(peer.pid) == _DAEMON}
        return ContainerdDaemon(daemons.pop(), _DAEMON) if len(daemons) == 1 else None

    def _peers(self) -> set[Credentials]:
        """Return the processes at the other end of the connections to the socket."""
        found = set()
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                # Only sockets: closing a copy of the database's file would end its lock (fcntl(2)).
                if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                    continue
                with socket.fromfd(int(name), socket.AF_UNIX, socket.SOCK_STREAM) as one:
                    if one.getsockname() == self.bound:
                        found.add(peer_of(one))
        return {peer for peer in found if peer.pid not in (0, os.getpid())}
