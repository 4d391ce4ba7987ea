"""The log of the processes that connect to a unix socket."""

from __future__ import annotations

import collections
import contextlib
import logging
from typing import Final

from graphdriver.linux.processes import process_name
from graphdriver.linux.unix_sockets import Credentials

_REMEMBERED: Final = 64
"""How many processes are not logged again. Daemons are few; programs that ask once are many."""

_log = logging.getLogger(__name__)


class PeerLog:
    """Logs each process that connects, once: its number, its user and its program."""

    def __init__(self) -> None:
        self._logged = collections.deque[tuple[Credentials, str]](maxlen=_REMEMBERED)

    def note(self, peer: Credentials) -> None:
        """Log a process that has connected, unless it is one of those that were logged last."""
        name = _name(peer.pid)
        if (peer, name) in self._logged:
            return
        self._logged.append((peer, name))
        _log.info(
            "process %d (%s) of user %d connected",
            peer.pid,
            name,
            peer.uid,
            extra={"graphdriver": {"peer": peer.pid, "uid": peer.uid, "program": name}},
        )


def _name(pid: int) -> str:
    if not pid:
        return "in another PID namespace"
    with contextlib.suppress(OSError):
        return process_name(pid)
    return ""
