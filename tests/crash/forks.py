"""Programs in Python that start by fork(2), from a process that has imported them.

A test that kills starts a program again for each kill, and to import it takes longer than all else that
such a test does.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO, Protocol

MODULES = (
    "graphdriver.cli.main",
    "graphdriver.docker.handler",
    "graphdriver.docker.serve",
    "graphdriver.drivers.btrfs.driver",
    "graphdriver.drivers.erofs.driver",
    "graphdriver.drivers.overlay.fuse_overlayfs",
    "graphdriver.drivers.overlay.overlay2",
    "graphdriver.drivers.vfs.driver",
    "tests.crash.keeper",
)
"""What is imported before a fork; the program itself imports the rest."""


class Process(Protocol):
    """What `Fork` and `subprocess.Popen` have in common."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def kill(self) -> None: ...
    def terminate(self) -> None: ...


class Forks:
    """The process that has imported `MODULES`, and its children."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._asking = threading.Lock()
        with theirs:
            fd = theirs.fileno()
            command = [sys.executable, "-m", __name__, str(fd)]
            self._process = subprocess.Popen(command, pass_fds=[fd], stdin=subprocess.DEVNULL)

    def close(self) -> None:
        """End it, and the children whose end nobody has asked for."""
        self._socket.close()
        self._process.wait()

    def start(self, module_and_words: Sequence[str], files: Sequence[int]) -> Fork:
        """Start a module as a program, with descriptors 0, 1 and 2 as given."""
        request = json.dumps(["start", *module_and_words]).encode()
        with self._asking:
            socket.send_fds(self._socket, [request], files)
            pid = int(self._socket.recv(100))
            return Fork(self, pid)

    def end_of(self, pid: int) -> int:
        """Return how a child that has ended did so, as `subprocess.Popen.returncode`; only once."""
        with self._asking:
            self._socket.send(json.dumps(["end", pid]).encode())
            return int(self._socket.recv(100))


@functools.cache
def forks() -> Forks:
    """Return that of this process, which ends with it."""
    its = Forks()
    atexit.register(its.close)
    return its


def start(
    module_and_words: Sequence[str],
    first: Sequence[str] = (),
    *,
    stdin: IO[bytes],
    stdout: IO[bytes],
    stderr: IO[bytes],
) -> Process:
    """Start a module as a program.

    Args:
        module_and_words: the module, and the words of the program's command line.
        first: the words before its command, of a program that starts it; then it does not fork.
        stdin: its file, as the next ones.
        stdout: its output.
        stderr: its log.
    """
    if first:
        command = [*first, sys.executable, "-m", *module_and_words]
        return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr)
    return forks().start(module_and_words, [stdin.fileno(), stdout.fileno(), stderr.fileno()])


class Fork:
    """A child of `Forks`, with the methods of `subprocess.Popen`."""

    def __init__(self, forks: Forks, pid: int) -> None:
        self._forks = forks
        self._pid = pid
        self._code: int | None = None
        # The number is not given to another process before `Forks` is asked for the end.
        self._fd = os.pidfd_open(pid)

    @property
    def pid(self) -> int:
        return self._pid

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        if self._code is None:
            if not select.select([self._fd], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self._pid}", timeout or 0)
            os.close(self._fd)
            self._code = self._forks.end_of(self._pid)
        return self._code

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        if self._code is None:
            signal.pidfd_send_signal(self._fd, number)


def serve(connection: socket.socket) -> list[str]:
    """Fork as often as asked, and exit once nobody can ask.

    Returns:
        In each child, the module that it is to run, and its arguments.
    """
    children: set[int] = set()
    while True:
        request, fds, _flags, _from = socket.recv_fds(connection, 1 << 16, 3)
        if not request:
            break
        kind, *words = json.loads(request)
        if kind == "end":
            _, status = os.waitpid(words[0], 0)
            children.discard(words[0])
            connection.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        child = os.fork()
        if not child:
            connection.close()
            for at, fd in enumerate(fds):
                os.dup2(fd, at)
                os.close(fd)
            return list(words)
        children.add(child)
        for fd in fds:
            os.close(fd)
        connection.send(str(child).encode())
    for child in children:
        os.kill(child, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    for _name in MODULES:
        importlib.import_module(_name)
    sys.argv[1:] = serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
