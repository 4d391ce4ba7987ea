"""The index writer: writes the part of an image that is not the tar, from a tree."""

from __future__ import annotations

import enum
import os
import stat
from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple

from graphdriver.errors import UnsupportedError
from graphdriver.layer.erofs import chunks, structures
from graphdriver.layer.erofs.part_writer import PartWriter
from graphdriver.layer.erofs.structures import BLOCK, INODE_SIZE, SLOT
from graphdriver.layer.erofs.tree import Area, Directory, Extent, Inode, packed_fields

HEAD: Final = 4096
"""The first bytes of a file with an index; its superblock is there."""

_TAR_AS_DEVICE: Final = 1 << 31
"""The number of the tar's first block where the tar is a file of its own: behind any index."""

_ROOT: Final = BLOCK // SLOT
"""The root's number: inodes are numbered from the block before it, since none may be 0."""


class Place(enum.Enum):
    """Where an index is."""

    BEHIND_TAR = "behind the tar"
    """In one file: head, tar, copied data, index."""
    OWN_FILE = "own file"
    """Head, copied data, index; the tar is a second file, the image's device 1."""
    BEHIND_HEAD = "behind the head of another image"
    """The same, and the tar is where `BEHIND_TAR` has it: the second file is another image."""


class Index(NamedTuple):
    """What was written.

    Attributes:
        size: of the file with the index, in bytes.
        inodes: how many the image has.
    """

    size: int
    inodes: int


def copied_start(place: Place, tar_size: int) -> int:
    """Return where the copied data begin in the file with the index, in bytes."""
    return HEAD + (_rounded(tar_size) if place is Place.BEHIND_TAR else 0)


def write_index(
    root: Directory, fd: int, place: Place, *, tar_size: int, copied_size: int, uuid: bytes
) -> Index:
    """Write the index of a layer behind its tar and its copied data, or behind the latter alone.

    The head is written last. The same tree gives the same bytes, whatever the order of its entries.
    Beyond a constant it takes 16 bytes of memory for a directory, and 100 for a file of several names.

    Args:
        root: the layer.
        fd: the file, open for writing; it ends where the copied data end, or before.
        place: where the index is.
        tar_size: of the tar, in bytes.
        copied_size: of the copied data, in bytes; they begin at `copied_start`.
        uuid: the image's, 16 bytes, not all zero.

    Raises:
        UnsupportedError: EROFS cannot hold the layer: a name over 255 bytes, a link's target that is
            empty or over 4,095 bytes, attributes for which `structures.attributes_fit` is false,
            extents for which `chunks.chunk_bits` is None, a device number or another number beyond
            its field, an image of more than 2 TiB (with a tar of its own: either of more than 1 TiB).
        ValueError, TypeError: the tree is not one: data outside their area or off the grid of blocks,
            ``.`` or ``..`` as a name, data of another type of file, data of a file in two areas.
        OSError: the file cannot be written.
    """
    return _Writer(root, fd, place, tar_size, copied_size).write(uuid)


def set_root(root: Directory, fd: int) -> bool:
    """Give the root of an index the metadata of a directory without attributes; all else stays.

    The result is what `write_index` makes of the same tree with this root, byte for byte.

    Args:
        root: the directory.
        fd: the file with the index, open for reading and writing.

    Returns:
        False, and nothing was changed, if there is no index.

    Raises:
        OSError: the file cannot be read or written.
    """
    head = structures.parse_head(os.pread(fd, HEAD, 0))
    found = os.pread(fd, INODE_SIZE, head.root) if head else b""
    if not head or len(found) < INODE_SIZE:
        return False
    stream = PartWriter(fd, head.root)
    stream.write(structures.described_again(found, root.mode, root.uid, root.gid, root.mtime_ns))
    stream.flush()
    return True


