"""Questions to a running snapshotter, on containerd's own socket."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graphdriver.conformance.snapshotter.calls import Calls
from graphdriver.containerd.questions import ask
from graphdriver.containerd.server import THREADS, SnapshotterServer
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.errors import RemoteError, UnreachableError
from tests.support.slow_driver import Slow
from tests.support.snapshotter import Snapshotter
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root


@pytest.fixture
def driver() -> Slow:
    return Slow()


@pytest.fixture
def address(folder: Path, driver: Slow) -> Iterator[str]:
    snapshots = Snapshots(driver, str(folder / "root"))
    with SnapshotterServer(snapshots, str(folder / "s.sock")) as server:
        yield server.address
        driver.allowed.set()


def answer(address: str, question: str) -> Any:
    return ask(address, question)


def test_a_snapshotter_tells_what_it_serves(snapshotter: Snapshotter, calls: Calls) -> None:
    calls.prepare("a")
    calls.commit("A", "a")
    calls.prepare("b", "A")
    calls.mounts("b")
    assert snapshotter.process
    status = answer(snapshotter.address, "status")
    assert (status["engine"], status["driver"]) == ("containerd", snapshotter.driver)
    assert (status["home"], status["pid"]) == (str(snapshotter.root), snapshotter.process.pid)
    assert (status["ready"], status["layers"], status["references"]) == (True, 2, 1)
    assert status["last_sync"] >= status["started"]
    assert {name: one["count"] for name, one in status["calls"].items()} == {
        "Prepare": 2,
        "Commit": 1,
        "Mounts": 1,
    }
    wait_until(lambda: answer(snapshotter.address, "layers")[0]["inodes"])  # counted by a thread
    committed, active = answer(snapshotter.address, "layers")
    assert (committed["parent"], committed["references"]) == ("", 0)
    assert committed["size"] is not None
    assert (active["parent"], active["references"], active["gets"]) == (committed["id"], 1, 2)
    assert (committed["applied"] is None, active["applied"] is None) == (False, True)
    snapshotter.process.terminate()
    snapshotter.process.wait(60)
    snapshotter.start()
    assert answer(snapshotter.address, "status")["references"] == 1


def test_a_snapshotter_whose_threads_are_all_stuck_answers(address: str, driver: Slow) -> None:
    with contextlib.closing(Calls(address)) as calls:
        names = [f"s{number}" for number in range(THREADS + 1)]
        callers = [threading.Thread(target=calls.prepare, args=(name,)) for name in names]
        for caller in callers:
            caller.start()
        wait_until(lambda: len(answer(address, "calls")) == THREADS)
        running = answer(address, "calls")
        assert {call["call"] for call in running} == {"Prepare"}
        assert {call["snapshot"] for call in running} <= set(names)
        assert answer(address, "status")["calls"]["Prepare"]["in_flight"] == THREADS
        driver.allowed.set()
        for caller in callers:
            caller.join(60)


def test_a_running_call_names_the_daemon_that_makes_all_calls(
    address: str, driver: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from graphdriver.conformance.snapshotter.calls import Calls;"
        f"Calls({address!r}).prepare('a')"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as daemon:
        monkeypatch.setattr(
            "graphdriver.containerd.callers.process_name",
            lambda pid: "containerd" if pid == daemon.pid else "another",
        )
        wait_until(lambda: answer(address, "calls"))
        (call,) = answer(address, "calls")
        assert (call["call"], call["layer"], call["snapshot"]) == ("Prepare", "1", "a")
        assert call["peer"] == {"pid": daemon.pid, "command": "containerd"}
        driver.allowed.set()
        assert daemon.wait(60) == 0


def test_an_unknown_question_is_refused(address: str) -> None:
    with pytest.raises(RemoteError, match=r"unknown question 'keys'; known are status, layers, "):
        ask(address, "keys")


def test_where_nobody_listens_nobody_answers(folder: Path) -> None:
    with pytest.raises(UnreachableError, match="does not answer"):
        ask(str(folder / "s.sock"), "status")
