"""A real daemon's work on a driver of ours and on Docker's own of that name, in one run.

    PYTHONPATH=. python benchmarks/daemon.py [DRIVER] [--rounds N] [--dir DIR] [--opt KEY=VALUE]

Wall times of load, ten runs, a classic build and save of a Debian image made by debootstrap. The two
daemons take turns, in DIR or on tmpfs where there is room; medians and their ratio are printed.
DIR's path is short: a daemon's sockets lie below it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.debian import root_filesystem
from tests.e2e.engines import Engines
from tests.support.daemon import Daemon
from tests.support.ground import find_docker

DOCKERFILE = """\
FROM debian:made
RUN rm -r /usr/share/doc
COPY Dockerfile /srv/Dockerfile
RUN cp -a /usr/share/zoneinfo /srv/zoneinfo
"""


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def one_round(daemon: Daemon, image: Path, context: Path) -> dict[str, float]:
    """Do everything once, and leave the daemon as it was."""
    times = {"load": timed(lambda: daemon.docker("load", "--input", str(image)))}

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


def main() -> None:
    """Start both, take turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("driver", nargs="?", default="overlay2", metavar="DRIVER")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--opt", default="", help="for our plugin: sync=none")
    parser.add_argument("--dir", default="", help="where the daemons keep their layers")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir or None) as name:
        directory = Path(name)
        context = directory / "context"
        context.mkdir()
        (context / "Dockerfile").write_text(DOCKERFILE)
        image = directory / "image.tar"
        engines = Engines(find_docker(), directory, arguments.dir)
        options = ["--opt", arguments.opt] if arguments.opt else []
        driver = arguments.driver
        with (
            engines.on_plugin(driver, options=options) as (ours, _),
            engines.on_driver(driver) as theirs,
        ):
            ours.docker("import", str(root_filesystem()), "debian:made")
            ours.docker("save", "--output", str(image), "debian:made")
            ours.docker("rmi", "debian:made")
            rounds: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
            sides = [("ours", ours), ("theirs", theirs)]
            for _ in range(arguments.rounds):
                for side, daemon in sides:
                    rounds[side].append(one_round(daemon, image, context))
                sides.reverse()
    rows = []
    print(f"{driver:<10}{'ours':>10}{'Docker':>10}{'ratio':>8}   median seconds")
    for work in rounds["ours"][0]:
        mine = statistics.median(one[work] for one in rounds["ours"])
        other = statistics.median(one[work] for one in rounds["theirs"])
        rows.append({"work": work, "ours_s": mine, "theirs_s": other, "ratio": mine / other})
        print(f"{work:<10}{mine:>10.2f}{other:>10.2f}{mine / other:>8.2f}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
