"""GNU tar, bsdtar and Python make of a tar on disk what we make of it, or it is listed why not."""

from __future__ import annotations

import io
import os
import re
import stat
from collections import Counter
from pathlib import Path

import pytest

from graphdriver.layer.tar.reader import TarReader
from graphdriver.layer.tree.resolver import clean
from graphdriver.layer.unpack import unpack
from tests.layer.extraction_differences import ALLOWED
from tests.layer.extractors import EXTRACTORS, MAKERS, facts, made_by
from tests.layer.hostile.ground import opened
from tests.layer.oracle_tars import honest
from tests.layer.oracles import require_known_bsdtar
from tests.layer.test_round_trips import folders, packed
from tests.support.trees import CAPABILITY

KEEPS_ALL = ("ours", "tar --format=posix", "bsdtar --format=pax")
OURS = "ours"


def make_one_of_each(root: bytes) -> None:
    """Make a tree with everything that a layer can hold."""
    names = [b"plain", b"set-id", b"\xff", b"new\nline", "\u00e9".encode(), b"x" * 200, b"=", b" "]
    for number, name in enumerate(names):
        with open(root + b"/" + name, "wb") as file:
            file.write(name * 100 * number)
    os.mkdir(root + b"/sticky")
    os.mkdir(root + b"/deep")
    deep = root + b"/deep/" + b"/".join([b"d" * 60] * 5)
    os.makedirs(deep)
    with open(deep + b"/sparse", "wb") as file:
        file.truncate(1 << 20)
        os.pwrite(file.fileno(), b"island", 1 << 19)
    os.symlink(b"t" * 150, root + b"/link")
    os.symlink(b"plain", root + b"/twin-of-a-link")
    os.link(root + b"/twin-of-a-link", root + b"/twin", follow_symlinks=False)
    os.mkfifo(root + b"/fifo")
    os.mknod(root + b"/null", stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(root + b"/disk", stat.S_IFBLK, os.makedev(259, 70_000))
    os.link(root + b"/fifo", root + b"/fifo-again")
    os.link(root + b"/plain", root + b"/sticky/plain-again")
    os.chown(root + b"/set-id", (1 << 21) + 5, 1 << 31)
    os.chmod(root + b"/set-id", 0o6755)
    os.chmod(root + b"/sticky", 0o1777)
    os.setxattr(root + b"/plain", b"trusted.name", b"\0value\n")
    os.setxattr(root + b"/sticky", b"trusted.folder", b"yes")
    os.setxattr(root + b"/set-id", b"security.capability", CAPABILITY)
    times = {b"plain": 1_600_000_000_123_456_789, b"=": -1_500_000_000, b"set-id": 10**9 << 34}
    times |= {b"link": 1_234_567_890_987_654_321, b" ": -5 * 10**9, b"fifo": 7 * 10**9}
    times |= {b"sticky": 1_111_111_111_111_111_111, b"deep": 3 * 10**9, b".": 2 * 10**9}
    for name, time in times.items():
        os.utime(root + b"/" + name, ns=(time, time), follow_symlinks=False)


def differences_between(mine: Path, theirs: Path, tar: bytes) -> set[str]:
    """Say what is otherwise in two trees that were made of a tar."""
    named = {b"/".join(clean(entry.name)) for entry in TarReader(io.BytesIO(tar))}
    one, other = facts(mine, named), facts(theirs, named)
    missing = {name for name, _ in one.keys() - other.keys()}
    surplus = {name for name, _ in other.keys() - one.keys()}
    found = {f"{name!r} is missing" for name in missing}
    found |= {f"{name!r} is there" for name in surplus - missing}
    for (name, fact), value in one.items():
        if name not in missing and other[name, fact] != value:
            found.add(f"{fact} of {name!r}: {value!r:.60}, theirs {other[name, fact]!r:.60}")
    return found


@pytest.fixture(scope="module")
def differences() -> dict[str, set[str]]:
    """What each program makes otherwise than we of each tar, and we otherwise than the tree was."""
    require_known_bsdtar()
    found: dict[str, set[str]] = {}
    with folders("tree") as (tree,):
        make_one_of_each(os.fsencode(tree))
        made = {OURS: packed(tree), **{maker: made_by(maker, tree) for maker in MAKERS}}
        by_hand = honest()
        del by_hand["names that are not UTF-8"]  # one is in the other's way; the tree has some
        for name, tar in (made | by_hand).items():
            with folders("mine", *EXTRACTORS) as (mine, *theirs):
                with opened(mine) as root:
                    unpack(io.BytesIO(tar), root)
                if name in KEEPS_ALL:
                    found[name] = differences_between(tree, mine, tar)
                for (program, extract), folder in zip(EXTRACTORS.items(), theirs, strict=True):
                    extract(tar, folder)
                    found[f"{program}, {name}"] = differences_between(mine, folder, tar)
    return found


def test_every_difference_is_listed(differences: dict[str, set[str]]) -> None:
    unlisted = [
        difference
        for difference in flat(differences)
        if not any(re.fullmatch(one.what, difference, re.DOTALL) for one in ALLOWED)
    ]
    assert unlisted == []


def test_every_listed_difference_still_is(differences: dict[str, set[str]]) -> None:
    for one in ALLOWED:
        assert any(re.fullmatch(one.what, each, re.DOTALL) for each in flat(differences)), one
    assert Counter(one.what for one in ALLOWED).most_common(1)[0][1] == 1


def flat(differences: dict[str, set[str]]) -> list[str]:
    return sorted(f"{where}: {what}" for where, found in differences.items() for what in found)
