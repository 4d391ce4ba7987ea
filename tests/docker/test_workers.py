"""Who serves which connection, and how many threads that takes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from graphdriver.docker.http import workers as workers_module
from graphdriver.docker.http.workers import SPARE, Workers
from tests.support.waiting import wait_until

FEW = SPARE + 1
"""How many threads there are at most when no call takes long: one that leads, and the spare ones."""


class Echo:
    """Workers that send back what comes, a byte at a time; a ``w`` has to wait for `go_on`."""

    def __init__(self) -> None:
        self.workers = Workers(self.serve, self.end)
        self.go_on = threading.Event()
        self.waiting = 0
        self.ended: list[socket.socket] = []

    def serve(self, connection: socket.socket) -> bool:
        byte = connection.recv(1)
        if byte == b"w":
            self.waiting += 1
            assert self.go_on.wait(60)
            self.waiting -= 1
        if byte:
            connection.send(byte)
        return bool(byte)

    def end(self, connection: socket.socket) -> None:
        self.ended.append(connection)
        connection.close()

    @contextlib.contextmanager
    def caller(self) -> Iterator[socket.socket]:
        ours, theirs = socket.socketpair()
        with ours:
            ours.settimeout(60)
            self.workers.take(theirs)
            yield ours
        wait_until(lambda: theirs in self.ended)


@pytest.fixture
def echo() -> Iterator[Echo]:
    one = Echo()
    yield one
    one.go_on.set()
    one.workers.close(wait=True)
    assert threads() == 0


def threads() -> int:
    return sum(thread.name == "worker" for thread in threading.enumerate())


def ask(caller: socket.socket, what: bytes) -> None:
    caller.sendall(what)
    assert caller.recv(1) == what


def test_idle_connections_take_no_thread_each(echo: Echo) -> None:
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(echo.caller()) for _ in range(5 * FEW)]
        for caller in callers:
            ask(caller, b"a")
        wait_until(lambda: threads() <= FEW)


def test_what_takes_long_keeps_nobody_waiting(echo: Echo) -> None:
    with echo.caller() as slow, echo.caller() as quick:
        slow.sendall(b"w")
        wait_until(lambda: echo.waiting)
        for _ in range(100):
            ask(quick, b"a")
        echo.go_on.set()
        assert slow.recv(1) == b"w"


def test_as_many_can_take_long_as_there_are_connections_and_the_threads_end(echo: Echo) -> None:
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(echo.caller()) for _ in range(5 * FEW)]
        for caller in callers:
            caller.sendall(b"w")
        wait_until(lambda: echo.waiting == 5 * FEW)
        assert threads() >= 5 * FEW
        echo.go_on.set()
        for caller in callers:
            assert caller.recv(1) == b"w"
            ask(caller, b"a")  # and each connection is served on
        wait_until(lambda: threads() <= FEW)


def test_a_connection_is_served_by_one_thread_at_a_time(echo: Echo) -> None:
    with echo.caller() as slow, echo.caller() as quick:
        slow.sendall(b"wabc")  # more is there to be read all the while
        wait_until(lambda: echo.waiting)
        for _ in range(10):
            ask(quick, b"a")
        slow.setblocking(False)
        with pytest.raises(BlockingIOError):
            slow.recv(1)
        slow.settimeout(60)
        echo.go_on.set()
        assert b"".join(slow.recv(1) for _ in range(4)) == b"wabc"


def test_who_hangs_up_while_a_call_takes_long_is_ended_after_it(echo: Echo) -> None:
    with echo.caller() as quick:
        ours, theirs = socket.socketpair()
        with ours:
            echo.workers.take(theirs)
            ours.sendall(b"w")
            wait_until(lambda: echo.waiting)
            ours.shutdown(socket.SHUT_WR)
            ask(quick, b"a")
            assert theirs not in echo.ended
            echo.go_on.set()
            wait_until(lambda: theirs in echo.ended)


def test_a_close_waits_for_what_takes_long_if_it_is_told_to(echo: Echo) -> None:
    with echo.caller() as slow:
        slow.sendall(b"w")
        wait_until(lambda: echo.waiting)
        echo.workers.close(wait=False)
        wait_until(lambda: threads() == 1)
        echo.go_on.set()
        assert slow.recv(1) == b"w"
        wait_until(lambda: threads() == 0)
        echo.ended.extend(echo.workers._connections.values())  # nobody serves it any more
        echo.workers._connections.popitem()[1].close()


def test_a_leader_that_nobody_can_stand_by_goes_on_and_tells_once(
    echo: Echo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers_module, "_RETRY", 0.01)
    start = threading.Thread.start

    def none_left(thread: threading.Thread) -> None:
        if thread.name == "worker":
            raise RuntimeError("can't start new thread")
        start(thread)

    with echo.caller() as first, echo.caller() as second, echo.caller() as third:
        ask(first, b"a")
        wait_until(lambda: echo.workers._standing)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", none_left)
            first.sendall(b"w")
            wait_until(lambda: echo.waiting == 1)
            for _ in range(10):
                ask(second, b"a")
            second.sendall(b"w")
            wait_until(lambda: echo.waiting == 2)
            third.sendall(b"a")
            third.settimeout(0.3)
            with pytest.raises(TimeoutError):
                third.recv(1)  # there is no thread for it
            assert caplog.messages == [
                "a call that takes long keeps the others waiting: can't start new thread"
            ]
            third.settimeout(60)
            echo.go_on.set()
            assert third.recv(1) == b"a"
            assert first.recv(1) == second.recv(1) == b"w"
    assert len(caplog.messages) == 1


def test_without_any_thread_no_connection_is_taken(
    echo: Echo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ours, theirs = socket.socketpair()
    with ours, theirs:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", none_left)
            with pytest.raises(RuntimeError):
                echo.workers.take(theirs)
        assert not echo.workers._connections
    with echo.caller() as caller:
        ask(caller, b"a")


def test_after_the_close_no_connection_is_taken(echo: Echo) -> None:
    echo.workers.close(wait=True)
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(RuntimeError, match="not served any more"):
        echo.workers.take(theirs)
    assert threads() == 0
