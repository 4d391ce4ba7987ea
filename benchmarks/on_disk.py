"""Our drivers on a disk, beside GNU tar and one another, with the aims of the driver erofs.

    PYTHONPATH=. python benchmarks/on_disk.py [DRIVER ...] [--dir DIR] [--rounds N] [--only WORK]

For each piece of work it prints a line for each driver (erofs and overlay2 unless others are named)
and for each other program: the median of the seconds, and the median of the rounds' ratios to the
program that the line names (to the slower of two). All take turns in DIR, which is on a disk and is
synced before each turn. Plugins sync as shipped, and tar's files are synced as well where the line says
so.

For the work called "cold" it empties the kernel's caches (``/proc/sys/vm/drop_caches``): measure
nothing else on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.plugin import Plugin, served
from benchmarks.programs import PACK, Places, extract, packed, timed, write
from benchmarks.tars import big_file, chain, small_files

from tests.e2e.debian import root_filesystem
from tests.support.filesystems import loop

DRIVER = "erofs"
"""The driver that the aims are for."""

LAYERS = 125
"""How many a container stands on. Docker's own overlay2 takes no more."""

Way = Callable[[], float]
Ways = dict[str, Way]


class Ground:
    """A directory of one filesystem, and a plugin for each driver with its home in it."""

    def __init__(self, directory: Path, plugins: dict[str, Plugin]) -> None:
        self.directory = directory
        self.plugins = plugins
        self.places = Places(directory)

    @classmethod
    @contextlib.contextmanager
    def within(cls, above: Path, drivers: Sequence[str], options: list[str]) -> Iterator[Ground]:
        """Serve each driver in a new directory."""
        with (
            tempfile.TemporaryDirectory(dir=above, prefix="gd-") as name,
            contextlib.ExitStack() as stack,
        ):
            directory = Path(name)
            plugins = {
                driver: stack.enter_context(served(driver, directory / driver, options))
                for driver in drivers
            }
            yield cls(directory, plugins)

    def each(self, way: Callable[[Plugin], Way]) -> Ways:
        """Return a way for each driver."""
        return {driver: way(plugin) for driver, plugin in self.plugins.items()}

    def settle(self) -> None:
        """Wait until no plugin has work behind an answer, and nothing waits to be written."""
        for plugin in self.plugins.values():
            plugin.settled()
        self.sync()

    def sync(self) -> None:
        """Write all that waits."""
        subprocess.run(["sync", "--file-system", str(self.directory)], check=True)


@dataclass(frozen=True)
class Work:
    """One piece of work, the ways to do it, and what is aimed at."""

    name: str
    ground: Ground
    ways: Ways
    peers: Sequence[str] = ()
    """Compare with the slowest of these ways."""
    ratio: float | None = None
    """At most so many times the peer's seconds."""
    seconds: float | None = None
    """At most so many."""
    size: int = 0
    """Bytes that are moved, where there is a rate."""
    rate: float | None = None
    """At least so many gigabytes a second."""


def applying(ground: Ground, tar: Path) -> Ways:
    """Ways of our drivers to write a layer until it is on the disk."""

    def ours(plugin: Plugin) -> Way:
        def run() -> float:
            id = plugin.new()
            took = plugin.apply(id, "", tar)
            plugin.client.remove(id)
            return took

        return run

    return ground.each(ours)


def extracting(ground: Ground, tar: Path, *, is_synced: bool) -> Ways:
    """GNU tar's way, with a sync and without."""

    def run() -> float:
        place = ground.places.fresh()
        started = time.perf_counter()
        extract(tar, place)
        if is_synced:
            ground.sync()
        took = time.perf_counter() - started
        shutil.rmtree(place)
        return took

    return {"tar, synced" if is_synced else "tar": run}


