"""What an operator reads of calls: a line each at its end, and before that a warning of a slow one."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator

import pytest

from graphdriver.conformance.plugin import wire
from graphdriver.serving import call_log
from graphdriver.serving.call_log import CallLog
from tests.docker.conftest import connections
from tests.support.call_lines import Lines, collected_lines, members
from tests.support.plugin import Plugin
from tests.support.waiting import wait_until


@pytest.fixture
def lines() -> Iterator[Lines]:
    with collected_lines() as found:
        yield found


@pytest.fixture
def impatient(ready: Plugin, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    """A plugin that finds a call slow after a fifth of a second."""
    ready.stop()
    monkeypatch.setattr(call_log, "SLOW", 0.2)
    ready.start()
    return ready


def duration(line: logging.LogRecord) -> float:
    found = members(line)["ms"]
    assert isinstance(found, float)
    return found / 1000


def facts(line: logging.LogRecord) -> tuple[object, ...]:
    found = members(line)
    return found["call"], found.get("layer"), found.get("parent"), found.get("status")


@pytest.fixture
def watchers() -> Callable[[], int]:
    """Count the threads that look for slow calls, but for those of other tests in this process."""
    others = {*threading.enumerate()}
    return lambda: sum(one.name == "slow calls" for one in {*threading.enumerate()} - others)


# --- slow calls -----------------------------------------------------------------------------------


def test_a_slow_call_is_warned_of_while_it_still_runs(impatient: Plugin, lines: Lines) -> None:
    impatient.box.pause.clear()
    with impatient.wire() as daemon:
        daemon.send(wire.call("Create", ID="a", Parent="b"))
        wait_until(lambda: lines)
        assert impatient.box.inside["a"] == 1
        line = lines[0]
        assert line.levelno == logging.WARNING
        said = line.getMessage()
        assert re.fullmatch(r"create a has been running for \d+ s and still is", said)
        assert facts(line) == ("Create", "a", "b", None)
        assert duration(line) >= 0.2
        # again when its time has doubled, and so on
        wait_until(lambda: len(lines) >= 3)
        for one, least in zip(lines[:3], (0.2, 0.4, 0.8), strict=True):
            assert duration(one) >= least
        impatient.box.pause.set()
        assert daemon.answer().status == 500  # there is no b
    wait_until(lambda: facts(lines[-1])[3] == 500)
    assert impatient.handler.running() == []
    told = len(lines)
    threading.Event().wait(0.5)
    assert len(lines) == told  # it is not spoken of any more


@pytest.mark.parametrize("stuck", ["reading", "sending", "waiting"])
def test_a_call_that_waits_for_its_caller_or_for_another_is_a_slow_one_too(
    impatient: Plugin, lines: Lines, stuck: str
) -> None:
    with impatient.wire() as one, impatient.wire() as other:
        one.ask(wire.call("Create", ID="a"))
        if stuck == "reading":
            with open(f"{impatient.home}/a/tar", "wb") as file:
                file.truncate(50 << 20)
            one.send(wire.call("Diff", ID="a"))
        else:
            one.send(wire.apply_head("a"), *wire.chunks(b"hello"))
            wait_until(lambda: ("apply_diff", "a", "") in impatient.box.calls)
        if stuck == "waiting":
            other.send(wire.call("Remove", ID="a"))
        call = {"reading": "Diff", "sending": "ApplyDiff", "waiting": "Remove"}[stuck]
        wait_until(lambda: (call, "a", None, None) in map(facts, lines))
        one.close()


def test_many_slow_calls_are_watched_by_one_thread(
    watchers: Callable[[], int], impatient: Plugin, lines: Lines
) -> None:
    impatient.box.pause.clear()
    names = [f"a{number}" for number in range(20)]
    callers = [impatient.wire() for _ in names]
    for caller, name in zip(callers, names, strict=True):
        caller.send(wire.call("Create", ID=name))
    wait_until(lambda: {facts(line)[1] for line in lines} == set(names))
    assert watchers() == 1
    impatient.box.pause.set()
    for caller in callers:
        assert caller.answer().status == 200
        caller.close()


def test_a_quick_call_is_never_warned_of(impatient: Plugin, lines: Lines) -> None:
    with impatient.wire() as daemon:
        for _ in range(100):
            daemon.ask(wire.call("Exists", ID="a"))
            threading.Event().wait(0.005)  # for longer together than what is slow
    for line in lines:
        # On a busy machine one of them may be slow.
        assert line.levelno == logging.DEBUG or duration(line) >= 0.2


def test_a_slow_call_after_a_long_rest_is_warned_of(
    watchers: Callable[[], int], impatient: Plugin, lines: Lines
) -> None:
    with impatient.wire() as daemon:
        for _ in range(3):
            daemon.ask(wire.call("Exists", ID="a"))
            threading.Event().wait(0.5)  # the watcher has gone to sleep
        impatient.box.pause.clear()
        daemon.send(wire.call("Get", ID="a"))
        wait_until(lambda: ("Get", "a", None, None) in map(facts, lines))
        impatient.box.pause.set()
        daemon.answer()
    assert watchers() == 1


def test_the_thread_is_there_from_the_first_call_to_the_end(
    watchers: Callable[[], int], plugin: Plugin
) -> None:
    assert watchers() == 0
    with plugin.client() as client:
        client.activate()
        assert watchers() == 1
    plugin.stop()
    assert watchers() == 0
    plugin.start()


def test_a_call_that_finds_no_thread_for_its_watch_is_served(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CallLog()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    log.begin("Get").done(200)
    assert log.running() == []
    log.close()


def test_a_call_that_comes_after_the_end_starts_no_thread(watchers: Callable[[], int]) -> None:
    log = CallLog()
    log.close()
    log.begin("Get").done(200)
    assert watchers() == 0


# --- a line for each, at its end ------------------------------------------------------------------


def test_a_diffs_line_comes_when_its_stream_is_closed(ready: Plugin, lines: Lines) -> None:
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
        with open(f"{ready.home}/a/tar", "wb") as file:
            file.truncate(5 << 20)
        lines.clear()
        daemon.send(wire.call("Diff", ID="a"))
        wait_until(lambda: ready.box.open_streams)
        threading.Event().wait(0.3)
        assert lines == []
        assert daemon.answer().is_whole
        wait_until(lambda: lines)
    (line,) = lines
    assert facts(line) == ("Diff", "a", None, 200)
    assert duration(line) >= 0.3
    assert line.levelno == logging.DEBUG


@pytest.mark.parametrize("how", ["the driver", "the caller"])
def test_a_broken_diffs_line_says_so_and_how_long_it_took(
    ready: Plugin, lines: Lines, how: str
) -> None:
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
        with open(f"{ready.home}/a/tar", "wb") as file:
            file.truncate(5 << 20)
        if how == "the driver":
            with open(f"{ready.home}/a/break", "w") as file:
                file.write("3000000")
        lines.clear()
        daemon.send(wire.call("Diff", ID="a"))
        wait_until(lambda: ready.box.open_streams)
        threading.Event().wait(0.3)
        if how == "the driver":
            assert not daemon.answer().is_whole
    wait_until(lambda: connections() == 0)
    (line,) = lines
    assert facts(line) == ("Diff", "a", None, 200)
    assert duration(line) >= 0.3
    assert line.levelno == logging.WARNING
    assert line.getMessage().startswith("diff a: it broke off: ")


@pytest.mark.parametrize("broken", [False, True])
def test_an_applys_line_comes_when_all_was_taken_in(
    ready: Plugin, lines: Lines, broken: bool
) -> None:
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="b"))
        daemon.ask(wire.call("Create", ID="a", Parent="b"))
        lines.clear()
        daemon.send(wire.apply_head("a", "b"), *wire.chunks(b"hello"))
        wait_until(lambda: ("apply_diff", "a", "b") in ready.box.calls)
        threading.Event().wait(0.3)
        assert lines == []
        if not broken:
            assert daemon.ask(wire.LAST_CHUNK).status == 200
    wait_until(lambda: lines)
    (line,) = lines
    assert facts(line) == ("ApplyDiff", "a", "b", 500 if broken else 200)
    assert duration(line) >= 0.3
    assert ("the body broke off" in line.getMessage()) == broken


def test_a_refused_calls_line_says_what_was_asked(ready: Plugin, lines: Lines) -> None:
    with ready.wire() as daemon:
        daemon.ask(wire.call("Fly", ID="a"))
        daemon.ask(wire.call("Get", ID="a/b"))
        daemon.ask(wire.call("Create", ID="a", Parent="b"))
    assert [facts(line) for line in lines] == [
        ("", None, None, 404),
        ("Get", None, None, 400),
        ("Create", "a", "b", 500),
    ]
    assert all(line.levelno == logging.WARNING for line in lines)
