"""A call that the driver refuses, because the layer is in use, leaves everything as it was."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import pytest

from graphdriver.conformance.plugin import wire
from graphdriver.docker import diffs
from graphdriver.docker.http import connection as connection_module
from graphdriver.driver import ReadStream
from graphdriver.errors import GraphDriverError, InUseError
from tests.support.plugin import Plugin
from tests.support.waiting import wait_until

WHOLE = bytes(range(256)) * (8 << 10)
"""What a connection does not hold; its reader is waited for."""

CALLS = {
    "Remove": lambda: wire.call("Remove", ID="a"),
    "ApplyDiff": lambda: wire.apply("a", b"other"),
}


class Deciding:
    """A call of the driver that waits until the test decides what it does."""

    def __init__(self, plugin: Plugin, call: str, *, reads: bool = False) -> None:
        self.inside = threading.Event()
        self.go_on = threading.Event()
        self.outcome: Exception | None = None
        self._reads = reads
        self._does: Callable[..., object] = getattr(
            plugin.box, {"Remove": "remove", "ApplyDiff": "apply_diff"}[call]
        )

    def __call__(self, id: str, parent: str = "", archive: ReadStream | None = None) -> object:
        if self._reads:
            assert archive
            archive.read(1)
        self.inside.set()
        assert self.go_on.wait(60)
        if self.outcome:
            raise self.outcome
        return self._does(id, parent, archive) if archive else self._does(id)


@pytest.fixture
def big(ready: Plugin) -> Plugin:
    """A layer whose Diff is long; it may be applied to once more."""
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
    with open(f"{ready.home}/a/tar", "wb") as file:
        file.write(WHOLE)
    return ready


@pytest.fixture
def reading(big: Plugin, monkeypatch: pytest.MonkeyPatch) -> Iterator[wire.Wire]:
    """A Diff that has begun and that nobody reads yet: the first piece does not fit."""
    monkeypatch.setattr(connection_module, "_ROOM", 100_000)
    with big.wire() as connection:
        connection.send(wire.call("Diff", ID="a"))
        wait_until(lambda: big.box.given > 200_000)
        yield connection


def deciding(plugin: Plugin, call: str, monkeypatch: pytest.MonkeyPatch, **how: bool) -> Deciding:
    one = Deciding(plugin, call, **how)
    monkeypatch.setattr(plugin.box, call.lower().replace("diff", "_diff"), one)
    return one


@pytest.mark.parametrize("call", CALLS)
def test_a_diff_goes_on_when_the_driver_has_refused(
    big: Plugin, reading: wire.Wire, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = deciding(big, call, monkeypatch)
    one.outcome = InUseError("the layer b stands on it", hint="remove that one first")
    with big.wire() as daemon:
        daemon.send(CALLS[call]())
        assert one.inside.wait(60)
        before = big.box.given
        reader = threading.Thread(target=lambda: answers.append(reading.answer()))
        answers: list[wire.Answer] = []
        reader.start()
        wait_until(lambda: big.box.given > before)  # one more piece is read, and held back
        one.go_on.set()
        assert "the layer b stands on it; remove that one first" in daemon.answer().error
        reader.join(60)
    assert answers[0].is_whole
    assert answers[0].body == WHOLE


@pytest.mark.parametrize(
    "outcome", [None, OSError(5, "Input/output error"), GraphDriverError("no")]
)
@pytest.mark.parametrize("call", CALLS)
def test_nothing_that_was_read_meanwhile_is_given_out_if_the_layer_was_touched(
    big: Plugin,
    reading: wire.Wire,
    call: str,
    outcome: Exception | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = deciding(big, call, monkeypatch)
    one.outcome = outcome
    with big.wire() as daemon:
        daemon.send(CALLS[call]())
        assert one.inside.wait(60)
        given = big.box.given
        answers: list[wire.Answer] = []
        reader = threading.Thread(target=lambda: answers.append(reading.answer()))
        reader.start()
        wait_until(lambda: big.box.given > given)
        one.go_on.set()
        daemon.answer()
        reader.join(60)
    assert not answers[0].is_whole
    # All that came was read before the call; what was read after it began is not there.
    assert len(answers[0].body) <= given
    assert WHOLE.startswith(answers[0].body)


def test_a_diff_does_not_wait_for_ever(
    big: Plugin, reading: wire.Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diffs, "TIMEOUT", 0.01)
    one = deciding(big, "Remove", monkeypatch)
    with big.wire() as daemon:
        daemon.send(CALLS["Remove"]())
        assert one.inside.wait(60)
        assert not reading.answer().is_whole
        one.go_on.set()
        assert daemon.answer().status == 200


def test_a_diff_breaks_off_as_soon_as_its_layer_is_filled(
    big: Plugin, reading: wire.Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = deciding(big, "ApplyDiff", monkeypatch, reads=True)
    with big.wire() as daemon:
        daemon.send(CALLS["ApplyDiff"]())
        assert one.inside.wait(60)
        assert not reading.answer().is_whole  # while the call still runs
        one.go_on.set()
        assert daemon.answer().status == 200


@pytest.mark.parametrize("call", CALLS)
def test_a_refused_call_leaves_no_mark_and_can_be_made_again(
    big: Plugin, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = deciding(big, call, monkeypatch)
    one.go_on.set()
    with big.wire() as daemon:
        for child in ("b", "c"):
            one.outcome = InUseError("the layer b stands on it")
            assert "stands on it" in daemon.ask(CALLS[call]()).error
            assert os.listdir(f"{big.home}/.graphdriver/applying") == []
            assert daemon.ask(wire.call("Get", ID="a")).status == 200
            assert daemon.ask(wire.call("Put", ID="a")).status == 200
            assert daemon.ask(wire.call("Create", ID=child, Parent="a")).status == 200
            assert daemon.ask(wire.call("Diff", ID="a")).body == WHOLE
        one.outcome = None
        assert daemon.ask(CALLS[call]()).status == 200


def test_a_refusal_that_comes_when_the_tar_is_begun_leaves_the_mark(
    big: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = deciding(big, "ApplyDiff", monkeypatch, reads=True)
    one.outcome = InUseError("busy")
    one.go_on.set()
    with big.wire() as daemon:
        assert daemon.ask(CALLS["ApplyDiff"]()).status == 500
        assert "transfer did not finish" in daemon.ask(wire.call("Get", ID="a")).error
        assert os.listdir(f"{big.home}/.graphdriver/applying") == ["a"]


def test_calls_for_an_unfinished_layer(big: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    one = deciding(big, "ApplyDiff", monkeypatch, reads=True)
    one.outcome = OSError("the disk fails")
    one.go_on.set()
    with big.wire() as daemon:
        assert daemon.ask(wire.call("Get", ID="a")).status == 200
        assert daemon.ask(CALLS["ApplyDiff"]()).status == 500
        for call in ("Get", "Diff", "Changes", "DiffSize", "Create", "CreateReadWrite"):
            assert "transfer did not finish" in daemon.ask(wire.call(call, ID="a")).error, call
        child = daemon.ask(wire.call("Create", ID="b", Parent="a"))
        assert "layer a is incomplete" in child.error
        assert "first transfer broke off" in daemon.ask(CALLS["ApplyDiff"]()).error
        for call in ("Exists", "GetMetadata", "Put", "Remove"):
            assert daemon.ask(wire.call(call, ID="a")).status == 200, call
