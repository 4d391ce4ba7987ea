"""Images compressed in a store that is reached over a network.

An image is cut into frames of zstd, each for `FRAME` bytes of it, and ends with a table of their
lengths (zstd, "Seekable Format"): the command ``zstd -d`` makes the image of them again. By the table
the image's length is known, and a read begins at the frame that has its first byte.

The store may lie in each byte of it. A frame gives as many bytes as the table says, or is damaged: so
nobody gets more than the length that `CompressedStore.size` returned.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from graphdriver.driver import ClosableStream, ReadStream
from graphdriver.errors import BadArchiveError, BrokenStreamError
from graphdriver.shared.layers import IMAGE
from graphdriver.shared.store import Store, Stored

try:
    from compression import zstd  # type: ignore[import-not-found, unused-ignore]
except ImportError:  # before Python 3.14
    from backports import zstd

FRAME: Final = 8 << 20
"""How many bytes of an image are in one frame."""

_LARGEST_WINDOW: Final = 27
"""As a power of two: a frame makes this process take at most 128 MiB."""
_PIECE: Final = 256 << 10
_HEAD: Final = struct.Struct("<II")
_ENTRY: Final = struct.Struct("<II")
_FOOT: Final = struct.Struct("<IBI")
_SKIPPED: Final = 0x184D2A5E
_SEEKABLE: Final = 0x8F92EAB1
_MOST_FRAMES: Final = 1 << 14
_LONGEST_TABLE: Final = _HEAD.size + _MOST_FRAMES * _ENTRY.size + _FOOT.size


class Frame(NamedTuple):
    """A frame's lengths in bytes: as it is stored, and of what is in it."""

    stored: int
    plain: int


class CompressedStore:
    """A `graphdriver.shared.store.Store` that keeps images compressed in another one.

    Args:
        store: the other one; it is closed with this one.
    """

    in_place: Final = None

    def __init__(self, store: Store) -> None:
        self._store = store
        self.address = store.address

    def size(self, key: str) -> int:
        """See `graphdriver.shared.store.Store`."""
        if not key.endswith(IMAGE):
            return self._store.size(key)
        return sum(frame.plain for frame in self._frames(key))

    def read(self, key: str, start: int = 0) -> ClosableStream:
        """See `graphdriver.shared.store.Store`."""
        if not key.endswith(IMAGE):
            return self._store.read(key, start)
        frames = self._frames(key)
        before = passed = 0  # bytes of the stored object, and of the image
        while frames and passed + frames[0].plain <= start:
            before += frames[0].stored
            passed += frames[0].plain
            frames = frames[1:]
        plain = _Plain(self._store.read(key, before), frames)
        try:
            while passed < start and (piece := plain.read(min(start - passed, _PIECE))):
                passed += len(piece)
        except BaseException:
            plain.close()
            raise
        return plain

    def put(self, key: str, content: ReadStream) -> bool:
        """See `graphdriver.shared.store.Store`."""
        if key.endswith(IMAGE):
            content = _Pieces(_compressed(content))
        return self._store.put(key, content)

    def stored(self) -> Iterator[Stored]:
        """See `graphdriver.shared.store.Store`; the sizes are those of the compressed images."""
        return self._store.stored()

    def remove(self, key: str) -> None:
        """See `graphdriver.shared.store.Store`."""
        self._store.remove(key)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _frames(self, key: str) -> Sequence[Frame]:
        size = self._store.size(key)
        start = max(size - _LONGEST_TABLE, 0)
        with contextlib.closing(self._store.read(key, start)) as stream:
            end = bytearray()
            while len(end) < size - start and (piece := stream.read(size - start - len(end))):
                end += piece
        try:
            return _parse_table(bytes(end), size)
        except (ValueError, struct.error) as error:
            raise BadArchiveError(
                f"{self.address}: {key} is damaged: its table of frames: {error}"
            ) from error


