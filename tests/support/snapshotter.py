"""``graphdriver snapshotter`` as a process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from graphdriver.conformance.snapshotter.calls import Calls
from tests.support.filesystems import loop
from tests.support.leftovers import mounts_below

TIMEOUT = 60.0
DRIVERS: Final = ("vfs", "overlay2", "erofs", "btrfs", "fuse-overlayfs")
_SERVES = re.compile(rb'(INFO    |")serving ')
"""In the log as text, or as JSON."""


class Snapshotter:
    """A snapshotter's process; a context manager that stops it.

    Args:
        folder: the directory of its socket and its log; the path must be short.
        driver: what is served.
        options: more options of ``graphdriver snapshotter``.
        root: the directory of its layers; in ``folder`` by default.
        program: what is run instead of ``graphdriver``, with the same arguments.
    """

    def __init__(
        self,
        folder: Path,
        driver: str,
        *options: str,
        root: Path | None = None,
        program: Sequence[str] = (sys.executable, "-m", "graphdriver"),
    ) -> None:
        self.driver = driver
        self.address = str(folder / "s.sock")
        self.root = root or folder / "snapshots"
        self.log = folder / "s.log"
        self._command = [*program, "snapshotter", driver]
        self._command += ["--address", self.address, "--root", str(self.root), *options]
        self._command += ["--containerd-socket", str(folder / "c.sock")]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.calls.close()
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(TIMEOUT)

    def start(self) -> None:
        """Start it, and wait until it serves."""
        at = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + TIMEOUT
        while not _SERVES.search(self.log.read_bytes()[at:]):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        self.calls = Calls(self.address)

    def kill(self) -> None:
        """Kill it with -9."""
        assert self.process
        self.calls.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(TIMEOUT)

    def layers(self) -> list[str]:
        """Return the layers' directories in the root."""
        return sorted(name for name in os.listdir(self.root) if name.isdecimal())


@contextlib.contextmanager
def on_driver(driver: str, folder: Path) -> Iterator[Snapshotter]:
    """Run one for the length of a ``with`` block; btrfs has a filesystem of its own."""
    with contextlib.ExitStack() as held:
        place = held.enter_context(loop("btrfs", folder)) if driver == "btrfs" else folder
        with Snapshotter(folder, driver, root=place / "snapshots") as snapshotter:
            yield snapshotter
        # An image of erofs stays mounted without the snapshotter: containers go on.
        for point in mounts_below(snapshotter.root):
            subprocess.run(["umount", "--lazy", point], check=True)
