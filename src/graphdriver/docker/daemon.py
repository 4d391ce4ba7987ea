"""A daemon and its Init, remembered for a plugin that is restarted.

A daemon sends Init once. A plugin that is restarted under a running daemon needs the home, the options
and the ID maps, so they are written to ``STATE-DIR/init.json`` before Init is answered. The state
directory is below /run: after a reboot the daemon sends Init itself.

A daemon is identified by the peer of its connection: process ID and start time, since process IDs are
reused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import socket
from typing import Final

from graphdriver.docker.codec import decode, encode
from graphdriver.docker.messages import InitRequest
from graphdriver.errors import GraphDriverError, MalformedRequestError
from graphdriver.files.directories import make_directories, make_own
from graphdriver.files.path_lock import TIMEOUT, TIMEOUT_AT_STOP, locked
from graphdriver.files.runtime_directory import remove_directory
from graphdriver.files.small_files import read_object, write_whole
from graphdriver.linux.processes import process_name
from graphdriver.linux.unix_sockets import peer_of

INIT: Final = "init.json"

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of a unix socket."""

    pid: int
    start: int
    """When it started, in clock ticks since boot: proc(5), /proc/PID/stat, field 22."""
    command: str = dataclasses.field(default="", compare=False)
    """The name of its program, as it was when it connected."""

    @classmethod
    def of(cls, connection: socket.socket) -> Peer | None:
        """Return a connection's peer; None if it is unknown (TCP, another PID namespace)."""
        if connection.family != socket.AF_UNIX:
            return None
        return cls.of_process(peer_of(connection).pid)

    @classmethod
    def of_process(cls, pid: int) -> Peer | None:
        """Return a process as a peer; None if there is no such process."""
        start = _start_time(pid)
        return cls(pid, start, process_name(pid)) if start is not None else None

    def is_alive(self) -> bool:
        """Tell whether that same process still runs."""
        return _start_time(self.pid) == self.start

    def __str__(self) -> str:
        return f"process {self.pid}"


def _start_time(pid: int) -> int | None:
    if pid <= 0:
        return None
    try:
        # The peer's number is of our PID namespace. If /proc shows another namespace, that number is
        # another process's there.
        if os.readlink("/proc/self") != str(os.getpid()):
            return None
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


@dataclasses.dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that has sent Init."""

    init: InitRequest
    peer: Peer | None
    cleaned_up: bool = False
    """Whether it has called Cleanup: it does not need the plugin any more."""

    def may_live(self) -> bool:
        """Tell whether it runs, or may run: its process is unknown, and it has not called Cleanup."""
        return not self.cleaned_up if self.peer is None else self.peer.is_alive()

    def may_call(self) -> bool:
        """Tell whether it may still make calls without another Init."""
        return not self.cleaned_up and self.may_live()

    def may_be_replaced_by(self, request: InitRequest, peer: Peer | None) -> bool:
        """Tell whether another Init may replace this one's.

        It may if it names the same home, comes from the same process, or this daemon is gone. A daemon
        with an unknown process (a caller over TCP) counts as gone only after Cleanup: two such
        daemons look the same, and the first one would lose its layers.
        """
        if self.cleaned_up or request.home == self.init.home:
            return True
        return self.peer is not None and (peer == self.peer or not self.peer.is_alive())

    def is_followed_by(self, request: InitRequest, peer: Peer | None) -> bool:
        """Tell whether a new daemon uses the same home, and this one is known to be gone.

        A daemon with an unknown process (a caller over TCP) is never known to be gone.
        """
        return (
            request.home == self.init.home
            and self.peer is not None
            and peer not in {None, self.peer}
            and not self.peer.is_alive()
        )

    def __str__(self) -> str:
        if self.peer is None:
            return "a daemon whose process is unknown and which has not called Cleanup"
        return f"{self.peer}, which lives"


class InitFile:
    """``STATE-DIR/init.json``: the last Init, and the daemon that sent it."""

    def __init__(self, state_dir: str) -> None:
        self._directory = state_dir
        self._path = os.path.join(state_dir, INIT)

    def write(self, daemon: Daemon) -> None:
        """Remember a daemon."""
        peer = daemon.peer and {"pid": daemon.peer.pid, "start": daemon.peer.start}
        init = json.loads(encode(daemon.init))
        text = json.dumps({"init": init, "peer": peer, "left": daemon.cleaned_up})
        make_directories(os.path.dirname(self._directory), 0o700)
        with self.locked():  # so that another plugin that starts does not sweep the file meanwhile
            make_own(self._directory, 0o700)
            write_whole(self._path, text, 0o600)

    def locked(self, timeout: float = TIMEOUT) -> contextlib.AbstractContextManager[None]:
        """Lock the file against other processes for the length of a ``with`` block.

        Raises:
            InUseError: another process holds the lock for longer than ``timeout`` seconds.
        """
        return locked(self._directory, timeout)

    def read(self) -> Daemon | None:
        """Return the remembered daemon, if there is one.

        Raises:
            ValueError: the file is damaged.
        """
        try:
            kept = read_object(self._path)
            init = decode(InitRequest, json.dumps(kept.get("init")).encode())
            return Daemon(init, _peer(kept.get("peer")), _left(kept.get("left")))
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError, MalformedRequestError) as error:
            raise ValueError(f"{self._path} is damaged: {error}") from error

    def forget(self, daemon: Daemon) -> None:
        """Remove the file at the end of a process, if it still holds this daemon; log failures.

        The next process may listen already, and have a daemon of its own. A file that stays is removed
        by the next plugin that starts.
        """
        try:
            with self.locked(TIMEOUT_AT_STOP):
                if self.read() == daemon:
                    self.remove()
        except (GraphDriverError, OSError, ValueError) as error:
            _log.warning("leaving %s as it is: %s", self._path, error)

    def remove(self) -> None:
        """Remove the file, and its directory if nothing else is in it."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        remove_directory(self._directory)


def _peer(kept: object) -> Peer | None:
    if kept is None:
        return None
    if isinstance(kept, dict) and kept.keys() == {"pid", "start"}:
        pid, start = kept["pid"], kept["start"]
        if type(pid) is int and type(start) is int:
            return Peer(pid, start)
    raise ValueError("peer is wrong")


def _left(kept: object) -> bool:
    if isinstance(kept, bool):
        return kept
    raise ValueError("left is wrong")
