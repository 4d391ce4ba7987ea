"""The structures of an EROFS image, and their limits: numbers and names in, bytes out.

Everything is little endian (the kernel's fs/erofs/erofs_fs.h).
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from graphdriver.errors import UnsupportedError
from graphdriver.linux.acl import ACCESS_ACL, DEFAULT_ACL

BLOCK: Final = 512
SLOT: Final = 32
"""Inodes begin at multiples of this; their number (nid) counts it."""

BLOCKS_MAX: Final = 2**32 - 1
"""The limit of blocks that can be numbered; the last number says that a chunk is a hole."""

NAME_MAX: Final = 255
TARGET_MAX: Final = 4095
"""The limit of a symbolic link's target, in bytes (PATH_MAX, without its NUL)."""

VALUE_MAX: Final = 65_535
ATTRIBUTES_MAX: Final = 4 * 65_534
"""The limit of an inode's attributes with names and headers, in bytes; 16 bits count words."""

NAMES_MAX: Final = 65_536
"""The limit of an inode's attribute names with a NUL each: more cannot be listed (xattr(7))."""

FLAT: Final = 0
INLINE: Final = 2
CHUNKS: Final = 4
"""Where an inode's data are: in one piece of blocks, behind the inode, in chunks that a list names."""

INODE_SIZE: Final = 64

_MAGIC = 0xE0F5E1E2
_BLOCK_BITS = 9
_SUPERBLOCK_AT = 1024
_SUPERBLOCK_SIZE = 128
_DEVICE_SIZE = 128
_TIMES_ARE_MTIMES = 2
_HAS_CHUNKS = 4
_HAS_DEVICES = 8

_SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQ24x")
_DEVICE = struct.Struct("<64sII56x")
_INODE = struct.Struct("<HHHHqIIIIqII16x")
_DIRENT = struct.Struct("<QHBB")
_ATTRIBUTE = struct.Struct("<BBH")
_ATTRIBUTES_HEADER = bytes(12)

_PREFIXES: Final = ((b"user.", 1), (b"trusted.", 4), (b"security.", 6))
_WHOLE_NAMES: Final = {ACCESS_ACL: 2, DEFAULT_ACL: 3}

REGULAR_FILE: Final = 1
DIRECTORY: Final = 2
TYPES: Final = {
    stat.S_IFREG: REGULAR_FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}
"""The type of a directory's entry, by that of the mode."""


class Device(NamedTuple):
    """A second file with blocks of the image.

    Attributes:
        blocks: how many it has.
        first: the number of its first block in the image.
    """

    blocks: int
    first: int


def head(
    *,
    root: int,
    inodes: int,
    blocks: int,
    meta_block: int,
    uuid: bytes,
    device: Device | None = None,
) -> bytes:
    """Return the beginning of an image: up to its superblock, and the device table behind that.

    Args:
        root: the number of the root's inode, of 16 bits.
        inodes: how many the image has.
        blocks: how many the image's own file has.
        meta_block: the block from which inodes are numbered.
        uuid: 16 bytes, not all zero.
        device: the second file, if there is one.
    """
    # No time: it is that of inodes of the short form, which are not used. No checksum: it would need
    # CRC-32C, and would cover the superblock alone.
    superblock = _SUPERBLOCK.pack(
        _MAGIC,
        0,
        _TIMES_ARE_MTIMES,
        _BLOCK_BITS,
        0,
        root,
        inodes,
        0,
        0,
        blocks,
        meta_block,
        0,
        uuid,
        b"",
        _HAS_CHUNKS | (_HAS_DEVICES if device else 0),
        0,
        1 if device else 0,
        (_SUPERBLOCK_AT + _SUPERBLOCK_SIZE) // _DEVICE_SIZE if device else 0,
        0,
        0,
        0,
        0,
    )
    table = _DEVICE.pack(b"", *device) if device else b""
    return bytes(_SUPERBLOCK_AT) + superblock + table


class Head(NamedTuple):
    """What the beginning of an image says of it.

    Attributes:
        blocks: how many its own file has.
        root: where its root's inode begins, in bytes.
        uuid: its UUID.
        has_device: whether a second file belongs to it.
    """

    blocks: int
    root: int
    uuid: bytes
    has_device: bool


def parse_head(data: bytes) -> Head | None:
    """Return what the beginning of an image says, the first block at least; None if it is no image."""
    if len(data) < _SUPERBLOCK_AT + _SUPERBLOCK_SIZE:
        return None
    fields = _SUPERBLOCK.unpack_from(data, _SUPERBLOCK_AT)
    magic, blocks, uuid, features = fields[0], fields[9], fields[12], fields[14]
    root = fields[10] * BLOCK + fields[5] * SLOT
    return Head(blocks, root, uuid, bool(features & _HAS_DEVICES)) if magic == _MAGIC else None


def inode(
    layout: int,
    attributes: int,
    mode: int,
    size: int,
    place: int,
    number: int,
    uid: int,
    gid: int,
    mtime_ns: int,
    links: int,
) -> bytes:
    """Return an inode of the extended form; its attributes follow it.

    Args:
        layout: `FLAT`, `INLINE` or `CHUNKS`.
        attributes: the size of its attributes, in bytes.
        mode: type and permissions.
        size: of its data, in bytes.
        place: the first block of flat data, `device_number` of a device, or the chunks' size in blocks
            as a power of two.
        number: what programs with 32-bit inode numbers see; not zero.
        uid: the owner.
        gid: the group.
        mtime_ns: nanoseconds since 1970.
        links: how many names lead to it.

    Raises:
        UnsupportedError: a number is too large for its field.
    """
    seconds, nanoseconds = divmod(mtime_ns, 1_000_000_000)
    try:
        return _INODE.pack(
            layout << 1 | 1,
            (attributes - 12) // 4 + 1 if attributes else 0,
            mode,
            0,
            size,
            place,
            number,
            uid,
            gid,
            seconds,
            nanoseconds,
            links,
        )
    except struct.error as error:
        raise UnsupportedError(
            f"EROFS cannot hold a file of {size} bytes, owner {uid}, group {gid}, time {seconds} and"
            f" {links} links at {place}: {error}"
        ) from error