def applying_one(ground: Ground, tar: Path) -> Ways:
    """Ways to write a layer of one big file; also only to write the tar, and only to hash it.

    Before each turn as much is written and removed. A virtual machine gets memory at the first touch
    and loses it when it was free for a second: that is chance, and costs more than the work.
    """
    size = tar.stat().st_size

    def copy() -> float:
        place = ground.places.fresh()
        took = timed(["sh", "-c", 'cat "$1" > "$2" && sync "$2"', "sh", str(tar), f"{place}/big"])
        shutil.rmtree(place)
        return took

    def hash() -> float:
        started = time.perf_counter()
        with open(tar, "rb") as file:
            hashlib.file_digest(file, "sha256")
        return time.perf_counter() - started

    def with_memory_at_hand(way: Way) -> Way:
        def run() -> float:
            place = ground.places.fresh()
            write(f"{place}/big", size)
            shutil.rmtree(place)
            return way()

        return run

    ways = {**applying(ground, tar), "cat, synced": copy, "sha256": hash}
    return {name: with_memory_at_hand(way) for name, way in ways.items()}


def packing(ground: Ground, tar: Path) -> Ways:
    """Ways to read a layer that was applied, all of it in memory."""

    def ours(plugin: Plugin) -> Way:
        id = plugin.new()
        plugin.apply(id, "", tar)
        return lambda: plugin.diff(id, "")

    tree = ground.places.fresh()
    extract(tar, tree)
    return {**ground.each(ours), "tar": lambda: packed(PACK, tree)}


def removing(ground: Ground, tar: Path) -> Ways:
    """Remove a layer, until the answer."""

    def ours(plugin: Plugin) -> Way:
        def run() -> float:
            id = plugin.new()
            plugin.apply(id, "", tar)
            plugin.settled()
            started = time.perf_counter()
            plugin.client.remove(id)
            return time.perf_counter() - started

        return run

    return ground.each(ours)


def mounting(ground: Ground, tops: dict[str, str], *, is_first: bool) -> Ways:
    """Get a new container's layer on many, of which none is mounted before, or all."""

    def ours(plugin: Plugin, top: str) -> Way:
        def run() -> float:
            plugin.client.create_read_write("container", top, "", {})
            if is_first:
                plugin.unmounted()
            started = time.perf_counter()
            plugin.client.get("container", "")
            took = time.perf_counter() - started
            plugin.client.put("container")
            plugin.client.remove("container")
            return took

        return run

    return {driver: ours(plugin, tops[driver]) for driver, plugin in ground.plugins.items()}


def reading(ground: Ground, tar: Path, *, is_cold: bool) -> Ways:
    """Read every file of a container, with nothing of it in memory, or all."""

    def ours(plugin: Plugin) -> Way:
        image = plugin.new()
        plugin.apply(image, "", tar)
        tree = plugin.client.get(plugin.new(image), "")

        def run() -> float:
            if is_cold:
                ground.sync()
                with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
                    file.write("3")
            else:
                packed(PACK, tree)
            return packed(PACK, tree)

        return run

    return ground.each(ours)


def layers_on_layers(plugin: Plugin, tars: Sequence[Path]) -> str:
    """Apply each tar to a layer on the one before; return the ID of the last."""
    id = ""
    for tar in tars:
        parent, id = id, plugin.new(id)
        plugin.apply(id, parent, tar)
    return id


