"""The record of a run: ``pytest --record FILE``, written when the run is over.

It holds how many tests passed, with which Python, and on which drivers they used which engines.
tests/release/records keeps some, from which the compatibility table is made.
"""

from __future__ import annotations

import datetime
import json
import platform
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

import graphdriver
from tests.support.pairings import Pairing, noted, system

PROPERTY = "pairing"


class RunRecord:
    """Writes the record.

    With pytest-xdist each process that runs tests has one, which only notes the pairings.

    Args:
        path: the file.
        arguments: of pytest.
    """

    def __init__(self, path: Path, arguments: Sequence[str]) -> None:
        self._path = path
        self._arguments = shlex.join(one for one in arguments if not one.startswith("--record"))
        self._outcomes: dict[str, str] = {}
        self._pairings: dict[Pairing, list[str]] = defaultdict(list)
        noted.is_recording = True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Hand the pairings that the test used to the process that writes."""
        item.user_properties += [(PROPERTY, list(pairing)) for pairing in noted.take()]
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take down how a test ended."""
        if report.outcome != "passed" or report.when == "call":
            self._outcomes[report.nodeid] = report.outcome
        if report.when == "teardown":
            for name, value in report.user_properties:
                if name == PROPERTY and isinstance(value, list):
                    self._pairings[Pairing(*value)].append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the record."""
        if hasattr(session.config, "workerinput"):
            return
        record = {
            "made": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "graphdriver": graphdriver.__version__,
            "pytest": self._arguments,
            "system": system(),
            "kernel": _numbers(platform.release()),
            "python": platform.python_version(),
            "tests": self._counted(list(self._outcomes), parts=2),
            "engines": [
                {**pairing._asdict(), "tests": self._counted(sorted(set(ids)), parts=3)}
                for pairing, ids in sorted(self._pairings.items())
            ],
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(record, indent=1) + "\n")

    def _counted(self, ids: list[str], parts: int) -> dict[str, dict[str, int]]:
        """Count the outcomes of tests by the first parts of the path of their file."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for id in sorted(ids):
            counts["/".join(id.partition("::")[0].split("/")[:parts])][self._outcomes[id]] += 1
        return {place: dict(found) for place, found in counts.items()}


def _numbers(release: str) -> str:
    """Return a kernel's release without what its distribution appends."""
    return re.split(r"[^\d.]", release)[0]
