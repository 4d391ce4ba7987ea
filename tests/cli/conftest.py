"""The command line as its users run it: a process of its own."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Serving
from tests.support.traces import forget, socket_in


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="gd-", dir="/tmp") as path:
        yield Path(path)
        forget(socket_in(path))


@pytest.fixture
def serving(folder: Path) -> Iterator[Serving]:
    """vfs, served in ``folder``."""
    one = Serving(folder, "vfs", "-v", "--log-format", "json").ready()
    yield one
    if one.process.poll() is None:
        one.end(signal.SIGKILL)
