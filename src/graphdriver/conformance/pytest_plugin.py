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
the mark says ``strict=True``.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from graphdriver.conformance.case import Case
from graphdriver.conformance.kit import Kit
from graphdriver.conformance.report import explanation
from graphdriver.conformance.run import Examined, Outcome, chosen, run_case

Check = Callable[[Examined[Kit]], None]
"""What the fixture ``conformance_case`` is: runs one case, and fails or skips the test."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    mark = "conformance(only='', offers=None, strict=False)"
    config.addinivalue_line("markers", f"{mark}: which cases of graphdriver's kit are tests")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each case."""
    if "conformance_case" not in metafunc.fixturenames:
        return
    from graphdriver.conformance.cases import GROUPS

    mark = metafunc.definition.get_closest_marker("conformance")
    wanted = mark.kwargs if mark else {}
    cases = [
        case
        for case in chosen(GROUPS, wanted.get("only", ""))
        if wanted.get("offers") is None or case.needs <= wanted["offers"]
    ]
    strict = wanted.get("strict", False)
    metafunc.parametrize(
        "conformance_case", [_check(case, strict) for case in cases], ids=[c.id for c in cases]
    )


def _check(case: Case[Kit], strict: bool) -> Check:
    def check(examined: Examined[Kit]) -> None:
        __tracebackhide__ = True
        result = run_case(case, examined)
        if result.outcome is Outcome.NOT_RUN:
            pytest.skip(result.what)
        if result.outcome is Outcome.FAILED:
            if strict or case.required:
                pytest.fail(explanation(result), pytrace=False)
            pytest.xfail(explanation(result))

    return check
