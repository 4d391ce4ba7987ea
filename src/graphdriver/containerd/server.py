"""A snapshotter on a unix socket, served by grpcio's threads.

grpcio takes no socket over, replaces a live one without a word, and makes its own open to everybody.
So the path is locked first, the socket is bound in a private folder, and renamed when it is as it
should be.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import socket
import tempfile
from typing import Final, Self

import grpc

from graphdriver.containerd.callers import Callers
from graphdriver.containerd.service import handlers
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.errors import InUseError, UnsupportedError
from graphdriver.files.directories import make_directories
from graphdriver.files.path_lock import PathLock
from graphdriver.linux.unix_sockets import refuse_other
from graphdriver.serving.process import group_id

THREADS: Final = 64
"""How many calls run at a time; the next one waits."""

GRACE: Final = 9.0
"""How long calls under way may take at a stop, in seconds."""

LONGEST_PATH: Final = 107
"""Of a unix socket, in bytes (unix(7))."""


class SnapshotterServer:
    """Serves snapshots at an address; a context manager that closes the socket, and them.

    Args:
        snapshots: what is served.
        address: the absolute path of a unix socket.
        group: who besides root may call it: a group's name or number.

    Raises:
        InUseError: somebody listens there.
        UnsupportedError: the path or the group will not do.
    """

    def __init__(self, snapshots: Snapshots, address: str, group: str | None = None) -> None:
        self._snapshots = snapshots
        self.address = os.path.abspath(address)
        gid = group_id(group)
        folder = os.path.dirname(self.address)
        try:
            make_directories(folder, 0o755)
        except OSError as error:
            raise _no_socket(self.address, error) from error
        self._lock = _locked(self.address)
        try:
            self._pool = concurrent.futures.ThreadPoolExecutor(THREADS, "snapshotter")
            self._server = grpc.server(self._pool)
            self._callers = Callers()
            self._server.add_generic_rpc_handlers((handlers(snapshots, self._callers),))
            self._bind(folder, gid)
        except OSError as error:
            self._lock.release()
            raise _no_socket(self.address, error) from error
        except BaseException:
            self._lock.release()
            raise
        self._inode = os.stat(self.address).st_ino

    def _bind(self, folder: str, gid: int) -> None:
        with tempfile.TemporaryDirectory(prefix=".", dir=folder) as private:
            bound = os.path.join(private, "s")
            if max(len(os.fsencode(bound)), len(os.fsencode(self.address))) > LONGEST_PATH:
                raise UnsupportedError(
                    f"{self.address} is longer than a unix socket's path can be, or nearly so",
                    hint="choose a shorter one",
                )
            self._callers.bound = bound
            self._server.add_insecure_port(f"unix:{bound}")
            self._server.start()
            os.chown(bound, -1, gid)
            os.chmod(bound, 0o660)
            os.rename(bound, self.address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let calls under way end, and let go of the socket and the snapshots."""
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self.address).st_ino == self._inode:
                os.unlink(self.address)
        self._server.stop(GRACE).wait()
        self._pool.shutdown()
        self._snapshots.close()
        self._lock.release()


def _locked(address: str) -> PathLock:
    """Lock an address where nobody listens."""
    refuse_other(address, follow=False)  # bound under another name, and renamed onto what is there
    lock = PathLock(address, timeout=0)
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(address)
            except TimeoutError:
                pass  # a process listens, with a full backlog
            except OSError:
                return lock
        raise InUseError(f"another process listens on {address}", hint="stop it first")
    except BaseException:
        lock.release()
        raise


def _no_socket(address: str, error: OSError) -> UnsupportedError:
    return UnsupportedError(
        f"no socket can be made at {address}: {error.strerror or error}", hint="choose another path"
    )
