r"""PAX extended headers: records that say what ustar's fields cannot (POSIX.1-2001, pax).

A record is ``"%d %s=%s\n"``: its own length in decimal, a key, a value of any bytes. The rules are
strict, since two readers that disagree about a record disagree about where the next file begins:

- the length is digits alone and ends exactly at the newline; ``size``, ``uid`` and ``gid`` are digits
  alone; names hold no NUL;
- an empty value takes the record back, and the ustar field holds;
- a whole header is at most a mebibyte (`LIMIT`).

Of global headers only times, owners and extended attributes are believed, as defaults: a path or size
for all files at once is nobody's layer, and the daemon, which reads the same tar, ignores them.
"""

from __future__ import annotations

import base64
import binascii
import re
import urllib.parse
from collections.abc import Iterator

from graphdriver.errors import BadArchiveError
from graphdriver.layer.header import Entry, EntryType

LIMIT = 1 << 20
"""How long a header that describes another entry may be, in bytes."""

Records = dict[bytes, bytes]

SPARSE_MAP = b"GNU.sparse.map"
_SPARSE_PIECE = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
_SCHILY = b"SCHILY.xattr."
_LIBARCHIVE = b"LIBARCHIVE.xattr."
_GLOBAL = (b"mtime", b"uid", b"gid")
_TIME = re.compile(rb"(-?)([0-9]{1,19})(?:\.([0-9]*))?")
_NO_NUL = frozenset({b"path", b"linkpath", b"GNU.sparse.name"})
_MAX_SIZE = (1 << 63) - 1
_MAX_SECONDS = 1 << 62


def parse(data: bytes) -> Records:
    """Return the records of an extended header, the last of each key.

    The pairs of sparse version 0.0, the only records that repeat, are returned as the map that 0.1
    would say.

    Raises:
        BadArchiveError: a record is damaged.
    """
    records: Records = {}
    sparse: list[bytes] = []
    for key, value in _split(data):
        if key in _SPARSE_PIECE:
            if key != _SPARSE_PIECE[len(sparse) % 2]:
                raise BadArchiveError("the map of its holes is damaged")
            sparse.append(value)
        else:
            records[key] = value
    if sparse:
        records[SPARSE_MAP] = b",".join(sparse)
    return records


def parse_global(data: bytes) -> Records:
    """Return those records of a global header that are believed.

    Raises:
        BadArchiveError: a record is damaged.
    """
    return {
        key: value
        for key, value in _split(data)
        if key in _GLOBAL or key.startswith((_SCHILY, _LIBARCHIVE))
    }


def _split(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 8)
        digits = data[at:space] if space > at else b""
        if not digits.isdigit():
            raise BadArchiveError("its extended header is damaged")
        end = at + int(digits)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space or data[end - 1 : end] != b"\n" or not equals or not key:
            raise BadArchiveError("its extended header is damaged")
        if b"\0" in key or (key in _NO_NUL and b"\0" in value):
            raise BadArchiveError("its extended header has a name with a NUL")
        yield key, value
        at = end


def apply(entry: Entry, records: Records) -> None:
    """Let records override what the ustar fields said. Sizes are the caller's.

    Raises:
        BadArchiveError: a value is not what its key calls for.
    """
    major, minor = entry.device
    for key, value in records.items():
        if not value and not key.startswith((_SCHILY, _LIBARCHIVE)):
            continue
        match key:
            case b"path":
                entry.name = value
            case b"linkpath":
                entry.link = value
            case b"mtime":
                entry.mtime_ns = _time(value)
            case b"uid":
                entry.uid = number(value)
            case b"gid":
                entry.gid = number(value)
            case b"SCHILY.devmajor":
                major = number(value)
            case b"SCHILY.devminor":
                minor = number(value)
            case _:
                _apply_xattr(entry, key, value, records)
    if entry.type in {EntryType.CHARACTER_DEVICE, EntryType.BLOCK_DEVICE}:
        entry.device = (major, minor)


def number(value: bytes) -> int:
    """Return a decimal number from 0 to 2^63-1.

    Raises:
        BadArchiveError: it is none.
    """
    if not value.isdigit() or len(value) > 19 or int(value) > _MAX_SIZE:
        raise BadArchiveError("its extended header has a number that is none")
    return int(value)


def _time(value: bytes) -> int:
    found = _TIME.fullmatch(value)
    if not found or int(found[2]) > _MAX_SECONDS:
        raise BadArchiveError("its extended header has a time that is none")
    nanoseconds = int(found[2]) * 1_000_000_000 + int((found[3] or b"")[:9].ljust(9, b"0"))
    return -nanoseconds if found[1] else nanoseconds


def _apply_xattr(entry: Entry, key: bytes, value: bytes, records: Records) -> None:
    if key.startswith(_SCHILY):
        entry.xattrs[_xattr_name(key[len(_SCHILY) :])] = value
    elif key.startswith(_LIBARCHIVE):
        # bsdtar writes both spellings; this one only where the other cannot say it.
        name = _xattr_name(urllib.parse.unquote_to_bytes(key[len(_LIBARCHIVE) :]))
        if _SCHILY + name in records:
            return
        try:
            padded = value + b"=" * (-len(value) % 4)
            entry.xattrs[name] = base64.b64decode(padded, validate=True)
        except binascii.Error:
            raise BadArchiveError(
                "its extended header has an attribute that is no base64"
            ) from None


def _xattr_name(name: bytes) -> bytes:
    if not name or b"\0" in name:
        raise BadArchiveError("its extended header has an attribute without a name")
    return name
