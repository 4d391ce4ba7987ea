"""The kit for snapshotters: our own pass it on every driver, and each of its cases can fail."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.kit.process import Process
from graphdriver.conformance.kit.run import Outcome, chosen, run_case
from graphdriver.conformance.pytest_plugin import SnapshotCheck
from graphdriver.conformance.snapshotter.cases import GROUPS
from graphdriver.conformance.snapshotter.kit import SnapshotterSubject
from tests.conformance.snapshot_faults.every import FAULTS
from tests.conformance.snapshot_faults.fault import Fault
from tests.support.filesystems import loop

pytestmark = pytest.mark.root

DRIVERS = ("vfs", "overlay2", "btrfs", "fuse-overlayfs")


@contextlib.contextmanager
def started(
    command: list[str], folder: Path, root: Path | None = None
) -> Iterator[SnapshotterSubject]:
    """Start a snapshotter, and stop it at the end."""
    process = Process(shlex.join([sys.executable, *command]), folder)
    home = str(root or f"{process.socket}.root")
    try:
        with SnapshotterSubject(process.socket, folder, home) as subject:
            yield subject
    finally:
        process.end(signal.SIGTERM)


@pytest.fixture(scope="module", params=DRIVERS)
def snapshotter(request: pytest.FixtureRequest) -> Iterator[SnapshotterSubject]:
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-")))
        place = folder
        if request.param == "btrfs":
            place = held.enter_context(loop("btrfs", folder))
        words = ["-m", "graphdriver", "snapshotter", request.param, "--root", str(place / "root")]
        yield held.enter_context(started([*words, "--address", "{socket}"], folder, place / "root"))


@pytest.mark.conformance(strict=True)
def test_our_snapshotter_conforms(
    snapshot_case: SnapshotCheck, snapshotter: SnapshotterSubject
) -> None:
    snapshot_case(snapshotter)


@pytest.fixture(scope="module")
def without_a_fault() -> Iterator[SnapshotterSubject]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as folder:
        command = ["-m", "tests.conformance.snapshot_faulty", "none", "{socket}"]
        with started(command, Path(folder)) as subject:
            yield subject


@pytest.mark.conformance(strict=True)
def test_the_snapshotter_without_a_fault_conforms(
    snapshot_case: SnapshotCheck, without_a_fault: SnapshotterSubject
) -> None:
    snapshot_case(without_a_fault)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_caught(fault: Fault) -> None:
    (case,) = chosen(GROUPS, fault.case)
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as folder:
        command = ["-m", "tests.conformance.snapshot_faulty", fault.name, "{socket}"]
        with started(command, Path(folder)) as subject:
            result = run_case(case, subject)
    assert result.outcome is Outcome.FAILED, fault.tells
    assert result.saw != result.expected


def test_every_case_has_its_fault() -> None:
    cases = [case.id for case in chosen(GROUPS)]
    assert sorted(fault.case for fault in FAULTS) == sorted(cases)
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
