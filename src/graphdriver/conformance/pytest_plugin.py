"""The same cases as tests: a project gives a fixture, and gets a test of each.

    @pytest.fixture(scope="module")
    def conformance_subject(tmp_path_factory):
        with LocalSubject(MyDriver, tmp_path_factory.mktemp("homes")) as subject:
            yield subject

    @pytest.mark.conformance(offers=LocalSubject.offers)
    def test_conformance(conformance_case, conformance_subject):
        conformance_case(conformance_subject)

pytest finds this plugin by itself where the package is installed. The mark is optional. Its ``only``
chooses cases as ``graphdriver conform --only`` does; its ``offers`` leaves out the cases that need
more than the subject has, which otherwise are skipped. An optional case that fails is an xfail, unless
the mark says ``strict=True``. A snapshotter's cases are asked for as ``snapshot_case``.
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
"""What the fixture ``conformance_case`` is: runs one case, and fails or skips the test."""

SnapshotCheck = Callable[[Any], None]
"""What ``snapshot_case`` is: the same for a snapshotter, a `snapshotter.subject.SocketSubject`."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
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
                told, raised = explanation(result), result.raised
                raise pytest.fail.Exception(told, pytrace=raised is not None) from raised
            pytest.xfail(explanation(result))

    return check
