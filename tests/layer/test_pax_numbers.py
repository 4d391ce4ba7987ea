"""Numbers in PAX records are those that Go's archive/tar takes: ``strconv.ParseInt``, of 64 bits."""

from __future__ import annotations

import io
import os
import re
import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graphdriver.conformance.plugin import tars
from graphdriver.driver import IDMap
from graphdriver.errors import BadArchiveError, GraphDriverError
from graphdriver.layer.tar.entry import Entry
from graphdriver.layer.tar.reader import TarReader
from tests.layer.conftest import Layer

PADDED = b"0" * 10_000


def test_leading_zeros_are_padding(layer: Layer) -> None:
    told = [
        (b"size", PADDED + b"4"),
        (b"uid", PADDED + b"1000"),
        (b"gid", PADDED),
        (b"mtime", b"-" + PADDED + b"1.5"),
    ]
    layer.unpack(tars.tar(tars.pax(told), tars.file(b"f", b"data", mtime=9, uid=7, gid=7)))
    found = layer.stat("f")
    assert layer.read("f") == b"data"
    assert (found.st_uid, found.st_gid, found.st_mtime_ns) == (1000, 0, -1_500_000_000)


def test_the_length_of_a_record_may_have_leading_zeros(layer: Layer) -> None:
    text = b" path=long\n"
    padded = b"%032d" % (32 + len(text)) + text
    header = tars.header(b"x", b"x", size=len(padded))
    data = header + padded + bytes(-len(padded) % 512) + tars.file(b"short") + bytes(1024)
    listed = subprocess.run(["tar", "-t"], input=data, check=True, stdout=subprocess.PIPE)
    assert listed.stdout == b"long\n"  # Python's tarfile refuses it from 3.13 on
    layer.unpack(data)
    assert layer.names() == [b"long"]


def test_the_numbers_of_a_sparse_map_may_have_leading_zeros(layer: Layer) -> None:
    told = [
        (b"GNU.sparse.size", PADDED + b"8192"),
        (b"GNU.sparse.map", b"%b4096,%b4" % (PADDED, PADDED)),
    ]
    layer.unpack(tars.tar(tars.pax(told), tars.file(b"f", b"data")))
    assert layer.read("f") == bytes(4096) + b"data" + bytes(4092)


@pytest.mark.parametrize("key", [b"size", b"uid", b"mtime", b"GNU.sparse.size"])
@pytest.mark.parametrize(
    "value", [b"9223372036854775808", PADDED + b"9" * 20, b"-", b"+-1", b"1_0", b" 1", b"0x1"]
)
def test_a_value_of_more_than_64_bits_or_none_at_all_is_refused(
    layer: Layer, key: bytes, value: bytes
) -> None:
    told = [(key, value), (b"GNU.sparse.map", b"0,4")] if b"sparse" in key else [(key, value)]
    wrong = r"(number|time) in its .* is not (one|a number) of 64 bits"
    with pytest.raises(BadArchiveError, match=wrong):
        layer.unpack(tars.tar(tars.pax(told), tars.file(b"f", b"data")))


@given(
    st.tuples(
        st.sampled_from(["", "+", "-", "--", " "]),
        st.sampled_from(["", "0", "000"]),
        st.one_of(st.integers(0, 1 << 66).map(str), st.sampled_from(["", "1_0", "\u0661", "0x1"])),
        st.sampled_from(["", ".", ".5", ".1234567899", ".-5", ".5x"]),
    ).map("".join)
)
@example("-0.5")
@example("+5")
@example("-9223372036854775808.5")
def test_numbers_and_times_are_those_that_go_takes(text: str) -> None:
    value = text.encode()
    whole, _, fraction = text.partition(".")
    expected = int(whole) if re.fullmatch(r"[+-]?[0-9]+", whole, re.ASCII) else None
    if expected is not None and not -(1 << 63) <= expected < 1 << 63:
        expected = None
    if text:  # an empty value leaves what the header says
        assert uid_of(value) == (None if "." in text else expected)
    nanoseconds = int(fraction[:9].ljust(9, "0")) if re.fullmatch("[0-9]*", fraction) else None
    if expected is None or nanoseconds is None:
        expected = None
    else:
        expected = expected * 10**9 + (-nanoseconds if whole.startswith("-") else nanoseconds)
        expected = max(expected, -(1 << 63) * 10**9)
    if text:
        assert time_of(value) == expected


