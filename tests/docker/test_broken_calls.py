"""Calls that break off, and calls that come again, as real daemons make them.

A daemon makes a call whose connection broke again. What comes then is never the call itself: of a JSON
call an empty body, of an ApplyDiff what was not sent yet of the tar, and that may be well-formed.
"""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Callable

import pytest

from graphdriver import ReadStream
from graphdriver.conformance.plugin import wire
from graphdriver.docker.protocol import BY_PATH
from tests.docker.conftest import connections
from tests.docker.requests import NEEDS_NOTHING, REQUESTS, required
from tests.support.plugin import Plugin
from tests.support.waiting import wait_until


def tar(count: int = 3) -> tuple[bytes, list[int]]:
    """Return a tar of some files, and where each one's header begins."""
    out = io.BytesIO()
    starts = []
    with tarfile.open(fileobj=out, mode="w") as archive:
        for number in range(count):
            entry = tarfile.TarInfo(f"file-{number}")
            entry.size = 60_000
            starts.append(archive.offset)
            archive.addfile(entry, io.BytesIO(os.urandom(entry.size)))
    return out.getvalue(), starts


def applied(plugin: Plugin, id: str = "a") -> None:
    """See that a layer can be removed and loaded again, and is whole then."""
    whole, _ = tar()
    with plugin.wire() as daemon:
        assert daemon.ask(wire.call("Remove", ID=id)).members == {}
        assert daemon.ask(wire.call("Create", ID=id)).members == {}
        assert daemon.ask(wire.apply(id, whole)).members == {"Size": len(whole)}
        answer = daemon.ask(wire.call("Diff", ID=id))
        assert answer.is_whole
        assert answer.body == whole


def refused_to_all_but_remove(plugin: Plugin, id: str = "a") -> None:
    """See that nobody takes a half layer for a whole one."""
    with plugin.wire() as daemon:
        for call in (
            wire.call("Get", ID=id),
            wire.call("Diff", ID=id),
            wire.call("Changes", ID=id),
            wire.call("DiffSize", ID=id),
            wire.call("Create", ID=id),
            wire.call("Create", ID="b", Parent=id),
            wire.call("CreateReadWrite", ID="b", Parent=id),
            wire.apply(id, tar()[0]),
        ):
            assert "remove it" in daemon.ask(call).error
        assert os.listdir(f"{plugin.home}/.graphdriver/applying") == [id]


# --- bodies that break off ------------------------------------------------------------------------

WHOLE, STARTS = tar()
CHUNKED = b"".join(wire.chunks(WHOLE, 5000))
WITH_LENGTH = wire.head("/GraphDriver.ApplyDiff?id=a&parent=", f"Content-Length: {len(WHOLE)}")


@pytest.mark.parametrize(
    "sent",
    [
        wire.apply_head("a"),
        wire.apply_head("a") + b"1",
        wire.apply_head("a") + b"1388\r",
        wire.apply_head("a") + CHUNKED[:3000],
        wire.apply_head("a") + CHUNKED[: len(CHUNKED) - 1],
        wire.apply_head("a") + CHUNKED,
        wire.apply_head("a") + CHUNKED + b"0\r\n",
        wire.apply_head("a") + CHUNKED + b"0\r\n\r",
        WITH_LENGTH,
        WITH_LENGTH + WHOLE[:-1],
    ],
    ids=[
        "before it begins",
        "in a chunk's size",
        "behind a chunk's size",
        "in a chunk",
        "behind the last chunk's data",
        "before the chunk that ends it",
        "within that",
        "before the last byte",
        "before a body of known length",
        "before that one's last byte",
    ],
)
@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
@pytest.mark.parametrize("ending", ["close", "reset", "half-close"])
def test_a_layer_that_breaks_off_is_no_layer_until_it_is_removed(
    ready: Plugin, sent: bytes, tcp: bool, ending: str
) -> None:
    with ready.wire() as daemon:
        assert daemon.ask(wire.call("Create", ID="a")).members == {}
    with ready.wire(tcp=tcp) as daemon:
        daemon.send(sent)
        wait_until(lambda: ("apply_diff", "a", "") in ready.box.calls)
        if ending == "half-close":
            said = daemon.end_sending().answer().error
            assert said == "ApplyDiff a: the body broke off: the caller closed the connection"
        elif ending == "reset":
            daemon.reset()
        else:
            daemon.close()
    wait_until(lambda: connections() == 0)
    refused_to_all_but_remove(ready)
    applied(ready)


