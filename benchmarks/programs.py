"""The work of other programs, which the benchmarks compare with."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

EXTRACT = ("tar", "-x", "--xattrs", "--xattrs-include=*")
PACK = ("tar", "-c", "--xattrs", "--xattrs-include=*", "-f", "-")


def write(path: str, size: int) -> float:
    """Return the seconds to write a file from one buffer."""
    buffer = bytes(128 << 10)
    started = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for _ in range(size // len(buffer)):
            file.write(buffer)
    return time.perf_counter() - started


def timed(command: list[str], **more: object) -> float:
    """Return the seconds that a command takes."""
    started = time.perf_counter()
    subprocess.run(command, check=True, **more)  # type: ignore[call-overload]
    return time.perf_counter() - started


class Places:
    """Fresh directories for the other programs."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def fresh(self) -> str:
        """Make one."""
        return tempfile.mkdtemp(dir=self._directory)


def extract(tar: Path, tree: str, command: Sequence[str] = EXTRACT) -> float:
    """Unpack a tar; return the seconds."""
    return timed([*command, "-C", tree, "-f", str(tar)])


def packed(command: Sequence[str], tree: str) -> float:
    """Pack a tree and discard the tar; return the seconds."""
    # To a pipe: GNU tar does not read what it would write to /dev/null.
    return timed(["sh", "-c", 'exec "$@" | cat > /dev/null', "sh", *command, "-C", tree, "."])
