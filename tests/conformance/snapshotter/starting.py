"""Starting a snapshotter that the kit examines."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from graphdriver.conformance.kit.process import Process
from graphdriver.conformance.snapshotter.subject import SocketSubject


@contextlib.contextmanager
def started(command: list[str], folder: Path, root: Path | None = None) -> Iterator[SocketSubject]:
    """Start a snapshotter, and stop it at the end."""
    process = Process(shlex.join([sys.executable, *command]), folder)
    home = str(root or f"{process.socket}.root")
    try:
        with SocketSubject(process.socket, folder, home) as subject:
            yield subject
    finally:
        process.end(signal.SIGTERM)
