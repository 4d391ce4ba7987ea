"""One entry of a layer's tar, independent of the tar's dialect.

`graphdriver.layer.tar.reader` reads it from tar headers; `graphdriver.layer.tar.writer` writes it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

_SHOWN = 200


class EntryType(enum.Enum):
    """The file types that a layer holds; the values are ustar's type flags (POSIX pax, "ustar")."""

    FILE = b"0"
    HARD_LINK = b"1"
    SYMLINK = b"2"
    CHARACTER_DEVICE = b"3"
    BLOCK_DEVICE = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"

    # Sets of types are asked several times for each entry, and Enum's own is written in Python.
    __hash__ = object.__hash__


@dataclass(slots=True)
class Entry:
    """A name in a tar with its metadata.

    Attributes:
        name: bytes as in the tar, neither cleaned nor trusted.
        link: the target of a link, likewise.
        size: the length of the *file*, in bytes.
        stored: how many bytes of the file follow in the tar; fewer than ``size`` if it is sparse.
        sparse: the only ranges (offset, length) of the file that hold data; None: all of it.
        device: major and minor number.
        damaged_xattr: the name of an extended attribute with a damaged name or value.
    """

    name: bytes
    type: EntryType
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    damaged_xattr: bytes | None = None
    sparse: list[tuple[int, int]] | None = None
    stored: int = 0


def show(name: bytes) -> str:
    """Return a name from a tar in the form for errors: quoted, on one line, not too long."""
    shown = repr(name[:_SHOWN].decode("utf-8", "backslashreplace"))
    return shown if len(name) <= _SHOWN else f"{shown}..."
