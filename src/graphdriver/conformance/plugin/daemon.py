"""Another daemon: a connection that a process of its own has made, as after a daemon's restart."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

from graphdriver.conformance.plugin.wire import Wire

_CONNECT: Final = """
import socket, sys
to = socket.socket(fileno=int(sys.argv[1]))
plugin = socket.socket(socket.AF_UNIX)
plugin.connect(sys.argv[2])
socket.send_fds(to, [b"x"], [plugin.fileno()])
sys.stdin.read()
"""


@contextlib.contextmanager
def another_daemon(path: str) -> Iterator[Wire]:
    """Give a connection to a unix socket that another process has made and holds for as long.

    The kernel tells the plugin that process as its peer (SO_PEERCRED, unix(7)).
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _CONNECT, str(theirs.fileno()), path],
            stdin=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
        )
        with process:
            theirs.close()
            _, found, _, _ = socket.recv_fds(ours, 1, 1)
            if not found:
                raise ConnectionRefusedError(f"another process cannot connect to {path}")
            with Wire(socket.socket(fileno=found[0])) as wire:
                yield wire
