"""The unpacker's rules, one by one, where a stored layer follows them in code of its own."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphdriver.conformance.plugin import tars
from tests.layer.erofs.both_ways import BothWays
from tests.layer.test_order import TREES, Tree, entry, flat, layers
from tests.support.long import times

NOBODY = 0xFFFFFFFF
OPAQUE = b".wh..wh..opq"


def file(name: bytes, data: bytes = b"own") -> bytes:
    return tars.file(name, data, uid=2, mtime=2)


def left_out(name: bytes) -> bytes:
    """An entry that no overlay can hold; an earlier one of its name goes with it."""
    return tars.header(name, b"3")


BELOW = tars.tar(
    tars.directory(b"d", 0o750, uid=1, mtime=1),
    tars.directory(b"d/e", 0o700, uid=1, mtime=1),
    tars.file(b"d/e/f", b"deep", mtime=1),
    tars.file(b"d/f", b"below", mtime=1),
    tars.symlink(b"d/m", b"."),
    tars.file(b"f", b"below", mtime=1),
    tars.symlink(b"l", b"d/m"),
    tars.symlink(b"up", b"../../d/e/.."),
)

RULES = {
    "a directory over the layer's own file hides what is below": (
        file(b"d"),
        tars.directory(b"d"),
    ),
    "a directory over a whiteout hides what is below": (
        tars.whiteout(b".wh.d"),
        tars.directory(b"d"),
    ),
    "a missing directory over a whiteout hides what is below": (
        tars.whiteout(b".wh.d"),
        file(b"d/own"),
    ),
    "a missing directory over a copy from below hides what is below": (
        tars.hard_link(b"h", b"d/f"),
        file(b"d/f/own"),
    ),
    "a directory over a directory keeps what is in it": (
        file(b"d/own"),
        tars.directory(b"d", 0o711, uid=3, mtime=4),
    ),
    "a file over a directory hides all of it": (file(b"d/own"), file(b"d")),
    "a copy from below that is made again is the layer's own": (
        tars.hard_link(b"h", b"d/f"),
        file(b"d/f"),
        tars.whiteout(b"d/.wh.f"),
    ),
    "what is left out shows neither an earlier entry nor what the layer deletes": (
        tars.whiteout(b".wh.f"),
        file(b"f"),
        left_out(b"f"),
    ),
    "what is left out shows what is below": (file(b"f"), left_out(b"f")),
    "a whiteout of the layer's own directory hides what is below it": (
        tars.directory(b"d"),
        file(b"d/own"),
        tars.whiteout(b".wh.d"),
    ),
    "a whiteout removes copies from below": (
        tars.hard_link(b"h", b"d/e/f"),
        tars.whiteout(b".wh.d"),
    ),
    "a whiteout of a directory with own files leaves these": (
        tars.hard_link(b"h", b"d/e/f"),
        file(b"d/e/own"),
        tars.whiteout(b".wh.d"),
    ),
    "a directory that was made where a copy was removed is the layer's own": (
        tars.hard_link(b"h", b"d/e/f"),
        file(b"d/e/own"),
        tars.whiteout(b".wh.d"),
        file(b"d/e/f/g"),
        left_out(b"d/e/f/g"),
        tars.whiteout(b"d/e/" + OPAQUE),
    ),
    "an opaque mark removes directories that were copied": (
        tars.hard_link(b"h", b"d/e/f"),
        tars.whiteout(b"d/" + OPAQUE),
    ),
    "a copied directory that an opaque root leaves is still not the layer's own": (
        file(b"d/own"),
        tars.whiteout(OPAQUE),
        left_out(b"d/own"),
        tars.whiteout(b".wh.d"),
    ),
    "a copied directory that an opaque directory leaves is the layer's own": (
        file(b"d/e/own"),
        tars.whiteout(b"d/" + OPAQUE),
        left_out(b"d/e/own"),
        tars.whiteout(b"d/" + OPAQUE),
    ),
    "a directory where a copy was deleted is the layer's own": (
        tars.hard_link(b"h", b"d/f"),
        tars.whiteout(b"d/.wh.f"),
        file(b"d/f/g"),
        left_out(b"d/f/g"),
        tars.whiteout(b"d/.wh.f"),
    ),
    "a link on the way that its own directory deletes is followed no more": (
        file(b"l/x"),
        tars.whiteout(b"l/.wh.m"),
        file(b"l/y"),
    ),
    "a link on the way that is replaced is followed no more": (
        tars.directory(b"other"),
        tars.symlink(b"l", b"other"),
        file(b"l/x"),
        tars.symlink(b"l", b"d"),
        file(b"l/x"),
    ),
    "a link that climbs stays in the layer": (file(b"up/x"), tars.hard_link(b"h", b"up/f")),
    "a target that was left out before may be made later": (
        left_out(b"n"),
        file(b"n"),
        tars.hard_link(b"h", b"n"),
    ),
    "a link to itself changes nothing": (
        file(b"g"),
        tars.hard_link(b"g", b"g"),
        tars.hard_link(b"f", b"f"),
        tars.whiteout(b".wh.f"),
    ),
    "a link that waits hides what is below its name": (
        tars.hard_link(b"f", b"late"),
        tars.hard_link(b"i", b"f"),
        file(b"late"),
    ),
    "a link that waits may be left out later": (
        tars.hard_link(b"h", b"late"),
        left_out(b"h"),
        file(b"late"),
    ),
    "a link that waits may be replaced by a directory": (
        tars.hard_link(b"h", b"late"),
        tars.directory(b"h"),
        file(b"late"),
    ),
    "a directory above a link that waits may be replaced": (
        tars.hard_link(b"g/h", b"late"),
        file(b"g"),
        file(b"late"),
    ),
    "links to what is left out are left out": (
        file(b"a"),
        left_out(b"n"),
        tars.hard_link(b"a", b"n"),
        tars.hard_link(b"b", b"a"),
    ),
    "a link to a directory of below waits for a file there": (
        tars.hard_link(b"h", b"d"),
        file(b"d"),
    ),
    "a symbolic link is linked itself": (tars.hard_link(b"h", b"l"), tars.hard_link(b"i", b"h")),
    "link targets of AUFS are no part of the layer": (
        file(b".wh..wh.plnk/1"),
        tars.hard_link(b"g", b".wh..wh.plnk/1"),
        file(b".wh..wh.aufs"),
        file(b"d/.wh..wh.orph/x"),
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_it_is_as_in_an_unpacked_layer(both: BothWays, rule: str) -> None:
    both.apply(BELOW)
    assert both.apply(tars.tar(*RULES[rule])) == "held"
    both.same()
    # As the first layer, and upon itself: what was deleted is below now.
    first = BothWays(both.place)
    try:
        if first.apply(tars.tar(*RULES[rule])) != "refused":
            first.same()
            first.apply(BELOW)
            first.same()
    finally:
        first.close()
    both.apply(tars.tar(file(b"d/e/last"), tars.hard_link(b"last", b"f")))
    both.same()


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@pytest.mark.parametrize("mode", [0o4700, 0o644])
@pytest.mark.parametrize(
    "value",
    [
        acl((1, 6, NOBODY), (2, 7, 1000), (4, 1, NOBODY), (16, 5, NOBODY), (32, 4, NOBODY)),
        acl((1, 6, 5), (4, 1, 6), (8, 7, 0), (16, 2, 7), (32, 4, 8)),
        acl((1, 6, 0), (4, 5, 0), (32, 1, 0)),
        acl((1, 7, NOBODY), (4, 7, NOBODY), (16, 0, NOBODY), (32, 0, NOBODY)),
    ],
)
def test_a_list_of_access_is_as_the_kernel_keeps_it(
    both: BothWays, value: bytes, mode: int
) -> None:
    records = [
        (b"SCHILY.xattr.system.posix_acl_" + kind, value) for kind in (b"access", b"default")
    ]
    entries = [
        tars.pax(records) + tars.directory(b"a", mode),
        tars.pax(records[:1]) + tars.file(b"a/f", mode=mode),
        tars.pax(records) + tars.symlink(b"a/l", b"f"),
        tars.pax(records[:1]) + tars.header(b"a/p", b"6", mode=mode),
        tars.file(b"a/without", mode=mode),
        tars.file(b"a/missing/f"),
    ]
    assert both.apply(tars.tar(*entries)) == "held"
    both.same()
    assert both.apply(tars.tar(tars.file(b"a/missing/g"), tars.directory(b"a", mode))) == "held"
    both.same()


def test_a_directory_that_is_described_again_loses_its_attributes(both: BothWays) -> None:
    noted = tars.pax([(b"SCHILY.xattr.user.note", b"1"), (b"SCHILY.xattr.trusted.note", b"2")])
    both.apply(tars.tar(tars.directory(b"d"), tars.file(b"d/f")))
    entries = [noted, tars.directory(b"d"), tars.whiteout(b"d/" + OPAQUE), tars.directory(b"d")]
    assert both.apply(tars.tar(*entries)) == "held"
    both.same()
    with both.shown() as root:
        assert os.listxattr(root / "d") == []
        assert os.listdir(root / "d") == []


@settings(max_examples=times(gate=100, long=10_000))
@given(st.data(), TREES)
def test_entries_in_any_order_are_as_in_an_unpacked_layer(
    disk: Path, data: st.DataObject, lower: Tree
) -> None:
    entries = data.draw(layers(lower)).entries()
    order = data.draw(st.permutations(list(entries)), "order")
    both = BothWays(disk)
    try:
        both.apply(tars.tar(*[entry(path, is_folder, 1) for path, is_folder in flat(lower)]))
        both.apply(tars.tar(*[entries[name] for name in order]))
        both.same()
    finally:
        both.close()
