"""The command line on a terminal of a given size."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from typing import Self

from tests.support.command import environment
from tests.support.ground import tool

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""The sequences that our commands send to a terminal."""


class Terminal:
    """``graphdriver`` on a pseudoterminal; a context manager that ends it.

    Args:
        words: the command line.
        columns: the terminal's width.
        lines: its height.
        more: more variables of the environment.
    """

    def __init__(
        self,
        *words: str,
        columns: int = 80,
        lines: int = 24,
        **more: str,
    ) -> None:
        self._ours, theirs = os.openpty()
        self.resize(columns, lines)
        self.raw = b""
        self.process = subprocess.Popen(
            # It is the terminal of a session, so that Ctrl-C reaches the command as it does a person's.
            [tool("setsid"), "--ctty", sys.executable, "-m", "graphdriver", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(TERM="xterm-256color", LANG="C.UTF-8", COLUMNS="", LINES="", **more),
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)

    def resize(self, columns: int, lines: int) -> None:
        """Change the terminal's size."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read_until(self, seen: Callable[[bytes], bool]) -> bytes:
        """Read what is shown until it is as expected; return all of it."""
        deadline = time.monotonic() + 60
        while not seen(self.raw):
            assert time.monotonic() < deadline, self.raw.decode()
            # EIO: the command has ended, and all was read.
            with contextlib.suppress(BlockingIOError, OSError):
                self.raw += os.read(self._ours, 1 << 16)
            time.sleep(0.01)
        return self.raw

    def ended(self) -> int:
        """Read to the end, and return the exit code."""
        self.read_until(lambda raw: self.process.poll() is not None)
        with contextlib.suppress(OSError):
            while piece := os.read(self._ours, 1 << 16):
                self.raw += piece
        return self.process.returncode

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._ours, b"\x03")

    @property
    def text(self) -> str:
        """What was shown, without what changes colours and moves the cursor."""
        return CONTROL.sub("", self.raw.decode()).replace("\r\n", "\n")

    @property
    def lines(self) -> list[str]:
        """Its lines."""
        return self.text.splitlines()


def on_terminal(
    *words: str, columns: int = 80, lines: int = 24, path: str = ""
) -> tuple[list[str], int]:
    """Run one command on a terminal; return the lines that it showed, and the exit code."""
    with Terminal(*words, columns=columns, lines=lines, path=path) as terminal:
        code = terminal.ended()
        return terminal.lines, code
