"""``graphdriver serve`` as a process that can be killed, called over one connection."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

from graphdriver.docker.address.discovery import PLUGIN_SPECS
from graphdriver.docker.client import Client
from tests.crash.forks import Process, start
from tests.support.traces import state_of_socket

TIMEOUT = 60.0


class Served:
    """A plugin of its own process; a context manager that stops it.

    Args:
        folder: holds its socket and its log. Its name is the plugin's, and must be nobody else's.
        driver: what is served.
        options: more options of ``graphdriver serve``.
    """

    def __init__(self, folder: Path, driver: str, *options: str) -> None:
        self.mounts = driver in ("overlay2", "erofs", "fuse-overlayfs")
        self.log = folder / "log"
        self.socket = folder / f"{folder.name}.sock"
        self.state = state_of_socket(str(self.socket))
        self._words = ["graphdriver", "serve", driver, "--socket", str(self.socket), *options]
        self._process: Process | None = None
        self._is_traced = False
        self.client = Client(str(self.socket), timeout=TIMEOUT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.close()
        if self._process and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(TIMEOUT)
        shutil.rmtree(self.state, ignore_errors=True)
        Path(PLUGIN_SPECS, f"{self.socket.stem}.spec").unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        """The process's ID: the interpreter's, since nothing stands between."""
        assert self._process
        return self._process.pid

    def launch(self, *first: str) -> None:
        """Start the process, perhaps by another program, and wait for nothing."""
        with open(os.devnull, "rb") as null, open(self.log, "ab") as log:
            self._is_traced = bool(first)
            self._process = start(self._words, first, stdin=null, stdout=log, stderr=log)

    def start(self, *first: str) -> None:
        """Start it and wait until it has answered a call; more calls come over that connection."""
        self.launch(*first)
        assert self._process
        deadline = time.monotonic() + TIMEOUT
        while not self._accepts():
            assert self._process.poll() is None, self.tail()
            assert time.monotonic() < deadline, self.tail()
            time.sleep(0.005)
        self.client = Client(str(self.socket), timeout=TIMEOUT)
        self.client.activate()

    def kill(self) -> None:
        """Kill it. If a tracer started it, kill what is traced, and the tracer ends by itself.

        A tracer that is killed leaves what it traces running.
        """
        assert self._process
        if self._is_traced and self._process.poll() is None:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            for child in children:
                os.kill(int(child), signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait(TIMEOUT)
        self.client.close()

    def let_go(self) -> None:
        """Have it hold no home, by starting it anew without one."""
        self.kill()
        shutil.rmtree(self.state, ignore_errors=True)
        self.start()

    def was_killed_within(self, seconds: float) -> bool:
        """Wait for somebody else to kill it, and tell whether that happened."""
        assert self._process
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self.client.close()
        return code == -signal.SIGKILL

    def threads(self) -> list[int]:
        """Return the threads that the process has now."""
        return [int(name) for name in os.listdir(f"/proc/{self.pid}/task")]

    def tail(self) -> str:
        """Return the end of the log."""
        return self.log.read_text(errors="replace")[-2000:]

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError):
            # A plugin that was killed leaves its socket; to connect is the only way to know.
            import socket

            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket))
                return True
        return False
