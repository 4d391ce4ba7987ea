"""Children, siblings, and chains of layers as long as daemons make them."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import expect, expect_tree
from graphdriver.conformance.kit.tree import build, edit
from graphdriver.conformance.plugin import references, tars
from graphdriver.conformance.plugin.diffs import expect_changes
from graphdriver.conformance.plugin.kit import Kit

GROUP: Group[Kit] = Group("chains", "chains of layers, as long as daemons make them")


def build_at(root: Path) -> None:
    """Fill a layer with every type of entry."""
    build(str(root))


@GROUP.case(see=references.CHILD_IS_A_SNAPSHOT)
def child_shows_its_parent(kit: Kit) -> None:
    """A new child shows all of its parent, after Create as after CreateReadWrite.

    docker run creates such a child on an image's layer. The container must see the whole image.
    """
    parent = kit.layer(fill=build_at)
    expected = kit.record(parent)
    for name, create in (
        ("Create", kit.driver.create),
        ("CreateReadWrite", kit.driver.create_read_write),
    ):
        child = kit.id()
        create(child, parent, "", {})
        expect_tree(f"content of a child made with {name}", kit.record(child), expected)


@GROUP.case(see=references.ROOT_DIRECTORY, required=False)
def child_has_its_parents_root_directory(kit: Kit) -> None:
    """A new child's root directory has the mode, owner and attributes of its parent's.

    An image defines who may enter and change its root directory. A driver that forgets this opens
    the container to everybody, or closes it to everybody but root.
    """

    def set_attributes(root: Path) -> None:
        os.chown(root, 3, 4)
        os.chmod(root, 0o1700)
        os.setxattr(root, "trusted.root", b"yes")

    child = kit.layer(kit.layer(fill=set_attributes))
    with kit.shown(child) as root:
        found = os.stat(root)
        expect("mode of the root directory", oct(found.st_mode & 0o7777), oct(0o1700))
        expect("owner of the root directory", (found.st_uid, found.st_gid), (3, 4))
        expect("attributes of the root directory", os.listxattr(root), ["trusted.root"])


@GROUP.case(see=references.CHILD_IS_A_SNAPSHOT)
def siblings_are_apart(kit: Kit) -> None:
    """What is written to a child, also over a file of its parent, shows in that child alone.

    Hundreds of containers share one image. If one of them could change it, all others and every
    later container would see that.
    """
    parent = kit.layer(fill=build_at)
    before = kit.record(parent)
    other = kit.layer(parent)

    def overwrite(root: Path) -> None:
        with open(root / "big", "r+b") as file:
            file.write(b"overwritten in place")
        os.chmod(root / "etc", 0o700)
        (root / "holes").write_bytes(b"shorter")

    edited = kit.layer(parent, edit)
    overwritten = kit.layer(parent, overwrite)
    expect("whether a child shows what was changed", kit.record(edited) == before, False)
    expect_tree("content of the parent", kit.record(parent), before)
    expect_tree("content of another child", kit.record(other), before)
    kit.driver.remove(edited)
    kit.driver.remove(overwritten)
    expect_tree("content of the parent, its children removed", kit.record(parent), before)


@GROUP.case(see=references.LONG_CHAINS)
def ten_written_layers(kit: Kit) -> None:
    """Ten layers, each written to after a Get, show the sum, and so do layers made of their Diffs.

    A build of ten steps makes such layers. Each step changes files of those before it, and its Diff
    is pushed alone.
    """
    written = [""]
    for number in range(10):

        def fill(root: Path, number: int = number) -> None:
            (root / f"f{number}").write_text(str(number))
            (root / "same").write_text(str(number))
            if number >= 5:
                (root / f"f{number - 5}").unlink()

        written.append(kit.layer(written[-1], fill))
    _expect_sum(kit, written)
    applied = ""
    for parent, child in itertools.pairwise(written):
        applied = kit.applied(kit.diff(child, parent), applied)
    expect_tree("content of ten applied layers", kit.record(applied), kit.record(written[-1]))


@GROUP.case(see=references.LONG_CHAINS)
def fifty_layers(kit: Kit) -> None:
    """Fifty layers show the sum.

    Many images have dozens of layers. Work or mount options that grow with each layer show up here
    first.
    """
    _applied(kit, 50)


@GROUP.case(see=references.LONG_CHAINS)
def hundred_and_twenty_five_layers(kit: Kit) -> None:
    """125 layers, a daemon's limit, show the sum, and a container can use them.

    A daemon accepts images of up to 125 layers, and a container adds two more. Mount options that
    are longer than a page break drivers that were tested with few layers.
    """
    chain = _applied(kit, 125)
    init = kit.id()
    kit.driver.create_read_write(init, chain[-1], "", {})
    with kit.shown(init) as root:
        (root / "new").write_text("written on 125 layers")
    expect_changes("Changes of a layer on 125", kit.driver, init, chain[-1], ["A /new"])


@GROUP.case(see=references.LONGER_CHAINS, required=False)
def two_hundred_layers(kit: Kit) -> None:
    """200 layers, more than a daemon accepts, show the sum.

    A daemon rejects more than 125 layers. Other users of the driver may have more.
    """
    _applied(kit, 200)


@GROUP.case(see=references.LONG_CHAINS)
def reading_through_a_hundred_layers(kit: Kit) -> None:
    """At the top of a hundred layers, each layer's file reads as it was written.

    A driver that stacks its layers in several mounts can lose the lowest of them, or show a file of
    the wrong one.
    """
    layer = kit.layer(fill=build_at)
    expected = kit.record(layer)
    for number in range(100):
        layer = kit.applied(tars.tar(tars.file(b"shared/%03d" % number, b"%d" % number)), layer)
    found = kit.record(layer)
    own = {path: facts.content for path, facts in found.items() if path.startswith(b"shared/")}
    expect(
        "a directory with a file of each of 100 layers",
        own,
        {b"shared/%03d" % number: b"%d" % number for number in range(100)},
    )
    lowest = {path: facts for path, facts in found.items() if not path.startswith(b"shared")}
    expect_tree("the files of the lowest of 101 layers", lowest, expected)


def _applied(kit: Kit, count: int) -> list[str]:
    """Apply layers that each add, change and delete something; check the content of the top."""
    chain = [""]
    for number in range(count):
        entries = [
            tars.file(b"same", b"%d" % number, mtime=number),
            tars.file(b"f%d" % number, b""),
        ]
        if number >= 5:
            entries.append(tars.whiteout(b".wh.f%d" % (number - 5)))
        chain.append(kit.applied(tars.tar(*entries), chain[-1]))
    _expect_sum(kit, chain)
    return chain


def _expect_sum(kit: Kit, chain: list[str]) -> None:
    """Expect the own files of the last five layers at the top, and the file that each layer writes."""
    last = len(chain) - 2
    kept = [f"f{number}" for number in range(last - 4, last + 1)]
    with kit.shown(chain[-1]) as root:
        expect("names in the topmost layer", sorted(os.listdir(root)), sorted([*kept, "same"]))
        expect("a file that each layer writes", (root / "same").read_text(), str(last))
    with kit.shown(chain[4]) as root:
        expect("that file in the fourth layer", (root / "same").read_text(), "3")
    gone = f"D /f{last - 5}"
    expect_changes(
        "Changes of the topmost layer",
        kit.driver,
        chain[-1],
        chain[-2],
        [gone, f"A /{kept[-1]}", "C /same"],
    )
    since_first = [f"A /{name}" for name in kept] + ["C /same", "D /f0"]
    expect_changes("Changes since the first layer", kit.driver, chain[-1], chain[1], since_first)
    again = kit.applied(kit.diff(chain[-1], chain[-2]), chain[-2])
    expect_tree("the topmost layer's Diff, applied", kit.record(again), kit.record(chain[-1]))
