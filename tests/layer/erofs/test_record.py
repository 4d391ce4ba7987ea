"""The record beside an image: the same text for the same layer, and no damaged one is read."""

from __future__ import annotations

import dataclasses
import json
import re
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphdriver.driver import IDMap
from graphdriver.layer.erofs.record import VERSION, Kind, Record, image_uuid, parse
from graphdriver.layer.erofs.stored_tar import PIECE

RECORD = Record(
    uid_maps=(IDMap(0, 100_000, 65_536),),
    gid_maps=(),
    tar_offset=4096,
    tar_size=PIECE + 1,
    sha256=bytes(range(32)),
    pieces=b"one.two.",
    size=5,
    changed_size=4,
    inodes=3,
    kind=Kind.IMAGE,
    root_opaque=False,
    facts={b"usr/\xff": "directory", b"bin": "absent"},
)

ID_MAPS = st.lists(
    st.builds(IDMap, *[st.integers(0, 2**31 - 1)] * 2, st.integers(0, 2**31)), max_size=3
).map(tuple)
COUNTS = st.integers(0, 2**70)


@given(
    st.builds(
        Record,
        uid_maps=ID_MAPS,
        gid_maps=ID_MAPS,
        tar_offset=COUNTS,
        tar_size=st.integers(PIECE + 1, 2 * PIECE),
        sha256=st.binary(min_size=32, max_size=32),
        pieces=st.binary(min_size=8, max_size=8),
        size=COUNTS,
        changed_size=COUNTS,
        inodes=COUNTS,
        kind=st.sampled_from(Kind),
        root_opaque=st.booleans(),
        facts=st.dictionaries(st.binary(), st.text()),
    )
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert parse(record.text()) == record


def test_a_version_has_the_same_text_forever() -> None:
    assert VERSION == 1
    assert RECORD.text() == (
        '{"checksum":"3530c596","record":{"changed_size":4,'
        '"facts":{"bin":"absent","usr/\\udcff":"directory"},"gid_maps":[],"inodes":3,"kind":"image",'
        '"pieces":"b25lLnR3by4=","root_opaque":false,'
        '"sha256":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",'
        '"size":5,"tar_offset":4096,"tar_size":262145,"uid_maps":[[0,100000,65536]],"version":1}}'
    )


def test_the_order_of_facts_changes_no_byte() -> None:
    other = dataclasses.replace(RECORD, facts=dict([*RECORD.facts.items()][::-1]))
    assert other.text() == RECORD.text()


@given(st.integers(0), st.integers(0, 7))
def test_a_flipped_bit_is_noticed(at: int, bit: int) -> None:
    text = bytearray(RECORD.text().encode())
    text[at % len(text)] ^= 1 << bit
    with pytest.raises(ValueError, match=r"^[^\n]*$"):
        parse(text.decode())


@given(st.integers(0))
def test_a_cut_record_is_noticed(length: int) -> None:
    text = RECORD.text()
    with pytest.raises(ValueError, match=r"^[^\n]*$"):
        parse(text[: length % len(text)])


def signed(members: dict[str, Any]) -> str:
    """Return the text of any members, with the right checksum."""
    text = json.dumps(members, sort_keys=True, separators=(",", ":"))
    return f'{{"checksum":"{zlib.crc32(text.encode()):08x}","record":{text}}}'


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"version": VERSION + 1}, f"its version is {VERSION + 1}, not {VERSION}"),
        ({"version": None}, f"its version is None, not {VERSION}"),
        ({"more": 1}, "it has other members than a record"),
        ({"tar_size": -1}, "tar_size is -1"),
        ({"tar_size": True}, "tar_size is True"),
        ({"tar_size": 4.0}, "tar_size is 4.0"),
        ({"tar_size": 3 * PIECE}, "its tar and the checksums have different lengths"),
        ({"tar_offset": "4096"}, "tar_offset is '4096'"),
        ({"size": None}, "size is None"),
        ({"inodes": -3}, "inodes is -3"),
        ({"sha256": "ab"}, "sha256 is 'ab'"),
        ({"sha256": "no"}, "sha256 is 'no'"),
        ({"sha256": 7}, "sha256 is 7"),
        ({"pieces": "b25l"}, "its tar and the checksums have different lengths"),
        ({"pieces": "b25lLnR3by4\n"}, "pieces is 'b25lLnR3by4\\n'"),
        ({"kind": "file"}, "kind is 'file'"),
        ({"root_opaque": 0}, "root_opaque is 0"),
        ({"uid_maps": [[0, 0]]}, "uid_maps is [[0, 0]]"),
        ({"uid_maps": [[0, 1, 2**32]]}, "uid_maps is [[0, 1, 4294967296]]"),
        ({"gid_maps": {}}, "gid_maps is {}"),
        ({"facts": []}, "facts is []"),
        ({"facts": {"a": 1}}, "facts is {'a': 1}"),
        ({"facts": {"\ud800": "absent"}}, "facts is {'\\ud800': 'absent'}"),
    ],
)
def test_no_member_is_trusted(changed: dict[str, Any], problem: str) -> None:
    members = json.loads(RECORD.text())["record"]
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        parse(signed(members | changed))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", "[" * 100_000, '{"checksum":1,"record":2}']
)
def test_anything_else_is_no_record(text: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$"):
        parse(text)


def test_a_missing_member_is_noticed() -> None:
    members = json.loads(RECORD.text())["record"]
    del members["inodes"]
    with pytest.raises(ValueError, match="other members"):
        parse(signed(members))


def test_images_of_two_tars_have_two_ids() -> None:
    one, other = image_uuid(bytes(32)), image_uuid(bytes(31) + b"\1")
    assert len(one) == 16
    assert one != other
    assert (one[6] >> 4, one[8] >> 6) == (8, 0b10)
