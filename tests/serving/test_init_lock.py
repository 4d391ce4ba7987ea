"""Init, and the calls that it does not overlap with."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from graphdriver.errors import InUseError
from graphdriver.serving import init_lock
from graphdriver.serving.init_lock import InitLock
from tests.support.waiting import wait_until


def init(lock: InitLock, entered: threading.Event, leave: threading.Event) -> threading.Thread:
    def run() -> None:
        with lock.exclusive():
            entered.set()
            assert leave.wait(60)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def call(lock: InitLock, began: threading.Event) -> None:
    lock.begin_call()
    began.set()


def test_init_waits_for_calls_that_run_and_new_calls_wait_for_it() -> None:
    lock = InitLock()
    entered, leave, began = threading.Event(), threading.Event(), threading.Event()
    lock.begin_call()
    lock.begin_call()
    thread = init(lock, entered, leave)
    later = threading.Thread(target=call, args=(lock, began))
    wait_until(lambda: lock._exclusive)
    later.start()
    lock.end_call()
    assert not entered.wait(0.1)
    assert not began.is_set()  # or some call would always run
    lock.end_call()
    assert entered.wait(60)
    assert not began.wait(0.1)
    leave.set()
    assert began.wait(60)
    thread.join(60)
    later.join(60)


def test_two_inits_run_one_after_the_other() -> None:
    lock = InitLock()
    first, second, leave = threading.Event(), threading.Event(), threading.Event()
    one = init(lock, first, leave)
    assert first.wait(60)
    other = init(lock, second, leave)
    assert not second.wait(0.1)
    leave.set()
    assert second.wait(60)
    one.join(60)
    other.join(60)


def test_an_init_that_waits_too_long_gives_up_and_lets_new_calls_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(init_lock, "TIMEOUT", 0.1)
    lock = InitLock()
    lock.begin_call()
    with pytest.raises(InUseError, match="1 earlier calls did not end"), lock.exclusive():
        pass
    began = threading.Event()
    threading.Thread(target=call, args=(lock, began), daemon=True).start()
    assert began.wait(60)
    lock.end_call()
    lock.end_call()
    with lock.exclusive():
        pass


def test_an_init_that_gives_up_lets_those_calls_run_that_came_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(init_lock, "TIMEOUT", 1.0)
    lock = InitLock()
    waits, wait_for = threading.Event(), lock._changed.wait_for

    def noted(is_true: Callable[[], bool], timeout: float) -> bool:
        waits.set()
        return wait_for(is_true, timeout)

    monkeypatch.setattr(lock._changed, "wait_for", noted)
    lock.begin_call()
    began = threading.Event()
    later = threading.Thread(target=call, args=(lock, began), daemon=True)

    def wait_in_vain() -> None:
        with pytest.raises(InUseError), lock.exclusive():
            pass

    waiting = threading.Thread(target=wait_in_vain)
    waiting.start()
    assert waits.wait(60)
    later.start()
    assert began.wait(60)
    waiting.join(60)
