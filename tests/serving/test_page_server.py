"""The server of pages: what it answers, and what a hostile caller cannot do."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from graphdriver.serving import page_server
from graphdriver.serving.page_server import Page, PageServer
from tests.support.waiting import wait_until

LONG = b"x" * (64 << 20)
"""More than the kernel keeps of a response that nobody reads."""


class Served:
    """A server of some pages on a port of its own."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = self.listening.getsockname()
        self.may_end = threading.Event()
        self.makes_a_long_one = threading.Event()
        pages = {
            "/page": lambda accept: Page(f"seen by {accept or 'anybody'}".encode()),
            "/long": self._long,
            "/wrong": lambda _accept: Page(str(1 // 0).encode()),
            "/slow": self._slow,
        }
        self.server = PageServer(self.listening, pages)

    def _slow(self, _accept: str) -> Page:
        self.may_end.wait(60)
        return Page(b"at last")

    def _long(self, _accept: str) -> Page:
        self.makes_a_long_one.set()
        return Page(LONG)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=60)

    def raw(self, request: bytes) -> bytes:
        with self.connect() as connection:
            connection.sendall(request)
            return everything(connection)

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.address[1], timeout=60)
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, body


def everything(connection: socket.socket) -> bytes:
    """Read until the server closes or resets the connection."""
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


@pytest.fixture
def served() -> Iterator[Served]:
    one = Served()
    with one.listening, one.server:
        yield one
        one.may_end.set()


def test_a_page_is_answered_by_its_path_without_the_query(served: Served) -> None:
    assert served.get("/page") == (200, b"seen by anybody")
    assert served.get("/page?name[]=x", Accept="text/plain") == (200, b"seen by text/plain")


def test_the_answer_to_head_has_no_body(served: Served) -> None:
    head = served.raw(b"HEAD /page HTTP/1.1\r\nHost: x\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 15\r\n" in head
    assert head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_refused(served: Served, method: str) -> None:
    answer = served.raw(f"{method} /page HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 405 "), answer
    assert b"Allow: GET, HEAD\r\n" in answer


def test_a_body_is_not_read_and_the_answer_still_comes(served: Served) -> None:
    head = b"POST /page HTTP/1.1\r\nHost: x\r\nContent-Length: 4096\r\n\r\n"
    assert served.raw(head + b"x" * 4096).startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize(
    "path",
    ["/", "/pages", "/page/", "//page", "/../page", "/%70age", "/etc/passwd", "/../../etc/passwd"],
)
def test_other_paths_are_refused(served: Served, path: str) -> None:
    status, body = served.get(path)
    assert status == 404
    assert body == b"Not Found; there are only: /page /long /wrong /slow\n"


@pytest.mark.parametrize(
    "request_",
    [b"\0\1\2\3\r\n\r\n", b"GET\r\n\r\n", b"GET /page HTTP/9\r\n\r\n", b"\x16\x03\x01\0\xa5\1\0\0"],
)
def test_what_is_not_http_is_refused(served: Served, request_: bytes) -> None:
    assert served.raw(request_).startswith(b"HTTP/1.1 400 ")
    assert served.get("/page")[0] == 200


def test_a_long_head_is_refused(served: Served) -> None:
    line = b"X-Long: " + b"x" * 1000 + b"\r\n"
    answer = served.raw(b"GET /page HTTP/1.1\r\n" + line * 20)
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_a_second_request_on_a_connection_is_not_answered(served: Served) -> None:
    one = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"
    assert served.raw(one * 3).count(b"HTTP/1.1 ") == 1


def test_a_page_that_cannot_be_made_is_an_error_of_its_own(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    assert served.get("/wrong") == (500, b"Internal Server Error\n")
    assert "the page /wrong cannot be made" in caplog.text
    assert served.get("/page")[0] == 200


@pytest.mark.parametrize("sent", [b"", b"GET /page HTTP/1.1\r\n", b"GET /long HTTP/1.1\r\n\r\n"])
def test_a_caller_that_sends_or_reads_nothing_is_cut_off(
    served: Served, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(page_server, "TIMEOUT", 0.3)
    with served.connect() as connection:
        connection.sendall(sent)
        if b"/long" in sent:  # whoever reads meanwhile gets it all
            assert served.makes_a_long_one.wait(60)
            wait_until(lambda: not served.server._open)
        assert len(everything(connection)) < len(LONG)


def test_a_caller_that_sends_byte_by_byte_is_cut_off(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_server, "TIMEOUT", 0.3)
    with served.connect() as connection, pytest.raises(OSError, match=r"reset|[Bb]roken pipe"):
        for _ in range(10_000):
            connection.sendall(b"x")
            time.sleep(0.005)


class Counted(dict[socket.socket, threading.Thread]):
    """The connections that are served; knows how many there were at most."""

    most = 0

    def __setitem__(self, connection: socket.socket, thread: threading.Thread) -> None:
        super().__setitem__(connection, thread)
        self.most = max(self.most, len(self))


def test_idle_callers_beyond_the_limit_wait_and_the_rest_is_answered_in_the_end(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_server, "TIMEOUT", 0.2)
    served.server._open = counted = Counted()
    idle = [served.connect() for _ in range(3 * page_server.MAX_CONNECTIONS)]
    assert served.get("/page") == (200, b"seen by anybody")
    assert counted.most == page_server.MAX_CONNECTIONS
    for one in idle:
        one.close()


def test_a_stop_cuts_connections_and_waits_for_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "_RELEASE", 0.1)
    served = Served()
    with served.listening:
        with served.server:
            idle, slow = served.connect(), served.connect()
            slow.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
            wait_until(lambda: len(served.server._open) == 2)
        assert not served.server._thread.is_alive()
        assert everything(idle) == b""
        assert everything(slow) == b""
    for one in (idle, slow):
        one.close()
    served.may_end.set()


def test_it_goes_on_after_a_connection_could_not_be_accepted(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def start(self: threading.Thread) -> None:
        started.append(self.name)
        if len(started) == 1:
            raise RuntimeError("can't start new thread")
        real(self)

    real = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    assert served.raw(b"GET /page HTTP/1.1\r\n\r\n") == b""
    assert served.get("/page")[0] == 200
