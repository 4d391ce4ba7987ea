"""A number in a PAX record is bounded by its value, not by how it is written."""

from __future__ import annotations

import io
import tarfile

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.errors import BadArchiveError
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
    with tarfile.open(fileobj=io.BytesIO(data)) as other:
        assert other.getnames() == ["long"]
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
@pytest.mark.parametrize("value", [b"9223372036854775808", PADDED + b"9" * 20, b"-", b"+1", b"0x1"])
def test_a_value_of_more_than_64_bits_or_none_at_all_is_refused(
    layer: Layer, key: bytes, value: bytes
) -> None:
    told = [(key, value), (b"GNU.sparse.map", b"0,4")] if b"sparse" in key else [(key, value)]
    wrong = r"(number|time) in its .*(is not one of 0 to 2|is not a number|does not fit)"
    with pytest.raises(BadArchiveError, match=wrong):
        layer.unpack(tars.tar(tars.pax(told), tars.file(b"f", b"data")))
