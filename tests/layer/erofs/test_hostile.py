"""Every attack of the corpus against a stored layer ends as against one that is unpacked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from graphdriver.conformance.plugin import tars
from tests.layer.erofs.both_ways import BothWays, recorded
from tests.layer.hostile.corpus import CORPUS, Maker
from tests.layer.mutations import ENTRIES, MUTATIONS, Mutation, mutate
from tests.support.canary import SECRET, Canary
from tests.support.long import times
from tests.support.overlays import opened


@pytest.mark.parametrize("upon_parent", [True, False], ids=["child", "first"])
@pytest.mark.parametrize("maker", CORPUS, ids=lambda maker: maker.__name__)
def test_an_attack_ends_as_where_it_is_unpacked(
    tmp_path: Path, both: BothWays, maker: Maker, upon_parent: bool
) -> None:
    canary = Canary.hatch(tmp_path / "canary")
    attack = maker(os.fsencode(canary.root))
    layers = [attack.trap, attack.blow] if upon_parent else [(*attack.trap, *attack.blow)]
    with canary.unharmed():
        for layer in layers:
            if both.apply(tars.tar(*layer)) != "refused":
                both.same()
        if both.images:
            with both.shown() as root, opened(root) as (fd,):
                assert SECRET not in str(recorded(fd)).encode()


def test_names_that_are_no_text_make_no_long_record(
    both: BothWays, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphdriver.layer.erofs.below.FACTS_MAX", 10_000)
    both.apply(tars.tar(tars.file(b"below")))
    for name, became in (b"n", "held"), (b"\xff", "not held: it depends on too much"):
        paths = [name * 90 + b"%d/f" % number for number in range(30)]
        assert both.apply(tars.tar(*map(tars.file, paths))).startswith(became)
        both.same()


def test_a_deep_path_needs_one_fact_where_nothing_is_below(both: BothWays) -> None:
    both.apply(tars.tar(tars.file(b"below")))
    path = b"/".join([b"d"] * 3000)
    entries = [tars.directory(b"./"), tars.pax([(b"path", path)]), tars.file(b"short")]
    assert both.apply(tars.tar(*entries)) == "held"
    assert both.records[0].facts == {b"d": "absent"}


@settings(max_examples=times(gate=100, long=10_000))
@given(
    below=st.lists(ENTRIES, max_size=4),
    entries=st.lists(ENTRIES, min_size=1, max_size=6),
    mutations=MUTATIONS,
)
def test_a_tar_that_somebody_made_wrong_ends_as_where_it_is_unpacked(
    disk: Path, below: list[bytes], entries: list[bytes], mutations: list[Mutation]
) -> None:
    both = BothWays(disk)
    try:
        for tar in (tars.tar(*below), mutate(tars.tar(*entries), mutations)):
            became = both.apply(tar)
            event(became.partition(":")[0])
            if became != "refused":
                both.same()
    finally:
        both.close()


def test_what_fills_up_a_files_last_block_cannot_be_seen(both: BothWays) -> None:
    file = tars.header(b"file", b"0", size=100) + b"x" * 100 + b"\0" * 411 + b"y"
    assert both.apply(tars.tar(file)) == "not held: the padding behind a file is not zeros"
    both.same()


@pytest.mark.parametrize("content", [b"x" * 512, b"x"], ids=["on the grid", "copied"])
def test_a_small_tar_of_large_sparse_files_fills_no_disk(both: BothWays, content: bytes) -> None:
    records = [
        (b"GNU.sparse.size", b"%d" % (128 << 20)),
        (b"GNU.sparse.map", b"0,%d" % len(content)),
    ]
    files = [tars.pax(records) + tars.file(b"%d" % number, content) for number in range(70)]
    assert both.apply(tars.tar(*files[:60])) == "held"
    became = both.apply(tars.tar(*files))
    assert became == "not held: the lists of its holes take too much disk space"


LINKED = tars.symlink(b"link", b".wh..wh.plnk")


@pytest.mark.parametrize(
    "entries",
    [
        (tars.whiteout(b".wh..wh..opq"), tars.file(b".wh..wh.plnk/1")),
        (
            LINKED,
            tars.file(b"link/1"),
            tars.file(b".wh..wh.plnk/2"),
            tars.hard_link(b"f", b"link/1"),
        ),
        (LINKED, tars.file(b"link/1"), tars.file(b".wh..wh.plnk/2"), tars.file(b"link/3")),
    ],
    ids=["opaque", "linked to", "filled again"],
)
def test_a_link_that_leads_to_the_directory_of_aufs_ends_as_where_it_is_unpacked(
    both: BothWays, entries: tuple[bytes, ...]
) -> None:
    assert both.apply(tars.tar(LINKED, tars.file(b"link/old"))) == "held"
    if both.apply(tars.tar(*entries)) != "refused":
        both.same()
