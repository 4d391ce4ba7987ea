"""A snapshotter that can start no thread answers, and goes on when it can."""

from __future__ import annotations

import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.snapshotter import Snapshotter

CALLS = 16


@pytest.mark.root
def test_calls_are_answered_though_no_thread_can_be_started(folder: Path) -> None:
    with Snapshotter(folder, "vfs") as snapshotter, ThreadPoolExecutor(CALLS) as pool:
        assert snapshotter.process
        pid = snapshotter.process.pid
        mapped = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        before = resource.prlimit(pid, resource.RLIMIT_AS)
        # A thread's stack is of 8 MiB.
        resource.prlimit(pid, resource.RLIMIT_AS, (mapped + (4 << 20), before[1]))
        keys = [f"key{number}" for number in range(CALLS)]
        for asked in [pool.submit(snapshotter.calls.prepare, key) for key in keys]:
            asked.exception(60)
        resource.prlimit(pid, resource.RLIMIT_AS, before)
        snapshotter.calls.prepare("later")
        assert "a thread died" not in snapshotter.log.read_text()
