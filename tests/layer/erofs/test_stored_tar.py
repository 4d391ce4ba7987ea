"""A stored tar is given out as it was stored, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import os
import random
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from isal import isal_zlib

from graphdriver.errors import BrokenStreamError
from graphdriver.layer.erofs import stored_tar
from graphdriver.layer.erofs.stored_tar import PIECE, PieceSums, StoredTar, TarSums
from graphdriver.layer.erofs.storing_stream import StoringStream
from graphdriver.layer.write.inode import write_all

OFFSET = 4096
SIZES = (0, 1, 512, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 512, 40 * PIECE + 1)


class Portions:
    """A stream that returns fewer bytes than it is asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self._random = random.Random(len(data))

    def read(self, n: int, /) -> bytes:
        return self._data.read(min(n, self._random.choice((1, 511, 40_000, PIECE + 7))))


def some_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def store(path: Path, data: bytes) -> TarSums:
    """Store a tar behind a head and in front of other data."""
    with open(path, "wb", buffering=0) as file:
        file.write(bytes(OFFSET))
        with StoringStream(Portions(data), file.fileno()) as stream:
            stream.read(512)
            sums = stream.finish()
            assert stream.finish() == sums  # it may be asked again
        file.write(b"an index")
    return sums


def stored(path: Path, sums: TarSums) -> StoredTar:
    return StoredTar(os.open(path, os.O_RDONLY), OFFSET, sums.size, sums.pieces)


def pieces_of(tar: StoredTar, n: int) -> Iterator[bytes]:
    try:
        while piece := tar.read(n):
            yield piece
    finally:
        tar.close()


@pytest.mark.parametrize("size", SIZES)
def test_what_is_stored_is_read_back(tmp_path: Path, size: int) -> None:
    data = some_bytes(size)
    sums = store(tmp_path / "file", data)
    assert (tmp_path / "file").read_bytes() == bytes(OFFSET) + data + b"an index"
    for n in (PIECE, 1000, PIECE + 1):
        assert b"".join(pieces_of(stored(tmp_path / "file", sums), n)) == data


@pytest.mark.parametrize("size", SIZES)
def test_the_checksums_are_those_of_the_whole_and_of_each_piece(tmp_path: Path, size: int) -> None:
    data = some_bytes(size)
    crcs = [zlib.crc32(data[at : at + PIECE]) for at in range(0, size, PIECE)]
    pieces = b"".join(crc.to_bytes(4, "big") for crc in crcs)
    assert store(tmp_path / "file", data) == TarSums(size, hashlib.sha256(data).digest(), pieces)


def test_the_package_isal_is_used_and_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vars(stored_tar)["crc32"] is isal_zlib.crc32
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    spec = importlib.util.spec_from_file_location("without_isal", stored_tar.__file__)
    assert spec and spec.loader
    without = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "without_isal", without)
    spec.loader.exec_module(without)
    assert without.crc32 is zlib.crc32
    sums, others = PieceSums(), without.PieceSums()
    for portion in (some_bytes(PIECE + 5), some_bytes(PIECE)):
        sums.add(portion)
        others.add(portion)
    assert others.sums() == sums.sums()


@pytest.mark.parametrize("damaged", range(4))
def test_no_byte_of_a_damaged_piece_is_given_out(tmp_path: Path, damaged: int) -> None:
    data = some_bytes(3 * PIECE + 512)
    sums = store(tmp_path / "file", data)
    at = min(damaged * PIECE + 4711, len(data) - 1)
    with open(tmp_path / "file", "r+b") as file:
        file.seek(OFFSET + at)
        file.write(bytes([data[at] ^ 0x10]))
    tar = stored(tmp_path / "file", sums)
    given = b"".join(tar.read(PIECE) for _ in range(damaged))
    assert given == data[: damaged * PIECE]
    for _ in range(2):  # it does not go on behind the damage
        with pytest.raises(
            BrokenStreamError, match=f"damaged on disk at byte {damaged * PIECE} of"
        ):
            tar.read(1)
    tar.close()


