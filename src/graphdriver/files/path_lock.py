"""Keeping other processes of ours away from a path, by a lock that nobody else can open.

Whoever can open a file can lock it for ever. So no lock is taken on a path that others can open: each
path has a file of its own, in a directory that only this user can enter, as long as it is locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from typing import Final

from graphdriver.errors import InUseError
from graphdriver.files.directories import make_own
from graphdriver.files.runtime_directory import RUNTIME, file_name
from graphdriver.files.small_files import read_text

TIMEOUT: Final = 10.0
"""How long to wait for another process, in seconds."""

TIMEOUT_AT_STOP: Final = 0.5
"""How long to wait for what can be left to the next start: a process that ends has little time."""

_PAUSE: Final = 0.02


class PathLock:
    """A lock for a path, held until `release`.

    Args:
        path: what is locked; it need not exist.
        timeout: how long to wait for another process, in seconds.

    Raises:
        InUseError: another process still holds it; the text names that process.
        OSError: the directory of the locks cannot be made.
    """

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        self._file = os.path.join(_directory(), file_name(os.path.realpath(path)))
        deadline = time.monotonic() + timeout
        while not self._take():
            if time.monotonic() >= deadline:
                raise InUseError(
                    f"{path} is in use by process {self._holder()}"
                    + (f", and has been for {timeout:.0f} s" if timeout else ""),
                    hint="wait until that one is done, or stop it",
                )
            time.sleep(_PAUSE)

    def _take(self) -> bool:
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last holder may have removed the file between the two calls.
            if os.fstat(fd).st_nlink:
                with contextlib.suppress(OSError):  # for messages alone: /run may be full
                    os.pwrite(fd, b"%-20d\n" % os.getpid(), 0)
                self._fd = fd
                return True
        except BlockingIOError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return False

    def _holder(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            return str(int(read_text(self._file)))
        return "?"

    def release(self) -> None:
        """Let go of it, once."""
        try:
            with contextlib.suppress(OSError):  # a file that nobody holds is in nobody's way
                os.unlink(self._file)
        finally:
            os.close(self._fd)


@contextlib.contextmanager
def locked(directory: str, timeout: float = TIMEOUT) -> Iterator[None]:
    """Keep others of ours out of a directory, from looking at a name to having replaced it.

    Args:
        directory: its path; it need not exist.
        timeout: how long to wait for another process, in seconds.

    Raises:
        InUseError: another process is in it, and stays.
        OSError: the directory of the locks cannot be made.
    """
    lock = PathLock(directory, timeout)
    try:
        yield
    finally:
        lock.release()


def _directory() -> str:
    user = os.geteuid()
    own = RUNTIME if user == 0 else f"/tmp/graphdriver-{user}"  # noqa: S108 - make_own checks it
    locks = os.path.join(own, "locks")
    make_own(own, 0o700)
    make_own(locks, 0o700)
    return locks