def entry_of(key: bytes, value: bytes) -> Entry | None:
    """Return a file with one record; None if the tar is refused."""
    data = tars.tar(tars.pax([(key, value)]), tars.file(b"f", uid=7))
    try:
        (entry,) = TarReader(io.BytesIO(data))
    except BadArchiveError:
        return None
    return entry


def uid_of(value: bytes) -> int | None:
    entry = entry_of(b"uid", value)
    return entry.uid if entry else None


def time_of(value: bytes) -> int | None:
    entry = entry_of(b"mtime", value)
    return entry.mtime_ns if entry else None


def test_a_record_without_a_key_is_refused() -> None:
    assert entry_of(b"", b"v") is None


@pytest.mark.parametrize("id", [-1, -2, -(1 << 63), 0xFFFFFFFF, 1 << 32, (1 << 63) - 1])
@pytest.mark.parametrize("key", [b"uid", b"gid"])
def test_an_owner_that_linux_cannot_have_is_nobody_and_told_once(
    layer: Layer, id: int, key: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    odd = tars.pax([(key, b"%d" % id)])
    layer.unpack(tars.tar(odd, tars.file(b"f", mode=0o6755), odd, tars.directory(b"d")))
    for name in ("f", "d"):
        found = layer.stat(name)
        owner = found.st_uid if key == b"uid" else found.st_gid
        assert owner == 65534
    (record,) = caplog.records
    kind = "user" if key == b"uid" else "group"
    assert f"'f': Linux cannot have the {kind} {id}: it belongs to 65534" in record.getMessage()


def test_the_highest_owner_that_linux_can_have_is_kept(layer: Layer) -> None:
    layer.unpack(tars.tar(tars.pax([(b"uid", b"4294967294")]), tars.file(b"f")))
    assert layer.stat("f").st_uid == 4294967294


def test_an_owner_that_linux_cannot_have_is_in_no_map(layer: Layer) -> None:
    data = tars.tar(tars.pax([(b"uid", b"-1")]), tars.file(b"f"))
    with pytest.raises(GraphDriverError, match="'f': id -1 is outside the daemon's id maps"):
        layer.unpack(data, uid_maps=(IDMap(0, 100000, 65536),))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"LIBARCHIVE.xattr.user.a", b"!"),
        (b"LIBARCHIVE.xattr.user.a", b"A"),
        (b"LIBARCHIVE.xattr.user.a", b"QUJD\n"),
        (b"LIBARCHIVE.xattr.", b"QUJD"),
        (b"LIBARCHIVE.xattr.user%00a", b"QUJD"),
    ],
)
def test_an_attribute_of_libarchive_that_is_damaged_is_left_out_and_told(
    layer: Layer, key: bytes, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    layer.unpack(tars.tar(tars.pax([(key, value)]), tars.file(b"f")))
    assert layer.names() == [b"f"]
    assert not os.listxattr(layer.path("f"))
    assert ["is damaged: left out" in one.getMessage() for one in caplog.records] == [True]


@pytest.mark.parametrize("key", [b"uid", b"gid", b"mtime", b"SCHILY.xattr."])
def test_what_is_wrong_in_a_global_header_is_not_read(layer: Layer, key: bytes) -> None:
    layer.unpack(tars.tar(tars.pax([(key, b"wrong")], type=b"g"), tars.file(b"f", uid=7)))
    assert layer.stat("f").st_uid == 7


def test_a_damaged_device_number_of_star_is_not_read(layer: Layer) -> None:
    layer.unpack(tars.tar(tars.pax([(b"SCHILY.devmajor", b"-")]), tars.file(b"f")))
    assert layer.names() == [b"f"]


def test_the_length_of_a_record_may_have_a_sign(layer: Layer) -> None:
    record = b"+14 path=long\n"
    assert len(record) == 14
    data = tars.header(b"x", b"x", size=len(record)) + record + bytes(-len(record) % 512)
    layer.unpack(data + tars.file(b"short") + bytes(1024))
    assert layer.names() == [b"long"]
