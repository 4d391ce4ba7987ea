"""The kit can fail: the case that a fault names catches it, and the snapshotter without one passes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from graphdriver.conformance.kit.run import Outcome, chosen, run_case
from graphdriver.conformance.pytest_plugin import SnapshotCheck
from graphdriver.conformance.snapshotter.cases import GROUPS
from graphdriver.conformance.snapshotter.kit import Kit
from graphdriver.conformance.snapshotter.subject import SocketSubject
from tests.conformance.kit.fault import Fault
from tests.conformance.snapshotter.faults import FAULTS
from tests.conformance.snapshotter.faults.fault import Broken
from tests.conformance.snapshotter.faults.rebase import Able
from tests.conformance.snapshotter.served import served

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def without_a_fault() -> Iterator[SocketSubject]:
    with served(Broken) as subject:
        yield subject


@pytest.fixture(scope="module")
def able_without_a_fault() -> Iterator[SocketSubject]:
    with served(Able) as subject:
        yield subject


@pytest.mark.conformance(only="!rebase", strict=True)
def test_the_snapshotter_without_a_fault_conforms(
    snapshot_case: SnapshotCheck, without_a_fault: SocketSubject
) -> None:
    snapshot_case(without_a_fault)


@pytest.mark.conformance(only="rebase", strict=True)
def test_so_does_one_that_gives_parents_later(
    snapshot_case: SnapshotCheck, able_without_a_fault: SocketSubject
) -> None:
    snapshot_case(able_without_a_fault)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_caught(fault: Fault[Broken], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kit, "patience", 1.0)  # what comes too late never comes here
    (case,) = chosen(GROUPS, fault.case)
    with served(fault.planted) as subject:
        result = run_case(case, subject)
    assert result.outcome is Outcome.FAILED, fault.tells
    assert result.saw != result.expected


def test_every_case_has_its_fault() -> None:
    cases = [case.id for case in chosen(GROUPS)]
    assert sorted(fault.case for fault in FAULTS) == sorted(cases)
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
