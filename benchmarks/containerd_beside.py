"""Our snapshotters beside containerd's own, overlayfs and erofs, in one run.

    PYTHONPATH=. tests/with_engines_of sid .venv/bin/python benchmarks/containerd_beside.py
        [--dir DIR | --memory] [--files N] [--root-files N] [--average BYTES] [--rounds N] [--json FILE]

One containerd has all four: overlay2 and erofs of ours with their diff service, and its own with its
differs. An image of ten layers is imported, its layers plain, compressed by gzip and by zstd. Each time
it is printed

- when ``ctr image import`` ended, and when all was on disk: containerd's own snapshotters leave that to
  the kernel, ours do not answer before;
- how much processor time the daemons took until then, which other work on the machine changes less;
- how much disk is used, by blobs and snapshots;
- how long the first container takes that does nothing.

Then ten files are changed in a snapshot on a larger image, and the calls of a commit are made: *diff*
is the layer of what was changed, *commit* that and a snapshot of it, as nerdctl makes it. The
snapshotters take turns; printed are medians, and their ratio to overlayfs. Needs containerd 2.1 or
later, with erofs-utils.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.ground import add_options, ground

from graphdriver.conformance.plugin import tars
from graphdriver.conformance.snapshotter.calls import GZIP, Calls, DiffCalls
from graphdriver.containerd.diff.content import LEASE, NAMESPACE
from tests.support.containerd import IMAGE, Containerd
from tests.support.containerd_images import busybox, chain_id, write_oci_image
from tests.support.mounting import mounted
from tests.support.snapshotter import on_driver

LAYERS = 10
CHANGED = 10
OURS = ("overlay2", "erofs")
BESIDE = "overlayfs"
FORMATS = {"plain": "", "gzip": "gzip", "zstd": "zstd"}

_CONFIG = """\
version = 3
root = "{place}/root"
state = "{place}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]

[grpc]
address = "{place}/c.sock"

[plugins."io.containerd.gc.v1.scheduler"]
schedule_delay = "0ms"

[plugins."io.containerd.service.v1.diff-service"]
default = {differs}
"""
_PROXY = """
[proxy_plugins.{name}]
type = "snapshot"
address = "{address}"

