"""The kit can fail: the case that a fault names catches it, and the plugin without one passes."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.kit.run import Outcome, chosen, run_case
from graphdriver.conformance.plugin.cases import GROUPS
from graphdriver.conformance.plugin.kit import Kit
from graphdriver.conformance.plugin.subject import ExecSubject
from graphdriver.conformance.pytest_plugin import Check
from graphdriver.linux.mountinfo import mount_points
from tests.conformance.kit.fault import Fault
from tests.conformance.plugin.faults import FAULTS
from tests.conformance.plugin.faults.fault import Broken
from tests.conformance.plugin.faults.proxy import Proxy

pytestmark = pytest.mark.root


def faulty(name: str, folder: str) -> ExecSubject:
    command = [sys.executable, "-m", "tests.conformance.plugin.faulty", name, "{socket}"]
    return ExecSubject(shlex.join(command), Path(folder))


@pytest.fixture(scope="module")
def conformance_subject() -> Iterator[ExecSubject]:
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as folder,
        faulty("none", folder) as subject,
    ):
        yield subject


@pytest.mark.conformance(offers=ExecSubject.offers, only="!streams", strict=True)
def test_the_plugin_without_a_fault_conforms(
    conformance_case: Check, conformance_subject: ExecSubject
) -> None:
    conformance_case(conformance_subject)


@pytest.fixture
def folder() -> Iterator[str]:
    """A folder of whose mounts nothing is left, whatever a fault leaves."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="gd-") as folder:
        yield folder
        for point in [one.point for one in mount_points() if one.point.startswith(folder.encode())]:
            subprocess.run(["umount", "--lazy", point], check=True)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_caught(
    fault: Fault[Broken | Proxy], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kit, "patience", 2.0)  # what comes too late never comes here
    (case,) = chosen(GROUPS, fault.case)
    with faulty(fault.name, folder) as subject:
        result = run_case(case, subject)
    assert result.outcome is Outcome.FAILED, fault.tells
    assert result.saw != result.expected


def test_every_case_has_its_fault() -> None:
    cases = [case.id for case in chosen(GROUPS)]
    assert sorted(fault.case for fault in FAULTS) == sorted(cases)
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
