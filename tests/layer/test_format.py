"""Headers as they are written, read back by this project's own parser and by hand."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdriver.errors import UnsupportedError
from graphdriver.layer.tar.entry import Entry, EntryType
from graphdriver.layer.tar.reader import TarReader
from graphdriver.layer.tar.writer import END, file_headers, headers

NAME_BYTES = st.binary(min_size=1, max_size=1000).map(lambda name: name.replace(b"\0", b"/"))
OWNERS = st.integers(0, 2**32 - 2)
KEYS = st.binary(min_size=1, max_size=40).map(lambda key: b"user." + key.replace(b"\0", b"="))


@settings(max_examples=300)
@given(
    name=NAME_BYTES,
    link=NAME_BYTES,
    kind=st.sampled_from([kind for kind in EntryType if kind is not EntryType.FILE]),
    mode=st.integers(0, 0o7777),
    owner=st.tuples(OWNERS, OWNERS),
    mtime_ns=st.integers(-(2**70), 2**70),
    device=st.tuples(st.integers(0, 0xFFF), st.integers(0, 0xFFFFF)),
    xattrs=st.dictionaries(KEYS, st.binary(max_size=300), max_size=4),
)
def test_every_entry_is_read_back_as_it_was_written(
    name: bytes,
    link: bytes,
    kind: EntryType,
    mode: int,
    owner: tuple[int, int],
    mtime_ns: int,
    device: tuple[int, int],
    xattrs: dict[bytes, bytes],
) -> None:
    entry = Entry(name, kind, mode, *owner, mtime_ns=mtime_ns, xattrs=xattrs)
    if kind in {EntryType.HARD_LINK, EntryType.SYMLINK}:
        entry.link = link
    elif kind in {EntryType.CHARACTER_DEVICE, EntryType.BLOCK_DEVICE}:
        entry.device = device
    written = headers(entry)
    assert len(written) % 512 == 0
    assert list(TarReader(io.BytesIO(written + END))) == [entry]


@pytest.mark.parametrize(
    "length", [*range(75, 105), *range(970, 1010), 9_980, 9_990, 9_995, 65_536]
)
def test_a_record_says_its_own_length(length: int) -> None:
    written = headers(Entry(b"f", EntryType.FILE, xattrs={b"user.x": b"v" * length}))
    digits, _, rest = written[512:].partition(b" ")
    assert written[512 : 512 + int(digits)].endswith(b"user.x=" + b"v" * length + b"\n")
    assert not rest[int(digits) - len(digits) - 1 : -512].strip(b"\0")


@pytest.mark.parametrize("name", [b"\xff" * 100, b"\xff" * 155 + b"/" + b"\xff" * 100])
def test_the_checksum_is_the_sum_of_the_bytes_also_where_it_is_great(name: bytes) -> None:
    block = headers(Entry(name, EntryType.SYMLINK, link=b"\xff" * 100))
    assert len(block) == 512
    assert int(block[148:154], 8) == sum(block[:148]) + 8 * 0x20 + sum(block[156:])


def test_a_long_name_is_not_cut_at_a_slash() -> None:
    written = headers(Entry(b"d" * 99 + b"/" + b"f" * 200, EntryType.FILE))
    assert written[-512:][:100] == b"d" * 99 + b"\0"


@given(
    st.one_of(st.binary(min_size=1, max_size=120), st.just(b"folder/" * 12 + b"file")),
    st.sampled_from([0, 1000, 8**7 - 1, 8**7]),
    st.sampled_from([0, 5, 8**11 - 1, 8**11]),
    st.one_of(
        st.integers(-(10**19), 10**20),
        st.integers(0, 10**10).map(lambda seconds: seconds * 10**9),
        st.integers(0, 10**10).map(lambda tenths: tenths * 10**8),
    ),
)
def test_the_short_way_for_files_gives_the_same_bytes(
    name: bytes, owner: int, size: int, mtime_ns: int
) -> None:
    name = name.replace(b"\0", b"0")
    entry = Entry(name, EntryType.FILE, 0o644, owner, 0, size, mtime_ns, stored=size)
    assert file_headers(name, 0o644, owner, 0, size, mtime_ns) == headers(entry)


def test_what_no_reader_takes_is_refused_where_it_is_written() -> None:
    attributes = {b"user.%d" % number: bytes(65536) for number in range(16)}
    with pytest.raises(UnsupportedError, match=r"'f': its name and attributes take 104\d{4} bytes"):
        headers(Entry(b"f", EntryType.FILE, xattrs=attributes))
    with pytest.raises(UnsupportedError) as refused:
        headers(Entry(b"d/" * 600_000, EntryType.DIRECTORY))
    assert len(str(refused.value)) < 1000
    attributes.popitem()
    assert len(headers(Entry(b"f", EntryType.FILE, xattrs=attributes))) > 15 * 65536
