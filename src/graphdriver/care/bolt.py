"""Reads a bolt database (bbolt): a file of pages that hold buckets, which are sorted maps of bytes.

A database is read as a whole and checked as ``bbolt check`` does: every page has the number of its
place and a known kind, is used once, and is either used or free; keys are sorted, and lie between those
of the branch above. So a part that a crash or a disk has taken away is an error, never a record less.

- Pages 0 and 1 hold the meta, which each transaction writes to one of them in turn, after its pages.
  The newest whole one counts. All else is copied on write: the pages of a meta stay as they are until
  the next but one is written. So no lock is needed, even beside a writer: if the meta is the same after
  reading, the pages were.
- Numbers have the byte order of the machine.

The format is that of bbolt's ``internal/common`` (page.go, meta.go, inode.go) and ``bucket.go``.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, Union

Tree: TypeAlias = dict[bytes, Union[bytes, "Tree"]]
"""A bucket: its values and its inner buckets by their keys."""

LIMIT: Final = 1 << 30
"""The most bytes of a database that is read: all of it is kept in memory."""

_MAGIC: Final = 0xED0CDAED
_VERSION: Final = 2
_PAGE_SIZES: Final = tuple(1024 << shift for shift in range(16))
_NO_FREELIST: Final = 0xFFFF_FFFF_FFFF_FFFF
_COUNT_INSIDE: Final = 0xFFFF
"""The count of a list of free pages that is too long for its field: its first number is the count."""
_LONGEST_KEY: Final = 32768

_META: Final = struct.Struct("=4I2Q2QQQ")
"""Magic, version, page size, flags; root bucket; free list, number of pages, transaction, checksum."""
_PAGE: Final = struct.Struct("=QHHI")
"""Number, kind, count of elements, number of pages that follow and belong to it."""
_BUCKET: Final = struct.Struct("=QQ")
"""Page of the root, sequence number."""
_BRANCH_ELEMENT: Final = struct.Struct("=2IQ")
"""Position of the key from the element on, its length, page."""
_LEAF_ELEMENT: Final = struct.Struct("=4I")
"""Kind, position of the key from the element on, length of the key and of the value."""

_IS_BRANCH, _IS_LEAF, _IS_META, _IS_FREELIST = 0x01, 0x02, 0x04, 0x10
_IS_BUCKET: Final = 0x01
_TRIES: Final = 20


class BoltError(Exception):
    """The database cannot be read, or is damaged; the text does not name its file."""


def read_bolt(path: str) -> Tree:
    """Return the whole content of a database; another process may write to it meanwhile.

    Args:
        path: the file.

    Raises:
        BoltError: it is damaged, is not such a database, or changes too often.
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            meta = _newest_meta(fd)
            try:
                tree = _Pages(fd, meta).tree()
            except BoltError:
                if _newest_meta(fd) == meta:
                    raise
            else:
                if _newest_meta(fd) == meta:
                    return tree
    finally:
        os.close(fd)
    raise BoltError("it changes while it is read")


@dataclass(frozen=True, slots=True)
class _Meta:
    page_size: int
    root: int
    freelist: int
    pages: int
    transaction: int


