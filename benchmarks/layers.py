"""Layers through a plugin's socket, as a daemon sends and reads them, beside tar programs.

    PYTHONPATH=. python benchmarks/layers.py [DRIVER] [--dir DIR] [--rounds N] [--json FILE]
    PYTHONPATH=. python benchmarks/layers.py --beside ../before/.venv/bin/python --rounds 20

The first prints for each piece of work the plugin's seconds (ApplyDiff in chunks of 32 KiB, Diff read
to its end), those of GNU tar, bsdtar and Python's tarfile on the same bytes, and the ratio to GNU tar
(for Changes: to ``find`` over both trees). All take turns; medians.

The second compares two commits: this one and that of another checkout, which has an environment
of its own (``git worktree add ../before COMMIT``, then ``make -C ../before .venv/.ready``). They take
turns, and each round one is first that was second before. For the second half of the rounds both start
again in new homes, in the other order: the one that starts first gets the better memory. It prints the
median of the rounds' ratios, above 1 where this commit takes longer: of the seconds that a call takes,
and of the processor time of the plugin, which is the better measure on a machine that has other work.

Unless DIR is given, layers and trees are on a tmpfs made for this run. The plugin syncs as shipped
(``--opt sync=none`` is passed on).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.plugin import Plugin, send_chunks, served
from benchmarks.programs import EXTRACT, PACK, Places, extract, packed, timed, write
from benchmarks.tars import big_file, small_files, whiteouts

from tests.e2e.debian import root_filesystem

Work = dict[str, Callable[[], float]]
Round = tuple[tuple[float, float], tuple[float, float]]
"""Seconds and processor time of this commit and of the other one."""


def receive(connection: socket.socket, path: str) -> None:
    """Write what arrives to a file, and report that; with an empty path, discard it."""
    buffer = memoryview(bytearray(128 << 10))
    with open(path or os.devnull, "wb", buffering=0) as file:
        while size := connection.recv_into(buffer):
            if path:
                file.write(buffer[:size])
    connection.sendall(b"done")


def floor(tar: Path, path: str) -> float:
    """Return the seconds to send a tar to a process that only does `receive`."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        receiver = multiprocessing.Process(target=receive, args=(theirs, path))
        receiver.start()
        started = time.perf_counter()
        send_chunks(ours, tar)
        ours.shutdown(socket.SHUT_WR)
        assert ours.recv(4) == b"done"
        took = time.perf_counter() - started
        receiver.join()
    return took


def extracting(plugin: Plugin, places: Places, tar: Path, parent: str = "") -> Work:
    """Ways to write a layer."""

    def ours() -> float:
        id = plugin.new(parent)
        took = plugin.apply(id, parent, tar)
        plugin.client.remove(id)
        return took

    def other(command: Sequence[str]) -> Callable[[], float]:
        def run() -> float:
            place = places.fresh()
            took = extract(tar, place, command)
            shutil.rmtree(place)
            return took

        return run

    def by_tarfile() -> float:
        place = places.fresh()
        started = time.perf_counter()
        with tarfile.open(tar) as archive:
            archive.extractall(place, filter="fully_trusted")
        took = time.perf_counter() - started
        shutil.rmtree(place)
        return took

    return {
        "plugin": ours,
        "tar": other(EXTRACT),
        "bsdtar": other(["bsdtar", "-x", "-p"]),
        "tarfile": by_tarfile,
    }


def extracting_one(plugin: Plugin, places: Places, tar: Path) -> Work:
    """Ways to write a big file; also only to send it, only to write it, and both.

    Before each turn as much is written and removed. A virtual machine gets memory at the first touch
    and loses it when it was free for a second: that is chance, and costs more than the work.
    """
    size = tar.stat().st_size

    def in_place(work: Callable[[str], float]) -> Callable[[], float]:
        def run() -> float:
            place = places.fresh()
            took = work(f"{place}/big")
            shutil.rmtree(place)
            return took

        return run

    def with_memory_at_hand(work: Callable[[], float]) -> Callable[[], float]:
        def run() -> float:
            in_place(lambda path: write(path, size))()
            return work()

        return run

    ways = {
        **extracting(plugin, places, tar),
        "sent": lambda: floor(tar, ""),
        "written": in_place(lambda path: write(path, size)),
        "sent and written": in_place(lambda path: floor(tar, path)),
    }
    return {way: with_memory_at_hand(work) for way, work in ways.items()}


