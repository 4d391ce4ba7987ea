"""Bolt databases made by hand, page by page."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from graphdriver.care.bolt import Tree

SIZE = 1024
BRANCH, LEAF, META, FREELIST = 1, 2, 4, 16
NO_FREELIST = 0xFFFF_FFFF_FFFF_FFFF


def fnv(data: bytes) -> int:
    found = 14695981039346656037
    for byte in data:
        found = (found ^ byte) * 1099511628211 % 2**64
    return found


def meta(
    transaction: int,
    *,
    root: int = 3,
    freelist: int = 2,
    pages: int = 4,
    page_size: int = SIZE,
    version: int = 2,
) -> bytes:
    """Return the meta page of a transaction."""
    body = struct.pack(
        "=4I5Q", 0xED0CDAED, version, page_size, 0, root, 0, freelist, pages, transaction
    )
    return page(transaction % 2, META, 0, body + struct.pack("=Q", fnv(body)), page_size)


def page(
    number: int, kind: int, count: int, body: bytes, page_size: int = SIZE, *, more: int = 0
) -> bytes:
    """Return a page, and those that follow and belong to it."""
    whole = struct.pack("=QHHI", number, kind, count, more) + body
    assert len(whole) <= page_size * (more + 1)
    return whole.ljust(page_size * (more + 1), b"\0")


def leaf_body(elements: Sequence[tuple[int, bytes, bytes]]) -> bytes:
    """Return a leaf's elements: kind, key and value of each."""
    heads, data = b"", b""
    for at, (kind, key, value) in enumerate(elements):
        position = (len(elements) - at) * 16 + len(data)
        heads += struct.pack("=4I", kind, position, len(key), len(value))
        data += key + value
    return heads + data


def leaf(number: int, *elements: tuple[int, bytes, bytes]) -> bytes:
    body = leaf_body(elements)
    more = (16 + len(body) - 1) // SIZE
    return page(number, LEAF, len(elements), body, more=more)


def branch(number: int, *below: tuple[bytes, int]) -> bytes:
    heads, data = b"", b""
    for at, (key, child) in enumerate(below):
        heads += struct.pack("=2IQ", (len(below) - at) * 16 + len(data), len(key), child)
        data += key
    return page(number, BRANCH, len(below), heads + data)


def freelist(number: int, *free: int) -> bytes:
    return page(number, FREELIST, len(free), struct.pack(f"={len(free)}Q", *free))


def inline(*elements: tuple[int, bytes, bytes], kind: int = LEAF) -> bytes:
    """Return the value of a small bucket, which is all in it."""
    return struct.pack("=2QQHHI", 0, 0, 0, kind, len(elements), 0) + leaf_body(elements)


def bucket(root: int) -> bytes:
    """Return the value of a bucket with pages of its own."""
    return struct.pack("=2Q", root, 0)


def write_bolt(path: Path, tree: Tree) -> None:
    """Write a database in which each bucket is one leaf."""
    pages: list[bytes] = []

    def add(tree: Tree) -> int:
        elements = [
            (
                int(isinstance(value, dict)),
                key,
                bucket(add(value)) if isinstance(value, dict) else value,
            )
            for key, value in sorted(tree.items())
        ]
        number = 3 + sum(len(one) for one in pages) // SIZE
        pages.append(leaf(number, *elements))
        return number

    root = add(tree)
    count = 3 + sum(len(one) for one in pages) // SIZE
    metas = (meta(number, root=root, pages=count) for number in (4, 3))
    path.write_bytes(b"".join((*metas, freelist(2), *pages)))
