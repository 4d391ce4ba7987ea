from __future__ import annotations

from graphdriver.conformance.cases import GROUPS
from tests.project.documented_cases import HEADING, PAGE, text


def test_every_case_is_documented() -> None:
    assert PAGE.read_text().partition(HEADING)[2] == text(), (
        "run python -m tests.project.documented_cases"
    )


def test_every_case_says_what_is_right_and_why() -> None:
    cases = [case for group in GROUPS for case in group.cases]
    assert len({case.id for case in cases}) == len(cases)
    for case in cases:
        assert case.checks.endswith("."), case.id
        assert case.why.text.endswith((".", "?")), case.id