def _newest_meta(fd: int) -> _Meta:
    """Return the meta that counts.

    Raises:
        BoltError: neither one counts, or the file cannot hold the pages that it counts.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise BoltError("it is not a regular file")
    if status.st_size > LIMIT:
        raise BoltError(f"it has more than {LIMIT} bytes")
    first = _meta(fd, 0)
    sizes = (first.page_size,) if first else _PAGE_SIZES
    found = [first, *(_meta(fd, size) for size in sizes)]
    whole = [one for one in found if one]
    if not whole:
        raise BoltError("it has no whole meta page of the known version")
    newest = max(whole, key=lambda one: one.transaction)
    if newest.pages * newest.page_size > status.st_size:
        raise BoltError(f"it has {status.st_size} bytes, and should have {newest.pages} pages")
    return newest


def _meta(fd: int, at: int) -> _Meta | None:
    """Return the meta in the page that begins at an offset, if there is a whole one."""
    page = os.pread(fd, _PAGE.size + _META.size, at)
    if len(page) < _PAGE.size + _META.size:
        return None
    number, kind, _, _ = _PAGE.unpack_from(page)
    magic, version, page_size, _, root, _, freelist, pages, transaction, checksum = (
        _META.unpack_from(page, _PAGE.size)
    )
    summed = page[_PAGE.size : -8]
    if (magic, version, kind & _IS_META, checksum) != (_MAGIC, _VERSION, _IS_META, _fnv(summed)):
        return None
    if page_size not in _PAGE_SIZES or at != number * page_size or number > 1:
        return None
    return _Meta(page_size, root, freelist, pages, transaction)


def _fnv(data: bytes) -> int:
    """Return the FNV-1a hash of 64 bits."""
    found = 0xCBF29CE484222325
    for byte in data:
        found = (found ^ byte) * 0x100000001B3 & 0xFFFF_FFFF_FFFF_FFFF
    return found


@dataclass(frozen=True, slots=True)
class _Page:
    """A page with all that follow and belong to it, or a bucket that is all in a value of one.

    ``name`` is for errors.
    """

    name: str
    kind: int
    count: int
    data: bytes
    is_inline: bool = False

    def piece(self, start: int, size: int) -> bytes:
        """Return a piece of it.

        Raises:
            BoltError: it reaches over the end.
        """
        found = self.data[start : start + size]
        if len(found) != size:
            raise BoltError(f"{self.name} has an element that reaches over its end")
        return found

    def elements(self, form: struct.Struct) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield where each element begins, and its fields."""
        for at in range(_PAGE.size, _PAGE.size + self.count * form.size, form.size):
            yield at, form.unpack(self.piece(at, form.size))


@dataclass(slots=True)
class _Range:
    """The keys that a page may have: from ``first`` on, before ``end``; None: no bound."""

    first: bytes
    end: bytes | None

    def take(self, page: _Page, key: bytes) -> None:
        """Check the next key of a page, and move the bound behind it.

        Raises:
            BoltError: it is out of order.
        """
        if not 0 < len(key) <= _LONGEST_KEY:
            raise BoltError(f"{page.name} has a key of {len(key)} bytes")
        if key < self.first or (self.end is not None and key >= self.end):
            raise BoltError(f"{page.name} has keys out of order")
        self.first = key + b"\0"


class _Pages:
    """The pages of one transaction's state."""

    def __init__(self, fd: int, meta: _Meta) -> None:
        self._fd = fd
        self._meta = meta
        self._used = {0, 1}

    def tree(self) -> Tree:
        """Return the root bucket, with all in it."""
        root: Tree = {}
        waiting = [(self._meta.root, root)]
        while waiting:
            page, bucket = waiting.pop()
            waiting += self._read_bucket(page, bucket)
        self._check_free()
        return root

    def _read_bucket(self, root: int, bucket: Tree) -> list[tuple[int, Tree]]:
        """Fill in a bucket; return its inner buckets, which are still empty, and their pages."""
        inner: list[tuple[int, Tree]] = []
        waiting = [(root, _Range(b"", None))]
        while waiting:
            number, range_ = waiting.pop()
            page = self._page(number)
            if page.kind == _IS_LEAF:
                inner += _read_leaf(page, range_, bucket)
            elif page.kind == _IS_BRANCH:
                waiting += reversed(_read_branch(page, range_))
            else:
                raise BoltError(f"{page.name} is of kind {page.kind}, and belongs to a bucket")
        return inner

    def _page(self, number: int) -> _Page:
        """Read a page, which was not read before.

        Raises:
            BoltError: it is not where it should be, or is used twice.
        """
        size = self._meta.page_size
        if not 1 < number < self._meta.pages:
            raise BoltError(f"page {number} does not exist")
        header = os.pread(self._fd, _PAGE.size, number * size)
        if len(header) != _PAGE.size:
            raise BoltError(f"page {number} is cut off")
        own, kind, count, more = _PAGE.unpack(header)
        if own != number:
            raise BoltError(f"page {number} says that it is page {own}")
        if number + more >= self._meta.pages:
            raise BoltError(f"page {number} reaches over the end")
        numbers = range(number, number + more + 1)
        if not self._used.isdisjoint(numbers):
            raise BoltError(f"page {number} is used twice")
        self._used.update(numbers)
        data = os.pread(self._fd, len(numbers) * size, number * size)
        if len(data) != len(numbers) * size:
            raise BoltError(f"page {number} is cut off")
        return _Page(f"page {number}", kind, count, data)

    def _check_free(self) -> None:
        """Check that each page is either used or free, if the database has a list of free pages."""
        if self._meta.freelist == _NO_FREELIST:
            return
        page = self._page(self._meta.freelist)
        if page.kind != _IS_FREELIST:
            raise BoltError(f"{page.name} is not the list of free pages")
        start, count = _PAGE.size, page.count
        if count == _COUNT_INSIDE:
            (count,) = struct.unpack("=Q", page.piece(start, 8))
            start += 8
        if count > self._meta.pages:
            raise BoltError(f"{page.name} lists {count} free pages")
        free = set(struct.unpack(f"={count}Q", page.piece(start, 8 * count)))
        if not self._used.isdisjoint(free):
            raise BoltError("a page that is used is listed as free")
        if len(free) != count or len(self._used) + count != self._meta.pages:
            raise BoltError("some pages are neither used nor free")


