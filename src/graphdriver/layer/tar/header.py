"""The parser of one block of a tar header, in every dialect that layers use.

v7, ustar, star, old GNU and PAX share the first fields and differ in those behind them. Where two
readers may disagree, this one follows the daemon's (Go's ``archive/tar``; see
`graphdriver.layer.tar.reader`):

- a checksum is the sum of the header's bytes, signed or not;
- numbers are octal, or base-256 if their first bit is set.
"""

from __future__ import annotations

import functools
import re
import struct
import zlib

from graphdriver.errors import BadArchiveError
from graphdriver.layer.tar.entry import Entry, EntryType, show

BLOCK = 512

_FIELDS = struct.Struct("100s24s12s12s8sc100s")
"""Name; mode, uid and gid; size; mtime; checksum; type; link."""
_MAGIC = slice(257, 265)
_DEVICE = slice(329, 337), slice(337, 345)
_PREFIX = slice(345, 500)
_STAR_MARK = slice(508, 512)
_USTAR = b"ustar\0"
_GNU = b"ustar  \0"
_STAR_TRAILER = b"tar\0"
_TYPES = {
    b"\0": EntryType.FILE,
    b"0": EntryType.FILE,
    b"1": EntryType.HARD_LINK,
    b"2": EntryType.SYMLINK,
    b"3": EntryType.CHARACTER_DEVICE,
    b"4": EntryType.BLOCK_DEVICE,
    b"5": EntryType.DIRECTORY,
    b"6": EntryType.FIFO,
    b"7": EntryType.FILE,  # contiguous: "treated as type 0 if not supported" (POSIX)
    b"S": EntryType.FILE,  # old GNU's sparse files
}
_DEVICES = frozenset({EntryType.CHARACTER_DEVICE, EntryType.BLOCK_DEVICE})
_MAX_DEVICE = (0xFFF, 0xFFFFF)  # Linux keeps 12 and 20 bits
_OCTAL = re.compile(rb"[0-7]+")
_LIMIT = 1 << 63

Fields = tuple[bytes, ...]
"""The fields of a block up to the link's name, see `_FIELDS`."""


def split(block: bytes) -> Fields:
    """Check a block's checksum, and return its fields.

    Raises:
        BadArchiveError: the checksum is wrong.
    """
    fields = _FIELDS.unpack_from(block)
    # The low half of Adler-32 is 1 plus the sum of the bytes, modulo 65,521, which 256 bytes cannot
    # reach. It is much faster than sum().
    adler = zlib.adler32
    total = (adler(block[:256]) & 0xFFFF) + (adler(block[256:]) & 0xFFFF) - 2
    try:
        if total == _expected_total(fields[4]) or _signed_sum(block) == number(fields[4]):
            return fields
    except BadArchiveError:  # the field is no number
        pass
    raise BadArchiveError("a header's checksum is wrong: damaged, or no tar at all")


def parse(fields: Fields, block: bytes) -> Entry:
    """Return the entry that a block describes; extended headers may override it.

    Raises:
        BadArchiveError: no layer holds its type, or a numeric field is not a number.
    """
    name, owner, size, mtime, _, kind, link = fields
    name = name.partition(b"\0")[0]
    if block[_PREFIX.start]:
        name = _prefix(block) + name
    type = _TYPES.get(kind)
    if type is None:
        raise BadArchiveError(f"{show(name)} is of type {show(kind)}, which no layer holds")
    mode, uid, gid = _mode_and_owner(owner)
    return Entry(
        name,
        type,
        mode,
        uid,
        gid,
        number(size),
        number(mtime) * 1_000_000_000,
        text(link) if link[0] else b"",
        (number(block[_DEVICE[0]]), number(block[_DEVICE[1]])) if type in _DEVICES else (0, 0),
    )


def check(entry: Entry) -> None:
    """Check that Linux can have an entry's device number.

    Raises:
        BadArchiveError: it cannot; the kernel would truncate it to the number of another device.
    """
    if entry.type in _DEVICES:
        major, minor = entry.device
        if not (0 <= major <= _MAX_DEVICE[0] and 0 <= minor <= _MAX_DEVICE[1]):
            raise BadArchiveError(f"{show(entry.name)} has a device number that Linux cannot have")


@functools.lru_cache(maxsize=8192)
def number(field: bytes) -> int:
    """Return the value of a numeric field: octal digits, or base-256 if its first bit is set.

    Raises:
        BadArchiveError: it is not a number of at most 64 bits.
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
    # int() would also take signs, underscores and digits of other scripts.
    if not _OCTAL.fullmatch(digits):
        raise BadArchiveError("a numeric header field is not a number")
    return int(digits, 8)


def text(field: bytes) -> bytes:
    """Return the text of a field, which ends at the first NUL."""
    return field.partition(b"\0")[0]


@functools.lru_cache(maxsize=1024)
def _mode_and_owner(fields: bytes) -> tuple[int, int, int]:
    return number(fields[:8]) & 0o7777, number(fields[8:16]), number(fields[16:])


def _prefix(block: bytes) -> bytes:
    """Return the directory of a name, from a prefix field that is not empty."""
    magic, prefix = block[_MAGIC], block[_PREFIX]
    if magic.startswith(_USTAR):
        found = text(prefix[:131] if block[_STAR_MARK] == _STAR_TRAILER else prefix)
    elif magic == _GNU and not _is_gnu_times(prefix):
        # Go up to 1.7, and Docker at that time, wrote GNU's magic into headers with ustar's prefix.
        found = text(prefix)
    else:
        return b""
    return found + b"/" if found else b""


def _is_gnu_times(prefix: bytes) -> bool:
    """Tell whether the place of ustar's prefix holds two times, as in old GNU headers."""
    try:
        number(prefix[:12])
        number(prefix[12:24])
    except BadArchiveError:
        return not prefix.isascii()
    return True


def _signed_sum(block: bytes) -> int:
    """Return the checksum of signed bytes, as some old programs wrote it, with its field as spaces."""
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:])
    return signed + 8 * 0x20


@functools.lru_cache(maxsize=8192)
def _expected_total(field: bytes) -> int:
    """Return the sum that a header's bytes must have, checksum field included, for that field."""
    return number(field) - 8 * 0x20 + sum(field)
