"""The reader of bolt databases: what it reads, and that no damage passes for a smaller database."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdriver.care.bolt import LIMIT, BoltError, Tree, read_bolt
from tests.support.bolt_pages import (
    BRANCH,
    LEAF,
    NO_FREELIST,
    SIZE,
    branch,
    bucket,
    freelist,
    inline,
    leaf,
    meta,
    page,
    write_bolt,
)
from tests.support.long import times

TWO_METAS = [meta(4), meta(3)]
ONE_LEAF = leaf(3, (0, b"a", b"1"), (0, b"b", b"2"))


def written(folder: Path, *pages: bytes) -> str:
    path = folder / "some.db"
    path.write_bytes(b"".join(pages))
    return str(path)


def test_values_and_buckets_are_read(tmp_path: Path) -> None:
    tree: Tree = {
        b"empty": {},
        b"large": b"x" * 5000,
        b"outer": {b"inner": {b"key": b"value", b"none": b""}},
        b"small": b"value",
    }
    path = tmp_path / "some.db"
    write_bolt(path, tree)
    assert read_bolt(str(path)) == tree


def test_a_small_bucket_is_in_the_value(tmp_path: Path) -> None:
    small = inline((0, b"key", b"value"))
    path = written(tmp_path, *TWO_METAS, freelist(2), leaf(3, (1, b"small", small)))
    assert read_bolt(path) == {b"small": {b"key": b"value"}}


def test_a_branch_leads_to_its_leaves(tmp_path: Path) -> None:
    metas = [meta(number, pages=7) for number in (4, 3)]
    pages = [
        branch(3, (b"a", 4), (b"m", 5)),
        leaf(4, (0, b"a", b"1"), (0, b"c", b"2")),
        leaf(5, (0, b"m", b"3")),
        page(6, 0, 0, b"free"),
    ]
    assert read_bolt(written(tmp_path, *metas, freelist(2, 6), *pages)) == {
        b"a": b"1",
        b"c": b"2",
        b"m": b"3",
    }


def test_the_newest_whole_meta_counts(tmp_path: Path) -> None:
    old, new = leaf(3, (0, b"old", b"")), leaf(4, (0, b"new", b""))
    metas = [meta(6, root=4, pages=5), meta(5, root=3, pages=5)]
    free = [freelist(2, 3)]
    assert read_bolt(written(tmp_path, *metas, *free, old, new)) == {b"new": b""}
    torn = metas[0][:60] + bytes(SIZE - 60)
    assert read_bolt(written(tmp_path, torn, metas[1], freelist(2, 4), old, new)) == {b"old": b""}


def test_a_database_without_a_list_of_free_pages_is_read(tmp_path: Path) -> None:
    metas = [meta(number, freelist=NO_FREELIST) for number in (4, 3)]
    unused = page(2, 0, 0, b"")
    assert set(read_bolt(written(tmp_path, *metas, unused, ONE_LEAF))) == {b"a", b"b"}


def test_a_long_list_of_free_pages_has_its_count_inside(tmp_path: Path) -> None:
    count = 70_000
    more = (16 + 8 * (count + 1)) // SIZE
    first_free = 3 + more + 1
    body = struct.pack(f"={count + 1}Q", count, *range(first_free, first_free + count))
    metas = [meta(number, root=2, freelist=3, pages=first_free + count) for number in (4, 3)]
    path = written(tmp_path, *metas, leaf(2), page(3, 16, 0xFFFF, body, more=more))
    os.truncate(path, (first_free + count) * SIZE)
    assert read_bolt(path) == {}


def nested(depth: int) -> bytes:
    """Return the value of a small bucket with as many in it, each in the one before."""
    value = inline()
    for _ in range(depth):
        value = inline((1, b"b", value))
    return value


DEEP = leaf(3, (1, b"a", nested(1000)))

HOSTILE = {
    "an empty file": [],
    "zeros": [bytes(4 * SIZE)],
    "half a meta": [TWO_METAS[0][:40]],
    "an unknown version": [meta(4, version=3), meta(3, version=3)],
    "a wrong checksum": [bytes(16) + meta(4)[16:40] + bytes(SIZE), bytes(3 * SIZE)],
    "an odd page size": [meta(4, page_size=1025), bytes(3 * SIZE)],
    "a file that is cut off": [*TWO_METAS, freelist(2), ONE_LEAF[:-1]],
    "a root that does not exist": [meta(4, root=4), meta(3), freelist(2), ONE_LEAF],
    "a root that is a meta": [meta(4, root=1), meta(3), freelist(2), ONE_LEAF],
    "a root that is the free list": [meta(4, root=2), meta(3), freelist(2), ONE_LEAF],
    "a root that is a free page": [*TWO_METAS, freelist(2, 3), ONE_LEAF],
    "a page that is neither used nor free": [
        *(meta(number, pages=5) for number in (4, 3)),
        freelist(2),
        ONE_LEAF,
        leaf(4),
    ],
    "a page that is free twice": [
        *(meta(number, pages=6) for number in (4, 3)),
        freelist(2, 4, 4),
        ONE_LEAF,
        bytes(2 * SIZE),
    ],
    "a list of free pages that is a leaf": [*TWO_METAS, leaf(2), ONE_LEAF],
    "a list of free pages that is too long": [
        *TWO_METAS,
        page(2, 16, 0xFFFF, struct.pack("=Q", 1 << 60)),
        ONE_LEAF,
    ],
    "a page of another place": [*TWO_METAS, freelist(2), leaf(4)],
    "a page that reaches over the end": [
        *TWO_METAS,
        freelist(2),
        page(3, LEAF, 0, b"", more=1)[:SIZE],
    ],
    "a page of no kind": [*TWO_METAS, freelist(2), page(3, 0, 0, b"")],
    "a page of two kinds": [*TWO_METAS, freelist(2), page(3, LEAF | BRANCH, 0, b"")],
    "more elements than there is room": [*TWO_METAS, freelist(2), page(3, LEAF, 64, b"")],
    "a key over the end": [
        *TWO_METAS,
        freelist(2),
        page(3, LEAF, 1, struct.pack("=4I", 0, 16, SIZE, 0)),
    ],
    "a value over the end": [
        *TWO_METAS,
        freelist(2),
        page(3, LEAF, 1, struct.pack("=4I", 0, 16, 1, 0xFFFF_FFFF)),
    ],
    "a key that is far away": [
        *TWO_METAS,
        freelist(2),
        page(3, LEAF, 1, struct.pack("=4I", 0, 0xFFFF_FFFF, 1, 1)),
    ],
    "an empty key": [*TWO_METAS, freelist(2), leaf(3, (0, b"", b"value"))],
    "keys out of order": [*TWO_METAS, freelist(2), leaf(3, (0, b"b", b""), (0, b"a", b""))],
    "a key that comes twice": [*TWO_METAS, freelist(2), leaf(3, (0, b"a", b""), (0, b"a", b""))],
    "an element of an unknown kind": [*TWO_METAS, freelist(2), leaf(3, (2, b"a", b""))],
    "a branch without pages": [*TWO_METAS, freelist(2), branch(3)],
    "a branch that leads to itself": [*TWO_METAS, freelist(2), branch(3, (b"a", 3))],
    "two branches in a circle": [
        *(meta(number, pages=5) for number in (4, 3)),
        freelist(2),
        branch(3, (b"a", 4)),
        branch(4, (b"a", 3)),
    ],
    "a leaf that is used twice": [
        *(meta(number, pages=5) for number in (4, 3)),
        freelist(2),
        branch(3, (b"a", 4), (b"b", 4)),
        leaf(4, (0, b"a", b"")),
    ],
    "a leaf with keys of another branch": [
        *(meta(number, pages=6) for number in (4, 3)),
        freelist(2),
        branch(3, (b"a", 4), (b"b", 5)),
        leaf(4, (0, b"c", b"")),
        leaf(5, (0, b"d", b"")),
    ],
    "a bucket that is its own": [*TWO_METAS, freelist(2), leaf(3, (1, b"a", bucket(3)))],
    "a bucket that is cut off": [*TWO_METAS, freelist(2), leaf(3, (1, b"a", bucket(0)[:-1]))],
    "a small bucket that is cut off": [*TWO_METAS, freelist(2), leaf(3, (1, b"a", bucket(0)))],
    "a small bucket that is a branch": [
        *TWO_METAS,
        freelist(2),
        leaf(3, (1, b"a", inline(kind=BRANCH))),
    ],
    "small buckets in each other, a thousand deep": [
        *(meta(number, pages=3 + len(DEEP) // SIZE) for number in (4, 3)),
        freelist(2),
        DEEP,
    ],
    "values that are the same bytes": [
        *TWO_METAS,
        freelist(2),
        page(3, LEAF, 2, struct.pack("=8I", 0, 32, 1, 600, 0, 17, 1, 600) + b"ab"),
    ],
    "a small bucket with a bucket in it": [
        *TWO_METAS,
        freelist(2),
        leaf(3, (1, b"a", inline((1, b"b", inline())))),
    ],
}


@pytest.mark.parametrize("damage", HOSTILE)
def test_damage_is_an_error(tmp_path: Path, damage: str) -> None:
    with pytest.raises(BoltError):
        read_bolt(written(tmp_path, *HOSTILE[damage]))


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path, *TWO_METAS, freelist(2), ONE_LEAF)
    os.truncate(path, LIMIT + 1)
    with pytest.raises(BoltError, match="bytes"):
        read_bolt(path)


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(BoltError, match="regular"):
        read_bolt(str(tmp_path / "fifo"))


TREES = st.recursive(
    st.dictionaries(st.binary(min_size=1, max_size=20), st.binary(max_size=1500), max_size=5),
    lambda trees: st.dictionaries(
        st.binary(min_size=1, max_size=20), st.one_of(st.binary(max_size=20), trees), max_size=5
    ),
    max_leaves=10,
)


@settings(max_examples=times(gate=50, long=2000), deadline=None)
@given(tree=TREES)
def test_every_tree_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, tree: Tree
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.db"
    write_bolt(path, tree)
    assert read_bolt(str(path)) == tree


@settings(max_examples=times(gate=300, long=20000), deadline=None)
@given(
    tree=TREES,
    changes=st.lists(
        st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)), max_size=4
    ),
    cut=st.one_of(st.none(), st.integers(0, 1 << 16)),
)
def test_changed_bytes_end_in_a_tree_or_an_error(
    tmp_path_factory: pytest.TempPathFactory,
    tree: Tree,
    changes: list[tuple[int, bytes]],
    cut: int | None,
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.db"
    write_bolt(path, tree)
    data = bytearray(path.read_bytes())
    for at, new in changes:
        place = at % len(data)
        data[place : place + len(new)] = new
    path.write_bytes(data[: cut % len(data)] if cut is not None else data)
    try:
        read_bolt(str(path))
    except BoltError as error:
        assert str(error)
