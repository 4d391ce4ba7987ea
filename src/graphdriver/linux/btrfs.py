"""btrfs: subvolumes, and searches in its trees.

Structures and numbers are those of linux/btrfs.h and linux/btrfs_tree.h. A subvolume is a tree with
a number; its root directory is inode 256. Trees are searched by key: (object, type, offset).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from graphdriver.linux.libc import libc, raise_errno

FIRST_FREE_OBJECTID: Final = 256
"""The inode of each subvolume's root directory."""
ROOT_TREE_OBJECTID: Final = 1

INODE_ITEM_KEY: Final = 1
INODE_REF_KEY: Final = 12
INODE_EXTREF_KEY: Final = 13
EXTENT_DATA_KEY: Final = 108
ROOT_REF_KEY: Final = 156

SUBVOL_RDONLY: Final = 1 << 1

WRITE, READ = 1, 2


def ioc(direction: int, number: int, size: int) -> int:
    """Return the number of a btrfs ioctl(2) with an argument of ``size`` bytes."""
    return direction << 30 | size << 16 | 0x94 << 8 | number


_IOC_SUBVOL_CREATE: Final = ioc(WRITE, 14, 4096)
_IOC_SNAP_DESTROY: Final = ioc(WRITE, 15, 4096)
_IOC_TREE_SEARCH_V2: Final = ioc(READ | WRITE, 17, 112)
_IOC_SNAP_CREATE_V2: Final = ioc(WRITE, 23, 4096)
_IOC_SUBVOL_GETFLAGS: Final = ioc(READ, 25, 8)
_IOC_SUBVOL_SETFLAGS: Final = ioc(WRITE, 26, 8)
_IOC_GET_SUBVOL_INFO: Final = ioc(READ, 60, 504)

_VOL_ARGS: Final = struct.Struct("=q4088s")
_VOL_ARGS_V2: Final = struct.Struct("=qQQ32x4040s")
_SUBVOL_INFO: Final = struct.Struct("=Q256sQQQQ16s16s16sQQQQ16xQI4x32x64x")
_SEARCH_KEY: Final = struct.Struct("=QQQQQQQIIII32xQ")
"""struct btrfs_ioctl_search_key, and the size of the buffer that follows it."""
_SEARCH_HEADER: Final = struct.Struct("=QQQII")
_SEARCH_BUFFER: Final = 256 << 10
_MOST: Final = (1 << 64) - 1

_INODE_ITEM: Final = struct.Struct("<QQ24xI")
_EXTENT: Final = struct.Struct("<QQ4xB")
_EXTENT_ON_DISK: Final = struct.Struct("<QQQQ")
_INLINE: Final = 0
_INODE_REF: Final = struct.Struct("<8xH")
_INODE_EXTREF: Final = struct.Struct("<Q8xH")
_ROOT_REF: Final = struct.Struct("<Q8xH")

_FILEID_BTRFS_WITHOUT_PARENT: Final = 0x4D
_HANDLE: Final = struct.Struct("=IiQQI")
"""struct file_handle with a struct btrfs_fid: inode, tree, generation."""


@dataclass(frozen=True, slots=True)
class Subvolume:
    """A subvolume as GET_SUBVOL_INFO describes it.

    Attributes:
        parent_uuid: of the subvolume that it is a snapshot of, or zeros.
        made_in: the transaction in which it was made; younger items were changed in it since.
        made_ns: the time of that, in nanoseconds.
    """

    id: int
    uuid: bytes
    parent_uuid: bytes
    made_in: int
    made_ns: int


class Item(NamedTuple):
    """An item that a search found: its key and its data."""

    object: int
    type: int
    offset: int
    data: bytes


class Name(NamedTuple):
    """A name of an inode, in the directory with that inode number."""

    directory: int
    name: bytes


def create_subvolume(dir_fd: int, name: bytes) -> None:
    """Make an empty subvolume in an open directory.

    Raises:
        OSError: it cannot be made; ENOTTY if the filesystem is not btrfs.
    """
    fcntl.ioctl(dir_fd, _IOC_SUBVOL_CREATE, bytearray(_VOL_ARGS.pack(0, name)))


def create_snapshot(source_fd: int, dir_fd: int, name: bytes) -> None:
    """Make a snapshot of a subvolume, with all earlier writes in it.

    Subvolumes within the source are empty directories in the snapshot.

    Args:
        source_fd: the source's root directory.
        dir_fd: the directory to make the snapshot in.
        name: its name there.

    Raises:
        OSError: it cannot be made.
    """
    fcntl.ioctl(dir_fd, _IOC_SNAP_CREATE_V2, bytearray(_VOL_ARGS_V2.pack(source_fd, 0, 0, name)))


def destroy_subvolume(dir_fd: int, name: bytes) -> None:
    """Remove a subvolume from its directory; the kernel frees its space later.

    It is removed by name, since SNAP_DESTROY_V2 by number fails for a path longer than a page.

    Raises:
        OSError: it cannot be removed: ENOTEMPTY if it holds subvolumes, EROFS if it lies in a
            read-only one.
    """
    fcntl.ioctl(dir_fd, _IOC_SNAP_DESTROY, bytearray(_VOL_ARGS.pack(0, name)))


def is_subvolume(fd: int) -> bool:
    """Tell whether a directory on btrfs is the root of a subvolume.

    Raises:
        OSError: the call failed.
    """
    return os.fstat(fd).st_ino == FIRST_FREE_OBJECTID


