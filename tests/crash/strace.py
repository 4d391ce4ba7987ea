"""strace(1): which calls change files or mounts, and a kill just before one of them.

strace counts calls by name, for each thread from when it is attached. So a call is named by its thread,
its name, and how many of that name came before it since a moment that both runs have in common.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.ground import tool

CHANGING = frozenset(
    (
        *("mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2"),
        *("symlink", "symlinkat", "link", "linkat", "mknod", "mknodat"),
        *("chown", "fchown", "lchown", "fchownat", "chmod", "fchmod", "fchmodat", "utimensat"),
        *("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),
        *("truncate", "ftruncate", "fallocate", "copy_file_range", "sendfile"),
        *("mount", "fsmount", "move_mount", "umount2", "syncfs", "fsync", "fdatasync"),
    )
)
"""What always changes something."""

WRITING = ("write", "pwrite64", "writev", "pwritev2")
"""What does if it is done to a file."""

OPENING = ("open", "openat", "openat2")
"""What does if it makes or empties the file."""

OF_SUBVOLUMES = ("BTRFS_IOC_SUBVOL_CREATE", "BTRFS_IOC_SNAP_CREATE_V2", "BTRFS_IOC_SNAP_DESTROY")
"""Which ioctl(2) does."""

_LINE = re.compile(r"(?P<call>\w+)\((?P<rest>.*)")
_FILE = re.compile(r"\d+<(?P<path>/[^>]*)>")
_NO_CHILDREN = ("-b", "execve")
"""Where threads are followed: a program that the process starts is let go as soon as it is another."""

_TRACED = ",".join(f"?{call}" for call in (*sorted(CHANGING), *WRITING, *OPENING, "ioctl"))


@dataclass(frozen=True)
class Call:
    """A call that changes something: the ``nth`` of its name in its thread."""

    name: str
    nth: int
    line: str

    def __str__(self) -> str:
        return f"{self.name} number {self.nth}: {self.line}"


class Trace:
    """What each thread of a process changed while it was traced; filled when tracing ends."""

    def __init__(self) -> None:
        self.calls: dict[int, list[Call]] = {}
        self.totals: dict[int, Counter[str]] = {}

    def read(self, folder: str, besides: Path) -> None:
        """Read what strace wrote: a file for each thread.

        Args:
            folder: where the files are.
            besides: a file to which writing changes nothing of interest.
        """
        for name in os.listdir(folder):
            thread = int(name.rpartition(".")[2])
            counted: Counter[str] = Counter()
            calls = self.calls[thread] = []
            for line in Path(folder, name).read_text(errors="replace").splitlines():
                found = _LINE.match(line)
                if not found:
                    continue
                call = found["call"]
                counted[call] += 1
                if " = -1 " not in line and _changes(call, found["rest"], besides):
                    calls.append(Call(call, counted[call], line))
            self.totals[thread] = counted


def _changes(call: str, rest: str, besides: Path) -> bool:
    if call in OPENING:
        return "O_CREAT" in rest or "O_TRUNC" in rest or "O_TMPFILE" in rest
    if call == "ioctl":
        return any(one in rest for one in OF_SUBVOLUMES)
    if call in WRITING:
        file = _FILE.match(rest)
        return file is not None and file["path"] != str(besides)
    return True


@contextlib.contextmanager
def traced(pid: int, besides: Path) -> Iterator[Trace]:
    """Trace all threads of a process for the length of a ``with`` block."""
    trace = Trace()
    with tempfile.TemporaryDirectory() as folder:
        words = [*_NO_CHILDREN, "-ff", "-y", "-o", f"{folder}/of", "-e", f"trace={_TRACED}"]
        with _attached([pid], *words, stop=signal.SIGINT):
            yield trace
        trace.read(folder, besides)


def start_traced(folder: str) -> list[str]:
    """Return the words before a command that trace its first thread into a folder, for `Trace.read`."""
    words = ["-ff", "-y", "-o", f"{folder}/of", "-e", f"trace={_TRACED}"]
    return [tool("strace"), *_NO_CHILDREN, *words]


def killed_at(call: Call) -> list[str]:
    """Return the words before a command that kill it just before one of its first thread's calls."""
    return [tool("strace"), *_kill(call)]


@contextlib.contextmanager
def killing_at(call: Call, threads: Sequence[int], *, new_ones: bool = False) -> Iterator[None]:
    """Kill a process just before a call, if it comes to that call within the ``with`` block.

    Args:
        call: which one.
        threads: the threads that may make it.
        new_ones: those that begin meanwhile may, too.
    """
    follow = [*_NO_CHILDREN, "-f"] if new_ones else []
    with _attached(threads, *_kill(call), *follow):
        yield


@contextlib.contextmanager
def stretching(call: str, threads: Sequence[int], seconds: float) -> Iterator[None]:
    """Make threads wait before and after each call of a name."""
    wait = int(seconds * 1e6)
    delay = f"inject={call}:delay_enter={wait}:delay_exit={wait}"
    with _attached(threads, "-o", "/dev/null", "-e", f"trace={call}", "-e", delay):
        yield


def _kill(call: Call) -> list[str]:
    kill = f"inject={call.name}:signal=KILL:when={call.nth}"
    return ["-o", "/dev/null", "-e", f"trace={call.name}", "-e", kill]


@contextlib.contextmanager
def _attached(
    threads: Sequence[int], *words: str, stop: signal.Signals = signal.SIGKILL
) -> Iterator[None]:
    """Run strace on threads; those that end meanwhile are left out."""
    which = [word for thread in threads for word in ("-p", str(thread))]
    tracer = subprocess.Popen(
        [tool("strace"), *words, *which], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert tracer.stderr
    try:
        for _ in threads:
            line = tracer.stderr.readline()
            assert b"attach" in line, line
        yield
    finally:
        # Of what is traced nothing is left, perhaps, and not every strace notices that.
        tracer.send_signal(stop)
        tracer.communicate()
