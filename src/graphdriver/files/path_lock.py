"""Locks on paths, which keep other processes of this project out.

Any user who can open a file can lock it for ever. So the lock is not taken on the path itself: while a
path is locked it has a lock file, in a directory that only this user can enter.
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
"""How long to wait at a stop, which has little time: the next start can do the same work."""

_PAUSE: Final = 0.02


class PathLock:
    """A lock for a path, held until `release`.

    Args:
        path: it need not exist.
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
            # The last holder may have removed the file between open and flock. A lock on a removed file
            # excludes nobody, so try again.
            if os.fstat(fd).st_nlink:
                with contextlib.suppress(OSError):  # only for messages, and /run may be full
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
        """Release the lock; call it once."""
        try:
            with contextlib.suppress(OSError):  # an unlocked file that stays does no harm
                os.unlink(self._file)
        finally:
            os.close(self._fd)


@contextlib.contextmanager
def locked(directory: str, timeout: float = TIMEOUT) -> Iterator[None]:
    """Lock a directory for a ``with`` block, so that a check and the change after it are one step.

    Args:
        directory: its path; it need not exist.
        timeout: how long to wait for another process, in seconds.

    Raises:
        InUseError: another process still holds it; the text names that process.
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
