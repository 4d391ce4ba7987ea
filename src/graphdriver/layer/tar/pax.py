r"""PAX extended headers: records for values that ustar's fields cannot hold (POSIX.1-2001, pax).

A record is ``"%d %s=%s\n"``: its own length in decimal, a key, a value of any bytes. Two readers that
disagree about a record disagree about where the next file begins, so the rules are those of the
daemon's own reader (``parsePAXRecord``, ``mergePAX`` and ``parsePAXTime`` of Go's ``archive/tar``):

- the length ends exactly at the newline; names hold no NUL;
- a number is digits with an optional sign, and its value has at most 64 bits (leading zeros are
  padding);
- an empty value cancels the record, so the ustar field is used;
- a whole header is at most a mebibyte (`LIMIT`).

Global headers give only defaults for times, owners and extended attributes: no layer has one path or
size for all files, and the daemon, which reads the same tar, ignores them there.

Extended attributes are ``SCHILY.xattr.*``, as GNU tar and Go write them. A record's key ends at its
first ``=``, so an attribute with one in its name is ``LIBARCHIVE.xattr.*``, where names are escaped. Go
reads neither those nor ``SCHILY.dev*``, so a damaged one is left out without an error.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import urllib.parse
from collections.abc import Iterator

from graphdriver.errors import BadArchiveError
from graphdriver.layer.tar.entry import Entry, EntryType

LIMIT = 1 << 20
"""The longest header that describes another entry, in bytes."""

GLOBAL_LIMIT = 1 << 10
"""The limit in bytes for all defaults of global headers, since each entry is read with them."""

Records = dict[bytes, bytes]

SPARSE_MAP = b"GNU.sparse.map"
_SPARSE_PIECE = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
_SECOND = 1_000_000_000
_SCHILY = b"SCHILY.xattr."
_LIBARCHIVE = b"LIBARCHIVE.xattr."
_GLOBAL = (b"mtime", b"uid", b"gid")
_TIME = re.compile(rb"([+-]?[0-9]+)(?:\.([0-9]*))?")
_NO_NUL = frozenset({b"path", b"linkpath", b"GNU.sparse.name"})
_LIMIT = 1 << 63
_MOST_DIGITS = len(str(_LIMIT))
_SHORTEST = len(b"5 k=\n")


def parse(data: bytes) -> Records:
    """Return the records of an extended header, the last of each key.

    The pairs of sparse version 0.0, the only records that repeat, are returned as a map of version 0.1.

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
    """Return the records of a global header that are used as defaults.

    Raises:
        BadArchiveError: a record is damaged.
    """
    records = {}
    for key, value in _split(data):
        if key in _GLOBAL or key.startswith((_SCHILY, _LIBARCHIVE)):
            with contextlib.suppress(BadArchiveError):  # the daemon does not read its value
                apply(Entry(b"", EntryType.FILE), {key: value})
                records[key] = value
    return records


