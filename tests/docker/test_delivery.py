"""Answers that do not reach their caller: what the call did is undone, where that can be known.

Each way in which a caller can go is tried on a Get, on a unix socket and over TCP. What must hold: a
Get whose answer was surely not read is put again; one that may have been read is never touched, for a
container may run on it.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from graphdriver.conformance.plugin import wire
from graphdriver.conformance.plugin.wire import Wire
from tests.docker.conftest import connections
from tests.support.plugin import Plugin
from tests.support.waiting import wait_until

GET = wire.call("Get", ID="a")


@pytest.fixture
def layer(ready: Plugin) -> Plugin:
    """A plugin with a layer that nobody holds."""
    with ready.wire() as daemon:
        assert daemon.ask(wire.call("Create", ID="a")).status == 200
    wait_until(lambda: connections() == 0)
    return ready


def wait_for_answer(daemon: Wire) -> None:
    """Wait until the answer is there, and leave it unread."""
    assert select.select([daemon.socket], [], [], wire.TIMEOUT)[0]


def read(daemon: Wire) -> None:
    assert daemon.answer().status == 200


# Ways to go, from the Get on.


def closes_before(plugin: Plugin, daemon: Wire) -> None:
    plugin.box.pause.clear()
    daemon.send(GET)
    wait_until(lambda: plugin.box.inside.get("a"))
    daemon.close()
    plugin.box.pause.set()


def resets_before(plugin: Plugin, daemon: Wire) -> None:
    plugin.box.pause.clear()
    daemon.send(GET)
    wait_until(lambda: plugin.box.inside.get("a"))
    daemon.reset()
    plugin.box.pause.set()


def half_closes_and_closes_before(plugin: Plugin, daemon: Wire) -> None:
    plugin.box.pause.clear()
    daemon.send(GET).end_sending()
    wait_until(lambda: plugin.box.inside.get("a"))
    daemon.close()
    plugin.box.pause.set()


def closes_without_reading(_: Plugin, daemon: Wire) -> None:
    wait_for_answer(daemon.send(GET))
    daemon.close()


def calls_again_and_never_reads(_: Plugin, daemon: Wire) -> None:
    wait_for_answer(daemon.send(GET))
    daemon.send(b"POST /GraphDriver.Put HT")
    daemon.close()


def closes_after_a_part(_: Plugin, daemon: Wire) -> None:
    daemon.send(GET)
    assert daemon.socket.recv(20)
    daemon.close()


def half_closes_and_never_reads(_: Plugin, daemon: Wire) -> None:
    wait_for_answer(daemon.send(GET).end_sending())
    daemon.close()


def says_close_and_never_reads(_: Plugin, daemon: Wire) -> None:
    wait_for_answer(daemon.send(GET.replace(b"Accept:", b"Connection: close\r\nAccept:")))
    daemon.close()


def reads_and_closes(_: Plugin, daemon: Wire) -> None:
    read(daemon.send(GET))
    daemon.close()


def reads_and_resets(_: Plugin, daemon: Wire) -> None:
    read(daemon.send(GET))
    daemon.reset()


def half_closes_reads_and_closes(_: Plugin, daemon: Wire) -> None:
    wait_for_answer(daemon.send(GET).end_sending())
    read(daemon)
    daemon.close()


def says_close_reads_and_closes(_: Plugin, daemon: Wire) -> None:
    read(daemon.send(GET.replace(b"Accept:", b"Connection: close\r\nAccept:")))
    daemon.close()


def reads_and_calls_again_without_reading(_: Plugin, daemon: Wire) -> None:
    read(daemon.send(GET))
    wait_for_answer(daemon.send(wire.call("Exists", ID="a")))
    daemon.close()


def reads_and_breaks_off_in_the_next_call(_: Plugin, daemon: Wire) -> None:
    read(daemon.send(GET))
    daemon.send(b"POST /GraphDriver.Put HT")
    daemon.close()


def reads_and_is_half_closed_for_long(_: Plugin, daemon: Wire) -> None:
    read(daemon.send(GET).end_sending())
    assert daemon.rest() == b""
    daemon.close()


Way = Callable[[Plugin, Wire], None]

LOST: list[Way] = [
    closes_before,
    resets_before,
    half_closes_and_closes_before,
]
LOST_ON_UNIX: list[Way] = [
    closes_without_reading,
    closes_after_a_part,
    calls_again_and_never_reads,
    half_closes_and_never_reads,
    says_close_and_never_reads,
]
READ: list[Way] = [
    reads_and_closes,
    reads_and_resets,
    half_closes_reads_and_closes,
    says_close_reads_and_closes,
    reads_and_calls_again_without_reading,
    reads_and_breaks_off_in_the_next_call,
    reads_and_is_half_closed_for_long,
]


def after(plugin: Plugin, way: Way, *, tcp: bool) -> int:
    """Return how often the layer is held when a caller has gone."""
    way(plugin, plugin.wire(tcp=tcp))
    wait_until(lambda: connections() == 0)
    return plugin.box.held["a"]


@pytest.mark.parametrize("way", LOST + LOST_ON_UNIX)
def test_a_get_whose_answer_is_never_read_is_undone(
    layer: Plugin, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    assert after(layer, way, tcp=False) == 0
    assert layer.box.calls.count(("put", "a")) == 1
    said = "get a: the caller was gone before it had the answer; the call was undone"
    assert said in caplog.messages


@pytest.mark.parametrize("way", READ)
def test_a_get_whose_answer_was_read_stays(layer: Plugin, way: Way) -> None:
    assert after(layer, way, tcp=False) == 1


@pytest.mark.parametrize("way", LOST)
def test_over_tcp_a_get_of_who_was_gone_before_is_undone(layer: Plugin, way: Way) -> None:
    assert after(layer, way, tcp=True) == 0


@pytest.mark.parametrize("way", [*READ, closes_without_reading])
def test_over_tcp_a_get_that_may_have_been_read_stays(layer: Plugin, way: Way) -> None:
    # A reset after the answer may be a router's, hours later.
    assert after(layer, way, tcp=True) == 1


CALLER = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
connection.sendall(bytes.fromhex(sys.argv[2]))
if sys.argv[3] == "reads":
    connection.recv(65536)
else:
    connection.recv(1, socket.MSG_PEEK)
print("there", flush=True)
sys.stdin.read()
"""


