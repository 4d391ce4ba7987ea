"""What no daemon says. The answer names the member and the rule, the driver is never called, and the
connection goes on.
"""

from __future__ import annotations

import json
import urllib.parse

import pytest

from graphdriver import IDMap
from graphdriver.conformance.plugin import wire
from graphdriver.conformance.plugin.wire import Answer, Wire
from graphdriver.docker.codec import HOME, ID_MAPS, LAYER, PARENT, TEXT, TEXT_MAP, TEXTS
from graphdriver.docker.request_messages import JSON_LIMIT
from tests.docker.requests import NEEDS_NOTHING, REQUESTS, members, required
from tests.support.plugin import Plugin

NAMES = [
    "../up",
    "..",
    ".",
    "a/b",
    "/a",
    "a\0",
    "\0",
    "a\n",
    "a\nb",
    "\r",
    "a b",
    " a",
    "a ",
    "-rf",
    "_a",
    ".graphdriver",
    ".staging",
    ".trash",
    "x" * 129,
    "x" * 300,
    "é",
    "\u0661",  # a digit, but not an ASCII one
    "\udc80",
    "a%2e",
    "$(id)",
    "*",
    "~",
]
"""What cannot be a layer's ID. What begins with a dot is ours."""

NO_TEXT = [7, 1.5, True, [], {}, ["a"]]
NO_LIST = [7, "a", True, {}, {"0": "a"}]
NUMBERS = [-1, 2**32 + 1, 2**63, 10**100, 1.5, 1.0, "0", True, [], {}]

WRONG: dict[int, list[tuple[object, str]]] = {
    id(TEXT): [(value, "{} must be a string, not ") for value in NO_TEXT],
    id(LAYER): [
        *((value, "{} must be a string, not ") for value in NO_TEXT),
        *(
            (name, r"{} must be a layer's ID, [A-Za-z0-9][A-Za-z0-9_.-]{{0,127}}, not ")
            for name in NAMES
        ),
        ("", "{} is missing"),
        (None, "{} is missing"),
    ],
    id(PARENT): [
        *((value, "{} must be a string, not ") for value in NO_TEXT),
        *((name, "{} must be a layer's ID, ") for name in NAMES),
    ],
    id(HOME): [
        *((value, "{} must be a string, not ") for value in NO_TEXT),
        *(
            (path, "{} must be an absolute path without '..', not ")
            for path in ("home", "./home", "/a/../b", "/..", "/a/..", "/a\0b", "~/a")
        ),
        ("/" + "x" * 4095, "{} must be a path of at most 4095 bytes, not "),
        ("", "{} is missing"),
        (None, "{} is missing"),
    ],
    id(TEXTS): [
        *((value, "{} must be a list, not ") for value in NO_LIST),
        *(([value], "{}[0] must be a string, not ") for value in [*NO_TEXT, None]),
        (["a", 7], "{}[1] must be a string, not 7"),
    ],
    id(TEXT_MAP): [
        *(
            (value, "{} must be an object of strings, not ")
            for value in [7, "a", True, [], [["a", "b"]]]
        ),
        *(({"k": value}, "{}.k must be a string, not ") for value in [*NO_TEXT, None]),
    ],
    id(ID_MAPS): [
        *((value, "{} must be a list, not ") for value in NO_LIST),
        *(([value], "{}[0] must be an object, not ") for value in [7, "a", True, [], None]),
        *(
            ([{name: number}], f"{{}}[0].{name} must be ")
            for name in ("container_id", "HostID", "size")
            for number in NUMBERS
        ),
    ],
}
"""For each kind of member what is wrong, and what is said of it."""


def cases() -> list[tuple[str, str, object, str]]:
    found = []
    for method, request in REQUESTS.items():
        for member, codec in members(request).items():
            assert id(codec) in WRONG, f"{method}.{member} is of a kind that is not tried here"
            for value, said in WRONG[id(codec)]:
                found.append((method, member, value, said.format(member)))
    return found


def asked(daemon: Wire, method: str, body: bytes) -> Answer:
    target = f"/GraphDriver.{method}"
    return daemon.ask(wire.head(target, f"Content-Length: {len(body)}") + body)


def good(plugin: Plugin, method: str) -> dict[str, object]:
    """Return members that are right."""
    return {required(REQUESTS[method]): plugin.home if method == "Init" else "a"}


def untouched(plugin: Plugin, daemon: Wire) -> None:
    """See that nothing reached the driver, and that the connection goes on."""
    assert plugin.box.calls == []
    assert len(plugin.box.inits) == 1
    assert daemon.ask(wire.call("Exists", ID="a")).members == {"Exists": False}


def test_a_value_of_the_wrong_kind_is_refused_by_member_and_rule(ready: Plugin) -> None:
    with ready.wire() as daemon:
        for method, member, value, said in cases():
            body = json.dumps({**good(ready, method), member: value}).encode()
            answer = asked(daemon, method, body)
            assert answer.status == 400, (method, member, value)
            assert said in answer.error, (method, member, value)
            assert len(answer.error) < 300
        untouched(ready, daemon)


