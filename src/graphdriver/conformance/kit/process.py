"""A plugin that a command starts, and its log."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from graphdriver.docker.answers import shown
from graphdriver.errors import UnreachableError

START_IN: Final = 30.0
"""Seconds that a plugin has until it answers at its socket, and to end."""

_LOG_LINES: Final = 20
_LOG_BYTES: Final = 64 << 10


class Process:
    """A plugin that a command starts.

    Args:
        command: the command; ``{socket}`` in it is replaced by the socket's path.
        directory: an empty directory for it.
        log: a file to which its output is appended; by default one in its directory.
    """

    def __init__(self, command: str, directory: Path, log: Path | None = None) -> None:
        # A name of its own: a plugin may write it where daemons look for plugins.
        self.socket = str(directory / f"conform-{secrets.token_hex(4)}.sock")
        self._log = log or directory / "plugin.log"
        self._words = [word.replace("{socket}", self.socket) for word in shlex.split(command)]
        self._running: subprocess.Popen[bytes] | None = None
        self._seen = 0
        self.start()

    def start(self) -> None:
        """Start it, and wait until it accepts connections.

        Raises:
            UnreachableError: it ended, or took too long.
        """
        try:
            with self._log.open("ab") as log, _uninterrupted():
                self._running = subprocess.Popen(
                    self._words, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            self._wait_until_it_listens()
        except BaseException:  # an interrupt, too: the caller does not know the process yet
            self.end(signal.SIGKILL)
            raise

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + START_IN
        while time.monotonic() < deadline:
            if self.died():
                raise self.ended()
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(self.socket)
                return
            time.sleep(0.01)
        raise UnreachableError(
            f"the plugin does not listen at {self.socket} after {START_IN:.0f} s; {self.wrote()}",
            hint="the command must listen at the path that replaces {socket}",
        )

    def died(self) -> str:
        """Return how it ended; "" while it runs."""
        code = self._running.poll() if self._running else None
        if code is None:
            return ""
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"

    def ended(self, patience: float = 0.0) -> UnreachableError:
        """Return an error with its last lines, and how it ended, or that it runs.

        Args:
            patience: how long to wait for its end, in seconds.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self._running:
                self._running.wait(patience)
        how = self.died() or "runs, but does not answer"
        return UnreachableError(f"the plugin {how}; {self.wrote()}")

    def wrote(self) -> str:
        """Return its last lines, for an error."""
        lines = self.written()
        return "\n  ".join(["its last lines:", *lines]) if lines else "it wrote nothing"

    def look(self) -> None:
        """Make `written` start with the lines that follow."""
        self._seen = self._log.stat().st_size

    def written(self) -> list[str]:
        """Return the last lines that it has written."""
        with self._log.open("rb") as log:
            log.seek(max(self._seen, self._log.stat().st_size - _LOG_BYTES))
            text = log.read(_LOG_BYTES).decode("utf-8", "replace")
        return [shown(line) for line in text.splitlines()[-_LOG_LINES:]]

    def end(self, how: int, patience: float = START_IN) -> bool:
        """Send a signal, wait, then send SIGKILL; return whether the first signal was enough."""
        if self._running and self._running.poll() is None:
            self._running.send_signal(how)
            try:
                self._running.wait(patience)
            except subprocess.TimeoutExpired:
                self._running.kill()
                self._running.wait()
                return False
        return True


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back the signals that end the kit for the length of a ``with`` block.

    Otherwise a signal may arrive after the start of a process and before its ID is stored.
    """
    if threading.current_thread() is not threading.main_thread():  # only it receives signals
        yield
        return
    came: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for each in came:
            signal.raise_signal(each)
