"""Many callers at once on a plugin that really runs: every answer right, and nothing left behind.

The choices of the callers come from a seed, which is printed; to make the same ones again:

    GRAPHDRIVER_SOAK_SEED=… make test ARGS=tests/soak

``GRAPHDRIVER_SOAK_SECONDS`` sets how long it takes.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import wire
from tests.soak import content
from tests.soak.callers import Caller, Crowd, Layer, Owner, Plugin
from tests.support.long import LONG, times
from tests.support.traces import forget, socket_in
from tests.support.waiting import wait_until

SECONDS = float(os.environ.get("GRAPHDRIVER_SOAK_SECONDS", times(gate=14, long=600)))
SEED = os.environ.get("GRAPHDRIVER_SOAK_SEED") or (secrets.token_hex(4) if LONG else "gate")
ROUNDS = times(gate=4, long=6)
"""How many rounds there are, one of them to warm up; all is removed after each."""

CROWDS, MEMBERS, OWNERS = 2, 4, 24
GROWTH = 5 << 20
"""Bytes by which memory may differ from what it was after the first round."""

ROOT = Path(__file__).parents[2]

_CONNECTED = "03"
"""The state of such a socket in /proc/net/unix (SS_CONNECTED); one that listens has "01"."""


@dataclass(frozen=True)
class Subject:
    """A driver under test.

    Args:
        name: what ``graphdriver serve`` is told.
        outlives_parents: see `Plugin`.
        keeps: folders without a dot that it keeps in an empty home.
        at_rest: the most threads of its plugin while nobody is connected: the plugin itself, the one
            that looks for slow calls, and on erofs the one that unmounts images some seconds later.
    """

    name: str
    outlives_parents: bool
    keeps: frozenset[str] = frozenset()
    at_rest: int = 2


SUBJECTS = [
    Subject("vfs", outlives_parents=True),
    Subject("overlay2", outlives_parents=False, keeps=frozenset({"l"})),
    Subject("erofs", outlives_parents=False, keeps=frozenset({"l"}), at_rest=3),
]


class Served:
    """A plugin in a process of its own, and what it takes of the machine."""

    def __init__(self, subject: Subject, folder: str) -> None:
        self.subject = subject
        self.home = f"{folder}/home"
        self.plugin = Plugin(socket_in(folder), subject.outlives_parents)
        self.log = Path(folder, "log")
        command = [sys.executable, "-m", "graphdriver", "serve", subject.name]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*command, "--socket", self.plugin.path], stdout=log, stderr=log, cwd=ROOT / "src"
            )
        wait_until(lambda: b"serving " in self.log.read_bytes())
        # Else a daemon of this machine that lists its volume drivers would call it and stay connected.
        forget(self.plugin.path)
        with Caller(self.plugin).wire as daemon:
            assert daemon.ask(wire.call("Init", Home=self.home)).members == {}
        wait_until(lambda: not self.connections())
        wait_until(lambda: self.threads() <= subject.at_rest)

    def descriptors(self) -> list[str]:
        folder = f"/proc/{self.process.pid}/fd"
        return sorted(_link(f"{folder}/{name}") for name in os.listdir(folder))

    def connections(self) -> int:
        """Count those that the plugin holds open; the caller may have closed its end before."""
        rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()]
        return sum(row[-1] == self.plugin.path and row[5] == _CONNECTED for row in rows)

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def memory(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) << 10

    def left(self) -> list[str]:
        """Return what is in the home that no empty home has."""
        found = []
        for name in os.listdir(self.home):
            path = os.path.join(self.home, name)
            if name in (".reserve", ".probed"):
                continue
            if name == ".graphdriver":
                path += "/applying"
            elif not (name.startswith(".") or name in self.subject.keeps):
                found.append(path)
            found += [f"{path}/{below}" for below in os.listdir(path)]
        return found

    def stop(self) -> None:
        """Stop as a daemon and its plugin are stopped."""
        with Caller(self.plugin).wire as daemon:
            assert daemon.ask(wire.call("Cleanup")).members == {}
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


@pytest.fixture(params=SUBJECTS, ids=lambda subject: subject.name)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    # tmpfs, where there is one: the disk is not what this is about
    quick = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="gd-", dir=quick) as folder:
        one = Served(request.param, folder)
        try:
            yield one
        finally:
            if one.process.poll() is None:
                one.stop()
            forget(one.plugin.path)


def shared_layers(plugin: Plugin, chance: random.Random) -> list[Layer]:
    """Make a chain of layers that all callers stand on."""
    chain: list[Layer] = []
    with Caller(plugin).wire as daemon:
        for number in range(3):
            below = chain[-1].tree if chain else {}
            tree, tar, _ = content.changed(chance, below)
            layer = Layer(f"shared-{number}", tuple(reversed(chain)), tree, is_fresh=False)
            assert daemon.ask(wire.call("Create", ID=layer.id, Parent=layer.parent)).members == {}
            assert daemon.ask(wire.apply(layer.id, tar, layer.parent)).status == 200
            chain.append(layer)
    return chain


def _is_followed(failure: BaseException) -> int:
    """Rank a failure among those that it may be the cause of, and that may be its own cause."""
    return 2 * isinstance(failure, threading.BrokenBarrierError) + (
        not isinstance(failure, AssertionError)
    )


def one_round(plugin: Plugin, seed: str, seconds: float) -> int:
    """Let everybody call for so long, and remove everything; return how many calls were made."""
    shared = shared_layers(plugin, random.Random(seed))
    until = time.monotonic() + seconds
    failures: list[BaseException] = []
    calls: list[int] = []

    def runs(member: Callable[[], int]) -> Callable[[], None]:
        def run() -> None:
            try:
                calls.append(member())
            except BaseException as error:
                failures.append(error)

        return run

    def own(number: int) -> int:
        owner = Owner(plugin, f"own-{number}", random.Random(f"{seed}/{number}"), shared)
        try:
            while time.monotonic() < until and not failures:
                owner.act()
            owner.leave()
        finally:
            owner.close()
        return owner.calls

    members: list[Callable[[], int]] = [lambda n=n: own(n) for n in range(OWNERS)]  # type: ignore[misc]
    for which in range(CROWDS):
        crowd = Crowd(plugin, f"crowd-{which}", f"{seed}/crowd/{which}", MEMBERS)
        members += [lambda c=crowd, n=n: c.run(n, until) for n in range(MEMBERS)]  # type: ignore[misc]
    threads = [threading.Thread(target=runs(member)) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise min(failures, key=_is_followed)
    with Caller(plugin).wire as daemon:
        for layer in reversed(shared):
            assert daemon.ask(wire.call("Remove", ID=layer.id)).members == {}
    return sum(calls)


@pytest.mark.timeout(SECONDS + 540)
def test_every_answer_is_right_and_nothing_is_left(served: Served) -> None:
    print(f"GRAPHDRIVER_SOAK_SEED={SEED}")
    at_rest = served.descriptors()
    memory = []
    for number in range(ROUNDS):
        calls = one_round(served.plugin, f"{SEED}/{number}", SECONDS / ROUNDS)
        wait_until(lambda: served.left() == [])
        wait_until(lambda: served.threads() <= served.subject.at_rest)
        wait_until(lambda: served.descriptors() == at_rest)
        memory.append(served.memory())
        print(f"round {number}: {calls} calls, {memory[-1] >> 10} KiB")
    served.stop()
    first = memory[1]  # the one before has warmed up
    assert all(abs(one - first) < GROWTH for one in memory[1:]), [one >> 10 for one in memory]
    log = served.log.read_text()
    assert "Traceback" not in log, log
    assert " ERROR " not in log, log
