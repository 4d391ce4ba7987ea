"""A skipped test is no passed test: with ``CI=true`` every skip must be listed with its reason."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

ALLOWED = Path(__file__).with_name("allowed_skips.txt")


def allowed_skips(text: str) -> list[str]:
    """Return the patterns of a list of allowed skips.

    Raises:
        ValueError: a line gives no reason.
    """
    patterns = []
    for line in text.splitlines():
        if line and not line.startswith("#"):
            pattern, mark, reason = line.partition("  # ")
            if not mark or not reason.strip():
                raise ValueError(f"allowed_skips.txt gives no reason for {line!r}")
            patterns.append(pattern.strip())
    return patterns


class SkipPolice:
    """Collects skips, and fails the session for those that nobody allowed.

    With pytest-xdist each process that runs tests has one, and the process that runs those another.
    """

    def __init__(self) -> None:
        self.skipped: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skipped.append(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.skipped += getattr(node, "workeroutput", {}).get("skipped", [])

    def unlisted(self) -> list[str]:
        patterns = allowed_skips(ALLOWED.read_text())
        skipped = sorted(set(self.skipped))
        return [id for id in skipped if not any(fnmatch.fnmatch(id, one) for one in patterns)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        told = getattr(session.config, "workeroutput", None)
        if told is not None:
            told["skipped"] = self.skipped
        elif self.unlisted():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for id in self.unlisted():
            terminalreporter.write_line(f"skipped, and not in allowed_skips.txt: {id}", red=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make a report that can be sent: file names and hostile input are no UTF-8, and printed."""
    report = yield
    report.sections = [(name, _sendable(text)) for name, text in report.sections]
    if report.failed and _sendable(told := str(report.longrepr)) != told:
        report.longrepr = _sendable(told)
    return report


def _sendable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("CI") == "true":
        config.pluginmanager.register(SkipPolice(), "skip-police")
