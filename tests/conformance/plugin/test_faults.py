"""The kit can fail: the case that a fault names catches it, and the plugin without one passes."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphdriver.conformance.kit.case import Case
from graphdriver.conformance.kit.run import Outcome, chosen, run_case
from graphdriver.conformance.kit.scratch import scratch_directory
from graphdriver.conformance.plugin.cases import GROUPS, activation, streams
from graphdriver.conformance.plugin.kit import Kit
from graphdriver.conformance.plugin.subject import ExecSubject
from graphdriver.conformance.pytest_plugin import Check
from tests.conformance.kit.fault import Fault
from tests.conformance.plugin.faults import FAULTS
from tests.conformance.plugin.faults.fault import Broken
from tests.conformance.plugin.faults.proxy import Proxy
from tests.conformance.plugin.served import ServedSubject

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for less, and send less: a fault shows as well, and what works has worked by then."""
    monkeypatch.setattr(activation, "_IDLE", 1.0)
    monkeypatch.setattr(streams, "_GIGABYTE", 64 << 20)
    monkeypatch.setattr(streams, "_LARGE", 160 << 20)
    monkeypatch.setattr(streams, "_MEMORY", 128 << 20)


@pytest.fixture
def directory() -> Iterator[Path]:
    with scratch_directory("/dev/shm", "gd-") as directory:
        yield directory


def started(name: str, directory: Path) -> ExecSubject:
    command = [sys.executable, "-m", "tests.conformance.plugin.faulty", name, "{socket}"]
    return ExecSubject(shlex.join(command), directory)


@pytest.fixture(scope="module")
def without_a_fault() -> Iterator[ExecSubject]:
    with scratch_directory("/dev/shm", "gd-") as directory, started("none", directory) as subject:
        yield subject


@pytest.mark.conformance(offers=ExecSubject.offers, only="!streams", strict=True)
def test_the_plugin_without_a_fault_conforms(
    conformance_case: Check, without_a_fault: ExecSubject
) -> None:
    conformance_case(without_a_fault)


def needs_a_process(case: Case[Kit]) -> bool:
    """Tell whether a case kills the plugin, or looks at its memory, files and children."""
    return not case.needs <= ServedSubject.offers or case.group in ("streams", "leftovers")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_caught(
    fault: Fault[Broken | Proxy], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kit, "patience", 1.0)  # what comes too late never comes here
    (case,) = chosen(GROUPS, fault.case)
    with (
        started(fault.name, directory)
        if needs_a_process(case)
        else ServedSubject(fault.planted, directory)
    ) as subject:
        result = run_case(case, subject)
    assert result.outcome is Outcome.FAILED, fault.tells
    assert result.saw != result.expected


def test_every_case_has_its_fault() -> None:
    cases = [case.id for case in chosen(GROUPS)]
    assert sorted(fault.case for fault in FAULTS) == sorted(cases)
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
