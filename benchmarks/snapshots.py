"""How long a snapshotter's calls take, with ten snapshots and with ten thousand, and a whole import.

    PYTHONPATH=. python benchmarks/snapshots.py [--driver NAME] [--dir DIR] [--many N] [--json FILE]

Prepare, Commit and Remove are called as containerd calls them, over gRPC, with a sync at each Commit
and without; the client is Python's and takes its share. So an empty call to an empty server is measured
with the same client, and what a call takes beyond it is printed as ``beyond_ms``. List and Cleanup are
measured with many snapshots. Then containerd imports one image of twenty thousand files onto the
snapshotter and onto its own overlayfs, in turn; the ratio of the medians is printed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from graphdriver.conformance.snapshotter.calls import Calls
from graphdriver.containerd.server import THREADS
from graphdriver.containerd.service import SERVICE
from tests.support.containerd import Containerd
from tests.support.containerd_images import ten_layers, write_image
from tests.support.snapshotter import Snapshotter

CALLS = 300
IMAGE = "docker.io/library/image:latest"


@contextlib.contextmanager
def served(above: str, driver: str, sync: str) -> Iterator[tuple[Path, Snapshotter]]:
    """Serve a driver in a directory of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="gds-", dir=above) as directory,
        Snapshotter(Path(directory), driver, "--opt", f"sync={sync}") as snapshotter,
    ):
        yield Path(directory), snapshotter


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def serve_nothing(address: str, ready: threading.Event) -> None:
    """Serve a Remove that does nothing, until the process is ended."""
    nothing: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
        lambda _request, _context: b""
    )
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"Remove": nothing}),)
    )
    server.add_insecure_port(f"unix:{address}")
    server.start()
    ready.set()
    server.wait_for_termination()


def empty_call() -> float:
    """Return the median of an empty call, in milliseconds."""
    processes = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="gds-") as directory:
        ready = processes.Event()
        server = processes.Process(target=serve_nothing, args=(f"{directory}/s", ready))
        server.start()
        try:
            ready.wait()
            calls = Calls(f"{directory}/s")
            times = [timed(lambda: calls.remove("nothing")) for _ in range(3 * CALLS)]
            calls.close()
        finally:
            server.terminate()
            server.join()
    return statistics.median(times) * 1e3


def rounds(calls: Calls, tag: str) -> dict[str, list[float]]:
    """Prepare, commit and remove a number of times on one snapshot."""
    times: dict[str, list[float]] = {"Prepare": [], "Commit": [], "Remove": []}
    for number in range(CALLS):
        key, name = f"{tag}-{number}", f"{tag}-{number}-committed"
        times["Prepare"].append(timed(lambda: calls.prepare(key, "base-0")))  # noqa: B023
        times["Commit"].append(timed(lambda: calls.commit(name, key)))  # noqa: B023
        times["Remove"].append(timed(lambda: calls.remove(name)))  # noqa: B023
    return times


def small_calls(above: str, driver: str, many: int) -> list[dict[str, object]]:
    """Measure the calls with few snapshots and with many."""
    rows: list[dict[str, object]] = []
    empty = empty_call()
    print(f"empty call  p50_ms {empty:.3f}", flush=True)
    for sync in ("layer", "none"):
        with served(above, driver, sync) as (_, snapshotter):
            calls = snapshotter.calls
            made = 0
            for count in (10, many) if sync == "none" else (10,):
                for number in range(made, count):
                    calls.prepare(f"active-{number}", "base-0" if number else "")
                    calls.commit(f"base-{number}", f"active-{number}")
                made = count
                for call, times in rounds(calls, f"of-{count}").items():
                    cuts = statistics.quantiles(times, n=100)
                    p50, p99 = round(cuts[49] * 1e3, 3), round(cuts[98] * 1e3, 3)
                    rows.append(
                        {
                            "call": call,
                            "snapshots": count,
                            "sync": sync,
                            "p50_ms": p50,
                            "p99_ms": p99,
                            "beyond_ms": round(p50 - empty, 3),
                        }
                    )
                    print("  ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
            if sync == "none":
                for call, work in (("List", calls.list), ("Cleanup", calls.cleanup)):
                    p50 = round(statistics.median(timed(work) for _ in range(5)) * 1e3, 1)
                    rows.append({"call": call, "snapshots": many, "sync": sync, "p50_ms": p50})
                    print("  ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    return rows


def imports(above: str, driver: str, times: int) -> dict[str, object]:
    """Import an image onto the driver and onto containerd's own overlayfs, in turn."""
    took: dict[str, list[float]] = {"ours": [], "overlayfs": []}
    with served(above, driver, "layer") as (directory, snapshotter):
        write_image(directory / "image.tar", "image:latest", ten_layers(20_000))
        with Containerd(directory, snapshotter.address).running() as containerd:
            for _ in range(times):
                for name, list_ in took.items():
                    words = ("image", "import", "--snapshotter", name, str(directory / "image.tar"))
                    list_.append(timed(lambda: containerd.ctr(*words)))  # noqa: B023
                    containerd.ctr("image", "rm", "--sync", IMAGE)
                    while containerd.snapshots(name):
                        time.sleep(0.1)
    ours, theirs = (statistics.median(took[name]) for name in ("ours", "overlayfs"))
    return {
        "import_s": round(ours, 3),
        "overlayfs_s": round(theirs, 3),
        "ratio": round(ours / theirs, 3),
    }


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--driver", default="overlay2")
    parser.add_argument("--dir", default="/dev/shm", help="where layers are (default: %(default)s)")
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--imports", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    rows = small_calls(arguments.dir, arguments.driver, arguments.many)
    rows.append(imports(arguments.dir, arguments.driver, arguments.imports))
    print("  ".join(f"{key} {value}" for key, value in rows[-1].items()))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
