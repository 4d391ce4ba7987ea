"""Docker's record of a layer's tar, ``tar-split.json.gz``, put together with the files of the layer.

The daemon keeps of each tar all but the content of files, so that it can send the same bytes again.
The record is gzip, and each line JSON: of ``type`` 2 are bytes of the tar (``payload``, base64), of
``type`` 1 a file that stands there (``name``, or ``name_raw`` in base64 if it is not UTF-8; ``size``).
The source is https://github.com/vbatts/tar-split, ``tar/storage/entry.go``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import hashlib
import json
import os
import stat
import zlib
from collections.abc import Generator, Iterator
from typing import Final

from graphdriver.errors import BadArchiveError
from graphdriver.files.directories import opened
from graphdriver.layer.tree.resolver import Resolver, clean

_FILE, _SEGMENT = 1, 2
_LINE_LIMIT: Final = 64 << 20
"""The most bytes of a line: one holds all bytes between two files, such as a long PAX header."""
_PIECE: Final = 1 << 20
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class DiffersError(Exception):
    """A layer's files are not those of its tar; the text says what is wrong."""


class UnknownContentError(Exception):
    """What a layer's files should be cannot be told; the text says why."""


class JoinedTar:
    """The tar of a layer, put together while it is read.

    Args:
        record: the path of the layer's ``tar-split.json.gz``.
        tree: a directory that shows the layer's files, with or without those of the layers below.

    Attributes:
        twice: a name that has had content more than once so far; ``b""``: none has. The files can have
            that of the last one only.
    """

    def __init__(self, record: str, tree: str) -> None:
        self.twice = b""
        self._pieces = self._join(record, tree)
        self._rest = memoryview(b"")

    def read(self, n: int, /) -> bytes:
        """Return the next piece, ``b""`` at the end.

        Raises:
            DiffersError: a file is missing, or has another size.
            UnknownContentError: the record is damaged.
            OSError: the tree cannot be read.
        """
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[:n], self._rest[n:]
        return bytes(taken)

    def close(self) -> None:
        """Close the files."""
        self._pieces.close()

    def _join(self, record: str, tree: str) -> Generator[bytes, None, None]:
        seen: set[bytes] = set()
        with opened(tree) as root, contextlib.closing(_Files(root)) as files:
            for name, size, segment in _entries(record):
                if name is None:
                    yield segment
                elif size:
                    self.twice = name if name in seen else self.twice
                    seen.add(name)
                    yield from files.read(name, size)


def compare_with_tar(record: str, tree: str, diff_id: str) -> None:
    """Compare the files of a layer with the tar that a daemon got or made of them.

    Args:
        record: the path of the layer's ``tar-split.json.gz``.
        tree: the directory that holds the layer's files.
        diff_id: the digest of the tar, ``sha256:…``.

    Raises:
        DiffersError: they differ.
        UnknownContentError: the record is damaged, or of a tar that cannot be put together again.
        OSError: the files cannot be read.
    """
    digest = hashlib.sha256()
    with contextlib.closing(JoinedTar(record, tree)) as tar:
        while piece := tar.read(_PIECE):
            digest.update(piece)
    if f"sha256:{digest.hexdigest()}" == diff_id:
        return
    if tar.twice:
        raise UnknownContentError(f"its tar has the file {_shown(tar.twice)} more than once")
    raise DiffersError("the content of its files is not that of its tar")


def _entries(path: str) -> Iterator[tuple[bytes | None, int, bytes]]:
    """Yield the name and size of each file, or None and the bytes between files."""
    try:
        with gzip.open(path) as lines:
            while line := lines.readline(_LINE_LIMIT):
                yield _entry(line)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise UnknownContentError(f"{path} is damaged: {error}") from error


def _entry(line: bytes) -> tuple[bytes | None, int, bytes]:
    found = json.loads(line)
    if not isinstance(found, dict):
        raise ValueError("a line is not an object")  # noqa: TRY004 - as other damage
    kind, payload = found.get("type"), found.get("payload") or ""
    if kind == _SEGMENT and isinstance(payload, str):
        return None, 0, base64.b64decode(payload)
    size, name, raw = found.get("size", 0), found.get("name", ""), found.get("name_raw", "")
    if kind != _FILE or type(size) is not int or not isinstance(name, str):
        raise ValueError("a line is of an unknown type")
    try:
        return base64.b64decode(raw) if raw else name.encode(), size, b""
    except (binascii.Error, TypeError) as error:
        raise ValueError("a name is damaged") from error


class _Files:
    """The files of a layer by their names in its tar; the directory of the last one stays open."""

    def __init__(self, root_fd: int) -> None:
        self._resolver = Resolver(root_fd)
        self._held = contextlib.ExitStack()
        self._at: list[bytes] | None = None
        self._fd = -1

    def close(self) -> None:
        self._held.close()

    def read(self, name: bytes, size: int) -> Iterator[bytes]:
        """Yield the content of a file.

        Raises:
            DiffersError: it is missing, or has another size.
        """
        try:
            *above, last = clean(name)
            fd = os.open(last, _READ, dir_fd=self._directory(above))
        except (OSError, ValueError, BadArchiveError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise DiffersError(f"its file {_shown(name)} was lost: {reason}") from error
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_size != size:
                raise DiffersError(
                    f"its file {_shown(name)} has {found.st_size} bytes, and should have {size}"
                )
            left = size
            while left and (piece := os.read(fd, min(left, _PIECE))):
                left -= len(piece)
                yield piece
        except OSError as error:
            raise DiffersError(
                f"its file {_shown(name)} cannot be read: {error.strerror}"
            ) from error
        finally:
            os.close(fd)

    def _directory(self, parts: list[bytes]) -> int:
        if parts != self._at:
            self._held.close()
            self._at = None
            opened_one = self._resolver.open(parts)
            self._held.callback(opened_one.close)
            self._at, self._fd = parts, opened_one.fd
        return self._fd


def _shown(name: bytes) -> str:
    return repr(os.fsdecode(name))
