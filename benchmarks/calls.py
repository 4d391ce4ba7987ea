"""How long small calls, and the calls of a container's layer, take over the socket.

    python benchmarks/calls.py [--rounds N] [--dir DIR] [--beside PYTHON] [--json FILE]

Two programs in the same run show what the kernel and the scheduler cost here:

- *echo* answers each request with the same bytes, without looking at it. Exists and Get, to vfs, are
  compared with it.
- *bare* makes the useful system calls of overlay2 for CreateReadWrite, Get, Put and Remove, in one
  thread, and checks nothing. Layers of overlay2, in DIR, are compared with it.

All take turns; the medians of a round make a ratio, and the median of the rounds' ratios is printed.
Everything is measured twice: all programs and their caller on one core, and the programs on another
core than the caller. Left alone, the scheduler may place one program here and another there, and waking
a thread on an idle core takes longer than a small call.

``--beside`` adds the plugin of another commit (see `benchmarks/layers.py`). No Python client is in the
way: requests are ready-made bytes. At the end the calls of eight connections are counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from graphdriver import Client
from graphdriver.linux.mount import mount_with, unmount

SMALL_CALLS = 1000
"""Small calls of each kind in a round."""

LAYERS = 100
"""Layers in a round."""

CYCLE = ("CreateReadWrite", "Get", "Put", "Remove")

AIMS = {"Exists": ("echo", 2.2), "all": ("bare", 1.6)}
"""What the plugin is compared with, and at most so many times its seconds."""

Rows = list[dict[str, object]]


def request(call: str, **members: str) -> bytes:
    """Return a call's bytes."""
    body = json.dumps(members, separators=(",", ":"))
    head = (
        f"POST /GraphDriver.{call} HTTP/1.1\r\nHost: plugin.moby.localhost\r\n"
        f"User-Agent: Go-http-client/1.1\r\nContent-Length: {len(body)}\r\n"
        "Accept: application/vnd.docker.plugins.v1.2+json\r\n\r\n"
    )
    return (head + body).encode()


@dataclass(frozen=True)
class Program:
    """A program that runs: its socket and its process."""

    path: str
    pid: int

    def pin(self, cores: set[int]) -> None:
        """Keep all its threads on some cores; threads that start later inherit them."""
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            os.sched_setaffinity(int(thread), cores)


class Caller:
    """A connection."""

    def __init__(self, path: str) -> None:
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._connection.connect(path)

    def timed(self, asked: bytes) -> float:
        """Make a call; return the seconds that it took."""
        started = time.perf_counter()
        self._connection.sendall(asked)
        answer = self._connection.recv(4096)
        took = time.perf_counter() - started
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        return took

    def close(self) -> None:
        """Close it."""
        self._connection.close()


# --- the programs to compare with ---------------------------------------------------------------------


