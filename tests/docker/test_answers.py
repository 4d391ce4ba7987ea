"""What a plugin answers is checked where it comes in: a plugin may be anybody's, and hostile."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from graphdriver import Client
from graphdriver.cli.main import main
from graphdriver.conformance.plugin import wire
from graphdriver.docker import answers
from graphdriver.errors import (
    BY_KIND,
    BadAnswerError,
    BrokenStreamError,
    GraphDriverError,
    Kind,
    RemoteError,
)
from tests.support.plugin import Plugin
from tests.support.waiting import wait_until

NO_TEXT = (
    "Get: the plugin answered with status 404 and no text; "
    "expected 200, or a text that says what is wrong"
)
CALLS: dict[str, Callable[[Client], object]] = {
    "Activate": lambda client: client.activate(),
    "Init": lambda client: client.init("/home"),
    "Create": lambda client: client.create("a"),
    "CreateReadWrite": lambda client: client.create_read_write("a"),
    "Remove": lambda client: client.remove("a"),
    "Get": lambda client: client.get("a"),
    "Put": lambda client: client.put("a"),
    "Exists": lambda client: client.exists("a"),
    "Status": lambda client: client.status(),
    "GetMetadata": lambda client: client.get_metadata("a"),
    "Cleanup": lambda client: client.cleanup(),
    "Changes": lambda client: client.changes("a"),
    "DiffSize": lambda client: client.diff_size("a"),
    "ApplyDiff": lambda client: client.apply_diff("a", "", io.BytesIO()),
    "Capabilities": lambda client: client.capabilities(),
}


class Impostor:
    """A plugin that answers whatever it is asked with the same bytes, and closes."""

    def __init__(self, path: str, pieces: Iterable[bytes]) -> None:
        self.path = path
        self.sent = 0
        self._pieces = pieces
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection, contextlib.suppress(ConnectionError):
                asked = connection.recv(1 << 16)
                if asked == b"end":
                    return
                for piece in self._pieces:
                    connection.sendall(piece)
                    self.sent += len(piece)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.path)
            connection.sendall(b"end")
            self._thread.join()
        self._listener.close()


@contextlib.contextmanager
def answering(pieces: Iterable[bytes]) -> Iterator[tuple[Client, Impostor]]:
    with tempfile.TemporaryDirectory(prefix="gd-") as folder:
        impostor = Impostor(str(Path(folder) / "p.sock"), pieces)
        try:
            with Client(impostor.path, timeout=60) as client:
                yield client, impostor
        finally:
            impostor.close()


def whole(body: bytes, status: str = "200 OK") -> list[bytes]:
    return [b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)]


def of(**members: object) -> bytes:
    return json.dumps(members).encode()


NO_DIRECTORY: list[object] = [
    None,
    "",
    7,
    ["/a"],
    {"path": "/a"},
    "a",
    "./a",
    "/",
    "//",
    "//a",
    "/a/",
    "/a//b",
    "/a/./b",
    "/a/..",
    "/../a",
    "/a/../../etc",
    "/a\0b",
    "/" + "a" * 5000,
]

WRONG: list[tuple[str, str, list[object]]] = [
    ("Get", "Dir", NO_DIRECTORY),
    ("Exists", "Exists", ["true", 1, [], {}]),
    (
        "Status",
        "Status",
        ["up", {"a": "b"}, ["ab"], [["a"]], [["a", 1]], [["a", "b", "c"]], [None]],
    ),
    ("GetMetadata", "Metadata", ["x", [], [["a", "b"]], {"a": 1}]),
    (
        "Changes",
        "Changes",
        ["x", {}, ["/a"], [{"Path": 1}], [{"Path": "/a", "Kind": 9}], [{"Kind": "0"}]],
    ),
    ("DiffSize", "Size", ["1", 1.5, -1, 2**63, True, [1]]),
    ("ApplyDiff", "Size", ["1", 1.5, -1, 2**63, True, [1]]),
    ("Capabilities", "Capabilities", ["x", [], {"ReproducesExactDiffs": 1}]),
    ("Activate", "Implements", ["GraphDriver", [1], {}]),
]


@pytest.mark.parametrize(
    ("call", "member", "value"),
    [(call, member, value) for call, member, values in WRONG for value in values],
)
def test_an_answer_of_a_wrong_type_is_an_error_that_names_the_member(
    call: str, member: str, value: object
) -> None:
    with (
        answering(whole(of(**{member: value}))) as (client, _),
        pytest.raises(BadAnswerError) as caught,
    ):
        CALLS[call](client)
    assert f"the answer breaks the protocol: {member}" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'"text"', b"7", b"\xff\xfe", b"[" * 200_000, b'{"Size": ' + b"9" * 9999 + b"}"],
    ids=lambda body: str(body[:9]),
)
@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_json_object_is_no_answer(call: str, body: bytes) -> None:
    with answering(whole(body)) as (client, _), pytest.raises(BadAnswerError):
        CALLS[call](client)


@pytest.mark.parametrize("call", CALLS)
def test_an_error_is_one_whatever_its_status(call: str) -> None:
    with answering(whole(of(Err="no room"))) as (client, _):
        with pytest.raises(RemoteError, match=r"^no room$") as caught:
            CALLS[call](client)
        assert caught.value.status == 200


@pytest.mark.parametrize("call", CALLS)
def test_an_answer_that_breaks_off_is_an_error(call: str) -> None:
    body = of(Dir="/a", Size=1)
    for pieces in (
        [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + body],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(body), body)],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n" + body],
    ):
        with answering(pieces) as (client, _), pytest.raises(BrokenStreamError, match="broke off"):
            CALLS[call](client)


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nshort"],
    ],
)
def test_a_diff_that_breaks_off_does_not_end_as_if_it_were_whole(pieces: list[bytes]) -> None:
    with answering(pieces) as (client, _), client.diff("a") as diff:
        with pytest.raises(BrokenStreamError):
            while diff.read(3):
                pass
        with pytest.raises(BrokenStreamError):  # still
            diff.read(3)


def endless(head: bytes, piece: bytes) -> Iterator[bytes]:
    yield head
    while True:
        yield piece


FLOODS = {
    "chunks": (b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 0x10000 + b"\r\n"),
    "a length": (b"Content-Length: 99999999999\r\n\r\n", b" " * 0x10000),
    "until the end": (b"\r\n", b" " * 0x10000),
}


@pytest.mark.parametrize("status", [b"200 OK", b"500 Internal Server Error"])
@pytest.mark.parametrize("call", ["Get", "Changes"])
@pytest.mark.parametrize("flood", FLOODS)
def test_no_more_is_read_than_an_answer_may_have(
    flood: str, call: str, status: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "CHANGES_LIMIT", 4 << 20)
    head, piece = FLOODS[flood]
    pieces = endless(b"HTTP/1.1 %b\r\n" % status + head, piece)
    limit = answers.CHANGES_LIMIT if call == "Changes" else answers.LIMIT
    expected = BadAnswerError if status.startswith(b"200") else RemoteError
    with answering(pieces) as (client, impostor):
        with pytest.raises(expected):
            CALLS[call](client)
        client.close()
        assert impostor.sent < limit + (2 << 20)


def test_a_list_of_changes_may_be_longer_than_another_answer() -> None:
    many = [{"Path": f"/{'x' * 100}/{n}", "Kind": 1} for n in range(20_000)]
    with answering(whole(of(Changes=many))) as (client, _):
        assert len(client.changes("a")) == len(many)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_a_refusal_is_of_the_kind_that_the_driver_raised(
    ready: Plugin, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = BY_KIND.get(kind, GraphDriverError)

    def fail(id: str, mount_label: str) -> str:
        raise cls("it is so", hint="wait")

    monkeypatch.setattr(ready.box, "get", fail)
    with (
        ready.client() as client,
        pytest.raises(RemoteError, match=r"^get a: it is so; wait$") as no,
    ):
        client.get("a")
    assert isinstance(no.value, cls)
    assert no.value.kind is kind


def test_each_class_of_errors_but_the_nameless_is_in_the_table() -> None:
    assert set(BY_KIND) == set(Kind) - {Kind.FAILED}
    assert all(cls.kind is kind for kind, cls in BY_KIND.items())


@pytest.mark.parametrize("kind", ["", "such as nobody has", "failed", 7, None])
def test_a_refusal_of_no_known_kind_is_a_plain_one(kind: object) -> None:
    body = of(Err="no", Kind=kind)
    with answering(whole(body, "500 Internal Server Error")) as (client, _):
        with pytest.raises(RemoteError) as caught:
            client.get("a")
        assert caught.value.kind is Kind.FAILED
        assert str(caught.value) == "no"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (of(Err="in Err"), "in Err"),
        (b"as plain text\n", "as plain text"),
        (b"", NO_TEXT),
        (b" \n", NO_TEXT),
        (b"[" * 9999, "[" * 9999),
        (b"x" * (1 << 20), "x" * answers.REFUSAL_LIMIT),
    ],
    ids=lambda value: str(value[:9]),
)
def test_a_refusal_has_a_text(body: bytes, text: str) -> None:
    with answering(whole(body, "404 Not Found")) as (client, _):
        with pytest.raises(RemoteError) as caught:
            client.get("a")
        assert str(caught.value) == text
        assert caught.value.status == 404


def test_a_refusal_does_not_reach_the_terminal_as_it_came(
    capfd: pytest.CaptureFixture[str],
) -> None:
    body = of(Err="\x1b]0;title\x07 \x9b2J \N{RIGHT-TO-LEFT OVERRIDE} na\xefve\nline")
    with answering(whole(body, "500 Internal Server Error")) as (_, impostor):
        assert main(["call", "--socket", impostor.path, "Status"]) == 1
    said = capfd.readouterr().err
    assert said == ("graphdriver call: \\x1b]0;title\\x07 \\x9b2J \\u202e na\xefve\nline\n")


def test_a_diff_is_let_go_of_at_the_end_of_its_block(ready: Plugin) -> None:
    with ready.client() as client:
        client.create("a")
        with ready.wire() as daemon:
            daemon.ask(wire.apply("a", b"tar" * 1000))
        with client.diff("a") as diff:
            assert diff.read(3) == b"tar"
        wait_until(lambda: ready.box.open_streams == 0)
        assert client.exists("a")
