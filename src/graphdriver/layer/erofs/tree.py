"""A layer as a tree in memory: what an index describes.

The tree holds names, metadata and *places* of data, never data. Two trees that are equal give the same
index.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass, field
from typing import NamedTuple


class Area(enum.Enum):
    """Where data of a file are."""

    TAR = "tar"
    """In the stored tar; the offset is that in the tar."""
    COPIED = "copied"
    """Among the data that have no blocks of their own in the tar; the offset is that in this area."""


class Extent(NamedTuple):
    """A range of a file that has data; what no extent covers is a hole.

    Attributes:
        at: where it begins in the file, in bytes.
        area: where its data are.
        offset: where they begin there, in bytes; a multiple of 512.
        length: in bytes.
    """

    at: int
    area: Area
    offset: int
    length: int


@dataclass(slots=True, eq=False)
class Inode:
    """Anything but a directory. Several names may lead to one inode: they are hard links.

    Attributes:
        mode: file type and permission bits, as ``st_mode``.
        uid: the owner on disk; likewise ``gid``.
        mtime_ns: nanoseconds since 1970; may be negative.
        size: of a regular file, in bytes; of a symbolic link, the length of its target.
        data: of a regular file: the offset in the tar of a file that is there in one piece, or its
            extents in order, all in one area. Of a symbolic link: its target. Else 0.
        rdev: of a device: its number, as `os.makedev` returns it.
        xattrs: extended attributes as on disk; None if there are none.
        links: how many names lead to it; counted when an index is written.
    """

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    data: int | bytes | tuple[Extent, ...] = 0
    rdev: int = 0
    xattrs: dict[bytes, bytes] | None = None
    links: int = 0


_FILE = struct.Struct("<IIIqIqq")


def packed_file(mode: int, uid: int, gid: int, mtime_ns: int, size: int, offset: int) -> bytes:
    """Return a regular file in a small form: with one name, in one piece in the tar, no attributes.

    Most of a layer are such files, and an `Inode` takes three times the memory.

    Args:
        mode: as of an `Inode`.
        uid: likewise.
        gid: likewise.
        mtime_ns: likewise.
        size: likewise.
        offset: where its data are in the tar, in bytes.
    """
    seconds, nanoseconds = divmod(mtime_ns, 1_000_000_000)
    return _FILE.pack(mode, uid, gid, seconds, nanoseconds, size, offset)


def packed_fields(packed: bytes) -> tuple[int, int, int, int, int, int]:
    """Return mode, uid, gid, mtime_ns, size and offset of a `packed_file`."""
    mode, uid, gid, seconds, nanoseconds, size, offset = _FILE.unpack(packed)
    return mode, uid, gid, seconds * 1_000_000_000 + nanoseconds, size, offset


def unpacked_file(packed: bytes) -> Inode:
    """Return the file that `packed_file` packed."""
    return Inode(*packed_fields(packed))


@dataclass(slots=True, eq=False)
class Directory:
    """A directory; ``mode`` includes the file type.

    ``entries`` are in no order; of those that are bytes each is a `packed_file`.
    """

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    xattrs: dict[bytes, bytes] | None = None
    entries: dict[bytes, Node] = field(default_factory=dict)


Node = Inode | Directory | bytes
"""What a name leads to; bytes are a `packed_file`."""
