"""Our plugin as a process of its own, and its log of calls.

The log is the plugin's own word: with ``-v --log-format json`` it writes one line for each call. A
test can ask it whether the daemon's calls came; a daemon that silently used another driver would pass
all else.
"""

from __future__ import annotations

import glob
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from graphdriver.docker.address.discovery import Address, find
from graphdriver.docker.state import STATES
from graphdriver.errors import UnreachableError
from tests.support.ground import tool
from tests.support.traces import forget

START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0
SOCKETS = Path("/run/docker/plugins")
SPECS = Path("/etc/docker/plugins")


class PluginError(Exception):
    """The plugin did not start or stop as it should; the text shows its log's end."""


@dataclass(frozen=True)
class Call:
    """One line of the log: a call that was answered."""

    method: str
    layer: str
    status: int
    line: str


class Plugin:
    """One plugin; `start` may follow `stop` or `kill`.

    Args:
        log: the file that its stderr goes to; it outlives the plugin.
        driver: what ``graphdriver serve`` is told to serve.
        name: what the daemon calls it by; a fresh one unless given.
        command: a whole command line instead, that of a script that serves itself.
        options: more options of ``graphdriver serve``.
        is_passed: systemd's tool listens, starts the plugin at the first call, and passes the socket.
    """

    def __init__(
        self,
        log: Path,
        driver: str,
        *,
        name: str = "",
        command: Sequence[str] = (),
        options: Sequence[str] = (),
        is_passed: bool = False,
    ) -> None:
        self.driver = driver
        self.name = name or f"py-{driver.rpartition(':')[2]}-{secrets.token_hex(3)}"
        self.log = log
        self.socket = SOCKETS / f"{self.name}.sock"
        serve = ["-m", "graphdriver", "serve", driver, "--name", self.name, *options]
        self._command = command or [sys.executable, *serve, "-v", "--log-format", "json"]
        self._is_passed = is_passed
        if is_passed:
            first = [tool("systemd-socket-activate"), f"--listen={self.socket}"]
            self._command = [*first, *self._command]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process ID of the plugin that runs."""
        assert self._process
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return the code with which the plugin has ended by itself, if it has."""
        assert self._process
        return self._process.poll()

    def start(self) -> None:
        """Start the plugin and wait until a daemon would find it, and could connect."""
        SOCKETS.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._listens():
            if self._process.poll() is not None:
                self._process = None
                raise PluginError(f"the plugin ended at its start\n{self.tail()}")
            if time.monotonic() > deadline:
                raise PluginError(f"the plugin does not listen\n{self.tail()}")
            time.sleep(0.02)

    def refuse_to_start(self) -> str:
        """Start a plugin that cannot serve, see that it ends by itself, and return what it wrote."""
        begun = self.mark()
        with open(self.log, "ab") as log:
            done = subprocess.run(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=START_TIMEOUT,
                check=False,
            )
        if done.returncode == 0:
            raise PluginError(f"the plugin ended with 0\n{self.tail()}")
        return self.log.read_bytes()[begun:].decode()

    def stop(self) -> None:
        """Stop the plugin in good order: it ends with 0 and takes with it what leads to it."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        self.end_stop()
        found = self._found()
        if bool(found) != self._is_passed:
            raise PluginError(f"a daemon finds {found or 'none'} after the stop\n{self.tail()}")

    def begin_stop(self) -> None:
        """Stop the plugin, and wait until no daemon finds it; calls that it has may go on."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT
        while self._found():
            if time.monotonic() > deadline:
                raise PluginError(f"the plugin can be found yet\n{self.tail()}")
            time.sleep(0.01)

    def end_stop(self) -> None:
        """Wait until the plugin has ended; with 0, that is."""
        assert self._process
        try:
            code = self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise PluginError(f"the plugin did not stop\n{self.tail()}") from None
        self._process = None
        if code != 0:
            raise PluginError(f"the plugin ended with {code}\n{self.tail()}")

    def kill(self) -> None:
        """Kill the plugin, which leaves its socket behind."""
        assert self._process
        self._process.kill()
        self._process.wait()
        self._process = None

    def close(self) -> None:
        """Stop the plugin if it runs, and remove what it kept about its daemon."""
        try:
            if self._process:
                self.stop()
        finally:
            if self._process:
                self.kill()
            self.socket.unlink(missing_ok=True)
            for suffix in ("spec", "json"):
                (SPECS / f"{self.name}.{suffix}").unlink(missing_ok=True)
            forget(str(self.socket))
            # Of one that was told to listen elsewhere, under its own name.
            for kept in Path(STATES).glob(f"*%2F{glob.escape(self.name)}.sock"):
                shutil.rmtree(kept, ignore_errors=True)

    def calls(self, since: int = 0) -> list[Call]:
        """Return the calls in the log, from the byte ``since`` on (see `mark`)."""
        with open(self.log, "rb") as file:
            file.seek(since)
            lines = file.read().decode(errors="replace").splitlines()
        found = []
        for line in lines:
            if not line.startswith("{"):
                continue
            said = json.loads(line)
            if "call" in said and "status" in said:
                found.append(Call(said["call"], said.get("layer") or "", said["status"], line))
        return found

    def mark(self) -> int:
        """Return where the log ends now."""
        return os.stat(self.log).st_size if self.log.exists() else 0

    def tail(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def _found(self) -> Address | None:
        try:
            return find(self.name)
        except UnreachableError:
            return None

    def _listens(self) -> bool:
        found = self._found()
        if found is None:
            return False
        if self._is_passed:
            return True  # to connect would be the first call
        at = found.path or (found.host, found.port)
        with socket.socket(socket.AF_UNIX if found.path else socket.AF_INET) as probe:
            try:
                probe.connect(at)
            except OSError:
                return False
        return True
