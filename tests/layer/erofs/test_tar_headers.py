"""The headers of a tar in an object of their own: an index made from them is that of the tar."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from graphdriver.conformance.plugin import tars
from graphdriver.layer.erofs import tar_headers
from graphdriver.layer.erofs.store import index_beside, store_layer
from graphdriver.layer.erofs.stored_tar import StoredHeaders
from graphdriver.layer.erofs.tar_headers import KeptHeaders, compressed, headers_of, inflated
from graphdriver.layer.tar.reader import TarReader
from tests.layer.oracle_tars import honest

OFFSET = 4096
TAR = tars.tar(
    tars.directory(b"d"),
    tars.file(b"d/empty", b""),
    tars.file(b"d/large", b"x" * (3 << 20)),
    *(tars.file(b"d/%d" % number, b"y" * (number * 7)) for number in range(300)),
)
SMALL = tars.tar(tars.directory(b"./"), tars.file(b"a", b"z" * 5000), tars.file(b"b", b"z" * 513))
TARS = {**honest(), "many": TAR, "few": SMALL, "junk behind": TAR + b"\1" * 5000}
UNPACKED = ("gnu", "names that are not UTF-8")
"""Those that no image holds, for a time and for an entry in a file: layers of them are unpacked."""


class Portions:
    """A stream that returns fewer bytes than it is asked for, and cannot pass over any."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, n: int, /) -> bytes:
        return self._data.read(min(n, 700))


class NoTar(StoredHeaders):
    """A tar that must not be read."""

    def __init__(self) -> None:
        super().__init__(-1, 0, 0)

    def read(self, n: int, /) -> bytes:
        raise AssertionError(f"{n} bytes of the tar are read")


def described(reader: TarReader) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = [
        (*dataclasses.astuple(entry), reader.data_start) for entry in reader
    ]
    return [*found, (reader.has_nonzero_padding,)]


@pytest.mark.parametrize("name", TARS)
def test_a_reader_sees_the_same_entries_and_reads_nothing_of_the_tar(name: str) -> None:
    tar = TARS[name]
    headers = headers_of(io.BytesIO(tar), len(tar))
    assert headers
    assert described(TarReader(KeptHeaders(headers, NoTar()))) == described(
        TarReader(io.BytesIO(tar))
    )


@pytest.mark.parametrize("name", TARS)
def test_they_do_not_depend_on_how_the_tar_is_read(name: str, tmp_path: Path) -> None:
    tar = TARS[name]
    path = tmp_path / "image"
    path.write_bytes(bytes(OFFSET) + tar + b"an index")
    with open(path, "rb") as file:
        passed_over = headers_of(StoredHeaders(file.fileno(), OFFSET, len(tar)), len(tar))
    assert headers_of(io.BytesIO(tar), len(tar)) == passed_over
    assert headers_of(Portions(tar), len(tar)) == passed_over


@contextlib.contextmanager
def nothing_below() -> Iterator[Sequence[int]]:
    yield ()


@pytest.mark.root
@pytest.mark.parametrize("name", [name for name in TARS if name not in UNPACKED])
def test_an_index_made_from_them_is_that_of_the_tar(name: str, tmp_path: Path) -> None:
    tar = TARS[name]
    with (
        open(tmp_path / "image", "w+b") as image,
        open(tmp_path / "one", "w+b") as one,
        open(tmp_path / "other", "w+b") as other,
    ):
        record = store_layer(io.BytesIO(tar), image.fileno(), below=nothing_below)
        headers = headers_of(io.BytesIO(tar), len(tar))
        assert headers
        made = [
            index_beside(
                record,
                file.fileno(),
                below=nothing_below,
                image_fd=image.fileno(),
                headers=believed,
            )
            for file, believed in ((one, b""), (other, headers))
        ]
    assert made[0] == made[1]
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_what_they_lack_is_read_from_the_tar(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(bytes(OFFSET) + TAR)
    headers = headers_of(io.BytesIO(TAR), len(TAR))
    assert headers
    first = 20 + 12 + struct.unpack_from("<I", headers, 28)[0]
    for shorter in (headers[:20], headers[:first], headers[:20] + headers[first:]):
        with open(path, "rb") as file:
            stored = StoredHeaders(file.fileno(), OFFSET, len(TAR))
            kept = KeptHeaders(inflated(compressed(shorter), len(TAR)), stored)
            assert described(TarReader(kept)) == described(TarReader(io.BytesIO(TAR)))


def test_a_damaged_tar_has_none_and_is_read_to_its_end() -> None:
    damaged = io.BytesIO(TAR[:700] + b"\xff" + TAR[701:])
    assert headers_of(damaged, len(TAR)) is None
    assert damaged.read() == b""


@pytest.mark.parametrize("tar", [TAR, TAR + bytes(30_000)])
def test_headers_that_are_too_long_are_not_kept_however_the_tar_is_read(
    tar: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = headers_of(io.BytesIO(tar), len(tar))
    assert headers
    for limit, kept in ((len(headers), headers), (len(headers) - 1, None)):
        monkeypatch.setattr(tar_headers, "LIMIT", limit)
        assert headers_of(io.BytesIO(tar), len(tar)) == kept
        assert headers_of(Portions(tar), len(tar)) == kept


def test_memory_is_bounded_behind_the_end_of_a_tar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_headers, "LIMIT", 1 << 20)
    outside = tar_headers._OutsideOfData(io.BytesIO(bytes(16 << 20)), 16 << 20)
    while outside.read(1 << 20):
        assert len(outside._ahead) <= 6 << 20
    assert outside.headers() is None


def piece(start: int, data: bytes) -> bytes:
    return struct.pack("<QI", start, len(data)) + data


HEAD = struct.pack("<12sQ", b"tar-headers1", 10_000)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "cut off"),
        (b"no zlib", "incorrect header"),
        (zlib.compress(HEAD)[:-1], "cut off"),
        (zlib.compress(HEAD) + b"more", "something follows"),
        (zlib.compress(HEAD[:-1]), "another format"),
        (zlib.compress(struct.pack("<12sQ", b"tar-headers2", 10_000)), "another format"),
        (zlib.compress(struct.pack("<12sQ", b"tar-headers1", 9_999)), "another length"),
        (zlib.compress(HEAD + b"short"), "cut off"),
        (zlib.compress(HEAD + struct.pack("<QI", 0, 0)), "empty"),
        (zlib.compress(HEAD + piece(0, b"x" * 512)[:-1]), "cut off"),
        (zlib.compress(HEAD + piece(600, b"x" * 512) + piece(0, b"x" * 512)), "in disorder"),
        (zlib.compress(HEAD + piece(0, b"x" * 512) + piece(511, b"x")), "in disorder"),
        (zlib.compress(HEAD + piece(9_999, b"xx")), "behind the end"),
        (zlib.compress(HEAD + piece(1 << 63, b"x")), "behind the end"),
    ],
)
def test_damaged_headers_are_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        inflated(data, 10_000)


def test_a_bomb_is_refused_before_it_is_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_headers, "LIMIT", 1000)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        inflated(zlib.compress(HEAD + piece(0, bytes(2000))), 10_000)
