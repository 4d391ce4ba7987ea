"""How much sooner ten layers are unpacked at the same time than one after the other.

    PYTHONPATH=. python benchmarks/parallel.py [--dir DIR] [--files N] [--average BYTES] [--rounds N]

Makes the calls of containerd's unpacker, on each driver that can give a layer its parent afterwards:
ten gzip layers are applied and committed upon each other; then they are prepared without a parent,
applied four at a time, and committed with their parents. Both ways take turns; printed are the medians,
their ratio, and how long the Commits of the second way took, since containerd changes nothing else
meanwhile. Needs containerd, for its content store.

One layer alone keeps more than one processor busy: containerd sends it, a thread inflates it and checks
its digest, another one unpacks it. So the processor time of both processes is printed, too, and with it
the most that any way of unpacking at the same time could gain here.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.tars import mixed_files

from graphdriver.conformance.snapshotter.calls import Calls
from tests.containerd.test_diff_service import TAR, Diffs
from tests.support.containerd import Containerd
from tests.support.snapshotter import Snapshotter

LAYERS = 10
AT_ONCE = 4
DRIVERS = ("overlay2", "erofs", "fuse-overlayfs")


class Image:
    """An image in the content store, which is unpacked in both ways.

    Args:
        calls: the snapshotter's.
        diffs: the diff service's.
        digests: the layers, the lowest one first.
    """

    def __init__(self, calls: Calls, diffs: Diffs, digests: Sequence[str]) -> None:
        self._calls = calls
        self._diffs = diffs
        self._digests = digests

    def in_order(self) -> float:
        """Unpack one layer after the other; return the seconds."""
        started = time.perf_counter()
        for number in range(len(self._digests)):
            below = self._key(number - 1) if number else ""
            self._apply(number, below)
            self._calls.commit(self._key(number), self._active(number))
        return time.perf_counter() - started

    def at_once(self) -> tuple[float, float]:
        """Unpack several layers at a time; return the seconds of all, and of the Commits."""
        started = time.perf_counter()
        commits = 0.0
        with ThreadPoolExecutor(AT_ONCE) as threads:
            applied = [
                threads.submit(self._apply, number, "") for number in range(len(self._digests))
            ]
            for number, one in enumerate(applied):
                one.result()
                began = time.perf_counter()
                below = self._key(number - 1) if number else ""
                self._calls.commit(self._key(number), self._active(number), parent=below)
                commits += time.perf_counter() - began
        return time.perf_counter() - started, commits

    def remove(self) -> None:
        """Remove all snapshots."""
        for number in reversed(range(len(self._digests))):
            self._calls.remove(self._key(number))

    def _apply(self, number: int, below: str) -> None:
        mounts = self._calls.prepare(self._active(number), below)
        self._diffs.apply(self._digests[number], mounts, f"{TAR}+gzip").result()

    @staticmethod
    def _key(number: int) -> str:
        return f"default/{number}/layer"

    @staticmethod
    def _active(number: int) -> str:
        return f"default/{number}/extract"


def measure(driver: str, above: str, files: int, average: int, rounds: int) -> str:
    """Unpack an image in both ways a number of times; return a line of what it took."""
    with contextlib.ExitStack() as held:
        place = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="gdp-", dir=above)))
        snapshotter = held.enter_context(Snapshotter(place, driver))
        containerd = held.enter_context(Containerd(place, snapshotter.address).running())
        diffs = Diffs(snapshotter, containerd)
        digests = []
        for number in range(LAYERS):
            tar = mixed_files(place / "layer.tar", files, average + number).read_bytes()
            digests.append(diffs.ingest(gzip.compress(tar, 6)))
        image = Image(snapshotter.calls, diffs, digests)
        assert snapshotter.process
        processes = snapshotter.process.pid, containerd.pid
        in_order, at_once, commits, worked = [], [], [], []
        for _ in range(rounds):
            before = processor_seconds(processes)
            in_order.append(image.in_order())
            worked.append(processor_seconds(processes) - before)
            image.remove()
            both = image.at_once()
            at_once.append(both[0])
            commits.append(both[1])
            image.remove()
    one, other = statistics.median(in_order), statistics.median(at_once)
    cores = len(os.sched_getaffinity(0))
    least = statistics.median(worked) / cores
    return (
        f"{driver}: in order {one:.2f} s, at once {other:.2f} s, {one / other:.2f} times as fast;"
        f" {LAYERS} Commits {statistics.median(commits):.3f} s; the work takes {cores} processors"
        f" {least:.2f} s at least, so {one / least:.2f} times at most"
    )


def processor_seconds(processes: Sequence[int]) -> float:
    """Return the processor time that processes have used."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime (proc_pid_stat(5))
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dir", default="/dev/shm", help="where layers are (default: %(default)s)")
    parser.add_argument("--files", type=int, default=500, help="in each layer")
    parser.add_argument("--average", type=int, default=40_000, help="size of a file in bytes")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for driver in DRIVERS:
        how = arguments.files, arguments.average, arguments.rounds
        print(measure(driver, arguments.dir, *how), flush=True)


if __name__ == "__main__":
    main()
