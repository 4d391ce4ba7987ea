"""A head that came before on the same connection is not parsed again, and means the same."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest
from httptools import HttpRequestParser
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdriver.conformance.plugin import wire
from graphdriver.docker.http import requests
from graphdriver.docker.http.requests import BY_HAND, RequestReader
from graphdriver.errors import GraphDriverError
from tests.docker.test_http import BAD, CHUNKED
from tests.support.long import times

EXISTS = wire.call("Exists", ID="a")

Found = tuple[object, ...]
"""What a request was read as, or the class and the text of the error that it was refused with."""


@contextlib.contextmanager
def reader(*pieces: bytes) -> Iterator[RequestReader]:
    """Return a reader of pieces, each of which it gets by one read."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for piece in filter(None, pieces):
            ours.send(piece)
        ours.shutdown(socket.SHUT_WR)
        found = RequestReader(theirs)
        yield found
        found.close()


def read(*pieces: bytes) -> list[Found]:
    """Read all requests."""
    found: list[Found] = []
    with reader(*pieces) as requests_of:
        try:
            while message := requests_of.next():
                found.append((message.method, message.target, message.by_hand, message.keep_alive))
                while piece := message.read(1 << 20):
                    found[-1] += (piece,)
                if not message.keep_alive:  # a server reads no further
                    break
        except GraphDriverError as error:
            found.append((type(error), str(error)))
    return found


class Parser:
    """A parser that counts how often it is fed."""

    def __init__(self, protocol: object) -> None:
        self._parser = HttpRequestParser(protocol)
        self.fed = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._parser, name)

    def feed_data(self, data: memoryview) -> None:
        self.fed += 1
        self._parser.feed_data(data)


def times_parsed(monkeypatch: pytest.MonkeyPatch, *pieces: bytes) -> int:
    """Read requests; return how many reads of the socket the parser saw."""
    made: list[Parser] = []

    def make(protocol: object) -> Parser:
        made.append(Parser(protocol))
        return made[0]

    with monkeypatch.context() as patched:
        patched.setattr("httptools.HttpRequestParser", make)
        read(*pieces)
    return made[0].fed


@pytest.mark.parametrize(
    "sent",
    [
        EXISTS,
        wire.head("/Plugin.Activate", "Content-Length: 0"),
        wire.head("/GraphDriver.Status"),
        wire.head("/GraphDriver.Exists", f"{BY_HAND}: 1", "Content-Length: 10") + b'{"ID":"a"}',
    ],
)
def test_the_same_head_is_parsed_once(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    assert times_parsed(monkeypatch, *[sent] * 5) == 1
    assert read(sent, sent) == read(sent) * 2


@pytest.mark.parametrize(
    "sent",
    [
        CHUNKED + b"1\r\n1\r\n0\r\n\r\n",
        wire.head("/GraphDriver.Exists", "Expect: 100-continue", "Content-Length: 1") + b"1",
        wire.head("/GraphDriver.Exists", "X: " + "x" * 5000, "Content-Length: 0"),
        EXISTS + EXISTS,
        b"\r\n\r\n" + EXISTS,
    ],
)
def test_other_requests_are_parsed_each_time(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    assert times_parsed(monkeypatch, *[sent] * 3) >= 3
    assert read(sent, sent) == read(sent) * 2


def test_a_connection_remembers_no_more_heads_than_a_daemon_sends() -> None:
    sent = [wire.head(f"/{number}", "Content-Length: 0") for number in range(200)]
    with reader(*sent, sent[0]) as many:
        while many.next():
            pass
        assert len(many._known) == requests._MOST_KNOWN


_calls = st.sampled_from(
    [
        EXISTS,
        wire.call("Exists", ID="bcd"),
        wire.head("/GraphDriver.Exists", "Content-Length: 20") + EXISTS[:20],
        wire.head("/GraphDriver.Status"),
        wire.head("/GraphDriver.Exists", "Connection: close", "Content-Length: 0"),
        CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
        b"\r\n",
        *(sent for sent, _ in BAD.values() if len(sent) < 5000),
    ]
)


@settings(max_examples=times(gate=300, long=20_000))
@given(
    st.lists(_calls, min_size=1, max_size=6),
    st.lists(st.integers(1, 400), max_size=12),
    st.lists(st.tuples(st.integers(0, 2000), st.binary(max_size=2)), max_size=2),
)
def test_requests_mean_the_same_with_no_head_remembered(
    calls: list[bytes], cuts: list[int], edits: list[tuple[int, bytes]]
) -> None:
    for way in ([*calls, *calls], [*wire.trickled(b"".join([*calls, *calls]), cuts)]):
        pieces = way
        for at, new in edits:
            place = at % len(pieces)
            within = at % (len(pieces[place]) + 1)
            changed = pieces[place][:within] + new + pieces[place][within + len(new) :]
            pieces = [*pieces[:place], changed, *pieces[place + 1 :]]
        with pytest.MonkeyPatch.context() as patched:
            found = read(*pieces)
            patched.setattr(requests, "_MOST_KNOWN", 0)
            assert found == read(*pieces)
