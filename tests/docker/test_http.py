"""The HTTP surface, byte by byte: what a daemon sends, and what nobody should."""

from __future__ import annotations

import contextlib
import threading

import pytest

from graphdriver.conformance.plugin import wire
from graphdriver.conformance.plugin.wire import Wire
from tests.docker.conftest import connections
from tests.support.plugin import Plugin
from tests.support.waiting import wait_until

EXISTS = wire.call("Exists", ID="a")
NO = b'{"Exists":false}'
BODY = b'{"ID":"a"}'
LENGTH = b"Content-Length: 10\r\n"
START = b"POST /GraphDriver.Exists HTTP/1.1\r\n"
CHUNKED = START + b"Host:\r\nTransfer-Encoding: chunked\r\n\r\n"


def untouched(plugin: Plugin) -> None:
    """See that nothing reached the driver and that the plugin lives on."""
    assert plugin.box.calls == []
    assert len(plugin.box.inits) == 1
    with plugin.wire() as daemon:
        assert daemon.ask(EXISTS).body == NO


def test_answers_carry_the_protocols_content_type(ready: Plugin) -> None:
    with ready.wire() as daemon:
        answer = daemon.ask(wire.head("/Plugin.Activate", "Content-Length: 0"))
    assert answer.headers == {
        "content-type": "application/vnd.docker.plugins.v1.1+json",
        "content-length": "30",
    }
    assert answer.body == b'{"Implements":["GraphDriver"]}'


def test_calls_that_take_nothing_ignore_their_body(ready: Plugin) -> None:
    with ready.wire() as daemon:
        for call in ("Status", "Capabilities", "Cleanup"):
            head = wire.head(f"/GraphDriver.{call}", "Content-Length: 8")
            assert daemon.ask(head + b"not json").status == 200, call


@pytest.mark.parametrize(
    "sent",
    [
        START + b"Host: \r\n" + LENGTH + b"\r\n" + BODY,
        START + b"Host:\r\n" + LENGTH + b"\r\n" + BODY,
        START + LENGTH + b"\r\n" + BODY,
        START + b"Host: a\r\nHost: b\r\n" + LENGTH + b"\r\n" + BODY,
        b"\r\n\r\n" + START + LENGTH + b"\r\n" + BODY,
        START + b"cOnTeNt-LeNgTh:10   \r\n\r\n" + BODY,
        START + b"Expect: something\r\n" + LENGTH + b"\r\n" + BODY,
        START + b"Upgrade: h2c\r\n" + LENGTH + b"\r\n" + BODY,
        START + b"X: " + b"x" * 60_000 + b"\r\n" + LENGTH + b"\r\n" + BODY,
        START.replace(b"Exists", b"Exists?id=b&x=%zz") + LENGTH + b"\r\n" + BODY,
        CHUNKED + b"a\r\n" + BODY + b"\r\n0\r\n\r\n",
        CHUNKED + b"0000000A\r\n" + BODY + b"\r\n00\r\n\r\n",
        CHUNKED + b'a;x=y;z="1"\r\n' + BODY + b"\r\n0;x\r\n\r\n",
        CHUNKED + b"a;" + b"x" * 60_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n",
        CHUNKED + b"".join(b"1\r\n%c\r\n" % c for c in BODY) + b"0\r\n\r\n",
        CHUNKED + b"a\r\n" + BODY + b"\r\n0\r\nExpect: 100-continue\r\nOrigin: x\r\n\r\n",
    ],
    ids=[
        "an empty Host, as of 20.10",
        "an empty Host without a space",
        "no Host",
        "two Hosts",
        "empty lines before it",
        "an odd spelling",
        "an expectation of something else",
        "an upgrade that is not asked for",
        "60 kB of headers",
        "a query",
        "a chunk",
        "zeros before a chunk's size",
        "chunk extensions",
        "a chunk extension of 60 kB",
        "chunks of one byte",
        "trailers",
    ],
)
def test_what_http_allows_is_served_and_the_connection_goes_on(ready: Plugin, sent: bytes) -> None:
    with ready.wire() as daemon:
        for _ in range(2):
            answer = daemon.ask(sent)
            assert (answer.status, answer.body) == (200, NO)
            assert "connection" not in answer.headers


