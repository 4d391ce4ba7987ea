from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from graphdriver.layer.tree.inodes import InodeSet


@given(st.sets(st.integers(1, 5000)), st.sets(st.integers(1, (1 << 64) - 1)))
def test_it_holds_what_was_put_in_and_nothing_else(near: set[int], far: set[int]) -> None:
    inodes = InodeSet()
    for inode in near | far:
        inodes.add(inode)
    assert {n for n in range(1, 6000) if n in inodes} == {n for n in near | far if n < 6000}
    assert all(inode in inodes for inode in far)


def test_a_million_neighbours_take_a_megabyte() -> None:
    tracemalloc.start()
    inodes = InodeSet()
    for inode in range(10_000_000, 11_000_000):
        inodes.add(inode)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 1 << 20
