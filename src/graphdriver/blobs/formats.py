"""The media types of layers, and how each is compressed.

(OCI image-spec, "Image Media Types"; Docker's image manifest version 2, schema 2.)
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from typing import Final, Literal, Protocol, cast

from isal import igzip, isal_zlib

from graphdriver.driver import ReadStream
from graphdriver.errors import BadArchiveError, BrokenStreamError

try:
    from compression import zstd  # type: ignore[import-not-found, unused-ignore]
except ImportError:  # before Python 3.14
    from backports import zstd

Compression = Literal["", "gzip", "zstd"]

TAR: Final = "application/vnd.oci.image.layer.v1.tar"
GZIP: Final = f"{TAR}+gzip"

_OCI: Final = (TAR, "application/vnd.oci.image.layer.nondistributable.v1.tar")
_DOCKER: Final = (
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)
FORMATS: Final[dict[str, Compression]] = {
    **dict.fromkeys((*_OCI, *_DOCKER), ""),
    **dict.fromkeys(
        (*(f"{one}+gzip" for one in _OCI), *(f"{one}.gzip" for one in _DOCKER)), "gzip"
    ),
    **dict.fromkeys(
        (*(f"{one}+zstd" for one in _OCI), *(f"{one}.zstd" for one in _DOCKER)), "zstd"
    ),
}
"""The compression of each media type of a layer."""

LARGEST_WINDOW: Final = 27
"""The largest window of zstd that is taken, as a power of two: 128 MiB, as the program zstd takes."""

GZIP_LEVEL: Final = 2
"""ISA-L's: a tenth of the time of zlib's level 6, for a tenth more bytes."""

_DAMAGED: Final = (
    gzip.BadGzipFile,
    zstd.ZstdError,
    cast("type[Exception]", isal_zlib.error),  # its types call it an object
)

_PIECE: Final = 256 << 10


class Compressor(Protocol):
    """Compresses a stream piece by piece."""

    def compress(self, data: bytes, /) -> bytes:
        """Return what is ready after another piece."""
        ...

    def flush(self) -> bytes:
        """Return the rest, at the end."""
        ...


def decompressed(blob: ReadStream, compression: Compression) -> ReadStream:
    """Return a stream of what a blob holds.

    Args:
        blob: the compressed stream.
        compression: how it is compressed.

    Returns:
        A stream; reading it raises `BadArchiveError` where the blob is damaged and `BrokenStreamError`
        where its compressed data end early.
    """
    if not compression:
        return blob
    raw = io.BufferedReader(_File(blob), _PIECE)
    if compression == "gzip":
        file = cast("ReadStream", igzip.IGzipFile(fileobj=raw, mode="rb"))  # type: ignore[no-untyped-call]
        return _Decompressed(file, compression)
    options = {zstd.DecompressionParameter.window_log_max: LARGEST_WINDOW}
    return _Decompressed(zstd.ZstdFile(raw, options=options), compression)


def compressed(tar: Iterator[bytes], compression: Compression) -> Iterator[bytes]:
    """Yield a tar compressed; the same bytes for the same tar, however it is cut into pieces."""
    if not compression:
        yield from tar
        return
    with_gzip = compression == "gzip"
    compressor: Compressor = (
        # A window of 2^15 and 16 more: a header and a trailer of gzip, without name and time.
        isal_zlib.compressobj(GZIP_LEVEL, wbits=16 + zlib.MAX_WBITS)
        if with_gzip
        else zstd.ZstdCompressor()
    )
    for piece in tar:
        if ready := compressor.compress(piece):
            yield ready
    yield compressor.flush()


class _File(io.RawIOBase):
    """A stream as a file, which is what decompressors read from."""

    def __init__(self, stream: ReadStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        piece = self._stream.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


class _Decompressed:
    def __init__(self, file: ReadStream, compression: Compression) -> None:
        self._file = file
        self._compression = compression

    def read(self, n: int, /) -> bytes:
        try:
            return self._file.read(n)
        except EOFError as error:
            raise BrokenStreamError(f"the layer's {self._compression} data end early") from error
        except _DAMAGED as error:
            raise BadArchiveError(f"the layer is no {self._compression}: {error}") from error
