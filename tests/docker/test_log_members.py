"""Every line that a call causes names the call and its layer, also a line of a driver."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from graphdriver.conformance.plugin import wire
from graphdriver.serving import logs
from graphdriver.serving.call_log import Call
from tests.docker.conftest import connections
from tests.support.json_log import JSONLines, json_lines
from tests.support.plugin import Plugin
from tests.support.waiting import wait_until

_log = logging.getLogger("a.driver")


@pytest.fixture
def lines() -> Iterator[JSONLines]:
    with json_lines() as found:
        yield found


@pytest.fixture
def talkative(ready: Plugin, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    """A plugin with a driver that logs something in each Get, Put and Create."""
    for name in ("get", "put", "create"):
        plain = getattr(ready.box, name)

        def talks(*arguments: Any, name: str = name, plain: Any = plain) -> Any:
            _log.info("in %s", name)
            return plain(*arguments)

        monkeypatch.setattr(ready.box, name, talks)
    return ready


def test_a_line_of_a_driver_names_the_call_and_the_layer(
    talkative: Plugin, lines: JSONLines
) -> None:
    with talkative.client() as client:
        client.create("a")
        client.create_read_write("b", "a")
        client.get("b")
    assert [(line["call"], line["layer"]) for line in lines.of("in create")] == [
        ("Create", "a"),
        ("CreateReadWrite", "b"),
    ]
    assert [(line["call"], line["layer"]) for line in lines.of("in get")] == [("Get", "b")]


def test_a_line_outside_of_a_call_names_none(talkative: Plugin, lines: JSONLines) -> None:
    with talkative.client() as client:
        client.create("a")
    _log.info("between calls")
    (line,) = lines.of("between calls")
    assert line.keys() == {"time", "level", "message"}


def test_a_line_of_an_undone_call_names_it(talkative: Plugin, lines: JSONLines) -> None:
    with talkative.client() as client:
        client.create("a")
    talkative.box.pause.clear()
    with talkative.wire() as daemon:
        daemon.send(wire.call("Get", ID="a"))
        wait_until(lambda: talkative.box.inside.get("a"))
    talkative.box.pause.set()
    wait_until(lambda: connections() == 0)
    (line,) = lines.of("in put")
    assert (line["call"], line["layer"]) == ("Get", "a")


def test_a_line_of_an_answer_that_nobody_takes_names_the_call(
    ready: Plugin, lines: JSONLines
) -> None:
    with ready.client() as client:
        client.create("a")
    ready.box.pause.clear()
    with ready.wire() as daemon:
        daemon.send(wire.call("Create", ID="a"))
        wait_until(lambda: ready.box.inside.get("a"))
    ready.box.pause.set()
    wait_until(lambda: connections() == 0)
    (line,) = lines.of("the caller closed the connection: Broken pipe")
    assert (line["call"], line["layer"]) == ("Create", "a")


def test_a_line_while_a_diff_streams_names_it(
    talkative: Plugin, lines: JSONLines, monkeypatch: pytest.MonkeyPatch
) -> None:
    with talkative.client() as client:
        client.create("a")
        with open(f"{talkative.home}/a/tar", "wb") as file:
            file.truncate(5 << 20)
        plain = Call.went_out

        def talks(self: Call, count: int) -> None:
            _log.info("sending")
            plain(self, count)

        monkeypatch.setattr(Call, "went_out", talks)
        stream = client.diff("a")
        while stream.read(1 << 20):
            pass
        stream.close()
    sending = lines.of("sending")
    assert len(sending) > 1
    assert {(line["call"], line["layer"]) for line in sending} == {("Diff", "a")}


def test_a_line_as_text_ends_with_the_call_and_the_layer(
    talkative: Plugin,
) -> None:
    record = logging.LogRecord("a", logging.INFO, "a.py", 1, "in get", (), None)
    call = talkative.handler.served.calls.begin("Get")
    call.layer = "a"
    assert logs.FORMATTERS["text"]().format(record).endswith("INFO    in get call=Get layer=a")
    call.end()
    assert logs.FORMATTERS["text"]().format(record).endswith("INFO    in get")