def test_a_file_that_was_cut_is_a_broken_stream(tmp_path: Path) -> None:
    sums = store(tmp_path / "file", some_bytes(2 * PIECE))
    os.truncate(tmp_path / "file", OFFSET + PIECE)
    with pytest.raises(BrokenStreamError):
        list(pieces_of(stored(tmp_path / "file", sums), PIECE))


@pytest.mark.parametrize("size", [PIECE, PIECE - 512, 0, 3 * PIECE])
def test_a_recorded_size_that_is_damaged_is_a_broken_stream(tmp_path: Path, size: int) -> None:
    sums = store(tmp_path / "file", some_bytes(2 * PIECE))
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes() + bytes(2 * PIECE))
    wrong = TarSums(size, sums.sha256, sums.pieces)
    with pytest.raises(BrokenStreamError):
        list(pieces_of(stored(tmp_path / "file", wrong), PIECE))


def test_a_recorded_size_that_is_too_small_is_known_before_the_last_byte(tmp_path: Path) -> None:
    sums = store(tmp_path / "file", some_bytes(2 * PIECE))
    tar = stored(tmp_path / "file", TarSums(PIECE, sums.sha256, sums.pieces))
    with contextlib.closing(tar), pytest.raises(BrokenStreamError):
        tar.read(PIECE)


def test_the_sums_do_not_depend_on_the_portions() -> None:
    data = some_bytes(2 * PIECE + 5)
    whole, portions = PieceSums(), PieceSums()
    whole.add(data)
    for at in range(0, len(data), 4099):
        portions.add(data[at : at + 4099])
    assert whole.sums() == portions.sums()


def test_a_long_tar_passes_through_the_same_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[object] = []

    def note(fd: int, piece: memoryview) -> None:
        if not any(piece.obj is one for one in used):
            used.append(piece.obj)
        write_all(fd, piece)

    monkeypatch.setattr("graphdriver.layer.erofs.storing_stream.write_all", note)
    data = some_bytes(24 << 20)
    with (
        open(tmp_path / "file", "wb", buffering=0) as file,
        StoringStream(Portions(data), file.fileno()) as stream,
    ):
        stream.finish()
    assert (tmp_path / "file").read_bytes() == data
    assert len(used) < 12


def test_a_stream_that_breaks_leaves_no_thread(tmp_path: Path) -> None:
    class Breaks(Portions):
        def read(self, n: int, /) -> bytes:
            piece = super().read(n)
            if not piece:
                raise BrokenStreamError("the caller closed the connection")
            return piece

    before = threading.active_count()
    with (
        open(tmp_path / "file", "wb", buffering=0) as file,
        pytest.raises(BrokenStreamError, match="closed the connection"),
        StoringStream(Breaks(some_bytes(20 * PIECE)), file.fileno()) as stream,
    ):
        stream.finish()
    assert threading.active_count() == before


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    with (
        open("/dev/full", "wb", buffering=0) as file,
        StoringStream(Portions(some_bytes(20 * PIECE)), file.fileno()) as stream,
        pytest.raises(OSError, match="No space left"),
    ):
        stream.finish()


def test_without_another_thread_the_checksums_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = some_bytes(20 * PIECE)
    expected = store(tmp_path / "file", data)

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    assert store(tmp_path / "another", data) == expected


@pytest.mark.parametrize("behind", [b"", b"end"])
def test_long_runs_of_zeros_take_no_room_on_disk(tmp_path: Path, behind: bytes) -> None:
    data = b"begin" + bytes(64 << 20) + behind
    sums = store(tmp_path / "file", data)
    assert os.stat(tmp_path / "file").st_blocks * 512 < 8 << 20
    assert b"".join(pieces_of(stored(tmp_path / "file", sums), PIECE)) == data
    assert (tmp_path / "file").read_bytes()[OFFSET:] == data + b"an index"