[proxy_plugins.{name}-diff]
type = "diff"
address = "{address}"
"""
_UNPACK = """
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux/amd64"
snapshotter = "{name}"
differ = "{differ}"
"""


def make_layers(files: int, average: int) -> list[bytes]:
    """Return ten layers: a shell, and so many files from empty to twice an average size."""
    # Compressed it has half its size, as programs have.
    pool = os.urandom(4 << 20).hex().encode()
    layers = [busybox()]
    for layer in range(1, LAYERS):
        entries = [tars.directory(b"%d" % layer)]
        for number in range(files // (LAYERS - 1)):
            if number % 100 == 0:
                entries.append(tars.directory(b"%d/%d" % (layer, number // 100)))
            at = (layer * files + number) * 7919
            start, size = at % (len(pool) - 2 * average), at % (2 * average)
            name = b"%d/%d/%d" % (layer, number // 100, number % 100)
            entries.append(tars.file(name, pool[start : start + size]))
        layers.append(tars.tar(*entries))
    return layers


def used(place: Path) -> int:
    """Return the bytes of disk that blobs and snapshots take; mounts are not looked into."""
    command = ["du", "--summarize", "--one-file-system", "--block-size=1", str(place)]
    # It fails, and tells the sum, if a file is removed meanwhile.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0])


def processor_time(pids: Iterable[int]) -> float:
    """Return the seconds of processor time of processes, and of their children that have ended."""
    ticks = 0
    for pid in pids:
        _, _, fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        ticks += sum(map(int, fields.split()[11:15]))  # utime to cstime (proc_pid_stat(5))
    return ticks / os.sysconf("SC_CLK_TCK")


class Side:
    """A snapshotter of the containerd, whose work is measured.

    Args:
        containerd: the daemon.
        name: the snapshotter's; those of ours begin with ``our-``.
        place: the directory of all snapshots and blobs.
        pids: the processes of the daemon and of all snapshotters.

    Attributes:
        name: as given.
        figures: seconds, and megabytes of disk, by what was measured.
    """

    def __init__(self, containerd: Containerd, name: str, place: Path, pids: Sequence[int]) -> None:
        self._containerd = containerd
        self._socket = f"{place}/c.sock"
        self.name = name
        self._place = place
        self._pids = pids
        self.figures: dict[str, list[float]] = defaultdict(list)

    def import_image(self, archive: Path) -> None:
        """Import an image."""
        self._containerd.ctr("image", "import", "--snapshotter", self.name, str(archive))

    def measure_import(self, archive: Path, what: str) -> None:
        """Import an image, and run its first container."""
        self._all_is_written()
        before, busy = used(self._place), processor_time(self._pids)
        started = time.perf_counter()
        self.import_image(archive)
        self.figures[f"import, {what}"].append(time.perf_counter() - started)
        self._all_is_written()
        self.figures[f"import and sync, {what}"].append(time.perf_counter() - started)
        self.figures[f"processor, {what}"].append(processor_time(self._pids) - busy)
        self.figures[f"disk, {what}"].append((used(self._place) - before) / 1e6)
        started = time.perf_counter()
        words = ("run", "--rm", "--snapshotter", self.name, IMAGE, "one", "/bin/sh", "-c", ":")
        self._containerd.ctr(*words)
        self.figures["first container"].append(time.perf_counter() - started)

    def measure_commit(self, top: str) -> None:
        """Change files in a snapshot, and make the calls of a commit.

        Args:
            top: the committed snapshot below it.
        """
        lease = self._containerd.ctr("leases", "create").strip()
        headers = ((NAMESPACE, "default"), (LEASE, lease))
        with (
            contextlib.closing(Calls(self._socket)) as calls,
            contextlib.closing(DiffCalls(self._socket)) as diffs,
        ):
            calls.snapshotter, calls.metadata, diffs.metadata = self.name, headers, headers
            with mounted(calls.prepare("changed", top), self._place / "changed") as tree:
                for number in range(CHANGED):
                    with open(tree / f"{1 + number % (LAYERS - 1)}/0/{number}", "ab") as file:
                        file.write(b"changed")
            self._all_is_written()
            started = time.perf_counter()
            layer = diffs.diff(calls.view("lower", top), calls.mounts("changed"))
            calls.remove("lower")
            self.figures["diff"].append(time.perf_counter() - started)
            diffs.apply(layer.digest, calls.prepare("made", top), GZIP)
            calls.commit("committed", "made")
            self.figures["commit"].append(time.perf_counter() - started)
            for key in ("changed", "committed"):
                calls.remove(key)

    def remove_image(self) -> None:
        """Remove the image and all leases, and wait until no more disk space becomes free."""
        for lease in self._containerd.ctr("leases", "ls", "-q").split():
            self._containerd.ctr("leases", "rm", lease)
        self._containerd.ctr("image", "rm", "--sync", IMAGE)
        before, now = 0, used(self._place)
        while before != now:
            time.sleep(0.5)
            before, now = now, used(self._place)

    def _all_is_written(self) -> None:
        subprocess.run(["sync", "--file-system", str(self._place)], check=True)


@contextlib.contextmanager
def all_sides(place: Path) -> Iterator[list[Side]]:
    """Run a containerd with all snapshotters."""
    with contextlib.ExitStack() as held:
        pids: list[int] = []
        differs = [f"our-{driver}-diff" for driver in OURS]
        config = _CONFIG.format(place=place, differs=json.dumps([*differs, "erofs", "walking"]))
        for driver in OURS:
            directory = place / driver
            directory.mkdir()
            (directory / "c.sock").symlink_to(place / "c.sock")  # where it looks for containerd
            snapshotter = held.enter_context(on_driver(driver, directory))
            assert snapshotter.process
            pids.append(snapshotter.process.pid)
            config += _PROXY.format(name=f"our-{driver}", address=snapshotter.address)
            config += _UNPACK.format(name=f"our-{driver}", differ=f"our-{driver}-diff")
        for name, differ in (("overlayfs", "walking"), ("erofs", "erofs")):
            config += _UNPACK.format(name=name, differ=differ)
        containerd = held.enter_context(Containerd(place, "", config=config).running())
        pids.append(containerd.pid)
        names = ["overlayfs", "erofs", *(f"our-{driver}" for driver in OURS)]
        yield [Side(containerd, name, place, pids) for name in names]


def measure(place: Path, files: int, root_files: int, average: int, rounds: int) -> list[Side]:
    """Let all snapshotters work in turn; return them with their figures.

    Args:
        place: the directory of all files.
        files: how many the image has that is imported.
        root_files: how many the image has in which files are changed.
        average: the average size of a file, in bytes.
        rounds: how often all is done.
    """
    layers, root_layers = make_layers(files, average), make_layers(root_files, average)
    archives = {what: place / f"{what}.tar" for what in FORMATS}
    for what, compression in FORMATS.items():
        write_oci_image(archives[what], IMAGE, layers, compression)
    root = place / "root.tar"
    write_oci_image(root, IMAGE, root_layers)
    work = place / "work"
    work.mkdir()
    with all_sides(work) as sides:
        for _ in range(rounds):
            for what, archive in archives.items():
                for side in sides:
                    side.measure_import(archive, what)
                    side.remove_image()
                sides.reverse()
            for side in sides:
                side.import_image(root)
                side.measure_commit(chain_id(root_layers))
                side.remove_image()
            sides.reverse()
    return sides


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_options(parser)
    parser.add_argument("--files", type=int, default=20_000, help="in the image for imports")
    parser.add_argument("--root-files", type=int, default=66_000, help="in the image for commits")
    parser.add_argument("--average", type=int, default=4000, help="size of a file in bytes")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    with (
        ground(arguments) as base,
        tempfile.TemporaryDirectory(prefix="gdb-", dir=base) as name,
    ):
        how = arguments.files, arguments.root_files, arguments.average, arguments.rounds
        sides = measure(Path(name), *how)
    rows = []
    for what in sides[0].figures:
        print(what)
        unit = "MB" if what.startswith("disk") else "s"
        medians = {side.name: statistics.median(side.figures[what]) for side in sides}
        for name, median in medians.items():
            ratio = median / medians[BESIDE]
            rows.append({"what": what, "snapshotter": name, unit: median, "ratio": ratio})
            print(f"    {name:<14}{median:9.3f} {unit:<2}   {ratio:6.3f} x")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