def packing(plugin: Plugin, places: Places, tar: Path) -> Work:
    """Ways to read a layer."""
    id = plugin.new()
    plugin.apply(id, "", tar)
    tree = places.fresh()
    extract(tar, tree)

    def by_tarfile() -> float:
        started = time.perf_counter()
        with tarfile.open(fileobj=Nowhere(), mode="w|") as archive:
            archive.add(tree, ".")
        return time.perf_counter() - started

    def other(command: Sequence[str]) -> Callable[[], float]:
        return lambda: packed(command, tree)

    return {
        "plugin": lambda: plugin.diff(id, ""),
        "tar": other(PACK),
        "bsdtar": other(["bsdtar", "-c", "-f", "-"]),
        "tarfile": by_tarfile,
    }


class Nowhere(io.RawIOBase):
    """A file that discards what is written to it."""

    def write(self, data: object, /) -> int:
        """Discard it."""
        return len(data)  # type: ignore[arg-type]


def comparing(plugin: Plugin, places: Places, tar: Path) -> Work:
    """One change in many files."""
    parent = plugin.new()
    plugin.apply(parent, "", tar)
    child = plugin.new(parent)
    path = plugin.client.get(child, "")
    with open(f"{path}/directory7/file7", "a", encoding="ascii") as file:
        file.write("more")
    plugin.client.put(child)
    one, other = places.fresh(), places.fresh()
    for place in (one, other):
        extract(tar, place)

    def ours() -> float:
        started = time.perf_counter()
        found = plugin.client.changes(child, parent)
        assert [change.path for change in found] == ["/directory7", "/directory7/file7"]
        return time.perf_counter() - started

    listing = ["find", one, other, "-printf", "%p %i %s %T@ %m %U %G\\n"]
    return {"plugin": ours, "find": lambda: timed(listing, stdout=subprocess.DEVNULL)}


def living(plugin: Plugin, tar: Path) -> Work:
    """Create a thousand layers on one; get, put and remove each."""
    parent = plugin.new()
    plugin.apply(parent, "", tar)

    def ours() -> float:
        started = time.perf_counter()
        for number in range(1000):
            id = f"short{number}"
            plugin.client.create_read_write(id, parent, "", {})
            plugin.client.get(id, "")
            plugin.client.put(id)
            plugin.client.remove(id)
        return time.perf_counter() - started

    return {"plugin": ours}


def works(
    plugin: Plugin, places: Places, directory: Path, only: str, memory: Path | None
) -> Iterator[tuple[str, Work, str]]:
    """Yield each piece of work: its name, the ways to do it, and the way to compare with.

    ``memory`` is the tmpfs of this run. There, the memory that a big file gets by chance makes reading
    it up to a half slower; huge pages do not. A small file would take a whole huge page.
    """
    set_huge_pages(memory, "never")
    small = small_files(directory / "small.tar", 20_000, 1000)
    if only in "apply 20,000 small files":
        yield "apply 20,000 small files", extracting(plugin, places, small), "tar"
    if only in "diff 20,000 small files":
        yield "diff 20,000 small files", packing(plugin, places, small), "tar"
    if only in "apply a Debian tree":
        yield "apply a Debian tree", extracting(plugin, places, root_filesystem()), "tar"
    if only in "diff a Debian tree":
        yield "diff a Debian tree", packing(plugin, places, root_filesystem()), "tar"
    if only in "apply 10,000 whiteouts":
        parent = plugin.new()
        plugin.apply(parent, "", small)
        tar = whiteouts(directory / "whiteouts.tar", 10_000)
        yield "apply 10,000 whiteouts", extracting(plugin, places, tar, parent), "tar"
    if only in "changes, one in 50,000 files":
        many = small_files(directory / "many.tar", 50_000, 100)
        yield "changes, one in 50,000 files", comparing(plugin, places, many), "find"
    if only in "create, get, put, remove x1000":
        yield "create, get, put, remove x1000", living(plugin, small), "plugin"
    big = directory / "big.tar"
    if only in "apply a file of 2 GB":
        yield "apply a file of 2 GB", extracting_one(plugin, places, big_file(big, 2 << 30)), "tar"
    set_huge_pages(memory, "always")
    if only in "diff a file of 2 GB":
        yield "diff a file of 2 GB", packing(plugin, places, big_file(big, 2 << 30)), "tar"


