"""An error that a case did not expect tells the call, and the line of the driver that raised it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from graphdriver.abilities import Mount
from graphdriver.conformance.kit.run import Outcome, chosen, run_case
from graphdriver.conformance.plugin.cases import GROUPS
from graphdriver.conformance.plugin.subject import LocalSubject
from graphdriver.conformance.pytest_plugin import Check, _check
from graphdriver.conformance.snapshotter.cases import GROUPS as SNAPSHOT_GROUPS
from graphdriver.driver import Change, ClosableStream
from graphdriver.drivers.vfs.driver import VfsDriver
from graphdriver.errors import GraphDriverError
from graphdriver.naive import NaiveDiffDriver
from tests.conformance.plugin.faults.fault import Broken
from tests.conformance.plugin.served import ServedSubject
from tests.conformance.snapshotter.faults import fault as snapshots
from tests.conformance.snapshotter.served import served

pytestmark = pytest.mark.root


class Faulty(NaiveDiffDriver):
    """A driver of which one method raises."""

    raises = ""

    def __init__(self) -> None:
        super().__init__(VfsDriver())

    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        self.fail("create")
        super().create(id, parent, mount_label, storage_opt)

    def get(self, id: str, mount_label: str) -> str:
        self.fail("get")
        return super().get(id, mount_label)

    def diff(self, id: str, parent: str) -> ClosableStream:
        self.fail("diff")
        return super().diff(id, parent)

    def changes(self, id: str, parent: str) -> list[Change]:
        self.fail("changes")
        return list(super().changes(id, parent))

    def fail(self, method: str) -> None:
        if self.raises == method:
            raise ZeroDivisionError("division by zero")


LINE = next(
    number
    for number, line in enumerate(inspect.getsource(inspect.getmodule(Faulty)).splitlines(), 1)  # type: ignore[arg-type]
    if "raise ZeroDivisionError" in line
)
CALLS = {"create": "Create", "get": "Get", "diff": "Diff", "changes": "Changes"}


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[Callable[[str], LocalSubject]]:
    with LocalSubject(Faulty, tmp_path) as made:

        def raising(method: str) -> LocalSubject:
            assert isinstance(made.driver, Faulty)
            made.driver.raises = method
            return made

        yield raising


@pytest.mark.parametrize("method", CALLS)
def test_the_call_the_file_and_the_line_are_told(
    method: str, subject: Callable[[str], LocalSubject]
) -> None:
    (case,) = chosen(GROUPS, "round-trips/unchanged-layer")
    result = run_case(case, subject(method))
    assert result.outcome is Outcome.FAILED
    assert result.what == CALLS[method]
    place = f"({__file__}, line {LINE}, in fail)"
    assert result.saw == f"ZeroDivisionError: division by zero {place}"


def test_pytest_shows_where_it_was_raised(subject: Callable[[str], LocalSubject]) -> None:
    (case,) = chosen(GROUPS, "round-trips/unchanged-layer")
    check: Check = _check(case, strict=True)
    with pytest.raises(pytest.fail.Exception) as failed:
        check(subject("get"))
    assert isinstance(failed.value.__cause__, ZeroDivisionError)
    assert failed.value.pytrace


class CreateFails(Broken):
    def create(
        self, id: str, parent: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        raise GraphDriverError("out of order")


def test_an_error_of_a_plugin_has_no_line_of_the_client(tmp_path: Path) -> None:
    (case,) = chosen(GROUPS, "round-trips/unchanged-layer")
    with ServedSubject(CreateFails, tmp_path) as subject:
        result = run_case(case, subject)
    assert result.what == "Create"
    assert "out of order" in result.saw
    assert ".py" not in result.saw


class PrepareFails(snapshots.Broken):
    def prepare(self, key: str, parent: str, labels: snapshots.Labels) -> Sequence[Mount]:
        raise GraphDriverError("out of order")


def test_an_error_of_a_snapshotter_has_its_call_and_no_line_of_the_kit() -> None:
    (case,) = chosen(SNAPSHOT_GROUPS, "content/siblings-are-apart")
    with served(PrepareFails) as subject:
        result = run_case(case, subject)
    assert result.what == "Prepare"
    assert "out of order" in result.saw
    assert ".py" not in result.saw