def test_pipelined_requests_are_answered_in_order(ready: Plugin) -> None:
    activate = wire.head("/Plugin.Activate", "Content-Length: 0")
    with ready.wire() as daemon:
        daemon.send(EXISTS + activate + wire.call("Status") + EXISTS)
        bodies = [daemon.answer().body for _ in range(4)]
    assert [body[:10] for body in bodies] == [
        b'{"Exists":',
        b'{"Implemen',
        b'{"Status":',
        b'{"Exists":',
    ]


def test_any_number_of_requests_may_be_pipelined(ready: Plugin) -> None:
    activate = wire.head("/Plugin.Activate", "Content-Length: 0")
    with ready.wire() as daemon:
        sender = threading.Thread(target=daemon.send, args=(activate * 8000,))
        sender.start()  # who does not read meanwhile would be waited for
        for _ in range(8000):
            assert daemon.answer().status == 200
        sender.join()


def test_who_expects_a_100_gets_it_before_sending_the_body(ready: Plugin) -> None:
    with ready.wire() as daemon:
        daemon.send(START + b"Expect: 100-continue\r\n" + LENGTH + b"\r\n")
        assert daemon.take(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert daemon.ask(BODY).body == NO
        # and of who does not wait for it nothing is lost
        daemon.send(START + b"Expect: 100-Continue\r\n" + LENGTH + b"\r\n" + BODY + EXISTS)
        assert daemon.answer().body == NO
        assert daemon.answer().body == NO


def test_a_refused_expectation_gets_no_100(ready: Plugin) -> None:
    with ready.wire() as daemon:
        head = b"POST /Nothing HTTP/1.1\r\nExpect: 100-continue\r\n" + LENGTH + b"\r\n"
        assert daemon.ask(head).status == 404
        assert daemon.rest() == b""


def test_who_says_close_is_answered_and_the_connection_ends(ready: Plugin) -> None:
    with ready.wire() as daemon:
        answer = daemon.ask(START + b"Connection: close\r\n" + LENGTH + b"\r\n" + BODY + EXISTS)
        assert answer.body == NO
        assert answer.headers["connection"] == "close"
        assert daemon.rest() == b""


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "//",
        "/GraphDriver.",
        "/GraphDriver.Fly",
        "/GraphDriver.get",
        "/graphdriver.Get",
        "/GraphDriver.Get/",
        "//GraphDriver.Get",
        "/./GraphDriver.Get",
        "/GraphDriver%2EGet",
        "/GraphDriver.Get%00",
        "/GraphDriver.Get#fragment",
        "/GraphDriver.Activate",
        "/Plugin.Get",
        "http://plugin.moby.localhost/GraphDriver.Get",
        "/" + "x" * 60_000,
    ],
    ids=lambda target: target[:50],
)
def test_a_target_that_is_no_call_is_told_so(ready: Plugin, target: str) -> None:
    with ready.wire() as daemon:
        answer = daemon.ask(wire.head(target, "Content-Length: 10") + BODY)
        assert answer.status == 404
        assert answer.error.endswith("; calls look like /GraphDriver.Get")
        assert len(answer.error) < 200
        assert daemon.ask(EXISTS).body == NO
    untouched(ready)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_a_call_that_is_no_post_is_told_so(ready: Plugin, method: str) -> None:
    with ready.wire() as daemon:
        answer = daemon.ask(EXISTS.replace(b"POST", method.encode()))
        assert answer.status == 405
        assert answer.error == f"exists: calls are made with POST, not {method}"
        assert answer.headers["connection"] == "close"
    untouched(ready)


def test_after_a_head_no_answer_is_taken_for_the_next_one(ready: Plugin) -> None:
    with ready.wire() as daemon:
        daemon.send(EXISTS.replace(b"POST", b"HEAD"))
        assert daemon.rest().startswith(b"HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n")
    untouched(ready)


