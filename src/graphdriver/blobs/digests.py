"""Digests of streams, computed while the streams are read.

A digest is an algorithm, a colon and a hexadecimal number (OCI image-spec, "Content Descriptors").
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from graphdriver.driver import ReadStream
from graphdriver.errors import BadArchiveError, MalformedRequestError

_DIGEST: Final = re.compile(r"(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})")


def is_digest(text: str) -> bool:
    """Tell whether a text is a digest of an algorithm that is known here."""
    return _DIGEST.fullmatch(text) is not None


class Digested:
    """A stream that computes its own digest and size.

    Args:
        stream: what is read.
        expected: the digest that the whole stream must have; ``""`` for any.

    Attributes:
        size: how many bytes were read so far.

    Raises:
        MalformedRequestError: the expected digest is none.
    """

    def __init__(self, stream: ReadStream, expected: str = "") -> None:
        if expected and not is_digest(expected):
            raise MalformedRequestError(f"{expected[:200]!r} is not a digest")
        self._stream = stream
        self._expected = expected
        self._algorithm = expected.partition(":")[0] or "sha256"
        self._hash = hashlib.new(self._algorithm)
        self.size = 0

    @property
    def digest(self) -> str:
        """The digest of what was read so far."""
        return f"{self._algorithm}:{self._hash.hexdigest()}"

    def read(self, n: int, /) -> bytes:
        """Read from the stream.

        Raises:
            BadArchiveError: it is at its end, and does not have the expected digest.
        """
        piece = self._stream.read(n)
        self._hash.update(piece)
        self.size += len(piece)
        if not piece and self._expected not in ("", self.digest):
            raise BadArchiveError(
                f"the blob {self._expected} has the digest {self.digest}",
                hint="remove it from the content store, and pull the image again",
            )
        return piece
