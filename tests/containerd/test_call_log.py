"""What an operator reads of containerd's calls: a line each at its end, and a warning of a slow one."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from graphdriver.conformance.snapshotter.calls import Calls
from graphdriver.containerd import _messages_pb2 as pb
from graphdriver.containerd.callers import Callers
from graphdriver.containerd.listing import Listing
from graphdriver.containerd.server import SnapshotterServer
from graphdriver.containerd.service import SERVICE, Handlers
from graphdriver.containerd.snapshots import Snapshots
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.serving import call_log
from tests.support.call_lines import Lines, collected_lines, members
from tests.support.json_log import json_lines
from tests.support.slow_driver import Slow
from tests.support.waiting import wait_until

pytestmark = pytest.mark.root


@pytest.fixture
def driver() -> Slow:
    return Slow()


@pytest.fixture
def calls(driver: Slow, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    """A snapshotter that finds a call slow after a fifth of a second."""
    monkeypatch.setattr(call_log, "SLOW", 0.2)
    with tempfile.TemporaryDirectory(prefix="gds-", dir="/dev/shm") as directory:
        snapshots = Snapshots(driver, f"{directory}/root", ["sync=none"])
        with (
            SnapshotterServer(snapshots, f"{directory}/s.sock") as server,
            contextlib.closing(Calls(server.address)) as found,
        ):
            yield found


@pytest.fixture
def lines() -> Iterator[Lines]:
    with collected_lines() as found:
        yield found


def facts(line: logging.LogRecord) -> tuple[object, ...]:
    found = members(line)
    assert isinstance(found["ms"], float)
    return found["call"], found.get("snapshot"), found.get("status")


def test_a_slow_call_is_warned_of_while_it_still_runs(
    calls: Calls, driver: Slow, lines: Lines
) -> None:
    caller = threading.Thread(target=calls.prepare, args=("a",))
    caller.start()
    wait_until(lambda: len(lines) >= 2)  # again when its time has doubled
    for line in lines:
        assert re.fullmatch(r"prepare a has been running for \d+ s and still is", line.getMessage())
    assert {line.levelno for line in lines} == {logging.WARNING}
    assert {facts(line) for line in lines} == {("Prepare", "a", None)}
    driver.allowed.set()
    caller.join(60)
    wait_until(lambda: facts(lines[-1]) == ("Prepare", "a", "OK"))
    assert lines[-1].levelno == logging.DEBUG


def test_each_call_has_a_line_at_its_end(calls: Calls, driver: Slow, lines: Lines) -> None:
    driver.allowed.set()
    calls.prepare("a")
    with pytest.raises(grpc.RpcError):
        calls.prepare("a")
    assert [one.name for one in calls.list()] == ["a"]
    wait_until(lambda: len(lines) == 3)
    assert [facts(line) for line in lines] == [
        ("Prepare", "a", "OK"),
        ("Prepare", "a", "ALREADY_EXISTS"),
        ("List", None, "OK"),
    ]


class Talks(VfsDriver):
    """Logs something while it makes a layer."""

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        logging.getLogger("a.driver").warning("in create")
        super().create(id, parent, mount_label, storage_opt)


def test_a_line_of_a_driver_names_the_call_the_layer_and_the_snapshot(folder: Path) -> None:
    snapshots = Snapshots(Talks(), str(folder / "root"))
    with (
        SnapshotterServer(snapshots, str(folder / "s.sock")) as server,
        contextlib.closing(Calls(server.address)) as calls,
        json_lines() as lines,
    ):
        calls.prepare("a")
    (line,) = lines.of("in create")
    assert (line["call"], line["layer"], line["snapshot"]) == ("Prepare", "1", "a")


class Exits(VfsDriver):
    """Ends the process, or so it thinks, instead of raising an error."""

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        sys.exit(3)


def test_a_driver_that_exits_has_failed_and_its_caller_gets_an_answer(
    folder: Path, lines: Lines
) -> None:
    snapshots = Snapshots(Exits(), str(folder / "root"))
    with (
        SnapshotterServer(snapshots, str(folder / "s.sock")) as server,
        contextlib.closing(Calls(server.address)) as calls,
        pytest.raises(grpc.RpcError, match="prepare: SystemExit: 3"),
    ):
        calls.prepare("a")
    assert [facts(line) for line in lines] == [("Prepare", "a", "INTERNAL")]


class ListDetails(grpc.HandlerCallDetails):
    """What grpcio says of a call for the list of snapshots."""

    method = f"/{SERVICE}/List"
    invocation_metadata = ()


def test_a_list_that_its_caller_breaks_off_runs_no_more(tmp_path: Path) -> None:
    with contextlib.closing(Snapshots(VfsDriver(), str(tmp_path / "root"))) as snapshots:
        snapshots.prepare("a", "", {})
        long, pool = Listing(snapshots, short=-1), ThreadPoolExecutor(1)
        method: Any = Handlers(snapshots, long, Callers(), pool).service(ListDetails())
        stream = method.unary_stream(pb.ListSnapshotsRequest(), None)
        next(stream)
        assert snapshots.served.calls.running() == ["list"]
        stream.close()
        assert snapshots.served.calls.running() == []
