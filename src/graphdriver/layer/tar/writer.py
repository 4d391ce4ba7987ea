"""The writer: writes an entry as tar headers, in the smallest form that holds it.

That is one ustar header (POSIX pax, "ustar Interchange Format") if everything fits, and a PAX extended
header before it for everything else: long names, big numbers, times with nanoseconds or before 1970,
and extended attributes. Nothing depends on the place or time of writing, so the same entry always gives
the same bytes.
"""

from __future__ import annotations

import zlib

from graphdriver.errors import UnsupportedError
from graphdriver.layer.tar import pax
from graphdriver.layer.tar.entry import Entry, EntryType, show
from graphdriver.layer.tar.header import BLOCK

END = bytes(2 * BLOCK)
"""The end of an archive."""

_BIG_OCTAL = 8**11
_SMALL_OCTAL = 8**7
_SECOND = 1_000_000_000


def headers(entry: Entry) -> bytes:
    """Return an entry's headers, a whole number of blocks; its data follows them.

    Raises:
        UnsupportedError: no tar can hold it (a NUL in a name, a device number of 2^21 or more,
            a mebibyte of attributes).
    """
    if b"\0" in entry.name or b"\0" in entry.link:
        raise UnsupportedError(f"{entry.name!r}: a tar cannot hold a name with a NUL")
    if entry.device != (0, 0) and max(entry.device) >= _SMALL_OCTAL:
        raise UnsupportedError(
            f"{entry.name!r}: a tar cannot hold the device number {entry.device}"
        )
    records: dict[bytes, bytes] = {}
    recorded = b""  # the names in records
    prefix, name = _split(entry.name)
    if not name:
        records[b"path"] = recorded = entry.name
        # Programs without PAX would take a file for a directory if its cut name ended with a slash.
        name = entry.name[:100].rstrip(b"/")
    link = entry.link
    if len(link) > 100:
        records[b"linkpath"] = link
        recorded += b"/" + link
        link = link[:100]
    uid = _number(records, b"uid", entry.uid, _SMALL_OCTAL)
    gid = _number(records, b"gid", entry.gid, _SMALL_OCTAL)
    size = _number(records, b"size", entry.stored, _BIG_OCTAL)
    seconds, nanoseconds = divmod(entry.mtime_ns, _SECOND)
    if nanoseconds or not 0 <= seconds < _BIG_OCTAL:
        records[b"mtime"] = pax.write_time(entry.mtime_ns)
        seconds = min(max(seconds, 0), _BIG_OCTAL - 1)
    for key, value in entry.xattrs.items():
        records |= pax.of_xattr(key, value)
    main = _block(
        name, entry.mode, uid, gid, size, seconds, entry.type.value, link, entry.device, prefix
    )
    if not records:
        return main
    if recorded and not _is_utf8(recorded):  # POSIX: without this record, names are UTF-8
        records[b"hdrcharset"] = b"BINARY"
    body = pax.write(records)
    if len(body) > pax.LIMIT:  # the daemon rejects longer ones, so no image could be made of it
        raise UnsupportedError(
            f"{show(entry.name)}: its name and attributes take {len(body)} bytes, and the header of a"
            f" tar's entry has {pax.LIMIT} at most",
            hint="remove some of its extended attributes",
        )
    extended = _block(
        b"PaxHeaders.0/" + _base(entry.name)[:87], 0o644, 0, 0, len(body), 0, b"x", b"", (0, 0), b""
    )
    return extended + body + bytes(-len(body) % BLOCK) + main


def file_headers(name: bytes, mode: int, uid: int, gid: int, size: int, mtime_ns: int) -> bytes:
    """Return the same as `headers` for a file without attributes and links, usually twice as fast.

    Raises:
        UnsupportedError: no tar can hold it.
    """
    seconds, nanoseconds = divmod(mtime_ns, _SECOND)
    if (
        not 0 <= seconds < _BIG_OCTAL
        or size >= _BIG_OCTAL
        or max(uid, gid) >= _SMALL_OCTAL
        or len(name) > 100
    ):
        return headers(Entry(name, EntryType.FILE, mode, uid, gid, size, mtime_ns, stored=size))
    fields = name.ljust(100, b"\0"), mode, uid, gid, size, seconds, b"0", _NO_LINK
    main = _summed(_HEAD % fields, _PLAIN)
    if not nanoseconds:
        return main
    fraction = (b"%09d" % nanoseconds).rstrip(b"0")
    body = b"%d mtime=%d.%b\n" % (len(fraction) + len(str(seconds)) + 11, seconds, fraction)
    extended_name = b"PaxHeaders.0/" + _base(name)[:87]
    extended = _block(extended_name, 0o644, 0, 0, len(body), 0, b"x", b"", (0, 0), b"")
    return extended + body.ljust(BLOCK, b"\0") + main


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _base(name: bytes) -> bytes:
    return name.rstrip(b"/").rpartition(b"/")[2]


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Split a name into ustar's prefix and name; two empty ones if it does not fit."""
    if len(name) <= 100:
        return b"", name
    if len(name) <= 256:
        cut = name.find(b"/", len(name) - 101, len(name) - 1)
        if 0 < cut <= 155:
            return name[:cut], name[cut + 1 :]
    return b"", b""


def _number(records: dict[bytes, bytes], key: bytes, value: int, limit: int) -> int:
    if 0 <= value < limit:
        return value
    records[key] = b"%d" % value
    return 0


def _block(
    name: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    seconds: int,
    kind: bytes,
    link: bytes,
    device: tuple[int, int],
    prefix: bytes,
) -> bytes:
    head = _HEAD % (
        name.ljust(100, b"\0"),
        mode,
        uid,
        gid,
        size,
        seconds,
        kind,
        link.ljust(100, b"\0"),
    )
    return _summed(head, _PLAIN if device == (0, 0) and not prefix else _tail(device, prefix))


def _summed(head: bytes, rest: tuple[bytes, int]) -> bytes:
    """Return a block of a `_HEAD` and the result of `_tail`, with its checksum."""
    tail, tail_sum = rest
    return b"%b%06o\0 %b%b" % (head[:148], _sum(head) + tail_sum, head[156:], tail)


def _tail(device: tuple[int, int], prefix: bytes) -> tuple[bytes, int]:
    """Return the end of a block, after the link's name, and its sum."""
    tail = b"ustar\00000%b%07o\0%07o\0%b" % (bytes(64), *device, prefix.ljust(167, b"\0"))
    return tail, _sum(tail)


def _sum(block: bytes) -> int:
    # The low half of Adler-32 is 1 plus the sum of the bytes, modulo 65,521, which 256 bytes cannot
    # reach. It is much faster than sum().
    adler = zlib.adler32
    return (adler(block[:128]) & 0xFFFF) + (adler(block[128:]) & 0xFFFF) - 2


_HEAD = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0        %b%b"
"""A block up to the link's name, with spaces in the place of its checksum."""

_NO_LINK = bytes(100)
_PLAIN = _tail((0, 0), b"")