BAD: dict[str, tuple[bytes, int]] = {
    "no HTTP": (b"hello\r\n\r\n", 400),
    "a TLS greeting": (bytes.fromhex("16030100f8010000f40303") + bytes(240), 400),
    "HTTP/0.9": (b"POST /GraphDriver.Exists\r\n\r\n", 400),
    "HTTP/1.0": (b"POST /Plugin.Activate HTTP/1.0\r\n\r\n", 400),
    "HTTP/1.2": (b"POST /Plugin.Activate HTTP/1.2\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "RTSP": (b"DESCRIBE / RTSP/1.0\r\n\r\n", 400),
    "an unknown method": (EXISTS.replace(b"POST", b"FETCH"), 400),
    "a method in small letters": (EXISTS.replace(b"POST", b"post"), 400),
    "CONNECT": (b"CONNECT a:80 HTTP/1.1\r\nHost:\r\n\r\n", 400),
    "Upgrade": (START + b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "a web page": (START + b"Origin: http://evil.example\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "a web page of nowhere": (START + b"ORIGIN: null\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "two lengths": (START + LENGTH + LENGTH + b"\r\n" + BODY, 400),
    "two different lengths": (START + LENGTH + b"Content-Length: 3\r\n\r\n" + BODY, 400),
    "a list of lengths": (START + b"Content-Length: 10, 10\r\n\r\n" + BODY, 400),
    "a length with a sign": (START + b"Content-Length: +10\r\n\r\n" + BODY, 400),
    "a negative length": (START + b"Content-Length: -1\r\n\r\n" + BODY, 400),
    "a length in hex": (START + b"Content-Length: 0xa\r\n\r\n" + BODY, 400),
    "no length where one is said": (START + b"Content-Length:\r\n\r\n" + BODY, 400),
    "a length beyond all numbers": (START + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400),
    "a length and chunks": (
        START + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "chunks and a length": (
        START + b"Transfer-Encoding: chunked\r\n" + LENGTH + b"\r\n0\r\n\r\n",
        400,
    ),
    "a packed body": (START + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "chunks in chunks": (START + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    "an unknown coding": (START + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    "identity": (START + b"Transfer-Encoding: identity\r\n\r\n" + BODY, 400),
    "two codings": (START + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n", 400),
    "a negative chunk": (CHUNKED + b"-1\r\n" + BODY, 400),
    "a chunk of no size": (CHUNKED + b"\r\n" + BODY, 400),
    "a chunk of an odd size": (CHUNKED + b"xyz\r\n" + BODY, 400),
    "a chunk beyond all numbers": (CHUNKED + b"f" * 17 + b"\r\n" + BODY, 400),
    "a chunk that is longer than its size": (CHUNKED + b"5\r\n" + BODY + b"\r\n0\r\n\r\n", 400),
    "a folded header": (START + b"X: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "bare line feeds": (EXISTS.replace(b"\r\n", b"\n"), 400),
    "one bare line feed": (START + b"X: a\n" + LENGTH + b"\r\n" + BODY, 400),
    "bare carriage returns": (EXISTS.replace(b"\r\n", b"\r"), 400),
    "a NUL in a header": (START + b"X: a\0b\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "a NUL in a header's name": (START + b"X\0: a\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "a NUL in the target": (b"POST /GraphDriver.Exists\0 HTTP/1.1\r\n" + LENGTH + b"\r\n", 400),
    "a space before the colon": (START + b"X : a\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "a header without a name": (START + b": a\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "a header without a colon": (START + b"X\r\n" + LENGTH + b"\r\n" + BODY, 400),
    "a target that is not ASCII": ("POST /é HTTP/1.1\r\n\r\n".encode(), 400),
    "no target": (b"POST HTTP/1.1\r\n\r\n", 400),
    "a header of 70 kB": (START + b"X: " + b"x" * 70_000 + b"\r\n\r\n", 431),
    "many headers": (START + b"X: x\r\n" * 12_000 + b"\r\n", 431),
    "a header's name of 70 kB": (START + b"x" * 70_000 + b": x\r\n\r\n", 431),
    "a path of 70 kB": (b"POST /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 431),
}
"""What is refused before any call is seen in it."""

IN_THE_BODY = {name for name in BAD if "chunk" in name and name.startswith("a chunk ")} | {
    "a negative chunk"
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("way", ["whole", "in pieces", "behind a good one"])
def test_what_is_wrong_is_answered_and_the_plugin_lives_on(
    ready: Plugin, name: str, way: str
) -> None:
    sent, status = BAD[name]
    with ready.wire() as daemon:
        if way == "behind a good one":
            assert daemon.ask(EXISTS + sent).body == NO
        elif way == "in pieces":
            for at in range(0, len(sent), 700):
                with contextlib.suppress(ConnectionError):
                    daemon.send(sent[at : at + 700])
        else:
            daemon.send(sent)
        answer = daemon.answer()
        assert answer.status == status
        assert answer.error
        assert answer.headers["connection"] == "close"
        daemon.end_sending()
        assert daemon.rest() == b""
    untouched(ready)


@pytest.mark.parametrize("name", sorted(IN_THE_BODY))
def test_a_layer_with_a_damaged_chunk_is_answered_though_no_more_is_sent(
    ready: Plugin, name: str
) -> None:
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
        answer = daemon.ask(wire.apply_head("a") + BAD[name][0].removeprefix(CHUNKED))
        assert answer.status == 400
        assert answer.error.startswith("ApplyDiff a: the request is not HTTP/1.1: ")
    with ready.wire() as daemon:
        assert "remove it" in daemon.ask(wire.call("Get", ID="a")).error


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (START + b"X: ", b"x" * 8192),
        (START, b"X: x\r\n" * 1000),
        (b"POST /", b"x" * 8192),
        (CHUNKED + b"1;", b"x" * 8192),
        (CHUNKED + b"0\r\nX: ", b"x" * 8192),
        (CHUNKED + b"0\r\n", b"X: x\r\n" * 1000),
        (wire.apply_head("a") + b"0\r\n", b"X: x\r\n" * 1000),
        (wire.apply_head("a") + b"5\r\nhello\r\n1;", b"x" * 8192),
    ],
    ids=[
        "a header",
        "headers",
        "a target",
        "a chunk extension",
        "a trailer",
        "trailers",
        "trailers of a layer",
        "a chunk extension in a layer",
    ],
)
def test_what_never_ends_is_cut_off(ready: Plugin, start: bytes, piece: bytes) -> None:
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
    with ready.wire() as daemon:
        daemon.send(start)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 32 << 20:
                daemon.send(piece)
                sent += len(piece)
        # what is read of it before the answer, and what is taken in after
        assert sent < 20 << 20
    wait_until(lambda: connections() == 0)
    with ready.wire() as daemon:
        assert daemon.ask(wire.call("Remove", ID="a")).members == {}


def test_a_half_head_is_waited_for_and_holds_nobody_up(ready: Plugin) -> None:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(Wire(ready.path)) for _ in range(100)]
        for number, one in enumerate(slow):
            one.send(EXISTS[: number + 1])
        untouched(ready)
        for number, one in enumerate(slow):
            assert one.ask(EXISTS[number + 1 :]).body == NO


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (START + b"Content-Length: 4194304\r\n\r\n", 413),
        (wire.head("/Nothing", "Content-Length: 4194304"), 404),
    ],
    ids=["no HTTP", "too large", "no call"],
)
def test_who_is_refused_can_send_on_until_the_answer_is_read(
    ready: Plugin, head: bytes, status: int, tcp: bool
) -> None:
    # Go's client gives up at a write that fails, and never reads the answer.
    with ready.wire(tcp=tcp) as daemon:
        assert daemon.ask(head, bytes(4 << 20)).status == status
    untouched(ready)
