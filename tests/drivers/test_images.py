"""Images that Docker loads are loaded, by each driver: what is no content of theirs is left out."""

from __future__ import annotations

import itertools
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graphdriver import Driver
from graphdriver.conformance.plugin import tars
from graphdriver.driver import mounted
from tests.drivers.every import OVERLAYS, serving
from tests.drivers.layers import apply, read_diff, recorded

CONTENT = (b"user.kept", b"trusted.kept", b"security.ima")
MARKS = (b"origin", b"impure", b"opaque", b"redirect", b"metacopy", b"overlay.opaque")
LEFT_OUT = (
    *(b"trusted.overlay." + mark for mark in MARKS),
    *(b"user.overlay." + mark for mark in MARKS),
    b"user.fuseoverlayfs.opaque",
    b"user.fuseoverlayfs.origin",
    b"security.fuseoverlayfs.opaque",
    b"security.selinux",
    b"security.SMACK64",
    b"security.SMACK64EXEC",
    b"security.evm",
    b"btrfs.compression",
    b"trusted.SGI_ACL_FILE",
    b"com.apple.provenance",
    b"system.nfs4_acl",
    b"nonsense",
)
KINDS = 4
"""Marks of overlays, labels, how a filesystem stores files, and unknown namespaces."""


@pytest.fixture
def driver(name: str, data_root: Path) -> Iterator[Driver]:
    with serving(name, data_root) as driver:
        yield driver


def with_attributes(entry: bytes, spelling: bytes) -> bytes:
    """Return an entry that has every attribute here, as one program or the other writes them."""
    value = b"eQ" if spelling == b"LIBARCHIVE" else b"y"
    told = [(b"%b.xattr.%b" % (spelling, key), value) for key in (*CONTENT, *LEFT_OUT)]
    return tars.pax(told) + entry


@pytest.mark.parametrize("spelling", [b"SCHILY", b"LIBARCHIVE"])
def test_attributes_that_are_no_content_are_left_out_and_never_obeyed(
    driver: Driver, name: str, caplog: pytest.LogCaptureFixture, spelling: bytes
) -> None:
    apply(driver, "base", "", tars.tar(tars.file(b"d/below", b"x"), tars.file(b"f", b"below")))
    entries = (
        tars.directory(b"."),
        tars.directory(b"d"),
        tars.directory(b"d/new"),
        tars.file(b"f", b"content"),
        tars.symlink(b"s", b"f"),
        tars.header(b"p", b"6"),
    )
    with caplog.at_level(logging.WARNING):
        tar = tars.tar(*(with_attributes(entry, spelling) for entry in entries))
        apply(driver, "upper", "base", tar)
    told = [record.getMessage() for record in caplog.records]
    assert len([one for one in told if "left out" in one]) == KINDS
    driver.create("child", "upper", "", {})
    for id in ("upper", "child"):
        with mounted(driver, id) as path:
            root = Path(path)
            assert (root / "d/below").read_bytes() == b"x"
            assert (root / "f").read_bytes() == b"content"
            for at in ("d", "d/new", "f"):
                found = {os.fsencode(key) for key in os.listxattr(root / at)}
                assert found & {*CONTENT, *LEFT_OUT} == set(CONTENT), (id, at)
            links = os.listxattr(root / "s", follow_symlinks=False)
            assert {os.fsencode(key) for key in links} == {*CONTENT} - {b"user.kept"}
    diff = read_diff(driver, "upper", "base")
    if name == "erofs":
        assert diff == tar  # as it came; against another layer it is packed
        diff = read_diff(driver, "child", "base")
    assert b"user.kept=y" in diff
    assert [key for key in LEFT_OUT if b"." + key + b"=" in diff] == []


def test_a_0_0_device_deletes_nothing(
    driver: Driver, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    below = (tars.file(b"c", b"below"), tars.file(b"h", b"below"), tars.file(b"d/c", b"below"))
    apply(driver, "base", "", tars.tar(*below))
    tar = tars.tar(
        tars.file(b"c", b"earlier"),
        tars.header(b"c", b"3"),
        tars.hard_link(b"h", b"c"),
        tars.hard_link(b"new", b"h"),
        tars.header(b"d/c", b"3"),
        tars.symlink(b"way", b"d"),
        tars.hard_link(b"d/h", b"way/c"),
    )
    apply(driver, "upper", "base", tar)
    apply(driver, "upon", "upper", tars.tar(tars.file(b"other")))
    told = [
        one.getMessage() for one in caplog.records if "0:0 character device" in one.getMessage()
    ]
    shown = recorded(driver, "upper")
    if name in OVERLAYS:
        assert len(told) == 1
        assert {one: shown[one] for one in shown if one != b"way"} == recorded(driver, "base")
        assert [change.path for change in driver.changes("upper", "base")] == ["/way"]
    else:
        assert told == []
        with mounted(driver, "upper") as path:
            found = [os.lstat(os.path.join(path, one)) for one in ("c", "h", "new")]
            assert all(stat.S_ISCHR(one.st_mode) and one.st_rdev == 0 for one in found)
            assert len({one.st_ino for one in found}) == 1
            assert os.path.samefile(os.path.join(path, "d/c"), os.path.join(path, "d/h"))
    upon = recorded(driver, "upon")
    del upon[b"other"]
    assert upon == shown


OWN: dict[str, Callable[[bytes], bytes]] = {
    "file": lambda x: tars.file(x, b"own"),
    "directory": tars.directory,
    "way": lambda x: tars.file(x + b"/own", b"own"),
    "link": lambda x: tars.symlink(x, b"y"),
    "hard-link": lambda x: tars.hard_link(x, b"y"),
}
BELOW = {"file": b"", "directory": b"/below"}


@pytest.mark.parametrize("name", OVERLAYS, indirect=True)
@pytest.mark.parametrize("mark", [b".wh.x", b".wh..wh..opq"])
@pytest.mark.parametrize("below", BELOW)
@pytest.mark.parametrize("above", [b"", b"d/"])
def test_a_0_0_device_shows_nothing_again_that_the_same_tar_deletes(
    driver: Driver, name: str, mark: bytes, below: str, above: bytes
) -> None:
    x = above + b"x"
    apply(driver, "base", "", tars.tar(tars.file(x + BELOW[below])))
    for own, order in itertools.product(OWN, itertools.permutations(range(3))):
        entries = tars.file(above + mark), OWN[own](x), tars.header(x, b"3")
        tar = tars.tar(tars.file(b"y"), *(entries[at] for at in order))
        id = f"{own}-{''.join(map(str, order))}"
        apply(driver, id, "base", tar)
        shown = recorded(driver, id)
        assert x + b"/below" not in shown, id
        if own == "way":
            continue  # a directory that is there for its entry is there still
        is_last = order.index(1) > order.index(2)
        assert (x in shown) == is_last, id
        if mark == b".wh.x" and name != "erofs":  # which gives the same tar out again
            assert (mark in read_diff(driver, id, "base")) == (not is_last), id


def test_a_name_whose_0_0_device_was_left_out_may_come_again(driver: Driver) -> None:
    tar = tars.tar(
        tars.header(b"c", b"3"),
        tars.hard_link(b"before", b"c"),
        tars.file(b"c", b"later"),
        tars.hard_link(b"after", b"c"),
    )
    apply(driver, "base", "", tar)
    with mounted(driver, "base") as path:
        assert Path(path, "c").read_bytes() == b"later"
        assert os.path.samefile(os.path.join(path, "c"), os.path.join(path, "after"))
