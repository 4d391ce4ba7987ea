"""Layers that hypothesis makes up: trees with data to index, and what they must look like."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from graphdriver.layer.erofs.chunks import chunk_bits
from graphdriver.layer.erofs.structures import BLOCK, attributes_fit
from graphdriver.layer.erofs.tree import (
    Area,
    Directory,
    Extent,
    Inode,
    Node,
    unpacked_file,
)
from graphdriver.linux.acl import ACCESS_ACL, DEFAULT_ACL

Shown = dict[bytes, tuple[Any, ...]]
"""What a tree shows: for each path its metadata and content."""

DATA_BLOCKS = 40
FILE = stat.S_IFREG | 0o644
DIRECTORY = stat.S_IFDIR | 0o755
LINK = stat.S_IFLNK | 0o777
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


def blocks(count: int, sign: bytes) -> bytes:
    """Return blocks of which none is another one."""
    return b"".join((sign + b"%d." % number).ljust(BLOCK, sign) for number in range(count))


@dataclass(repr=False)
class Layer:
    """A tree and the data that it refers to."""

    root: Directory = field(default_factory=lambda: Directory(DIRECTORY, 0, 0, 0))
    tar: bytes = field(default=blocks(DATA_BLOCKS, b"t"), repr=False)
    copied: bytes = field(default=blocks(DATA_BLOCKS, b"c"), repr=False)

    def __repr__(self) -> str:
        """Return a text short enough for hypothesis."""
        text = ", ".join(f"{path!r:.40}: {one!r:.300}" for path, one in self.everything())
        return f"Layer({text[:20_000]})"

    def content(self, inode: Inode) -> bytes:
        """Return what is read from a regular file."""
        data = inode.data
        if isinstance(data, int):
            return self.tar[data : data + inode.size]
        assert isinstance(data, tuple)
        content = bytearray(inode.size)
        for at, area, offset, length in data:
            source = self.tar if area is Area.TAR else self.copied
            content[at : at + length] = source[offset : offset + length]
        return bytes(content)

    def shown(self) -> Shown:
        """Return what its image must show."""
        found: Shown = {}
        names: dict[int, list[bytes]] = {}
        for path, one in list(self.everything()):  # all at once: ids are those of living objects
            if isinstance(one, Directory):
                links = 2 + sum(isinstance(child, Directory) for child in one.entries.values())
                what: object = sorted(one.entries)
                found[path] = (*_metadata(one), what, links)
                continue
            names.setdefault(id(one), []).append(path)
            if stat.S_ISREG(one.mode):
                what = self.content(one)
            elif stat.S_ISLNK(one.mode):
                what = one.data
            else:
                what = one.rdev
            found[path] = (*_metadata(one), what, names[id(one)])
        return {path: settled(*facts) for path, facts in found.items()}

    def everything(self) -> Iterator[tuple[bytes, Inode | Directory]]:
        """Yield each path, ``b""`` for the root, with what is there."""
        left: list[tuple[bytes, Inode | Directory]] = [(b"", self.root)]
        while left:
            path, one = left.pop()
            yield path, one
            if isinstance(one, Directory):
                for name, child in one.entries.items():
                    node = unpacked_file(child) if isinstance(child, bytes) else child
                    left.append((b"%b/%b" % (path, name), node))


def settled(*facts: Any) -> tuple[Any, ...]:
    """Return what is shown at a name, with the count and the first of all names of its file."""
    *rest, names = facts
    return (*rest, len(names), min(names)) if isinstance(names, list) else facts


def _metadata(one: Inode | Directory) -> tuple[Any, ...]:
    return one.mode, one.uid, one.gid, one.mtime_ns, one.xattrs or {}


def acl(*named: int) -> bytes:
    """Return an access control list with users."""
    entries = [(1, 7, 0xFFFFFFFF), *((2, 5, id) for id in sorted(named)), (4, 5, 0xFFFFFFFF)]
    entries += [(16, 5, 0xFFFFFFFF), (32, 1, 0xFFFFFFFF)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in entries)


def every_kind() -> Layer:
    """Return a small layer with every kind of inode, always the same."""
    several = Inode(FILE, 1000, 1001, 10**18 + 5, size=700, data=3 * BLOCK)
    sparse = Extent(BLOCK, Area.TAR, BLOCK, BLOCK), Extent(8 * BLOCK, Area.TAR, 0, 2 * BLOCK)
    device = os.makedev(259, 4097)
    many: dict[bytes, Node] = {b"%d" % number: several for number in range(50)}
    xattrs = {b"security.capability": CAPABILITY, b"user.b": b"v" * 600, ACCESS_ACL: acl(5)}
    entries: dict[bytes, Node] = {
        b"attributes": Inode(FILE, 0, 0, -1, size=1, data=0, xattrs=xattrs),
        b"block": Inode(stat.S_IFBLK | 0o660, 0, 6, 0, rdev=device),
        b"character": Inode(stat.S_IFCHR | 0o620, 0, 5, 0, rdev=device),
        b"copied": Inode(FILE, 0, 0, 0, size=9, data=(Extent(0, Area.COPIED, 3 * BLOCK, 9),)),
        b"empty": Inode(FILE, 0, 0, 0),
        b"fifo": Inode(stat.S_IFIFO | 0o600, 0, 0, 0),
        b"hole": Inode(FILE, 0, 0, 0, size=10**7, data=()),
        b"link": Inode(LINK, 0, 0, 0, size=6, data=b"target"),
        b"long link": Inode(LINK, 0, 0, 0, size=4095, data=b"t" * 4095),
        b"many": Directory(stat.S_IFDIR | 0o1777, 0, 0, 0, entries=many),
        b"opaque": Directory(DIRECTORY, 0, 0, 0, xattrs={b"trusted.overlay.opaque": b"y"}),
        b"sparse": Inode(FILE, 0, 0, 0, size=20 * BLOCK, data=sparse),
        b"whiteout": Inode(stat.S_IFCHR, 0, 0, 0),
    }
    return Layer(Directory(DIRECTORY, 0, 0, 0, entries=entries))


VALUES = st.binary(max_size=9) | st.sampled_from([100, 487, 1500, 65_535]).map(lambda n: b"v" * n)
ON_ALL = (b"trusted.", b"security.")
NAMES_REST = st.sampled_from([b"a", b"overlay.opaque", b"\xff\n=", b"x" * 240])
ACLS = st.lists(st.integers(0, 2**32 - 2), min_size=1, max_size=3, unique=True).map(
    lambda ids: acl(*ids)
)


def _xattrs(prefixes: tuple[bytes, ...], acls: tuple[bytes, ...]) -> st.SearchStrategy[Any]:
    plain = st.dictionaries(
        st.builds(bytes.__add__, st.sampled_from(prefixes), NAMES_REST), VALUES, max_size=4
    )
    lists = st.dictionaries(st.sampled_from(acls), ACLS) if acls else st.just({})
    return st.none() | st.builds(lambda a, b: {**a, **b}, plain, lists).filter(attributes_fit)


XATTRS_ELSEWHERE = _xattrs(ON_ALL, ())
XATTRS_OF_FILES = _xattrs((*ON_ALL, b"user."), (ACCESS_ACL,))
XATTRS_OF_DIRECTORIES = _xattrs((*ON_ALL, b"user."), (ACCESS_ACL, DEFAULT_ACL))

IDS = st.sampled_from([0, 1, 65_534, 2**16, 2**32 - 2])
TIMES = st.sampled_from([0, -1, 1, 10**18 + 1, -(2**62) * 10**9, 2**62 * 10**9 + 999_999_999]) | (
    st.integers(-(10**20), 10**20)
)
PERMISSIONS = st.integers(0, 0o7777)
NAMES = st.sampled_from([b"-", b"a", b".a", b"..a", b"\xff", b"\x01", b"n" * 255]) | st.binary(
    min_size=1, max_size=255
).map(lambda name: name.replace(b"/", b"-").replace(b"\0", b"-")).filter(
    lambda name: name not in {b".", b".."}
)
TARGETS = st.sampled_from([1, 2, 447, 448, 449, 512, 4095]).map(lambda n: b"t" * n) | st.binary(
    min_size=1, max_size=600
).map(lambda target: target.replace(b"\0", b"/"))
SPECIAL = {
    "whiteout": (stat.S_IFCHR, st.just(0)),
    "character": (
        stat.S_IFCHR,
        st.builds(os.makedev, st.integers(0, 4095), st.integers(0, 2**20 - 1)),
    ),
    "block": (stat.S_IFBLK, st.builds(os.makedev, st.integers(0, 4095), st.integers(0, 2**20 - 1))),
    "fifo": (stat.S_IFIFO, st.just(0)),
}


@st.composite
def extents(draw: st.DrawFn) -> tuple[int, tuple[Extent, ...]]:
    """Make up the size of a sparse file, and extents on the grid of blocks."""
    grid = BLOCK << draw(st.integers(0, 4))
    area = draw(st.sampled_from(Area))
    found = []
    at = 0
    for _ in range(draw(st.integers(0, 4))):
        at += grid * draw(st.integers(0, 3))
        length = grid * draw(st.integers(1, max(1, DATA_BLOCKS * BLOCK // grid // 4)))
        first = draw(st.integers(0, DATA_BLOCKS - length // BLOCK))
        found.append(Extent(at, area, first * BLOCK, length))
        at += length
    size = at + draw(st.integers(0, 20 * grid))
    if found and size == at and draw(st.booleans()):  # the last block is not a whole one
        last = found.pop()
        less = draw(st.integers(1, BLOCK - 1))
        found.append(last._replace(length=last.length - less))
        size -= less
    assert not size or chunk_bits(size, found) is not None
    return size, tuple(found)


@st.composite
def inodes(draw: st.DrawFn) -> Inode:
    """Make up anything but a directory."""
    kind = draw(st.sampled_from(["file", "file", "sparse", "link", "special"]))
    common = draw(PERMISSIONS), draw(IDS), draw(IDS), draw(TIMES)
    if kind == "special":
        type, numbers = SPECIAL[draw(st.sampled_from(sorted(SPECIAL)))]
        xattrs = draw(XATTRS_ELSEWHERE)
        return Inode(type | common[0], *common[1:], rdev=draw(numbers), xattrs=xattrs)
    if kind == "link":
        target = draw(TARGETS)
        return Inode(
            LINK, *common[1:], size=len(target), data=target, xattrs=draw(XATTRS_ELSEWHERE)
        )
    data: int | tuple[Extent, ...]
    if kind == "sparse":
        size, data = draw(extents())
    else:
        first = draw(st.integers(0, DATA_BLOCKS))
        size = draw(st.integers(0, (DATA_BLOCKS - first) * BLOCK))
        data = first * BLOCK
    xattrs = draw(XATTRS_OF_FILES)
    return Inode(stat.S_IFREG | common[0], *common[1:], size=size, data=data, xattrs=xattrs)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    """Make up a layer; directories may have one block or several, and files several names."""
    layer = Layer()
    directories = [layer.root]
    files: list[Inode] = []
    layer.root.xattrs = draw(XATTRS_OF_DIRECTORIES)
    for _ in range(draw(st.integers(0, 12))):
        above = draw(st.sampled_from(directories))
        name = draw(NAMES)
        if name in above.entries:
            continue
        kind = draw(st.sampled_from(["directory", "many", "again", "new", "new", "new"]))
        if kind in {"directory", "many"}:
            mode = stat.S_IFDIR | draw(PERMISSIONS)
            made = Directory(
                mode, draw(IDS), draw(IDS), draw(TIMES), xattrs=draw(XATTRS_OF_DIRECTORIES)
            )
            directories.append(made)
            above.entries[name] = made
            if kind == "many":
                inode = draw(inodes())
                length = draw(st.integers(1, 250))
                for number in range(draw(st.integers(1, 120))):
                    made.entries[b"%d" % number + b"." * length] = inode
        elif kind == "again" and files:
            above.entries[name] = draw(st.sampled_from(files))
        else:
            made_inode = draw(inodes())
            files.append(made_inode)
            above.entries[name] = made_inode
    return layer