class Bare:
    """The useful system calls of overlay2, for layers upon one parent without layers below."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._counts = f"/run/{secrets.token_hex(8)}"
        for path in (home, f"{home}/.staging", f"{home}/.trash", f"{home}/l", self._counts):
            os.mkdir(path, 0o700)
        self.CreateReadWrite("base")

    def CreateReadWrite(self, id: str) -> None:  # noqa: N802 - named as the call; likewise below
        """Make a layer: its directories, its files, its link, and the rename."""
        staged, link = f"{self._home}/.staging/{id}", secrets.token_hex(13)
        os.mkdir(staged, 0o710)
        os.mkdir(f"{staged}/diff", 0o755)
        if id != "base":
            below = os.stat(f"{self._home}/base/diff")
            os.utime(f"{staged}/diff", ns=(below.st_atime_ns, below.st_mtime_ns))
        _write(f"{staged}/link", link)
        _write(f"{staged}/lower", "l/" + _read(f"{self._home}/base/link") if id != "base" else "")
        os.mkdir(f"{staged}/work", 0o700)
        os.symlink(f"../{id}/diff", f"{self._home}/l/{link}")
        os.rename(staged, f"{self._home}/{id}")

    def Get(self, id: str) -> None:  # noqa: N802
        """Mount a layer, and count."""
        layer = f"{self._home}/{id}"
        lower = _read(f"{layer}/lower")
        os.mkdir(f"{layer}/merged", 0o700)
        settings = {
            "source": "overlay",
            "lowerdir+": f"{self._home}/{lower}",
            "upperdir": f"{layer}/diff",
            "workdir": f"{layer}/work",
            "redirect_dir": "nofollow",
            "metacopy": "off",
            "index": "off",
        }
        target = os.open(f"{layer}/merged", os.O_PATH)
        mount_with("overlay", settings.items(), 0, target)
        os.close(target)
        _write(f"{self._counts}/{id}", "1")

    def Put(self, id: str) -> None:  # noqa: N802
        """Unmount a layer."""
        unmount(f"{self._home}/{id}/merged")
        os.rmdir(f"{self._home}/{id}/merged")
        os.unlink(f"{self._counts}/{id}")

    def Remove(self, id: str) -> None:  # noqa: N802
        """Move a layer away, and delete it."""
        link = _read(f"{self._home}/{id}/link")
        trashed = f"{self._home}/.trash/{id}"
        os.rename(f"{self._home}/{id}", trashed)
        os.unlink(f"{self._home}/l/{link}")
        os.unlink(f"{trashed}/link")
        os.unlink(f"{trashed}/lower")
        for name in ("/work/work", "/work", "/diff", ""):
            os.rmdir(f"{trashed}{name}")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, text.encode())
    os.close(fd)


def _read(path: str) -> str:
    fd = os.open(path, os.O_RDONLY)
    text = os.read(fd, 4096)
    os.close(fd)
    return text.decode()


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + b'{"Exists":true}'


def echo(path: str) -> None:
    """Answer every request with a success, one connection after the other."""
    for connection in _accepted(path):
        while connection.recv(4096):
            connection.sendall(ANSWER)


def bare(path: str, home: str) -> None:
    """Make the useful system calls of every request, one connection after the other."""
    layers = Bare(home)
    for connection in _accepted(path):
        while asked := connection.recv(4096):
            head, _, body = asked.partition(b"\r\n\r\n")
            call = head[len("POST /GraphDriver.") : head.index(b" HTTP")].decode()
            getattr(layers, call)(json.loads(body)["ID"])
            connection.sendall(ANSWER)


def _accepted(path: str) -> Iterator[socket.socket]:
    """Yield one connection after the other."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(path)
        listening.listen()
        while True:
            connection, _ = listening.accept()
            with connection:
                yield connection


@contextlib.contextmanager
def running(program: Callable[..., None], path: str, *arguments: str) -> Iterator[Program]:
    """Run one of the programs above in a process of its own."""
    process = multiprocessing.Process(target=program, args=(path, *arguments), daemon=True)
    process.start()
    _wait_for(path)
    assert process.pid
    yield Program(path, process.pid)
    process.terminate()
    process.join()


@contextlib.contextmanager
def served(python: str, driver: str, directory: Path) -> Iterator[Program]:
    """Serve a driver that has one layer, ``base``."""
    directory.mkdir()
    # The name of a plugin is that of its socket; no other plugin may have it.
    path = f"{directory}/{directory.parent.name}-{directory.name}.sock"
    command = [python, "-m", "graphdriver", "serve", driver, "--socket", path]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as plugin:
        try:
            _wait_for(path)
            with Client(path) as client:
                client.init(f"{directory}/home", [], [], [])
                client.create("base", "", "", {})
                yield Program(path, plugin.pid)
                client.cleanup()
        finally:  # otherwise an error would wait here for ever
            plugin.terminate()


def _wait_for(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.02)


# --- what is measured ---------------------------------------------------------------------------------


def small_calls(caller: Caller) -> dict[str, float]:
    """Make small calls; return the median seconds of each."""
    medians = {}
    for call in ("Exists", "Get"):
        asked = request(call, ID="base")
        medians[call] = statistics.median(caller.timed(asked) for _ in range(SMALL_CALLS))
    return medians


def layers(caller: Caller) -> dict[str, float]:
    """Create, get, put and remove layers; return the median seconds of each call, and of all four."""
    times: dict[str, list[float]] = {call: [] for call in CYCLE}
    for number in range(LAYERS):
        for call in CYCLE:
            members = {"Parent": "base"} if call == "CreateReadWrite" else {}
            times[call].append(caller.timed(request(call, ID=f"layer{number}", **members)))
    whole = [sum(four) for four in zip(*times.values(), strict=True)]
    return {call: statistics.median(seconds) for call, seconds in (*times.items(), ("all", whole))}


