"""The fields of a tar header as values, and names as an error's text says them."""

from __future__ import annotations

import functools
import re

from graphdriver.errors import BadArchiveError

_OCTAL = re.compile(rb"[0-7]+")
_LIMIT = 1 << 63


@functools.lru_cache(maxsize=8192)
def number(field: bytes) -> int:
    """Return what a numeric field says: octal digits, or base-256 if its first bit is set.

    Raises:
        BadArchiveError: it is no number, or none of 64 bits.
    """
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=True)
        if not field[0] & 0x40:
            value += 1 << (8 * len(field) - 1)
        if not -_LIMIT <= value < _LIMIT:
            raise BadArchiveError("a header has a number that is too large")
        return value
    digits = field.strip(b" \0").partition(b"\0")[0].rstrip(b" ")
    if not digits:
        return 0
    if not _OCTAL.fullmatch(digits):
        raise BadArchiveError("a header has a number that is none")
    return int(digits, 8)


def text(field: bytes) -> bytes:
    """Return a field's text: it ends at the first NUL."""
    return field.partition(b"\0")[0]


def show(name: bytes) -> str:
    """Return a name from a tar as an error says it: quoted, on one line, not too long."""
    shown = repr(name[:200].decode("utf-8", "backslashreplace"))
    return shown if len(name) <= 200 else f"{shown}..."