def described_again(found: bytes, mode: int, uid: int, gid: int, mtime_ns: int) -> bytes:
    """Return an inode with another mode, owner, group and time; all else stays.

    Args:
        found: the inode, `INODE_SIZE` bytes.
        mode: type and permissions.
        uid: the owner.
        gid: the group.
        mtime_ns: nanoseconds since 1970.
    """
    fields = list(_INODE.unpack(found))
    fields[2], fields[7:9] = mode, (uid, gid)
    fields[9:11] = divmod(mtime_ns, 1_000_000_000)
    return _INODE.pack(*fields)


def device_number(major: int, minor: int) -> int:
    """Return the kernel's 32-bit form of a device's number (new_encode_dev, linux/kdev_t.h).

    Raises:
        UnsupportedError: Linux has no such number.
    """
    if major >> 12 or minor >> 20:
        raise UnsupportedError(f"EROFS cannot hold the device number {major}:{minor}")
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def attributes_fit(xattrs: Mapping[bytes, bytes]) -> bool:
    """Tell whether an inode can hold these extended attributes."""
    for name, value in xattrs.items():
        index, rest = _split(name)
        if not index or len(name) > NAME_MAX or len(value) > VALUE_MAX:
            return False
        if not rest and name not in _WHOLE_NAMES:
            return False
    return (
        attributes_size(xattrs) - len(_ATTRIBUTES_HEADER) <= ATTRIBUTES_MAX
        and sum(map(len, xattrs)) + len(xattrs) <= NAMES_MAX
    )


def attributes_size(xattrs: Mapping[bytes, bytes] | None) -> int:
    """Return how many bytes an inode's attributes take behind it."""
    if not xattrs:
        return 0
    size = len(_ATTRIBUTES_HEADER)
    for name, value in xattrs.items():
        taken = _ATTRIBUTE.size + len(_split(name)[1]) + len(value)
        size += taken + -taken % 4
    return size


def attributes(xattrs: Mapping[bytes, bytes]) -> bytes:
    """Return an inode's extended attributes, one at least, in the order of their names.

    Raises:
        UnsupportedError: `attributes_fit` is false for them.
    """
    if not attributes_fit(xattrs):
        raise UnsupportedError(
            f"EROFS cannot hold {len(xattrs)} extended attributes of"
            f" {sum(map(len, xattrs.values()))} bytes ({b', '.join(sorted(xattrs))[:200]!r})"
        )
    parts = [_ATTRIBUTES_HEADER]
    for name in sorted(xattrs):
        value = xattrs[name]
        index, rest = _split(name)
        entry = _ATTRIBUTE.pack(len(rest), index, len(value)) + rest + value
        parts += entry, bytes(-len(entry) % 4)
    return b"".join(parts)


def directory_size(names: Collection[bytes]) -> int:
    """Return how many bytes of data a directory has.

    Args:
        names: those in it, without ``.`` and ``..``.
    """
    size = sum(map(len, names)) + _DIRENT.size * (len(names) + 2) + 3
    if size <= BLOCK:
        return size
    full = used = 0
    for name in sorted((*names, b".", b"..")):
        taken = _DIRENT.size + len(name)
        if used + taken > BLOCK:
            full += BLOCK
            used = 0
        used += taken
    return full + used


def directory_blocks(entries: Iterable[tuple[bytes, int, int]]) -> Iterator[bytes]:
    """Yield the blocks of a directory; the last one ends with the last name.

    Args:
        entries: the name, inode and type (`TYPES`) of each, ``.`` and ``..`` among them, in the order
            of the names' bytes.

    Raises:
        UnsupportedError: a name is empty, over `NAME_MAX` bytes, or holds a slash or a NUL.
    """
    held: list[tuple[bytes, int, int]] = []
    used = 0
    for entry in entries:
        taken = _DIRENT.size + len(entry[0])
        if used + taken > BLOCK:
            yield _directory_block(held).ljust(BLOCK, b"\0")
            held = []
            used = 0
        held.append(entry)
        used += taken
    yield _directory_block(held)


def _split(name: bytes) -> tuple[int, bytes]:
    """Return the index of a name's prefix (0: it has no known one) and the rest of the name."""
    for prefix, index in _PREFIXES:
        if name.startswith(prefix):
            return index, name[len(prefix) :]
    return _WHOLE_NAMES.get(name, 0), b""


def _directory_block(entries: Sequence[tuple[bytes, int, int]]) -> bytes:
    pack = _DIRENT.pack
    at = _DIRENT.size * len(entries)
    heads = []
    names = []
    for name, nid, kind in entries:
        heads.append(pack(nid, at, kind, 0))
        names.append(name)
        at += len(name)
        if not 0 < len(name) <= NAME_MAX:
            raise UnsupportedError(f"EROFS cannot hold a name of {len(name)} bytes: {name[:80]!r}…")
    joined = b"".join(names)
    if b"/" in joined or b"\0" in joined:
        raise UnsupportedError(f"a name holds a slash or a NUL: {names!r:.200}")
    return b"".join(heads) + joined