def _split(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        space = data.find(b" ", at)
        length = _integer(data[at:space]) if space > at else None
        if length is None or length < _SHORTEST:
            raise BadArchiveError("its extended header is damaged")
        end = at + length
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        is_cut = end > len(data) or end <= space or data[end - 1 : end] != b"\n"
        if is_cut or not equals or not key:
            raise BadArchiveError("its extended header is damaged")
        if b"\0" in key or (key in _NO_NUL and b"\0" in value):
            raise BadArchiveError("its extended header has a name with a NUL")
        yield key, value
        at = end


def apply(entry: Entry, records: Records) -> None:
    """Override the values of the ustar fields by records, except sizes, which the caller sets.

    Raises:
        BadArchiveError: a value is not of its key's form.
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
                entry.uid = integer(value)
            case b"gid":
                entry.gid = integer(value)
            case b"SCHILY.devmajor":
                major = _integer_or(value, major)
            case b"SCHILY.devminor":
                minor = _integer_or(value, minor)
            case _:
                _apply_xattr(entry, key, value, records)
    if entry.type in {EntryType.CHARACTER_DEVICE, EntryType.BLOCK_DEVICE}:
        entry.device = (major, minor)


def integer(value: bytes) -> int:
    """Return a decimal number of 64 bits, which may have a sign.

    Raises:
        BadArchiveError: it is not one.
    """
    found = _integer(value)
    if found is None:
        raise BadArchiveError("a number in its extended header is not one of 64 bits")
    return found


def number(value: bytes) -> int:
    """Return a decimal number from 0 to 2^63-1.

    Raises:
        BadArchiveError: it is not one.
    """
    found = integer(value)
    if found < 0:
        raise BadArchiveError("a number in its extended header is below 0")
    return found


def _time(value: bytes) -> int:
    found = _TIME.fullmatch(value)
    seconds = _integer(found[1]) if found else None
    if not found or seconds is None:
        raise BadArchiveError("the time in its extended header is not a number of 64 bits")
    nanoseconds = int((found[2] or b"")[:9].ljust(9, b"0"))
    time = seconds * _SECOND + (-nanoseconds if value.startswith(b"-") else nanoseconds)
    return max(time, -_LIMIT * _SECOND)


def _integer(value: bytes) -> int | None:
    """Return a decimal number; None if it is not one of 64 bits."""
    digits = value[1:] if value[:1] in (b"+", b"-") else value
    # Longer ones are never converted: the time for that grows with the square of their length.
    if not digits.isdigit() or len(digits.lstrip(b"0")) > _MOST_DIGITS:
        return None
    found = int(digits.lstrip(b"0") or b"0")
    if value.startswith(b"-"):
        found = -found
    return found if -_LIMIT <= found < _LIMIT else None


def _integer_or(value: bytes, default: int) -> int:
    found = _integer(value)
    return default if found is None else found


def _apply_xattr(entry: Entry, key: bytes, value: bytes, records: Records) -> None:
    if key.startswith(_SCHILY):
        entry.xattrs[_xattr_name(key[len(_SCHILY) :])] = value
    elif key.startswith(_LIBARCHIVE):
        # bsdtar writes both keys; this one is read only if the other is missing.
        name = urllib.parse.unquote_to_bytes(key[len(_LIBARCHIVE) :])
        if _SCHILY + name in records:
            return
        try:
            padded = value + b"=" * (-len(value) % 4)
            decoded = base64.b64decode(padded, validate=True)
        except binascii.Error:
            decoded = None
        if decoded is None or not name or b"\0" in name:
            entry.damaged_xattr = name
        else:
            entry.xattrs[name] = decoded


def _xattr_name(name: bytes) -> bytes:
    if not name or b"\0" in name:
        raise BadArchiveError("its extended header has an attribute without a name")
    return name


def of_xattr(name: bytes, value: bytes) -> Records:
    """Return the record of an extended attribute."""
    if b"=" not in name:
        return {_SCHILY + name: value}
    escaped = urllib.parse.quote_from_bytes(name, safe="").encode()
    return {_LIBARCHIVE + escaped: base64.b64encode(value).rstrip(b"=")}


def write(records: Records) -> bytes:
    """Return records as the content of an extended header, always in the same order."""
    return b"".join(_record(key, records[key]) for key in sorted(records))


def write_time(mtime_ns: int) -> bytes:
    """Return a time in nanoseconds as the value of a record: decimal seconds."""
    sign = b"-" if mtime_ns < 0 else b""
    seconds, nanoseconds = divmod(abs(mtime_ns), _SECOND)
    fraction = (b".%09d" % nanoseconds).rstrip(b"0") if nanoseconds else b""
    return sign + b"%d" % seconds + fraction


def _record(key: bytes, value: bytes) -> bytes:
    """Return one record: its own length in decimal, then ``key=value`` and a newline."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    # The length counts its own digits, which may make it one digit longer.
    if rest + len(str(length)) != length:
        length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)
