"""The filesystem that a benchmark of engines works on."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.filesystems import loop


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose it."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--dir", default="/var/tmp", help="for the layers (default: %(default)s)")
    where.add_argument("--memory", action="store_true", help="keep the layers on an ext4 in memory")


@contextlib.contextmanager
def ground(arguments: argparse.Namespace) -> Iterator[str]:
    """Make the filesystem in memory, or return the directory that was named."""
    if not arguments.memory:
        yield arguments.dir
        return
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as name,
        loop("ext4", Path(name), 10 << 30) as memory,
    ):
        yield str(memory)
