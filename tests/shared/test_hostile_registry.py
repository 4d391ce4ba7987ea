"""A registry that lies, does not end or does not answer; and what it is told of who asks."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from graphdriver.errors import BadArchiveError, UnsupportedError
from graphdriver.shared import web
from graphdriver.shared.keys import Link, layer_key
from graphdriver.shared.layers import SharedLayers
from graphdriver.shared.login import Login
from graphdriver.shared.opening import open_store
from graphdriver.shared.store import NotStoredError, Store
from tests.support import certificates

DIGEST = f"sha256:{'ab' * 32}"
KEY = f"{layer_key(DIGEST)}.json"
TAG = f"/v2/layers/manifests/sha256-{'ab' * 32}.json"
CONTENT = b"0123456789" * 100_000
BLOB = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
BLOB_PATH = f"/v2/layers/blobs/{BLOB}"
PASSWORD = "correct horse"

Answering = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """A request to the server, which is answered as a test says."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization", "")))
        path = self.path.partition("?")[0]
        with contextlib.suppress(ConnectionError):
            self.server.answers.get(path, not_found)(self)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def pour(self, piece: bytes, pause: float = 0) -> None:
        """Send the same bytes until the client has gone."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.is_closing.wait(pause):
                self.wfile.write(piece)


class Server(ThreadingHTTPServer):
    """A server, and what it was asked: paths and the header Authorization."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.answers: dict[str, Answering] = {}
        self.asked: list[tuple[str, str]] = []
        self.is_closing = threading.Event()
        self.host = f"127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """Print nothing: clients go when they have seen enough."""


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(tls)
    try:
        yield server
    finally:
        server.is_closing.set()
        server.shutdown()
        server.server_close()


def not_found(request: Request) -> None:
    request.answer(404)


def manifest(digest: object = BLOB, size: object = len(CONTENT)) -> Answering:
    body = json.dumps({"layers": [{"digest": digest, "size": size}]}).encode()
    return lambda request: request.answer(200, body)


def blob(request: Request) -> None:
    found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
    if not found:
        return request.answer(200, CONTENT)
    start = int(found[1])
    place = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
    return request.answer(206, CONTENT[start:], Content_Range=place)


@pytest.fixture
def registry() -> Iterator[Server]:
    with serving() as server:
        server.answers = {TAG: manifest(), BLOB_PATH: blob}
        yield server


@pytest.fixture
def store(registry: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    entries = {registry.host: {"auth": encoded()}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": entries}))
    with contextlib.closing(open_store(f"oci+http://{registry.host}/layers")) as opened:
        yield opened


def content(store: Store, start: int = 0) -> bytes:
    with contextlib.closing(store.read(KEY, start)) as stream:
        return b"".join(iter(lambda: stream.read(70_000), b""))


def encoded() -> str:
    return base64.b64encode(f"me:{PASSWORD}".encode()).decode()


BASIC = f"Basic {encoded()}"


def unless(authorization: str, challenge: str, then: Answering) -> Answering:
    """Answer only who has this authorization."""

    def answer(request: Request) -> None:
        if request.headers.get("Authorization") == authorization:
            then(request)
        else:
            request.answer(401, WWW_Authenticate=challenge)

    return answer


# --- who asks -------------------------------------------------------------------------------------


def test_a_registry_that_asks_for_nothing_is_told_nothing(registry: Server, store: Store) -> None:
    assert content(store) == CONTENT
    assert registry.asked == [(TAG, ""), (BLOB_PATH, "")]


def test_credentials_are_sent_when_they_are_asked_for(registry: Server, store: Store) -> None:
    registry.answers[TAG] = unless(BASIC, 'Basic realm="x"', manifest())
    assert content(store) == CONTENT
    assert registry.asked == [(TAG, ""), (TAG, BASIC), (BLOB_PATH, BASIC)]


def test_a_token_is_got_by_the_credentials(registry: Server, store: Store) -> None:
    challenge = f'Bearer realm="http://{registry.host}/token",service="s",scope="repository:a:pull"'
    registry.answers |= {
        TAG: unless("Bearer abc", challenge, manifest()),
        "/token": unless(BASIC, "", lambda request: request.answer(200, b'{"token": "abc"}')),
    }
    assert content(store) == CONTENT
    token = "/token?service=s&scope=repository%3Aa%3Apull"
    assert registry.asked[1:3] == [(token, BASIC), (TAG, "Bearer abc")]


def test_a_token_that_has_expired_is_got_again(registry: Server, store: Store) -> None:
    numbers = iter(range(1, 9))
    challenge = f'Bearer realm="http://{registry.host}/token"'
    registry.answers["/token"] = lambda request: request.answer(
        200, json.dumps({"access_token": f"t{next(numbers)}"}).encode()
    )
    for number in (1, 2):
        registry.answers[TAG] = unless(f"Bearer t{number}", challenge, manifest())
        assert store.size(KEY) == len(CONTENT)


def test_where_a_registry_redirects_to_gets_no_credentials(registry: Server, store: Store) -> None:
    with serving() as storage:
        storage.answers["/bucket"] = blob
        place = f"http://{storage.host}/bucket?signature=s"
        registry.answers[TAG] = unless(BASIC, "Basic", manifest())
        registry.answers[BLOB_PATH] = lambda request: request.answer(307, Location=place)
        assert content(store, 17) == CONTENT[17:]
        assert storage.asked == [("/bucket?signature=s", "")]


def test_a_token_that_stands_for_the_password_is_exchanged(
    registry: Server, store: Store, tmp_path: Path
) -> None:
    entry = {"auth": "", "identitytoken": "long-lived"}
    (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.host: entry}}))
    challenge = f'Bearer realm="http://{registry.host}/token",service="s"'
    registry.answers[TAG] = unless("Bearer abc", challenge, manifest())

    def exchange(request: Request) -> None:
        form = request.rfile.read(int(request.headers["Content-Length"])).decode()
        asked = urllib.parse.parse_qs(form)
        assert asked["grant_type"] == ["refresh_token"]
        assert (asked["refresh_token"], asked["service"]) == (["long-lived"], ["s"])
        request.answer(200, b'{"access_token": "abc"}')

    registry.answers["/token"] = exchange
    assert store.size(KEY) == len(CONTENT)


def test_the_entry_for_a_repository_comes_before_its_registrys(
    registry: Server, store: Store, tmp_path: Path
) -> None:
    entries = {registry.host: {"auth": "eDp5"}, f"{registry.host}/layers": {"auth": encoded()}}
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": entries}))
    registry.answers[TAG] = unless(BASIC, "Basic", manifest())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGISTRY_AUTH_FILE", str(file))
        assert store.size(KEY) == len(CONTENT)


def test_a_server_that_proves_nothing_is_told_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = certificates.make(tmp_path / "tls")
    _, certificate, key = made.plugin
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with serving(context) as server:
        server.answers = {TAG: manifest(), BLOB_PATH: blob}
        address = f"oci://{server.host}/layers"
        with (
            contextlib.closing(open_store(address)) as store,
            pytest.raises(ConnectionError, match="certificate verify failed"),
        ):
            store.size(KEY)
        assert not server.asked
        monkeypatch.setenv("SSL_CERT_FILE", made["ca"])
        with contextlib.closing(open_store(address)) as store:
            assert content(store) == CONTENT


def test_tokens_are_not_asked_for_without_encryption(registry: Server) -> None:
    connections = web.Web(f"http://{registry.host}")
    login = Login(connections, registry.host, "layers", is_plain=False)
    with pytest.raises(OSError, match="does not speak https"):
        login.answer([f'Bearer realm="http://{registry.host}/token"'])
    assert not registry.asked


def test_no_error_shows_a_secret(registry: Server, store: Store) -> None:
    registry.answers[TAG] = unless("never", "Basic", manifest())
    with pytest.raises(PermissionError, match="401 Unauthorized") as refused:
        store.size(KEY)
    registry.answers[TAG] = manifest()
    for answer in (
        lambda request: request.answer(307, Location="http://127.0.0.1:1/b?signature=hidden"),
        lambda request: request.answer(307, Location="http://[b?signature=hidden"),
        lambda request: request.answer(403, b"hidden"),
    ):
        registry.answers[BLOB_PATH] = answer
        with pytest.raises(OSError) as failed:
            content(store)
        assert "hidden" not in str(failed.value)
    assert not any(secret in str(refused.value) for secret in (PASSWORD, BASIC))


def test_a_damaged_file_of_credentials_is_told_and_not_shown(
    registry: Server, store: Store, tmp_path: Path
) -> None:
    registry.answers[TAG] = unless(BASIC, "Basic", manifest())
    for damaged in (
        PASSWORD,
        "[]",
        f'{{"auths": {{"{registry.host}": {{"auth": "?{PASSWORD}"}}}}}}',
    ):
        (tmp_path / "config.json").write_text(damaged)
        with pytest.raises(UnsupportedError, match="are damaged") as told:
            store.size(KEY)
        assert PASSWORD not in str(told.value)


@pytest.mark.parametrize(
    "said", [b"{}", b"[]", b'{"token": 1}', b'{"token": "a\\r\\nb: c"}', b"\xff"]
)
def test_a_server_of_tokens_that_gives_none_is_an_error(
    said: bytes, registry: Server, store: Store
) -> None:
    challenge = f'Bearer realm="http://{registry.host}/token"'
    registry.answers[TAG] = unless("never", challenge, manifest())
    registry.answers["/token"] = lambda request: request.answer(200, said)
    with pytest.raises(OSError, match="answers without one"):
        store.size(KEY)


# --- what it answers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[" * 100_000,
        b'{"layers": []}',
        b'{"layers": [{"digest": "sha256:../../secret", "size": 1}]}',
        b'{"layers": [{"digest": 1, "size": 1}]}',
        json.dumps({"layers": [{"digest": BLOB, "size": -1}]}).encode(),
        json.dumps({"layers": [{"digest": BLOB, "size": "1"}]}).encode(),
    ],
)
def test_a_damaged_manifest_is_told(said: bytes, registry: Server, store: Store) -> None:
    registry.answers[TAG] = lambda request: request.answer(200, said)
    with pytest.raises(BadArchiveError, match=r"the manifest of .* (is damaged|names no blob)"):
        store.size(KEY)


def test_a_damaged_manifest_is_a_miss(
    registry: Server, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    registry.answers[TAG] = lambda request: request.answer(200, b"{}")
    assert SharedLayers(store).find(Link("", DIGEST)) is None
    assert "the manifest of" in caplog.text


def test_a_missing_blob_is_damage_and_not_a_miss(registry: Server, store: Store) -> None:
    del registry.answers[BLOB_PATH]
    with pytest.raises(BadArchiveError, match="is missing"):
        store.read(KEY)


def test_nobody_reads_more_than_was_announced(registry: Server, store: Store) -> None:
    registry.answers[BLOB_PATH] = lambda request: request.pour(b"x" * 65_536)
    registry.answers[TAG] = manifest(size=1000)
    assert content(store) == b"x" * 1000


@pytest.mark.parametrize("path", [TAG, "/token"])
def test_an_answer_without_an_end_is_not_kept_in_memory(
    path: str, registry: Server, store: Store
) -> None:
    registry.answers[TAG] = unless(
        "never", f'Bearer realm="http://{registry.host}/token"', manifest()
    )
    registry.answers[path] = lambda request: request.pour(b"[" * 65_536)
    with pytest.raises(OSError, match="has more than"):
        store.size(KEY)


def test_a_list_of_tags_without_an_end_is_left(
    registry: Server, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphdriver.shared.repository._MOST_PAGES", 5)
    registry.answers["/v2/layers/tags/list"] = lambda request: request.answer(
        200, b'{"tags": ["other"]}', Link="<x>"
    )
    with pytest.raises(OSError, match="does not end"):
        list(store.stored())


@pytest.mark.parametrize("said", [b"", b"[]", b'{"tags": 1}', b'{"tags": [1]}'])
def test_a_damaged_list_of_tags_is_told(said: bytes, registry: Server, store: Store) -> None:
    registry.answers["/v2/layers/tags/list"] = lambda request: request.answer(200, said)
    with pytest.raises(OSError, match="list of tags is damaged"):
        list(store.stored())


@pytest.mark.parametrize("count", [1, 200])
def test_headers_without_an_end_are_refused(count: int, registry: Server, store: Store) -> None:
    def answer(request: Request) -> None:
        request.send_response(200)
        for number in range(count):
            request.send_header(f"X-{number}", "x" * (70_000 // count))
        request.end_headers()

    registry.answers[TAG] = answer
    with pytest.raises(ConnectionError):
        store.size(KEY)


def test_a_server_that_sends_nothing_is_left(
    registry: Server, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "SILENCE", 0.2)

    def say_nothing(_request: Request) -> None:
        registry.is_closing.wait(60)

    registry.answers[TAG] = say_nothing
    with (
        contextlib.closing(open_store(store.address)) as impatient,
        pytest.raises(TimeoutError, match="no answer in time"),
    ):
        impatient.size(KEY)


def test_a_server_that_sends_next_to_nothing_is_left(
    registry: Server, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "GRACE", 0.2)
    registry.answers[BLOB_PATH] = lambda request: request.pour(b"x", pause=0.05)
    with pytest.raises(TimeoutError, match="too slow"):
        content(store)


def test_a_blob_that_breaks_off_is_read_on(registry: Server, store: Store) -> None:
    def breaking(request: Request) -> None:
        if "Range" in request.headers:
            return blob(request)
        request.send_response(200)
        request.send_header("Content-Length", str(len(CONTENT)))
        request.end_headers()
        request.wfile.write(CONTENT[:400_000])
        request.close_connection = True
        return None

    registry.answers[BLOB_PATH] = breaking
    assert content(store) == CONTENT


def test_a_blob_that_breaks_off_each_time_is_an_error(registry: Server, store: Store) -> None:
    def breaking(request: Request) -> None:
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        request.send_response(206 if start else 200)
        request.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        request.send_header("Content-Length", str(len(CONTENT) - start))
        request.end_headers()
        request.wfile.write(CONTENT[start : start + 100])
        request.close_connection = True

    registry.answers[BLOB_PATH] = breaking
    with pytest.raises(ConnectionError):
        content(store)


def test_another_part_than_was_asked_for_is_refused(registry: Server, store: Store) -> None:
    registry.answers[BLOB_PATH] = lambda request: request.answer(206, CONTENT)
    with pytest.raises(OSError, match="another part"):
        content(store, 17)
    registry.answers[BLOB_PATH] = lambda request: request.answer(200, CONTENT)
    with pytest.raises(OSError, match="answers 200"):
        content(store, 17)


def test_a_circle_of_redirections_is_left(registry: Server, store: Store) -> None:
    registry.answers[BLOB_PATH] = lambda request: request.answer(307, Location=BLOB_PATH)
    with pytest.raises(OSError, match="answers 307"):
        content(store)
    assert len(registry.asked) < 10


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://host/a", "gopher://host"])
def test_a_redirection_to_something_else_than_http_is_refused(
    place: str, registry: Server, store: Store
) -> None:
    registry.answers[BLOB_PATH] = lambda request: request.answer(307, Location=place)
    with pytest.raises(OSError, match="not https"):
        content(store)


def test_what_is_not_there_is_a_miss(registry: Server, store: Store) -> None:
    registry.answers.clear()
    with pytest.raises(NotStoredError):
        store.size(KEY)
    assert SharedLayers(store).link_of(DIGEST) is None
    assert (f"/v2/layers/manifests/chains-sha256-{'ab' * 32}.json", "") in registry.asked