def works(ground: Ground, tars: Path, arguments: argparse.Namespace) -> Iterator[Work]:
    """Yield each piece of work that is wanted."""

    def wanted(name: str) -> bool:
        return arguments.only in name

    small = small_files(tars / "small.tar", 20_000, 3000)
    debian = root_filesystem()
    if wanted(name := "apply 20,000 small files"):
        ways = applying(ground, small) | extracting(ground, small, is_synced=True)
        yield Work(name, ground, ways, ["tar, synced"], ratio=0.3)
    if wanted(name := "apply a Debian tree"):
        ways = applying(ground, debian) | extracting(ground, debian, is_synced=True)
        yield Work(name, ground, ways, ["tar, synced"], ratio=0.4)
    if wanted(name := "apply 20,000 small files in memory"):
        with (
            loop("ext4", tars, 4 << 30) as memory,
            Ground.within(memory, list(ground.plugins), arguments.opt) as in_memory,
        ):
            ways = applying(in_memory, small) | extracting(in_memory, small, is_synced=False)
            yield Work(name, in_memory, ways, ["tar"], ratio=1.0)
    for name, tar, ratio in (
        ("diff 20,000 small files", small, 0.2),
        ("diff a Debian tree", debian, 0.2),
    ):
        if wanted(name):
            size = tar.stat().st_size
            yield Work(
                name, ground, packing(ground, tar), ["tar"], ratio=ratio, size=size, rate=1.5
            )
    if wanted(name := "remove 65,000 files"):
        many = small_files(tars / "many.tar", 65_000, 100)
        yield Work(name, ground, removing(ground, many), seconds=0.01)
    names = [f"get a container on {LAYERS} layers, {state}" for state in ("unmounted", "mounted")]
    if any(map(wanted, names)):
        links = chain(tars, LAYERS)
        tops = {
            driver: layers_on_layers(plugin, links) for driver, plugin in ground.plugins.items()
        }
        if wanted(names[0]):
            yield Work(names[0], ground, mounting(ground, tops, is_first=True), seconds=0.15)
        if wanted(names[1]):
            for driver, plugin in ground.plugins.items():
                plugin.client.get(plugin.new(tops[driver]), "")
            yield Work(names[1], ground, mounting(ground, tops, is_first=False), seconds=0.01)
    for name, is_cold in (("read a Debian tree, cold", True), ("read a Debian tree, warm", False)):
        if wanted(name):
            yield Work(
                name, ground, reading(ground, debian, is_cold=is_cold), ["overlay2"], ratio=1.0
            )
    names = ["apply a file of 2 GB", "diff a file of 2 GB"]
    if any(map(wanted, names)):
        big = big_file(tars / "big.tar", 2 << 30)
        size = big.stat().st_size
        if wanted(names[0]):
            yield Work(
                names[0], ground, applying_one(ground, big), ["cat, synced", "sha256"], ratio=1.2
            )
        if wanted(names[1]):
            yield Work(names[1], ground, packing(ground, big), ["tar"], size=size, rate=1.5)


def measured(work: Work, rounds: int) -> dict[str, list[float]]:
    """Take turns; return each way's seconds."""
    times: dict[str, list[float]] = {way: [] for way in work.ways}
    turns = list(work.ways.items())
    for _ in range(rounds):
        for way, run in turns:
            work.ground.settle()
            times[way].append(run())
        turns.reverse()
    return times


def lines(work: Work, times: dict[str, list[float]]) -> Iterator[str]:
    """Yield a line for each way: what was found, and the aim."""
    peers = [times[peer] for peer in work.peers if peer in times]
    yield work.name
    for way, seconds in times.items():

        def aim(text: str, way: str = way) -> str:
            return f" (aim: {text})" if way == DRIVER else ""

        median = statistics.median(seconds)
        figures = [f"{median:9.4f} s"]
        if work.seconds:
            figures[0] += aim(f"at most {work.seconds} s")
        if peers and way not in work.peers:
            slowest = [max(turns) for turns in zip(*peers, strict=True)]
            ratio = statistics.median(a / b for a, b in zip(seconds, slowest, strict=True))
            bound = aim(f"at most {work.ratio}") if work.ratio else ""
            figures.append(f"{ratio:.2f} x {' or '.join(work.peers)}{bound}")
        if work.rate:
            rate = work.size / median / 1e9
            figures.append(f"{rate:.2f} GB/s{aim(f'at least {work.rate}')}")
        yield f"    {way:<14}{'   '.join(figures)}"


def main() -> None:
    """Serve, take turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("drivers", nargs="*", default=["erofs", "overlay2"], metavar="DRIVER")
    parser.add_argument("--dir", default="/var/tmp", help="on a disk (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", metavar="WORK", help="a part of a work's name")
    parser.add_argument("--opt", action="append", default=[], help="for the plugins")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    rows = []
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as tars,
        Ground.within(Path(arguments.dir), arguments.drivers, arguments.opt) as ground,
    ):
        for work in works(ground, Path(tars), arguments):
            times = measured(work, arguments.rounds)
            rows.append({"work": work.name, "peers": work.peers, "seconds": times})
            print("\n".join(lines(work, times)), flush=True)
        for driver, plugin in ground.plugins.items():
            print(f"peak memory of {driver}: {plugin.peak():.0f} MB")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