@contextlib.contextmanager
def in_memory() -> Iterator[Path]:
    """Mount a tmpfs."""
    with tempfile.TemporaryDirectory(prefix="gd-") as directory:
        subprocess.run(["mount", "-t", "tmpfs", "gd", directory], check=True)
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True)


def set_huge_pages(memory: Path | None, when: str) -> None:
    """Set when a tmpfs takes huge pages for the files that are made from now on."""
    if memory:
        subprocess.run(["mount", "-o", f"remount,huge={when}", memory], check=True)


def beside_programs(
    arguments: argparse.Namespace, directory: Path, tars: Path, memory: Path | None
) -> dict[str, object]:
    """Compare the plugin with other programs; print, and return what was found."""
    rows = []
    with served(arguments.driver, directory, arguments.opt) as plugin:
        for work, ways, peer in works(plugin, Places(directory), tars, arguments.only, memory):
            times: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(arguments.rounds):
                for way, run in ways.items():
                    times[way].append(run())
            medians = {way: statistics.median(all) for way, all in times.items()}
            pairs = zip(times["plugin"], times[peer], strict=True)
            ratio = statistics.median(mine / other for mine, other in pairs)
            rows.append({"work": work, "seconds": medians, "ratio": ratio, "to": peer})
            listed = "  ".join(f"{way} {seconds:.3f}" for way, seconds in medians.items())
            print(f"{work:<32} {ratio:5.2f} x {peer:<7} ({listed})", flush=True)
        peak = plugin.peak()
        print(f"the plugin's peak memory: {peak:.0f} MB")
    return {"rows": rows, "peak_mb": peak}


def beside_commit(
    arguments: argparse.Namespace, directory: Path, tars: Path, memory: Path | None
) -> dict[str, object]:
    """Compare the plugin with another commit's; print, and return what was found."""
    pythons = {"this": sys.executable, "other": arguments.beside}
    rounds: dict[str, list[Round]] = {}
    for order in (("this", "other"), ("other", "this")):
        with contextlib.ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=directory)))
            plugins = {
                name: stack.enter_context(
                    served(arguments.driver, home / name, arguments.opt, pythons[name])
                )
                for name in order
            }
            lists = [
                works(plugins[name], Places(home), tars, arguments.only, memory) for name in order
            ]
            for listed in zip(*lists, strict=True):
                work = listed[0][0]
                runs = {name: one[1]["plugin"] for name, one in zip(order, listed, strict=True)}
                for number in range((arguments.rounds + 1) // 2):
                    turn = order if number % 2 else order[::-1]
                    took = {name: measured(plugins[name], runs[name]) for name in turn}
                    rounds.setdefault(work, []).append((took["this"], took["other"]))
    for work, all in rounds.items():
        report(work, all)
    return {"rows": [{"work": work, "rounds": all} for work, all in rounds.items()]}


def measured(plugin: Plugin, run: Callable[[], float]) -> tuple[float, float]:
    """Return the seconds that a run takes, and the plugin's processor time."""
    before = plugin.settled()
    took = run()
    return took, plugin.settled() - before


def report(work: str, rounds: list[Round]) -> None:
    """Print the medians of a work's rounds."""
    seconds, processor = (
        statistics.median(this[which] / other[which] for this, other in rounds) for which in (0, 1)
    )
    took, worked = (statistics.median(this[which] for this, _ in rounds) for which in (0, 1))
    print(
        f"{work:<32} {seconds:6.3f} of the seconds, {processor:6.3f} of the processor time"
        f" ({took:.3f} s, {worked:.3f} s)"
    )


def main() -> None:
    """Serve, take turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("driver", nargs="?", default="overlay2", metavar="DRIVER")
    parser.add_argument("--dir", help="where layers and trees are kept")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", metavar="WORK", help="a part of a work's name")
    parser.add_argument("--beside", metavar="PYTHON", help="of another commit's environment")
    parser.add_argument("--opt", action="append", default=[], help="for the plugin")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    compare = beside_commit if arguments.beside else beside_programs
    with (
        contextlib.nullcontext() if arguments.dir else in_memory() as memory,
        tempfile.TemporaryDirectory(dir=memory or arguments.dir, prefix="gd-") as name,
        tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as tars,
    ):
        found = compare(arguments, Path(name), Path(tars), memory)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=2)


if __name__ == "__main__":
    main()
