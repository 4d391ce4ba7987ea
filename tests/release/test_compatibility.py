"""The tables tell what the kept records tell, and no more."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from tests.release.compatibility import DRIVERS, PAGES, engines, with_tables
from tests.release.records import Record, kept, total
from tests.support.documented import ROOT
from tests.support.pairings import Pairing

RECORD = Record(
    "made-up",
    "2026-01-02",
    "0.9.0",
    "Debian 12",
    "6.1",
    "3.11.2",
    {"tests/e2e": {"passed": 5}},
    {
        Pairing("Docker 9.1", "Debian 12", "graph driver plugin", "vfs"): {
            "tests/e2e/test_a.py": {"passed": 2},
            "tests/e2e/test_b.py": {"passed": 1, "skipped": 1},
        },
        Pairing("Docker 10.0", "Debian 12", "graph driver plugin", "erofs"): {
            "tests/e2e/test_a.py": {"passed": 2},
        },
    },
)


def test_a_cell_is_the_number_of_tests_that_passed_and_newer_engines_come_later() -> None:
    assert engines([RECORD]).splitlines()[2:] == [
        "| Docker 9.1, Debian 12 | graph driver plugin | - | - | - | - | 3 |",
        "| Docker 10.0, Debian 12 | graph driver plugin | - | 2 | - | - | - |",
    ]


def test_a_driver_of_others_has_no_column() -> None:
    theirs = {
        Pairing("Docker 9.1", "Debian 12", "graph driver plugin", "a:B"): {"a": {"passed": 1}}
    }
    assert "a:B" not in engines([replace(RECORD, engines=theirs)])


def test_the_pages_agree_with_the_records() -> None:
    for page in PAGES:
        assert page.read_text() == with_tables(page.read_text(), kept()), (
            "run python -m tests.release.compatibility"
        )
    assert engines(kept()) in PAGES[0].read_text()


def test_the_numbers_of_several_runs_are_added() -> None:
    assert "| 6 |" in engines([RECORD, RECORD])


def test_no_kept_record_has_a_failure_and_no_test_counts_twice() -> None:
    assert kept()
    for record in kept():
        assert total(record.tests, "failed") == 0, record.name
    counted = Counter(
        (pairing, file)
        for record in kept()
        for pairing, counts in record.engines.items()
        for file in counts
    )
    assert [one for one, count in counted.items() if count > 1] == []
    assert {pairing.driver for pairing, _ in counted} >= set(DRIVERS)


def test_the_classifiers_name_the_pythons_of_the_records() -> None:
    """A classifier only for a Python that was tested."""
    text = (ROOT / "pyproject.toml").read_text()
    told = set(re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text))
    assert told == {record.python.rpartition(".")[0] for record in kept()}
