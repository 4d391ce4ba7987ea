"""Each connection has a thread, and nobody waits for another one's call."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from graphdriver.conformance.plugin import wire
from graphdriver.docker.http import server as server_module
from tests.docker.conftest import connections
from tests.support.plugin import Plugin
from tests.support.waiting import wait_until

ACTIVATE = wire.head("/Plugin.Activate", "Content-Length: 0")
EXISTS = wire.call("Exists", ID="a")
GET = wire.call("Get", ID="a")


@pytest.fixture
def slow(ready: Plugin) -> Iterator[Plugin]:
    """A plugin with a layer whose Get and Create wait; Activate does not."""
    with ready.wire() as daemon:
        assert daemon.ask(wire.call("Create", ID="a")).status == 200
    wait_until(lambda: connections() == 0)
    ready.box.pause.clear()
    yield ready
    ready.box.pause.set()


def threads() -> int:
    return sum(thread.name == "connection" for thread in threading.enumerate())


def test_a_connection_has_one_thread_which_ends_with_it(ready: Plugin) -> None:
    for _ in range(3):
        with contextlib.ExitStack() as stack:
            callers = [stack.enter_context(ready.wire()) for _ in range(40)]
            for caller in callers * 2:
                assert caller.ask(ACTIVATE).status == 200
                assert threads() <= 40
        wait_until(lambda: threads() == 0)
        assert connections() == 0


def test_a_call_that_takes_long_keeps_no_other_connection_waiting(slow: Plugin) -> None:
    with slow.wire() as stuck, slow.wire() as quick:
        stuck.send(GET)
        wait_until(lambda: slow.box.inside.get("a"))
        for _ in range(100):
            assert quick.ask(ACTIVATE).status == 200
        slow.box.pause.set()
        assert stuck.answer().status == 200


def test_all_connections_can_take_long_at_once_and_are_served_on(slow: Plugin) -> None:
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(slow.wire()) for _ in range(50)]
        for number, caller in enumerate(callers):
            caller.send(wire.call("Create", ID=f"b{number}"))
        wait_until(lambda: sum(slow.box.inside.values()) == 50)
        slow.box.pause.set()
        for caller in callers:
            assert caller.answer().members == {}
        for caller in callers:
            assert caller.ask(ACTIVATE).status == 200


def test_the_calls_of_one_connection_are_answered_one_after_the_other(slow: Plugin) -> None:
    with slow.wire() as stuck, slow.wire() as quick:
        stuck.send(GET, EXISTS, ACTIVATE)
        wait_until(lambda: slow.box.inside.get("a"))
        for _ in range(10):
            assert quick.ask(ACTIVATE).status == 200
        stuck.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            stuck.socket.recv(1)
        stuck.socket.settimeout(wire.TIMEOUT)
        slow.box.pause.set()
        assert "Dir" in stuck.answer().members
        assert stuck.answer().members == {"Exists": True}
        assert b"GraphDriver" in stuck.answer().body


def test_a_connection_whose_caller_hangs_up_during_a_call_ends_after_it(slow: Plugin) -> None:
    with slow.wire() as stuck, slow.wire() as quick:
        stuck.send(GET)
        wait_until(lambda: slow.box.inside.get("a"))
        stuck.close()
        assert quick.ask(ACTIVATE).status == 200
        assert connections() == 2
        slow.box.pause.set()
        wait_until(lambda: connections() == 1)
        wait_until(lambda: threads() == 1)


def test_a_stop_waits_for_a_call_and_for_its_thread(slow: Plugin) -> None:
    with slow.wire() as stuck, slow.wire() as idle:
        stuck.send(GET)
        wait_until(lambda: slow.box.inside.get("a"))
        assert idle.ask(ACTIVATE).status == 200
        stopper = threading.Thread(target=slow.stop)
        stopper.start()
        wait_until(lambda: threads() == 1)  # the idle one is gone, the other may end
        slow.box.pause.set()
        assert stuck.answer().status == 200
        stopper.join()
        assert threads() == 0


def test_without_a_thread_a_connection_waits_and_the_others_are_served(
    slow: Plugin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = threading.Thread.start

    def none_left(thread: threading.Thread) -> None:
        if thread.name == "connection":
            raise RuntimeError("can't start new thread")
        start(thread)

    with slow.wire() as stuck, slow.wire() as quick:
        stuck.send(GET)
        wait_until(lambda: slow.box.inside.get("a"))
        assert quick.ask(ACTIVATE).status == 200
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", none_left)
            waiting = [slow.wire(), slow.wire()]
            for one in waiting:
                one.send(ACTIVATE)
            wait_until(lambda: caplog.messages)
            for _ in range(10):
                assert quick.ask(ACTIVATE).status == 200
            assert connections() == 2
        for one in waiting:
            assert one.answer().status == 200
            one.close()
        slow.box.pause.set()
        assert stuck.answer().status == 200
    assert caplog.messages == ["cannot serve a connection, which waits: can't start new thread"]


def test_without_memory_for_its_buffer_a_connection_waits_and_the_server_lives(
    ready: Plugin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, finishing: bool) -> None:
        raise MemoryError

    monkeypatch.setattr(server_module, "Connection", fail)
    with ready.wire() as waiting:
        waiting.send(ACTIVATE)
        wait_until(lambda: caplog.messages or not ready.thread.is_alive())
        monkeypatch.undo()
        assert waiting.answer().status == 200
    assert caplog.messages == ["cannot serve a connection, which waits: no memory is free"]