def test_every_name_that_a_daemon_may_give_is_taken(ready: Plugin) -> None:
    names = ["a", "Z", "0", "empty", "Base", "x" * 128, "a-init", "a.b_c-d", "l", "0" * 64]
    with ready.wire() as daemon:
        for name in names:
            assert daemon.ask(wire.call("Create", ID=name)).members == {}
            assert daemon.ask(wire.call("Remove", ID=name)).members == {}


@pytest.mark.parametrize("method", REQUESTS)
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "is missing"),
        (b" \r\n\t ", "is missing"),
        (b"{}", "is missing"),
        (b"null", "is missing"),
        (b"{", "the body is not JSON: "),
        (b"}", "the body is not JSON: "),
        (b'{"ID":"a"', "the body is not JSON: "),
        (b'{"ID":"a"}{"ID":"b"}', "the body is not JSON: "),
        (b'{"ID":"a"} x', "the body is not JSON: "),
        (b"{'ID':'a'}", "the body is not JSON: "),
        (b"ID=a", "the body is not JSON: "),
        (b"\x00", "the body is not JSON: "),
        (b'\xff{"ID":"a"}', "the body is not JSON: "),
        (b"[" * 100_000, "the body is not JSON: "),
        (b'{"ID":' * 100_000, "the body is not JSON: "),
        (b"9" * 5000, "the body is not JSON: "),
        (b"[]", "the body must be a JSON object, not []"),
        (b'["ID"]', "the body must be a JSON object, not ['ID']"),
        (b'"ID"', "the body must be a JSON object, not 'ID'"),
        (b"7", "the body must be a JSON object, not 7"),
        (b"true", "the body must be a JSON object, not True"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_body_that_is_no_object_of_json_is_refused(
    ready: Plugin, method: str, body: bytes, said: str
) -> None:
    with ready.wire() as daemon:
        answer = asked(daemon, method, body)
        assert answer.status == 400
        assert said in answer.error
        assert len(answer.error) < 300
        untouched(ready, daemon)


@pytest.mark.parametrize("depth", [*range(900, 1000, 3), 5000, 200_000])
def test_a_value_of_any_depth_is_refused_and_not_shown_whole(ready: Plugin, depth: int) -> None:
    body = b'{"ID":' + b"[" * depth + b"]" * depth + b"}"
    with ready.wire() as daemon:
        answer = asked(daemon, "Get", body)
        assert answer.status == 400
        assert len(answer.error) < 300
        untouched(ready, daemon)


def test_a_long_value_is_not_shown_whole(ready: Plugin) -> None:
    with ready.wire() as daemon:
        for value in ("x" * 500_000, ["x" * 1000] * 500, {str(n): n for n in range(50_000)}):
            for body in ({"ID": value}, {"ID": "a", "Parent": value}):
                answer = asked(daemon, "Create", json.dumps(body).encode())
                assert answer.status == 400
                assert len(answer.error) < 300
        name = "x" * 500_000
        answer = asked(daemon, "Create", json.dumps({"ID": "a", "StorageOpt": {name: 7}}).encode())
        assert answer.status == 400
        assert len(answer.error) < 300
        untouched(ready, daemon)


# --- what is accepted -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", REQUESTS)
def test_members_that_nobody_knows_are_passed_over(ready: Plugin, method: str) -> None:
    unknown = {
        "New": {"x": [1]},
        "": None,
        "id ": "../x",
        "_ID": 7,
        "Id\0": "b",
        "\uff29\uff24": "c",
    }
    with ready.wire() as daemon:
        plain = asked(daemon, method, json.dumps(good(ready, method)).encode())
        daemon.ask(wire.call("Remove", ID="a"))
        both = asked(daemon, method, json.dumps({**unknown, **good(ready, method)}).encode())
    assert (both.status, both.body) == (plain.status, plain.body)
    assert both.status != 400


@pytest.mark.parametrize("method", REQUESTS)
def test_names_of_members_are_read_in_any_letter_case(ready: Plugin, method: str) -> None:
    right = good(ready, method)
    with ready.wire() as daemon:
        plain = asked(daemon, method, json.dumps(right).encode())
        for spelled in (str.lower, str.upper, str.swapcase):
            daemon.ask(wire.call("Remove", ID="a"))
            body = json.dumps({spelled(name): value for name, value in right.items()}).encode()
            answer = asked(daemon, method, body)
            assert (answer.status, answer.body) == (plain.status, plain.body)
        assert plain.status != 400


@pytest.mark.parametrize("method", REQUESTS)
def test_null_stands_for_what_is_absent(ready: Plugin, method: str) -> None:
    absent = dict.fromkeys(members(REQUESTS[method]))
    with ready.wire() as daemon:
        body = json.dumps({**absent, **good(ready, method)}).encode()
        assert asked(daemon, method, body).status != 400


def test_of_a_member_that_comes_twice_the_last_counts_as_in_go(ready: Plugin) -> None:
    with ready.wire() as daemon:
        for body in (b'{"ID":"a","ID":"b"}', b'{"ID":"a","id":"b"}', b'{"id":"b","ID":null}'):
            asked(daemon, "Create", body)
            assert ready.box.calls.pop() == ("create", "b", "")


@pytest.mark.parametrize(
    "spelled",
    [
        {"container_id": 1, "host_id": 2, "size": 3},
        {"ContainerID": 1, "HostID": 2, "Size": 3},
        {"containerid": 1, "HOST_ID": 2, "SIZE": 3},
        {"ContainerID": 1, "host_id": 2, "Size": 3, "new": 4, "size_": 5, "s_ize": 6},
    ],
)
def test_both_spellings_of_id_maps_are_read(ready: Plugin, spelled: dict[str, int]) -> None:
    with ready.wire() as daemon:
        said = wire.call("Init", Home=ready.home, UIDMaps=[spelled], GIDMaps=[spelled])
        assert daemon.ask(said).members == {}
    assert ready.box.inits[-1][2] == [IDMap(1, 2, 3)]


# --- how much -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*REQUESTS, *NEEDS_NOTHING])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_json_of_a_mebibyte_is_read_and_a_byte_more_is_not(
    ready: Plugin, method: str, chunked: bool
) -> None:
    target = f"/GraphDriver.{method}"
    for size, status in ((JSON_LIMIT, 400), (JSON_LIMIT + 1, 413)):
        body = b'{"ID":7,"Home":7}'.ljust(size)
        with ready.wire() as daemon:
            if chunked:
                daemon.send(wire.head(target, "Transfer-Encoding: chunked"))
                answer = daemon.ask(*wire.chunks(body), wire.LAST_CHUNK)
            else:
                answer = daemon.ask(wire.head(target, f"Content-Length: {size}"), body)
            if status == 413:
                assert answer.status == 413
                assert answer.error.endswith(f"the body is over {JSON_LIMIT} bytes")
            else:
                assert answer.status == (200 if method in NEEDS_NOTHING else 400)
    with ready.wire() as daemon:
        untouched(ready, daemon)


