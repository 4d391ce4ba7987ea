"""The records in ``records/``, one file for each run; `tests.support.run_record` wrote them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.support.pairings import Pairing

RECORDS = Path(__file__).parent / "records"

Counts = Mapping[str, Mapping[str, int]]
"""For each file or directory of tests: how many passed, failed and were skipped."""


@dataclass(frozen=True)
class Record:
    """One run.

    Attributes:
        name: its file's, without ``.json``.
        made: the date, as ``2026-11-29``.
        version: of graphdriver.
        system: where the engines were from.
        kernel: the kernel's release.
        python: the version of the interpreter.
        tests: what ran.
        engines: what ran on each pairing of an engine and a driver.
    """

    name: str
    made: str
    version: str
    system: str
    kernel: str
    python: str
    tests: Counts
    engines: Mapping[Pairing, Counts]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record from its file."""
        read: dict[str, Any] = json.loads(path.read_text())
        return cls(
            path.stem,
            read["made"],
            read["graphdriver"],
            read["system"],
            read["kernel"],
            read["python"],
            read["tests"],
            {
                Pairing(*(one[name] for name in Pairing._fields)): one["tests"]
                for one in read["engines"]
            },
        )


def kept() -> list[Record]:
    """Return the records that the repository holds."""
    return [Record.read(path) for path in sorted(RECORDS.glob("*.json"))]


def total(counts: Counts, outcome: str) -> int:
    """Return how many tests had an outcome: ``passed``, ``failed`` or ``skipped``."""
    return sum(of.get(outcome, 0) for of in counts.values())