def test_a_layer_whose_driver_stops_at_the_tars_end_is_whole_only_if_its_body_is(
    ready: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_the_tar_alone(id: str, parent: str, archive: ReadStream) -> int:
        left = len(WHOLE)
        while left:
            left -= len(archive.read(left))
        ready.box.calls.append(("apply_diff", id, parent))
        return len(WHOLE)

    monkeypatch.setattr(ready.box, "apply_diff", read_the_tar_alone)
    with ready.wire() as daemon:
        for id in ("a", "b"):
            assert daemon.ask(wire.call("Create", ID=id)).members == {}
        assert daemon.ask(wire.apply("b", WHOLE + bytes(5000))).members == {"Size": len(WHOLE)}
    with ready.wire() as daemon:
        daemon.send(wire.apply_head("a") + CHUNKED)
        wait_until(lambda: ("apply_diff", "a", "") in ready.box.calls)
        assert "broke off" in daemon.end_sending().answer().error
    refused_to_all_but_remove(ready)


@pytest.mark.parametrize("method", REQUESTS)
def test_a_json_call_that_breaks_off_never_reaches_the_driver(ready: Plugin, method: str) -> None:
    whole = wire.call(method, ID="a", Home=ready.home)
    with ready.wire() as daemon:
        daemon.send(whole[:-4])
    with ready.wire() as daemon:
        # The answer reaches who can still read it.
        answer = daemon.send(whole[:-4]).end_sending().answer()
        assert answer.error.endswith("the body broke off: the caller closed the connection")
    wait_until(lambda: connections() == 0)
    assert ready.box.calls == []
    assert len(ready.box.inits) == 1


# --- calls that come again ------------------------------------------------------------------------


def test_every_call_that_needs_something_is_tried_here() -> None:
    assert BY_PATH.keys() == {
        "/Plugin.Activate",
        "/GraphDriver.ApplyDiff",
        *(f"/GraphDriver.{name}" for name in REQUESTS.keys() | {*NEEDS_NOTHING}),
    }


@pytest.mark.parametrize("method", REQUESTS)
def test_a_json_call_that_is_sent_again_is_no_success(ready: Plugin, method: str) -> None:
    with ready.wire() as daemon:
        answer = daemon.ask(wire.sent_again(method))
        assert answer.status == 400
        assert f": {required(REQUESTS[method])} is missing; a daemon that repeats" in answer.error
    assert ready.box.calls == []
    assert len(ready.box.inits) == 1


@pytest.mark.parametrize("method", NEEDS_NOTHING)
def test_a_call_that_needs_nothing_may_be_sent_again(ready: Plugin, method: str) -> None:
    with ready.wire() as daemon:
        assert daemon.ask(wire.sent_again(method)).status == 200


def test_a_layer_is_applied_to_once(ready: Plugin) -> None:
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
        assert daemon.ask(wire.apply("a", WHOLE)).status == 200
        for again in (WHOLE, b"", WHOLE[STARTS[1] :], bytes(1024)):
            answer = daemon.ask(wire.apply("a", again))
            assert answer.status == 500
            assert answer.error.startswith("ApplyDiff a: only a layer that was just created")
            assert answer.error.endswith("remove it and load again")
        assert daemon.ask(wire.call("Diff", ID="a")).body == WHOLE
    assert ready.box.calls.count(("apply_diff", "a", "")) == 1


@pytest.mark.parametrize("cut", [STARTS[1] + 700, STARTS[2], STARTS[1] + 512])
def test_the_well_formed_tail_of_a_broken_tar_is_refused(ready: Plugin, cut: int) -> None:
    """As seen from a daemon whose driver said ReproducesExactDiffs: no parser can tell it."""
    assert ready.box.capabilities().reproduces_exact_diffs
    tail = WHOLE[STARTS[2] :]
    with tarfile.open(fileobj=io.BytesIO(tail)) as archive:
        assert archive.getnames() == ["file-2"]
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
    with ready.wire() as daemon:
        daemon.send(wire.apply_head("a"), *wire.chunks(WHOLE[:cut]))
        wait_until(lambda: ("apply_diff", "a", "") in ready.box.calls)
    with ready.wire() as daemon:
        answer = daemon.ask(wire.apply("a", tail))
        assert answer.status == 500
        assert answer.error == (
            "ApplyDiff a: its first transfer broke off; remove it and load again"
        )
    refused_to_all_but_remove(ready)
    applied(ready)


def test_a_layer_that_a_former_process_created_is_not_applied_to(ready: Plugin) -> None:
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
    ready.restart()
    with ready.wire() as daemon:
        for body in (WHOLE, b"", WHOLE[STARTS[1] :]):
            answer = daemon.ask(wire.apply("a", body))
            assert answer.status == 500
            assert "not created since the plugin opened the home" in answer.error
            assert answer.error.endswith("remove it and load again")
    assert ready.box.calls == []
    applied(ready)


def test_a_layer_that_a_former_daemon_created_is_not_applied_to(ready: Plugin) -> None:
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
        daemon.ask(wire.call("Init", Home=ready.home))
        assert "remove it and load again" in daemon.ask(wire.apply("a", WHOLE)).error
    applied(ready)


def test_a_mark_outlives_the_process(ready: Plugin) -> None:
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
    with ready.wire() as daemon:
        daemon.send(wire.apply_head("a"), *wire.chunks(WHOLE))
        wait_until(lambda: ("apply_diff", "a", "") in ready.box.calls)
    wait_until(lambda: connections() == 0)
    ready.restart()
    refused_to_all_but_remove(ready)
    applied(ready)


def test_an_empty_tar_is_an_empty_layer_and_one_that_breaks_off_is_not(ready: Plugin) -> None:
    with ready.wire() as daemon:
        for id, body in (("a", wire.LAST_CHUNK), ("b", b"200\r\n" + bytes(512) + b"\r\n0\r\n\r\n")):
            daemon.ask(wire.call("Create", ID=id))
            assert daemon.ask(wire.apply_head(id) + body).status == 200
            assert daemon.ask(wire.call("Get", ID=id)).status == 200


def test_an_apply_that_is_refused_is_answered_when_its_whole_body_has_come(ready: Plugin) -> None:
    # An answer before that makes a daemon of 20.10 crash.
    with ready.wire() as daemon:
        daemon.socket.settimeout(0.5)
        with pytest.raises(wire.SilentError):
            daemon.ask(wire.apply_head("nope"), *wire.chunks(b"hello"))
        daemon.socket.settimeout(wire.TIMEOUT)
        assert daemon.ask(wire.LAST_CHUNK).status == 500


# --- Diffs, and who does not read them ------------------------------------------------------------


@pytest.fixture
def big(ready: Plugin) -> Plugin:
    """A plugin with a layer ``a`` of 50 MB."""
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
        with open(f"{ready.home}/a/tar", "wb") as file:
            file.truncate(50 << 20)
    return ready


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
@pytest.mark.parametrize("way", [wire.Wire.close, wire.Wire.reset])
def test_who_hangs_up_in_the_middle_of_a_diff_leaves_nothing_open(
    big: Plugin,
    way: Callable[[wire.Wire], None],
    tcp: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with big.wire(tcp=tcp) as daemon:
        daemon.send(wire.call("Diff", ID="a"))
        assert len(daemon.take(100_000)) == 100_000
        way(daemon)
        wait_until(lambda: connections() == 0)
    assert big.box.open_streams == 0
    (told,) = [one for one in caplog.records if one.name == "graphdriver.calls"]
    assert told.getMessage().startswith("diff a: it broke off: the caller closed the connection: ")
    applied(big)


def test_who_stops_reading_a_diff_holds_nobody_up_and_little_in_memory(big: Plugin) -> None:
    with big.wire() as stuck, big.wire() as daemon:
        stuck.send(wire.call("Diff", ID="a"))
        assert stuck.socket.recv(100)
        for call in ("Get", "Put", "Changes", "DiffSize", "GetMetadata"):
            assert daemon.ask(wire.call(call, ID="a")).status == 200
        assert daemon.ask(wire.call("Create", ID="b", Parent="a")).status == 200
        assert daemon.ask(wire.call("Diff", ID="a")).is_whole
        given = big.box.given - (50 << 20)
        assert given < 4 << 20, "what nobody reads must not be read either"
        assert big.box.open_streams == 1


def test_a_diff_that_fails_in_its_middle_is_broken_off_and_never_ended(
    big: Plugin, caplog: pytest.LogCaptureFixture
) -> None:
    with open(f"{big.home}/a/break", "w") as file:
        file.write("1000000")
    with big.wire() as daemon:
        answer = daemon.ask(wire.call("Diff", ID="a"))
        assert answer.status == 200
        assert not answer.is_whole
        assert len(answer.body) == 1_000_000
        assert daemon.rest() == b""
    assert big.box.open_streams == 0
    assert (
        "diff a: it broke off: the filesystem or its disk failed (see dmesg): the tar"
        in caplog.messages
    )


def test_a_diff_that_fails_at_once_is_an_answer(big: Plugin) -> None:
    with open(f"{big.home}/a/break", "w") as file:
        file.write("0")
    with big.wire() as daemon:
        said = daemon.ask(wire.call("Diff", ID="a"))
        assert (said.status, said.error) == (
            500,
            "diff a: the filesystem or its disk failed (see dmesg): the tar",
        )
        assert daemon.ask(wire.call("Exists", ID="a")).members == {"Exists": True}
    assert big.box.open_streams == 0


@pytest.mark.parametrize("wrong", [None, "text", 7])
def test_a_diff_whose_driver_gives_no_bytes_is_never_ended(
    big: Plugin, wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stream:
        def __init__(self) -> None:
            self.pieces: list[object] = [b"x" * 300_000, wrong, b""]
            self.closed = 0

        def read(self, n: int, /) -> bytes:
            return self.pieces.pop(0)  # type: ignore[return-value]

        def close(self) -> None:
            self.closed += 1

    stream = Stream()
    monkeypatch.setattr(big.box, "diff", lambda *_: stream)
    with big.wire() as daemon:
        answer = daemon.ask(wire.call("Diff", ID="a"))
        assert not answer.is_whole
    wait_until(lambda: connections() == 0)
    assert stream.closed == 1


@pytest.mark.parametrize("call", ["Remove", "ApplyDiff"])
def test_a_diff_of_a_layer_that_is_removed_or_filled_meanwhile_is_broken_off(
    big: Plugin, call: str
) -> None:
    with big.wire() as reading, big.wire() as daemon:
        reading.send(wire.call("Diff", ID="a"))
        wait_until(lambda: big.box.given > 200_000)  # and it waits to be read
        does = wire.apply("a", WHOLE) if call == "ApplyDiff" else wire.call("Remove", ID="a")
        assert daemon.ask(does).status == 200
        answer = reading.answer()
        assert not answer.is_whole
        assert len(answer.body) < 50 << 20
    assert big.box.open_streams == 0


class OddError(Exception):
    """An error that cannot even be printed."""

    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(16, "Device or resource busy"), "Device or resource busy"),
        (SystemExit(3), "SystemExit: 3"),
        (OddError(), "OddError, which cannot be put into words"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_close_that_fails_is_told_and_harms_nothing(
    big: Plugin,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: BaseException,
    said: str,
) -> None:
    class Stream(io.BytesIO):
        def close(self) -> None:
            super().close()
            raise error

    monkeypatch.setattr(big.box, "diff", lambda *_: Stream(b"tar"))
    with big.wire() as daemon:
        for _ in range(2):
            answer = daemon.ask(wire.call("Diff", ID="a"))
            assert answer.is_whole
            assert answer.body == b"tar"
    wait_until(lambda: connections() == 0)
    assert caplog.messages == [f"diff a: it broke off: {said}"] * 2
    assert big.handler.running() == []


# --- who stops sending ----------------------------------------------------------------------------


def test_who_stops_sending_a_layer_holds_up_that_layer_alone(ready: Plugin) -> None:
    with ready.wire() as stuck, ready.wire() as daemon, ready.wire() as waiting:
        stuck.ask(wire.call("Create", ID="a"))
        stuck.send(wire.apply_head("a"), *wire.chunks(b"hello"))
        wait_until(lambda: ("apply_diff", "a", "") in ready.box.calls)
        waiting.send(wire.call("Remove", ID="a"))
        daemon.ask(wire.call("Create", ID="b"))
        assert daemon.ask(wire.apply("b", WHOLE)).status == 200
        for call in ("Get", "Put", "Diff", "Remove"):
            assert daemon.ask(wire.call(call, ID="b")).status == 200
        assert ("remove", "a") not in ready.box.calls
        stuck.close()
        assert waiting.answer().members == {}
    assert not os.path.exists(f"{ready.home}/a")


def test_who_stops_sending_a_layer_does_not_hold_up_a_new_daemon_for_ever(
    ready: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphdriver.serving.init_lock.TIMEOUT", 0.3)
    with ready.wire() as stuck, ready.wire() as daemon, ready.wire() as other:
        stuck.ask(wire.call("Create", ID="a"))
        stuck.send(wire.apply_head("a"), *wire.chunks(b"hello"))
        wait_until(lambda: ("apply_diff", "a", "") in ready.box.calls)
        refused = daemon.ask(wire.call("Init", Home=ready.home))
        assert refused.error.startswith("init: 1 earlier calls did not end within 0 s; ")
        assert other.ask(wire.call("Exists", ID="b")).status == 200
        stuck.close()
        assert daemon.ask(wire.call("Init", Home=ready.home)).members == {}


def test_a_stop_lets_a_call_under_way_end(ready: Plugin) -> None:
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
        daemon.send(wire.apply_head("a"), *wire.chunks(b"hello"))
        wait_until(lambda: ("apply_diff", "a", "") in ready.box.calls)
        stopper = threading.Thread(target=ready.stop)
        stopper.start()
        wait_until(lambda: not os.path.exists(ready.path))
        answer = daemon.ask(wire.LAST_CHUNK)
        assert answer.members == {"Size": 5}
        assert answer.headers["connection"] == "close"
        stopper.join(60)
        assert not stopper.is_alive()
