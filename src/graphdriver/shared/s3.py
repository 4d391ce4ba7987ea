"""A store in a bucket of S3, or of what speaks its protocol: Ceph RGW, SeaweedFS, the clouds.

An object of one part is put there only if none exists: the server decides between two writers. S3
cannot promise that for an object of more parts on all servers: a longer one is looked for first, and
replaces an equal one at most. Either appears whole, or not at all.

S3 does not tell when an object was read: it counts as used when it was put there.

Who may not list a bucket gets 403 for an object that does not exist, as for one that may not be read
(Amazon S3 API reference, "HeadObject", "Permissions"). Such an object counts as missing, and the log
says once which right is missing. Wrong credentials get 403, too, and fail: listing the bucket is then
refused for another reason than ``AccessDenied``.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import itertools
import logging
import os
import re
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError
from obstore.store import S3Store as Bucket

from graphdriver.driver import ClosableStream, ReadStream
from graphdriver.printable import printable
from graphdriver.shared.keys import digest_of
from graphdriver.shared.store import NotStoredError, Stored

if TYPE_CHECKING:
    from obstore import ObjectMeta

_CONNECT: Final = datetime.timedelta(seconds=5)
_WHOLE: Final = datetime.timedelta(seconds=60)
"""How long a request may take: at most one part is read or written by each."""

_RETRIES: Final = 3
_PART: Final = 16 << 20
_PARTS_AT_ONCE: Final = 2
_PIECE: Final = 256 << 10
_CLOCK: Final = ".clock/"
_CODE: Final = re.compile(r"(?:<Code>|\(code: )(\w{1,80})\b")
"""Why a server refuses a request (Amazon S3 API reference, "Error responses")."""

_READ: Final = "s3:GetObject"
_LIST: Final = "s3:ListBucket"
_WRITE: Final = "s3:PutObject"
_DELETE: Final = "s3:DeleteObject"

_log = logging.getLogger(__name__)


class _DeniedError(ConnectionError):
    """A server refuses a request: the credentials lack a right, or are wrong."""


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
        self._has_warned = False
        self._is_there = False
        """Whether the bucket was seen."""
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
        return self._head(key)["size"]

    def read(self, key: str, start: int = 0) -> ClosableStream:
        """See `graphdriver.shared.store.Store`."""
        found = self._head(key)
        return _Object(self._bucket, key, start, found["size"], found["e_tag"])

    def _head(self, key: str) -> ObjectMeta:
        try:
            with _failures(key, needs=_READ):
                return obstore.head(self._bucket, key)
        except _DeniedError:
            if self._may_list():
                raise
            raise NotStoredError(key) from None
        except NotStoredError:
            if not self._is_there:  # the answer is the same if there is no such bucket
                self._may_list()
                self._is_there = True
            raise

    def _may_list(self) -> bool:
        """Tell whether the credentials may list the bucket; log it once if not.

        Raises:
            OSError: the server does not answer, does not know the credentials, or has no such bucket.
        """
        try:
            with _failures(needs=_LIST):
                next(iter(obstore.list(self._bucket, _CLOCK)), None)
        except _DeniedError as error:
            if not self._has_warned:
                self._has_warned = True
                _log.warning(
                    "%s: what may not be read counts as not there, since both look alike: %s",
                    self.address,
                    error,
                )
            return False
        return True

    def put(self, key: str, content: ReadStream) -> bool:
        """See `graphdriver.shared.store.Store`."""
        with contextlib.suppress(NotStoredError):
            self.size(key)
            return False
        pieces = iter(lambda: content.read(_PIECE), b"")
        first = io.BytesIO()
        while first.tell() < _PART and (piece := next(pieces, b"")):
            first.write(piece)
        with _failures(needs=_WRITE):
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
        with _failures(needs=_LIST):
            for found in obstore.list(self._bucket):
                for one in found:
                    if digest_of(one["path"]):
                        age = now - one["last_modified"]
                        yield Stored(one["path"], one["size"], age.total_seconds())

    def remove(self, key: str) -> None:
        """See `graphdriver.shared.store.Store`."""
        with contextlib.suppress(NotStoredError), _failures(key, needs=_DELETE):
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
            with _failures(needs=_READ):
                return obstore.head(self._bucket, key)["last_modified"]
        finally:
            with _failures(needs=_DELETE):
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
def _failures(key: str = "", *, needs: str = "") -> Iterator[None]:
    """Raise what fails at a server as `OSError`, and that there is no such object.

    Args:
        key: the object that is asked for; ``""`` if it is to exist.
        needs: the right that is needed for it; ``""`` if that was tried before.
    """
    try:
        yield
    except FileNotFoundError as error:
        if key:
            raise NotStoredError(key) from error
        raise FileNotFoundError(_reason(error)) from error
    except BaseError as error:
        # The answer to HEAD has no code.
        if isinstance(error, PermissionDeniedError) or _code(error) == "AccessDenied":
            hint = f"; the credentials may lack the right {needs}" if needs else ""
            raise _DeniedError(f"{_reason(error)}{hint}") from error
        raise ConnectionError(_reason(error)) from error


def _reason(error: Exception) -> str:
    """Return an error's first line: what follows are the library's own values."""
    line = str(error).partition("\n")[0].partition("<?xml")[0].rstrip(": ")
    code = _code(error)
    told = f" ({code})" if code and code not in line else ""
    return f"{printable(line):.300}{told}"


def _code(error: Exception) -> str:
    found = _CODE.search(str(error))
    return found[1] if found else ""
