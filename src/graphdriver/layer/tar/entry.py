"""What one entry of a layer's tar says, free of how a tar spells it.

`graphdriver.layer.tar.reader` reads it from tar headers; `graphdriver.layer.tar.writer` writes it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class EntryType(enum.Enum):
    """The file types that a layer holds; the values are ustar's type flags (POSIX pax, "ustar")."""

    FILE = b"0"
    HARD_LINK = b"1"
    SYMLINK = b"2"
    CHARACTER_DEVICE = b"3"
    BLOCK_DEVICE = b"4"
    FOLDER = b"5"
    FIFO = b"6"


@dataclass(slots=True)
class Entry:
    """One entry: a name and what it stands for.

    ``name`` and ``link`` are bytes as in the tar, neither cleaned nor trusted. ``size`` is the
    length of the *file*; ``stored`` is how many bytes of it follow in the tar, fewer if ``sparse``
    lists the only ranges (offset, length) that hold data.
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
    sparse: list[tuple[int, int]] | None = None
    stored: int = 0
