"""`make release-check` finds what stands against a release."""

from __future__ import annotations

import datetime

import pytest

from tests.release.check import changelog_faults, form_faults, named_records, record_faults
from tests.release.records import Record
from tests.support.documented import ROOT

TODAY = datetime.date(2026, 1, 31)
CHANGELOG = """# Changelog

## 1.10.0 - 2026-01-31

### Added

- One thing.

## 1.9.0 - 2026-01-02

### Fixed

- Another.
"""
RECORD = Record("one", "2026-01-30", "1.10.0", "Debian 12", "6.1", "3.11.2", {}, {})


def test_the_changelog_has_its_form() -> None:
    assert list(form_faults((ROOT / "CHANGELOG.md").read_text())) == []


def test_a_changelog_whose_first_version_is_the_released_one_is_right() -> None:
    assert list(changelog_faults(CHANGELOG, "1.10.0", TODAY)) == []


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ("## 1.10.0 - 2026-01-31", "## 1.10.0", "CHANGELOG.md:3: not of the form"),
        ("1.10.0", "1.8.0", "the newest version does not come first"),
        ("1.10.0", "1.11.0", "not with version 1.10.0"),
        ("# Changelog\n", "# Changelog\n\n## Unreleased\n", "begins with '## Unreleased'"),
        ("2026-01-31", "2026-02-01", "a date in the future: 2026-02-01"),
        ("### Added", "### New", "CHANGELOG.md:5: not one of Added, "),
        ("One thing.", "One thing. " * 20, "CHANGELOG.md:7: an entry of over 180 characters"),
    ],
)
def test_a_fault_of_the_changelog_is_named(right: str, wrong: str, fault: str) -> None:
    found = list(changelog_faults(CHANGELOG.replace(right, wrong), "1.10.0", TODAY))
    assert any(fault in one for one in found), found


def test_a_record_that_is_missing_or_of_another_version_is_named() -> None:
    assert list(record_faults([RECORD], "1.10.0", {"one"})) == []
    [missing] = record_faults([RECORD], "1.10.0", {"one", "two"})
    assert missing == "tests/release/records/two.json is missing; run make records"
    [other] = record_faults([RECORD], "1.11.0", {"one"})
    assert "one.json is of version 1.10.0, not of 1.11.0" in other


def test_the_names_of_records_are_those_that_make_records_writes() -> None:
    assert "debian-12-docker" in named_records((ROOT / "Makefile").read_text())