def killed(plugin: Plugin, when: str) -> None:
    """Let a process make the Get and kill it: ``before`` the answer, when it is there, or read."""
    command = [sys.executable, "-c", CALLER, plugin.path, GET.hex(), when]
    if when == "before":
        plugin.box.pause.clear()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as caller:
        if when == "before":
            wait_until(lambda: plugin.box.inside.get("a"))
        else:
            assert caller.stdout
            assert caller.stdout.readline() == b"there\n"
        os.kill(caller.pid, signal.SIGKILL)
    plugin.box.pause.set()
    wait_until(lambda: connections() == 0)


@pytest.mark.parametrize(("when", "held"), [("before", 0), ("there", 0), ("reads", 1)])
def test_of_a_killed_caller_only_what_it_never_read_is_undone(
    layer: Plugin, when: str, held: int
) -> None:
    killed(layer, when)
    assert layer.box.held["a"] == held


def test_a_caller_that_is_slow_to_read_is_waited_for(layer: Plugin) -> None:
    with layer.wire() as daemon:
        wait_for_answer(daemon.send(GET).end_sending())
        threading.Event().wait(0.3)  # what is too short for it would be seen as gone
        assert connections() == 1
        read(daemon)
        wait_until(lambda: connections() == 0)
    assert layer.box.held["a"] == 1


def test_a_stop_undoes_no_get_that_may_still_be_read(layer: Plugin) -> None:
    with layer.wire() as daemon:
        wait_for_answer(daemon.send(GET))
        stopper = threading.Thread(target=layer.stop)
        stopper.start()
        read(daemon)
        stopper.join(60)
        assert not stopper.is_alive()
    assert layer.box.held["a"] == 1


@pytest.mark.parametrize("call", ["Create", "CreateReadWrite"])
def test_a_create_of_which_nobody_knows_is_undone(ready: Plugin, call: str) -> None:
    with ready.wire() as daemon:
        wait_for_answer(daemon.send(wire.call(call, ID="b")))
    wait_until(lambda: connections() == 0)
    with ready.wire() as daemon:
        # As a daemon does: again, with its body used up; then it gives the layer up.
        assert f"{spoken(call)}: ID is missing" in daemon.ask(wire.sent_again(call)).error
        assert daemon.ask(wire.call("Exists", ID="b")).members == {"Exists": False}
        assert daemon.ask(wire.call(call, ID="b")).status == 200
    assert os.listdir(f"{ready.home}/.graphdriver/applying") == []


def spoken(call: str) -> str:
    return {"Create": "create", "CreateReadWrite": "CreateReadWrite"}[call]


def test_a_create_that_somebody_went_on_with_is_not_undone(ready: Plugin) -> None:
    with ready.wire() as daemon:
        wait_for_answer(daemon.send(wire.call("Create", ID="b")))
        with ready.wire() as other:
            assert other.ask(wire.apply("b", b"tar")).status == 200
    wait_until(lambda: connections() == 0)
    with ready.wire() as daemon:
        assert daemon.ask(wire.call("Diff", ID="b")).body == b"tar"


def test_a_failed_call_is_not_undone(layer: Plugin) -> None:
    with layer.wire() as daemon:
        wait_for_answer(daemon.send(wire.call("Create", ID="a")))  # it exists
    wait_until(lambda: connections() == 0)
    with layer.wire() as daemon:
        assert daemon.ask(wire.call("Exists", ID="a")).members == {"Exists": True}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(16, "Device or resource busy", "a"), "Device or resource busy: a"),
        (SystemExit(3), "SystemExit: 3"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_call_that_cannot_be_undone_is_told_and_harms_nothing(
    layer: Plugin, caplog: pytest.LogCaptureFixture, error: BaseException, said: str
) -> None:
    def fail(id: str) -> None:
        raise error

    layer.box.put = fail  # type: ignore[method-assign]
    closes_before(layer, layer.wire())
    wait_until(lambda: connections() == 0)
    (told,) = [one for one in caplog.records if "cannot be undone" in one.getMessage()]
    assert told.levelno == logging.WARNING
    assert told.getMessage() == (
        f"get a: the caller was gone before it had the answer; the call cannot be undone: {said}"
    )
    with layer.wire() as daemon:
        assert daemon.ask(wire.call("Exists", ID="a")).status == 200


def test_a_caller_that_half_closes_is_answered_in_full(layer: Plugin) -> None:
    tar = bytes(range(256)) * 10_000
    with layer.wire() as daemon:
        daemon.ask(wire.apply("a", tar))
    with layer.wire() as daemon:
        daemon.send(wire.call("Diff", ID="a")).end_sending()
        answer = daemon.answer()
        assert answer.is_whole
        assert answer.body == tar


def test_who_comes_and_goes_without_a_word_is_no_trouble(
    layer: Plugin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for tcp in (False, True):
        layer.wire(tcp=tcp).close()
        wait_until(lambda: connections() == 0)
    assert caplog.messages == []
