"""The JSON of the protocol, as Go writes and reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphdriver import Capabilities, Change, ChangeKind, IDMap
from graphdriver.docker import messages as m
from graphdriver.docker.codec import TEXT, decode, encode
from graphdriver.errors import MalformedRequestError


def test_a_request_of_a_real_daemon_is_read() -> None:
    body = (
        b'{"Home":"/var/lib/docker/py-vfs","Opts":null,"UIDMaps":'
        b'[{"container_id":0,"host_id":100000,"size":65536}],"GIDMaps":null}'
    )
    assert decode(m.InitRequest, body) == m.InitRequest(
        "/var/lib/docker/py-vfs", (), (IDMap(0, 100000, 65536),), ()
    )


def test_members_that_a_daemon_leaves_out_have_their_empty_values() -> None:
    assert decode(m.CreateRequest, b'{"ID":"a"}') == m.CreateRequest("a", "", "", {})


def test_both_spellings_of_an_id_map_are_read() -> None:
    body = b'{"Home":"/h","UIDMaps":[{"ContainerID":1,"HostID":2,"Size":3}]}'
    assert decode(m.InitRequest, body).uid_maps == (IDMap(1, 2, 3),)


@pytest.mark.parametrize("name", ["ID", "id", "Id", "iD"])
def test_member_names_are_read_in_any_letter_case(name: str) -> None:
    assert decode(m.PutRequest, json.dumps({name: "a"}).encode()).id == "a"


def test_unknown_members_are_passed_over() -> None:
    assert decode(m.PutRequest, b'{"ID":"a","New":{"x":[1]}}').id == "a"


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (m.GetRequest, b"", "ID is missing; a daemon that repeats a call"),
        (m.GetRequest, b"{}", "ID is missing"),
        (m.GetRequest, b"null", "ID is missing"),
        (m.GetRequest, b"{", "not JSON"),
        (m.GetRequest, b"\xff{}", "not JSON"),
        (m.GetRequest, b"[" * 100_000, "not JSON"),
        (m.GetRequest, b"[]", "the body must be a JSON object"),
        (m.GetRequest, b'{"ID":""}', "ID is missing"),
        (m.GetRequest, b'{"ID":7}', "ID must be a string"),
        (m.GetRequest, b'{"ID":"../x"}', "ID must be a layer's ID"),
        (m.GetRequest, b'{"ID":"a/b"}', "ID must be"),
        (m.GetRequest, b'{"ID":"a\\u0000"}', "ID must be"),
        (m.GetRequest, b'{"ID":"a\\n"}', "ID must be"),
        (m.GetRequest, b'{"ID":".graphdriver"}', "ID must be"),
        (m.GetRequest, json.dumps({"ID": "a" * 129}).encode(), "ID must be"),
        (m.CreateRequest, b'{"ID":"a","Parent":"/"}', "Parent must be"),
        (m.CreateRequest, b'{"ID":"a","StorageOpt":["size"]}', "StorageOpt must be"),
        (m.CreateRequest, b'{"ID":"a","StorageOpt":{"size":1}}', "StorageOpt.size must be"),
        (m.InitRequest, b'{"Home":"relative"}', "Home must be an absolute path"),
        (m.InitRequest, b'{"Home":"/a/../b"}', "Home must be an absolute path"),
        (m.InitRequest, b'{"Home":"/a","Opts":"x"}', "Opts must be a list"),
        (m.InitRequest, b'{"Home":"/a","Opts":[1]}', "Opts[0] must be a string"),
        (m.InitRequest, b'{"Home":"/a","UIDMaps":[{"Size":-1}]}', "UIDMaps[0].Size must be"),
    ],
)
def test_what_is_wrong_is_refused_naming_member_and_rule(kind: Any, body: bytes, said: str) -> None:
    with pytest.raises(MalformedRequestError) as caught:
        decode(kind, body)
    assert said in str(caught.value)


def test_a_wrong_value_is_not_shown_whole_however_deep_it_is() -> None:
    deep: list[object] = []
    for _ in range(100_000):  # deeper than a body may be, and than what Python can show
        deep = [deep]
    with pytest.raises(MalformedRequestError, match="MountLabel must be a string, not ") as caught:
        TEXT.decode("MountLabel", deep)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("id", ["a" * 64, "a" * 64 + "-init", "Base", "empty", "overlay2Test", "0"])
def test_every_name_that_daemons_give_is_taken(id: str) -> None:
    assert decode(m.GetRequest, json.dumps({"ID": id}).encode()).id == id


def test_bytes_that_are_not_utf8_are_written_as_go_writes_them() -> None:
    change = Change("/\udce2\udc82x", ChangeKind.ADDED)  # the bytes E2 82, cut short
    assert json.loads(encode(m.ChangesResponse([change]))) == {
        "Changes": [{"Path": "/\ufffd\ufffdx", "Kind": 1}]
    }


def test_halves_of_surrogate_pairs_are_read_as_go_reads_them() -> None:
    create = rb'{"ID":"a","MountLabel":"x\ud800y","StorageOpt":{"k\udfff":"\udc80v"}}'
    assert decode(m.CreateRequest, create) == m.CreateRequest(
        "a", "", "x\ufffdy", {"k\ufffd": "\ufffdv"}
    )
    init = rb'{"Home":"/h\udcff","Opts":["\ud83d","\ud83d\ude00"]}'
    assert decode(m.InitRequest, init) == m.InitRequest("/h\ufffd", ("\ufffd", "\U0001f600"))


@pytest.mark.parametrize(
    "message",
    [
        m.ErrorResponse("/\udcff"),
        m.GetResponse("/\udcff"),
        m.StatusResponse([("/\udcff", "/\udcff")]),
        m.GetMetadataResponse({"/\udcff": "/\udcff"}),
        m.InitRequest("/h", ("/\udcff",)),
        m.CreateRequest("a", "", "/\udcff", {"/\udcff": "/\udcff"}),
    ],
    ids=lambda message: type(message).__name__,
)
def test_no_text_is_written_that_is_none(message: Any) -> None:
    written = encode(message)
    assert b"\\ufffd" in written
    assert b"\\udcff" not in written


def test_no_changes_are_an_empty_list() -> None:
    assert encode(m.ChangesResponse([])) == b'{"Changes":[]}'


def test_capabilities_and_status_are_shaped_as_daemons_expect() -> None:
    assert encode(m.CapabilitiesResponse(Capabilities(True))) == (
        b'{"Capabilities":{"ReproducesExactDiffs":true}}'
    )
    assert encode(m.StatusResponse([("a", "b")])) == b'{"Status":[["a","b"]]}'
    assert encode(m.ErrorResponse("no", "failed")) == b'{"Err":"no","Kind":"failed"}'


_ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", fullmatch=True)
_words = st.text(st.characters(exclude_categories=["Cs"]))


@given(_ids, _ids | st.just(""), _words, st.dictionaries(_words, _words))
def test_what_is_written_is_read_back(
    id: str, parent: str, label: str, options: dict[str, str]
) -> None:
    request = m.CreateRequest(id, parent, label, options)
    assert decode(m.CreateRequest, encode(request)) == request


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_no_json_value_does_more_than_be_refused(value: object) -> None:
    body = json.dumps({"Home": "/h", "UIDMaps": value, "Opts": value}).encode()
    try:
        decode(m.InitRequest, body)
    except MalformedRequestError:
        pass