def subvolume_of(fd: int) -> Subvolume:
    """Return the subvolume of an open file or directory.

    Raises:
        OSError: the filesystem is not btrfs, or the call failed.
    """
    info = bytearray(_SUBVOL_INFO.size)
    fcntl.ioctl(fd, _IOC_GET_SUBVOL_INFO, info)
    id, _, _, _, _, _, uuid, parent_uuid, _, _, made_in, _, _, seconds, nanoseconds = (
        _SUBVOL_INFO.unpack(info)
    )
    return Subvolume(id, uuid, parent_uuid, made_in, seconds * 1_000_000_000 + nanoseconds)


def make_writable(fd: int) -> None:
    """Make a read-only subvolume writable, by its root directory.

    Raises:
        OSError: the kernel refused.
    """
    flags = bytearray(8)
    fcntl.ioctl(fd, _IOC_SUBVOL_GETFLAGS, flags)
    if (value := int.from_bytes(flags, "little")) & SUBVOL_RDONLY:
        value &= ~SUBVOL_RDONLY
        fcntl.ioctl(fd, _IOC_SUBVOL_SETFLAGS, bytearray(value.to_bytes(8, "little")))


def search(
    fd: int,
    tree: int,
    first: tuple[int, int, int],
    last: tuple[int, int, int],
    *,
    younger_than: int = -1,
) -> Iterator[Item]:
    """Yield the items of a tree from one key to another, both included, in order.

    Args:
        fd: anything open on the filesystem.
        tree: the number of a subvolume or of another tree.
        first: object, type, offset.
        last: likewise.
        younger_than: skip nodes of the tree that were not written after this transaction. The other
            nodes may hold older items, too.

    Raises:
        OSError: ENOENT if there is no such tree.
    """
    buffer = bytearray(_SEARCH_KEY.size + _SEARCH_BUFFER)
    while True:
        _SEARCH_KEY.pack_into(
            *(buffer, 0, tree, first[0], last[0], first[2], last[2], younger_than + 1, _MOST),
            *(first[1], last[1], 0xFFFFFFFF, 0, _SEARCH_BUFFER),
        )
        fcntl.ioctl(fd, _IOC_TREE_SEARCH_V2, buffer)
        count = _SEARCH_KEY.unpack_from(buffer)[9]
        if not count:
            return
        at = _SEARCH_KEY.size
        for _ in range(count):
            _, object, offset, type, size = _SEARCH_HEADER.unpack_from(buffer, at)
            at += _SEARCH_HEADER.size
            yield Item(object, type, offset, bytes(buffer[at : at + size]))
            at += size
        if (object, type, offset) >= last:
            return
        first = _after(object, type, offset)


def _after(object: int, type: int, offset: int) -> tuple[int, int, int]:
    if offset < _MOST:
        return object, type, offset + 1
    if type < 0xFF:
        return object, type + 1, 0
    return object + 1, 0, 0


@dataclass(frozen=True, slots=True)
class Inode:
    """The part of an inode item that is needed here."""

    generation: int
    changed_in: int
    links: int

    @classmethod
    def parse(cls, item: Item) -> Inode:
        """Read an item of type `INODE_ITEM_KEY`."""
        return cls(*_INODE_ITEM.unpack_from(item.data))


@dataclass(frozen=True, slots=True)
class Extent:
    """A piece of a file.

    Attributes:
        made_in: the transaction that wrote it.
        size: in bytes, before compression; 0 for a hole.
    """

    made_in: int
    size: int

    @classmethod
    def parse(cls, item: Item) -> Extent:
        """Read an item of type `EXTENT_DATA_KEY` (struct btrfs_file_extent_item)."""
        made_in, size, kind = _EXTENT.unpack_from(item.data)
        if kind == _INLINE:
            return cls(made_in, size)
        address, _, _, size = _EXTENT_ON_DISK.unpack_from(item.data, _EXTENT.size)
        return cls(made_in, size if address else 0)


def names_of(item: Item) -> Iterator[Name]:
    """Yield the names that an item of type `INODE_REF_KEY` or `INODE_EXTREF_KEY` holds."""
    at = 0
    while at < len(item.data):
        if item.type == INODE_REF_KEY:
            directory, (length,) = item.offset, _INODE_REF.unpack_from(item.data, at)
            at += _INODE_REF.size
        else:
            directory, length = _INODE_EXTREF.unpack_from(item.data, at)
            at += _INODE_EXTREF.size
        yield Name(directory, item.data[at : at + length])
        at += length


def subvolumes_in(fd: int, id: int) -> Iterator[tuple[int, Name]]:
    """Yield the numbers and names of the subvolumes directly within one.

    Raises:
        OSError: they cannot be listed.
    """
    first, last = (id, ROOT_REF_KEY, 0), (id, ROOT_REF_KEY, _MOST)
    for item in search(fd, ROOT_TREE_OBJECTID, first, last):
        directory, length = _ROOT_REF.unpack_from(item.data)
        yield item.offset, Name(directory, item.data[_ROOT_REF.size : _ROOT_REF.size + length])


def open_directory(fd: int, tree: int, inode: int = FIRST_FREE_OBJECTID) -> int:
    """Open a directory by its numbers, without a path (open_by_handle_at(2)).

    Args:
        fd: anything open on the filesystem.
        tree: the subvolume that it is in.
        inode: its number there; the subvolume's root directory unless given.

    Raises:
        OSError: ESTALE or ENOENT if there is no such directory.
    """
    key = inode, INODE_ITEM_KEY, 0
    generation = next((Inode.parse(item).generation for item in search(fd, tree, key, key)), 0)
    handle = _HANDLE.pack(20, _FILEID_BTRFS_WITHOUT_PARENT, inode, tree, generation)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    opened = int(libc.open_by_handle_at(fd, ctypes.c_char_p(handle), flags))
    if opened < 0:
        raise_errno(f"inode {inode} of subvolume {tree}")
    return opened
