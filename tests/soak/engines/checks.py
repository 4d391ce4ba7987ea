"""What holds after each round, whatever happened in it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.soak.engines.side import Side
from tests.support import inspection
from tests.support.command import graphdriver

GROWTH = 48 << 20
"""Bytes by which the memory of a process may grow."""

DESCRIPTORS = 64
"""The most files that a process has open while nobody calls it."""


def check(side: Side) -> None:
    """Check everything that can be asked while the engine runs."""
    images, containers = side.found()
    assert images == {*side.images}
    assert containers == {name: one.runs for name, one in side.containers.items()}
    side.check_content([*side.containers])
    assert inspection.litter(side.home) == []
    assert inspection.marked(side.home) == set()
    side.check_layers()
    checked = graphdriver("fsck", str(side.home))
    assert checked.returncode == 0, checked.stdout.decode() + checked.stderr.decode()
    check_process(side)


def check_process(side: Side) -> None:
    descriptors = len(os.listdir(f"/proc/{side.pid}/fd"))
    memory = _memory(side.pid)
    side.figures.most_descriptors = max(side.figures.most_descriptors, descriptors)
    side.figures.most_memory = max(side.figures.most_memory, memory)
    assert descriptors <= DESCRIPTORS, sorted(_links(side.pid))
    first = side.memory_at_first.setdefault(side.pid, memory)
    assert memory - first < GROWTH, f"{first >> 10} KiB became {memory >> 10} KiB"


def _memory(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def _links(pid: int) -> list[str]:
    return [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
