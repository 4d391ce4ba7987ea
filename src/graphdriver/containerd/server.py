"""A snapshotter on a unix socket, served by grpcio's threads.

grpcio accepts no socket of ours, silently replaces one in use, and makes its own open to everybody. So
the path is locked first; the socket is bound in a private directory, and renamed to its path when its
group and mode are set.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import tempfile
import threading
import urllib.parse
from typing import Final, Self

import grpc

from graphdriver.containerd import daemon_client
from graphdriver.containerd.callers import Callers
from graphdriver.containerd.diff.content import ContentStore
from graphdriver.containerd.diff.differ import Differ
from graphdriver.containerd.diff.service import handlers as diff_handlers
from graphdriver.containerd.listing import Listing
from graphdriver.containerd.questions import questions
from graphdriver.containerd.service import Handlers
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.errors import InUseError, UnsupportedError
from graphdriver.files.directories import make_directories
from graphdriver.files.path_lock import PathLock
from graphdriver.linux.unix_sockets import LONGEST_PATH, has_listener, refuse_other
from graphdriver.serving.process import group_id

THREADS: Final = 64
"""How many calls run at a time; further calls wait."""

LISTS: Final = 4
"""How many long lists are sent at a time."""

GRACE: Final = 9.0
"""How long calls in progress may take at a stop, in seconds; as `graphdriver.docker.http.server`."""


class SnapshotterServer:
    """A server of snapshots at an address; a context manager that closes the socket and the snapshots.

    Args:
        snapshots: the snapshots of a root.
        address: the absolute path of a unix socket.
        group: the name or number of a group that may call it besides root.
        containerd: the path of containerd's own socket, for the diff service; by default the usual one.

    Raises:
        InUseError: another process listens there.
        UnsupportedError: the path or the group cannot be used.
    """

    def __init__(
        self,
        snapshots: Snapshots,
        address: str,
        group: str | None = None,
        containerd: str | None = None,
    ) -> None:
        self._snapshots = snapshots
        self.address = os.path.abspath(address)
        gid = group_id(group)
        self._expect_short(self.address)
        with contextlib.ExitStack() as held:  # `close` ends the same, in the same order
            try:
                make_directories(os.path.dirname(self.address), 0o755)
                self._lock = _locked(self.address)
                held.callback(self._lock.release)
                self._content = ContentStore(os.path.abspath(containerd or daemon_client.SOCKET))
                held.callback(self._content.close)
                self._start(held, gid)
            except (OSError, RuntimeError) as error:
                raise _no_socket(self.address, error) from error
            held.pop_all()

    def _start(self, held: contextlib.ExitStack, gid: int) -> None:
        """Listen, and answer calls."""
        served = self._snapshots.served
        self._lists = self._threads(LISTS, "lists", held)
        self._questions = self._threads(1, "questions", held)
        self._pool = self._threads(THREADS, "snapshotter", held)
        self._server = grpc.server(self._pool)
        held.callback(self._stop)
        self._callers = Callers()
        self._server.add_generic_rpc_handlers(
            (
                Handlers(self._snapshots, Listing(self._snapshots), self._callers, self._lists),
                diff_handlers(Differ(self._snapshots, self._content), served),
                questions(served, self._callers, self._questions),
            )
        )
        self._bind(os.path.dirname(self.address), gid)
        self._inode = os.stat(self.address).st_ino
        held.callback(self._remove_socket)
        served.listens_at([f"unix://{urllib.parse.quote(os.fsencode(self.address))}"])

    @staticmethod
    def _threads(count: int, name: str, held: contextlib.ExitStack) -> _Threads:
        pool = _Threads(count, name)
        held.callback(pool.shutdown)
        return pool

    def _bind(self, directory: str, gid: int) -> None:
        with tempfile.TemporaryDirectory(prefix=".", dir=directory) as private:
            bound = os.path.join(private, "s")
            self._expect_short(bound)
            self._callers.bound = bound
            self._server.add_insecure_port(f"unix:{bound}")
            self._server.start()
            # Group and mode before the rename: until then only root can reach the socket.
            os.chown(bound, -1, gid)
            os.chmod(bound, 0o660)
            os.rename(bound, self.address)

    def _expect_short(self, path: str) -> None:
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise UnsupportedError(
                f"{self.address} is longer than a unix socket's path can be, or nearly so",
                hint="choose a shorter one",
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let calls in progress end, and release the socket and the snapshots."""
        self._remove_socket()  # first, so that no new caller connects
        self._stop()
        self._pool.shutdown()
        self._questions.shutdown()
        self._lists.shutdown()
        self._content.close()
        self._snapshots.close()
        self._lock.release()

    def _remove_socket(self) -> None:
        """Remove the socket, but not that of another process."""
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self.address).st_ino == self._inode:
                os.unlink(self.address)

    def _stop(self) -> None:
        """Let calls in progress end."""
        self._server.stop(GRACE).wait()


class _Threads(concurrent.futures.ThreadPoolExecutor):
    """Threads that all run from the start.

    gRPC hands calls over in a thread of its own. That thread would die if a call needed a new thread
    and none could be started, and the server would answer no call any more.

    Raises:
        UnsupportedError: so many threads cannot be started.
    """

    def __init__(self, count: int, name: str) -> None:
        super().__init__(count, name)
        meet = threading.Barrier(count + 1)
        try:
            for _ in range(count):
                self.submit(meet.wait)
        except (RuntimeError, MemoryError) as error:
            meet.abort()
            self.shutdown()
            raise UnsupportedError(
                f"{count} threads cannot be started: {error}",
                hint="raise the limits of this process (TasksMax, RLIMIT_NPROC, memory)",
            ) from error
        meet.wait()


def _locked(address: str) -> PathLock:
    """Lock an address, and check that no process listens there."""
    refuse_other(address, follow=False)  # a rename would replace it
    lock = PathLock(address, timeout=0)
    try:
        if has_listener(address):
            raise InUseError(f"another process listens on {address}", hint="stop it first")
    except BaseException:
        lock.release()
        raise
    return lock


def _no_socket(address: str, error: OSError | RuntimeError) -> UnsupportedError:
    reason = getattr(error, "strerror", None) or error
    return UnsupportedError(f"cannot listen on {address}: {reason}", hint="choose another path")
