from __future__ import annotations

import re
from typing import Any

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.plugin.cases import FIRST, GROUPS
from graphdriver.conformance.snapshotter.cases import FIRST as SNAPSHOT_FIRST
from graphdriver.conformance.snapshotter.cases import GROUPS as SNAPSHOT_GROUPS
from tests.project.documented_cases import HEADING, PAGE, text


def test_every_case_is_documented() -> None:
    assert PAGE.read_text().partition(HEADING)[2] == text(), (
        "run python -m tests.project.documented_cases"
    )


def test_every_case_says_what_is_right_and_why() -> None:
    every: list[Group[Any]] = [*GROUPS, *SNAPSHOT_GROUPS]
    cases = [case for group in every for case in group.cases]
    assert len({case.id for case in cases}) == len(cases)
    for case in cases:
        assert case.checks.endswith("."), case.id
        assert case.why.endswith("."), case.id
        assert all(re.fullmatch(r"https://\S+", one) for one in case.references), case.id
    assert len({case.why for case in cases}) == len(cases)


def test_the_cases_to_solve_first_are_required() -> None:
    for groups, first in ((GROUPS, FIRST), (SNAPSHOT_GROUPS, SNAPSHOT_FIRST)):
        every: tuple[Group[Any], ...] = groups
        required = {case.id for group in every for case in group.cases if case.required}
        assert {*first} < required
