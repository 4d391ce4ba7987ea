"""The command line as its users run it: a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.documented import ROOT
from tests.support.traces import socket_in


def environment(**more: str) -> dict[str, str]:
    # An empty part would mean the current directory.
    parts = [str(ROOT / "src"), str(ROOT / "examples"), more.pop("path", "")]
    return {**os.environ, "PYTHONPATH": ":".join(filter(None, parts)), **more}


def graphdriver(
    *words: str, stdin: bytes = b"", path: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "graphdriver", *words],
        input=stdin,
        capture_output=True,
        env=environment(path=path),
        timeout=60,
    )


class Serving:
    """``graphdriver serve`` while it runs."""

    def __init__(
        self,
        folder: Path,
        *words: str,
        path: str = "",
        program: Sequence[str] = (sys.executable, "-m", "graphdriver"),
        cwd: Path | None = None,
    ) -> None:
        self.socket = socket_in(folder)
        elsewhere = {"--name", "--socket"} & set(words)
        place = [] if elsewhere else ["--socket", self.socket]
        self.log = folder / "log"
        self.out = folder / "out"
        with open(self.log, "wb") as log, open(self.out, "wb") as out:
            self.process = subprocess.Popen(
                [*program, "serve", *words, *place],
                cwd=cwd,
                stdout=out,
                stderr=log,
                env=environment(path=path),
            )

    def ready(self) -> Serving:
        """Wait until it reports that it serves."""
        deadline = time.monotonic() + 60
        while not (b"dockerd" in self.out.read_bytes() or b'"serving ' in self.log.read_bytes()):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self

    @property
    def lines(self) -> list[dict[str, object]]:
        """The log's, where it is JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.connect(self.socket)
            except OSError:
                return False
            return True

    def call(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return graphdriver("call", "--socket", self.socket, *words, stdin=stdin)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def install(folder: Path, name: str, where: str) -> None:
    """Install a package with an entry point for a driver into ``folder``."""
    info = folder / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[graphdriver.drivers]\n{name} = {where}\n")
