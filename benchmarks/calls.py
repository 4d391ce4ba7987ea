"""How long a small call takes over the socket, and how many a plugin answers in a second.

    python benchmarks/calls.py [--calls N] [--json FILE]

It serves vfs in a process of its own, and calls Exists and Get as a daemon does, from one connection
and from eight. No Python client is in the way: requests are ready-made bytes. The floor is a process
that answers the same bytes without looking at them: what the kernel and the scheduler cost here.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from graphdriver import Client

WARM_UP = 200
"""Calls on each connection that are not counted."""


def request(call: str) -> bytes:
    """Return a call's bytes."""
    body = b'{"ID":"base"}'
    head = (
        f"POST /GraphDriver.{call} HTTP/1.1\r\nHost: plugin.moby.localhost\r\n"
        f"User-Agent: Go-http-client/1.1\r\nContent-Length: {len(body)}\r\n"
        "Accept: application/vnd.docker.plugins.v1.2+json\r\n\r\n"
    )
    return head.encode() + body


def measure(path: str, call: str, calls: int) -> tuple[list[float], float, float]:
    """Return the seconds of each call on one connection; when they began, and when they ended."""
    bytes_of_it = request(call)
    times = []
    began = 0.0
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)
        for n in range(calls + WARM_UP):
            started = time.perf_counter()
            if n == WARM_UP:
                began = started
            connection.sendall(bytes_of_it)
            answer = connection.recv(4096)
            if n >= WARM_UP:
                times.append(time.perf_counter() - started)
            assert answer.startswith(b"HTTP/1.1 200 ")
        return times, began, time.perf_counter()


def echo(path: str) -> None:
    """Answer every request on one connection with a success."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen()
        connection, _ = listening.accept()
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + b'{"Exists":true}'
        while connection.recv(4096):
            connection.sendall(answer)


def row_of(call: str, connections: int, times: list[float], rate: float) -> dict[str, object]:
    """Return what is printed of one measurement."""
    cuts = statistics.quantiles(times, n=100)
    return {
        "call": call,
        "connections": connections,
        "p50_us": round(cuts[49] * 1e6, 1),
        "p99_us": round(cuts[98] * 1e6, 1),
        "calls_per_s": round(rate),
    }


def at_once(path: str, call: str, calls: int, connections: int) -> tuple[list[float], float]:
    """Return all calls' seconds from several connections, and the calls answered in a second.

    A process for each connection. What they do before their first call and to warm up is not counted;
    perf_counter is one clock for all of them.
    """
    with multiprocessing.Pool(connections) as pool:
        work = [(path, call, calls // connections)] * connections
        results = pool.starmap(measure, work, chunksize=1)
    times = [one for result in results for one in result[0]]
    took = max(ended for _, _, ended in results) - min(began for _, began, _ in results)
    return times, len(times) / took


def main() -> None:
    """Serve, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path = f"{directory}/{os.path.basename(directory)}.sock"
        command = [sys.executable, "-m", "graphdriver", "serve", "vfs", "--socket", path]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as plugin:
            while not os.path.exists(path):
                time.sleep(0.05)
            with Client(path) as client:
                client.init(f"{directory}/home", [], [], [])
                client.create("base", "", "", {})
            floor = multiprocessing.Process(target=echo, args=(f"{directory}/echo",))
            floor.start()
            while not os.path.exists(f"{directory}/echo"):
                time.sleep(0.05)
            times, _, _ = measure(f"{directory}/echo", "Exists", arguments.calls)
            rows.append(row_of("floor", 1, times, len(times) / sum(times)))
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
            floor.join()
            for call in ("Exists", "Get"):
                for connections in (1, 8):
                    times, rate = at_once(path, call, arguments.calls, connections)
                    row = row_of(call, connections, times, rate)
                    rows.append(row)
                    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            plugin.send_signal(signal.SIGTERM)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
