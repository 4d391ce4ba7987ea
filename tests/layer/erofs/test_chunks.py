"""Lists of chunks: each chunk is found where its data are, and no list is too long."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphdriver.layer.erofs.chunks import (
    LIST_MAX,
    chunk_bits,
    chunk_list,
    list_size,
    smallest_bits,
)
from graphdriver.layer.erofs.structures import BLOCK
from graphdriver.layer.erofs.tree import Area, Extent
from tests.support.erofs_layers import extents

HOLE = 0xFFFFFFFF


@given(extents().filter(lambda made: made[0] > 0))
def test_each_block_of_a_file_is_in_its_chunk(made: tuple[int, tuple[Extent, ...]]) -> None:
    size, found = made
    bits = chunk_bits(size, found)
    assert bits is not None
    mapped = [(at, length, 1000 + offset // BLOCK) for at, _, offset, length in found]
    packed = b"".join(chunk_list(size, bits, mapped))
    listed = struct.unpack(f"<{len(packed) // 4}I", packed)
    assert len(listed) == -(-size // (BLOCK << bits))
    expected = {
        at // BLOCK + number: block + number
        for at, length, block in mapped
        for number in range(-(-length // BLOCK))
    }
    for number in range(-(-size // BLOCK)):
        first = listed[number >> bits]
        block = None if first == HOLE else first + number % (1 << bits)
        assert block == expected.get(number)


def at(start: int, length: int, offset: int = 0) -> Extent:
    return Extent(start, Area.TAR, offset, length)


@pytest.mark.parametrize(
    ("size", "found"),
    [
        (4096, [at(100, 512)]),
        (4096, [at(512, 100)]),
        (4096, [at(512, 512, offset=8)]),
        (4096, [at(1024, 512), at(512, 512)]),
        (4096, [at(512, 1024), at(1024, 512)]),
        (4096, [at(512, 0)]),
        (4096, [at(4096, 512)]),
        (512, [at(0, 1024)]),
    ],
)
def test_extents_off_the_grid_have_no_chunks(size: int, found: list[Extent]) -> None:
    assert chunk_bits(size, found) is None


def test_a_file_that_is_one_hole_has_as_few_chunks_as_can_be() -> None:
    assert chunk_bits(1, []) == 0
    assert chunk_bits(BLOCK + 1, []) == 1
    assert chunk_bits(10**12, []) == 31
    assert chunk_bits(2**40 * (LIST_MAX // 4), []) == 31
    assert chunk_bits(2**40 * (LIST_MAX // 4) + 1, []) is None


def test_the_last_block_need_not_be_whole() -> None:
    assert chunk_bits(5000, [at(4096, 904)]) == 3
    assert chunk_bits(5000, [at(0, 5000)]) == 4


def test_a_list_has_a_mebibyte_or_a_hundredth_of_the_data() -> None:
    most = LIST_MAX // 4 * BLOCK
    assert chunk_bits(most, [at(BLOCK, BLOCK)]) == 0
    assert chunk_bits(most + 1, [at(BLOCK, BLOCK)]) is None
    assert chunk_bits(10 * most, [at(BLOCK, 10 * most - BLOCK)]) == 0
    assert smallest_bits(most, 0) == 0
    assert smallest_bits(most + 1, 0) == 1
    assert smallest_bits(10 * most, 10 * most) == 0
    assert smallest_bits(2**62, 1) is None
    assert list_size(most, 0) == LIST_MAX
    assert list_size(most + 1, 1) == LIST_MAX // 2 + 4


@given(st.integers(1, 2**63), st.integers(0, 2**40))
def test_copies_on_the_smallest_grid_are_held(size: int, data: int) -> None:
    data = min(data, size)
    bits = smallest_bits(size, data)
    if bits is None:
        assert chunk_bits(size, []) is None
    else:
        chunk = BLOCK << bits
        copied = min(-(-data // chunk) * chunk, size)
        assert chunk_bits(size, [at(0, copied)] if copied else []) is not None
