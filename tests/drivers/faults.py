"""The nth thing that can fail, failing: a call to the kernel, a new thread, a new process.

The calls are those of this process, in any thread, while it is armed. A failed call does nothing, as
with a real kernel.
"""

from __future__ import annotations

import builtins
import contextlib
import ctypes
import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from graphdriver.linux import openat2
from graphdriver.linux.libc import libc

OF_OS = (
    *(
        "open",
        "mkdir",
        "rmdir",
        "unlink",
        "rename",
        "symlink",
        "link",
        "mknod",
        "readlink",
    ),
    *(
        "chown",
        "fchown",
        "chmod",
        "fchmod",
        "utime",
        "stat",
        "lstat",
        "fstat",
        "listdir",
        "scandir",
    ),
    *("read", "pread", "write", "pwrite", "fsync", "truncate", "ftruncate", "posix_fallocate"),
    *("setxattr", "getxattr", "listxattr", "removexattr", "copy_file_range", "lseek", "chdir"),
)
OF_LIBC = ("syscall", "mount", "umount2", "syncfs", "fstatfs", "open_by_handle_at")
INTERRUPTED = {"ioctl", "flock", *OF_LIBC}
"""What can be seen to be interrupted: Python repeats its own calls then."""

OURS = os.sep + os.path.join("src", "graphdriver") + os.sep


KILL = -1
"""In place of an error: this call and all after it are never made, as if the process was killed."""


class KilledError(BaseException):
    """The end of a process that only seems to be killed; nothing but a test may catch it."""


class Faults:
    """Makes one call fail.

    Attributes:
        seen: how many calls there were since it was armed.
        failed: the call that did; "" if none.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._at = 0
        self._error = 0
        self._killed = False
        self.seen = 0
        self.failed = ""

    @contextlib.contextmanager
    def armed(self, at: int, error: int) -> Iterator[None]:
        """Let the ``at``th call fail with an error, 0 for a lack of memory, within the block."""
        self._at, self._error, self.seen, self.failed = at, error, 0, ""
        self._killed = False
        try:
            yield
        finally:
            self._at = 0

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Stand between everything and the kernel for the length of a ``with`` block."""
        with contextlib.ExitStack() as held:

            def put(owner: Any, name: str, fail: Callable[[str], Any]) -> None:
                real = getattr(owner, name)
                held.callback(setattr, owner, name, real)
                setattr(owner, name, self._wrapped(real, name, fail))

            for name in OF_OS:
                put(os, name, self._raise)
            put(builtins, "open", self._raise)
            put(fcntl, "ioctl", self._raise)
            put(fcntl, "flock", self._raise)
            put(subprocess, "Popen", self._raise)
            put(threading.Thread, "start", self._no_thread)
            for name in OF_LIBC:
                put(libc, name, self._minus_one)
            put(openat2, "_syscall", self._minus_one)
            yield

    def _wrapped(self, real: Any, name: str, fail: Callable[[str], Any]) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            if not self._at or not self._is_next(name):
                return real(*arguments, **named)
            return fail(name)

        return call

    def _is_next(self, name: str) -> bool:
        caller = sys._getframe(2)
        if (
            OURS not in caller.f_code.co_filename
        ):  # the interpreter's own: modules, the lines of a log
            return False
        with self._guard:
            self.seen += 1
            if self._killed:
                return True
            if self.seen != self._at:
                return False
            self._killed = self._error == KILL
            if self._error == errno.EINTR and name not in INTERRUPTED:
                return False
            self.failed = f"{name} at {caller.f_code.co_filename}:{caller.f_lineno}"
            return True

    def _raise(self, name: str) -> None:
        self._end_if_killed()
        if not self._error:
            raise MemoryError
        raise OSError(self._error, os.strerror(self._error), name)

    def _end_if_killed(self) -> None:
        if self._killed:
            raise KilledError

    def _no_thread(self, _name: str) -> None:
        self._end_if_killed()
        raise RuntimeError("can't start new thread")

    def _minus_one(self, name: str) -> int:
        self._end_if_killed()
        if not self._error:
            raise MemoryError
        ctypes.set_errno(self._error)
        return -1
