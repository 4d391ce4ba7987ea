"""A stored layer shows what the unpacker makes of the same tar, entry for entry."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from hypothesis import event, given, note, settings
from hypothesis import strategies as st

from graphdriver.conformance.plugin import tars
from graphdriver.driver import IDMap
from graphdriver.errors import BadArchiveError
from graphdriver.layer.tar.reader import TarReader
from tests.layer.erofs.both_ways import BothWays
from tests.support.long import times

NOBODY = 0xFFFFFFFF
MAPS = (IDMap(0, 100_000, 1001), IDMap(1001, 200_000, 10))


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


ACLS = st.sampled_from(
    [
        acl((1, 7, NOBODY), (2, 7, 1000), (4, 5, NOBODY), (16, 7, NOBODY), (32, 5, NOBODY)),
        acl((1, 6, NOBODY), (4, 4, NOBODY), (8, 6, 7), (16, 2, NOBODY), (32, 0, NOBODY)),
        acl((1, 6, 0), (4, 4, 1), (32, 1, 2)),  # no more than a mode says
        acl((1, 6, NOBODY), (4, 7, NOBODY), (16, 5, NOBODY), (32, 1, NOBODY)),
        acl((1, 6, NOBODY), (2, 4, 5), (4, 7, NOBODY), (32, 1, NOBODY)),  # damaged: no mask
        acl((1, 6, NOBODY)),
        b"\2\0\0\0",
        b"",
    ]
)
CAPABILITIES = st.sampled_from(
    [
        struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0),
        struct.pack("<IIIII", 0x02000000, 1, 2, 3, 4),
        struct.pack("<IIIIII", 0x03000001, 1 << 10, 0, 0, 0, 0),
        struct.pack("<IIIIII", 0x03000001, 1 << 10, 0, 0, 0, 1000),
        struct.pack("<IIIII", 0x02000003, 1 << 10, 0, 0, 0),
        struct.pack("<III", 0x01000001, 1 << 10, 0),
    ]
)
VALUES = st.sampled_from([b"", b"1", b"\0\xff", b"x" * 300])
ATTRIBUTES = st.one_of(
    st.tuples(st.sampled_from([b"user.a", b"trusted.a", b"security.a", b"trusted.b"]), VALUES),
    st.tuples(st.just(b"system.posix_acl_access"), ACLS),
    st.tuples(st.just(b"system.posix_acl_default"), ACLS),
    st.tuples(st.just(b"security.capability"), CAPABILITIES),
    st.tuples(
        st.sampled_from(
            [b"trusted.overlay.opaque", b"user.overlay.x", b"com.apple.x", b"security.selinux"]
        ),
        VALUES,
    ),
    st.tuples(st.sampled_from([b"user.", b"trusted.long", b"security.ima"]), st.just(b"x" * 4000)),
)
MTIMES = st.sampled_from([b"0", b"1600000000", b"1600000000.123456789", b"-5.5", b"15000000000"])
RECORDS = st.one_of(
    MTIMES.map(lambda time: (b"mtime", time)),
    st.sampled_from([0, 1, 1000, 1001, 1011, 1 << 31, -1]).map(lambda uid: (b"uid", b"%d" % uid)),
    st.sampled_from([0, 5, 1000, NOBODY]).map(lambda gid: (b"gid", b"%d" % gid)),
    ATTRIBUTES.map(lambda one: (b"SCHILY.xattr." + one[0], one[1])),
    st.just((b"LIBARCHIVE.xattr.user.damaged", b"?")),
)
DESCRIBED = st.one_of(
    st.just(b""), st.just(b""), st.lists(RECORDS, min_size=1, max_size=3).map(tars.pax)
)

PARTS = st.sampled_from([b"a", b"a", b"b", b"b", b"c", b"d", b"l"])
PATHS = st.lists(PARTS, min_size=1, max_size=3).map(b"/".join)
ODD_PATHS = st.one_of(
    PATHS,
    PATHS,
    PATHS,
    PATHS.map(lambda path: b"./" + path),
    PATHS.map(lambda path: b"/" + path + b"/"),
    PATHS.map(lambda path: path + b"/../b"),
    PATHS.map(lambda path: path + b"/\xff\n"),
    st.sampled_from([b".", b"./", b"/", b"x" * 255, b"a/" + b"y" * 120, b"..", b"x" * 256]),
)
TARGETS = st.one_of(
    PATHS,
    PATHS.map(lambda path: b"/" + path),
    PATHS.map(lambda path: b"../" + path),
    PATHS.map(lambda path: path + b"/../a"),
    st.sampled_from([b".", b"..", b"/", b"b/", b"x" * 99, b"/nowhere"]),
)
MODES = st.sampled_from([0o644, 0o755, 0o4755, 0o2710, 0o1777, 0o7777, 0])
CONTENT = st.sampled_from([b"", b"1", b"22", b"x" * 511, b"y" * 512, b"z" * 513, b"w" * 5000])


def named(name: bytes, make: bytes, dialect: int) -> bytes:
    """Give an entry a long name, in one of two dialects, if its header has none."""
    return (tars.gnu_long(b"L", name) if dialect else tars.pax([(b"path", name)])) + make


def entry(path: bytes, kind: str, mode: int, content: bytes, target: bytes, dialect: int) -> bytes:
    short = path if len(path) <= 100 else b"short"
    match kind:
        case "file":
            made = tars.file(short, content, mode=mode)
        case "directory":
            made = tars.directory(short, mode)
        case "symlink":
            made = tars.symlink(short, target)
        case "link":
            made = tars.hard_link(short, target)
        case "fifo":
            made = tars.header(short, b"6", mode=mode)
        case "sparse":
            made = sparse(short, content, dialect)
        case "block":
            made = tars.header(short, b"4", mode=mode, device=(dialect, mode & 7))
        case _:
            device = (0, 0) if mode == 0 else (mode & 0xFFF, mode)
            made = tars.header(short, b"3", mode=mode, device=device)
    return made if short == path else named(path, made, dialect)


def sparse(name: bytes, content: bytes, step: int) -> bytes:
    """Return a sparse file, with its pieces on the grid of blocks or off it."""
    unit = (512, 100, 4096, 1 << 17)[step]
    half = len(content) // 2 // unit * unit if step != 1 else len(content) // 2
    pieces = [(unit, half), (unit * 3 + half, len(content) - half)]
    numbers = ",".join(f"{at},{length}" for at, length in pieces)
    size = unit * 3 + len(content) + (0, 7, 10_000, 1)[step]
    records = [
        (b"GNU.sparse.size", b"%d" % size),
        (b"GNU.sparse.numblocks", b"2"),
        (b"GNU.sparse.map", numbers.encode()),
    ]
    return tars.pax(records) + tars.file(name, content)


# Most tars are made of names that fit together: otherwise the unpacker refuses most of them.
DIRECTORIES = st.lists(st.sampled_from([b"a", b"b", b"a", b"l"]), max_size=2)
USUAL_NAMES = {
    "file": [b"c", b"d", b"e"],
    "directory": [b"a", b"b"],
    "symlink": [b"l", b"m"],
    "link": [b"d", b"h"],
    "whiteout": [b"a", b"b", b"c", b"d", b"h", b"l"],
    "target": [b"c", b"d", b"e", b"h"],
    "pointed": [b"a", b"b"],
}


def usual(kind: str) -> st.SearchStrategy[bytes]:
    names = st.sampled_from(USUAL_NAMES.get(kind, [b"p", b"q"]))
    return st.builds(lambda above, name: b"/".join([*above, name]), DIRECTORIES, names)


USUAL_TARGETS = {
    "link": usual("target"),
    "symlink": usual("pointed").flatmap(
        lambda path: st.sampled_from([path, b"/" + path, b"../" + path])
    ),
}

KINDS = st.sampled_from(
    [
        "file",
        "file",
        "directory",
        "directory",
        "symlink",
        "link",
        "link",
        "fifo",
        "sparse",
        "block",
        "char",
    ]
)
ODD = st.builds(entry, ODD_PATHS, KINDS, MODES, CONTENT, TARGETS, st.integers(0, 3))


def usual_entry(kind: str) -> st.SearchStrategy[bytes]:
    targets = USUAL_TARGETS.get(kind, st.just(b""))
    return st.builds(entry, usual(kind), st.just(kind), MODES, CONTENT, targets, st.integers(0, 3))


USUAL = KINDS.flatmap(usual_entry)
UNLINKED = KINDS.filter(lambda kind: kind != "link").flatmap(usual_entry)
MADE = st.one_of(USUAL, USUAL, USUAL, USUAL, USUAL, USUAL, ODD)


def _whiteout(path: bytes) -> bytes:
    above, slash, name = path.rpartition(b"/")
    return tars.whiteout(above + slash + b".wh." + name)


ENTRIES = st.one_of(
    MADE,
    MADE,
    MADE,
    st.builds(lambda described, made: described + made, DESCRIBED, MADE),
    usual("whiteout").map(_whiteout),
    st.one_of(st.just(b""), usual("directory").map(lambda path: path + b"/")).map(
        lambda path: tars.whiteout(path + b".wh..wh..opq")
    ),
    st.one_of(
        st.builds(
            tars.file, st.sampled_from([b".wh..wh.plnk/1", b".wh..wh.aufs", b"a/.wh..wh.x/y"])
        ),
        st.builds(tars.hard_link, PATHS, st.just(b".wh..wh.plnk/1")),
        PATHS.map(_whiteout),
    ),
)
TARS = st.lists(ENTRIES, min_size=1, max_size=8).map(lambda entries: tars.tar(*entries))
BASE = st.lists(
    st.one_of(
        UNLINKED,
        st.builds(lambda described, made: described + made, DESCRIBED, UNLINKED),
    ),
    max_size=8,
).map(lambda entries: tars.tar(*entries))


def listed(tar: bytes) -> str:
    """Describe a tar, for a failed example."""
    try:
        return "\n".join(map(str, TarReader(io.BytesIO(tar))))
    except BadArchiveError as error:
        return str(error)


@settings(max_examples=times(gate=200, long=100_000))
@given(
    base=BASE, above=st.lists(TARS, min_size=1, max_size=2), maps=st.sampled_from([(), (), MAPS])
)
def test_a_stored_layer_shows_what_is_unpacked_of_it(
    disk: Path, base: bytes, above: list[bytes], maps: tuple[IDMap, ...]
) -> None:
    both = BothWays(disk, maps)
    try:
        for tar in (base, *above):
            note(listed(tar))
            became = both.apply(tar)
            event(became)
            if became != "refused":
                both.same()
    finally:
        both.close()
