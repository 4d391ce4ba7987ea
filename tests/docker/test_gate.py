"""Init, and the calls that it does not overlap with."""

from __future__ import annotations

import threading

import pytest

from graphdriver.errors import InUseError
from graphdriver.serving import init_lock as gate_module
from graphdriver.serving.init_lock import Gate
from tests.docker.waiting import wait_until


def alone(gate: Gate, entered: threading.Event, leave: threading.Event) -> threading.Thread:
    def run() -> None:
        with gate.alone():
            entered.set()
            assert leave.wait(60)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def come(gate: Gate, came: threading.Event) -> None:
    gate.enter()
    came.set()


def test_who_is_alone_waits_for_those_inside_and_newcomers_wait_for_it() -> None:
    gate = Gate()
    entered, leave, came = threading.Event(), threading.Event(), threading.Event()
    gate.enter()
    gate.enter()
    thread = alone(gate, entered, leave)
    newcomer = threading.Thread(target=come, args=(gate, came))
    assert not entered.wait(0.1)
    newcomer.start()
    gate.leave()
    assert not entered.wait(0.1)
    assert not came.is_set()  # or somebody would always be inside
    gate.leave()
    assert entered.wait(60)
    assert not came.wait(0.1)
    leave.set()
    assert came.wait(60)
    thread.join(60)
    newcomer.join(60)


def test_two_are_alone_one_after_the_other() -> None:
    gate = Gate()
    first, second, leave = threading.Event(), threading.Event(), threading.Event()
    one = alone(gate, first, leave)
    assert first.wait(60)
    other = alone(gate, second, leave)
    assert not second.wait(0.1)
    leave.set()
    assert second.wait(60)
    one.join(60)
    other.join(60)


def test_who_waits_too_long_gives_up_and_lets_newcomers_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gate_module, "PATIENCE", 0.1)
    gate = Gate()
    gate.enter()
    with pytest.raises(InUseError, match="1 earlier calls did not end"), gate.alone():
        pass
    came = threading.Event()
    threading.Thread(target=come, args=(gate, came), daemon=True).start()
    assert came.wait(60)
    gate.leave()
    gate.leave()
    with gate.alone():
        pass


def test_who_gives_up_lets_those_in_who_came_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "PATIENCE", 1.0)
    gate = Gate()
    gate.enter()
    came = threading.Event()
    newcomer = threading.Thread(target=come, args=(gate, came), daemon=True)

    def wait_in_vain() -> None:
        with pytest.raises(InUseError), gate.alone():
            pass

    waiting = threading.Thread(target=wait_in_vain)
    waiting.start()
    wait_until(lambda: gate._alone)
    newcomer.start()
    assert came.wait(60)
    waiting.join(60)