def _read_branch(page: _Page, range_: _Range) -> list[tuple[int, _Range]]:
    """Return the pages below a branch, and the keys that each may have."""
    below = []
    for at, (position, key_size, number) in page.elements(_BRANCH_ELEMENT):
        key = page.piece(at + position, key_size)
        range_.take(page, key)
        below.append((number, key))
    if not below:
        raise BoltError(f"{page.name} is a branch without pages")
    ends = [*(key for _, key in below[1:]), range_.end]
    return [(number, _Range(key, end)) for (number, key), end in zip(below, ends, strict=True)]


def _read_leaf(page: _Page, range_: _Range, bucket: Tree) -> list[tuple[int, Tree]]:
    """Fill in the elements of a leaf; return its inner buckets that have pages of their own."""
    inner: list[tuple[int, Tree]] = []
    left = len(page.data)
    for at, (kind, position, key_size, value_size) in page.elements(_LEAF_ELEMENT):
        left -= key_size + value_size
        if left < 0:
            raise BoltError(f"{page.name} has elements that overlap")
        key = page.piece(at + position, key_size)
        value = page.piece(at + position + key_size, value_size)
        range_.take(page, key)
        if kind == 0:
            bucket[key] = value
        elif kind == _IS_BUCKET and page.is_inline:
            raise BoltError(f"{page.name} has a bucket in it")
        elif kind == _IS_BUCKET:
            below: Tree = {}
            bucket[key] = below
            if root := _root_of(page, value):
                inner.append((root, below))
            else:
                _read_inline(page, value, below)
        else:
            raise BoltError(f"{page.name} has an element of kind {kind}")
    return inner


def _root_of(page: _Page, value: bytes) -> int:
    """Return the page of a bucket's root; 0 if the bucket is all in the value."""
    if len(value) < _BUCKET.size:
        raise BoltError(f"{page.name} has a bucket of {len(value)} bytes")
    root: int = _BUCKET.unpack_from(value)[0]
    return root


def _read_inline(above: _Page, value: bytes, bucket: Tree) -> None:
    """Fill in a small bucket: a leaf without inner buckets, in the value itself."""
    data = value[_BUCKET.size :]
    if len(data) < _PAGE.size:
        raise BoltError(f"{above.name} has a bucket of {len(value)} bytes")
    _, kind, count, _ = _PAGE.unpack_from(data)
    page = _Page(f"a bucket in {above.name}", kind, count, data, is_inline=True)
    if kind != _IS_LEAF:
        raise BoltError(f"{page.name} is of kind {kind}")
    _read_leaf(page, _Range(b"", None), bucket)
