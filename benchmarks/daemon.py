"""A real daemon's work on drivers of ours and on one of Docker's own, in one run.

    PYTHONPATH=. python benchmarks/daemon.py [DRIVER ...] [--built-in NAME] [--dir DIR | --memory]
        [--load]

Wall times of load, ten runs, a classic build and save of an image: a Debian made by debootstrap, and a
layer of many files. The daemons take turns, and nothing waits to be written when a turn begins. Printed
are medians, and their ratio to that of Docker's own driver; the aims are those of the driver erofs. DIR
is on a disk, and its path is short: a daemon's sockets lie below it. With ``--memory`` the daemons use
an ext4 in memory instead.

A load is timed twice: until the answer, and until it is on the disk as well, since Docker's own driver
leaves the writing to the kernel. *Floor* is a driver that keeps nothing (`benchmarks.floor`), and shows
how long the daemon's own work takes. With ``--load`` nothing else is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.ground import add_options, ground
from benchmarks.tars import mixed_files

from tests.e2e.debian import root_filesystem
from tests.e2e.engines import Engines
from tests.support.daemon import Daemon
from tests.support.ground import find_docker
from tests.support.images import image_archive

DOCKERFILE = """\
FROM debian:made
RUN rm -r /usr/share/doc
COPY Dockerfile /srv/Dockerfile
RUN cp -a /usr/share/zoneinfo /srv/zoneinfo
"""

DRIVER = "erofs"
AIMS = {"run x10": 1.1, "build": 1.1}
"""At most so many times the seconds of Docker's own driver; for load see `LOAD`."""

FLOOR = "floor"

LOAD = {"on a disk": 0.45, "in memory": 0.85}


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that work takes, begun when nothing waits to be written."""
    subprocess.run(["sync"], check=True)
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def loaded(daemon: Daemon, image: Path, base: str) -> dict[str, float]:
    """Load the image; return the seconds until the answer, and until all is on the disk."""
    times = {"load": timed(lambda: daemon.docker("load", "--input", str(image)))}
    started = time.perf_counter()
    subprocess.run(["sync", "--file-system", base], check=True)
    times["load and sync"] = times["load"] + time.perf_counter() - started
    return times


def only_loaded(daemon: Daemon, image: Path, base: str) -> dict[str, float]:
    """Load the image, and remove it."""
    times = loaded(daemon, image, base)
    daemon.docker("rmi", "debian:made")
    return times


def one_round(daemon: Daemon, image: Path, base: str, context: Path) -> dict[str, float]:
    """Do everything once, and leave the daemon as it was."""
    times = loaded(daemon, image, base)

    def run_ten() -> None:
        for _ in range(10):
            daemon.run("debian:made", "true")

    times["run x10"] = timed(run_ten)
    build = ["build", "--no-cache", "--network=none", "--tag=built", str(context)]
    times["build"] = timed(lambda: daemon.docker(*build))
    saved = context.parent / "saved.tar"
    times["save"] = timed(lambda: daemon.docker("save", "--output", str(saved), "built"))
    saved.unlink()
    daemon.docker("rmi", "built", "debian:made")
    return times


def make_image(path: Path, files: int) -> None:
    """Write what ``docker load`` reads: a Debian, and a layer of so many files, 7 kB on average."""
    layers = [root_filesystem().read_bytes()]
    if files:
        layers.append(mixed_files(path.with_name("layer.tar"), files, 7000).read_bytes())
    image_archive(path, "debian:made", layers)


def main() -> None:
    """Start all, take turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("drivers", nargs="*", default=["overlay2"], metavar="DRIVER")
    parser.add_argument(
        "--built-in", default="overlay2", metavar="NAME", help="Docker's own driver"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=83_000, help="in the image's second layer")
    parser.add_argument("--load", action="store_true", help="measure nothing else")
    parser.add_argument("--opt", default="", help="for our plugins: sync=none")
    add_options(parser)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    built_in = f"Docker's {arguments.built_in}"
    options = ["--opt", arguments.opt] if arguments.opt else []
    with (
        ground(arguments) as base,
        tempfile.TemporaryDirectory(dir=base) as name,
        contextlib.ExitStack() as stack,
    ):
        directory = Path(name)
        context = directory / "context"
        context.mkdir()
        (context / "Dockerfile").write_text(DOCKERFILE)
        image = directory / "image.tar"
        make_image(image, arguments.files)
        engines = Engines(find_docker(), directory, base, {})  # all on the same filesystem
        daemons = {built_in: stack.enter_context(engines.on_driver(arguments.built_in))}
        for driver in arguments.drivers:
            daemons[driver], _ = stack.enter_context(engines.on_plugin(driver, options=options))
        # Without a sync, which would write the daemon's own files for it.
        nothing = engines.on_plugin("benchmarks.floor:KeepsNothing", options=["--opt", "sync=none"])
        daemons[FLOOR], _ = stack.enter_context(nothing)
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in daemons}
        turns = list(daemons.items())
        for _ in range(arguments.rounds):
            for side, daemon in turns:
                if arguments.load or side == FLOOR:
                    times = only_loaded(daemon, image, base)
                else:
                    times = one_round(daemon, image, base, context)
                rounds[side].append(times)
            turns.reverse()
    aims = {"load": LOAD["in memory" if arguments.memory else "on a disk"], **AIMS}
    rows = []
    for work in rounds[built_in][0]:
        print(work)
        median = {
            name: statistics.median(one[work] for one in of)
            for name, of in rounds.items()
            if work in of[0]
        }
        for name, seconds in median.items():
            ratio = seconds / median[built_in]
            rows.append({"work": work, "driver": name, "seconds": seconds, "ratio": ratio})
            aim = f" (aim: at most {aims[work]})" if name == DRIVER and work in aims else ""
            beside = "" if name == built_in else f"   {ratio:.2f} x {built_in}{aim}"
            print(f"    {name:<22}{seconds:8.2f} s{beside}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