class _Writer:
    """Writes one index, in four parts at the same time.

    Directories' inodes come first, then directories' data, then long targets of links, then all other
    inodes. Of the first three the sizes are known from the start.
    """

    def __init__(
        self, root: Directory, fd: int, place: Place, tar_size: int, copied_size: int
    ) -> None:
        self._root = root
        self._fd = fd
        self._place = place
        self._sizes = {Area.TAR: tar_size, Area.COPIED: copied_size}
        copied = copied_start(place, tar_size)
        tar = HEAD // BLOCK if place is Place.BEHIND_TAR else _TAR_AS_DEVICE
        self._first_blocks = {Area.TAR: tar, Area.COPIED: copied // BLOCK}
        self._before_tar = HEAD // BLOCK if place is Place.BEHIND_HEAD else 0
        self._start = copied + _rounded(copied_size)
        self._numbers_from = self._start - BLOCK
        self._shared: dict[int, int] = {}
        self._count = 0

    def write(self, uuid: bytes) -> Index:
        sizes = _measure(self._root)
        data_start = self._start + _rounded(sizes.directories)
        targets_start = data_start + sizes.data
        others_start = targets_start + sizes.targets
        self._check_numbers(others_start)
        self._directories = PartWriter(self._fd, self._start)
        self._data = PartWriter(self._fd, data_start)
        self._targets = PartWriter(self._fd, targets_start)
        self._others = PartWriter(self._fd, others_start)
        self._write_tree()
        for stream in (self._directories, self._data, self._targets, self._others):
            stream.pad(BLOCK)
            stream.flush()
        size = self._others.tell()
        self._check_numbers(size)
        self._write_head(size, uuid)
        return Index(size, self._count)

    def _check_numbers(self, size: int) -> None:
        """Check that blocks can be numbered; raise UnsupportedError otherwise."""
        most = [(size, structures.BLOCKS_MAX)]
        if self._place is not Place.BEHIND_TAR:
            device = _TAR_AS_DEVICE - self._before_tar
            most = [(size, device), (self._sizes[Area.TAR], _TAR_AS_DEVICE - 1)]
        for found, blocks in most:
            if found > blocks * BLOCK:
                raise UnsupportedError(
                    f"the layer takes {found} bytes, and an EROFS image {blocks * BLOCK} at most"
                )

    def _write_head(self, size: int, uuid: bytes) -> None:
        device = None
        if self._place is not Place.BEHIND_TAR:
            # So the tar's own blocks have the same numbers, whatever is before them in the device.
            blocks = self._before_tar + _rounded(self._sizes[Area.TAR]) // BLOCK
            device = structures.Device(blocks, _TAR_AS_DEVICE - self._before_tar)
        head = structures.head(
            root=_ROOT,
            inodes=self._count,
            blocks=size // BLOCK,
            meta_block=self._numbers_from // BLOCK,
            uuid=uuid,
            device=device,
        )
        stream = PartWriter(self._fd, 0)
        stream.write(head.ljust(HEAD, b"\0"))
        stream.flush()

    def _write_tree(self) -> None:
        """Write the directories, nearest to the root first, each with what is in it."""
        self._found = [self._root]
        self._parents = array("Q", [_ROOT])
        nid = _ROOT
        self._next_nid = _ROOT + _directory_slots(self._root)
        for at, directory in enumerate(self._found):  # it grows meanwhile
            self._write_directory(directory, nid, self._parents[at])
            nid += _directory_slots(directory)

    def _write_directory(self, directory: Directory, nid: int, parent: int) -> None:
        first = self._data.tell()
        for block in structures.directory_blocks(self._entries(directory, nid, parent)):
            self._data.write(block)
        size = self._data.tell() - first
        self._data.pad(BLOCK)
        links = 2 + sum(isinstance(child, Directory) for child in directory.entries.values())
        stream = self._directories
        self._write_inode(stream, directory, structures.FLAT, size, first // BLOCK, links)
        stream.pad(SLOT)

    def _entries(
        self, directory: Directory, nid: int, parent: int
    ) -> Iterator[tuple[bytes, int, int]]:
        """Yield the name, inode and type of a directory's entries; write what is not a directory."""
        entries = directory.entries
        if b"." in entries or b".." in entries:
            raise ValueError("a directory's own name is among its entries")
        for name in sorted((*entries, b".", b"..")):
            child = entries.get(name)
            if child is None:
                yield name, nid if name == b"." else parent, structures.DIRECTORY
            elif isinstance(child, Directory):
                yield name, self._next_nid, structures.DIRECTORY
                self._next_nid += _directory_slots(child)
                self._found.append(child)
                self._parents.append(nid)
            elif isinstance(child, bytes):
                yield name, self._write_packed(child), structures.REGULAR_FILE
            else:
                yield name, self._number_of(child), _type(child)

    def _write_packed(self, packed: bytes) -> int:
        """Write what most files are, a `packed_file`, without making an `Inode` of it."""
        mode, uid, gid, mtime_ns, size, offset = packed_fields(packed)
        self._count += 1
        block = self._block(Area.TAR, offset, size) if size else 0
        number = self._count & 0xFFFFFFFF
        nid = self._nid(self._others.tell())
        self._others.write(
            structures.inode(
                structures.FLAT, 0, mode, size, block, number, uid, gid, mtime_ns, links=1
            )
        )
        return nid

    def _number_of(self, inode: Inode) -> int:
        """Return the number of an inode, which is written when its first name is seen."""
        if inode.links == 1:
            return self._write_other(inode)
        nid = self._shared.get(id(inode))
        if nid is None:
            nid = self._shared[id(inode)] = self._write_other(inode)
        return nid

    def _write_other(self, inode: Inode) -> int:
        stream = self._others
        kind = stat.S_IFMT(inode.mode)
        if kind == stat.S_IFREG:
            return self._write_file(inode)
        if kind == stat.S_IFLNK:
            return self._write_link(inode)
        place = 0
        if kind in (stat.S_IFCHR, stat.S_IFBLK):
            place = structures.device_number(os.major(inode.rdev), os.minor(inode.rdev))
        nid = self._nid(stream.tell())
        self._write_inode(stream, inode, structures.FLAT, 0, place, inode.links)
        stream.pad(SLOT)
        return nid

    def _write_file(self, inode: Inode) -> int:
        stream = self._others
        nid = self._nid(stream.tell())
        data = inode.data
        size = inode.size
        if isinstance(data, int):
            block = self._block(Area.TAR, data, size) if size else 0
            self._write_inode(stream, inode, structures.FLAT, size, block, inode.links)
        elif isinstance(data, bytes):
            raise TypeError("a regular file has a target")
        elif len(data) == 1 and data[0].at == 0 and data[0].length == size:
            block = self._block(data[0].area, data[0].offset, size)
            self._write_inode(stream, inode, structures.FLAT, size, block, inode.links)
        elif not size:
            self._write_inode(stream, inode, structures.FLAT, 0, 0, inode.links)
        else:
            bits = chunks.chunk_bits(size, data)
            if bits is None:
                raise UnsupportedError(f"EROFS cannot hold a sparse file of {len(data)} pieces")
            self._write_inode(stream, inode, structures.CHUNKS, size, bits, inode.links)
            for piece in chunks.chunk_list(size, bits, self._mapped(data)):
                stream.write(piece)
        stream.pad(SLOT)
        return nid

    def _write_link(self, inode: Inode) -> int:
        target = inode.data
        if not isinstance(target, bytes):
            raise TypeError("a symbolic link has no target")
        if not 0 < len(target) <= structures.TARGET_MAX:
            raise UnsupportedError(f"EROFS cannot hold a link's target of {len(target)} bytes")
        stream = self._others
        taken = _inline_size(inode)
        if taken > BLOCK:
            block = self._targets.tell() // BLOCK
            self._targets.write(target)
            self._targets.pad(BLOCK)
            nid = self._nid(stream.tell())
            self._write_inode(stream, inode, structures.FLAT, len(target), block, inode.links)
        else:
            if stream.tell() % BLOCK + taken > BLOCK:  # the kernel wants both in one block
                stream.pad(BLOCK)
            nid = self._nid(stream.tell())
            self._write_inode(stream, inode, structures.INLINE, len(target), 0, inode.links)
            stream.write(target)
        stream.pad(SLOT)
        return nid

    def _write_inode(
        self,
        stream: PartWriter,
        inode: Inode | Directory,
        layout: int,
        size: int,
        place: int,
        links: int,
    ) -> None:
        self._count += 1
        xattrs = structures.attributes(inode.xattrs) if inode.xattrs else b""
        stream.write(
            structures.inode(
                layout,
                len(xattrs),
                inode.mode,
                size,
                place,
                self._count & 0xFFFFFFFF,
                inode.uid,
                inode.gid,
                inode.mtime_ns,
                links,
            )
        )
        if xattrs:
            stream.write(xattrs)

    def _nid(self, at: int) -> int:
        return (at - self._numbers_from) // SLOT

    def _block(self, area: Area, offset: int, length: int) -> int:
        """Return the first block of data.

        Raises:
            ValueError: they are outside their area, or begin in the middle of a block.
        """
        if offset % BLOCK or offset < 0 or offset + length > self._sizes[area]:
            raise ValueError(f"{length} bytes at {offset} of the {area.value} data")
        return self._first_blocks[area] + offset // BLOCK

    def _mapped(self, extents: tuple[Extent, ...]) -> Iterator[tuple[int, int, int]]:
        # Linux 6.18 reads wrong data of a file in two devices: where a block of the second follows, by
        # its number alone, the last one that was read of the first, it reads on in the first.
        if len({extent.area for extent in extents}) > 1:
            raise ValueError("a file's data are in two areas")
        for at, area, offset, length in extents:
            yield at, length, self._block(area, offset, length)


class _Sizes(NamedTuple):
    """How many bytes directories' inodes take, directories' data, and long targets of links."""

    directories: int
    data: int
    targets: int


def _measure(root: Directory) -> _Sizes:
    """Count the names of each inode, and measure what comes before the inodes of files."""
    found = [root]
    for directory in found:  # it grows meanwhile
        for child in directory.entries.values():
            if isinstance(child, Directory):
                found.append(child)
            elif isinstance(child, Inode):
                child.links = 0
    directories = data = targets = 0
    for directory in found:
        directories += _directory_slots(directory) * SLOT
        data += _rounded(structures.directory_size(directory.entries))
        for child in directory.entries.values():
            if not isinstance(child, Inode):
                continue
            child.links += 1
            if isinstance(child.data, bytes) and child.links == 1 and _inline_size(child) > BLOCK:
                targets += _rounded(len(child.data))
    return _Sizes(directories, data, targets)


def _directory_slots(directory: Directory) -> int:
    return -(-(INODE_SIZE + structures.attributes_size(directory.xattrs)) // SLOT)


def _inline_size(inode: Inode) -> int:
    """Return how many bytes a symbolic link takes with its target behind it."""
    assert isinstance(inode.data, bytes)
    return INODE_SIZE + structures.attributes_size(inode.xattrs) + len(inode.data)


def _type(inode: Inode) -> int:
    try:
        return structures.TYPES[stat.S_IFMT(inode.mode)]
    except KeyError:
        raise ValueError(f"mode {inode.mode:o} has no type of file") from None


def _rounded(size: int) -> int:
    """Return a size in whole blocks, in bytes."""
    return size + -size % BLOCK