# --- ApplyDiff's query ----------------------------------------------------------------------------


def applied(daemon: Wire, query: str) -> Answer:
    target = f"/GraphDriver.ApplyDiff?{query}"
    return daemon.ask(wire.head(target, "Transfer-Encoding: chunked"), wire.LAST_CHUNK)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "id is missing"),
        ("parent=", "id is missing"),
        ("id=", "id is missing"),
        ("id", "id is missing"),
        ("id=&parent=", "id is missing"),
        ("id=a&id=b", "id is in the query more than once"),
        ("id=a&ID=a", "id is in the query more than once"),
        ("id=a&parent=&Parent=b", "parent is in the query more than once"),
        ("id=a&x=1&x=2", "x is in the query more than once"),
        ("&".join(f"x{n}=1" for n in range(17)), "the query has over 16 members"),
        ("id=a&parent=../b", "parent must be a layer's ID, "),
        ("id=a;parent=b", "id must be a layer's ID, "),
        ("id=a?parent=b", "id must be a layer's ID, "),
        ("id=%", "id must be a layer's ID, "),
        ("id=%ff", "id must be a layer's ID, "),
        ("id=a%00", "id must be a layer's ID, "),
        ("id=a+b", "id must be a layer's ID, "),
    ],
    ids=lambda value: value[:20],
)
def test_a_query_that_names_no_layer_is_refused(ready: Plugin, query: str, said: str) -> None:
    with ready.wire() as daemon:
        answer = applied(daemon, query)
        assert answer.status == 400
        assert answer.error.startswith("ApplyDiff: ")
        assert said in answer.error
        untouched(ready, daemon)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("member", ["id", "parent"])
def test_a_bad_name_in_a_query_is_refused(ready: Plugin, name: str, member: str) -> None:
    given = {"id": "a", "parent": "b", member: name}
    with ready.wire() as daemon:
        answer = applied(daemon, urllib.parse.urlencode(given, errors="surrogateescape"))
        assert answer.status == 400
        assert f"{member} must be a layer's ID, " in answer.error
        untouched(ready, daemon)


@pytest.mark.parametrize(
    "query", ["id=a", "id=a&parent=", "ID=a&PARENT=", "%69d=%61", "new=1&id=a&", "id=a&parent"]
)
def test_a_query_may_be_written_in_any_way_there_is(ready: Plugin, query: str) -> None:
    with ready.wire() as daemon:
        daemon.ask(wire.call("Create", ID="a"))
        assert applied(daemon, query).members == {"Size": 0}
