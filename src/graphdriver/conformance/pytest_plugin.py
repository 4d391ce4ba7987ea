"""The cases as pytest tests: a project provides a fixture, and each case is a test.

    @pytest.fixture(scope="module")
    def conformance_subject(tmp_path_factory):
        with LocalSubject(MyDriver, tmp_path_factory.mktemp("homes")) as subject:
            yield subject

    @pytest.mark.conformance(offers=LocalSubject.offers)
    def test_conformance(conformance_case, conformance_subject):
        conformance_case(conformance_subject)

pytest finds this plugin where the package is installed. The mark is optional. Its ``only`` selects
cases as ``graphdriver conform --only`` does. Its ``offers`` leaves out the cases that need more than
the subject offers, which otherwise are skipped. An optional case that fails is an xfail, unless the
mark has ``strict=True``. The fixture for a snapshotter's cases is ``snapshot_case``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from graphdriver.conformance.kit.case import Case, Group, K
from graphdriver.conformance.kit.report import explanation
from graphdriver.conformance.kit.run import Outcome, Subject, chosen, run_case
from graphdriver.conformance.plugin.kit import Kit

Check = Callable[[Subject[Kit]], None]
"""The fixture ``conformance_case``: runs one case, and fails or skips the test."""

SnapshotCheck = Callable[[Any], None]
"""The fixture ``snapshot_case``: the same for a `snapshotter.subject.SocketSubject`."""


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark."""
    mark = "conformance(only='', offers=None, strict=False)"
    config.addinivalue_line("markers", f"{mark}: which cases of graphdriver's kit are tests")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each case."""
    if "conformance_case" in metafunc.fixturenames:
        from graphdriver.conformance.plugin.cases import GROUPS

        _parametrize(metafunc, "conformance_case", GROUPS)
    if "snapshot_case" in metafunc.fixturenames:
        from graphdriver.conformance.snapshotter.cases import GROUPS as SNAPSHOT_GROUPS

        _parametrize(metafunc, "snapshot_case", SNAPSHOT_GROUPS)


def _parametrize(metafunc: pytest.Metafunc, fixture: str, groups: Sequence[Group[K]]) -> None:
    mark = metafunc.definition.get_closest_marker("conformance")
    wanted = mark.kwargs if mark else {}
    cases = [
        case
        for case in chosen(groups, wanted.get("only", ""))
        if wanted.get("offers") is None or case.needs <= wanted["offers"]
    ]
    strict = wanted.get("strict", False)
    metafunc.parametrize(
        fixture, [_check(case, strict) for case in cases], ids=[c.id for c in cases]
    )


def _check(case: Case[K], strict: bool) -> Callable[[Subject[K]], None]:
    def check(subject: Subject[K]) -> None:
        __tracebackhide__ = True
        result = run_case(case, subject)
        if result.outcome is Outcome.NOT_RUN:
            pytest.skip(result.what)
        if result.outcome is Outcome.FAILED:
            if strict or case.required:
                text, raised = explanation(result), result.raised
                raise pytest.fail.Exception(text, pytrace=raised is not None) from raised
            pytest.xfail(explanation(result))

    return check
