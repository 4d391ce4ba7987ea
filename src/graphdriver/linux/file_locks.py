"""/proc/locks (proc(5)): which processes hold a lock on a file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator

from graphdriver.linux.holders import process_name


def lock_holders(paths: Iterable[str]) -> list[str]:
    """Return in words which other processes hold locks on some files; if any writes, only the writers.

    Processes of other PID namespaces are not listed there.
    """
    files = set()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(path)
            files.add((status.st_dev, status.st_ino))
    inodes = {inode for _, inode in files}
    others = [one for one in _locks() if one[1] not in (-1, os.getpid()) and one[2] in inodes]
    held = [(kind, pid) for kind, pid, _ in others if _has_open(pid, files)]
    kinds = {kind for kind, _ in held}
    pids = {pid for kind, pid in held if kind == "WRITE" or "WRITE" not in kinds}
    return [f"process {pid} ({process_name(pid)})" for pid in sorted(pids)]


def _locks() -> Iterator[tuple[str, int, int]]:
    """Yield kind, process and inode of each lock; one that is waited for begins with an arrow."""
    with open("/proc/locks", encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if fields[1] != "->":
                yield fields[3], int(fields[4]), int(fields[5].rpartition(":")[2])


def _has_open(pid: int, files: set[tuple[int, int]]) -> bool:
    """Tell whether a process has one of the files open: /proc/locks has no device of btrfs's files."""
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                status = os.stat(f"/proc/{pid}/fd/{descriptor}")
                if (status.st_dev, status.st_ino) in files:
                    return True
    return False
