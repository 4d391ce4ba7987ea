"""Questions to a running plugin: answered at any time, beside the protocol, and no calls."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import pytest

from graphdriver.conformance.plugin import wire
from graphdriver.errors import RemoteError, UnknownCallError
from tests.support.plugin import Plugin
from tests.support.waiting import wait_until


def ask(plugin: Plugin, question: str) -> Any:
    with plugin.client() as client:
        return client.ask(question)


def test_a_plugin_answers_before_any_init(plugin: Plugin) -> None:
    status = ask(plugin, "status")
    assert (status["ready"], status["home"], status["calls"]) == (False, "", {})
    assert status["not_ready"] == "no home is served; a daemon sends Init when it starts"
    assert status["pid"] == os.getpid()
    assert status["engine"] == "docker"
    assert status["disk"] is status["driver_status"] is None
    assert ask(plugin, "layers") == ask(plugin, "calls") == []


def test_the_status_tells_what_is_served_and_what_was_done(ready: Plugin) -> None:
    with ready.client() as client:
        client.create("a")
        client.get("a")
        with pytest.raises(RemoteError):
            client.get("b")
    status = ask(ready, "status")
    assert (status["ready"], status["home"], status["driver"]) == (True, ready.home, "TarBox")
    assert status["not_ready"] is None
    assert (status["layers"], status["references"], status["unfinished"]) == (1, 1, 0)
    assert status["driver_status"] == [["Z", "first"], ["A", "second"]]
    assert status["disk"]["size"] >= status["disk"]["free"] > 0
    gets = status["calls"]["Get"]
    assert (gets["count"], gets["errors"], gets["in_flight"]) == (2, {"not found": 1}, 0)
    assert 0 < gets["p50_ms"] <= gets["p99_ms"]


def test_bytes_and_the_last_sync_are_counted(ready: Plugin) -> None:
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
        daemon.ask(wire.apply_head("a"), *wire.chunks(b"x" * 1000), wire.LAST_CHUNK)
        daemon.ask(wire.call("Diff", ID="a"))
    status = ask(ready, "status")
    assert (status["bytes_in"], status["bytes_out"]) == (1000, 1000)
    assert status["last_sync"] >= status["started"]


def test_each_layer_tells_its_age_and_who_got_it(ready: Plugin) -> None:
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
        daemon.ask(wire.apply_head("a"), *wire.chunks(b"x" * 1000), wire.LAST_CHUNK)
        daemon.ask(wire.call("Create", ID="b", Parent="a"))
        for call in ("Get", "Get", "Put"):
            daemon.ask(wire.call(call, ID="b"))
        daemon.ask(wire.call("Create", ID="c", Parent="a"))
        daemon.ask(wire.call("Remove", ID="c"))
        a, b = ask(ready, "layers")
    assert (a["id"], a["parent"], a["size"], a["unfinished"]) == ("a", "", 1000, False)
    assert a["created"] <= a["applied"]
    assert (a["gets"], a["last_get"], a["got_by"]) == (0, None, None)
    assert (b["parent"], b["applied"], b["gets"], b["references"]) == ("a", None, 2, 1)
    assert b["last_get"] >= b["created"]
    with open("/proc/self/comm") as file:
        assert b["got_by"] == {"pid": os.getpid(), "command": file.read().strip()}


def test_a_running_call_tells_its_bytes_its_caller_and_what_it_waits_for(ready: Plugin) -> None:
    with ready.wire() as one, ready.wire() as other:
        one.ask(wire.call("Create", ID="p"))
        one.ask(wire.call("Create", ID="a", Parent="p"))
        one.send(wire.apply_head("a", "p"), *wire.chunks(b"hello"))
        wait_until(lambda: [call["bytes"] for call in ask(ready, "calls")] == [5])
        other.send(wire.call("Remove", ID="a"))
        wait_until(lambda: len(ask(ready, "calls")) == 2)
        wait_until(lambda: ask(ready, "calls")[1]["waits_for"])
        apply, remove = ask(ready, "calls")
        assert (apply["call"], apply["layer"], apply["parent"]) == ("ApplyDiff", "a", "p")
        assert apply["seconds"] > 0
        assert apply["waits_for"] is None
        assert apply["peer"]["pid"] == os.getpid()
        assert (remove["call"], remove["bytes"]) == ("Remove", 0)
        assert remove["waits_for"] == {"layer": "a", "call": "ApplyDiff a"}
        (layer,) = [layer for layer in ask(ready, "layers") if layer["id"] == "a"]
        assert layer["unfinished"]
        calls = ask(ready, "status")["calls"]
        assert [calls[name]["in_flight"] for name in ("ApplyDiff", "Remove")] == [1, 1]


def test_a_diff_that_streams_is_a_running_call(ready: Plugin) -> None:
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
        with open(f"{ready.home}/a/tar", "wb") as file:
            file.truncate(50 << 20)
        daemon.send(wire.call("Diff", ID="a"))
        wait_until(lambda: ask(ready, "calls"))
        (diff,) = ask(ready, "calls")
        assert (diff["call"], diff["layer"]) == ("Diff", "a")
        assert daemon.answer().is_whole
    assert ask(ready, "status")["bytes_out"] == 50 << 20


def test_a_plugin_whose_calls_are_all_stuck_answers(ready: Plugin) -> None:
    ready.box.pause.clear()
    with ready.wire() as one, ready.wire() as other:
        one.send(wire.call("Create", ID="a"))
        wait_until(lambda: ready.box.inside.get("a"))
        # An Init waits for the calls, and new calls wait for the Init.
        other.send(wire.call("Init", Home=ready.home))
        wait_until(lambda: len(ask(ready, "calls")) == 2)
        status = ask(ready, "status")
        assert status["ready"]
        ready.box.pause.set()
        one.answer()
        other.answer()


def test_a_driver_that_is_stuck_in_its_status_keeps_no_answer(
    ready: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def stuck() -> tuple[tuple[str, str], ...]:
        asked.set()
        assert go_on.wait(60)
        return (("stuck", "no more"),)

    assert ask(ready, "status")["driver_status"] == [["Z", "first"], ["A", "second"]]
    monkeypatch.setattr(ready.box, "status", stuck)
    assert ask(ready, "status")["driver_status"] == [["Z", "first"], ["A", "second"]]
    assert asked.is_set()
    go_on.set()
    wait_until(lambda: ask(ready, "status")["driver_status"] == [["stuck", "no more"]])


def test_a_plugin_answers_after_cleanup(ready: Plugin) -> None:
    with ready.client() as client:
        client.create("a")
        client.cleanup()
    status = ask(ready, "status")
    assert (status["ready"], status["home"]) == (False, ready.home)
    assert [layer["id"] for layer in ask(ready, "layers")] == ["a"]


def test_a_question_is_no_call(ready: Plugin) -> None:
    before = ask(ready, "status")["calls"]
    for _ in range(3):
        ask(ready, "layers")
    assert ask(ready, "status")["calls"] == before


@pytest.mark.parametrize("path", ["/graphdriver/", "/graphdriver/keys", "/graphdriver/status/"])
def test_what_is_no_question_is_an_unknown_call(plugin: Plugin, path: str) -> None:
    answer = plugin.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    with plugin.client() as client, pytest.raises(UnknownCallError):
        client.ask(path.removeprefix("/graphdriver/"))


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT"])
def test_a_question_is_asked_with_get(plugin: Plugin, method: str) -> None:
    head = f"{method} /graphdriver/status HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    assert plugin.raw(head.encode()).startswith(b"HTTP/1.1 404 ")


def test_an_answer_is_json_that_any_http_client_reads(plugin: Plugin) -> None:
    answer = plugin.raw(b"GET /graphdriver/status HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(body)["ready"] is False