def take_turns(
    work: Callable[[Caller], dict[str, float]],
    programs: dict[str, Program],
    floor: str,
    rounds: int,
    cores: tuple[int, int],
) -> Rows:
    """Let all programs do the same work in turn; print and return the medians and the ratios.

    Args:
        work: makes the calls.
        programs: by their names.
        floor: the name of the one that the others are compared with.
        rounds: how often.
        cores: the core of the caller, and that of the programs.
    """
    callers = {name: Caller(program.path) for name, program in programs.items()}
    for caller in callers.values():
        work(caller)  # not counted
    os.sched_setaffinity(0, {cores[0]})
    for program in programs.values():
        program.pin({cores[1]})
    found: list[dict[str, dict[str, float]]] = []
    order = list(callers)
    for _ in range(rounds):
        found.append({name: work(callers[name]) for name in order})
        order.append(order.pop(0))
    for caller in callers.values():
        caller.close()
    rows: Rows = []
    for call in found[0][floor]:
        row: dict[str, object] = {"call": call, "cores": len(set(cores))}
        for name in callers:
            row[f"{name}_us"] = round(statistics.median(one[name][call] for one in found) * 1e6, 1)
        for name in callers.keys() - {floor}:
            ratio = statistics.median(one[name][call] / one[floor][call] for one in found)
            row[f"{name}/{floor}"] = round(ratio, 2)
        rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return rows


def many_calls(path: str) -> tuple[float, float, int]:
    """Make small calls on one connection; return when they began and ended, and their number."""
    caller = Caller(path)
    small_calls(caller)
    began = time.perf_counter()
    for _ in range(3):
        small_calls(caller)
    return began, time.perf_counter(), 3 * 2 * SMALL_CALLS


def at_once(path: str, connections: int) -> Rows:
    """Count the calls that are answered in a second on several connections, a process for each."""
    with multiprocessing.Pool(connections) as pool:
        results = pool.map(many_calls, [path] * connections, chunksize=1)
    # perf_counter is one clock for all of them.
    took = max(ended for _, ended, _ in results) - min(began for began, _, _ in results)
    rate = round(sum(count for _, _, count in results) / took)
    print(f"calls_per_s {rate}  connections {connections}", flush=True)
    return [{"calls_per_s": rate, "connections": connections}]


def both_ratios(rows: Rows) -> Iterator[str]:
    """Yield a line for each aim: the ratio on one core, and with the caller on another one."""
    for call, (floor, aim) in AIMS.items():
        ratios = [
            f"{row[f'plugin/{floor}']} with {row['cores']} core(s)"
            for row in rows
            if row.get("call") == call and f"plugin/{floor}" in row
        ]
        yield f"{call} / {floor} (aim: at most {aim}): {', '.join(ratios)}"


def main() -> None:
    """Serve, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dir", default="/dev/shm", help="where layers are (default: %(default)s)")
    parser.add_argument("--beside", metavar="PYTHON", help="of another commit's environment")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    pythons = {"plugin": sys.executable}
    if arguments.beside:
        pythons["other"] = arguments.beside
    rows: Rows = []
    with (
        tempfile.TemporaryDirectory(dir=arguments.dir, prefix="gd-") as name,
        contextlib.ExitStack() as held,
    ):
        place = Path(name)

        def serve(driver: str) -> dict[str, Program]:
            return {
                name: held.enter_context(served(python, driver, place / f"{driver}-{name}"))
                for name, python in pythons.items()
            }

        vfs, overlay2 = serve("vfs"), serve("overlay2")
        vfs["echo"] = held.enter_context(running(echo, f"{place}/echo"))
        overlay2["bare"] = held.enter_context(running(bare, f"{place}/bare", f"{place}/bare-home"))
        everywhere = os.sched_getaffinity(0)
        first, *others = sorted(everywhere)
        for core in (first, *others[:1]):
            rows += take_turns(small_calls, vfs, "echo", arguments.rounds, (first, core))
            rows += take_turns(layers, overlay2, "bare", arguments.rounds, (first, core))
        os.sched_setaffinity(0, everywhere)
        vfs["plugin"].pin(everywhere)
        rows += at_once(vfs["plugin"].path, 8)
    print("\n".join(both_ratios(rows)))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(rows, file, indent=2)


if __name__ == "__main__":
    main()
