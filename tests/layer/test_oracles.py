"""GNU tar and bsdtar read honest, wicked and mutated tars as we do, or it is listed why not."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given, settings

from tests.layer.oracle_tars import every, honest
from tests.layer.oracles import Read, bsdtar, gnu_tar, ours, require_known_bsdtar
from tests.layer.tar_differences import ALLOWED, Difference
from tests.layer.test_round_trips import folders, packed
from tests.support.long import times
from tests.support.trees import TREES, Thing, make

FIELDS = ("kind", "name", "mode", "uid", "gid", "size", "time", "link", "device", "content")
ORACLES = {"tar": gnu_tar, "bsdtar": bsdtar}


def first_difference(mine: Read, theirs: Read) -> str | None:
    """Say where two readings part; what comes behind that may follow from it."""
    for one, other in zip(mine.entries, theirs.entries, strict=False):
        for field in FIELDS:
            known = None not in (one[field], other.get(field))
            if known and one[field] != other[field]:
                return f"{one['kind']}: {field} {one[field]!r}, theirs {other[field]!r}"
    if bool(mine.complaint) != bool(theirs.complaint):
        if mine.complaint:
            return f"we refuse: {mine.complaint}"
        return f"they refuse: {theirs.complaint}"
    if len(mine.entries) != len(theirs.entries) and not mine.complaint:
        return f"{len(mine.entries)} entries, theirs {len(theirs.entries)}"
    return None


@pytest.fixture(scope="module")
def differences() -> dict[str, list[str]]:
    """Every difference that is, each with the tars that show it."""
    require_known_bsdtar()
    found: dict[str, list[str]] = {}
    for name, tar in every():
        mine = ours(tar)
        for oracle, read in ORACLES.items():
            difference = first_difference(mine, read(tar))
            if difference is not None:
                found.setdefault(f"{oracle}: {difference}", []).append(name)
    return found


def test_every_difference_is_listed(differences: dict[str, list[str]]) -> None:
    unlisted = {
        difference: names
        for difference, names in differences.items()
        if not any(is_allowed(one, difference) for one in ALLOWED)
    }
    assert unlisted == {}


def test_every_listed_difference_still_is(differences: dict[str, list[str]]) -> None:
    for one in ALLOWED:
        assert any(is_allowed(one, difference) for difference in differences), one
    assert Counter(one.what for one in ALLOWED).most_common(1)[0][1] == 1


def test_what_tar_programs_write_is_read_alike(differences: dict[str, list[str]]) -> None:
    shown = {
        difference.partition(" bsdtar: Error")[0]
        for difference, names in differences.items()
        if honest().keys() & set(names)
    }
    assert shown == {
        "tar: file: time -1500000000, theirs -500000000",
        "bsdtar: file: time 77000000000, theirs 0",
        "bsdtar: they refuse: bsdtar: \u00ff: Can't translate pathname '\u00ff' to UTF-8",
    }


@settings(max_examples=times(gate=50, long=500))
@given(TREES)
def test_what_we_pack_is_read_alike(things: list[Thing]) -> None:
    with folders("tree") as (tree,):
        make(tree, things)
        tar = packed(tree)
    mine = ours(tar)
    assert not mine.complaint
    for oracle, read in ORACLES.items():
        difference = first_difference(mine, read(tar))
        if difference is not None:
            assert any(is_allowed(one, f"{oracle}: {difference}") for one in ALLOWED), difference


def is_allowed(one: Difference, difference: str) -> bool:
    return re.fullmatch(one.what, difference, re.DOTALL) is not None
