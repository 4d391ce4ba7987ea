"""What holds for every test: which may be skipped, and which runs alone.

A skipped test is no passed test: with ``CI=true`` every skip must be listed with its reason.
"""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from graphdriver.linux.mountinfo import mount_points

# How long it takes to make an example, or to try it, tells how busy the machine is. The gate tries the
# same examples each time, so what it says of a commit does not depend on luck; `make test-long` tries
# others each time.
settings.register_profile(
    "any machine",
    settings(),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("GRAPHDRIVER_LONG") != "1",
)
settings.load_profile("any machine")

# A shell lets what it starts in the background ignore SIGINT; programs of the tests would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)

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


@contextlib.contextmanager
def turn(shared: Path, *, alone: bool) -> Iterator[None]:
    """Wait for a turn, and keep it for the length of a ``with`` block.

    Args:
        shared: a directory that all processes of one run know.
        alone: nobody else has a turn meanwhile.
    """
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with open(shared / "queue", "a") as queue, open(shared / "turn", "a") as held:
        fcntl.flock(queue, kind)  # whoever waits to be alone holds up those that come later
        fcntl.flock(held, kind)
        if not alone:
            fcntl.flock(queue, fcntl.LOCK_UN)
        yield


@pytest.fixture(autouse=True)
def _its_turn(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Run a test that is marked ``alone`` while no other test of the same run does."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    shared = tmp_path_factory.getbasetemp().parent
    with turn(shared, alone=request.node.get_closest_marker("alone") is not None):
        yield


def unmount_what_dead_runs_left(temporary: Path) -> None:
    """Unmount what is mounted in the directories of runs that have ended, or were killed.

    At its end a run removes the directories of earlier ones, and fails where it cannot.

    Args:
        temporary: where runs have their directories.
    """
    above = os.fsencode(temporary) + b"/pytest-of-"
    points = [one.point for one in mount_points()]
    for point in reversed(points):
        if point.startswith(above) and not _is_alive(point[len(above) :].split(b"/"), above):
            subprocess.run(["umount", "--lazy", point], check=False)


def _is_alive(parts: list[bytes], above: bytes) -> bool:
    lock = above + b"/".join(parts[:2]) + b"/.lock"  # by pytest, with a process's ID
    try:
        return os.path.exists(b"/proc/" + Path(os.fsdecode(lock)).read_bytes())
    except FileNotFoundError:
        return False


@pytest.fixture(autouse=True, scope="session")
def _runs_within_this_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let a run that a test begins have its directories in ours, where it removes nobody else's."""
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(tmp_path_factory.getbasetemp())


OURS = frozenset(
    ("slow calls", "usage", "publisher", "in place", "left in place", "snapshotter", "questions")
)
"""Threads that run until something is closed, by the beginnings of their names up to ``_``."""


@pytest.fixture(autouse=True, scope="module")
def _no_thread_stays() -> Iterator[None]:
    """Fail the last test of a module that leaves such a thread: something was not closed.

    For all tests of a module, since some share a server.
    """
    before = set(threading.enumerate())
    yield
    for one in set(threading.enumerate()) - before:
        if one.name.partition("_")[0] in OURS:
            one.join(60)
            assert not one.is_alive(), f"the thread {one.name!r} still runs"


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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", metavar="FILE", help="write which tests ran, and on what, to FILE")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and os.geteuid() == 0:
        unmount_what_dead_runs_left(Path(tempfile.gettempdir()))
    if os.environ.get("CI") == "true":
        config.pluginmanager.register(SkipPolice(), "skip-police")
    if record := config.getoption("record"):
        from tests.support.run_record import (
            RunRecord,
        )  # needs graphdriver, which tests of this file lack

        config.pluginmanager.register(
            RunRecord(Path(record), config.invocation_params.args), "run-record"
        )
