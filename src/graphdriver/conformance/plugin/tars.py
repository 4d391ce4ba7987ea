"""Tars built header by header, also with content that no tar program writes."""

from __future__ import annotations

from collections.abc import Iterable

BLOCK = 512
USTAR = b"ustar\x0000"
GNU = b"ustar  \0"
V7 = bytes(8)
END = bytes(2 * BLOCK)


def octal(value: int, width: int) -> bytes:
    """Return a number in octal digits, or in base-256 if it does not fit."""
    digits = b"%0*o" % (width - 1, value) if value >= 0 else b""
    if digits and len(digits) < width:
        return digits + b"\0"
    return base_256(value, width)


def base_256(value: int, width: int) -> bytes:
    """Return a number in base-256, GNU's form for numbers that octal digits cannot hold."""
    raw = (value % (1 << (8 * width - 1))).to_bytes(width, "big")
    return bytes([raw[0] | 0x80 | (0x40 if value < 0 else 0)]) + raw[1:]


def checked(block: bytes) -> bytes:
    """Return a header with the right checksum."""
    total = sum(block[:148]) + 8 * 0x20 + sum(block[156:])
    return block[:148] + b"%06o\0 " % total + block[156:]


def header(
    name: bytes,
    type: bytes = b"0",
    *,
    size: int = 0,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    link: bytes = b"",
    magic: bytes = USTAR,
    device: tuple[int, int] = (0, 0),
    prefix: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    """Return a header; numbers are in octal digits if they fit."""
    block = b"".join(
        (
            name[:100].ljust(100, b"\0"),
            octal(mode, 8),
            octal(uid, 8),
            octal(gid, 8),
            octal(size, 12),
            octal(mtime, 12),
            bytes(8),
            type,
            link[:100].ljust(100, b"\0"),
            magic,
            bytes(64),
            octal(device[0], 8),
            octal(device[1], 8),
            prefix[:155].ljust(155, b"\0"),
            tail.ljust(12, b"\0"),
        )
    )
    return checked(block)


def padded(data: bytes) -> bytes:
    """Return data, padded to whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes, data: bytes = b"data", **fields: object) -> bytes:
    """Return a file; ``fields`` as in `header`."""
    return header(name, size=len(data), **fields) + padded(data)  # type: ignore[arg-type]


def directory(name: bytes, mode: int = 0o755, **fields: object) -> bytes:
    """Return a directory."""
    return header(name, b"5", mode=mode, **fields)  # type: ignore[arg-type]


def symlink(name: bytes, to: bytes, **fields: object) -> bytes:
    """Return a symbolic link."""
    return header(name, b"2", mode=0o777, link=to, **fields)  # type: ignore[arg-type]


def hard_link(name: bytes, to: bytes) -> bytes:
    """Return a hard link."""
    return header(name, b"1", link=to)


def whiteout(name: bytes) -> bytes:
    """Return an empty file; its name, ``.wh.NAME``, makes it a whiteout."""
    return file(name, b"")


def pax(records: Iterable[tuple[bytes, bytes]], type: bytes = b"x") -> bytes:
    """Return a PAX header for the next entry, or with ``g`` for all further ones."""
    data = b"".join(record(key, value) for key, value in records)
    return header(b"././@PaxHeader", type, size=len(data)) + padded(data)


def record(key: bytes, value: bytes) -> bytes:
    """Return one line of a PAX header, which begins with its own length."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def gnu_long(type: bytes, text: bytes) -> bytes:
    """Return GNU's entry for a name (``L``) or a link's target (``K``) too long for a header."""
    data = text + b"\0"
    return header(b"././@LongLink", type, size=len(data), magic=GNU) + padded(data)


def tar(*entries: bytes) -> bytes:
    """Return a whole tar."""
    return b"".join(entries) + END
