"""Tars that somebody made wrong: entries of any kind in any order, then changed somewhere."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from graphdriver.conformance.plugin import tars

NAMES = st.sampled_from(
    b"a a/b a/b/c b b/l l l/a . .. a/../../x /a  .wh.a a/.wh.b a/.wh..wh..opq"
    b" .wh..wh.plnk/1 ..wh. canary/secret l/secret ../canary/fifo".split(b" ")
)
TARGETS = st.sampled_from(
    [b"..", b"../canary", b"../canary/secret", b"/canary", b"a", b"b/../../canary", b"l", b".", b""]
)
KEYS = st.sampled_from(
    b"path linkpath size uid gid mtime x GNU.sparse.map GNU.sparse.major GNU.sparse.minor"
    b" GNU.sparse.realsize GNU.sparse.size GNU.sparse.name GNU.sparse.offset GNU.sparse.numbytes"
    b" SCHILY.xattr.user.x SCHILY.xattr.trusted.overlay.opaque LIBARCHIVE.xattr.user.y"
    b" SCHILY.devmajor SCHILY.devminor".split(b" ")
)
VALUES = st.one_of(
    st.sampled_from(
        [b"", b"0", b"1", b"512", b"1024", b"-1", b"1.5", b"0,1,5,2", b"../canary", b"9" * 19]
    ),
    st.binary(max_size=20),
)
PAX = st.builds(
    tars.pax, st.lists(st.tuples(KEYS, VALUES), max_size=4), st.sampled_from([b"x", b"x", b"g"])
)
DEVICES = st.tuples(st.integers(0, 5000), st.integers(0, 2))
ENTRIES = st.one_of(
    st.builds(tars.file, NAMES, st.binary(max_size=1100)),
    st.builds(tars.directory, NAMES),
    st.builds(tars.symlink, NAMES, TARGETS),
    st.builds(tars.hard_link, NAMES, TARGETS),
    st.builds(tars.gnu_long, st.sampled_from([b"L", b"K"]), st.one_of(NAMES, TARGETS)),
    st.builds(tars.header, NAMES, st.sampled_from([b"3", b"4", b"6"]), device=DEVICES),
    PAX,
)

FIELDS = {
    "name": (0, 100),
    "mode": (100, 8),
    "uid": (108, 8),
    "gid": (116, 8),
    "size": (124, 12),
    "mtime": (136, 12),
    "type": (156, 1),
    "link": (157, 100),
    "magic": (257, 8),
    "major": (329, 8),
    "minor": (337, 8),
    "prefix": (345, 155),
    "sparse": (386, 96),
    "sparse goes on": (482, 1),
    "real size": (483, 12),
}
NUMBERS = [0, 1, 511, 512, 513, -1, 1 << 21, 1 << 33, (1 << 63) - 1, -(1 << 62)]


@dataclass(frozen=True)
class Mutation:
    """Bytes to write over a tar.

    Attributes:
        block: which block, by number, the last being followed by the first.
        at: where in it.
        new: the bytes.
    """

    block: int
    at: int
    new: bytes


def in_field(block: int, field: str, value: bytes) -> Mutation:
    at, width = FIELDS[field]
    return Mutation(block, at, value[:width].ljust(width, b"\0"))


def as_number(block: int, field: str, value: int, spelling: int) -> Mutation:
    at, width = FIELDS[field]
    spelled = (tars.octal(value, width), tars.base_256(value, width), b"%d" % value)[spelling]
    return Mutation(block, at, spelled[:width].ljust(width, b" "))


BLOCKS = st.integers(0, 40)
BYTES = st.builds(Mutation, BLOCKS, st.integers(0, 511), st.binary(min_size=1, max_size=12))
TEXTS = st.builds(
    in_field,
    BLOCKS,
    st.sampled_from(["name", "link", "prefix"]),
    st.one_of(NAMES, TARGETS, st.binary(max_size=100)),
)
TYPES = st.builds(
    in_field,
    BLOCKS,
    st.just("type"),
    st.sampled_from([bytes([n]) for n in b"\x0001234567LKxgSDMV"]),
)
MAGICS = st.builds(
    in_field, BLOCKS, st.just("magic"), st.sampled_from([tars.USTAR, tars.GNU, tars.V7, b"?"])
)
NUMERIC = st.builds(
    as_number,
    BLOCKS,
    st.sampled_from(["mode", "uid", "gid", "size", "mtime", "major", "minor", "real size"]),
    st.sampled_from(NUMBERS),
    st.integers(0, 2),
)
MUTATIONS = st.lists(st.one_of(BYTES, TEXTS, TYPES, MAGICS, NUMERIC), max_size=5)


def mutate(data: bytes, mutations: list[Mutation]) -> bytes:
    """Write bytes into blocks of a tar; what was a header gets its checksum made right again."""
    blocks = [data[at : at + 512] for at in range(0, len(data), 512)]
    for mutation in mutations:
        number = mutation.block % len(blocks)
        block = blocks[number]
        was_header = block[148:156] == tars.checked(block)[148:156]
        at, new = mutation.at, mutation.new
        block = (block[:at] + new + block[at + len(new) :])[:512]
        blocks[number] = tars.checked(block) if was_header else block
    return b"".join(blocks)
