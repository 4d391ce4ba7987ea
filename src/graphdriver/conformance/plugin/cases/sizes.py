"""The sizes that a driver reports."""

from __future__ import annotations

import io
import os
from pathlib import Path

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import expect
from graphdriver.conformance.plugin import references, tars
from graphdriver.conformance.plugin.cases.chains import build_at
from graphdriver.conformance.plugin.diffs import entries
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group("sizes", "the sizes that a driver reports")


@GROUP.case(see=references.SIZES)
def size_of_an_applied_tar(kit: Kit) -> None:
    """ApplyDiff returns the sum of the sizes in the tar's headers: no links, blocks or padding.

    docker images and docker history show this number. One image must have one size, whatever driver
    stores it.
    """
    base = kit.applied(tars.tar(tars.file(b"below", bytes(5000))))
    layer = kit.id()
    kit.driver.create(layer, base, "", {})
    data = tars.tar(
        tars.directory(b"directory"),
        tars.file(b"directory/one", b"1"),
        tars.file(b"thousand", bytes(1000)),
        tars.hard_link(b"hard", b"thousand"),
        tars.symlink(b"link", b"thousand"),
        tars.whiteout(b".wh.below"),
        tars.file(b"empty", b""),
    )
    expect("Size", kit.driver.apply_diff(layer, base, io.BytesIO(data)), 1001)


@GROUP.case(see=references.SIZES)
def size_of_an_applied_diff(kit: Kit) -> None:
    """For the layer's own Diff, too, ApplyDiff returns the sum of the sizes in its headers.

    The size of an image that was committed must be that of the same image after a pull.
    """
    data = kit.diff(kit.layer(fill=build_at))
    expected = sum(entry.size for entry in entries(data).values() if entry.isreg())
    expect("whether the Diff holds the written file", expected > 1_000_000, True)
    layer = kit.id()
    kit.driver.create(layer, "", "", {})
    expect("Size", kit.driver.apply_diff(layer, "", io.BytesIO(data)), expected)


def _three(kit: Kit) -> tuple[str, str, str]:
    """Make a layer, one that adds to it, and one that takes from it."""
    one = kit.layer(fill=lambda root: (root / "kept").write_bytes(bytes(100)))

    def add(root: Path) -> None:
        (root / "new").write_bytes(bytes(2000))
        os.link(root / "new", root / "new2")
        (root / "directory").mkdir()

    def take(root: Path) -> None:
        (root / "new").unlink()
        (root / "new").write_bytes(bytes(7))
        (root / "kept").unlink()

    two = kit.layer(one, add)
    return one, two, kit.layer(two, take)


@GROUP.case(see=references.SIZES)
def size_of_changes(kit: Kit) -> None:
    """DiffSize is the sum of the files that were added or modified; deletions count nothing.

    docker ps --size shows how much a container has written. Users look there for what fills their
    disk.
    """
    one, two, three = _three(kit)
    for what, layer, parent, size in (
        ("a first layer", one, "", 100),
        ("a child that adds", two, one, 2000),
        ("a child that shortens and deletes", three, two, 7),
    ):
        expect(f"DiffSize of {what}", kit.driver.diff_size(layer, parent), size)


@GROUP.case(see=references.SIZES)
def hard_links_count_once(kit: Kit) -> None:
    """DiffSize counts a file with several names once, and against no parent all files.

    A package with one file under a hundred names takes the space of one. A hundredfold size sends
    users on a wrong search.
    """
    _, two, three = _three(kit)
    expect("DiffSize of a file of two names, and one", kit.driver.diff_size(two, ""), 2100)
    expect("DiffSize when one name became a file", kit.driver.diff_size(three, ""), 2007)


@GROUP.case(see=references.SIZES, required=False)
def symbolic_links_count_their_target(kit: Kit) -> None:
    """DiffSize counts a symbolic link by the length of its target, as Docker's own drivers do.

    Docker's own drivers count so. The sizes of one image then are the same on every driver.
    """
    layer = kit.layer(fill=lambda root: (root / "link").symlink_to("a" * 50))
    expect("DiffSize", kit.driver.diff_size(layer, ""), 50)
