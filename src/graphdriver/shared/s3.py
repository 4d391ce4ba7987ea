"""A store in a bucket of S3, or of what speaks its protocol: Ceph RGW, SeaweedFS, the clouds.

An object of one part is put there only if none exists: the server decides between two writers. S3
cannot promise that for an object of more parts on all servers: a longer one is looked for first, and
replaces an equal one at most. Either appears whole, or not at all.

S3 does not tell when an object was read: it counts as used when it was put there.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import itertools
import os
import secrets
from collections.abc import Iterator
from typing import Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError
from obstore.store import S3Store as Bucket

from graphdriver.driver import ClosableStream, ReadStream
from graphdriver.printable import printable
from graphdriver.shared.keys import digest_of
from graphdriver.shared.store import NotStoredError, Stored

_CONNECT: Final = datetime.timedelta(seconds=5)
_WHOLE: Final = datetime.timedelta(seconds=60)
"""How long a request may take: at most one part is read or written by each."""

_RETRIES: Final = 3
_PART: Final = 16 << 20
_PARTS_AT_ONCE: Final = 2
_PIECE: Final = 256 << 10
_CLOCK: Final = ".clock/"


class S3Store:
    """A `graphdriver.shared.store.Store` in a bucket; credentials come from the environment.

    Args:
        address: the store as its user names it.
        bucket: the bucket's name.
        prefix: what all names of objects begin with; ``""`` for the whole bucket.

    Raises:
        OSError: the environment has settings that cannot be used.
    """

    in_place: Final = None

    def __init__(self, address: str, bucket: str, prefix: str) -> None:
        self.address = address
        allows_http = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true")
        with _failures():
            self._bucket = Bucket(
                bucket,
                prefix=prefix or None,
                client_options={
                    "connect_timeout": _CONNECT,
                    "timeout": _WHOLE,
                    "allow_http": allows_http,
                },
                retry_config={"max_retries": _RETRIES, "retry_timeout": _WHOLE},
            )

    def size(self, key: str) -> int:
        """See `graphdriver.shared.store.Store`."""
        with _failures(key):
            return obstore.head(self._bucket, key)["size"]

    def read(self, key: str, start: int = 0) -> ClosableStream:
        """See `graphdriver.shared.store.Store`."""
        with _failures(key):
            found = obstore.head(self._bucket, key)
        return _Object(self._bucket, key, start, found["size"], found["e_tag"])

    def put(self, key: str, content: ReadStream) -> bool:
        """See `graphdriver.shared.store.Store`."""
        with contextlib.suppress(NotStoredError):
            self.size(key)
            return False
        pieces = iter(lambda: content.read(_PIECE), b"")
        first = io.BytesIO()
        while first.tell() < _PART and (piece := next(pieces, b"")):
            first.write(piece)
        with _failures():
            if first.tell() < _PART:
                return self._put_small(key, first.getvalue())
            obstore.put(
                self._bucket,
                key,
                itertools.chain([first.getvalue()], pieces),
                use_multipart=True,
                chunk_size=_PART,
                max_concurrency=_PARTS_AT_ONCE,
            )
        return True

    def _put_small(self, key: str, content: bytes) -> bool:
        try:
            obstore.put(self._bucket, key, content, use_multipart=False, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def stored(self) -> Iterator[Stored]:
        """See `graphdriver.shared.store.Store`. What else is in the bucket is left out."""
        now = self._now()
        with _failures():
            for found in obstore.list(self._bucket):
                for one in found:
                    if digest_of(one["path"]):
                        age = now - one["last_modified"]
                        yield Stored(one["path"], one["size"], age.total_seconds())

    def remove(self, key: str) -> None:
        """See `graphdriver.shared.store.Store`."""
        with contextlib.suppress(NotStoredError), _failures(key):
            obstore.delete(self._bucket, key)

    def close(self) -> None:
        """Do nothing: the library keeps its connections."""

    def _now(self) -> datetime.datetime:
        """Return the time by the store's own clock."""
        key = f"{_CLOCK}{secrets.token_hex(16)}"
        with _failures():
            try:
                obstore.put(self._bucket, key, b"", use_multipart=False)
            except (PermissionDeniedError, PermissionError):
                return datetime.datetime.now(datetime.UTC)  # who only reads removes nothing by it
            try:
                return obstore.head(self._bucket, key)["last_modified"]
            finally:
                obstore.delete(self._bucket, key)


class _Object:
    """An object, read part by part."""

    def __init__(self, bucket: Bucket, key: str, start: int, size: int, tag: str | None) -> None:
        self._bucket = bucket
        self._key = key
        self._at = start
        self._size = size
        self._tag = tag
        self._part: Iterator[bytes] = iter(())
        self._left = 0  # of the part
        self._piece = memoryview(b"")

    def read(self, n: int, /) -> bytes:
        """Return up to ``n`` bytes, ``b""`` at the end.

        Raises:
            OSError: the server fails, or the object was replaced meanwhile.
        """
        while not self._piece and self._at < self._size:
            if not self._left:
                self._left = min(_PART, self._size - self._at)
                self._part = self._opened(self._at, self._at + self._left)
            with _failures():
                piece = next(self._part, b"")[: self._left]
            if not piece:
                raise ConnectionError(f"{self._key}: the server sends {self._left} bytes too few")
            self._left -= len(piece)
            self._at += len(piece)
            self._piece = memoryview(piece)
        part = bytes(self._piece[:n])
        self._piece = self._piece[n:]
        return part

    def close(self) -> None:
        """Read no further."""
        self._part = iter(())

    def _opened(self, start: int, end: int) -> Iterator[bytes]:
        """Return the pieces of a part."""
        with _failures():
            found = obstore.get(
                self._bucket,
                self._key,
                # The same object, if there is another one now.
                options={"range": (start, end), "if_match": self._tag},
            )
            return (bytes(piece) for piece in found.stream(min_chunk_size=_PIECE))


@contextlib.contextmanager
def _failures(key: str = "") -> Iterator[None]:
    """Raise what fails at a server as `OSError`, and that there is no such object."""
    try:
        yield
    except FileNotFoundError as error:
        if key:
            raise NotStoredError(key) from error
        raise FileNotFoundError(_reason(error)) from error
    except BaseError as error:
        raise ConnectionError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """Return an error's first line: what follows are the library's own values."""
    return f"{printable(str(error).partition(chr(10))[0]):.300}"
