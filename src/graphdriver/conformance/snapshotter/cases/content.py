"""Content of snapshots, and of the snapshots above them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from graphdriver.conformance.kit.case import Group
from graphdriver.conformance.kit.expect import expect, expect_tree
from graphdriver.conformance.kit.tree import build, remove
from graphdriver.conformance.snapshotter import references
from graphdriver.conformance.snapshotter.kit import Kit

GROUP: Group[Kit] = Group("content", "the content of snapshots, and of snapshots above them")


@GROUP.case(see=references.CONTENT)
def chain_of_snapshots(kit: Kit) -> None:
    """A snapshot shows the snapshots below, with its own changes, additions and deletions.

    This is how an image is unpacked: Prepare, the layer's changes, Commit, and the next layer on
    it.
    """

    def change(root: Path) -> None:
        (root / "kept").write_text("changed")
        (root / "gone").unlink()
        (root / "new").write_text("new")

    def fill(root: Path) -> None:
        for name in ("kept", "gone", "other"):
            (root / name).write_text(name)

    below = kit.committed(write=fill)
    above = kit.committed(below, change)
    found = {name: facts.content for name, facts in kit.record(above).items()}
    expected = {b"kept": b"changed", b"new": b"new", b"other": b"other"}
    expect("content of the upper one", found, expected)
    found = {name: facts.content for name, facts in kit.record(below).items()}
    expect("content of the lower one", found, {n: n for n in (b"gone", b"kept", b"other")})


@GROUP.case(see=references.CONTENT)
def whole_tree_is_kept(kit: Kit) -> None:
    """Modes, owners, times, attributes, links and special files are kept through two Commits.

    Whatever a snapshotter loses of a file is missing in every container of the image.
    """
    below = kit.committed(write=lambda root: build(str(root)))
    expected = kit.record(below)
    above = kit.committed(below, lambda root: (root / "new").touch())
    found = {name: facts for name, facts in kit.record(above).items() if name != b"new"}
    expect_tree("content of the upper one", found, expected)


@GROUP.case(see=references.CONTENT)
def siblings_are_apart(kit: Kit) -> None:
    """What is written to a snapshot shows neither in its siblings nor in its parent.

    Containers of one image are siblings. If one could see the other's files, or change the image,
    no container would be isolated.
    """
    below = kit.committed(write=lambda root: (root / "file").write_text("below"))
    one = kit.committed(below, lambda root: (root / "file").write_text("one"))
    other = kit.committed(below, lambda root: (root / "more").touch())
    for name, text in ((one, b"one"), (other, b"below"), (below, b"below")):
        expect("the file", kit.record(name)[b"file"].content, text)
    expect("content of the first", sorted(kit.record(one)), [b"file"])


@GROUP.case(see=references.CONTENT)
def directories_are_removed(kit: Kit) -> None:
    """A directory that is removed is gone; a new one of its name shows nothing of it.

    Package managers replace whole directories. Files of the old one that come back are found by
    programs that load everything in a directory.
    """

    def fill(root: Path) -> None:
        for directory in ("gone", "again"):
            (root / directory / "deep").mkdir(parents=True)
            (root / directory / "deep" / "file").touch()

    def change(root: Path) -> None:
        remove(root / "gone")
        remove(root / "again")
        (root / "again").mkdir()
        (root / "again" / "new").touch()

    above = kit.committed(kit.committed(write=fill), change)
    top = kit.committed(above)
    for name in (above, top):
        expect("the rest", sorted(kit.record(name)), [b"again", b"again/new"])


@GROUP.case(see=references.COPY_UP)
def files_of_below_are_renamed(kit: Kit) -> None:
    """Files and directories of layers below are renamed, over each other and back.

    Package managers write a new file and rename it over the old one, and move directories away
    before they delete them.
    """

    def fill(root: Path) -> None:
        (root / "directory").mkdir()
        (root / "directory" / "file").write_text("inside")
        (root / "one").write_text("one")
        (root / "two").write_text("two")

    def move(root: Path) -> None:
        (root / "one").rename(root / "two")
        shutil.move(root / "directory", root / "moved")

    above = kit.committed(kit.committed(write=fill), move)
    found = {name: facts.content for name, facts in kit.record(above).items()}
    expected = {b"moved": b"", b"moved/file": b"inside", b"two": b"one"}
    expect("content after renaming", found, expected)


@GROUP.case(see=references.COPY_UP)
def owners_and_modes_change(kit: Kit) -> None:
    """Chown and chmod of a file of a layer below show above, and not below.

    RUN chown and chmod change files of the base image. Its other containers must not see that.
    """

    def fill(root: Path) -> None:
        (root / "file").write_text("content")
        (root / "directory").mkdir()

    def change(root: Path) -> None:
        for name in ("file", "directory"):
            os.chown(root / name, 1, 2)
            os.chmod(root / name, 0o750)

    below = kit.committed(write=fill)
    above = kit.committed(below, change)
    for name in (b"file", b"directory"):
        found, before = kit.record(above)[name], kit.record(below)[name]
        expect("owner above", (found.uid, found.gid), (1, 2))
        expect("mode above", found.mode[-3:], "750")
        expect("owner below", (before.uid, before.gid), (0, 0))
    expect("the file's content", kit.record(above)[b"file"].content, b"content")


@GROUP.case(see=references.CONTENT)
def deletions_in_children(kit: Kit) -> None:
    """A file is deleted, created and deleted again in three layers, and each shows its own state.

    Upgrades delete a file in one layer and install it in the next. Each snapshot has its own state.
    """
    one = kit.committed(write=lambda root: (root / "file").write_text("1"))
    two = kit.committed(one, lambda root: (root / "file").unlink())
    three = kit.committed(two, lambda root: (root / "file").write_text("3"))
    four = kit.committed(three, lambda root: (root / "file").unlink())
    found = [len(kit.record(name)) for name in (one, two, three, four)]
    expect("how many files each shows", found, [1, 0, 1, 0])


@GROUP.case()
def root_mode_is_kept(kit: Kit) -> None:
    """Commit and children keep the mode and owner that a snapshot's root directory was given.

    An image's first layer may set the mode of the root directory. A Commit that forgets it opens or
    closes the container to its users.
    """

    def set_mode_and_owner(root: Path) -> None:
        os.chown(root, 3, 4)
        os.chmod(root, 0o1777)

    name = kit.committed(write=set_mode_and_owner)
    for one in (name, kit.committed(name), kit.committed(kit.committed(name))):
        with kit.viewed(one) as root:
            found = root.stat()
            facts = (oct(found.st_mode & 0o7777), found.st_uid, found.st_gid)
        expect("mode and owner of the root directory", facts, (oct(0o1777), 3, 4))


@GROUP.case(see=references.CONTENT)
def written_again_before_commit(kit: Kit) -> None:
    """What is written through Mounts, after Prepare's mount is gone, is there at Commit as well.

    Clients ask by Mounts for an active snapshot that they prepared earlier, and write to it again
    before they commit it.
    """
    key = kit.active(write=lambda root: (root / "first").touch())
    with kit.shown(kit.calls.mounts(key)) as root:
        expect("content", os.listdir(root), ["first"])
        (root / "second").touch()
    name = kit.key("committed")
    kit.calls.commit(name, key)
    expect("content of the committed snapshot", sorted(kit.record(name)), [b"first", b"second"])
