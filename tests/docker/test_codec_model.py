"""The rules of the protocol's JSON, written down a second time, against generated documents.

Nothing here is taken from the codec: what a member may be is told by `RULES`, what Go's decoder
forgives by `chosen`.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from graphdriver import IDMap
from graphdriver.docker.codec import decode, encode
from graphdriver.errors import MalformedRequestError
from tests.docker.requests import REQUESTS, members
from tests.support.long import times

ALLOWED = set(string.ascii_letters + string.digits + "_.-")
BAD = object()


def text(value: Any) -> Any:
    if type(value) is not str:
        return BAD
    # as Go reads a lone half of a pair
    return "".join("\ufffd" if 0xD800 <= ord(c) <= 0xDFFF else c for c in value)


def layer(value: Any) -> Any:
    if type(value) is not str or not 1 <= len(value) <= 128:
        return BAD
    return value if set(value) <= ALLOWED and value[0] not in "_.-" else BAD


def layer_or_none(value: Any) -> Any:
    return "" if value == "" and type(value) is str else layer(value)


def home(value: Any) -> Any:
    read = text(value)
    if read is BAD or not read.startswith("/") or "\0" in read or len(read.encode()) > 4095:
        return BAD
    return BAD if ".." in read.split("/") else read


def texts(value: Any) -> Any:
    if type(value) is not list:
        return BAD
    read = tuple(text(one) for one in value)
    return BAD if BAD in read else read


def text_map(value: Any) -> Any:
    if type(value) is not dict:
        return BAD
    read = {text(key): text(one) for key, one in value.items()}
    return BAD if BAD in read.values() else read


def id_maps(value: Any) -> Any:
    if type(value) is not list:
        return BAD
    read = []
    for one in value:
        if type(one) is not dict:
            return BAD
        numbers = {"containerid": 0, "hostid": 0, "size": 0}
        for key, number in one.items():
            for name, spellings in (
                ("containerid", ("containerid", "container_id")),
                ("hostid", ("hostid", "host_id")),
                ("size", ("size",)),
            ):
                if key.lower() in spellings and number is not None:
                    if type(number) is not int or not 0 <= number <= 4294967296:
                        return BAD
                    numbers[name] = number
        read.append(IDMap(numbers["containerid"], numbers["hostid"], numbers["size"]))
    return tuple(read)


Rule = tuple[str, Callable[[Any], Any], Any]
"""A field of the message, how its member is read, and what it is when absent."""

ID: Rule = ("id", layer, BAD)
PARENT: Rule = ("parent", layer_or_none, "")
LABEL: Rule = ("mount_label", text, "")
CREATE = {
    "ID": ID,
    "Parent": PARENT,
    "MountLabel": LABEL,
    "StorageOpt": ("storage_opt", text_map, {}),
}
RULES: dict[str, dict[str, Rule]] = {
    "Init": {
        "Home": ("home", home, BAD),
        "Opts": ("options", texts, ()),
        "UIDMaps": ("uid_maps", id_maps, ()),
        "GIDMaps": ("gid_maps", id_maps, ()),
    },
    "Create": CREATE,
    "CreateReadWrite": CREATE,
    "Remove": {"ID": ID},
    "Get": {"ID": ID, "MountLabel": LABEL},
    "Put": {"ID": ID},
    "Exists": {"ID": ID},
    "GetMetadata": {"ID": ID},
    "Changes": {"ID": ID, "Parent": PARENT},
    "DiffSize": {"ID": ID, "Parent": PARENT},
    "Diff": {"ID": ID, "Parent": PARENT},
}

Pairs = list[tuple[str, Any]]


def chosen(pairs: Pairs, member: str) -> Any:
    """Of a member that comes more than once the last counts, and of two spellings one that says more
    than null.
    """
    last = dict(pairs)
    places = {key: place for place, (key, _) in reversed(list(enumerate(pairs)))}
    spellings = [key for key in last if key.lower() == member.lower() and last[key] is not None]
    return last[max(spellings, key=places.__getitem__)] if spellings else None


# --- documents ------------------------------------------------------------------------------------

_any_text = st.text(max_size=8) | st.text(st.characters(), max_size=5)
_leaf = st.none() | st.booleans() | st.integers(-3, 2**33) | st.floats() | _any_text
_anything = st.recursive(
    _leaf, lambda below: st.lists(below, max_size=3) | st.dictionaries(_any_text, below, max_size=3)
)
_names = st.from_regex(r"\A[A-Za-z0-9_./%-]{0,6}\Z") | st.sampled_from(
    ["x" * 128, "x" * 129, "a\n", "a\0", "..", ".a", "-a", "a.b", "é", "\u0661", ""]
)
_paths = st.from_regex(r"\A/?(\.{0,3}/?[a-z\0]{0,2}/?){0,4}\Z")
_number = st.integers(-1, 5) | st.sampled_from([2**32, 2**32 + 1, 2**64]) | _leaf
_map_key = st.sampled_from(
    [
        "container_id",
        "ContainerID",
        "CONTAINERID",
        "host_id",
        "HostID",
        "size",
        "Size",
        "s_ize",
        "x",
    ]
)
_maps = st.lists(st.dictionaries(_map_key, _number, max_size=4) | _leaf, max_size=3)
_values = (
    _names
    | _paths
    | _maps
    | st.lists(_any_text, max_size=3)
    | st.dictionaries(_any_text, _any_text, max_size=3)
    | st.none()
    | _anything
)


@st.composite
def _pairs(draw: st.DrawFn, method: str) -> Pairs:
    """Members that a call has, in any letter case, more than once perhaps, and some that none has."""
    known = list(RULES[method])
    found: Pairs = []
    if draw(st.booleans()):  # mostly right, so that not all are refused
        found.append((known[0], "/home" if method == "Init" else "a"))
    for name in draw(st.lists(st.sampled_from(known), max_size=5)):
        spelled = "".join(
            c.upper() if up else c.lower()
            for c, up in zip(
                name, draw(st.lists(st.booleans(), min_size=20, max_size=20)), strict=False
            )
        )
        found.append((draw(st.sampled_from([name, spelled])), draw(_values)))
    unknown = st.text(st.characters(max_codepoint=127), max_size=5).filter(
        lambda key: key.lower() not in {name.lower() for name in known}
    )
    for name in draw(st.lists(unknown, max_size=3)):
        found.insert(draw(st.integers(0, len(found))), (name, draw(_anything)))
    return found


def written(pairs: Pairs) -> bytes:
    """Return the document; a dict could not hold a member twice."""
    inside = ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in pairs)
    return f"{{{inside}}}".encode()


@settings(max_examples=times(gate=250, long=3000))
@given(
    st.sampled_from(list(RULES)).flatmap(lambda method: st.tuples(st.just(method), _pairs(method)))
)
def test_every_document_is_read_or_refused_as_the_rules_say(case: tuple[str, Pairs]) -> None:
    method, pairs = case
    expected, wrong = {}, []
    for member, (field, rule, absent) in RULES[method].items():
        value = chosen(pairs, member)
        read = absent if value is None else rule(value)
        expected[field] = read
        if read is BAD:
            wrong.append(member)
    try:
        found: Any = decode(REQUESTS[method], written(pairs))
    except MalformedRequestError as error:
        assert wrong, f"{error}, though all is right"
        assert any(str(error).startswith(member) for member in wrong), (error, wrong)
    else:
        assert not wrong
        assert {field: getattr(found, field) for field in expected} == expected
        assert decode(REQUESTS[method], encode(found)) == found


def test_every_member_of_every_request_has_a_rule_here() -> None:
    assert {method: set(members(request)) for method, request in REQUESTS.items()} == {
        method: set(rules) for method, rules in RULES.items()
    }
