"""Compressed images: whatever a store answers, nobody gets more bytes than its table says."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from graphdriver.errors import BadArchiveError, BrokenStreamError
from graphdriver.shared.compressed import FRAME, CompressedStore
from graphdriver.shared.directory import DirectoryStore
from graphdriver.shared.keys import layer_key
from tests.support.zstd_module import zstd

KEY = f"{layer_key('sha256:' + 'ab' * 32)}.erofs"
CONTENT = random.Random(2).randbytes(5000) + b"\0" * FRAME


@pytest.fixture
def store(tmp_path: Path) -> CompressedStore:
    made = CompressedStore(DirectoryStore(str(tmp_path), may_be_new=True))
    made.put(KEY, io.BytesIO(CONTENT))
    return made


def path_of(store: CompressedStore) -> Path:
    return Path(store.address, KEY)


def content(store: CompressedStore, start: int = 0) -> bytes:
    with closing(store.read(KEY, start)) as stream:
        return b"".join(iter(lambda: stream.read(1000), b""))


def table(*frames: tuple[int, int]) -> bytes:
    """Return a table as zstd's seekable format has it."""
    entries = b"".join(struct.pack("<II", *frame) for frame in frames)
    head = struct.pack("<II", 0x184D2A5E, len(entries) + 9)
    return head + entries + struct.pack("<IBI", len(frames), 0, 0x8F92EAB1)


def test_it_takes_less_room_and_any_zstd_reads_it(store: CompressedStore) -> None:
    stored = path_of(store).read_bytes()
    assert len(stored) < 7000
    frames = stored[: -len(table((0, 0), (0, 0)))]
    assert zstd.decompress(frames) == CONTENT


def test_an_image_of_no_bytes_is_one(store: CompressedStore) -> None:
    store.remove(KEY)
    store.put(KEY, io.BytesIO())
    assert (store.size(KEY), content(store)) == (0, b"")


@pytest.mark.parametrize("start", [0, 10, 4999])
def test_a_frame_with_more_than_its_table_says_is_damaged(
    start: int, store: CompressedStore
) -> None:
    bomb = zstd.compress(b"\0" * (64 << 20))
    path_of(store).write_bytes(bomb + table((len(bomb), 5000)))
    assert store.size(KEY) == 5000
    with pytest.raises(BadArchiveError, match="more than its table says"):
        content(store, start)


def test_a_frame_with_less_than_its_table_says_is_damaged(store: CompressedStore) -> None:
    frame = zstd.compress(b"few")
    path_of(store).write_bytes(frame + table((len(frame), 5000)))
    with pytest.raises(BadArchiveError, match="another length"):
        content(store)


def test_a_frame_that_wants_much_memory_is_refused(store: CompressedStore) -> None:
    options = {int(zstd.CompressionParameter.window_log): 30}
    # As a stream, whose length is not known: the window counts.
    compressor = zstd.ZstdCompressor(options=options)
    frame = compressor.compress(b"\0" * (1 << 20)) + compressor.flush()
    path_of(store).write_bytes(frame + table((len(frame), 1 << 20)))
    with pytest.raises(BadArchiveError, match="is damaged"):
        content(store)


@pytest.mark.parametrize(
    "change",
    [
        lambda stored: b"",
        lambda stored: stored[:-1],
        lambda stored: stored[:-100],
        lambda stored: stored[1:],
        lambda stored: stored[:-9] + struct.pack("<IBI", 2**32 - 1, 0, 0x8F92EAB1),
        lambda stored: stored[:-9] + struct.pack("<IBI", 1, 0, 0x8F92EAB1),
        lambda stored: stored[:-9] + struct.pack("<IBI", 2, 0x80, 0x8F92EAB1),
        lambda stored: stored + table((2**32 - 1, 2**32 - 1)),
    ],
)
def test_a_damaged_table_is_told(change: Callable[[bytes], bytes], store: CompressedStore) -> None:
    path_of(store).write_bytes(change(path_of(store).read_bytes()))
    for call in (store.size, store.read):
        with pytest.raises(BadArchiveError, match="its table of frames"):
            call(KEY)


def test_no_flipped_bit_gives_more_bytes_or_another_error(store: CompressedStore) -> None:
    whole = path_of(store).read_bytes()
    for at in range(0, len(whole), 397):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        path_of(store).write_bytes(changed)
        try:
            assert len(content(store)) == len(CONTENT)
        except (BadArchiveError, BrokenStreamError):
            continue


def test_an_image_that_is_cut_while_it_is_read_breaks_off(store: CompressedStore) -> None:
    with closing(store.read(KEY)) as stream:
        assert stream.read(10) == CONTENT[:10]
        path_of(store).write_bytes(b"")
        with pytest.raises((BadArchiveError, BrokenStreamError)):
            while stream.read(1 << 20):
                path_of(store).write_bytes(b"")
