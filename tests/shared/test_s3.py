"""A server of S3 that lies, does not end or does not answer. `test_stores` has a real one."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from graphdriver.shared import s3
from graphdriver.shared.keys import layer_key
from graphdriver.shared.opening import open_store
from graphdriver.shared.store import NotStoredError, Store

KEY = f"{layer_key('sha256:' + 'ab' * 32)}.json"
CONTENT = b"0123456789" * 1000
SECRET = "secret-key"
LISTED = b"".join(
    b"<Contents><Key>%s</Key><Size>7</Size><LastModified>2026-11-01T00:00:00.000Z</LastModified>"
    b"<ETag>a</ETag></Contents>" % name
    for name in (b"site/" + KEY.encode(), b"site/somebody/elses")
)
LISTED = b"<ListBucketResult><IsTruncated>false</IsTruncated>%s</ListBucketResult>" % LISTED


class Request(BaseHTTPRequestHandler):
    """A request to a bucket that has one object at most."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_HEAD(self) -> None:
        self.begin(200 if self.server.is_there else 404, len(CONTENT))

    def do_GET(self) -> None:
        if "list-type" in self.path:
            self.begin(200, len(LISTED))
            self.wfile.write(LISTED)
            return
        self.server.asked.append(dict(self.headers))
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        content = CONTENT[int(first) : int(last) + 1]
        place = f"bytes {first}-{last}/{len(CONTENT)}"
        match self.server.fault:
            case "":
                self.begin(206, len(content), place)
                self.wfile.write(content)
            case "replaced":
                self.begin(412, 0)
            case "endless":
                self.begin(206, 1 << 40, place)
                with contextlib.suppress(OSError):
                    while not self.server.is_closing.is_set():
                        self.wfile.write(b"x" * 65_536)
            case "short":
                self.begin(206, len(content), place)
                self.wfile.write(content[:100])
                self.close_connection = True
            case "silent":
                self.server.is_closing.wait(30)
            case "forbidden":
                self.begin(403, 0)

    def do_PUT(self) -> None:
        self.server.asked.append(dict(self.headers))
        self.rfile.read(int(self.headers["Content-Length"]))
        self.begin({"faster": 412, "read-only": 403}.get(self.server.fault, 200), 0)

    def begin(self, status: int, length: int, place: str = "") -> None:
        self.send_response(status)
        self.send_header("ETag", '"tag"')
        self.send_header("Last-Modified", "Sun, 29 Nov 2026 12:00:00 GMT")
        self.send_header("Content-Length", str(length))
        if place:
            self.send_header("Content-Range", place)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Server(ThreadingHTTPServer):
    """A server of S3, what is wrong with it, and the headers of its requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.is_there = True
        self.fault = ""
        self.asked: list[dict[str, str]] = []
        self.is_closing = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Print nothing: clients go when they have seen enough."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "access",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_REGION": "us-east-1",
        "AWS_SECRET_ACCESS_KEY": SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    try:
        yield server
    finally:
        server.is_closing.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def store(server: Server) -> Iterator[Store]:
    with contextlib.closing(open_store("s3://layers/site")) as opened:
        yield opened


def content(store: Store, start: int = 0) -> bytes:
    with contextlib.closing(store.read(KEY, start)) as stream:
        return b"".join(iter(lambda: stream.read(700), b""))


def test_an_object_is_read_in_parts_of_the_same_object(
    server: Server, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_PART", 4000)
    assert content(store, 10) == CONTENT[10:]
    ranges = [asked["range"] for asked in server.asked]
    assert ranges == ["bytes=10-4009", "bytes=4010-8009", "bytes=8010-9999"]
    assert {asked["if-match"] for asked in server.asked} == {'"tag"'}


def test_the_server_decides_which_of_two_writers_was_first(server: Server, store: Store) -> None:
    server.is_there = False
    assert store.put(KEY, io.BytesIO(CONTENT))
    assert server.asked[0]["if-none-match"] == "*"
    server.fault = "faster"
    assert not store.put(KEY, io.BytesIO(CONTENT))


def test_what_is_not_there_is_a_miss(server: Server, store: Store) -> None:
    server.is_there = False
    for call in (store.size, store.read):
        with pytest.raises(NotStoredError):
            call(KEY)


def test_who_can_only_read_can_list_what_is_ours(server: Server, store: Store) -> None:
    server.fault = "read-only"
    (found,) = store.stored()
    assert (found.key, found.size) == (KEY, 7)


def test_nobody_reads_more_than_was_announced(server: Server, store: Store) -> None:
    server.fault = "endless"
    assert content(store) == b"x" * len(CONTENT)


@pytest.mark.parametrize("fault", ["replaced", "short", "silent", "forbidden"])
def test_a_fault_of_the_server_is_an_error_that_shows_no_secret(
    fault: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_WHOLE", s3._CONNECT / 10)
    server.fault = fault
    with contextlib.closing(open_store("s3://layers/site")) as store:
        with pytest.raises(OSError) as failed:
            content(store)
        assert SECRET not in str(failed.value)
        assert "Debug" not in str(failed.value)


def test_plain_http_must_be_allowed(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with (
        contextlib.closing(open_store("s3://layers/site")) as store,
        pytest.raises(OSError),
    ):
        store.size(KEY)