def _parse_table(end: bytes, size: int) -> Sequence[Frame]:
    """Return the frames of an object by its last bytes; `ValueError` or `struct.error` if damaged."""
    count, checks, magic = _FOOT.unpack(end[-_FOOT.size :])
    if magic != _SEEKABLE or checks or count > _MOST_FRAMES:
        raise ValueError("it is none of ours")
    length = count * _ENTRY.size + _FOOT.size
    table = end[-length - _HEAD.size :]
    if _HEAD.unpack(table[: _HEAD.size]) != (_SKIPPED, length):
        raise ValueError("it does not have its length")
    entries = table[_HEAD.size : -_FOOT.size]
    frames = [Frame(*entry) for entry in _ENTRY.iter_unpack(entries)]
    if sum(frame.stored for frame in frames) + len(table) != size:
        raise ValueError("it is for another length")
    return frames


def _compressed(content: ReadStream) -> Iterator[bytes]:
    """Yield an image compressed, and its table at the end."""
    frames: list[Frame] = []
    while True:
        compressor = zstd.ZstdCompressor()
        stored = plain = 0
        while plain < FRAME and (piece := content.read(min(FRAME - plain, _PIECE))):
            plain += len(piece)
            if ready := compressor.compress(piece):
                stored += len(ready)
                yield ready
        if not plain:
            break
        ready = compressor.flush()
        yield ready
        frames.append(Frame(stored + len(ready), plain))
        if len(frames) > _MOST_FRAMES:
            raise OSError(errno.EFBIG, f"an image has at most {_MOST_FRAMES * FRAME} bytes")
    yield _HEAD.pack(_SKIPPED, len(frames) * _ENTRY.size + _FOOT.size)
    yield from itertools.starmap(_ENTRY.pack, frames)
    yield _FOOT.pack(len(frames), 0, _SEEKABLE)


class _Pieces:
    """Pieces of bytes as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = memoryview(b"")

    def read(self, n: int, /) -> bytes:
        if not self._piece:
            self._piece = memoryview(next(self._pieces, b""))
        part = bytes(self._piece[:n])
        self._piece = self._piece[n:]
        return part


class _Plain:
    """The content of frames that follow each other."""

    def __init__(self, stream: ClosableStream, frames: Sequence[Frame]) -> None:
        self._stream = stream
        self._frames = iter(frames)
        self._frame: _FrameContent | None = None
        self._begin_next()

    def read(self, n: int, /) -> bytes:
        """Return up to ``n`` bytes, ``b""`` at the end.

        Raises:
            BadArchiveError: a frame is damaged, or has another length than the table says.
            BrokenStreamError: the store has less.
        """
        while self._frame:
            try:
                piece = self._frame.read(n)
            except zstd.ZstdError as error:
                raise BadArchiveError(f"a frame of the image is damaged: {error}") from error
            if piece:
                return piece
            self._begin_next()
        return b""

    def close(self) -> None:
        self._stream.close()

    def _begin_next(self) -> None:
        frame = next(self._frames, None)
        self._frame = _FrameContent(self._stream, frame) if frame else None


class _FrameContent:
    """What is in one frame."""

    def __init__(self, stream: ReadStream, frame: Frame) -> None:
        self._stream = stream
        self._stored = frame.stored
        self._left = frame.plain
        options = {zstd.DecompressionParameter.window_log_max: _LARGEST_WINDOW}
        self._decompressor = zstd.ZstdDecompressor(options=options)

    def read(self, n: int, /) -> bytes:
        while not self._decompressor.eof:
            data = b""
            if self._decompressor.needs_input:
                data = self._stream.read(min(self._stored, _PIECE)) if self._stored else b""
                if not data:
                    raise BrokenStreamError("a frame of the image ends early")
                self._stored -= len(data)
            # One byte more than the table says is enough to see that there is more.
            piece: bytes = self._decompressor.decompress(data, min(n, self._left + 1))
            self._left -= len(piece)
            if self._left < 0:
                raise BadArchiveError("a frame of the image has more than its table says")
            if piece:
                return piece
        if self._left or self._stored or self._decompressor.unused_data:
            raise BadArchiveError("a frame of the image has another length than its table says")
        return b""
